"""Scores of result files, our own or somebody's published ones, under a named convention. Needs annotations only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..data.formats import name_key, read_rows, result_files
from ..data.otb import match_rows
from ..data.sequence import Dataset, Sequence
from .conventions import Convention, convention_named
from .metrics import bootstrap_interval
from .results import RunSet


@dataclass(frozen=True)
class Scores:
    """What `score` found.

    curves: tracker to sequence to curve name to the share of frames that pass, `(K,)`
    seen:   tracker to the sequences that its weights saw in training (from the results' manifest)
    notes:  where a rule of the benchmark had to match a result file with its annotation
    """

    convention: Convention
    dataset: str
    curves: dict[str, dict[str, dict[str, np.ndarray]]]
    seen: dict[str, frozenset[str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def trackers(self) -> list[str]:
        return list(self.curves)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """Tidy long table: tracker, sequence, seen (in training), metric, value."""
        rows = [
            (tracker, sequence, sequence in self.seen.get(tracker, ()), metric, value)
            for tracker, sequences in self.curves.items()
            for sequence, curves in sequences.items()
            for metric, value in self.convention.measured(curves).items()
        ]
        return pd.DataFrame(rows, columns=["tracker", "sequence", "seen", "metric", "value"])

    def mean_curve(self, tracker: str, name: str, sequences: Iterable[str] | None = None) -> np.ndarray:
        """Mean over sequences of one curve, `(K,)`: each sequence weighs the same, however long."""
        chosen = self.curves[tracker] if sequences is None else {s: self.curves[tracker][s] for s in sequences}
        return np.mean([curves[name] for curves in chosen.values()], 0)

    def mean(self, tracker: str, unseen: bool = False) -> dict[str, float]:
        """Every measure of the mean curves; `unseen` leaves out what the weights saw in training (NaN if all was)."""
        seen = self.seen.get(tracker, frozenset()) if unseen else frozenset()
        sequences = [s for s in self.curves[tracker] if s not in seen]
        if not sequences:
            return {m.name: float("nan") for m in self.convention.measures}
        return self.convention.measured(
            {c.name: self.mean_curve(tracker, c.name, sequences) for c in self.convention.curves}
        )

    def json(self) -> dict[str, Any]:
        """One object: convention, dataset and, by tracker, the measures of the mean and of each sequence.

        Trackers that saw some of the sequences in training also have `seen` and `mean_unseen`."""
        return {
            "convention": self.convention.name,
            "dataset": self.dataset,
            "trackers": {tracker: self._json_of(tracker) for tracker in self.trackers},
        }

    def _json_of(self, tracker: str) -> dict[str, Any]:
        value: dict[str, Any] = {"mean": self.mean(tracker)}
        if self.seen.get(tracker):
            unseen = self.mean(tracker, unseen=True)
            value["mean_unseen"] = {k: None if np.isnan(v) else v for k, v in unseen.items()}
            value["seen"] = sorted(self.seen[tracker])
        value["sequences"] = {s: self.convention.measured(c) for s, c in self.curves[tracker].items()}
        return value

    def summary(self, seed: int = 0) -> pd.DataFrame:
        """A row per tracker and metric, best tracker first: mean, its 95 % bootstrap interval over sequences, how many.

        Columns tracker, metric, mean, low, high, sequences, seen and mean_unseen (the mean without those seen in
        training; equal to the mean where none was). Each interval is drawn from `seed` afresh: a tracker's does not
        depend on who else is scored, and trackers share their draws of sequences."""
        headline = self.convention.measures[0].name
        ranked = sorted(self.trackers, key=lambda t: -self.mean(t)[headline])
        rows = []
        for tracker in ranked:
            mean, unseen = self.mean(tracker), self.mean(tracker, unseen=True)
            of_tracker = self.frame[self.frame.tracker == tracker]
            for metric, values in of_tracker.groupby("metric", sort=False).value:
                low, high = bootstrap_interval(values.to_numpy(), np.random.default_rng(seed))
                seen = len(self.seen.get(tracker, ()))
                rows.append((tracker, metric, mean[metric], low, high, len(values), seen, unseen[metric]))
        columns = ["tracker", "metric", "mean", "low", "high", "sequences", "seen", "mean_unseen"]
        return pd.DataFrame(rows, columns=columns)


def score(
    results: str | Path | RunSet | Iterable[str | Path | RunSet], dataset: Dataset, convention: str = "otb"
) -> Scores:
    """Score result folders on a dataset; a tracker is called by its folder's name.

    Each folder holds one `<sequence>.txt` for every sequence of the dataset, under any toolkit's spelling of its name.
    Raises FileNotFoundError naming the sequences without a result, ValueError naming a faulty file, with both counts
    where rows and frames differ (see `otb.match_rows` for the two published exceptions), or a sequence that is
    annotated in its first frame only."""
    folders = [results] if isinstance(results, str | Path | RunSet) else list(results)
    runs = [r if isinstance(r, RunSet) else RunSet(r) for r in folders]
    names = [r.folder.resolve().name for r in runs]
    if len(set(names)) < len(names):
        raise ValueError(f"two result folders have one name ({', '.join(sorted(names))}); rename one")
    rule, notes = convention_named(convention), []
    curves = {name: _score_folder(r, dataset, rule, notes) for name, r in zip(names, runs, strict=True)}
    seen = {n: frozenset(r.manifest.get("seen", ())) & frozenset(dataset) for n, r in zip(names, runs, strict=True)}
    return Scores(rule, dataset.name, curves, seen, tuple(notes))


def _score_folder(
    runs: RunSet, dataset: Dataset, rule: Convention, notes: list[str]
) -> dict[str, dict[str, np.ndarray]]:
    files = result_files(runs.folder)
    _check_complete(runs, files, dataset)
    curves = {}
    for name, sequence in dataset.items():
        known = int(np.isfinite(sequence.raw).all(1).sum())
        if known <= 1 < len(sequence):
            raise ValueError(f"{name}: annotated in {known} of {len(sequence)} frames, nothing to score")
        result, truth, note = _matched(sequence, files[name_key(name)])
        curves[name] = rule.score(result, truth)
        if note:
            notes.append(f"{runs.folder.name}: {note}")
    return curves


def _matched(sequence: Sequence, path: Path) -> tuple[np.ndarray, np.ndarray, str]:
    try:
        return match_rows(sequence, read_rows(path))
    except ValueError as e:
        text = str(e)
        raise ValueError(text if text.startswith(str(path)) else f"{path}: {text}") from None


def _check_complete(runs: RunSet, files: dict[str, Path], dataset: Dataset) -> None:
    missing = [name for name in dataset if name_key(name) not in files]
    if not missing:
        return
    failed = [name for name in missing if name in runs.failures()]
    some = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
    why = f"; {len(failed)} failed, see {runs.folder / 'errors'}" if failed else ""
    raise FileNotFoundError(
        f"{runs.folder}: no result for {len(missing)} of the {len(dataset)} sequences of {dataset.name}: {some}{why}; "
        "finish the run, or score on a list that the results cover"
    )
