"""Text files of boxes: one row a frame, as OTB and the toolkits that share its layout write them.

Annotations and results mix commas, tabs, spaces and semicolons, and write NaN where there is no box. Rows are read as
they stand, in the file's own coordinates (OTB: 1-based); what an odd row means is for the metric's convention to say.
"""

import codecs
import io
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

DECIMALS = 4  # of the numbers we write
MOST_NUMBERS = 1000  # in a line that we read

_DELIMITERS = bytes.maketrans(b",;\t", b"   ")

# What other toolkits call a target where that differs by more than case and punctuation.
_ALIASES = {
    "human4": "human4-2",  # got10k, vot-toolkit: OTB withdrew the first target of that video
    "jogging1": "jogging-1",  # vot-toolkit
    "jogging2": "jogging-2",
}


def read_rows(path: str | Path, columns: int = 4) -> np.ndarray:
    """All rows of a file, `(T, columns)` float64; blank lines at the end are passed over.

    Raises FileNotFoundError, or ValueError naming file and line: an empty file, a blank line between rows, a row of
    another length, something that is no number."""
    path = Path(path)
    text = _text(path, f"one line of {columns} numbers a frame")
    try:
        rows = np.loadtxt(io.StringIO(text), ndmin=2, comments=None)
    except ValueError:
        raise _first_fault(path, text, columns) from None
    if rows.shape != (text.count("\n") + 1, columns):  # loadtxt passes over blank lines
        raise _first_fault(path, text, columns)
    return rows


def plain_text(path: Path) -> str:
    """The text of a small file that goes with the boxes, with or without a byte order mark.

    Raises ValueError naming a file that is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: byte {error.start + 1} is no UTF-8; write it again as plain text") from None


def _text(path: Path, wanted: str) -> str:
    """The text of a file, every delimiter a space, every line end a newline, blank lines at the end removed."""
    try:
        data = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file of boxes") from None
    data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").translate(_DELIMITERS)
    text = data.decode("latin-1").rstrip()
    if not text:
        raise ValueError(f"{path}: empty file; wanted {wanted}")
    return text


def _first_fault(path: Path, text: str, columns: int) -> ValueError:
    for number, line in enumerate(text.split("\n"), 1):
        where, words = f"{path}, line {number}", line.split()
        if not words:
            return ValueError(f"{where}: blank line; a frame without a box is written as NaN{',NaN' * (columns - 1)}")
        if len(words) != columns:
            return ValueError(f"{where}: {len(words)} numbers where {columns} are wanted; complete the row")
        _numbers(words, where)
    return ValueError(f"{path}: cannot be read as rows of {columns} numbers; write it again as plain text")


def _numbers(words: list[str], where: str) -> list[float]:
    numbers = []
    for word in words:
        try:
            numbers.append(float(word.replace("_", "?")))  # float() would read 1_0 as 10
        except ValueError:
            raise ValueError(f"{where}: {word!r} is not a number") from None
    return numbers


def format_rows(rows: np.ndarray) -> str:
    """`(T, C)` as text: comma-separated, four decimals, NaN as MATLAB spells it; equal values give equal bytes."""
    rows = np.round(np.asarray(rows, np.float64), DECIMALS) + 0.0  # + 0.0: no negative zero
    line = ",".join([f"%.{DECIMALS}f"] * rows.shape[1]) + "\n"
    return (line * len(rows) % tuple(rows.ravel().tolist())).replace("nan", "NaN")


def name_key(name: str) -> str:
    """What a target's name is compared by across toolkits: `Jogging-1`, `jogging_1` and `Jogging.1` are one."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).removeprefix("uav-")  # pytracking: uav_bike1
    return _ALIASES.get(plain, plain)


# A trajectory frame by frame, in VOT's codes; REGION is ours.
REGION, UNKNOWN, INIT, FAILURE = -1, 0, 1, 2


@dataclass(frozen=True)
class Trajectory:
    """One run, resets and all: what its file holds, in the file's own coordinates.

    rows:  `(T, C)` float64: C = 4 `x, y, w, h`, or 6 and more the corners of a polygon; NaN where there is no region
    codes: `(T,)` int8: REGION, UNKNOWN (skipped), INIT (the tracker was started here) or FAILURE"""

    rows: np.ndarray
    codes: np.ndarray

    def __len__(self) -> int:
        return len(self.codes)


def read_trajectory(path: str | Path) -> Trajectory:
    """A VOT result file: a line a frame, one number for a code, four for a rectangle, six or more for a polygon.

    Raises FileNotFoundError, or ValueError naming file and line."""
    path = Path(path)
    text = _text(path, "one code or region a frame")
    if "  " in text or " \n" in text or "\n " in text:
        text = re.sub(" +", " ", re.sub(" *\n *", "\n", text))
    lines = text.strip().split("\n")
    regions = [line for line in lines if " " in line]
    columns = max({line.count(" ") for line in regions}, default=3) + 1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of text that is no number, named by _mixed
            numbers = np.fromstring(" ".join(regions), sep=" ").reshape(len(regions), columns)
    except ValueError:
        return _mixed(path, lines)
    _check_corners(path, columns)
    codes = np.array([REGION if " " in line else _CODES.get(line, 9) for line in lines], np.int8)
    if columns < 4 or columns % 2 or (codes == 9).any():
        return _mixed(path, lines)
    rows = np.full((len(lines), columns), np.nan)
    rows[codes == REGION] = numbers
    return Trajectory(rows, codes)


_CODES = {"0": UNKNOWN, "1": INIT, "2": FAILURE} | {f"{c}.{'0' * n}": c for c in (0, 1, 2) for n in range(1, 7)}


def _mixed(path: Path, lines: list[str]) -> Trajectory:
    """The same for rectangles among polygons, line by line, to name what is wrong."""
    rows, codes = [], []
    for number, line in enumerate(lines, 1):
        where = f"{path}, line {number}"
        numbers = _numbers(line.split(), where)
        is_region = len(numbers) >= 4 and len(numbers) % 2 == 0
        if not is_region and numbers not in ([UNKNOWN], [INIT], [FAILURE]):
            what = "neither a code (0 unknown, 1 start, 2 failure) nor x,y,w,h nor the corners of a polygon"
            raise ValueError(f"{where}: {line!r} is {what}; complete the line")
        codes.append(REGION if is_region else int(numbers[0]))
        rows.append(numbers if is_region else [])
    columns = max(4, *map(len, rows))
    _check_corners(path, columns)
    filled = np.full((len(rows), columns), np.nan)
    for row, numbers in zip(filled, rows, strict=True):
        row[: len(numbers)] = numbers
    return Trajectory(filled, np.array(codes, np.int8))


def _check_corners(path: Path, columns: int) -> None:
    """A short file must not fill the memory: every frame gets the columns of the longest line."""
    if columns > MOST_NUMBERS:
        raise ValueError(f"{path}: a line of {columns} numbers; polygons have {MOST_NUMBERS // 2} corners at most")


def format_trajectory(trajectory: Trajectory) -> str:
    """The text that `read_trajectory` reads; four decimals, equal values give equal bytes."""
    regions = format_rows(trajectory.rows).split("\n")
    lines = zip(regions, trajectory.codes, strict=False)  # the last region is what follows the last newline
    return "".join(f"{region if code == REGION else code}\n" for region, code in lines)
