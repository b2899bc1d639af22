"""Figures: success and precision plots, overlap over time, learning curves, training pairs, snapshots.

(Trackers compared by attribute, by accuracy and robustness, by EAO and by speed: `show.benchmarks`.)

Each function returns a `Plot`, or given `ax` draws there and returns that axes' figure. No pyplot: nothing is kept
alive or shown behind the caller's back. Colours are told apart by the colour-blind, line styles in grey prints. A
figure is as wide as a printed column, or as the text of a page, its smallest letters 5.5 points high. Every benchmark
figure states its convention and its data.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import cv2
import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.transforms import ScaledTranslation

from .. import boxes as B
from ..provenance import write_bytes
from .tables import capital, data_name, ranked, stated, tracker_labels

if TYPE_CHECKING:
    from ..bench.conventions import Curve, Measure
    from ..bench.score import Scores
    from .tables import AnyScores

COLUMN, PAGE = 3.3, 6.9  # inches: a column and the text's width of a two-column paper

# Okabe and Ito's palette without yellow, which vanishes on white paper.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#000000")
STYLES = ("-", "--", "-.", (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", "p", ">", "h", "*")
TRUTH = "#FFFFFF"  # ground truth: dashed white on a dark edge, visible on any frame

_PRINT = {"pdf.fonttype": 42, "ps.fonttype": 42, "svg.fonttype": "none"}  # text stays text in vector files
_LOGGED = {"epoch", "step", "samples", "lr", "loss", "samples_per_second"}
DASHES = (0, (3, 2))
RESPONSE_SPAN = 17 * 8 / 255  # of the searched side, SiamFC's response: 17 cells of stride 8 on 255 pixels
_EDGE = withStroke(linewidth=3.5, foreground="#00000099")


class Plot(Figure):
    """A figure that displays in every notebook front end, whatever matplotlib's backend: as PNG, or as JPEG when it is
    made of photographs, so that an executed notebook stays small. Width and height in inches."""

    def __init__(self, width: float, height: float, photographs: bool = False):
        super().__init__(figsize=(width, height), layout="constrained")
        self.photographs = photographs

    def _repr_png_(self) -> bytes | None:
        return None if self.photographs else self._encoded("png", dpi=160)

    def _repr_jpeg_(self) -> bytes | None:
        return self._encoded("jpeg", dpi=110) if self.photographs else None

    def save(self, path: str | Path) -> Path:
        """Write the figure, whole or not at all, in the format of the suffix (.pdf and .svg are vectors)."""
        path = Path(path)
        with matplotlib.rc_context(_PRINT):
            write_bytes(path, self._encoded(path.suffix.lstrip("."), dpi=160))
        return path

    def _encoded(self, format: str, dpi: int) -> bytes:
        buffer = io.BytesIO()
        undated = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}  # the same figure gives the same bytes
        self.savefig(buffer, format=format, dpi=dpi, metadata=undated.get(format))
        return buffer.getvalue()


def colour(index: int) -> str:
    """The colour of the tracker that stands at `index` among those shown together."""
    return COLOURS[index % len(COLOURS)]


def look(index: int, of: int = 1) -> dict[str, Any]:
    """Colour and line style of the tracker at `index` among those shown together, `of` them. Where they are more than
    there are styles, sparse markers too: grey prints still tell them apart."""
    style = {"color": colour(index), "linestyle": STYLES[index % len(STYLES)]}
    if of <= len(STYLES):
        return style
    return style | {"marker": MARKERS[index % len(MARKERS)], "markersize": 3, "markevery": (0.02 * (index % 8), 0.16)}


def canvas(ax: Axes | None, height: float, lines: int = 0) -> tuple[Figure, Axes]:
    """The axes given, or those of a new figure as wide as a column, with room below for a legend of so many lines."""
    if ax is not None:
        return ax.figure, ax
    figure = Plot(COLUMN, height + 0.135 * lines)
    return figure, figure.subplots()


def dress(ax: Axes, title: str, statement: str, xlabel: str, ylabel: str) -> None:
    """Title, what the numbers are (by whose rules, on which data), names of the axes, a quiet grid."""
    small = in_lines(statement)
    ax.set_title(title, fontsize=9, pad=6 + 8 * (1 + small.count("\n")))
    place = {"xycoords": "axes fraction", "xytext": (0, 4), "textcoords": "offset points"}
    ax.annotate(small, (0.5, 1), **place, ha="center", va="bottom", fontsize=6, color="0.35")
    ax.set_xlabel(xlabel, fontsize=8)
    ax.set_ylabel(ylabel, fontsize=8)
    ax.tick_params(labelsize=7)
    ax.grid(color="0.9", linewidth=0.6)
    ax.set_axisbelow(True)


def in_lines(statement: str, width: int = 70) -> str:
    """A statement of two parts, `rules; data`, in as few lines as its width allows, each part in its own."""
    parts = [statement] if len(statement) <= width else statement.split("; ")
    return "\n".join(fill(part, width) for part in parts)


def legend_below(ax: Axes, handles: Sequence[Any], title: str) -> None:
    """A legend under the axes, where it hides no curve, 30 points down: ticks and the axis' name stand between."""
    below = ax.transAxes + ScaledTranslation(0, -30 / 72, ax.figure.dpi_scale_trans)
    style = {"fontsize": 7, "title_fontsize": 7, "handlelength": 3.2, "labelspacing": 0.35, "borderpad": 0}
    place = {"loc": "upper center", "bbox_to_anchor": (0.5, 0), "bbox_transform": below, "frameon": False}
    ax.legend(handles=handles, title=title, **place, **style)


