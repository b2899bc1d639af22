"""Scores of result files, our own or somebody's published ones, under a named convention. Needs annotations only."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .. import boxes as B
from ..config import near
from ..data.benchmark import some
from ..data.formats import name_key
from ..data.otb import match_rows
from ..data.sequence import Dataset, Sequence
from . import protocols
from .conventions import Convention, convention_for, convention_named
from .metrics import Truth, Values, bootstrap_interval, sign_flip_p
from .protocols import Protocol, Run
from .results import RunSet, without_key

if TYPE_CHECKING:
    from .supervised import Supervised
    from .vot import VotScores


@dataclass(frozen=True)
class Paired:
    """Two trackers on the same sequences: the mean difference of a metric (the first minus the second), its 95 % paired
    bootstrap interval over sequences, the p-value of a sign-flip permutation test, and the number of sequences."""

    difference: float
    low: float
    high: float
    p: float
    sequences: int


class Scored:
    """What the scores of one-pass and of supervised results have in common.

    Of each kind's own are `_by_sequence`, the measures by tracker and sequence, `_over(tracker, sequences)`, those of
    the mean, and `_intervals(tracker, seed)`, those of each measure."""

    convention: Convention | Supervised
    dataset: str
    seen: dict[str, frozenset[str]]  # tracker to the sequences that its weights saw in training (from the manifest)
    protocol: str

    @property
    def trackers(self) -> list[str]:
        return list(self._by_sequence)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """Tidy long table: tracker, sequence, seen (in training), metric, value; a sequence has no EAO of its own."""
        rows = [
            (tracker, sequence, sequence in self.seen.get(tracker, ()), metric, value)
            for tracker, of in self._by_sequence.items()
            for sequence, measured in of.items()
            for metric, value in measured.items()
        ]
        return pd.DataFrame(rows, columns=["tracker", "sequence", "seen", "metric", "value"])

    def named(self, tracker: str) -> str:
        """A tracker by the name of its result folder, or by that without its key where only one goes by it."""
        short = [t for t in self.trackers if tracker in (t, without_key(t))]
        if tracker not in short and len(short) != 1:
            raise ValueError(f"no one tracker is called {tracker!r}{near(tracker, self.trackers)}")
        return tracker if tracker in short else short[0]

    def mean(self, tracker: str, unseen: bool = False) -> dict[str, float]:
        """Every measure over all sequences; `unseen` leaves out what the weights saw in training (NaN if all was)."""
        tracker = self.named(tracker)
        seen = self.seen.get(tracker, ()) if unseen else ()
        chosen = [s for s in self._by_sequence[tracker] if s not in seen]
        return self._over(tracker, chosen) if chosen else {m.name: math.nan for m in self.convention.measures}

    def json(self) -> dict[str, Any]:
        """One object: convention, dataset, protocol and, by tracker, the measures of the mean and of each sequence;
        numbers that do not exist are null.

        Trackers that saw some of the sequences in training also have `seen` and `mean_unseen`."""
        return {
            "convention": self.convention.name,
            "dataset": self.dataset,
            "protocol": self.protocol,
            "trackers": {tracker: self._json_of(tracker) for tracker in self.trackers},
        }

    def _json_of(self, tracker: str) -> dict[str, Any]:
        value: dict[str, Any] = {"mean": _finite(self.mean(tracker))}
        if self.seen.get(tracker):
            value["mean_unseen"] = _finite(self.mean(tracker, unseen=True))
            value["seen"] = sorted(self.seen[tracker])
        return value | {"sequences": {s: _finite(measured) for s, measured in self._by_sequence[tracker].items()}}

    def summary(self, seed: int = 0) -> pd.DataFrame:
        """A row per tracker and metric, best tracker first: mean, its 95 % bootstrap interval over sequences, how many.

        Columns tracker, metric, mean, low, high, sequences, seen and mean_unseen (the mean without those seen in
        training; equal to the mean where none was). Each interval is drawn from `seed` afresh: a tracker's does not
        depend on who else is scored, and trackers share their draws of sequences, from which EAO is found anew."""
        headline, rows = self.convention.measures[0].name, []
        for tracker in sorted(self.trackers, key=lambda t: -np.nan_to_num(self.mean(t)[headline], nan=-1)):
            mean, unseen, seen = self.mean(tracker), self.mean(tracker, unseen=True), len(self.seen.get(tracker, ()))
            intervals, count = self._intervals(tracker, seed), len(self._by_sequence[tracker])
            rows += [(tracker, m, mean[m], *intervals[m], count, seen, unseen[m]) for m in mean]
        columns = ["tracker", "metric", "mean", "low", "high", "sequences", "seen", "mean_unseen"]
        return pd.DataFrame(rows, columns=columns)


def _finite(values: dict[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


@dataclass(frozen=True)
class Scores(Scored):
    """What `score` found.

    curves:     tracker to sequence to curve name to the share of frames that pass, `(K,)`
    notes:      where a rule of the benchmark had to match a result file with its annotation
    frames:     tracker to sequence to the frames that were judged
    attributes: sequence to the benchmark's labels of it"""

    convention: Convention
    dataset: str
    curves: dict[str, dict[str, Values]]
    seen: dict[str, frozenset[str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    frames: dict[str, dict[str, int]] = field(default_factory=dict)
    attributes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    protocol: str = "OPE"

    @cached_property
    def _by_sequence(self) -> dict[str, dict[str, dict[str, float]]]:
        measured = self.convention.measured
        return {t: {s: measured(curves) for s, curves in of.items()} for t, of in self.curves.items()}

    def mean_curve(self, tracker: str, name: str, sequences: Iterable[str] | None = None) -> np.ndarray:
        """Mean over sequences of one curve, `(K,)`: each weighs the same, or as its frames where the convention pools
        all of them.

        (OTB's plotDrawSave.m leaves out curves that are zero throughout. There is none: a first frame, set to its
        annotation, passes every threshold but 1, and a sequence without a result is refused.)"""
        chosen = list(self.curves[tracker] if sequences is None else sequences)
        return np.average([self.curves[tracker][s][name] for s in chosen], 0, self._weights(tracker, chosen))

    def _weights(self, tracker: str, sequences: Iterable[str]) -> np.ndarray | None:
        pooled = self.convention.pools == "all"
        return np.array([self.frames[tracker][s] for s in sequences], np.float64) if pooled else None

    def _over(self, tracker: str, sequences: list[str]) -> dict[str, float]:
        names = self.curves[tracker][sequences[0]]
        return self.convention.measured({name: self.mean_curve(tracker, name, sequences) for name in names})

    def _intervals(self, tracker: str, seed: int) -> dict[str, tuple[float, float]]:
        sequences = list(self.curves[tracker])
        return {m.name: self._interval(tracker, m.name, sequences, seed) for m in self.convention.measures}

    def _interval(self, tracker: str, metric: str, sequences: list[str], seed: int) -> tuple[float, float]:
        values, weights = self._values(tracker, metric, sequences), self._weights(tracker, sequences)
        return bootstrap_interval(values, np.random.default_rng(seed), weights=weights)

    def _values(self, tracker: str, metric: str, sequences: list[str]) -> np.ndarray:
        return np.array([self._by_sequence[tracker][s][metric] for s in sequences])

    def by_attribute(self, metric: str | None = None, seed: int = 0) -> pd.DataFrame:
        """Mean over the sequences that carry each attribute, with its 95 % bootstrap interval: columns attribute,
        tracker, metric, mean, low, high, sequences. `metric` is the convention's first by default.

        An attribute of fewer than two sequences is left out, as by OTB's perfPlot.m."""
        metric, rows = self.convention.measure(metric).name, []
        for attribute in sorted({a for labels in self.attributes.values() for a in labels}):
            carrying = [s for s, labels in self.attributes.items() if attribute in labels]
            for tracker in self.trackers if len(carrying) > 1 else ():
                mean, interval = self._over(tracker, carrying)[metric], self._interval(tracker, metric, carrying, seed)
                rows.append((attribute, tracker, metric, mean, *interval, len(carrying)))
        return pd.DataFrame(rows, columns=["attribute", "tracker", "metric", "mean", "low", "high", "sequences"])

    def paired(self, tracker_a: str, tracker_b: str, metric: str | None = None, seed: int = 0) -> Paired:
        """How much better the first tracker is than the second, sequence by sequence (`metric`: as `by_attribute`)."""
        metric, tracker_a, tracker_b = (
            self.convention.measure(metric).name,
            self.named(tracker_a),
            self.named(tracker_b),
        )
        sequences = list(self.curves[tracker_a])
        differences = self._values(tracker_a, metric, sequences) - self._values(tracker_b, metric, sequences)
        weights = self._weights(tracker_a, sequences)
        low, high = bootstrap_interval(differences, np.random.default_rng(seed), weights=weights)
        p = sign_flip_p(differences, np.random.default_rng(seed), weights=weights)
        return Paired(float(np.average(differences, weights=weights)), low, high, p, len(sequences))


def score(
    results: str | Path | RunSet | Iterable[str | Path | RunSet],
    dataset: Dataset,
    convention: str | None = None,
    protocol: str | None = None,
) -> Scores | VotScores:
    """Score result folders on a dataset; a tracker is called by its folder's name.

    Each folder holds the trajectory of every run of the protocol (the one that its manifest names, else OPE), in a
    layout of `bench.layouts`, under any toolkit's spelling of the sequences' names. Results must have a row for each
    frame (all toolkits stop at too few; MATLAB's would pass over more), but for the two published exceptions of
    `otb.match_rows`. Without a convention it is the benchmark's own (`conventions.convention_for`).

    Raises FileNotFoundError naming the runs without a result, ValueError naming a faulty file, with both counts where
    rows and frames differ, or a sequence that is annotated in its first frame only."""
    sets = run_sets(results)
    made = (protocol or next(iter(sets.values())).protocol).partition(":")[0]
    rule = convention_named(convention_for(made, dataset.name, convention))
    if not isinstance(rule, Convention):
        from .vot import score_supervised

        return score_supervised(sets.values(), dataset, rule.name)
    chosen = _protocol(sets.values(), protocol)
    plan, oracles = _plan(chosen, dataset, rule), [r for r in sets.values() if r.manifest.get("sees_ground_truth")]
    notes = [f"{r.folder.name}: was told the truth of the frames it is judged on, and is no tracker" for r in oracles]
    tallies = {name: dict(_score_folder(runs, dataset, plan, rule, notes)) for name, runs in sets.items()}
    return Scores(
        rule,
        dataset.name,
        curves={name: {s: curves for s, (_, curves) in of.items()} for name, of in tallies.items()},
        seen=seen_of(sets, dataset),
        notes=tuple(notes),
        frames={name: {s: frames for s, (frames, _) in of.items()} for name, of in tallies.items()},
        attributes={name: tuple(s.attributes) for name, s in dataset.items()},
        protocol=chosen.name,
    )


def run_sets(results: str | Path | RunSet | Iterable[str | Path | RunSet]) -> dict[str, RunSet]:
    """Result folders by their names, each a tracker's; ValueError without any, or where two have one name."""
    folders = [results] if isinstance(results, str | Path | RunSet) else list(results)
    if not folders:
        raise ValueError("no result folder to score")
    sets = {r.folder.resolve().name: r for r in (f if isinstance(f, RunSet) else RunSet(f) for f in folders)}
    if len(sets) < len(folders):
        raise ValueError(f"two result folders have one name ({', '.join(sorted(sets))}); rename one")
    return sets


def seen_of(sets: dict[str, RunSet], dataset: Dataset) -> dict[str, frozenset[str]]:
    """The sequences that each tracker's weights saw in training, as its manifest says."""
    return {name: frozenset(runs.manifest.get("seen", ())) & frozenset(dataset) for name, runs in sets.items()}


def _protocol(sets: Iterable[RunSet], name: str | None) -> Protocol:
    """The protocol that all results were made by."""
    if name:
        return protocols.protocol(name)
    manifests = [runs.manifest for runs in sets]
    made = [(m.get("protocol", "OPE"), m.get("protocol_parameters", {})) for m in manifests]
    (name, parameters), names = made[0], ", ".join(sorted({name for name, _ in made}))
    if name == "supervised" or any(other != made[0] for other in made):
        raise ValueError(f"protocols {names}: score each apart, supervised results under a VOT convention")
    return protocols.protocol(name, **parameters)


Plan = dict[str, list[tuple[Run, Truth]]]


def _plan(chosen: Protocol, dataset: Dataset, rule: Convention) -> Plan:
    """The runs of each sequence, each with the annotation that it is judged by."""
    truths, plan = {name: _truth(s, rule) for name, s in dataset.items()}, {name: [] for name in dataset}
    for run in chosen.runs(dataset):
        kind = run.name.removeprefix(f"{run.sequence}_")
        scale = None
        if chosen.name == "SRE":
            scale = int(kind.removeprefix("scale_")) / 10 if kind.startswith("scale_") else 1.0
        truth = truths[run.sequence].cut(run.first, run.last, scale)
        plan[run.sequence].append((run, truth))
    return plan


def _truth(sequence: Sequence, rule: Convention) -> Truth:
    known = int(np.isfinite(sequence.boxes).all(1).sum())
    if known <= 1 < len(sequence):
        raise ValueError(f"{sequence.name}: annotated in {known} of {len(sequence)} frames, nothing to score")
    plain = sequence.raw.shape[1] == 4  # polygons are judged by their box
    rows = sequence.raw if plain else B.to_origin(sequence.boxes, sequence.origin)
    if sequence.origin != _origin(sequence, rule):
        rows = B.to_origin(B.from_origin(rows, sequence.origin), _origin(sequence, rule))
    return Truth(rows, sequence.absent, sequence.image_size() if rule.bounded else None)


def _origin(sequence: Sequence, rule: Convention) -> int:
    """The first pixel's coordinate that a rule judges by: OTB's and its kin want four positive numbers, so 1; what
    is cut at the image takes the benchmark's own."""
    return sequence.origin if rule.bounded else 1


def _score_folder(
    runs: RunSet, dataset: Dataset, plan: Plan, rule: Convention, notes: list[str]
) -> Iterator[tuple[str, tuple[int, Values]]]:
    """For each sequence the frames judged and the share of them that pass, over all its runs."""
    layout, files = runs.layout, runs.files()
    wanted = [run.name for planned in plan.values() for run, _ in planned]
    check_complete(runs, [w for w in wanted if name_key(w) not in files], f"{len(wanted)} runs on {dataset.name}")
    for name, planned in plan.items():
        tallies = []
        for run, truth in planned:
            path = files[name_key(run.name)]
            rows = layout.read(path).rows
            try:
                if layout.origin != (origin := _origin(dataset[name], rule)):  # else a shift might change a last bit
                    rows = B.to_origin(B.from_origin(rows, layout.origin), origin)
                result, truth, note = _matched(dataset[name], run, truth, rows)
                tallies.append(rule.tally(result, truth))
            except ValueError as e:
                raise ValueError(f"{path}: {e}") from None
            if note:
                notes.append(f"{runs.folder.name}: {note}")
        yield name, _pooled(name, tallies, rule)


def _matched(sequence: Sequence, run: Run, truth: Truth, rows: np.ndarray) -> tuple[np.ndarray, Truth, str]:
    """A result in the benchmark's coordinates, the annotation that it is judged by, a note where that took a rule."""
    if rows.shape[1] != 4:
        raise ValueError("polygons, not boxes; score them with a VOT convention")
    if len(rows) == len(truth):
        return rows, truth, ""
    if len(run) < len(sequence):
        raise ValueError(f"{len(rows)} rows for the {len(run)} frames of {run.name}; redo that run")
    rows, matched, note = match_rows(sequence, rows)
    return rows, truth.cut(0, len(matched) - 1, truth.scale), note


def _pooled(name: str, tallies: list[tuple[int, Values]], rule: Convention) -> tuple[int, Values]:
    """Frames of a sequence's runs that are judged, and the share of them that pass."""
    judged = [(count, sums) for count, sums in tallies if count]
    if not judged:
        raise ValueError(f"{name}: no frame that counts under the {rule.name} convention; leave the sequence out")
    frames, names = sum(count for count, _ in judged), judged[0][1]
    if rule.pools == "run":
        return frames, {k: np.mean([sums[k] / count for count, sums in judged], 0) for k in names}
    return frames, {k: np.sum([sums[k] for _, sums in judged], 0) / frames for k in names}


def check_complete(runs: RunSet, missing: list[str], of: str) -> None:
    """Raises FileNotFoundError where names, `of` something, are missing."""
    if missing:
        failed = {run: text for run, text in runs.failures().items() if run in missing}
        first = next(iter(failed.values()), "").strip().split("\n")[-1]
        why = f"; {len(failed)} failed ({first}), see {runs.folder / 'errors'}" if failed else ""
        what = f"no result for {len(missing)} of the {of}: {some(missing)}{why}"
        raise FileNotFoundError(
            f"{runs.folder}: {what}; finish the run, or score on what the results cover (--sequences N)"
        )
