"""Figures that compare trackers: order, numbers and places are checked on the artists; the look was checked by eye."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from matplotlib.text import Text
from test_plots import legend, said, scores_of

from trackerlib.bench.score import score
from trackerlib.data.sequence import Dataset, NoFrames, Sequence
from trackerlib.show import benchmarks, tables

OFFSETS = {"worst": [30.0, 30, 30], "best": [0.0, 0, 10], "middle": [10.0, 10, 0]}
LABELS = {"s0": ("OCC", "IV"), "s1": ("OCC", "IV", "FM"), "s2": ("FM", "lonely")}


@pytest.fixture
def scores():
    return scores_of(OFFSETS, attributes=LABELS)


def test_grid_has_a_panel_for_each_attribute_with_its_own_ranking(scores):
    figure = benchmarks.attribute_grid(scores)
    panels = [ax for ax in figure.axes if ax.get_title()]
    titles = ["fast motion (2)", "illumination variation (2)", "occlusion (2)"]  # an attribute of one sequence is none
    assert sorted(ax.get_title() for ax in panels) == titles
    by_title = {ax.get_title(): ax for ax in panels}
    of_occlusion = [t.get_text() for t in by_title["occlusion (2)"].get_legend().get_texts()]
    of_motion = [t.get_text() for t in by_title["fast motion (2)"].get_legend().get_texts()]
    perfect, ten = 20 / 21, (12 * 19 + 20) / 20 / 21
    assert of_occlusion[:2] == [f"{perfect:.3f}", f"{ten:.3f}"]
    assert of_motion[:2] == [f"{(perfect + ten) / 2:.3f}"] * 2
    drawn = by_title["occlusion (2)"].lines[scores.trackers.index("best")].get_ydata()
    assert drawn == pytest.approx(scores.mean_curve("best", "success", ["s0", "s1"]))
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["best", "middle", "worst"]
    assert "otb convention (OTB MATLAB toolkit v1.0); otb100, 3 sequences, OPE" in said(figure)


def test_radar_closes_and_its_spokes_say_how_many(scores):
    figure = benchmarks.radar_chart(scores)
    (ax,) = figure.axes
    assert [t.get_text() for t in ax.get_xticklabels()] == ["FM\n(2)", "IV\n(2)", "OCC\n(2)"]
    line = ax.lines[scores.trackers.index("best")]
    values = tables.attribute_values(scores)["best"].to_list()
    assert line.get_ydata().tolist() == [*values, values[0]]
    assert [t.get_text().split()[0] for t in figure.legends[0].get_texts()] == ["best", "middle", "worst"]
    with pytest.raises(ValueError, match="takes three attributes or more"):
        benchmarks.radar_chart(scores_of(OFFSETS, attributes=dict.fromkeys(LABELS, ("OCC",))))
    with pytest.raises(ValueError, match="no AUC by attribute"):
        benchmarks.radar_chart(scores_of(OFFSETS))


def test_speed_plot_is_logarithmic_and_covers_no_label(scores):
    many = scores_of({f"tracker-with-a-long-name-{i}": [float(i), i] for i in range(12)})
    speeds = {name: 20 + i / 4 for i, name in enumerate(many.trackers)}  # all but one above the other
    figure = benchmarks.speed_plot(many, speeds)
    (ax,) = figure.axes
    figure.draw_without_rendering()
    assert ax.get_xscale() == "log"
    labels = [Text.get_window_extent(t) for t in ax.texts[1:]]
    assert len(labels) == 12
    assert [pair for pair in itertools.combinations(labels, 2) if pair[0].overlaps(pair[1])] == []
    one = benchmarks.speed_plot(scores, {"best": 30.0}, unit="EFO").axes[0]
    assert [t.get_text() for t in one.texts[1:]] == ["best"]
    assert one.get_xlabel() == "Speed (EFO)"
    assert one.lines[0].get_xydata().tolist() == [[30.0, scores.mean("best")["success_auc"]]]
    with pytest.raises(ValueError, match="no speed of worst, best, middle"):
        benchmarks.speed_plot(scores, {"siamfc": 30.0})


def test_markers_differ_for_as_many_trackers_as_a_challenge_prints():
    looks = {(m["color"], m["marker"]) for m in map(benchmarks._marker, range(28))}
    assert len(looks) == 28
    assert len({benchmarks._marker(i)["marker"] for i in range(12)}) == 12  # in grey


def test_limits_never_make_a_lead_of_a_thousandth():
    low, high = benchmarks._around([0.500, 0.501])
    assert high - low == pytest.approx(0.2)
    assert benchmarks._around([0.0, 1.0]) == (0, 1)


FAILURES = {"sure": (), "shaky": (50,), "lost": (50, 150, 250)}


def vot_scores(root, length, failures):
    """Two VOT sequences of a target at rest; `sure` is off by 5 pixels of 40, the others dead on until they fail."""
    boxes = np.tile([20.0, 20, 40, 40], (length, 1))
    tags = {"occlusion": np.arange(length) < 20, "camera_motion": np.arange(length) >= 20}
    sequences = [
        Sequence(name, NoFrames(length, "nowhere"), boxes, origin=0, size=(320, 240), tags=tags)
        for name in ("one", "two")
    ]
    for tracker, failed in failures.items():
        lines = [f"{25 if tracker == 'sure' else 20},20,40,40"] * length
        lines[0] = "1"
        for frame in failed:
            lines[frame : frame + 6] = ["2", "0", "0", "0", "0", "1"]
        for name in ("one", "two"):
            path = root / tracker / "baseline" / name / f"{name}_001.txt"
            path.parent.mkdir(parents=True)
            path.write_text("\n".join(lines) + "\n")
    return score([root / tracker for tracker in failures], Dataset("vot-like", sequences, "vot"), "vot2018")


@pytest.fixture(scope="module")
def supervised(tmp_path_factory):
    return vot_scores(tmp_path_factory.mktemp("vot"), 400, FAILURES)


def test_ar_plot_has_the_best_in_the_upper_right_corner_and_ranks_by_eao(supervised):
    figure = benchmarks.ar_plot(supervised)
    (ax,) = figure.axes
    at = {line.get_label().split()[0]: line.get_xydata()[0] for line in ax.lines}
    assert at["sure"] == pytest.approx([1, supervised.mean("sure")["accuracy"]])
    assert at["lost"] == pytest.approx([np.exp(-30 * 6 / 800), 1])  # six failures in 800 frames
    ranking = sorted(FAILURES, key=lambda tracker: -supervised.mean(tracker)["eao"])
    assert [text.split()[0] for text in legend(figure)] == ranking
    assert legend(figure)[ranking.index("shaky")] == f"shaky  1.000 / {np.exp(-30 * 2 / 800):.3f}"
    assert ax.get_legend().get_title().get_text() == "accuracy / robustness, ranked by EAO"
    assert said(figure).endswith("vot-like, 2 sequences, supervised")


def test_eao_curves_shade_the_interval_that_eao_is_a_mean_over(supervised):
    figure = benchmarks.eao_curves(supervised)
    (ax,) = figure.axes
    low, high = supervised.interval
    assert (low, high) == (100, 356)
    assert [t.get_text().strip() for t in ax.texts[:2]] == ["100", "356"]
    curves = {line.get_label().split()[0]: line for line in ax.lines if " " in line.get_label()}
    lengths, values = curves["shaky"].get_xydata().T
    assert values[(lengths >= low) & (lengths <= high)].mean() == pytest.approx(supervised.mean("shaky")["eao"])
    assert [text.split()[0] for text in legend(figure)] == tables.ranked(supervised)


def test_eao_ranking_puts_the_best_at_the_right(supervised):
    figure = benchmarks.eao_ranking(supervised)
    (ax,) = figure.axes
    order, left, right = tables.ranked(supervised), *ax.get_xlim()
    assert left > right
    markers = [line for line in ax.lines if line.get_marker() != "None"]
    assert [line.get_xdata()[0] for line in markers] == [1, 2, 3]
    assert [line.get_ydata()[0] for line in markers] == pytest.approx([supervised.mean(t)["eao"] for t in order])
    assert legend(figure) == [f"{i}  {t}  {supervised.mean(t)['eao']:.4f}" for i, t in enumerate(order, 1)]


def test_radar_of_vot_shows_accuracy_by_tag(supervised):
    figure = benchmarks.radar_chart(supervised)
    (ax,) = figure.axes
    assert {"camera\nmotion", "occlusion"} <= {t.get_text() for t in ax.get_xticklabels()}
    assert figure.get_suptitle().splitlines()[0].endswith("by tag")
    assert ax.lines[0].get_ydata()[0] == pytest.approx(7 / 9)  # 35 of 45 pixels


def test_speed_plot_takes_supervised_scores_too(supervised):
    ax = benchmarks.speed_plot(supervised, {"sure": 10.0, "lost": 100.0}, unit="EFO").axes[0]
    assert ax.get_ylabel() == "EAO"


def test_tables_of_supervised_scores(supervised):
    text = tables.render(supervised)
    assert text.count("vot2018 convention") == 5  # means; accuracy and failures by sequence, and by tag
    header = tables.summary_table(supervised).header
    assert "failures ↓" in " ".join(header)
    failures = tables.sequence_table(supervised, "failures")
    assert failures.rows[0] == ("one", "0.00", "1.00", "3.00")
    assert [row[1:] for row in tables.sequence_table(supervised).rows[:1]] == [("0.7778", "1.0000", "1.0000")]
    by_tag = tables.attribute_table(supervised, "failures")
    assert by_tag.header == ("tag", "sure", "shaky", "lost")  # few is best
    assert [row[0] for row in by_tag.rows][-1] == "all"
    for form in ("json", "csv", "latex", "html"):
        assert "lost" in tables.render(supervised, form)


@pytest.mark.filterwarnings("error")
def test_runs_too_short_for_an_eao_are_drawn_without(tmp_path):
    short = vot_scores(tmp_path, 60, {"sure": (), "shaky": (30,)})
    assert np.isnan(short.mean("sure")["eao"])
    for draw in (benchmarks.ar_plot, benchmarks.eao_curves, benchmarks.eao_ranking):
        assert len(legend(draw(short))) == 2
    assert ("sure", "–") in {row[:2] for row in tables.summary_table(short).rows}
