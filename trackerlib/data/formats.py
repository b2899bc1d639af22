"""Text files of boxes: one row a frame, as OTB and the toolkits that share its layout write them.

Annotations and results mix commas, tabs, spaces and semicolons, and write NaN where there is no box. Rows are read as
they stand, in the file's own coordinates (OTB: 1-based); what an odd row means is for the metric's convention to say.
"""

from __future__ import annotations

import codecs
import io
import re
from pathlib import Path

import numpy as np

_DELIMITERS = str.maketrans(",;\t", "   ")

# Names that other toolkits use for a target and that differ by more than case and punctuation.
_ALIASES = {"human4": "human4-2"}


def read_rows(path: str | Path, columns: int = 4) -> np.ndarray:
    """All rows of a file, `(T, columns)` float64; blank lines at the end are passed over.

    Raises FileNotFoundError, or ValueError naming file and line: an empty file, a blank line between rows, a row of
    another length, something that is no number."""
    path = Path(path)
    try:
        data = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file of boxes") from None
    text = data.decode("latin-1").replace("\r\n", "\n").replace("\r", "\n").translate(_DELIMITERS).rstrip()
    if not text:
        raise ValueError(f"{path}: empty file; wanted one line of {columns} numbers a frame")
    try:
        rows = np.loadtxt(io.StringIO(text), ndmin=2, comments=None)
    except ValueError:
        raise _first_fault(path, text, columns) from None
    if rows.shape != (text.count("\n") + 1, columns):  # loadtxt passes over blank lines
        raise _first_fault(path, text, columns)
    return rows


def _first_fault(path: Path, text: str, columns: int) -> ValueError:
    for number, line in enumerate(text.split("\n"), 1):
        where, words = f"{path}, line {number}", line.split()
        if not words:
            return ValueError(f"{where}: blank line; a frame without a box is written as NaN{',NaN' * (columns - 1)}")
        if len(words) != columns:
            return ValueError(f"{where}: {len(words)} numbers where {columns} are wanted; complete the row")
        for word in words:
            if not _is_number(word):
                return ValueError(f"{where}: {word!r} is not a number")
    return ValueError(f"{path}: cannot be read as rows of {columns} numbers; write it again as plain text")


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return "_" not in word  # float() would read 1_0 as 10


def format_rows(rows: np.ndarray) -> str:
    """`(T, C)` as text: comma-separated, four decimals, NaN as MATLAB spells it; equal values give equal bytes."""
    rows = np.round(np.asarray(rows, np.float64), 4) + 0.0  # + 0.0: no negative zero
    line = ",".join(["%.4f"] * rows.shape[1]) + "\n"
    return (line * len(rows) % tuple(rows.ravel().tolist())).replace("nan", "NaN")


def name_key(name: str) -> str:
    """What a target's name is compared by across toolkits: `Jogging-1`, `jogging_1` and `Jogging.1` are one."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower())
    return _ALIASES.get(plain, plain)


def result_files(folder: str | Path) -> dict[str, Path]:
    """The result files `<target>.txt` of a folder by `name_key`.

    Raises FileNotFoundError without the folder, ValueError when two files claim one target."""
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such result folder; it should hold one <sequence>.txt for each sequence")
    files: dict[str, Path] = {}
    for path in sorted(folder.glob("*.txt")):
        key = name_key(path.stem)
        if key in files:
            raise ValueError(f"{folder}: {files[key].name} and {path.name} are both results of one target; keep one")
        files[key] = path
    return files
