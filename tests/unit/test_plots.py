"""Figures: ranks, numbers, labels and places are checked on the artists; the look was checked by eye."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from trackerlib.bench.conventions import CONVENTIONS
from trackerlib.bench.metrics import Truth
from trackerlib.bench.score import Scores
from trackerlib.data.sequence import Sequence
from trackerlib.show import plots


def scores_of(errors: dict[str, list[float]], dataset: str = "otb100", convention: str = "otb", **others) -> Scores:
    """Each tracker is off by so many pixels, all along, on one sequence a number, with boxes 40 x 40."""
    rule, truth = CONVENTIONS[convention], Truth(np.tile([11.0, 11, 40, 40], (20, 1)), size=(200, 200))
    tallies = {
        tracker: {f"s{i}": rule.tally(truth.rows + np.array([e, 0, 0, 0]), truth) for i, e in enumerate(offsets)}
        for tracker, offsets in errors.items()
    }
    curves = {t: {s: {k: v / n for k, v in sums.items()} for s, (n, sums) in of.items()} for t, of in tallies.items()}
    frames = {t: {s: n for s, (n, _) in of.items()} for t, of in tallies.items()}
    return Scores(rule, dataset, curves, frames=frames, **others)


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def said(figure: Figure) -> str:
    """What the figure says of its numbers, on one line."""
    texts = [text.get_text() for ax in figure.axes for text in ax.texts] + [figure.get_suptitle()]
    return " ".join(" ".join(texts).split())


class Grey:
    """T frames of 60 x 80, each of its own grey."""

    def __init__(self, count: int):
        self.count, self.read = count, []

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, frame: int) -> np.ndarray:
        self.read.append(frame)
        return np.full((60, 80, 3), 2 * frame, np.uint8)

    def digest(self) -> str:
        return "grey"


@pytest.fixture
def sequence() -> Sequence:
    return Sequence("Grey", Grey(50), np.tile([10.0, 20, 30, 15], (50, 1)))


def test_success_legend_is_ranked_and_a_perfect_tracker_scores_20_of_21():
    texts = legend(plots.success_plot(scores_of({"off": [10.0, 10.0], "perfect": [0.0, 0.0]})))
    assert texts[0] == "perfect  0.952 [0.952, 0.952]"
    # IoU is 30 / 50 but in the first frame: above 12 of the thresholds 0, 0.05, ..., 0.55
    assert texts[1] == f"off  {(12 * 19 + 20) / 20 / 21:.3f} [0.590, 0.590]"


def test_precision_is_read_at_20_pixels():
    texts = legend(plots.precision_plot(scores_of({"near": [20.0, 20.0], "far": [21.0, 21.0]})))
    assert texts == ["near  1.000 [1.000, 1.000]", "far  0.050 [0.050, 0.050]"]  # the first frame is always right


def test_interval_holds_the_mean_and_agrees_with_the_table():
    scores = scores_of({"mixed": [0.0, 4.0, 8.0, 16.0, 30.0]})
    row = scores.summary().query("metric == 'success_auc'").iloc[0]
    assert row.low < row["mean"] < row.high
    assert legend(plots.success_plot(scores)) == [f"mixed  {row['mean']:.3f} [{row.low:.3f}, {row.high:.3f}]"]


def test_band_of_many_sequences_is_the_normal_interval():
    values = np.random.default_rng(1).normal(0.5, 0.1, (400, 1))
    low, high = plots._band(values, np.ones(400), draws=20000)
    half = 1.96 * values.std() / 20
    assert low[0] == pytest.approx(values.mean() - half, abs=0.05 * half)
    assert high[0] == pytest.approx(values.mean() + half, abs=0.05 * half)


def test_one_sequence_has_no_interval():
    assert legend(plots.success_plot(scores_of({"perfect": [0.0]}))) == ["perfect  0.952"]


def test_what_was_seen_in_training_is_told():
    scores = scores_of({"a": [0.0, 10.0]}, seen={"a": frozenset({"s0"})})
    assert legend(plots.success_plot(scores))[0].endswith(f"unseen {(12 * 19 + 20) / 20 / 21:.3f}")


def test_convention_and_data_are_on_the_figure_and_axes_have_units():
    figure = plots.precision_plot(scores_of({"a": [0.0, 1.0]}, "rendered-test"))
    (ax,) = figure.axes
    assert said(figure) == "otb convention (OTB MATLAB toolkit v1.0) rendered-test (synthetic), 2 sequences, OPE"
    assert ax.get_xlabel() == "Location error threshold (pixels)"
    assert ax.get_ylabel() == "Precision (share of frames)"


@pytest.mark.parametrize("name", CONVENTIONS)
def test_every_convention_draws_its_curves_by_its_own_headline(name):
    scores = scores_of({"off": [25.0, 30.0], "near": [1.0, 2.0]}, convention=name)
    for curve in scores.convention.curves:
        figure = plots.curve_plot(scores, curve.name)
        (ax,) = figure.axes
        assert ax.get_xlabel().lower() == curve.label
        assert ax.get_xlim() == (curve.thresholds[0], curve.thresholds[-1])
        assert f"{name} convention ({scores.convention.toolkit})" in said(figure)
        measure = next(m for m in scores.convention.measures if m.curve == curve.name)
        assert ax.get_legend().get_title().get_text().startswith(measure.label)
        assert legend(figure)[0].startswith(f"near  {scores.mean('near')[measure.name]:.3f}")
    with pytest.raises(ValueError, match="has no recall curve; it has: success"):
        plots.curve_plot(scores, "recall")


def test_got10k_plot_is_ranked_by_average_overlap_and_its_band_weighs_frames():
    scores = scores_of({"a": [0.0, 20.0]}, convention="got10k")
    ax = plots.success_plot(scores).axes[0]
    assert ax.get_legend().get_title().get_text() == "AO [95 % interval]"
    assert len(ax.lines[0].get_xdata()) == 101
    curves = np.array([[1.0], [0.0]])
    low, high = plots._band(curves, np.array([3.0, 1.0]))
    assert (low[0], high[0]) == (0, 1)  # one sequence drawn twice
    assert plots._band(curves[:1], np.array([3.0])).tolist() == [[1], [1]]


def test_bands_can_be_left_out():
    scores = scores_of({"a": [0.0, 10.0]})
    assert len(plots.success_plot(scores).axes[0].collections) == 1
    assert len(plots.success_plot(scores, bands=False).axes[0].collections) == 0


def test_long_names_lose_their_middle():
    names = {"a": "short", "b": "siamfc-3s-retrained-on-100-percent-of-the-videos"}
    assert plots.shortened(names) == {"a": "short", "b": "siamfc-3s-retra…t-of-the-videos"}
    alike = {
        name: name for name in ("siamfc-3s-retrained-on-100-of-all-videos", "siamfc-3s-retrained-on-200-of-all-videos")
    }
    assert plots.shortened(alike) == alike


def test_colours_and_styles_agree_between_plots_and_differ_between_trackers():
    scores = scores_of({f"t{i}": [float(i), 2.0 * i] for i in range(9)})
    looks = []
    for plot in (plots.success_plot, plots.precision_plot):
        handles = plot(scores).axes[0].get_legend().legend_handles
        looks.append({(h.get_label().split()[0], h.get_color(), h.get_linestyle()) for h in handles})
    assert looks[0] == looks[1]
    assert len({look[1:] for look in looks[0]}) == 9


def test_given_axes_are_drawn_into_and_pyplot_stays_out():
    import matplotlib.pyplot as plt

    figure = plots.Plot(8, 4)
    left, right = figure.subplots(1, 2)
    scores = scores_of({"a": [0.0, 1.0]})
    assert plots.success_plot(scores, left) is figure
    assert plots.precision_plot(scores, ax=right) is figure
    assert len(figure.axes) == 2
    assert plt.get_fignums() == []


def test_figures_show_as_png_and_print_as_vectors_with_real_fonts(tmp_path):
    figure = plots.success_plot(scores_of({"a": [0.0, 1.0]}))
    assert figure._repr_png_().startswith(b"\x89PNG")
    pdf = figure.save(tmp_path / "plot.pdf").read_bytes()
    assert pdf.startswith(b"%PDF")
    assert b"/Subtype /Image" not in pdf
    assert b"/Type3" not in pdf
    assert "<text" in figure.save(tmp_path / "plot.svg").read_text()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["plot.pdf", "plot.svg"]


def test_learning_curve_has_a_panel_for_each_number():
    log = pd.DataFrame(
        {
            "epoch": [1, 2],
            "step": [5, 10],
            "samples": [40, 80],
            "lr": [0.1, 0.01],
            "loss": [0.7, 0.5],
            "val_auc": [0.2, 0.3],
        }
    )
    figure = plots.learning_curve(log)
    assert [ax.get_ylabel() for ax in figure.axes] == ["Loss", "val auc", "Learning rate"]
    assert figure.axes[1].lines[0].get_xydata().tolist() == [[40, 0.2], [80, 0.3]]
    assert figure.axes[2].get_xlabel() == "Training pairs seen"
    with pytest.raises(ValueError, match="lacks loss"):
        plots.learning_curve(log.drop(columns="loss"))


def test_training_pairs_mark_the_positive_cells():
    at = (np.arange(15) - 7) * 8
    labels = np.where(np.hypot(at[:, None], at) <= 16, 1, -1)
    z, x = np.zeros((2, 127, 127, 3), np.uint8), np.zeros((2, 239, 239, 3), np.uint8)
    figure = plots.training_pairs(z, x, labels, columns=2)
    dots = np.asarray(figure.axes[1].collections[0].get_offsets())
    assert len(dots) == 13  # radius 16 at stride 8
    assert dots.mean(0) == pytest.approx([119, 119])  # the middle pixel of 239
    assert dots.max(0) == pytest.approx([119 + 16, 119 + 16])
    with pytest.raises(ValueError, match="2 exemplars for 1 search"):
        plots.training_pairs(z, x[:1])


def test_snapshots_draw_boxes_where_the_pixels_are(sequence):
    figure = plots.snapshots(sequence, {"mine": sequence.boxes + np.array([5, 0, 0, 0])}, frames=[0, 7, 49])
    assert sequence.frames.read == [0, 7, 49]  # and nothing else was decoded
    assert [ax.texts[0].get_text() for ax in figure.axes] == ["#0", "#7", "#49"]
    mine, truth = figure.axes[1].patches
    assert mine.get_bbox().bounds == (14.5, 19.5, 30, 15)  # imshow centres pixel 0 on 0
    assert truth.get_bbox().bounds == (9.5, 19.5, 30, 15)
    assert truth.get_linestyle() not in ("-", "solid")
    assert mine.get_linestyle() in ("-", "solid")
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["ground truth", "mine"]


def test_photographs_show_as_jpeg(sequence):
    figure = plots.snapshots(sequence, {})
    assert figure._repr_png_() is None
    assert figure._repr_jpeg_().startswith(b"\xff\xd8")


def test_spread_covers_first_and_last():
    assert plots.spread(50, 5) == [0, 12, 24, 37, 49]
    assert plots.spread(3, 8) == [0, 1, 2]
    assert plots.spread(0, 8) == []


@pytest.mark.parametrize(("row", "column"), [(8, 8), (8, 12), (2, 8)])
def test_response_lands_where_the_tracker_looked(row, column):
    """A cell of a 17 x 17 map at stride 8 on 255 pixels speaks of places 8 / 255 of the region's side apart."""
    response = np.zeros((17, 17))
    response[row, column] = 1
    region = np.array([45.0, 5, 255, 255])  # frame pixels are search pixels
    over = plots.response_over(np.zeros((265, 345, 3), np.uint8), region, response)
    brightest = np.unravel_index(over.sum(2).argmax(), over.shape[:2])
    assert brightest == (5 + 127 + (row - 8) * 8, 45 + 127 + (column - 8) * 8)
    far = np.ones((265, 345), bool)
    far[5 + 59 : 5 + 196, 45 + 59 : 45 + 196] = False  # 136 pixels about the centre
    assert not over[far].any()


