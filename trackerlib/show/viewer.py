"""Pickers around the player: a dataset, one of its sequences, stored results, the trackers among them."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import numpy as np

from ..bench.protocols import protocol
from ..bench.results import RunSet, without_key
from ..data import DATASETS, Dataset, load_dataset
from ..data.formats import name_key
from ..data.sequence import Sequence
from ..notebook import results_root
from .live import bundle
from .player import Player

ANY = "any attribute"


class Viewer:
    """Widget: any sequence of any dataset, with the boxes of stored results.

    dataset:  a name, "rendered" or one of `data list`, or a `Dataset` of your own
    root:     where a named dataset's files are
    results:  a folder: a run set, somebody's result files, or any folder above some; by default all under results/
    sequence: the one to begin with, by default the first

    Of each run set those runs are offered that are of the sequence shown: one pass, and any start of TRE, SRE or a
    supervised run. What cannot be loaded is told below the pickers, and what was shown before stays. `player` is the
    `Player`, None until there is something to play."""

    def __init__(
        self, dataset: str | Dataset = "rendered", root: str | Path = "", results: str | Path = "", sequence: str = ""
    ):
        self.player: Player | None = None
        self.dataset: Dataset | None = None
        self._runs: dict[str, StoredRun] = {}
        wide = {"style": {"description_width": "70px"}, "layout": widgets.Layout(flex="1 1 260px", max_width="560px")}
        self._given = {} if isinstance(dataset, str) else {dataset.name: dataset}
        name, options = next(iter(self._given), dataset), [*self._given, *(d for d in DATASETS if d != "folder")]
        self.datasets = widgets.Combobox(
            value=name, options=options, description="dataset", ensure_option=False, **wide
        )
        self.root = widgets.Text(str(root), description="root", placeholder="folder of the dataset's files", **wide)
        self.attribute = widgets.Dropdown(options=[ANY], description="with", **wide)
        self.sequence = widgets.Dropdown(description="sequence", **wide)
        place = {"description": "results", "placeholder": "folder of results; empty: all under results/"}
        self.results = widgets.Text(str(results), **place, **wide)
        self.trackers = widgets.SelectMultiple(description="trackers", rows=4, **wide)
        self.said = widgets.HTML()
        flow = widgets.Layout(flex_flow="row wrap", align_items="flex-start")
        picks = [(self.datasets, self.root), (self.sequence, self.attribute), (self.results, self.trackers)]
        self._rows = [widgets.HBox(row, layout=flow) for row in picks]
        self.box = widgets.VBox([*self._rows, self.said])
        for control in (self.datasets, self.root, self.results):
            control.continuous_update = False
        self._faults: dict[str, str] = {}
        self._filling = False
        self._open_dataset(sequence)
        for control, act in {
            self.datasets: self._open_dataset,
            self.root: self._open_dataset,
            self.attribute: self._list_sequences,
            self.sequence: self._list_runs,
            self.results: self._list_runs,
            self.trackers: self._show,
        }.items():
            control.observe(lambda _, act=act: None if self._filling else act(), "value")

    # Each choice fills the next picker; the last one shows.

    def _fill(self, control: widgets.Widget, options: list[str], value: Any) -> None:
        self._filling = True
        try:
            control.options = options
            control.value = value
        finally:
            self._filling = False

    def _open_dataset(self, sequence: str = "") -> None:
        name, root = self.datasets.value.strip(), self.root.value.strip()
        try:
            self.dataset = self._given.get(name) or load_dataset(name, Path(root).expanduser() if root else None)
        except (OSError, ValueError, KeyError) as error:
            self._tell("dataset", error)
            return
        self._tell("dataset", "")
        known = sorted({a for s in self.dataset.values() for a in s.attributes})
        self._fill(self.attribute, [ANY, *known], ANY)
        self._list_sequences(sequence)

    def _list_sequences(self, sequence: str = "") -> None:
        if self.dataset is None:
            return
        with_it = self.dataset if self.attribute.value == ANY else self.dataset.having(self.attribute.value)
        known = not sequence or sequence in with_it
        self._tell("choice", "" if known else f"{self.dataset.name} has no sequence {sequence!r}")
        before = self.sequence.value
        wanted = next((name for name in (sequence, before) if name in with_it), next(iter(with_it)))
        self._fill(self.sequence, list(with_it), wanted)
        self._list_runs()

    def _list_runs(self) -> None:
        if self.dataset is None or self.sequence.value is None:
            return
        folder, sequence = Path(self.results.value.strip() or results_root()).expanduser(), self.shown
        try:
            if self.results.value.strip() and not folder.is_dir():
                raise FileNotFoundError(f"{folder}: no such folder of results")
            self._runs = dict(stored_runs(folder, self.dataset, sequence))
            self._tell("results", "")
        except (OSError, ValueError) as error:
            self._runs = {}
            self._tell("results", error)
        chosen = [name for name in self.trackers.value if name in self._runs]
        self._fill(self.trackers, list(self._runs), chosen or [n for n, run in self._runs.items() if run.whole][:4])
        self._show()

    @property
    def shown(self) -> Sequence:
        return self.dataset[self.sequence.value]

    def _show(self) -> None:
        """The sequence with the runs chosen; a run that does not fit is told of and left out."""
        sequence, boxes, maps, faults = self.shown, {}, {}, []
        for name in self.trackers.value:
            try:
                boxes[name] = self._runs[name].boxes(len(sequence))
                maps |= {name: kept} if (kept := self._runs[name].maps(len(sequence))) else {}
            except (OSError, ValueError) as error:
                boxes.pop(name, None)
                faults.append(f"{name} is not shown: {error}")
        self._tell("trackers", " ".join(faults))
        try:
            if self.player is None:
                self.player = Player(sequence, boxes, maps, dataset=self.dataset.name)
                self.box.children = [*self._rows, self.said, self.player]
            else:
                self.player.load(sequence, boxes, maps, self.dataset.name)
        except (OSError, ValueError) as error:
            self._tell("sequence", error)
        else:
            self._tell("sequence", "")

    def _tell(self, part: str, fault: Exception | str) -> None:
        """Say what is wrong with one of the choices; an empty text takes it back."""
        text = fault.args[0] if isinstance(fault, KeyError) and fault.args else fault
        self._faults[part] = str(text)
        style = "color:var(--jp-error-color0,#b71c1c);font-weight:600"
        lines = (
            f"<div role='alert' style='{style}'>{html.escape(text)}</div>" for text in self._faults.values() if text
        )
        self.said.value = "".join(lines)

    def _repr_mimebundle_(self, **kwargs) -> tuple[dict[str, Any], dict[str, Any]]:
        faults = "; ".join(filter(None, self._faults.values()))
        return bundle(self.box, self.player, f"Viewer: {faults or 'nothing to show'}")


@dataclass(frozen=True)
class StoredRun:
    """One run of a run set, of the frames `first .. first + length - 1` of its sequence; `whole`: all of them."""

    runs: RunSet
    path: Path
    first: int
    length: int
    whole: bool

    def boxes(self, count: int) -> np.ndarray:
        """`(count, 4)`, NaN before the run's start. Raises ValueError for a file of another length."""
        read = self.runs.layout.read_boxes(self.path)
        if len(read) != self.length:
            raise ValueError(f"{self.path} has {len(read)} rows for {self.length} frames: of another sequence, or cut?")
        return np.concatenate([np.full((count - self.length, 4), np.nan), read])

    def maps(self, count: int) -> Mapping[str, np.ndarray] | None:
        """What was kept of its maps; of a run that does not start at the first frame they are not shown."""
        maps = self.runs.maps(self.path.stem) if self.whole else None
        fits = maps and {len(of) for of in maps.values()} == {count - 1}
        return maps if fits else None