def shortened(names: Mapping[str, str], most: int = 32) -> dict[str, str]:
    """Labels that fit a column: what is too long loses its middle, unless two would look the same then."""
    half = (most - 1) // 2
    short = {key: name if len(name) <= most else f"{name[:half]}…{name[-half:]}" for key, name in names.items()}
    return short if len(set(short.values())) == len(short) else dict(names)


def labels_of(scores: AnyScores) -> dict[str, str]:
    """The trackers' names, as they stand in a legend."""
    return shortened(tracker_labels(scores.trackers))


def success_plot(scores: Scores, ax: Axes | None = None, title: str = "Success plots", bands: bool = True) -> Figure:
    """Share of frames whose overlap exceeds each threshold, ranked by the area under the curve (AUC).

    A curve is the mean over sequences (Wu et al., CVPR 2013; under the got10k convention GOT-10k's plot, ranked by AO);
    bands, and brackets in the legend, are 95 % bootstrap intervals over sequences. Trackers whose weights saw some of
    them in training also have their figure without those in the legend ("unseen")."""
    return curve_plot(scores, "success", ax, title, bands)


def precision_plot(
    scores: Scores, ax: Axes | None = None, title: str = "Precision plots", bands: bool = True
) -> Figure:
    """Share of frames whose centre error is within each threshold, ranked by the value at 20 pixels; else as
    `success_plot`."""
    return curve_plot(scores, "precision", ax, title, bands)


def curve_plot(scores: Scores, name: str, ax: Axes | None = None, title: str = "", bands: bool = True) -> Figure:
    """Any curve of the scores' convention (`success`, `precision`, `normalized_precision`), as `success_plot`.

    Colour and style follow a tracker's place in `scores`, and so agree between plots. Raises ValueError for a curve
    that the convention does not have."""
    curve, measure = curve_of(scores, name)
    numbers = scores.summary().query("metric == @measure.name").set_index("tracker")
    names = labels_of(scores)
    figure, ax = canvas(ax, 2.9, len(names))
    lines = {}
    for i, tracker in enumerate(scores.trackers):
        if bands:
            low, high = _band(*_sampled(scores, tracker, name))
            ax.fill_between(curve.thresholds, low, high, color=colour(i), alpha=0.13, linewidth=0)
        label = f"{names[tracker]}  {_with_interval(numbers.loc[tracker])}"
        mean = scores.mean_curve(tracker, name)
        (lines[tracker],) = ax.plot(curve.thresholds, mean, linewidth=1.4, label=label, **look(i, len(names)))
    if measure.at is not None:
        ax.axvline(curve.thresholds[measure.at], color="0.6", linewidth=0.8, linestyle=":", zorder=0)
    ax.set(ylim=(0, 1), xlim=(curve.thresholds[0], curve.thresholds[-1]))
    what = capital(name.replace("_", " "))
    dress(ax, title or f"{what} plots", stated(scores), capital(curve.label), fill(f"{what} (share of frames)", 28))
    interval = " [95 % interval]" if numbers.low.notna().any() else ""
    legend_below(ax, [lines[tracker] for tracker in ranked(scores, measure.name)], measure.label + interval)
    return figure


