"""Figures: ranks, numbers, labels and places are checked on the artists; the look was checked by eye."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from trackerlib.bench.conventions import CONVENTIONS
from trackerlib.bench.score import Scores
from trackerlib.data.sequence import Sequence
from trackerlib.show import plots

OTB = CONVENTIONS["otb"]


def scores_of(errors: dict[str, list[float]], dataset: str = "otb100", seen: dict | None = None) -> Scores:
    """Each tracker is off by so many pixels, all along, on one sequence a number, with boxes 40 x 40."""
    truth = np.tile([11.0, 11, 40, 40], (20, 1))
    curves = {
        tracker: {f"s{i}": OTB.score(truth + np.array([e, 0, 0, 0]), truth) for i, e in enumerate(offsets)}
        for tracker, offsets in errors.items()
    }
    return Scores(OTB, dataset, curves, seen or {})


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


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
    low, high = plots._band(values, draws=20000)
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
    assert ax.texts[0].get_text() == "otb convention · rendered-test (synthetic), 2 sequences"
    assert ax.get_xlabel() == "Location error threshold (pixels)"
    assert ax.get_ylabel() == "Precision (share of frames)"


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
