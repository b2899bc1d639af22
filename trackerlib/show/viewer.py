"""Pickers around the player: a dataset, one of its sequences, stored results, the trackers among them."""

from __future__ import annotations

import itertools
import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
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
from .live import bundle, line, wide_field
from .player import Player
from .scene import check_maps

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
        wide = wide_field()
        self._given = {} if isinstance(dataset, str) else {dataset.name: dataset}
        name, options = next(iter(self._given), dataset), [*self._given, *(d for d in DATASETS if d != "folder")]
        self.datasets = widgets.Combobox(value=name, options=options, description="dataset", **wide)
        self.root = widgets.Text(str(root), description="root", placeholder="folder of the dataset's files", **wide)
        self.attribute = widgets.Dropdown(options=[ANY], description="attribute", **wide)
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
        self._chosen: set[tuple] = set()  # kinds of the runs that the user chose
        self._open_dataset(sequence)
        for control, act in {
            self.datasets: self._open_dataset,
            self.root: self._open_dataset,
            self.attribute: self._list_sequences,
            self.sequence: self._list_runs,
            self.results: self._list_runs,
            self.trackers: self._choose,
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
            self.dataset = self._given[name] if name in self._given else load_dataset(name, _path(root))
            if not self.dataset:
                raise ValueError(f"{name}: no sequences in it")
        except (OSError, ValueError, KeyError) as error:
            self._tell("dataset", error)
            return
        self._tell("dataset", "")
        known = sorted({a for s in self.dataset.values() for a in s.attributes})
        self._fill(self.attribute, [ANY, *known], ANY)
        self._list_sequences(sequence)

    def _list_sequences(self, sequence: str = "") -> None:
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
        folder = _path(self.results.value.strip())
        if folder and not folder.is_dir():
            self._runs, faults = {}, [f"{folder}: no such folder of results"]
        else:
            self._runs, faults = stored_runs(folder or results_root(), self.dataset, self.shown)
        self._tell("results", "\n".join(faults))
        kept = [name for name, run in self._runs.items() if run.kind in self._chosen]
        each = {run.runs.folder: name for name, run in reversed(self._runs.items()) if run.whole}  # its first run
        self._fill(self.trackers, list(self._runs), kept or list(each.values())[::-1][:4])
        self._show()

    def _choose(self) -> None:
        self._chosen = {self._runs[name].kind for name in self.trackers.value}
        self._show()

    @property
    def shown(self) -> Sequence:
        return self.dataset[self.sequence.value]

    def _show(self) -> None:
        """The sequence with the runs chosen; what does not fit is told of and left out."""
        sequence, boxes, maps, faults = self.shown, {}, {}, []
        for name in self.trackers.value:
            run = self._runs[name]
            try:
                boxes[name] = run.boxes(len(sequence))
                if kept := run.maps():
                    check_maps(sequence, name, kept)
                    maps[name] = kept
            except (OSError, ValueError, zipfile.BadZipFile) as error:
                what = f"the maps of {name} are" if name in boxes else f"{name} is"
                faults.append(f"{what} not shown: {error}")
        self._tell("trackers", "\n".join(faults))
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
        told = [fault for text in self._faults.values() for fault in text.splitlines()]
        self.said.value = "".join(line(fault, True) for fault in told)

    def _repr_mimebundle_(self, **kwargs) -> tuple[dict[str, Any], dict[str, Any]]:
        faults = "; ".join(filter(None, self._faults.values()))
        return bundle(self.box, self.player, f"Viewer: {faults or 'nothing to show'}")


def _path(text: str) -> Path | None:
    return Path(text).expanduser() if text else None


@dataclass(frozen=True)
class StoredRun:
    """One run of a run set: its file, and which frames of the sequence it has, the first to the last."""

    runs: RunSet
    name: str
    sequence: str
    path: Path
    first: int
    length: int

    @property
    def whole(self) -> bool:
        return self.first == 0

    @property
    def kind(self) -> tuple[Path, str]:
        """What it has in common with the run of another sequence: its run set, and the start or repetition."""
        return self.runs.folder, self.name.removeprefix(self.sequence)

    def boxes(self, count: int) -> np.ndarray:
        """`(count, 4)`, NaN before the run's start. Raises ValueError for a file of another length."""
        read = self.runs.layout.read_boxes(self.path)
        if len(read) != self.length:
            raise ValueError(f"{self.path} has {len(read)} rows for {self.length} frames: of another sequence, or cut?")
        return np.concatenate([np.full((count - self.length, 4), np.nan), read])

    def maps(self) -> Mapping[str, np.ndarray] | None:
        """What was kept of its maps; of a run that does not start at the first frame they are not shown."""
        return self.runs.maps(self.name) if self.whole and self.runs.manifest else None


def stored_runs(folder: Path, dataset: Dataset, sequence: Sequence) -> tuple[dict[str, StoredRun], list[str]]:
    """The runs of one sequence under a folder, by a name to show (the tracker's, with its key where two are alike); and
    what is wrong with run sets that cannot be read."""
    found, faults = [], []
    for runs in run_sets(folder, dataset):
        try:
            found += [(runs, run) for run in _of(runs, sequence)]
        except (OSError, ValueError) as error:
            faults.append(str(error))
    labels = [_label(runs, run.name, keyed=False) for runs, run in found]
    alike = {label for label in labels if labels.count(label) > 1}
    named = zip(labels, found, strict=True)
    return {_label(runs, run.name, keyed=label in alike): run for label, (runs, run) in named}, faults


def _label(runs: RunSet, run: str, keyed: bool) -> str:
    name = runs.folder.name if keyed else without_key(runs.folder.name)
    return name if runs.protocol == "OPE" else f"{name} {runs.protocol} {run}"


def run_sets(folder: Path, dataset: Dataset) -> list[RunSet]:
    """Run sets in a folder and below it, ours of this dataset; and somebody's result files, in the folder itself or in
    folders directly in it."""
    ours = [RunSet(path.parent) for path in sorted(folder.rglob("manifest.json")) if _is_of(path, dataset)]
    if (folder / "manifest.json").exists() or not folder.is_dir():
        return ours
    if (alone := RunSet(folder)).names():
        return [*ours, alone]
    others = [path for path in sorted(folder.iterdir()) if path.is_dir() and not (path / "manifest.json").exists()]
    return ours + [runs for runs in map(RunSet, others) if runs.names()]


def _is_of(manifest: Path, dataset: Dataset) -> bool:
    try:
        facts = json.loads(manifest.read_text())
    except (OSError, ValueError):
        return False  # a folder being written, or no manifest of ours
    return "tracker" in facts and facts.get("dataset") == dataset.name


def _of(runs: RunSet, sequence: Sequence) -> Iterator[StoredRun]:
    """The runs of a sequence in a run set, as its protocol names them."""
    files, manifest = runs.layout.files(runs.folder), runs.manifest
    chosen = protocol(runs.protocol, **manifest.get("protocol_parameters", {}))
    if not (sequence.boxes[0, 2:] > 0).all():  # without truth; the protocol wants a box, and its runs are known by name
        sequence = replace(sequence, boxes=np.ones_like(sequence.boxes), raw=None, absent=None)
    alone = Dataset(sequence.name, [sequence])

    def read(name: str):
        return runs.layout.read(files[name_key(name)]) if name_key(name) in files else None

    for run in itertools.chain(chosen.runs(alone), chosen.more(alone, read)):
        if path := files.get(name_key(run.name)):
            yield StoredRun(runs, run.name, run.sequence, path, run.first, len(run))
