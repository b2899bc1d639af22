"""Figures of what a tracker answers, frame by frame: fusion maps, responses, boxes (DSiam, Figures 4 and 10).

They follow the rules of `show.plots`. Maps are drawn in the search image, the 255 x 255 pixels that the network sees
whatever the frame's size: cell `j` of 17 lies `8 (j - 8)` pixels from its middle.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from .. import boxes as B
from ..dsiam import shifted_labels
from ..images import context_crops, mean_colour, to_tensor
from ..siamfc import SEARCH, STRIDE
from .plots import COLOURS, DASHES, PAGE, Plot, dress, look, outline, spread
from .tables import data_name

_EDGE = withStroke(linewidth=2.6, foreground="#000000a0")
_MARK = {"linestyle": "", "markerfacecolor": "none", "markeredgewidth": 1.2, "path_effects": [_EDGE]}
_PEAK = _MARK | {"label": "peak", "marker": "x", "markersize": 5, "markeredgecolor": COLOURS[5]}
_TARGET = _MARK | {"label": "true centre", "marker": "o", "markersize": 9, "markeredgecolor": "white"}


def fusion_maps(weights: np.ndarray, layers: Sequence[str], title: str = "Fusion maps") -> Figure:
    """The weight that each layer's response has in the fused one, cell by cell (Figure 4).

    weights `(L, h, w)`, layers: their L names. Each map has its own colour limits, and says so, for learned maps differ
    by as little as 1e-4; its value in the middle, and the mean along its border, are written above it."""
    weights = np.asarray(weights, np.float64)
    if weights.ndim != 3 or len(weights) != len(layers):
        raise ValueError(f"weights {weights.shape} for {len(layers)} layers: want ({len(layers)}, h, w)")
    figure = Plot(PAGE / 2 * len(layers), 3.2)
    border = np.ones(weights.shape[1:], bool)
    border[1:-1, 1:-1] = False
    for ax, layer, of in zip(figure.subplots(1, len(layers), squeeze=False)[0], layers, weights, strict=True):
        shown = ax.imshow(of, cmap="viridis", extent=_extent(of.shape))
        centre = of[of.shape[0] // 2, of.shape[1] // 2]
        numbers = f"centre {centre:.5f}, border {of[border].mean():.5f} (mean)"
        dress(ax, layer, numbers, "x (pixels of the search image)", "y (pixels of the search image)")
        ax.grid(False)
        bar = figure.colorbar(shown, ax=ax, format="%.5f", shrink=0.75)
        bar.set_label("Weight (each map in its own colours)", fontsize=7)
        bar.ax.tick_params(labelsize=6)
    figure.suptitle(title, fontsize=10)
    return figure


def response_strip(
    sequence,
    frames: Iterable[int],
    rows: Mapping[str, np.ndarray],
    regions: np.ndarray,
    results: Mapping[str, np.ndarray] | None = None,
    dataset: str = "",
    signed: Collection[str] = ("difference",),
) -> Figure:
    """What a tracker saw and what it answered: a column a frame, a row a response.

    Above stands the search image with the true box (dashed), and those of `results`; below, nearer, each response over
    the faded image, with its peak (x) and the target's true centre (o). Colours mean the same all along a row; in the
    rows that `signed` names they diverge from 0, and no peak is marked.

    frames:  which, 0-based; not the first, which was given and not searched
    rows:    name to responses `(T - 1, h, w)`, kept from the second frame on
    regions: `(T - 1, 4)` the boxes searched, in frame pixels
    results: tracker to boxes `(T, 4)`; dataset: the name of what the sequence is from

    Raises ValueError for a frame without a response and for maps of another length."""
    frames, results, last = list(frames), results or {}, len(sequence) - 1
    for name, of in {**rows, "regions": regions}.items():
        if len(of) != last:
            raise ValueError(f"{sequence.name}, {name}: {len(of)} rows for the {last} frames after the first")
    if not frames or not rows or not all(0 < t <= last for t in frames):
        raise ValueError(f"{sequence.name}: {len(rows)} responses at frames {frames}: want some of frames 1 to {last}")
    side = (PAGE - 1.4) / len(frames)
    figure = Plot(PAGE, 0.9 + (side + 0.15) * (1 + len(rows)), photographs=True)
    grid = figure.subplots(1 + len(rows), len(frames), squeeze=False)
    for column, t in zip(grid.T, frames, strict=True):
        region = np.asarray(regions[t - 1], np.float64)
        image, truth = _search_image(sequence.frames[t], region), in_search(sequence.boxes[t], region)
        _searched(column[0], image, truth, [in_search(boxes[t], region) for boxes in results.values()])
        column[0].set_title(f"#{t}", fontsize=8, pad=3)
        for ax, name in zip(column[1:], rows, strict=True):
            ax.imshow(255 - (255 - image) // 3)
            _response(ax, np.asarray(rows[name][t - 1]), B.centre(truth), marked=name not in signed)
    for line, name in zip(grid[1:], rows, strict=True):
        maps = [ax.images[-1] for ax in line]
        _share_colours(maps, name in signed)
        bar = figure.colorbar(maps[-1], ax=list(line), aspect=12, pad=0.02)
        bar.set_label("response", fontsize=7)
        bar.ax.tick_params(labelsize=6)
    for i, name in enumerate(("searched", *rows)):
        grid[i, 0].set_ylabel(name, fontsize=8)
        for ax in grid[i]:
            ax.tick_params(labelsize=6, labelleft=ax is grid[i, 0], labelbottom=i in (0, len(rows)))
    figure.suptitle(f"{_of(sequence.name, dataset)}; axes in pixels of the search image", fontsize=8)
    _legend(figure, results, [Line2D([], [], **mark) for mark in (_PEAK, _TARGET)])
    return figure


def qualitative_strips(
    sequences: Iterable,
    frames: int | Mapping[str, Iterable[int]],
    boxes_by_tracker: Mapping[str, Mapping[str, np.ndarray]],
    dataset: str = "",
) -> Figure:
    """Frames of several sequences, one row each, with the boxes of every tracker in its own colour (Figure 10).

    frames: sequence name to frame numbers (0-based), or how many of each, evenly spread;
    boxes_by_tracker: tracker to sequence name to boxes `(T, 4)`; dataset: the name of what the sequences are from.
    Ground truth is dashed. Raises ValueError where there is nothing to show, KeyError where boxes are missing."""
    sequences = list(sequences)
    chosen = [spread(len(s), frames) if isinstance(frames, int) else list(frames[s.name]) for s in sequences]
    if not sequences or not all(chosen):
        raise ValueError(f"no frames to show of {', '.join(s.name for s in sequences) or 'no sequence'}")
    images = [[s.frames[t] for t in at] for s, at in zip(sequences, chosen, strict=True)]
    columns, ratios = max(map(len, chosen)), [of[0].shape[0] / of[0].shape[1] for of in images]
    figure = Plot(PAGE, 0.7 + (PAGE - 0.3) / columns * sum(ratios), photographs=True)
    grid = figure.subplots(len(sequences), columns, squeeze=False, height_ratios=ratios)
    for ax in grid.flat:
        ax.set(xticks=[], yticks=[], frame_on=False)
    for line, sequence, at, of in zip(grid, sequences, chosen, images, strict=True):
        line[0].set_ylabel(sequence.name, fontsize=6)
        for ax, t, image in zip(line, at, of, strict=False):
            ax.imshow(image)
            place = {"transform": ax.transAxes, "va": "top", "path_effects": [_EDGE]}
            ax.text(0.02, 0.97, f"#{t}", color="white", fontsize=7, **place)
            _boxes(ax, sequence.boxes[t], [boxes[sequence.name][t] for boxes in boxes_by_tracker.values()])
            ax.set(xlim=(-0.5, image.shape[1] - 0.5), ylim=(image.shape[0] - 0.5, -0.5))
    figure.suptitle(_of("Boxes on frames", dataset), fontsize=9)
    _legend(figure, boxes_by_tracker)
    return figure


def peak_margin(responses: np.ndarray, regions: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """How far the response on the target stands above the highest one off it, `(N,)`, as a share of its range.

    `(max over cells on the target - max over the others) / (max - min)`, in -1..1 whatever the response's gain; on the
    target are the cells that training calls positive, within 16 pixels of the true centre. Below 0 the peak is off the
    target; NaN where no cell is on it, or no target is known.

    responses `(N, 17, 17)`; regions, the boxes searched, and boxes, the true ones: `(N, 4)` in frame pixels."""
    on = shifted_labels(torch.as_tensor(boxes), torch.as_tensor(regions))[0].numpy() > 0
    best, other = (np.where(cells, scaled(responses), -np.inf).max((1, 2)) for cells in (on, ~on))
    return np.where(np.isfinite(best - other), best - other, np.nan)


def scaled(responses: np.ndarray) -> np.ndarray:
    """Responses `(N, h, w)`, each brought from 0 to 1: V and W lower a response by half, and this compares shapes."""
    low, high = (f(responses, axis=(1, 2), keepdims=True) for f in (np.min, np.max))
    return (responses - low) / (high - low)


def in_search(boxes: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Boxes `(..., 4)` of the frame in pixels of the search images that show `regions`, edge convention."""
    boxes, regions = np.asarray(boxes, np.float64), np.asarray(regions, np.float64)
    scale = SEARCH / regions[..., 2:]
    return np.concatenate([(boxes[..., :2] - regions[..., :2]) * scale, boxes[..., 2:] * scale], -1)


