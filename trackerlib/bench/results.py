"""The results store: the benchmark's own text files, and one manifest that says what they depend on.

    <tracker>-<key8>/manifest.json            what determined the outcome, and where it ran
    <tracker>-<key8>/...                      boxes and seconds a frame, as the run set's layout wants them (`layouts`)
    <tracker>-<key8>/sums/<run>.sha256        of the run's file, as it was written
    <tracker>-<key8>/maps/<run>.npz           response maps, where they were asked for
    <tracker>-<key8>/errors/<run>.txt         the traceback of a run that failed
    <tracker>-<key8>/claims/<run>             locked by the process that is at work on a run

Every file is whole or absent, and a run's box file is written last: where it stands, the run is done.
"""

from __future__ import annotations

import io
import json
import os
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..data.formats import Trajectory, read_rows
from ..provenance import sha256, write_bytes, write_json, write_text
from .layouts import LAYOUTS, Layout, layout_named, layout_of

try:
    import fcntl
except ImportError:  # Windows: one process at a time on a results folder
    fcntl = None


_REMEDY = "; delete it and run again"


class RunSet:
    """The runs of one tracker under one key. `RunSet(folder)` reads what is there; `RunSet.open` begins or goes on."""

    def __init__(self, folder: str | Path, layout: str | None = None):
        """layout: of a folder of somebody else's results, if it is not to be guessed."""
        self.folder = Path(folder)
        self._layout, self._claimed = layout, {}

    def __repr__(self) -> str:
        return f"RunSet({str(self.folder)!r}, {len(self.names())} runs)"

    @classmethod
    def open(cls, root: str | Path, manifest: Mapping[str, Any]) -> RunSet:
        """The run set `<root>/<tracker>-<key8>` of a manifest, which must hold `tracker` and `key`.

        A folder that exists is continued, with its manifest; one made under another key is a ValueError. A damaged
        manifest is named in a warning and written anew: the folder's name tells the key."""
        tracker, key = manifest["tracker"], manifest["key"]
        runs = cls(Path(root) / f"{_file_name(tracker)}-{key[:8]}")
        if not (runs.folder / "manifest.json").exists():
            if runs.names():
                raise ValueError(f"{runs.folder}: results without a manifest.json; move them away")
            write_json(runs.folder / "manifest.json", dict(manifest))
            return runs
        try:
            found = runs.manifest.get("key")
        except ValueError:
            warnings.warn(f"{runs.folder / 'manifest.json'}: damaged; it is written anew", stacklevel=2)
            write_json(runs.folder / "manifest.json", dict(manifest))
            return runs
        if found != key:
            raise ValueError(f"{runs.folder}: made under key {found}, not {key}; move it away or choose another folder")
        return runs

    @property
    def manifest(self) -> dict[str, Any]:
        """What `manifest.json` holds; {} for a folder of somebody else's results."""
        path = self.folder / "manifest.json"
        try:
            facts = json.loads(path.read_text())
        except FileNotFoundError:
            return {}
        except (ValueError, RecursionError) as e:
            line, what = getattr(e, "lineno", 1), getattr(e, "msg", e)
            raise ValueError(f"{path}, line {line}: {what}; delete the folder and run again") from None
        known = isinstance(facts, dict) and all(isinstance(facts.get(k, ""), str) for k in ("layout", "protocol"))
        if not known or facts.get("layout", "otb") not in LAYOUTS:
            raise ValueError(f"{path}: no manifest of a run set; delete the folder and run again")
        return facts

    @property
    def layout(self) -> Layout:
        """How the files lie: as the manifest says, else as it looks."""
        self._layout = self._layout or self.manifest.get("layout")  # read once, not at every run
        return layout_named(self._layout) if self._layout else layout_of(self.folder)

    @property
    def protocol(self) -> str:
        """The protocol that made the runs: as the manifest says, else as the layout lets guess."""
        return self.manifest.get("protocol") or ("supervised" if self.layout.coded else "OPE")

    def names(self) -> list[str]:
        """The runs that are done."""
        return [run for run, _ in self.layout.runs(self.folder)] if self.folder.is_dir() else []

    def files(self) -> dict[str, Path]:
        """The result files by `name_key` of their run. Raises as `Layout.files` does, and ValueError for a file that is
        not as it was written."""
        found = self.layout.files(self.folder)
        for run in self.names():
            self._check_sum(run)
        return found

    def has(self, run: str, length: int | None = None, maps: bool = False) -> bool:
        """Whether a run is done: its file is there, with a row for each of `length` frames; with `maps`, those too.

        A file that cannot be read or is short is named in a warning and counts as not done."""
        path = self._boxes(run)
        if not path.exists() or (maps and not self._maps(run).exists()):
            return False
        try:
            rows = len(self.layout.read(path))
            fault = "" if length in (None, rows) else f"{path}: {rows} rows for {length} frames"
            if not fault:
                self._check_sum(run)
        except ValueError as e:
            fault = str(e)
        if fault:
            warnings.warn(f"{fault.removesuffix(_REMEDY)}; the run is done again", stacklevel=2)
        return not fault

    def write(
        self,
        run: str,
        boxes: np.ndarray,
        times: np.ndarray | None = None,
        maps: Mapping[str, np.ndarray] | None = None,
        codes: np.ndarray | None = None,
    ) -> None:
        """Store a finished run: boxes `(T, 4)` 0-based, times `(T,)` in seconds (NaN: not measured), maps by name
        (an empty mapping says that the tracker gives none), codes `(T,)` of a trajectory with restarts.

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
        text = self.layout.text(boxes, codes)
        write_text(self._sum(run), sha256(text))
        write_text(self._boxes(run), text)
        self._error(run).unlink(missing_ok=True)

    @contextmanager
    def working(self) -> Iterator[None]:
        """Let go of every claim on leaving, however that comes about."""
        try:
            yield
        finally:
            for run in list(self._claimed):
                self.release(run)

    def claim(self, run: str) -> bool:
        """Whether this process may do a run: no other is at it. The claim ends with `release` or with the process.

        Ask `has` again afterwards: who held the claim before may have done the run."""
        if fcntl is None:
            return True
        path = self.folder / "claims" / _file_name(run)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            same = os.path.samestat(os.fstat(handle), os.stat(path))  # not one that its holder has just removed
        except (BlockingIOError, FileNotFoundError):
            same = False
        if not same:
            os.close(handle)
            return False
        self._claimed[run] = handle
        return True

    def release(self, run: str) -> None:
        """Give up a claim; nothing happens where there is none."""
        if (handle := self._claimed.pop(run, None)) is not None:
            (self.folder / "claims" / _file_name(run)).unlink(missing_ok=True)
            os.close(handle)

    def fail(self, run: str, traceback: str) -> None:
        """Record why a run has no result."""
        write_text(self._error(run), traceback)

    def failures(self) -> dict[str, str]:
        """Runs that failed and were not done since, with their tracebacks."""
        return {path.stem: path.read_text() for path in sorted((self.folder / "errors").glob("*.txt"))}

    def read(self, run: str) -> np.ndarray:
        """Boxes of a run, `(T, 4)` float64, 0-based; NaN where a restart left none. Raises as `trajectory` does."""
        self._check_sum(run)
        return self.layout.read_boxes(self._boxes(run))

    def trajectory(self, run: str) -> Trajectory:
        """A run's rows and codes, in the layout's own coordinates. Raises ValueError, naming file and line, for a file
        that cannot be read or is not as it was written."""
        self._check_sum(run)
        return self.layout.read(self._boxes(run))

    def times(self, run: str) -> np.ndarray | None:
        """Seconds a frame `(T,)`, None where none were stored."""
        path = self._times(run)
        return read_rows(path, columns=1)[:, 0] if path.exists() else None

    def maps(self, run: str) -> dict[str, np.ndarray] | None:
        """Response maps by name, None where none were kept. Raises ValueError naming a damaged file."""
        path = self._maps(run)
        if not path.exists():
            return None
        try:
            with zipfile.ZipFile(path) as pack:
                return {name.removesuffix(".npy"): _array(pack.read(name)) for name in pack.namelist()}
        except Exception as error:  # zip, zlib and numpy raise a dozen kinds
            raise ValueError(f"{path}: no response maps ({error}); delete it and run again") from None

    def _check_sum(self, run: str) -> None:
        """Results of ours have one; somebody else's have none."""
        path, file = self._boxes(run), self._sum(run)
        if file.is_file() and path.is_file() and file.read_bytes() != sha256(path.read_bytes()).encode():
            raise ValueError(f"{path}: not as it was written{_REMEDY}")

    def _sum(self, run: str) -> Path:
        return self.folder / "sums" / f"{_file_name(run)}.sha256"

    def _boxes(self, run: str) -> Path:
        return self.layout.path(self.folder, _file_name(run))

    def _times(self, run: str) -> Path:
        return self.layout.times_path(self.folder, _file_name(run))

    def _maps(self, run: str) -> Path:
        return self.folder / "maps" / f"{_file_name(run)}.npz"

    def _error(self, run: str) -> Path:
        return self.folder / "errors" / f"{_file_name(run)}.txt"


def _array(data: bytes) -> np.ndarray:
    """The numbers of a `.npy` file as `savez` writes it. `numpy.load` would first allocate what the header claims."""
    file = io.BytesIO(data)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("not of version 1.0")
    shape, by_columns, dtype = np.lib.format.read_array_header_1_0(file)
    return np.frombuffer(bytearray(data), dtype, offset=file.tell()).reshape(shape, order="CF"[by_columns])


def without_key(folder: str) -> str:
    """The tracker's name in that of a run set's folder, `<tracker>-<key8>`."""
    return re.sub(r"-[0-9a-f]{8}$", "", folder)


def _file_name(name: str) -> str:
    if not name or name.startswith(".") or "/" in name or "\\" in name:
        raise ValueError(f"{name!r} cannot name a file: no slashes, no leading dot")
    return name
