"""Scores of result files of VOT's supervised experiment, under one of the conventions of `bench.supervised`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from functools import cached_property
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from ..config import near
from ..data.formats import UNKNOWN, Trajectory, name_key, read_trajectory
from ..data.sequence import Dataset, Sequence
from ..data.vot import TAGS
from . import supervised as S
from .results import RunSet
from .score import Paired, Scored, check_complete, run_sets, seen_of
from .supervised import SUPERVISED, Runs, Supervised

REPETITIONS = 15


@dataclass(frozen=True)
class VotScores(Scored):
    """What `score_supervised` found.

    runs:      tracker to sequence to its runs
    sequences: the annotations
    notes:     where a result file took a rule"""

    convention: Supervised
    sequences: Dataset
    runs: dict[str, dict[str, Runs]]
    seen: dict[str, frozenset[str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    protocol: str = "supervised"

    @property
    def dataset(self) -> str:
        return self.sequences.name

    @property
    def interval(self) -> tuple[int, int] | None:
        """Lengths that EAO is a mean over."""
        return self.convention.interval

    @cached_property
    def _tallies(self) -> dict[str, _Tally]:
        length = max(self.convention.longest(r) for of in self.runs.values() for r in of.values())
        return {t: _Tally.of(self.convention, of, self.sequences, length) for t, of in self.runs.items()}

    def _over(self, tracker: str, sequences: list[str]) -> dict[str, float]:
        times = np.array([[s in sequences for s in self.runs[tracker]]], np.float64)
        return {name: float(values[0]) for name, values in self._tallies[tracker].measured(times).items()}

    @cached_property
    def _by_sequence(self) -> dict[str, dict[str, dict[str, float]]]:
        found = {}
        for tracker, of in self.runs.items():
            measured = self._tallies[tracker].measured(np.eye(len(of)))
            found[tracker] = {s: {m: float(v[i]) for m, v in measured.items() if m != "eao"} for i, s in enumerate(of)}
        return found

    def eao_curve(self, tracker: str) -> tuple[np.ndarray, np.ndarray]:
        """Expected average overlap of sequences of each length: lengths `(L,)` from 1, and values `(L,)`."""
        tally = self._tallies[tracker]
        curve = self.convention.curve(tally.sums.sum(0), tally.weights.sum(0))
        return np.arange(1, len(curve) + 1), curve

    def tags(self) -> pd.DataFrame:
        """Measures by the tags of frames: tag, tracker, metric, value; `all`, then those of VOT's five that some frame
        carries, then `empty`, the frames that carry none. The Python toolkits have no such analysis: an empty table."""
        carried = [tag for tag in TAGS if any(np.any(s.tags.get(tag, False)) for s in self.sequences.values())]
        rows = [
            (tag, tracker, metric, value)
            for tag in ("all", *carried, "empty")
            for tracker in (self.trackers if self.convention.family == "matlab" else ())
            for metric, value in self._tagged(tracker, tag).items()
        ]
        return pd.DataFrame(rows, columns=["tag", "tracker", "metric", "value"])

    def _tagged(self, tracker: str, tag: str) -> dict[str, float]:
        length = self._tallies[tracker].sums.shape[1]
        tally = _Tally.of(self.convention, self.runs[tracker], self.sequences, length, tag)
        return {name: float(v[0]) for name, v in tally.measured(np.ones((1, len(tally.frames)))).items()}

    def averages(self) -> pd.DataFrame:
        """The report's averages of accuracy and failures: average, tracker, metric, value.

        `mean` and, by their numbers of frames, `weighted_mean` (the report's default) are over the five tags and
        `empty`; `pooled` is over all frames."""
        table, rows = self.tags().query("metric in ('accuracy', 'failures')"), []
        frames = {tag: sum(_frames_of(s, tag).sum() for s in self.sequences.values()) for tag in table.tag.unique()}
        tags = [tag for tag, count in frames.items() if tag != "all" and count]
        for (tracker, metric), part in table.groupby(["tracker", "metric"]):
            values = part.set_index("tag").value
            weighted = np.average(values[tags], weights=[frames[tag] for tag in tags])
            of = {"mean": values[tags].mean(), "weighted_mean": weighted, "pooled": values["all"]}
            rows += [(average, tracker, metric, value) for average, value in of.items()]
        return pd.DataFrame(rows, columns=["average", "tracker", "metric", "value"])

    def ranking(self, alpha: float = 0.05) -> pd.DataFrame:
        """Ranks by accuracy and by failures, best mean first: tracker, accuracy_rank, robustness_rank, mean_rank.

        As analyze_accuracy_robustness.m over all frames: a tracker's rank is the mean rank of those that do not differ
        from it. Accuracies differ if a signed-rank test of the overlaps of the same frames says so, unless the mean
        difference is below the practical one; failures if a rank-sum test of all repetitions does."""
        overlap = {t: np.concatenate([S.frame_accuracy(r) for r in self.runs[t].values()]) for t in self.trackers}
        failures = {t: np.concatenate([_filled(r.failures()) for r in self.runs[t].values()]) for t in self.trackers}
        practical = [s.practical for s in self.sequences.values()]
        practical = None if any(p is None for p in practical) else np.concatenate(practical)
        differ = np.zeros((2, len(self.trackers), len(self.trackers)), bool)
        for (j, b), (i, a) in combinations(enumerate(self.trackers), 2):
            differ[0, i, j] = differ[0, j, i] = S.accuracies_differ(overlap[a] - overlap[b], practical, alpha)
            differ[1, i, j] = differ[1, j, i] = S.rank_sum_p(failures[a], failures[b]) <= alpha
        means = [self.mean(t) for t in self.trackers]
        accuracy = S.adapted_ranks(np.array([-m["accuracy"] for m in means]), differ[0])
        robustness = S.adapted_ranks(np.array([m["failures"] for m in means]), differ[1])
        table = pd.DataFrame({"tracker": self.trackers, "accuracy_rank": accuracy, "robustness_rank": robustness})
        return table.assign(mean_rank=(accuracy + robustness) / 2).sort_values("mean_rank", ignore_index=True)

    def paired(self, tracker_a: str, tracker_b: str, metric: str | None = None, seed: int = 0) -> Paired:
        """How far the first tracker's measure lies above the second's (by default EAO), over the same draws of
        sequences; p by swapping the two trackers' runs on some of the sequences."""
        metric = self.convention.measure(metric).name
        a, b = (self._tallies[self.named(t)] for t in (tracker_a, tracker_b))
        both, count = a.beside(b), len(a.frames)

        def difference(share: np.ndarray, rest: np.ndarray) -> np.ndarray:
            first, second = np.hstack([share, rest]), np.hstack([rest, share])
            return both.measured(first)[metric] - both.measured(second)[metric]

        one, times = np.ones((1, count)), _draws(count, seed)
        found = float(difference(one, 0 * one)[0])
        low, high = _quantiles(difference(times, 0 * times)) if count > 1 else (np.nan, np.nan)
        kept = np.random.default_rng(seed).integers(2, size=times.shape).astype(np.float64)
        beyond = np.abs(difference(kept, 1 - kept)) >= abs(found) - 1e-12
        return Paired(found, float(low), float(high), float((1 + beyond.sum()) / (1 + len(kept))), count)

    def _intervals(self, tracker: str, seed: int) -> dict[str, np.ndarray]:
        count = len(self.runs[tracker])
        if count < 2:
            return {m.name: np.array([np.nan, np.nan]) for m in self.convention.measures}
        measured = self._tallies[tracker].measured(_draws(count, seed))
        return {m: _quantiles(v) for m, v in measured.items()}


def _draws(count: int, seed: int, samples: int = 2000) -> np.ndarray:
    """How often each sequence is in each bootstrap sample, `(samples, count)`."""
    draws = np.random.default_rng(seed).integers(count, size=(samples, count))
    return np.stack([np.bincount(draw, minlength=count) for draw in draws]).astype(np.float64)


def _quantiles(values: np.ndarray) -> np.ndarray:
    """The 95 % interval, over the samples in which the measure exists."""
    known = values[~np.isnan(values)]
    return np.quantile(known, [0.025, 0.975]) if len(known) else np.array([np.nan, np.nan])


def _filled(failures: np.ndarray) -> np.ndarray:
    """Failures of all repetitions: those that were not run, as of a deterministic tracker, count as the mean."""
    return np.append(failures, np.full(max(REPETITIONS - len(failures), 0), failures.mean()))


def _frames_of(sequence: Sequence, tag: str) -> np.ndarray:
    """The frames that carry a tag, `(T,)` bool; `empty`: none of any name (VOT2018 has some beyond the five)."""
    frames = {t: np.asarray(has, bool) for t, has in sequence.tags.items() if t != "empty"}
    none = np.zeros(len(sequence), bool)
    return ~np.any([none, *frames.values()], 0) if tag == "empty" else frames.get(tag, none) | (tag == "all")


@dataclass(frozen=True)
class _Tally:
    """What the measures of any choice among N sequences are made of: per sequence, sums of overlaps and their number,
    failures, frames, the longest run, all `(N,)`, and the two sums of the expected overlap, `(N, L)`."""

    convention: Supervised
    overlap: np.ndarray
    judged: np.ndarray
    failures: np.ndarray
    frames: np.ndarray
    longest: np.ndarray
    sums: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(
        cls, convention: Supervised, runs: dict[str, Runs], dataset: Dataset, length: int, tag: str = "all"
    ) -> _Tally:
        longest = np.array([convention.longest(r) for r in runs.values()])
        counts, expected = [], []
        for name, of in runs.items():
            tagged = _frames_of(dataset[name], tag)
            frames = min(tagged.sum(), of.lengths.max()) if convention.family == "pysot" else tagged.sum()
            counts.append((*_accuracy(convention, of, tagged), of.failures(tagged).mean(), frames))
            share = int(tagged.sum()) if tag == "empty" else tagged
            expected.append(convention.expected(of, length, share))
        return cls(convention, *np.array(counts, np.float64).T, longest, *np.stack(expected, 1))

    def beside(self, other: _Tally) -> _Tally:
        """These sequences and those of another tracker."""
        mine, its = ([getattr(t, f.name) for f in fields(t)[1:]] for t in (self, other))
        return _Tally(self.convention, *(np.concatenate(pair) for pair in zip(mine, its, strict=True)))

    def measured(self, times: np.ndarray) -> dict[str, np.ndarray]:
        """Every measure `(B,)` of sequences that count so many times, `(B, N)`."""
        judged, frames = times @ self.judged, times @ self.frames
        accuracy = np.divide(times @ self.overlap, judged, out=np.full(len(times), np.nan), where=judged > 0)
        failures, length = times @ self.failures, frames
        if self.convention.family == "python":
            failures, length = times @ (self.failures * self.frames) / frames, frames / times.sum(1)
        rate = np.divide(failures, length, out=np.full(len(times), np.nan), where=length > 0)
        reliability = np.exp(-S.SENSITIVITY * rate)
        measures = {"accuracy": accuracy, "failures": failures, "robustness": rate, "reliability": reliability}
        if not self.convention.interval:
            return measures
        weights = times @ self.weights
        curve = self.convention.curve(times @ self.sums, weights)
        reach = np.where(times > 0, self.longest, 0).max(1, keepdims=True)  # of the chosen: others lengthen no curve
        beyond = np.arange(1, curve.shape[1] + 1) > reach
        curve[beyond], weights[beyond] = np.nan, 0
        return {"eao": self.convention.eao(curve, weights), **measures}


def _accuracy(convention: Supervised, runs: Runs, frames: np.ndarray) -> tuple[float, int]:
    """Sum of the overlaps that count, and their number."""
    if convention.family != "python":
        overlap = S.frame_accuracy(runs, frames)
        return float(np.nansum(overlap)), int(np.isfinite(overlap).sum())
    overlap = np.where(S.burn_in(runs.codes), np.nan, runs.accuracy)
    known = np.isfinite(overlap).sum(1)
    means = np.divide(np.nansum(overlap, 1), known, out=np.zeros(len(known)), where=known > 0)
    return float(means.mean() * overlap.shape[1]), overlap.shape[1]


def score_supervised(
    results: str | Path | RunSet | Iterable[str | Path | RunSet], dataset: Dataset, convention: str = "vot2018"
) -> VotScores:
    """Score folders of results of the supervised experiment, VOT's `baseline/<sequence>/<sequence>_001.txt`, on a
    dataset; a tracker is called by its folder's name.

    A sequence may have fewer files than repetitions (a deterministic tracker's are not repeated), and a file fewer rows
    than frames: the MATLAB toolkit and pysot-toolkit judge the rows that are there; vot-toolkit refuses such a file,
    here the frames that lack count as unknown. Where pysot-toolkit stops, at numbers of repetitions that differ from
    sequence to sequence, the runs of each share its weight, as in the MATLAB toolkit.

    Raises FileNotFoundError naming the sequences without a result, ValueError naming a faulty file."""
    if convention not in SUPERVISED:
        raise ValueError(f"no supervised convention is called {convention!r}{near(convention, SUPERVISED)}")
    sets, rule, notes = run_sets(results), SUPERVISED[convention], []
    made = [runs.manifest.get("protocol_parameters") for runs in sets.values()]
    resets = {(p["bounded"], p["legacy"]) for p in made if p}
    if len(resets) > 1:
        raise ValueError(f"results of {', '.join(sets)} were reset by different overlaps; score each apart")
    if resets - {(rule.bounded, rule.legacy)} and rule.family == "matlab":
        notes.append(f"restarted by another overlap than {convention} scores by (protocol parameters bounded, legacy)")
    runs = {name: _score_folder(of, dataset, rule, notes) for name, of in sets.items()}
    return VotScores(rule, dataset, runs, seen_of(sets, dataset), tuple(notes))


def speeds(
    results: str | Path | RunSet, dataset: Dataset, unit: float | None = None, startup: float = 0.0
) -> pd.DataFrame:
    """Frames a second and EFO of one tracker on each sequence: sequence, fps, efo (see `supervised.normalised_speed`).

    Times are those of the MATLAB toolkit, `<sequence>_time.txt` with a column a repetition, or our own one-lane runs'.
    unit: seconds of the machine's filter operation, by default `nonlinear_native` of the folder's performance.txt.

    Raises FileNotFoundError without times or unit, ValueError where a run has no time that was measured."""
    runs = results if isinstance(results, RunSet) else RunSet(results)
    unit = _unit(runs.folder / "performance.txt") if unit is None else unit
    rows = []
    for name, paths in _files(runs, dataset).items():
        failures = [int((read_trajectory(path).codes == S.FAILURE).sum()) for path in paths]
        together = paths[0].with_name(f"{paths[0].parent.name}_time.txt")
        if together.is_file():
            times = np.genfromtxt(together, delimiter=",", ndmin=2)[:, : len(paths)].T
        else:
            times = [np.loadtxt(runs.layout.times_path(runs.folder, path.stem), ndmin=1) for path in paths]
        means = np.array([np.nanmean(t) if np.isfinite(t).any() else np.nan for t in times])
        try:
            rows.append((name, *S.normalised_speed(means, np.array(failures), len(dataset[name]), unit, startup)))
        except ValueError as e:
            raise ValueError(f"{runs.folder}, {name}: {e}") from None
    return pd.DataFrame(rows, columns=["sequence", "fps", "efo"])


def _unit(performance: Path) -> float:
    lines = performance.read_text().splitlines() if performance.is_file() else []
    settings = dict(line.split("=", 1) for line in lines if "=" in line)
    if "nonlinear_native" not in settings:
        raise FileNotFoundError(f"{performance}: no nonlinear_native= in it; give the unit (seconds) of EFO")
    return float(settings["nonlinear_native"])


def _score_folder(runs: RunSet, dataset: Dataset, rule: Supervised, notes: list[str]) -> dict[str, Runs]:
    """Reads every trajectory, then rasterises all frames of all of them at once."""
    files = _files(runs, dataset)
    read = {s: [_read(path, dataset[s], rule, notes) for path in paths] for s, paths in files.items()}
    every = [t for of in read.values() for t in of]
    truths = [dataset[s].regions[: len(t)] for s, of in read.items() for t in of]
    sizes = [np.broadcast_to(dataset[s].image_size(), (len(t), 2)) for s, of in read.items() for t in of]
    joined = Trajectory(_stacked([t.rows for t in every]), np.concatenate([t.codes for t in every]))
    overlaps = rule.overlaps(joined, _stacked(truths), np.concatenate(sizes))
    ends = np.cumsum([len(t) for t in every])[:-1]
    pieces = zip(every, *(np.split(o, ends) for o in overlaps), strict=True)
    return {s: _runs([next(pieces) for _ in of], len(dataset[s])) for s, of in read.items()}


def _files(runs: RunSet, dataset: Dataset) -> dict[str, list[Path]]:
    if not runs.layout.coded:
        raise ValueError(f"{runs.folder}: no baseline/<sequence>/<sequence>_001.txt; these are not supervised results")
    found = runs.files()
    keys = {s: [name_key(f"{s}_{k:03d}") for k in range(1, REPETITIONS + 1)] for s in dataset}
    files = {s: [found[key] for key in of if key in found] for s, of in keys.items()}
    missing = [s for s, of in files.items() if not of]
    check_complete(runs, missing, f"{len(files)} sequences of {dataset.name}")
    return files


def _read(path: Path, sequence: Sequence, rule: Supervised, notes: list[str]) -> Trajectory:
    """A trajectory of no more rows than the sequence has frames; under vot-toolkit's rule, of as many."""
    trajectory, frames = read_trajectory(path), len(sequence)
    rows, columns = trajectory.rows.shape
    if rows > frames:
        raise ValueError(f"{path}: {rows} rows for the {frames} frames of {sequence.name}; redo that run")
    if columns not in (4, 8):
        raise ValueError(f"{path}: polygons of {columns // 2} corners; VOT's have four")
    if rows == frames:
        return trajectory
    notes.append(f"{path.parents[2].name}: {path.name} has {rows} rows for {frames} frames")
    if rule.family != "python":
        return trajectory
    rest = ((0, frames - rows), (0, 0))
    codes = np.pad(trajectory.codes, rest[0], constant_values=UNKNOWN)
    return Trajectory(np.pad(trajectory.rows, rest, constant_values=np.nan), codes)


def _stacked(regions: list[np.ndarray]) -> np.ndarray:
    """`(N, 4)` or, with a polygon among them, `(N, 8)`: rectangles are followed by NaN."""
    columns = max(r.shape[1] for r in regions)
    widened = (np.pad(r, ((0, 0), (0, columns - r.shape[1])), constant_values=np.nan) for r in regions)
    return np.concatenate(list(widened))


def _runs(pieces: list[tuple[Trajectory, np.ndarray, np.ndarray]], frames: int) -> Runs:
    codes = np.full((len(pieces), frames), UNKNOWN, np.int8)
    overlaps = np.full((2, len(pieces), frames), np.nan)
    for r, (trajectory, *values) in enumerate(pieces):
        codes[r, : len(trajectory)] = trajectory.codes
        overlaps[:, r, : len(trajectory)] = values
    return Runs(codes, np.array([len(t) for t, *_ in pieces]), *overlaps)
