"""Every figure of the papers: success and precision plots, learning curves, training pairs, snapshots.

Each function returns a `Plot`, a matplotlib figure that shows itself in any notebook and saves itself for print; given
`ax` it draws there instead and returns that axes' figure. No pyplot: nothing is kept alive or shown behind the caller's
back. Colours are Okabe and Ito's, told apart by the colour-blind, and line styles differ as well, for grey prints.
Every benchmark figure names its convention and its data.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from ..bench.score import Scores
from ..provenance import write_bytes
from .tables import data_label, tracker_labels

# Okabe and Ito's palette without yellow, which vanishes on white paper.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#000000")
STYLES = ("-", "--", "-.", (0, (1, 1)))
TRUTH = "#FFFFFF"  # ground truth: dashed white on a dark edge, visible on any frame

_PRINT = {"pdf.fonttype": 42, "ps.fonttype": 42, "svg.fonttype": "none"}  # text stays text in vector files
_LOGGED = {"epoch", "step", "samples", "lr", "loss", "samples_per_second"}
_DASHES = (0, (3, 2))
_EDGE = withStroke(linewidth=3.5, foreground="#00000099")


class Plot(Figure):
    """A figure that displays in every notebook front end, whatever matplotlib's backend: as PNG, or as JPEG when it is
    made of photographs, so that an executed notebook stays small. Width and height in inches."""

    def __init__(self, width: float, height: float, photographs: bool = False):
        super().__init__(figsize=(width, height), layout="constrained")
        self.photographs = photographs

    def _repr_png_(self) -> bytes | None:
        return None if self.photographs else self._encoded("png", dpi=110)

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


# Benchmark plots


def success_plot(scores: Scores, ax: Axes | None = None, title: str = "Success plots") -> Figure:
    """Share of frames whose overlap exceeds each threshold, ranked by the area under the curve (AUC).

    A curve is the mean over sequences; bands, and brackets in the legend, are 95 % bootstrap intervals over sequences
    (the plot of Wu et al., CVPR 2013, with intervals added). Trackers whose weights saw some of the sequences in
    training also have their figure without those in the legend ("unseen")."""
    return _curve_plot(scores, "success", ax, title)


def precision_plot(scores: Scores, ax: Axes | None = None, title: str = "Precision plots") -> Figure:
    """Share of frames whose centre error is within each threshold, ranked by the value at 20 pixels.

    Curves, bands and brackets as in `success_plot`."""
    return _curve_plot(scores, "precision", ax, title)


def _curve_plot(scores: Scores, name: str, ax: Axes | None, title: str) -> Figure:
    """Colour and style of a tracker follow its place in `scores`, so that they agree between plots."""
    curve = scores.convention.curve(name)
    measure = next(m for m in scores.convention.measures if m.curve == name)
    summary = scores.summary()
    numbers = summary[summary.metric == measure.name].set_index("tracker")
    names = tracker_labels(scores.trackers)
    figure = Plot(5.2, 4.3 + 0.19 * len(names)) if ax is None else ax.figure  # room for the legend's lines
    ax = figure.subplots() if ax is None else ax
    lines = {}
    for i, tracker in enumerate(scores.trackers):
        curves = np.stack([of[name] for of in scores.curves[tracker].values()])
        low, high = _band(curves)
        ax.fill_between(curve.thresholds, low, high, color=colour(i), alpha=0.13, linewidth=0)
        label = f"{names[tracker]}  {_with_interval(numbers.loc[tracker])}"
        style = {"color": colour(i), "linestyle": STYLES[i % len(STYLES)]}
        (lines[tracker],) = ax.plot(curve.thresholds, curves.mean(0), linewidth=1.8, label=label, **style)
    if measure.at is not None:
        ax.axvline(curve.thresholds[measure.at], color="0.6", linewidth=0.8, linestyle=":", zorder=0)
    ranked = [lines[tracker] for tracker in numbers.sort_values("mean", ascending=False, kind="stable").index]
    below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.14)}  # of the axes: no curve is ever hidden
    title_of_legend = f"{measure.label} [95 % interval]"
    ax.legend(
        handles=ranked, title=title_of_legend, fontsize=9, title_fontsize=9, handlelength=3, frameon=False, **below
    )
    ax.set(xlabel=curve.label.capitalize(), ylabel=f"{name.capitalize()} (share of frames)", ylim=(0, 1))
    ax.set_xlim(curve.thresholds[0], curve.thresholds[-1])
    ax.grid(color="0.9", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.set_title(f"{title}\n", fontsize=11)
    under = {"transform": ax.transAxes, "ha": "center", "va": "bottom", "fontsize": 8, "color": "0.35"}
    ax.text(0.5, 1.02, f"{scores.convention.name} convention · {data_label(scores)}", **under)
    return figure


def _with_interval(row: pd.Series) -> str:
    text = f"{row['mean']:.3f}"
    if np.isfinite(row["low"]):
        text += f" [{row['low']:.3f}, {row['high']:.3f}]"
    return text + (f", unseen {row['mean_unseen']:.3f}" if row["seen"] else "")


def _band(curves: np.ndarray, draws: int = 1000) -> np.ndarray:
    """Pointwise 95 % bootstrap interval `(2, K)` of the mean of curves `(N, K)`, one a sequence."""
    n = len(curves)
    counts = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), draws)  # how often each sequence is drawn
    return np.percentile(counts @ curves / n, (2.5, 97.5), axis=0)


# Training


def learning_curve(log: pd.DataFrame | Iterable[Mapping[str, Any]], title: str = "Learning curve") -> Figure:
    """Loss, learning rate and each number the validation gave, over the training pairs seen.

    log: what `training.loop.fit` returns and `read_log` reads, a row an epoch."""
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

    exemplars `(N, 127, 127, 3)` and searches `(N, 239, 239, 3)`, RGB 0..255; labels `(S, S)`, or one a pair: a dot on
    the search image marks each cell whose label is positive, cells lying `stride` pixels apart about the centre."""
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
            ys, xs = _cells(np.asarray(labels), n, x.shape[0], stride)
            right.scatter(xs, ys, s=5, color=COLOURS[3], edgecolors="black", linewidths=0.3)
    for ax, name in zip(grid[0], ("exemplar", "search image") * columns, strict=True):
        ax.set_title(name, fontsize=9)
    return figure


