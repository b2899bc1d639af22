"""Named conventions: each says whose answer a number is.

Toolkits disagree by 2 to 6 AUC points on the same result files. A convention fixes what they disagree about: how odd
rows are repaired and judged (`frames`), the thresholds and how values compare with them (`curves`), the numbers read
off the curves (`measures`) and which frames weigh alike (`pools`). Those of VOT's supervised experiment are in
`bench.supervised`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from ..config import near
from . import metrics
from .metrics import Truth, Values

if TYPE_CHECKING:
    from .supervised import Supervised


@dataclass(frozen=True, eq=False)
class Curve:
    """Share of frames that pass, by threshold."""

    name: str
    of: str  # which per-frame value: "overlap", "error", "relative_error"
    thresholds: np.ndarray
    count: Callable[[np.ndarray, np.ndarray], np.ndarray]  # (values, thresholds) -> how many pass
    label: str  # of the threshold axis


@dataclass(frozen=True)
class Measure:
    """One number, with its direction and range.

    One-pass measures belong to a curve: its mean (the area under it), its value at one threshold, or a mean over frames
    that is shown with it (GOT-10k's AO with the success curve)."""

    name: str
    label: str
    curve: str = ""
    at: int | None = None  # index into the curve's thresholds
    mean_of: str = ""  # the per-frame value, where it is a mean over frames
    best: Literal["high", "low"] = "high"
    low: float = 0.0
    high: float = 1.0

    def of(self, curve: np.ndarray) -> float:
        return float(curve.mean() if self.at is None else curve[self.at])


class Named:
    """What conventions have in common: a name, and measures to be found by theirs."""

    name: str
    measures: tuple[Measure, ...]

    def __str__(self) -> str:
        return self.name

    def measure(self, name: str | None = None) -> Measure:
        """A measure by name, the first by default. Raises ValueError that names the near ones."""
        named = {m.name: m for m in self.measures}
        if name and name not in named:
            raise ValueError(f"{self.name} has no measure {name!r}{near(name, named)}; it has {', '.join(named)}")
        return named[name] if name else self.measures[0]


@dataclass(frozen=True, eq=False)
class Convention(Named):
    """A benchmark's definition of its one-pass numbers.

    frames:  (result `(R, 4)`, Truth), in the benchmark's own coordinates, to named per-frame values
    pools:   which frames weigh alike: those of one run (runs, then sequences are averaged), those of all runs of a
             sequence (OTB, by its TRE; sequences are averaged), or all
    bounded: boxes are cut at the image, whose size must be known"""

    name: str
    toolkit: str  # whose answer it gives
    frames: Callable[[np.ndarray, Truth], Values]
    curves: tuple[Curve, ...]
    measures: tuple[Measure, ...]
    pools: Literal["run", "sequence", "all"] = "sequence"
    bounded: bool = False

    def tally(self, result: np.ndarray, truth: Truth | np.ndarray) -> tuple[int, Values]:
        """How many frames are judged, and for each curve how many of them pass each threshold, `(K,)` int.

        Values whose mean is a measure are beside the curves, under their own name: their sum over frames, `(1,)`."""
        values = self.frames(result, truth if isinstance(truth, Truth) else Truth(truth))
        sums = {c.name: c.count(values[c.of], c.thresholds) for c in self.curves}
        sums |= {m.mean_of: np.nansum(values[m.mean_of], keepdims=True) for m in self.measures if m.mean_of}
        return len(values["overlap"]), sums

    def score(self, result: np.ndarray, truth: Truth | np.ndarray) -> Values:
        """The same as shares of the judged frames."""
        frames, sums = self.tally(result, truth)
        return {name: counts / frames for name, counts in sums.items()}

    def measured(self, curves: Values) -> dict[str, float]:
        """Every measure, of one sequence's curves or of a mean curve."""
        return {m.name: m.of(curves[m.mean_of or m.curve]) for m in self.measures}

    def curve(self, name: str) -> Curve:
        return next(c for c in self.curves if c.name == name)


# The 21 doubles of MATLAB's 0:0.05:1 in GNU Octave; k / 20 differs from them at k = 3, 6, 7, 12, 14, 17 and 19.
_SUCCESS = Curve("success", "overlap", np.linspace(0, 1, 21), metrics.count_above, "overlap threshold")
_PRECISION = Curve("precision", "error", np.arange(51.0), metrics.count_within, "location error threshold (pixels)")
_TARGET_SIZES = "location error threshold (target sizes)"
_RELATIVE = Curve("normalized_precision", "relative_error", np.arange(51) / 100, metrics.count_within, _TARGET_SIZES)
_GOT10K = replace(_SUCCESS, thresholds=np.linspace(0, 1, 101))
_ROLO = replace(_SUCCESS, thresholds=np.arange(0, 100, 5) / 100 + 1e-4, count=metrics.count_reaching)
_ROLO_DRAWN = replace(_ROLO, thresholds=np.append(_ROLO.thresholds, 1.0), count=metrics.count_reaching_but_the_last)

_OTB_MEASURES = (
    Measure("success_auc", "AUC", "success"),
    Measure("precision_20", "precision at 20 px", "precision", at=20),
    Measure("success_50", "success at 0.5", "success", at=10),
)
_AREAS = (_OTB_MEASURES[0], Measure("precision_auc", "precision AUC", "precision"), _OTB_MEASURES[1])
_PYSOT_MEASURES = (*_OTB_MEASURES, Measure("normalized_precision_20", "normalised precision", _RELATIVE.name, at=20))
_GOT10K_MEASURES = (
    Measure("ao", "AO", "success", mean_of="overlap"),
    Measure("sr_50", "SR0.5", "success", at=50),
    Measure("sr_75", "SR0.75", "success", at=75),
)
_ROLO_MEASURES = (_OTB_MEASURES[0], Measure("average_overlap", "AOS", "success", mean_of="overlap"))
_EXPERIMENT = "got10k toolkit 0.1.3, Experiment"


def _otb(name: str, toolkit: str, frames: Callable[[np.ndarray, Truth], Values]) -> Convention:
    return Convention(name, toolkit, frames, (_SUCCESS, _PRECISION), _OTB_MEASURES)


def _rolo(name: str, toolkit: str, curve: Curve) -> Convention:
    return Convention(name, toolkit, metrics.rolo_frames, (curve,), _ROLO_MEASURES, pools="run")


CONVENTIONS: dict[str, Convention] = {
    c.name: c
    for c in (
        _otb("otb", "OTB MATLAB toolkit v1.0", metrics.otb_frames),
        _otb("otb-rescaled", "OTB MATLAB toolkit v1.0, SRE boxes rescaled (rstEval)", metrics.otb_rescaled_frames),
        _otb("uav", "UAV123 MATLAB code, that of OTB v1.0", metrics.otb_frames),
        _otb("got10k-otb", f"{_EXPERIMENT}OTB", metrics.got10k_otb_frames),
        _otb("got10k-uav", f"{_EXPERIMENT}UAV123", metrics.got10k_uav_frames),
        Convention(
            "got10k", f"{_EXPERIMENT}GOT10k", metrics.got10k_frames, (_GOT10K,), _GOT10K_MEASURES, "all", bounded=True
        ),
        Convention(
            "pysot", "pysot-toolkit 8b5ced3b", metrics.pysot_frames, (_SUCCESS, _PRECISION, _RELATIVE), _PYSOT_MEASURES
        ),
        Convention(
            "siamemory", "OTB MATLAB toolkit v1.0, both areas", metrics.otb_frames, (_SUCCESS, _PRECISION), _AREAS
        ),
        _rolo("rolo", "ROLO_evaluation.py", _ROLO),
        _rolo("rolo-drawn", "ROLO_evaluation.py, the curve as drawn", _ROLO_DRAWN),
    )
}


def convention_named(name: str) -> Convention | Supervised:
    """A convention by name; an unknown one is a ValueError that names the near ones."""
    from .supervised import SUPERVISED

    known = CONVENTIONS | SUPERVISED
    if name not in known:
        raise ValueError(f"no convention is called {name!r}{near(name, known)}")
    return known[name]


def convention_for(protocol: str, dataset: str, name: str | None = None) -> str:
    """The convention that results of a protocol on a dataset are scored by: `name` where one is given, else the
    benchmark's own, VOT2015's and OTB's where it has none.

    Raises ValueError for an unknown name, and for one that does not fit the protocol."""
    from .supervised import SUPERVISED

    supervised = protocol == "supervised"
    fit = SUPERVISED if supervised else CONVENTIONS
    if name is None:
        family = dataset.partition("-")[0].removesuffix("20l").removesuffix("123")
        return family if family in fit else ("vot2015" if supervised else "otb")
    if convention_named(name).name not in fit:
        raise ValueError(f"convention {name} is not for the protocol {protocol}; for it there are: {', '.join(fit)}")
    return name
