"""Figures that compare trackers: by attribute, by accuracy and robustness, by expected overlap, by speed.

They follow the rules of `show.plots`; the legend is ranked by the measure that ranks, in its own direction. A tracker
has one colour and one marker shape in all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import Bbox

from ..data.benchmark import listed
from .plots import COLUMN, MARKERS, PAGE, Plot, canvas, colour, curve_of, dress, in_lines, labels_of, legend_below, look
from .tables import attribute_label, attribute_values, capital, measure_of, part_measure, ranked, stated

if TYPE_CHECKING:
    from ..bench.score import Scores
    from ..bench.vot import VotScores
    from .tables import AnyScores

# The codes of OTB and UAV123; VOT and GOT-10k name theirs in words.
ATTRIBUTES = {row["code"]: row["name"] for row in listed("attributes")}


def attribute_grid(scores: Scores, name: str = "success", columns: int = 4, title: str = "") -> Figure:
    """A curve plot for each attribute, over the sequences that carry it (how many, in parentheses).

    Each panel ranks its best five trackers by the measure of the plot; the legend below names all, best overall first.
    Raises ValueError where no sequence has attributes."""
    curve, measure = curve_of(scores, name)
    values, names = attribute_values(scores, measure.name), labels_of(scores)
    columns = min(columns, len(values))
    rows = -(-len(values) // columns)
    figure = Plot(PAGE, 0.75 + 1.4 * rows + 0.15 * -(-len(names) // 3))
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for ax, (attribute, numbers) in zip(panels.flat, values.iterrows(), strict=False):
        carrying = [sequence for sequence, labels in scores.attributes.items() if attribute in labels]
        lines = {}
        for i, (tracker, number) in enumerate(numbers.items()):
            mean, style = scores.mean_curve(tracker, name, carrying), look(i, len(names))
            (lines[tracker],) = ax.plot(curve.thresholds, mean, linewidth=1, label=f"{number:.3f}", **style)
        best = [lines[tracker] for tracker in numbers.sort_values(ascending=False, kind="stable").index[:5]]
        small = {"fontsize": 5.5, "handlelength": 2.4, "labelspacing": 0.15, "borderpad": 0.2, "framealpha": 0.6}
        ax.legend(handles=best, loc="best", **small)
        ax.set_title(f"{ATTRIBUTES.get(attribute, attribute)} ({len(carrying)})", fontsize=7, pad=3)
        ax.set(ylim=(0, 1), xlim=(curve.thresholds[0], curve.thresholds[-1]))
        ax.tick_params(labelsize=6)
        ax.grid(color="0.9", linewidth=0.5)
    for ax in panels.flat[len(values) :]:
        ax.set_axis_off()
    for ax in panels[-1]:
        ax.set_xlabel(capital(curve.label), fontsize=7)
    what = capital(name.replace("_", " "))
    figure.supylabel(f"{what} (share of frames)", fontsize=8)
    styles = {tracker: look(i, len(names)) | {"markevery": None} for i, tracker in enumerate(names)}
    handles = [Line2D([], [], label=names[tracker], **styles[tracker]) for tracker in ranked(scores, measure.name)]
    _frame(figure, f"{title or f'{what} by attribute'}; in the panels {measure.label}", scores, handles, columns=3)
    return figure


def _frame(figure: Figure, title: str, scores: AnyScores, handles: list[Line2D], columns: int, heading="") -> None:
    """Title and statement above, a legend below all that the figure holds."""
    figure.suptitle(f"{title}\n{in_lines(stated(scores), 60 * columns)}", fontsize=7)
    style = {"loc": "outside lower center", "frameon": False, "handlelength": 3.2, "labelspacing": 0.35, "fontsize": 7}
    figure.legend(handles=handles, title=heading, title_fontsize=7, ncols=min(columns, len(handles)), **style)


def radar_chart(scores: AnyScores, metric: str | None = None, title: str = "") -> Figure:
    """One measure (by default see `tables.part_measure`) by attribute, a spoke each, 0 in the centre; ValueError for
    fewer than three attributes: a table shows those."""
    measure, values = part_measure(scores, metric), attribute_values(scores, metric)
    if len(values) < 3:
        raise ValueError(f"{scores.dataset}: a radar chart takes three attributes or more; see tables.attribute_table")
    names = labels_of(scores)
    figure = Plot(COLUMN, 3.6 + 0.135 * len(names))
    figure.get_layout_engine().set(h_pad=0.08)  # which does not see how far the labels of spokes reach
    ax = figure.subplots(subplot_kw={"projection": "polar", "theta_offset": np.pi / 2, "theta_direction": -1})
    angles = np.linspace(0, 2 * np.pi, len(values), endpoint=False)
    lines = {}
    for i, tracker in enumerate(scores.trackers):
        label = f"{names[tracker]}  {scores.mean(tracker)[measure.name]:.3f}"
        around = np.append(values[tracker], values[tracker].iloc[0])
        style = look(i) | {"marker": MARKERS[i % len(MARKERS)], "markersize": 3, "linewidth": 1.1}
        (lines[tracker],) = ax.plot(np.append(angles, 0), around, label=label, **style)
    ax.set_ylim(0, 1.08 * np.nanmax(values.to_numpy()))
    ax.yaxis.set_major_locator(MaxNLocator(5))
    ax.set_rlabel_position(180 / len(values))  # between the first two spokes
    ax.tick_params(axis="y", labelsize=6, labelcolor="0.4")
    ax.set_xticks(angles, [attribute_label(scores, a).replace(" ", "\n", 1) for a in values.index], fontsize=7)
    for label, angle in zip(ax.get_xticklabels(), angles, strict=True):
        label.set_horizontalalignment({0: "center", 1: "left", -1: "right"}[round(np.sin(angle) / 0.8)])
    ax.tick_params(axis="x", pad=1)
    ax.grid(color="0.9", linewidth=0.6)
    handles = [lines[tracker] for tracker in ranked(scores, measure.name)]
    title = title or f"{capital(measure.label)} by {'tag' if scores.protocol == 'supervised' else 'attribute'}"
    _frame(figure, title, scores, handles, columns=1, heading=f"{measure.label}, all sequences")
    return figure


def ar_plot(scores: VotScores, ax: Axes | None = None, title: str = "Accuracy and robustness") -> Figure:
    """Accuracy over reliability exp(-S F / N), the chance to track S frames without failing (Kristan et al., VOT2015).

    The best tracker stands in the upper right corner; the legend is ranked by EAO, where the convention has one."""
    names, markers = labels_of(scores), {}
    figure, ax = canvas(ax, 2.7, len(names))
    means = {tracker: scores.mean(tracker) for tracker in scores.trackers}
    for i, (tracker, mean) in enumerate(means.items()):
        label = f"{names[tracker]}  {mean['accuracy']:.3f} / {mean['reliability']:.3f}"
        (markers[tracker],) = ax.plot(mean["reliability"], mean["accuracy"], label=label, **_marker(i))
    ax.set_xlim(_around([mean["reliability"] for mean in means.values()]))
    ax.set_ylim(_around([mean["accuracy"] for mean in means.values()]))
    ax.locator_params(nbins=5)
    dress(ax, title, stated(scores), f"Robustness: {measure_of(scores, 'reliability').label}", "Accuracy")
    ranking = f"accuracy / robustness, ranked by {measure_of(scores).label}"
    legend_below(ax, [markers[tracker] for tracker in ranked(scores)], ranking)
    return figure


def eao_curves(scores: VotScores, ax: Axes | None = None, title: str = "Expected average overlap") -> Figure:
    """Expected overlap by length of sequence; EAO, which ranks, is the mean over the shaded interval of usual lengths.

    Lengths are shown up to twice the interval's upper limit, overlaps up to twice the highest at the lower one: all
    curves fall from 1. Where no run is as long as that, EAO is NaN. Raises ValueError where a convention has none."""
    measure_of(scores, "eao")
    names, (low, high) = labels_of(scores), scores.interval
    figure, ax = canvas(ax, 2.7, len(names))
    lines, top = {}, 0
    for i, tracker in enumerate(scores.trackers):
        lengths, values = scores.eao_curve(tracker)
        top = max(top, 2 * np.nan_to_num(values[min(low, len(values)) - 1]))
        label = f"{names[tracker]}  {scores.mean(tracker)['eao']:.4f}"
        (lines[tracker],) = ax.plot(lengths, values, linewidth=1.4, label=label, **look(i, len(names)))
    ax.axvspan(low, high, color="0.92", linewidth=0, zorder=0)
    ax.set(xlim=(1, 2 * high), ylim=(0, min(top or 1, 1)))
    for limit, side in ((low, "right"), (high, "left")):
        ax.axvline(limit, color="0.5", linewidth=0.6)
        ax.annotate(f" {limit} ", (limit, 0.98), xycoords=("data", "axes fraction"), ha=side, va="top", fontsize=7)
    dress(ax, title, stated(scores), "Sequence length (frames)", "Expected overlap")
    legend_below(ax, [lines[t] for t in ranked(scores)], f"EAO, mean over lengths {low} to {high}")
    return figure


def eao_ranking(scores: VotScores, ax: Axes | None = None, title: str = "EAO ranking") -> Figure:
    """Trackers in the order of their EAO, the best at the right, as VOT prints it; 95 % bootstrap intervals as bars;
    ValueError where the convention has no EAO."""
    names, order, markers = labels_of(scores), ranked(scores, "eao"), []
    figure, ax = canvas(ax, 2.4, len(names))
    numbers = scores.summary().query("metric == 'eao'").set_index("tracker")
    for rank, tracker in enumerate(order, 1):
        value, low, high = numbers.loc[tracker, ["mean", "low", "high"]]
        ax.plot((rank, rank), (low, high), color="0.5", linewidth=0.8, zorder=1)
        label = f"{rank}  {names[tracker]}  {value:.4f}"
        markers += ax.plot(rank, value, label=label, **_marker(scores.trackers.index(tracker)))
        place = {"xytext": (0, 6), "textcoords": "offset points", "ha": "center", "rotation": 90 * (len(order) > 6)}
        ax.annotate(f"{value:.3f}", (rank, np.fmax(value, high)), fontsize=6, **place)
    top = np.nan_to_num(numbers[["mean", "high"]].max(axis=None), nan=1)
    ax.set(xlim=(len(order) + 0.6, 0.4), ylim=(0, (1.15, 1.4)[len(order) > 6] * top))
    ax.set_xticks(range(1, len(order) + 1))
    dress(ax, title, stated(scores), "Rank", "EAO")
    legend_below(ax, markers, "EAO (bars: 95 % interval)" if numbers.low.notna().any() else "EAO")
    return figure


def _marker(index: int) -> dict[str, Any]:
    shape = MARKERS[index % len(MARKERS)]
    edge = {"markeredgecolor": "white", "markeredgewidth": 0.4}
    return {"color": colour(index), "marker": shape, "markersize": 7, "linestyle": "", **edge}


def _around(values: list[float], least: float = 0.2, margin: float = 0.05) -> tuple[float, float]:
    """Limits of an axis of numbers in [0, 1], never so tight that a thousandth looks like a lead."""
    low, high = min(values) - margin, max(values) + margin
    spare = max(least - (high - low), 0) / 2
    return max(low - spare, 0), min(high + spare, 1)


def speed_plot(
    scores: AnyScores,
    speeds: Mapping[str, float],
    metric: str | None = None,
    ax: Axes | None = None,
    unit: str = "frames per second",
    title: str = "Speed and accuracy",
) -> Figure:
    """One measure (by default what ranks) over speed on a logarithmic axis, each tracker's name at its marker.

    speeds: tracker (as in `scores`) to frames per second, or to EFO under `unit`; trackers without a speed are left
    out. Only speeds measured on one machine belong in one plot. Raises ValueError when no tracker has one."""
    measure, names = measure_of(scores, metric), labels_of(scores)
    known = {t: speeds[t] for t in scores.trackers if speeds.get(t, 0) > 0}
    if not known:
        raise ValueError(f"no speed of {', '.join(scores.trackers)}; speeds are by the tracker's name in the scores")
    figure, ax = canvas(ax, 2.9)
    for tracker, speed in known.items():
        value = scores.mean(tracker)[measure.name]
        ax.plot(speed, value, label=names[tracker], **_marker(scores.trackers.index(tracker)))
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_locator(NullLocator())
    ax.margins(0.15)
    dress(ax, title, stated(scores), f"Speed ({unit})", capital(measure.label))
    _name_markers(ax)
    return figure


def _name_markers(ax: Axes) -> None:
    """Write each line's label beside its marker, covering neither a marker nor another label, led by a thin line.

    Places are tried from near to far; the first is taken when none is free. In points from the marker, so that they
    hold at any resolution, but not in a figure whose layout changes afterwards."""
    ax.figure.draw_without_rendering()  # settles where the axes are
    scale, inside = ax.figure.dpi / 72, ax.get_window_extent()
    points = [ax.transData.transform(line.get_xydata()[0]) for line in ax.lines]
    taken = [Bbox.from_bounds(*(point - 4 * scale), 8 * scale, 8 * scale) for point in points]
    lead = {"arrowstyle": "-", "color": "0.6", "linewidth": 0.4, "shrinkA": 0, "shrinkB": 3}
    style = {"textcoords": "offset points", "fontsize": 6.5, "arrowprops": lead}
    for line, point in zip(ax.lines, points, strict=True):
        text = ax.annotate(line.get_label(), line.get_xydata()[0], (0, 0), **style)
        text.set_in_layout(False)
        size = np.array(Text.get_window_extent(text).size)
        corners = (point + scale * way * far + size / 2 * (way - 1) for far in _FAR for way in _WAYS)
        boxes = [Bbox.from_bounds(*corner, *size) for corner in corners]
        within = (b for b in boxes if (b.min > inside.min).all() and (b.max < inside.max).all())
        chosen = next((b for b in within if not b.count_overlaps(taken)), boxes[0])
        taken.append(chosen)
        text.set_position((chosen.min - point) / scale)


_FAR = (6, 10, 16, 24, 34, 46, 60)
_WAYS = np.array([(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1)])