def _cells(labels: np.ndarray, n: int, side: int, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """Image positions of the positive cells of pair n's label map."""
    of_pair = labels if labels.ndim == 2 else labels[n]
    at = np.argwhere(of_pair > 0) - (np.array(of_pair.shape) - 1) / 2
    return tuple((at * stride + (side - 1) / 2).T)


# What the tracker saw


def snapshots(
    sequence, results: Mapping[str, np.ndarray], frames: int | Iterable[int] = 5, title: str | None = None
) -> Figure:
    """Frames of one sequence with the boxes of several trackers, ground truth dashed (Figure 8).

    results: tracker name to boxes `(T, 4)`, 0-based; frames: which (0-based), or how many, evenly spread."""
    at = spread(len(sequence), frames) if isinstance(frames, int) else list(frames)
    if not at:
        raise ValueError(f"{sequence.name}: no frames to show")
    images = [sequence.frames[t] for t in at]
    height, width = images[0].shape[:2]
    figure = Plot(2.3 * len(at), 2.3 * height / width + 0.7, photographs=True)
    axes = figure.subplots(1, len(at), squeeze=False)[0]
    for ax, t, image in zip(axes, at, images, strict=True):
        ax.imshow(image)
        ax.axis("off")
        ax.text(0.02, 0.97, f"#{t}", transform=ax.transAxes, va="top", color="white", fontsize=9, path_effects=[_EDGE])
        for i, boxes in enumerate(results.values()):
            ax.add_patch(_outline(boxes[t], i))
        ax.add_patch(_outline(sequence.boxes[t], -1))  # last: its gaps let the others through
        ax.set(xlim=(-0.5, image.shape[1] - 0.5), ylim=(image.shape[0] - 0.5, -0.5))
    truth = Line2D([], [], color="0.2", linestyle=_DASHES)  # dark, for the legend stands on white
    lines = [truth, *(Line2D([], [], color=colour(i), linewidth=2.2) for i in range(len(results)))]
    names = ["ground truth", *results]
    figure.legend(lines, names, loc="outside lower center", ncols=min(len(names), 5), frameon=False, handlelength=3)
    figure.suptitle(sequence.name if title is None else title, fontsize=10)
    return figure


def _outline(box, index: int) -> Rectangle:
    """A box in imshow's coordinates, where pixel i is centred on i; index -1 is the ground truth."""
    x, y, w, h = np.nan_to_num(np.asarray(box, np.float64), nan=-1e6)
    edge = {"color": TRUTH, "linestyle": _DASHES} if index < 0 else {"color": colour(index)}
    return Rectangle((x - 0.5, y - 0.5), w, h, fill=False, linewidth=1.8, path_effects=[_EDGE], **edge)


def spread(length: int, count: int) -> list[int]:
    """Up to `count` different frame numbers, evenly spread from the first to the last."""
    return sorted({round(t) for t in np.linspace(0, length - 1, min(count, length))}) if length else []


def response_over(
    frame: np.ndarray, region: np.ndarray, response: np.ndarray, span: float = 17 * 8 / 255, opacity: float = 0.6
) -> np.ndarray:
    """The frame `(H, W, 3)` uint8 with a response map `(h, w)` laid over the place it speaks of.

    region: the searched box `x, y, w, h` in frame pixels; span: the share of its side that the map covers (SiamFC: 17
    cells of stride 8 on 255 pixels; a heat map of the whole region: 1). Opacity grows with the response."""
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
