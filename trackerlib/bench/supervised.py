"""Measures of VOT's supervised experiment: accuracy, failures, expected overlap, speed and ranks, and the conventions.

A tracker that loses its target is started again, and it runs on a sequence some times over: `Runs` holds what came of
it. Functions give the numbers of the MATLAB toolkit (votchallenge/toolkit-legacy, VOT2013 to 2018) unless they say
otherwise. That toolkit's settings changed over the years, and its successors rasterise, bound, cut runs into fragments
and average otherwise: on one tracker EAOs lie up to 0.03 apart. So every number names its convention of `SUPERVISED`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from ..data.formats import FAILURE, INIT, REGION, Trajectory
from . import raster as R
from .conventions import Measure, Named

BURN_IN = 10  # frames from a start on, itself included, that accuracy leaves out: they are too easy
SKIP = 5  # frames from a failure to the next start
SENSITIVITY = 30  # S of the AR plot: reliability is the chance to survive so many frames


@dataclass(frozen=True)
class Runs:
    """One tracker's R runs on one sequence of T frames.

    codes:    `(R, T)` as in `Trajectory`
    lengths:  `(R,)` rows that the files have; fewer than T where a run was cut short
    accuracy: `(R, T)` overlap with the annotation that accuracy is a mean of; NaN where there is none
    expected: `(R, T)` overlap that EAO is a mean of (it may be bounded otherwise)"""

    codes: np.ndarray
    lengths: np.ndarray
    accuracy: np.ndarray
    expected: np.ndarray

    def failures(self, frames: np.ndarray | slice = slice(None)) -> np.ndarray:
        """How often each run failed in these frames, `(R,)`."""
        return (self.codes[:, frames] == FAILURE).sum(1)


def burn_in(codes: np.ndarray) -> np.ndarray:
    """Frames that accuracy leaves out, `(R, T)` bool."""
    frame = np.arange(codes.shape[1])
    return frame - np.maximum.accumulate(np.where(codes == INIT, frame, -BURN_IN), axis=1) < BURN_IN


def frame_accuracy(runs: Runs, frames: np.ndarray | slice = slice(None)) -> np.ndarray:
    """Overlap of each frame, mean over the runs that have one after burn-in, `(T,)`; NaN where none has.

    frames: `(T,)` bool, the frames of a tag. As in the MATLAB toolkit they are picked first, so that a burn-in counts
    ten frames of the tag, and follows only a start that carries the tag."""
    overlap = np.where(burn_in(runs.codes[:, frames]), np.nan, runs.accuracy[:, frames])
    known = ~np.isnan(overlap)
    with np.errstate(invalid="ignore"):
        return np.where(known, overlap, 0).sum(0) / known.sum(0)


# A fragment of a run: its first frame, the one after its last, and whether it ended in a failure.
Fragment = tuple[int, int, bool]


def matlab_fragments(codes: np.ndarray) -> list[Fragment]:
    """From each start to the next, by estimate_expected_overlap.m; codes `(n,)`.

    Starts are taken to be SKIP frames after a failure. One that would fall behind the last frame is none: the fragment
    then counts as one that went on to the end, although it failed."""
    starts = [0, *(f + SKIP for f in np.flatnonzero(codes == FAILURE) if f + SKIP < len(codes))]
    return [*((a, b + 1, True) for a, b in pairwise(starts)), (starts[-1], len(codes), False)]


def pysot_fragments(codes: np.ndarray) -> list[Fragment]:
    """The same, but a start just behind the last frame counts as one (pysot-toolkit, whose frames count from 0)."""
    *before, (start, stop, _) = matlab_fragments(codes)
    lost = bool((np.flatnonzero(codes == FAILURE) + SKIP == stop).any())
    return [*before, (start, stop + lost, lost)]


def python_fragments(codes: np.ndarray) -> list[Fragment]:
    """From each start to the failure that follows (vot-toolkit 0.9)."""
    starts, failures = np.flatnonzero(codes == INIT), np.flatnonzero(codes == FAILURE)
    if not len(failures):
        return [(0, len(codes), False)]
    survived = [(int(starts[-1]), len(codes), False)] if len(starts) > len(failures) else []
    return [*((int(a), int(b), True) for a, b in zip(starts, failures, strict=False)), *survived]


def expected_overlap(
    runs: Runs,
    cut: Callable[[np.ndarray], list[Fragment]],
    longest: int,
    by_sequence: bool = True,
    tag: np.ndarray | int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Two sums over fragments, each `(longest,)`, whose ratio is the expected overlap at the lengths 1 ... longest:
    of their weights times mean overlaps, and of the weights.

    The mean of a fragment is over its frames 2 ... L. One that failed goes on with zeros; one that did not has no mean
    beyond its end. A run without failure keeps frames without overlap: they have no mean, later ones are NaN.

    by_sequence: a sequence's runs share a weight of 1, else every fragment weighs 1
    tag: `(T,)` bool, to weigh each fragment by the share of its frames with the tag; or how many frames to take for
        those of every fragment (asked for the untagged ones of a fragment, the MATLAB toolkit gives the sequence's)"""
    sums, weights = np.zeros((2, longest))
    frames = runs.codes.shape[1]
    tag = np.ones(frames, bool) if tag is None else tag
    for codes, length, overlap in zip(runs.codes, runs.lengths, runs.expected, strict=True):
        failed = (codes == FAILURE).any()
        for start, stop, lost in cut(codes[:length]):
            values = np.append(0, overlap[start + 1 : min(stop, length)])
            known = failed | ~np.isnan(values)
            total = np.cumsum(np.nan_to_num(values) if failed else values)
            weight = 1.0
            if by_sequence:
                tagged = tag if isinstance(tag, int) else tag[start : stop if lost or failed else frames].sum()
                weight = tagged / ((stop if lost else frames) - start) / len(runs.codes)
            sums[: len(total)][known] += weight * total[known]
            weights[: len(total)][known] += weight
            if lost:
                sums[len(total) :] += weight * total[-1]
                weights[len(total) :] += weight
    sums[1:] /= np.arange(1, longest)
    return sums, weights