def stored_runs(folder: Path, dataset: Dataset, sequence: Sequence) -> Iterator[tuple[str, StoredRun]]:
    """The runs of one sequence under a folder, by a name to show: the tracker's, with its key where two are alike."""
    found = [(runs, run) for runs in run_sets(folder, dataset) for run in _of(runs, sequence)]
    labels = [_label(runs, name, keyed=False) for runs, (name, _) in found]
    for (runs, (name, run)), label in zip(found, labels, strict=True):
        yield (label if labels.count(label) == 1 else _label(runs, name, keyed=True)), run


def _label(runs: RunSet, run: str, keyed: bool) -> str:
    name = runs.folder.name if keyed else without_key(runs.folder.name)
    return name if runs.protocol == "OPE" else f"{name} {runs.protocol} {run}"


def run_sets(folder: Path, dataset: Dataset) -> list[RunSet]:
    """Run sets in a folder and below it, ours of this dataset; and somebody's result files, in the folder itself or in
    folders directly in it."""
    ours = [RunSet(path.parent) for path in sorted(folder.rglob("manifest.json")) if _is_of(path, dataset)]
    theirs = [
        path for path in (folder, *sorted(folder.iterdir())) if path.is_dir() and not (path / "manifest.json").exists()
    ]
    return ours + [runs for runs in map(RunSet, theirs) if runs.names()]


def _is_of(manifest: Path, dataset: Dataset) -> bool:
    try:
        facts = json.loads(manifest.read_text())
    except (OSError, ValueError):
        return False  # a folder being written, or no manifest of ours
    return "tracker" in facts and facts.get("dataset") == dataset.name


def _of(runs: RunSet, sequence: Sequence) -> Iterator[tuple[str, StoredRun]]:
    """The runs of a sequence in a run set, as its protocol names them."""
    files = runs.layout.files(runs.folder)
    alone = Dataset(sequence.name, [sequence])
    for run in protocol(runs.protocol).runs(alone):
        path = files.get(name_key(run.name))
        if path is not None:
            yield run.name, StoredRun(runs, path, run.first, len(run), run.first == 0)