def curve_of(scores: Scores, name: str) -> tuple[Curve, Measure]:
    """A curve of the convention, and the measure that ranks it: the first that belongs to it."""
    known = {curve.name: curve for curve in scores.convention.curves}
    if name not in known:
        raise ValueError(f"the {scores.convention.name} convention has no {name} curve; it has: {', '.join(known)}")
    return known[name], next(m for m in scores.convention.measures if m.curve == name)


def _with_interval(row: pd.Series) -> str:
    text = f"{row['mean']:.3f}"
    if np.isfinite(row["low"]):
        text += f" [{row['low']:.3f}, {row['high']:.3f}]"
    if not row["seen"]:
        return text
    return text + (f", unseen {row['mean_unseen']:.3f}" if np.isfinite(row["mean_unseen"]) else ", all trained on")


def _sampled(scores: Scores, tracker: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    """A curve of each sequence `(N, K)`, and what the sequence weighs in their mean, `(N,)`."""
    curves, pooled = scores.curves[tracker], scores.convention.pools == "all"
    weights = [scores.frames[tracker][sequence] if pooled else 1 for sequence in curves]
    return np.stack([of[name] for of in curves.values()]), np.array(weights, np.float64)


def _band(curves: np.ndarray, weights: np.ndarray, draws: int = 1000) -> np.ndarray:
    """Pointwise 95 % bootstrap interval `(2, K)` of the weighted mean of curves `(N, K)`, one a sequence."""
    n = len(curves)
    drawn = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), draws) * weights  # how much of each
    return np.percentile(drawn @ curves / drawn.sum(1, keepdims=True), (2.5, 97.5), axis=0)


def learning_curve(log: pd.DataFrame | Iterable[Mapping[str, Any]], title: str = "Learning curve") -> Figure:
    """Loss, learning rate and each number the validation gave, over the training pairs seen; log: what
    `training.loop.fit` returns and `read_log` reads, a row an epoch."""
    rows = pd.DataFrame(log)
    if missing := {"samples", "loss", "lr"} - set(rows.columns):
        raise ValueError(f"the training log lacks {', '.join(sorted(missing))}: give the log that fit returned")
    validated = [name for name in rows.columns if name not in _LOGGED]
    panels = ["loss", *validated, "lr"]
    figure = Plot(6.4, 1.2 + 1.7 * len(panels))
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for i, (ax, name) in enumerate(zip(axes, panels, strict=True)):
        known = rows[rows[name].notna()]
        marker = "o" if len(known) <= 60 else None
        ax.plot(known["samples"], known[name], color=colour(i), linewidth=1.2, marker=marker, markersize=3)
        ax.set_ylabel({"loss": "Loss", "lr": "Learning rate"}.get(name, name.replace("_", " ")))
        ax.grid(color="0.9", linewidth=0.6)
    axes[-1].set(xlabel="Training pairs seen", yscale="log")
    axes[0].set_title(title, fontsize=11)
    return figure


