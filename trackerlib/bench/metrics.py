"""One-pass metrics as pure functions on arrays, vectorised over frames, float64.

Boxes are rows `x, y, w, h` in the benchmark's own coordinates (OTB: 1-based), odd rows included: which are repaired,
which count and how is part of each official definition, named here by the toolkit that fixed it. float32 would miss the
official integer counts; so would reordered arithmetic where values lie on a threshold.

A `*_frames` function takes a result `(R, 4)` and the `Truth` of its T frames to named values, one a judged frame: at
least `overlap` and, where the toolkit has it, `error`. Inside, boxes are columns `(4, T)`: three times as fast as rows.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .raster import matlab_round

INVALID = -1.0  # MATLAB and pysot: overlap and error of a frame whose annotation is invalid; a miss, and yet a hit
EPS = np.finfo(np.float64).eps

Values = dict[str, np.ndarray]
quiet = np.errstate(divide="ignore", invalid="ignore")


@dataclass(frozen=True, eq=False)
class Truth:
    """The annotation that a run is judged by.

    rows:   `(T, 4)` as the benchmark's file has them
    absent: `(T,)` True where the target is not in view, None: not annotated
    size:   width and height of the images, for conventions that cut boxes at the border
    scale:  of SRE's first box to the annotated one (0.8 for `scale_8`, 1 for a shift); None: the run is no SRE run"""

    rows: np.ndarray
    absent: np.ndarray | None = None
    size: tuple[int, int] | None = None
    scale: float | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def cut(self, first: int, last: int, scale: float | None = None) -> Truth:
        """Of a run over the frames `first .. last`, both included."""
        absent = None if self.absent is None else self.absent[first : last + 1]
        return Truth(self.rows[first : last + 1], absent, self.size, scale)

    @cached_property
    def columns(self) -> np.ndarray:
        return _columns(self.rows)

    @cached_property
    def invalid(self) -> np.ndarray:
        """Frames whose four numbers are not all above zero, `(T,)`: MATLAB's test of an annotation."""
        return ~(self.columns > 0).all(0)


def _columns(rows: np.ndarray) -> np.ndarray:
    return np.array(np.transpose(rows), np.float64, order="C")  # a copy: callers may write to it


@quiet
def otb_frames(result: np.ndarray, truth: Truth) -> Values:
    """Overlap and centre error of each frame by calcSeqErrRobust.m of the OTB toolkit v1.0.

    Rows beyond T are ignored, too few are a ValueError (an index out of bounds there). A frame whose annotation is not
    four positive numbers gets -1 for both: a miss in success and a hit in precision."""
    if len(result) < len(truth):
        raise ValueError(f"{len(result)} result rows for {len(truth)} annotated frames")
    result = otb_repaired(_columns(result[: len(truth)]), truth.columns)
    overlap, error = otb_overlap(result, truth.columns), centre_error(result, truth.columns)
    overlap[truth.invalid] = error[truth.invalid] = INVALID
    return {"overlap": overlap, "error": error}