def evaluation_interval(lengths: np.ndarray, mass: float = 0.5) -> tuple[int, int, int]:
    """The range of lengths that EAO is a mean over and the most frequent length, from the lengths of the sequences.

    Their density is estimated with Gaussian kernels, of the bandwidth of Kristan et al. (Multivariate online kernel
    density estimation with Gaussian kernels, Pattern Recognition 2011, section 3); the range grows from its mode to
    the denser side until it holds `mass`. VOT2018's 60 lengths give (100, 356, 160)."""
    lengths = np.asarray(lengths, np.float64)
    count, spread = len(lengths), lengths.std()
    if not spread:
        raise ValueError("sequences of one length have no density of lengths; give the interval yourself")
    pilot = (4 / (3 * count)) ** (2 / 5)
    square = ((lengths[:, None] - lengths) / spread) ** 2 / pilot
    roughness = (np.exp(-square / 2) * (3 - 6 * square + square**2)).mean() / (math.sqrt(2 * math.pi) * pilot**2.5)
    bandwidth = spread * (count * math.sqrt(4 * math.pi) * roughness) ** (-1 / 5)
    x = np.arange(1, int(lengths.max()) + 1)
    density = np.exp(-(((x[:, None] - lengths) / bandwidth) ** 2) / 2).sum(1)
    density /= density.sum()
    peak = low = high = int(density.argmax())
    while density[low : high + 1].sum() < mass and high - low + 1 < len(x):
        if high + 1 == len(x) or (low > 0 and density[low - 1] > density[high + 1]):
            low -= 1
        else:
            high += 1
    return low + 1, high + 1, peak + 1


def normalised_speed(
    times: np.ndarray, failures: np.ndarray, length: int, unit: float, startup: float = 0.0
) -> tuple[float, float]:
    """Frames a second and equivalent filter operations (EFO) of one tracker on one sequence.

    times:    mean seconds a frame of each run `(R,)`, as recorded: frames that were skipped count with what is stored
    failures: of each run `(R,)`; each costs `startup` and 4 frames that are not tracked
    length:   frames of the sequence
    unit:     seconds of the machine's filter operation (`nonlinear_native` of performance.txt: a maximum filter of
              20 x 20 on a 600 x 600 image; the papers say 30 x 30)
    startup:  seconds before each start's first frame, of MATLAB trackers

    Raises ValueError where a time was not measured."""
    times, failures = np.asarray(times, np.float64), np.asarray(failures)
    if not np.isfinite(times).all():
        raise ValueError("times were not measured, as in batched runs: run with one lane, into another results folder")
    tracking = (times * length - startup * (1 + failures)) / (length - (SKIP - 1) * failures)
    return float(1 / times.mean()), float(unit / tracking.mean())