def test_unusual_response_leaves_the_frame_as_it_is():
    frame = np.full((40, 40, 3), 77, np.uint8)
    assert (plots.response_over(frame, np.array([0, 0, 40, 40]), np.ones((17, 17))) == frame).all()


def test_the_same_figure_is_the_same_bytes(tmp_path):
    """Two identical runs of a stage must give identical manifests."""
    log = [{"epoch": 1, "samples": 8, "lr": 0.1, "loss": 0.5}, {"epoch": 2, "samples": 16, "lr": 0.01, "loss": 0.4}]
    one, two = (plots.learning_curve(log).save(tmp_path / f"{n}.pdf").read_bytes() for n in "ab")
    assert one == two
    assert b"CreationDate" not in one


def test_overlap_over_time_leaves_gaps_and_ranks_by_the_mean(sequence):
    far, near = sequence.boxes + np.array([15.0, 0, 0, 0]), sequence.boxes + np.array([0.0, 5, 0, 0])
    far[10] = np.nan
    figure = plots.overlap_plot(sequence, {"far": far, "near": near}, "rendered-test")
    assert legend(figure) == ["near  0.500", "far  0.333"]  # 10 / 20 and 15 / 45
    drawn = figure.axes[0].lines[0].get_ydata()
    assert np.flatnonzero(np.isnan(drawn)).tolist() == [10]
    assert drawn[9] == pytest.approx(1 / 3)
    assert "no benchmark's repairs rendered-test (synthetic), Grey, 50 frames" in said(figure)