def training_pairs(exemplars, searches, labels=None, columns: int = 3, stride: int = 8) -> Figure:
    """Exemplar beside search image, as the network gets them (Figure 1): mean padding where they leave the frame.

    exemplars `(N, 127, 127, 3)`, searches `(N, 239, 239, 3)`: RGB 0..255; labels: `(S, S)`, or one a pair; a dot marks
    each positive cell of the search image, cells lying `stride` pixels apart about its centre."""
    exemplars, searches = (np.asarray(a).clip(0, 255).astype(np.uint8) for a in (exemplars, searches))
    if len(exemplars) != len(searches) or not len(exemplars):
        raise ValueError(f"{len(exemplars)} exemplars for {len(searches)} search images: want one each, at least one")
    columns = min(columns, len(exemplars))
    lines = -(-len(exemplars) // columns)
    ratio = exemplars.shape[2] / searches.shape[2]
    figure = Plot(columns * 2.4 * (1 + ratio), lines * 2.5 + 0.3, photographs=True)
    grid = figure.subplots(lines, 2 * columns, width_ratios=[ratio, 1] * columns, squeeze=False)
    for ax in grid.flat:
        ax.axis("off")
    for n, (z, x) in enumerate(zip(exemplars, searches, strict=True)):
        left, right = grid[n // columns, 2 * (n % columns) :][:2]
        left.imshow(z)
        right.imshow(x)
        if labels is not None:
            of_pair = np.asarray(labels if np.ndim(labels) == 2 else labels[n])
            cells = np.argwhere(of_pair > 0) - (np.array(of_pair.shape) - 1) / 2
            ys, xs = (cells * stride + (x.shape[0] - 1) / 2).T
            right.scatter(xs, ys, s=5, color=COLOURS[3], edgecolors="black", linewidths=0.3)
    for ax, name in zip(grid[0], ("exemplar", "search image") * columns, strict=True):
        ax.set_title(name, fontsize=9)
    return figure


def snapshots(
    sequence,
    results: Mapping[str, np.ndarray | None],
    frames: int | Iterable[int] = 5,
    title: str | None = None,
    truth: bool = True,
) -> Plot:
    """Frames of one sequence with the boxes of several trackers, ground truth dashed (Figure 8).

    results: tracker name to boxes `(T, 4)`, 0-based; None leaves a tracker out, and the others keep their colours
    frames:  which (0-based), or how many, evenly spread; truth: whether to draw it"""
    at = spread(len(sequence), frames) if isinstance(frames, int) else list(frames)
    if not at:
        raise ValueError(f"{sequence.name}: no frames to show")
    images = [sequence.frames[t] for t in at]
    height, width = images[0].shape[:2]
    figure = Plot(2.3 * len(at), 2.3 * height / width + 0.7, photographs=True)
    axes = figure.subplots(1, len(at), squeeze=False)[0]
    drawn = [(i, boxes) for i, boxes in enumerate(results.values()) if boxes is not None]
    for ax, t, image in zip(axes, at, images, strict=True):
        ax.imshow(image)
        ax.axis("off")
        ax.text(0.02, 0.97, f"#{t}", transform=ax.transAxes, va="top", color="white", fontsize=9, path_effects=[_EDGE])
        for i, boxes in drawn:
            ax.add_patch(outline(boxes[t], i))
        if truth:
            ax.add_patch(outline(sequence.boxes[t], -1))  # last: its gaps let the others through
        ax.set(xlim=(-0.5, image.shape[1] - 0.5), ylim=(image.shape[0] - 0.5, -0.5))
    dark = {"color": "0.2", "linestyle": DASHES, "label": "ground truth"}  # for the legend stands on white
    names = [name for name, boxes in results.items() if boxes is not None]
    lines = [Line2D([], [], **dark)] * truth
    lines += [Line2D([], [], color=colour(i), linewidth=2.2, label=n) for (i, _), n in zip(drawn, names, strict=True)]
    if lines:
        place = {"loc": "outside lower center", "ncols": min(len(lines), 5), "frameon": False, "handlelength": 3}
        figure.legend(handles=lines, **place)
    figure.suptitle(sequence.name if title is None else title, fontsize=10)
    return figure


def overlap_plot(
    sequence, results: Mapping[str, np.ndarray], dataset: str, ax: Axes | None = None, title: str = ""
) -> Figure:
    """IoU over time on one sequence (DSiam, Figure 1); the mean, in the legend, ranks. Frames without the target, or
    without a known box, are gaps and do not count.

    results: tracker name to boxes `(T, 4)`, 0-based; dataset: the name of what the sequence is from."""
    names = shortened({name: name for name in results})
    figure, ax = canvas(ax, 2.2, len(names))
    lines = {}
    for i, (name, boxes) in enumerate(results.items()):
        overlap = overlaps(sequence, boxes)
        mean = float(np.nanmean(overlap)) if np.isfinite(overlap).any() else np.nan
        (line,) = ax.plot(overlap, linewidth=1, label=f"{names[name]}  {mean:.3f}", **look(i, len(names)))
        lines[line] = mean
    ax.set(xlim=(0, max(len(sequence) - 1, 1)), ylim=(0, 1))
    statement = f"continuous IoU, no benchmark's repairs; {data_name(dataset)}, {sequence.name}, {len(sequence)} frames"
    dress(ax, title or sequence.name, statement, "Frame", "Overlap (IoU)")
    legend_below(ax, sorted(lines, key=lines.get, reverse=True), "mean overlap")
    return figure


def overlaps(sequence, boxes: np.ndarray, frames: slice = slice(None)) -> np.ndarray:
    """IoU `(T,)` with the annotation, or that of some frames; NaN where there is no box, or no target to compare it
    with."""
    truth, boxes = sequence.boxes[frames], boxes[frames]
    known = np.isfinite(boxes).all(1) & np.isfinite(truth).all(1) & ~sequence.absent[frames]
    return np.where(known, B.iou(truth, boxes), np.nan)


def outline(box, index: int) -> Rectangle:
    """A box in imshow's coordinates, where pixel i is centred on i; index -1 is the ground truth."""
    x, y, w, h = np.nan_to_num(np.asarray(box, np.float64), nan=-1e6)
    edge = {"color": TRUTH, "linestyle": DASHES} if index < 0 else {"color": colour(index)}
    return Rectangle((x - 0.5, y - 0.5), w, h, fill=False, linewidth=1.8, path_effects=[_EDGE], **edge)


def spread(length: int, count: int) -> list[int]:
    """Up to `count` different frame numbers, evenly spread from the first to the last."""
    return sorted({round(t) for t in np.linspace(0, length - 1, min(count, length))}) if length else []


def response_over(
    frame: np.ndarray, region: np.ndarray, response: np.ndarray, span: float = RESPONSE_SPAN, opacity: float = 0.6
) -> np.ndarray:
    """The frame `(H, W, 3)` uint8 with a response map `(h, w)` laid over the place it speaks of.

    region: the searched box `x, y, w, h` in frame pixels; span: the share of its side that the map covers (1 for a heat
    map of the whole region). Opacity grows with the response."""
    x, y, w, h = (float(v) for v in region)
    height, width = frame.shape[:2]
    rows, columns = response.shape
    # Pixel centre -> cell index: the middle of the map lies on the middle of the region.
    us = (((np.arange(width) + 0.5) - (x + w / 2)) / (w * span) + 0.5) * columns - 0.5
    vs = (((np.arange(height) + 0.5) - (y + h / 2)) / (h * span) + 0.5) * rows - 0.5
    scaled = np.asarray(response, np.float32) - np.nanmin(response)
    scaled /= max(float(np.nanmax(scaled)), 1e-12)
    grid = [a.astype(np.float32) for a in np.meshgrid(us, vs)]
    heat = cv2.remap(scaled, *grid, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    inside = (np.abs(us - (columns - 1) / 2) <= columns / 2) & (np.abs(vs - (rows - 1) / 2) <= rows / 2)[:, None]
    alpha = (opacity * heat * inside)[..., None]
    colours = matplotlib.colormaps["inferno"](heat)[..., :3] * 255
    return np.rint(frame * (1 - alpha) + colours * alpha).astype(np.uint8)