def accuracies_differ(differences: np.ndarray, practical: np.ndarray | None, alpha: float) -> bool:
    """Whether two trackers' overlaps on the same frames differ, by their differences `(T,)`, NaN where one has none.

    Under 25 frames they do; mean differences below the practical one `(T,)` never do."""
    known = ~np.isnan(differences)
    differ = known.sum() < 25 or signed_rank_p(differences[known]) <= alpha
    if practical is None or not differ:
        return bool(differ)
    with np.errstate(invalid="ignore", divide="ignore"):
        return not abs((differences[known] / practical[known]).mean()) < 1


def signed_rank_p(differences: np.ndarray) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test that `(N,)` differences are symmetric about 0.

    Normal approximation with ties and without zeros, as MATLAB's signrank does it for more than 15; 1 without any."""
    differences = differences[differences != 0]
    count = len(differences)
    if not count:
        return 1.0
    ranks, ties = _ranked(np.abs(differences))
    variance = count * (count + 1) * (2 * count + 1) / 24 - ties / 48
    deviation = ranks[differences > 0].sum() - count * (count + 1) / 4
    return math.erfc(abs(deviation) / math.sqrt(2 * variance))


def rank_sum_p(a: np.ndarray, b: np.ndarray) -> float:
    """Two-sided p-value of the rank-sum test that two samples, `(N,)` and `(M,)`, have one distribution.

    Normal approximation with ties and continuity correction, as MATLAB's ranksum does it for more than 10; 1 if all
    values are the same."""
    ranks, ties = _ranked(np.concatenate([a, b]))
    count = len(ranks)
    variance = len(a) * len(b) / 12 * (count + 1 - ties / (count * (count - 1)))
    deviation = ranks[: len(a)].sum() - len(a) * (count + 1) / 2
    if variance <= 0:
        return 1.0
    return math.erfc(max(abs(deviation) - 0.5, 0) / math.sqrt(2 * variance))


