"""Named conventions: each says whose answer a number is.

Toolkits disagree by 2 to 6 AUC points on the same result files. A convention fixes what they disagree about: how odd
rows are repaired and judged (`frames`), the thresholds and how values compare with them (`curves`), and the numbers
read off the curves (`measures`). Every table and figure prints the convention it was made by.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..config import near
from . import metrics

# The 21 doubles of MATLAB's 0:0.05:1 in GNU Octave; k / 20 differs from them at k = 3, 6, 7, 12, 14, 17 and 19.
_OVERLAPS = np.linspace(0, 1, 21)
_PIXELS = np.arange(51.0)


@dataclass(frozen=True, eq=False)
class Curve:
    """Share of frames that pass, by threshold."""

    name: str
    of: str  # "overlap" or "error"
    thresholds: np.ndarray
    count: Callable[[np.ndarray, np.ndarray], np.ndarray]  # (values, thresholds) -> how many pass
    label: str  # of the threshold axis


@dataclass(frozen=True)
class Measure:
    """One number of a curve: its mean (the area under it), or its value at one threshold. From 0 to 1, best at 1."""

    name: str
    curve: str
    label: str
    at: int | None = None  # index into the curve's thresholds

    def of(self, curve: np.ndarray) -> float:
        return float(curve.mean() if self.at is None else curve[self.at])


@dataclass(frozen=True, eq=False)
class Convention:
    """A benchmark's definition of its numbers.

    frames: (result, truth), both `(T, 4)` in the benchmark's own coordinates, to per-frame overlap and error `(T,)`."""

    name: str
    toolkit: str  # whose answer it gives
    frames: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
    curves: tuple[Curve, ...]
    measures: tuple[Measure, ...]

    def __str__(self) -> str:
        return self.name

    def counts(self, result: np.ndarray, truth: np.ndarray) -> dict[str, np.ndarray]:
        """For each curve, how many of the T frames pass each threshold, `(K,)` int."""
        values = dict(zip(("overlap", "error"), self.frames(result, truth), strict=True))
        return {c.name: c.count(values[c.of], c.thresholds) for c in self.curves}

    def score(self, result: np.ndarray, truth: np.ndarray) -> dict[str, np.ndarray]:
        """For each curve, the share of the T frames that pass each threshold, `(K,)`."""
        return {name: counts / len(truth) for name, counts in self.counts(result, truth).items()}

    def measured(self, curves: dict[str, np.ndarray]) -> dict[str, float]:
        """Every measure, of one sequence's curves or of a mean curve."""
        return {m.name: m.of(curves[m.curve]) for m in self.measures}

    def curve(self, name: str) -> Curve:
        return next(c for c in self.curves if c.name == name)

    def measure(self, name: str) -> Measure:
        return next(m for m in self.measures if m.name == name)


CONVENTIONS: dict[str, Convention] = {
    "otb": Convention(
        name="otb",
        toolkit="OTB MATLAB toolkit v1.0",
        frames=metrics.otb_frames,
        curves=(
            Curve("success", "overlap", _OVERLAPS, metrics.count_above, "overlap threshold"),
            Curve("precision", "error", _PIXELS, metrics.count_within, "location error threshold (pixels)"),
        ),
        measures=(
            Measure("success_auc", "success", "AUC"),
            Measure("precision_20", "precision", "precision at 20 px", at=20),
            Measure("success_50", "success", "success at 0.5", at=10),
        ),
    ),
}


def convention_named(name: str) -> Convention:
    """A convention by name; an unknown one is a ValueError that names the near ones."""
    if name not in CONVENTIONS:
        raise ValueError(f"no convention is called {name!r}{near(name, CONVENTIONS)}")
    return CONVENTIONS[name]