def otb_repaired(result: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """A result as calcSeqErrRobust.m prepares it, columns `(4, T)`.

    From the second frame on, a row that is all NaN or has w or h <= 0 becomes the previous row, itself already repaired
    (the first as it stands), wherever the annotation has no NaN; a row with a single NaN stays. Then the first row
    becomes the annotation's."""
    repaired = result
    if not (result[2:] > 0).all():
        bad = (np.isnan(result) | (result[2:] <= 0).any(0)).all(0) & ~np.isnan(truth).any(0)
        bad[0] = False
        repaired = result[:, np.maximum.accumulate(np.where(bad, 0, np.arange(bad.size)))]
    repaired[:, 0] = truth[:, 0]
    return repaired


@quiet
def otb_overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union `(T,)` of columns `(4, T)` in the arithmetic order of calcRectInt.m.

    The toolkit's inclusive corners (`- 1 ... + 1`) cancel: this is the continuous IoU. As in MATLAB, min and max pass
    over NaN, so a box with only x missing still overlaps."""
    last = np.fmin(a[:2] + a[2:] - 1, b[:2] + b[2:] - 1)
    sides = np.fmax(0, last - np.fmax(a[:2], b[:2]) + 1)
    shared = sides[0] * sides[1]
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def centre_error(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Distance `(T,)` of the centres of columns `(4, T)`; NaN where a coordinate is NaN."""
    return _distance(_centre(a), _centre(b))


def _centre(box: np.ndarray) -> np.ndarray:
    """OTB's `x + (w - 1) / 2`."""
    return box[:2] + (box[2:] - 1) / 2


def _distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    squares = (a - b) ** 2
    return np.sqrt(squares[0] + squares[1])


def otb_rescaled_frames(result: np.ndarray, truth: Truth) -> Values:
    """As `otb_frames`, after the rescaling that rstEval/calcSeqErrRobust.m applies to SRE results alone.

    Sizes are divided by the scale of the run's first box, the corner is put half the new size from the old centre, and
    all is rounded half away from zero; so it is for shifted runs, whose scale is 1. (util/calcSeqErrRobust.m, by which
    the published SRE curves were made, does not rescale.)"""
    if truth.scale is not None:
        sizes = result[:, 2:] / truth.scale
        centres = result[:, :2] + (result[:, 2:] - 1) / 2
        result = matlab_round(np.hstack([centres - sizes / 2, sizes]))  # - (sizes - 1) / 2 would give the box back
    return otb_frames(result, truth)


@quiet
def plain_overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union `(T,)` of columns `(4, T)` as got10k and pysot-toolkit compute it.

    NaN wherever a coordinate is; 0 for two empty boxes (got10k's eps, lost beside any real area)."""
    sides = np.maximum(np.minimum(a[:2] + a[2:], b[:2] + b[2:]) - np.maximum(a[:2], b[:2]), 0)
    shared = sides[0] * sides[1]
    return np.minimum(np.maximum(shared / (a[2] * a[3] + b[2] * b[3] - shared + EPS), 0), 1)


def _same_length(result: np.ndarray, truth: Truth) -> np.ndarray:
    """Columns of a result that must have a row for each annotated frame."""
    if len(result) != len(truth):
        raise ValueError(f"{len(result)} result rows for {len(truth)} annotated frames")
    return _columns(result)


@quiet
def pysot_frames(result: np.ndarray, truth: Truth) -> Values:
    """Overlap, centre error and error relative to the annotated size, of each frame, by pysot-toolkit.

    No row is repaired, and the first one counts as the tracker wrote it. Overlap is judged where the annotation's four
    numbers are positive, an error where the annotated centre is (in pixels, or in target sizes); elsewhere they are -1.
    """
    ours, true = _same_length(result, truth), truth.columns
    size = true[2:] + 1e-16
    centres, relative = (_centre(ours), _centre(true)), (_centre(ours) / size, _centre(true) / size)
    return {
        "overlap": np.where(truth.invalid, INVALID, plain_overlap(ours, true)),
        "error": np.where((centres[1] > 0).all(0), _distance(*centres), INVALID),
        "relative_error": np.where((relative[1] > 0).all(0), _distance(*relative), INVALID),
    }


def got10k_otb_frames(result: np.ndarray, truth: Truth) -> Values:
    """Overlap and centre error of each frame by ExperimentOTB of the got10k toolkit (0.1.3).

    The first row becomes the annotation's; no row is repaired and every frame counts. NaN is a miss twice. (A result of
    another length is a ValueError in 0.1.3, too; the toolkit's git version cuts both to the shorter.)"""
    ours = _same_length(result, truth)
    ours[:, 0] = truth.columns[:, 0]
    return {"overlap": plain_overlap(ours, truth.columns), "error": centre_error(ours, truth.columns)}


def got10k_uav_frames(result: np.ndarray, truth: Truth) -> Values:
    """As `got10k_otb_frames`, by the toolkit's ExperimentUAV123: frames whose annotation has a NaN are left out."""
    seen = ~np.isnan(truth.columns).any(0)
    return {name: values[seen] for name, values in got10k_otb_frames(result, truth).items()}


def got10k_frames(result: np.ndarray, truth: Truth) -> Values:
    """Overlap by ExperimentGOT10k of the got10k toolkit: of the frames from the second on in which the target is seen.

    Both boxes are cut at the image (see `got10k_cut`), hence `truth.size` is needed."""
    ours = _same_length(result, truth)
    overlap = plain_overlap(got10k_cut(ours, truth.size), got10k_cut(truth.columns, truth.size))[1:]
    return {"overlap": overlap if truth.absent is None else overlap[~truth.absent[1:]]}


def got10k_cut(box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Columns `(4, T)` cut at an image of W, H = size as `rect_iou(bound=...)` does: a negative x moves to 0 and the
    width stays, so what is cut there is not lost."""
    bound = np.array(size, np.float64)[:, None]
    corner = np.minimum(np.maximum(box[:2], 0), bound)
    return np.concatenate([corner, np.minimum(np.maximum(box[2:], 0), bound - corner)])


@quiet
def rolo_frames(result: np.ndarray, truth: Truth) -> Values:
    """Overlap by `iou` of ROLO's ROLO_utils.py, of every frame, the first as the tracker wrote it.

    NaN becomes 0 and numbers lose their fraction. x and y, the corner, are taken for the centre: this is not the IoU of
    the two boxes unless they are concentric. (Two empty boxes stop the script; here they do not overlap.)"""
    a, b = (np.trunc(np.nan_to_num(box, nan=0.0)) for box in (_same_length(result, truth), truth.columns))
    reach = np.minimum(a[:2] + 0.5 * a[2:], b[:2] + 0.5 * b[2:])
    sides = np.maximum(reach - np.maximum(a[:2] - 0.5 * a[2:], b[:2] - 0.5 * b[2:]), 0)
    shared = sides[0] * sides[1]
    union = a[2] * a[3] + b[2] * b[3] - shared
    return {"overlap": np.divide(shared, union, out=np.zeros_like(union), where=union != 0)}


def count_within(values: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """How many values are <= each threshold, `(K,)` int. NaN is on neither side, here and below."""
    return np.searchsorted(np.sort(values), thresholds, side="right")


def count_above(values: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """How many values are > each threshold, `(K,)` int."""
    return np.count_nonzero(values == values) - count_within(values, thresholds)


def count_reaching(values: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """How many values are >= each threshold, `(K,)` int."""
    return np.count_nonzero(values == values) - np.searchsorted(np.sort(values), thresholds, side="left")


def count_reaching_but_the_last(values: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """As `count_reaching`, but 0 at the last threshold: ROLO appends it to draw the curve to the axis."""
    return np.append(count_reaching(values, thresholds[:-1]), 0)


def verdict(low: float, high: float, n: int, fewest: int = 6) -> str:
    """Of a difference over n sequences whose 95 % interval is `low` to `high`: "holds" if all of it lies above zero,
    "fails" if all lies below, else "undecided"; undecided too with fewer than six sequences, of which no sign-flip test
    could come below 0.05, and without an interval."""
    if n < fewest or not np.isfinite([low, high]).all():
        return "undecided"
    return "holds" if low > 0 else "fails" if high < 0 else "undecided"


def bootstrap_interval(
    values: np.ndarray, rng: np.random.Generator, samples: int = 5000, weights: np.ndarray | None = None
) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the (weighted) mean of `(N,)` values, one a sequence; NaN for fewer than 2.

    Sequences are what a benchmark samples; frames of one sequence are no independent draws."""
    if len(values) < 2:
        return np.nan, np.nan
    drawn = rng.integers(len(values), size=(samples, len(values)))
    weights = np.ones(len(values)) if weights is None else weights
    means = (weights * values)[drawn].sum(1) / weights[drawn].sum(1)
    low, high = np.quantile(means, [(1 - 0.95) / 2, (1 + 0.95) / 2])
    return float(low), float(high)


def sign_flip_p(
    differences: np.ndarray, rng: np.random.Generator, samples: int = 10000, weights: np.ndarray | None = None
) -> float:
    """Two-sided p-value of the paired permutation test that `(N,)` differences, one a sequence, are symmetric about 0:
    their (weighted) mean among those of all signs, or of `samples` draws of random signs where there are more."""
    terms = differences if weights is None else weights * differences
    every = 2 ** len(terms) <= samples
    drawn = (
        itertools.product([-1.0, 1.0], repeat=len(terms)) if every else rng.choice([-1.0, 1.0], (samples, len(terms)))
    )
    totals = np.abs(np.array(list(drawn)) @ terms)
    as_large = (totals >= abs(terms.sum()) - 1e-12 * np.abs(terms).sum()).sum()
    return float(as_large / len(totals) if every else (1 + as_large) / (1 + samples))
