"""Where result files lie and how they count pixels: the layouts that toolkits read and write.

    otb      <run>.txt                          the first pixel is 1; times/<run>_time.txt
    otb-0    <run>.txt                          the same with the first pixel 0
    pysot    <run>.txt                          as otb: pysot's annotations of OTB are OTB's own numbers
    got10k   <run>/<run>_001.txt                the first pixel is 1; <run>/<run>_time.txt
    vot      baseline/<seq>/<seq>_001.txt       the first pixel is 0; codes for starts and failures

Rows are `x,y,w,h`, or in `vot` polygons too."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import boxes as B
from ..config import near
from ..data import formats
from ..data.formats import INIT, REGION, Trajectory, name_key


@dataclass(frozen=True)
class Layout:
    """A way to store runs. Templates know `{run}` and `{sequence}` (the run without its last `_...`)."""

    name: str
    origin: int
    boxes: str
    times: str
    coded: bool = False  # lines may be VOT's codes

    def path(self, folder: Path, run: str) -> Path:
        """The file of a run's boxes."""
        return folder / self._filled(self.boxes, run)

    def times_path(self, folder: Path, run: str) -> Path:
        return folder / self._filled(self.times, run)

    def files(self, folder: str | Path) -> dict[str, Path]:
        """The result files in a folder by `name_key` of their run.

        Raises FileNotFoundError without the folder, ValueError when two files claim one run."""
        folder = Path(folder)
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder}: no such result folder; it should hold {self.boxes}")
        files: dict[str, Path] = {}
        for run, path in self.runs(folder):
            key = name_key(run)
            if key in files:
                raise ValueError(f"{folder}: {files[key].name} and {path.name} are both results of one run; keep one")
            files[key] = path
        return files

    def runs(self, folder: Path) -> list[tuple[str, Path]]:
        """Every run in a folder and its file, in the order of names."""
        tail = "_001" if "{run}_001" in self.boxes else ""
        runs = ((p.stem.removesuffix(tail), p) for p in folder.glob(self.boxes.format(run="*", sequence="*")))
        fits = (lambda run: run[-4:-3] == "_" and run[-3:].isdecimal()) if self.coded else bool
        return sorted((run, path) for run, path in runs if fits(run) and self.path(folder, run) == path)

    def read(self, path: Path) -> Trajectory:
        """A run's rows and codes, in the file's own coordinates."""
        if self.coded:
            return formats.read_trajectory(path)
        rows = formats.read_rows(path)
        return Trajectory(rows, one_pass_codes(len(rows)))

    def read_boxes(self, path: Path) -> np.ndarray:
        """`(T, 4)` boxes in our own convention; NaN where there is none."""
        trajectory = self.read(path)
        if trajectory.rows.shape[1] != 4:
            raise ValueError(f"{path}: polygons, not boxes; score them with a VOT convention")
        return B.from_origin(trajectory.rows, self.origin)

    def text(self, boxes: np.ndarray, codes: np.ndarray | None = None) -> str:
        """What is written for `(T, 4)` boxes of ours."""
        rows = B.to_origin(boxes, self.origin)
        if not self.coded:
            return formats.format_rows(rows)
        return formats.format_trajectory(Trajectory(rows, one_pass_codes(len(rows)) if codes is None else codes))

    @staticmethod
    def _filled(template: str, run: str) -> str:
        return template.format(run=run, sequence=run.rpartition("_")[0] or run)


def one_pass_codes(length: int) -> np.ndarray:
    """The codes of a run that was started once and never lost."""
    codes = np.full(length, REGION, np.int8)
    codes[0] = INIT
    return codes


LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout("otb", 1, "{run}.txt", "times/{run}_time.txt"),
        Layout("otb-0", 0, "{run}.txt", "times/{run}_time.txt"),
        Layout("pysot", 1, "{run}.txt", "times/{run}_time.txt"),
        Layout("got10k", 1, "{run}/{run}_001.txt", "{run}/{run}_time.txt"),
        Layout("vot", 0, "baseline/{sequence}/{run}.txt", "baseline/{sequence}/{run}_time.value", coded=True),
    )
}


def layout_named(name: str) -> Layout:
    if name not in LAYOUTS:
        raise ValueError(f"no layout of results is called {name!r}{near(name, LAYOUTS)}")
    return LAYOUTS[name]


def layout_of(folder: Path) -> Layout:
    """The layout that a folder of somebody's results has, by where its files lie; flat ones count as OTB's."""
    if (folder / "baseline").is_dir():
        return LAYOUTS["vot"]
    if not any(folder.glob("*.txt")) and any(folder.glob("*/*_001.txt")):
        return LAYOUTS["got10k"]
    return LAYOUTS["otb"]
