"""Benchmark metrics as pure functions on arrays, vectorised over frames, float64.

Boxes are rows `x, y, w, h` in the benchmark's own coordinates (OTB: 1-based), NaN and other odd rows included: which
rows are repaired, which count and how is part of each official definition, and named here by the toolkit that fixed it.
float32 would miss the official integer counts; so would reordered arithmetic where values lie on a threshold.
"""

from __future__ import annotations

import numpy as np

INVALID = -1.0  # OTB: overlap and error of a frame whose annotation is invalid; a miss, and yet a hit


def otb_overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union `(T,)` in the arithmetic order of calcRectInt.m.

    The toolkit's inclusive corners (`- 1 ... + 1`) cancel: this is the continuous IoU. As in MATLAB, min and max pass
    over NaN, so a box with only x missing still overlaps."""
    shared = 1.0
    for axis in (0, 1):
        last = np.fmin(a[:, axis] + a[:, axis + 2] - 1, b[:, axis] + b[:, axis + 2] - 1)
        shared = shared * np.fmax(0, last - np.fmax(a[:, axis], b[:, axis]) + 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return shared / (a[:, 2] * a[:, 3] + b[:, 2] * b[:, 3] - shared)


def otb_centre_error(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Distance of the centres `x + (w - 1) / 2` in pixels, `(T,)`; NaN where a coordinate is NaN."""
    centres = [box[:, :2] + (box[:, 2:] - 1) / 2 for box in (a, b)]
    return np.sqrt(((centres[0] - centres[1]) ** 2).sum(1))


def otb_repaired(result: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """A result as calcSeqErrRobust.m prepares it: `(T, 4)`.

    From the second frame on, a row that is all NaN or has w or h <= 0 becomes the previous row, itself already repaired
    (the first as it stands), wherever the annotation has no NaN; a row with a single NaN stays. Then the first row
    becomes the annotation's."""
    with np.errstate(invalid="ignore"):
        bad = (np.isnan(result) | (result[:, 2:] <= 0).any(1, keepdims=True)).all(1) & ~np.isnan(truth).any(1)
    bad[0] = False
    source = np.maximum.accumulate(np.where(bad, 0, np.arange(len(result))))
    repaired = result[source]
    repaired[0] = truth[0]
    return repaired


def otb_frames(result: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Overlap and centre error of each frame, both `(T,)`, by calcSeqErrRobust.m of the OTB toolkit v1.0.

    result `(R, 4)`, truth `(T, 4)`, 1-based. Rows of the result beyond T are ignored, too few are a ValueError (the
    toolkit stops with an index out of bounds). A frame whose annotation is not four positive numbers gets -1 for both,
    hence is a miss in success and a hit in precision."""
    if len(result) < len(truth):
        raise ValueError(f"{len(result)} result rows for {len(truth)} annotated frames")
    result = otb_repaired(result[: len(truth)], truth)
    with np.errstate(invalid="ignore"):
        valid = (truth > 0).all(1)
    overlap = np.where(valid, otb_overlap(result, truth), INVALID)
    return overlap, np.where(valid, otb_centre_error(result, truth), INVALID)


def count_above(values: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """How many values are > each threshold, `(K,)` int; NaN is above nothing."""
    values = np.sort(values[~np.isnan(values)])
    return len(values) - np.searchsorted(values, thresholds, side="right")


def count_within(values: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """How many values are <= each threshold, `(K,)` int; NaN is within nothing."""
    return np.searchsorted(np.sort(values[~np.isnan(values)]), thresholds, side="right")


def bootstrap_interval(
    values: np.ndarray, rng: np.random.Generator, samples: int = 5000, level: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of `(N,)` values, one a sequence; NaN for fewer than two.

    Sequences are what a benchmark samples; frames of one sequence are no independent draws."""
    if len(values) < 2:
        return np.nan, np.nan
    means = values[rng.integers(len(values), size=(samples, len(values)))].mean(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
