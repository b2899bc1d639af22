"""The results store: the benchmark's own text files, and one manifest that says what they depend on.

    <tracker>-<key8>/manifest.json            what determined the outcome, and where it ran
    <tracker>-<key8>/<run>.txt                1-based x,y,w,h, comma: official toolkits read it
    <tracker>-<key8>/times/<run>_time.txt     seconds a frame
    <tracker>-<key8>/maps/<run>.npz           response maps, where they were asked for
    <tracker>-<key8>/errors/<run>.txt         the traceback of a run that failed

Every file is whole or absent, and a run's box file is written last: where it stands, the run is done.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .. import boxes as B
from ..data.formats import format_rows, read_rows
from ..provenance import write_bytes, write_json, write_text


class RunSet:
    """The runs of one tracker under one key. `RunSet(folder)` reads what is there; `RunSet.open` begins or goes on."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)

    def __repr__(self) -> str:
        return f"RunSet({str(self.folder)!r}, {len(self.names())} runs)"

    @classmethod
    def open(cls, root: str | Path, manifest: Mapping[str, Any]) -> RunSet:
        """The run set `<root>/<tracker>-<key8>` of a manifest, which must hold `tracker` and `key`.

        A folder that exists is continued if its manifest has the same key, and keeps that manifest; another key is a
        ValueError: results made under different parameters are never mixed."""
        tracker, key = manifest["tracker"], manifest["key"]
        runs = cls(Path(root) / f"{_file_name(tracker)}-{key[:8]}")
        if not (runs.folder / "manifest.json").exists():
            if runs.names():
                raise ValueError(f"{runs.folder}: results without a manifest.json; move them away")
            write_json(runs.folder / "manifest.json", dict(manifest))
        elif (found := runs.manifest.get("key")) != key:
            raise ValueError(f"{runs.folder}: made under key {found}, not {key}; move it away or choose another folder")
        return runs

    @property
    def manifest(self) -> dict[str, Any]:
        """What `manifest.json` holds; {} for a folder of somebody else's results."""
        path = self.folder / "manifest.json"
        try:
            return json.loads(path.read_text())
        except FileNotFoundError:
            return {}
        except json.JSONDecodeError as e:
            raise ValueError(f"{path}, line {e.lineno}: {e.msg}; delete the folder and run again") from None

    def names(self) -> list[str]:
        """The runs that are done."""
        return sorted(path.stem for path in self.folder.glob("*.txt"))

    def has(self, run: str, length: int | None = None, maps: bool = False) -> bool:
        """Whether a run is done: its file is there and, when `length` is given, has a row for each frame.

        A file that cannot be read or is short is named in a warning and counts as not done. With `maps`, the maps must
        be there too."""
        path = self._boxes(run)
        if not path.exists() or (maps and not self._maps(run).exists()):
            return False
        try:
            rows = len(read_rows(path))
        except ValueError as e:
            warnings.warn(f"{e}; the run is done again", stacklevel=2)
            return False
        if length is not None and rows != length:
            warnings.warn(f"{path}: {rows} rows for {length} frames; the run is done again", stacklevel=2)
            return False
        return True

    def write(
        self,
        run: str,
        boxes: np.ndarray,
        times: np.ndarray | None = None,
        maps: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Store a finished run: boxes `(T, 4)` 0-based, times `(T,)` in seconds (NaN: not measured), maps by name
        (an empty mapping says that the tracker gives none).

        Equal values give equal bytes. A failure recorded for this run earlier is removed."""
        boxes = np.asarray(boxes, np.float64)
        if boxes.ndim != 2 or boxes.shape[1] != 4 or not len(boxes):
            raise ValueError(f"{run}: boxes must be (T, 4), not {boxes.shape}")
        if times is not None and len(times) != len(boxes):
            raise ValueError(f"{run}: {len(times)} times for {len(boxes)} boxes")
        if maps is not None:
            buffer = io.BytesIO()
            np.savez_compressed(buffer, **maps)
            write_bytes(self._maps(run), buffer.getvalue())
        if times is not None:
            write_text(self._times(run), "".join(f"{t:.6f}\n" for t in np.asarray(times)).replace("nan", "NaN"))
        write_text(self._boxes(run), format_rows(B.to_one_based(boxes)))
        self._error(run).unlink(missing_ok=True)

    def fail(self, run: str, traceback: str) -> None:
        """Record why a run has no result."""
        write_text(self._error(run), traceback)

    def failures(self) -> dict[str, str]:
        """Runs that failed and were not done since, with their tracebacks."""
        return {path.stem: path.read_text() for path in sorted((self.folder / "errors").glob("*.txt"))}

    def read(self, run: str) -> np.ndarray:
        """Boxes of a run, `(T, 4)` float64, 0-based. Raises as `formats.read_rows` does."""
        return B.from_one_based(read_rows(self._boxes(run)))

    def times(self, run: str) -> np.ndarray | None:
        """Seconds a frame `(T,)`, None where none were stored."""
        path = self._times(run)
        return read_rows(path, columns=1)[:, 0] if path.exists() else None

    def maps(self, run: str) -> dict[str, np.ndarray] | None:
        """Response maps by name, None where none were kept."""
        path = self._maps(run)
        if not path.exists():
            return None
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}

    def _boxes(self, run: str) -> Path:
        return self.folder / f"{_file_name(run)}.txt"

    def _times(self, run: str) -> Path:
        return self.folder / "times" / f"{_file_name(run)}_time.txt"

    def _maps(self, run: str) -> Path:
        return self.folder / "maps" / f"{_file_name(run)}.npz"

    def _error(self, run: str) -> Path:
        return self.folder / "errors" / f"{_file_name(run)}.txt"


def _file_name(name: str) -> str:
    if not name or name.startswith(".") or "/" in name or "\\" in name:
        raise ValueError(f"{name!r} cannot name a file: no slashes, no leading dot")
    return name