def _search_image(frame: np.ndarray, region: np.ndarray) -> np.ndarray:
    """What the network sees of a region, RGB uint8."""
    image = to_tensor(frame)
    centre, side = torch.from_numpy(B.centre(region))[None], torch.from_numpy(region[2:3])
    crop = context_crops(image, centre, side, SEARCH, mean_colour(image))[0]
    return crop.permute(1, 2, 0).round().byte().numpy()


def _searched(ax: Axes, image: np.ndarray, truth: np.ndarray, boxes: Iterable[np.ndarray]) -> None:
    ax.imshow(image)
    _boxes(ax, truth, boxes)
    ends = (0, SEARCH // 2, SEARCH - 1)
    ax.set(xlim=(-0.5, SEARCH - 0.5), ylim=(SEARCH - 0.5, -0.5), xticks=ends, yticks=ends)


def _response(ax: Axes, response: np.ndarray, truth: np.ndarray, marked: bool) -> None:
    """A response at its place, its peak if that is to be marked, and the true centre where it is not too far off."""
    left, right, bottom, top = extent = _extent(response.shape)
    ax.imshow(response, interpolation="bicubic", extent=extent, alpha=0.8)
    ax.plot(*(truth - 0.5), **_TARGET)
    if marked:
        row, column = np.unravel_index(response.argmax(), response.shape)
        ax.plot(left + (column + 0.5) * STRIDE, top + (row + 0.5) * STRIDE, **_PEAK)
    ends = (left + STRIDE / 2, (left + right) / 2, right - STRIDE / 2)  # the first, middle and last cell
    ax.set(xlim=(left - 16, right + 16), ylim=(bottom + 16, top - 16), xticks=ends, yticks=ends)


def _share_colours(maps: list[AxesImage], signed: bool) -> None:
    shown = np.stack([of.get_array() for of in maps])
    limits = (-np.abs(shown).max(), np.abs(shown).max()) if signed else (shown.min(), shown.max())
    for of in maps:
        of.set(cmap="RdBu_r" if signed else "inferno", clim=limits)


def _extent(shape: tuple[int, int]) -> tuple[float, float, float, float]:
    """Edges (left, right, bottom, top) of a map in imshow's coordinates, where pixel i is centred on i."""
    (height, width), middle = np.array(shape) * STRIDE / 2, (SEARCH - 1) / 2
    return middle - width, middle + width, middle + height, middle - height


def _boxes(ax: Axes, truth: np.ndarray, boxes: Iterable[np.ndarray]) -> None:
    """Broken lines, the truth's last: where boxes lie on one another, each shows through the next."""
    for i, box in enumerate(boxes):
        ax.add_patch(outline(box, i)).set(linestyle=look(i)["linestyle"], linewidth=1.4, path_effects=[_EDGE])
    ax.add_patch(outline(truth, -1)).set(linewidth=1.4, path_effects=[_EDGE])


def _legend(figure: Figure, trackers: Iterable[str], marks: Iterable[Line2D] = ()) -> None:
    truth = Line2D([], [], color="0.2", linestyle=DASHES, label="ground truth")  # dark, for the legend is on white
    lines = [Line2D([], [], linewidth=2, label=name, **look(i)) for i, name in enumerate(trackers)]
    handles = [truth, *lines, *marks]
    style = {"ncols": min(len(handles), 5), "frameon": False, "handlelength": 3, "fontsize": 7}
    figure.legend(handles=handles, loc="outside lower center", **style)


def _of(what: str, dataset: str) -> str:
    return f"{what}, {data_name(dataset)}" if dataset else what