def _ranked(values: np.ndarray) -> tuple[np.ndarray, float]:
    """Ranks from 1, equal values their mean; the sum over ties of t^3 - t."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[which], float((counts.astype(np.float64) ** 3 - counts).sum())


def adapted_ranks(values: np.ndarray, differ: np.ndarray) -> np.ndarray:
    """Ranks `(N,)` from 1, smallest value first, each averaged over the trackers that do not `differ` `(N, N)`."""
    ranks = np.argsort(np.argsort(values, kind="stable"), kind="stable") + 1.0
    return np.array([ranks[~row].mean() for row in differ & ~np.eye(len(values), dtype=bool)])


_AR = (
    Measure("accuracy", "accuracy"),
    Measure("failures", "failures", best="low", high=math.inf),
    Measure("robustness", "failure rate", best="low"),
    Measure("reliability", f"reliability (S = {SENSITIVITY})"),
)


@dataclass(frozen=True, eq=False)
class Supervised(Named):
    """One toolkit's definition of accuracy, failures and expected average overlap (EAO).

    interval: lengths that EAO is a mean over, both included; None where the challenge had no EAO
    bounded:  whether EAO's overlap is cut at the image; accuracy's always is
    legacy:   whether the MATLAB toolkit rasterises by its older rule
    family:   the toolkit, for its raster, its fragments and its means: accuracy over all frames and failures summed
              over sequences (matlab, pysot), or both weighted by the lengths of the sequences (python)"""

    name: str
    toolkit: str
    interval: tuple[int, int] | None
    bounded: bool = True
    legacy: bool = False
    family: Literal["matlab", "pysot", "python"] = "matlab"

    @property
    def measures(self) -> tuple[Measure, ...]:
        return (Measure("eao", "EAO"), *_AR) if self.interval else _AR

    def overlaps(self, t: Trajectory, truth: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What accuracy and EAO are means of, both `(T,)`; truth: regions, size: of the images, `(T, 2)`.

        NaN where there is no region. A row of NaN counts as none, too; in pysot-toolkit as one that misses."""
        pysot = self.family == "pysot"
        if self.family == "python":
            rows = np.rint(t.rows.astype(np.float32))
            accuracy = R.raster_overlap(rows, np.rint(truth.astype(np.float32)), size - 1, R.PYTHON)
            accuracy[(np.isfinite(rows).sum(1) == 4) & (rows[:, 2:4] <= 0).any(1)] = 0
            return accuracy, np.nan_to_num(accuracy)
        raster = R.LEGACY if self.legacy else R.TRAX
        a, b = (R.corners(np.round(rows, 4), inset=0) if pysot else R.corners(rows) for rows in (t.rows, truth))
        accuracy = R.polygon_overlap(a, b, size, raster)
        expected = accuracy.copy()
        low, high = np.minimum(a, b).min(1), np.maximum(a, b).max(1)
        cut = ((low < 0) | (high > size.T - 1)).any(0)  # elsewhere bounds do not matter
        last = size[cut] - 1 if self.bounded else None
        expected[cut] = R.polygon_overlap(a[:, :, cut], b[:, :, cut], last, raster)
        if pysot:
            accuracy[(t.codes == REGION) & np.isnan(accuracy)] = expected[(t.codes == REGION) & np.isnan(expected)] = 0
        return accuracy, expected

    def longest(self, runs: Runs) -> int:
        """Up to which length a sequence's runs extend the curve: that of a run; of a fragment in vot-toolkit."""
        cuts = (python_fragments(codes) for codes in runs.codes) if self.family == "python" else ()
        return max((stop - start for cut in cuts for start, stop, _ in cut), default=int(runs.lengths.max()))

    def expected(self, runs: Runs, longest: int, tag: np.ndarray | int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """`expected_overlap` by this toolkit's fragments and weights."""
        cut = {"matlab": matlab_fragments, "pysot": pysot_fragments, "python": python_fragments}[self.family]
        return expected_overlap(runs, cut, longest, self.family != "python", tag)

    def curve(self, sums: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Expected overlap at the lengths 1 ... L, of two sums `(..., L)`: 1 at first, NaN where nothing is known."""
        with np.errstate(invalid="ignore", divide="ignore"):
            curve = sums / weights
        if self.family == "pysot":
            curve[weights == 0] = 0
        curve[..., 0] = self.family != "python"
        return curve

    def eao(self, curve: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Mean of curves `(..., L)` over the interval, `(...)`; lengths that no fragment has are left out.

        vot-toolkit counts lengths from 0, so its interval lies one frame later. Frames of unknown overlap in a run that
        never failed make the curve NaN, and so EAO; pysot-toolkit leaves those lengths out."""
        low, high = self.interval
        among = slice(low, high + 1) if self.family == "python" else slice(low - 1, high)
        curve = curve[..., among]
        known = ~np.isnan(curve) if self.family == "pysot" else weights[..., among] > 0
        with np.errstate(invalid="ignore"):
            return np.where(known, curve, 0).sum(-1) / known.sum(-1)


def _year(year: int, interval: tuple[int, int] | None, name: str = "", **settings) -> Supervised:
    return Supervised(name or f"vot{year}", f"VOT MATLAB toolkit, settings of VOT{year}", interval, **settings)


# The stack of VOT2015 turns the older raster on, and so would toolkit-legacy's defaults for 2018. Yet the report that
# toolkit 7.0 wrote on VOT2018 was made with the newer one: with it every number comes out to the last digit.
SUPERVISED: dict[str, Supervised] = {
    c.name: c
    for c in (
        _year(2013, None, bounded=False, legacy=True),
        _year(2014, None, bounded=False, legacy=True),
        _year(2015, (108, 371), bounded=False, legacy=True),
        _year(2016, (108, 371), legacy=True),
        _year(2017, (100, 356)),
        _year(2018, (100, 356)),
        _year(2018, (100, 356), "vot2018-legacy", legacy=True),
        Supervised("pysot-vot", "pysot-toolkit 8b5ced3b, VOT2018", (100, 356), family="pysot"),
        Supervised("vot-python", "vot-toolkit 0.9.0, vot2018", (100, 356), family="python"),
    )
}
