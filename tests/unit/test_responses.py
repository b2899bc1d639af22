"""Figures of responses: what is drawn lies where it was measured, and colours mean one thing."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_rgba

from trackerlib import boxes as B
from trackerlib import load_tracker
from trackerlib.data.sequence import Sequence
from trackerlib.show import responses as R
from trackerlib.tracker import OneTarget

REGION = np.array([30.0, 10, 510, 510])  # two frame pixels a search pixel; its middle is (285, 265)
TARGET = np.array([321.0, 241, 8, 8])  # its centre (325, 245): 20 search pixels right of the middle, 10 above


class Dot:
    """T black frames with a white target."""

    def __init__(self, count: int):
        self.count, self.read = count, []

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, frame: int) -> np.ndarray:
        self.read.append(frame)
        image = np.zeros((560, 600, 3), np.uint8)
        image[241:249, 321:329] = 255
        return image


@pytest.fixture
def sequence() -> Sequence:
    return Sequence("Dot", Dot(6), np.tile(TARGET, (6, 1)))


@pytest.fixture
def maps() -> np.ndarray:
    """Responses of frames 1 to 5, the peak of frame t in row 2, column t."""
    maps = np.random.default_rng(0).random((5, 17, 17))
    maps[np.arange(5), 2, np.arange(1, 6)] = 2
    return maps


def marks(ax) -> dict[str, tuple[float, float]]:
    return {line.get_label(): tuple(line.get_xydata()[0]) for line in ax.lines}


def panels(figure, rows: int, columns: int) -> np.ndarray:
    return np.array(figure.axes[: rows * columns], object).reshape(rows, columns)


def test_peak_and_target_are_marked_where_they_are(sequence, maps):
    figure = R.response_strip(sequence, [1, 4], {"static": maps}, np.tile(REGION, (5, 1)))
    grid = panels(figure, 2, 2)
    for ax, t in zip(grid[1], (1, 4), strict=True):
        at = marks(ax)
        assert at["peak"] == (127 + 8 * (t - 8), 127 + 8 * (2 - 8))
        assert at["true centre"] == pytest.approx((127 + 20, 127 - 10))
        left, right, bottom, top = ax.images[-1].get_extent()
        assert (left, right, bottom, top) == (59, 195, 195, 59)  # 17 cells of 8 pixels
        assert ax.images[-1].get_array()[2, t] == 2
    assert sequence.frames.read == [1, 4]
    assert [ax.get_title() for ax in grid[0]] == ["#1", "#4"]


def test_the_searched_image_shows_the_target_under_its_box(sequence, maps):
    ax = R.response_strip(sequence, [3], {"static": maps}, np.tile(REGION, (5, 1)), {"mine": sequence.boxes}).axes[0]
    bright = np.argwhere(ax.images[0].get_array()[..., 0] > 127)
    assert bright.mean(0) == pytest.approx([127 - 10, 127 + 20], abs=0.6)
    mine, truth = ax.patches
    x, y, w, h = truth.get_bbox().bounds
    assert mine.get_bbox().bounds == (x, y, w, h)
    assert (x + w / 2, y + h / 2) == pytest.approx((127 + 20, 127 - 10))
    assert (w, h) == (4, 4)
    assert np.ptp(bright, 0) + 1 == pytest.approx([4, 4], abs=1)


def test_the_peak_is_where_the_tracker_went():
    """Without a window the next box is centred on the peak, to a cell, whatever the images."""
    images = np.random.default_rng(0).integers(0, 256, (3, 160, 200, 3), np.uint8)
    sequence = Sequence("noise", images, np.tile([80.0, 60, 40, 30], (3, 1)))
    tracker = load_tracker("siamfc-3s", weights="siamfc-quarter", window=0.0)
    tracker.keep_maps = True
    one = OneTarget(tracker)
    one.init(images[0], sequence.boxes[0])
    seen = [(one.update(image), one.last.maps["response"][0], one.last.regions[0]) for image in images[1:]]
    boxes, responses, regions = (np.stack(kept) for kept in zip(*seen, strict=True))
    grid = panels(R.response_strip(sequence, [1, 2], {"response": responses}, regions), 2, 2)
    places = [marks(ax)["peak"] for ax in grid[1]]
    assert np.abs(places - B.centre(R.in_search(boxes, regions))).max() <= 8
    assert np.abs(np.subtract(places, 127)).max() > 8


def test_colours_are_shared_along_a_row_and_only_there(sequence, maps):
    rows = {"static": maps, "dynamic": 3 * maps, "difference": 2 * maps - 1}
    grid = panels(R.response_strip(sequence, [1, 3, 5], rows, np.tile(REGION, (5, 1))), 4, 3)
    limits = [{ax.images[-1].get_clim() for ax in line} for line in grid[1:]]
    shown = maps[[0, 2, 4]]
    assert limits == [{(shown.min(), 2)}, {(3 * shown.min(), 6)}, {(-3, 3)}]
    assert {ax.images[-1].get_cmap().name for ax in grid[1:3].flat} == {"inferno"}
    assert {ax.images[-1].get_cmap().name for ax in grid[3]} == {"RdBu_r"}
    assert all(set(marks(ax)) == {"true centre"} for ax in grid[3])


def test_a_strip_wants_a_response_of_each_frame(sequence, maps):
    regions = np.tile(REGION, (5, 1))
    with pytest.raises(ValueError, match="Dot, static: 4 rows for the 5 frames after the first"):
        R.response_strip(sequence, [1], {"static": maps[1:]}, regions)
    for frames in ([0, 1], [6], []):
        with pytest.raises(ValueError, match="want some of frames 1 to 5"):
            R.response_strip(sequence, frames, {"static": maps}, regions)


def test_fusion_maps_show_a_difference_of_a_ten_thousandth():
    conv5 = np.ones((17, 17))
    conv5[8, 8], conv5[0] = 0.9999, 0.99995
    figure = R.fusion_maps(np.stack([conv5, 1 - conv5]), ["conv5", "conv4"])
    left, right = (ax for ax in figure.axes if ax.images)
    assert (left.get_title(), right.get_title()) == ("conv5", "conv4")
    (image,), border = left.images, 1 - 17 / 64 * 5e-5  # a row of the 64 cells
    assert left.texts[0].get_text() == f"centre 0.99990, border {border:.5f} (mean)"
    assert image.get_clim() == (0.9999, 1)
    assert image.norm(1.0) - image.norm(0.9999) == 1
    assert right.images[0].get_clim() == pytest.approx((0, 1e-4))
    assert image.get_extent() == [59, 195, 195, 59]
    assert "own colours" in figure.axes[-1].get_ylabel()
    with pytest.raises(ValueError, match="for 3 layers"):
        R.fusion_maps(np.stack([conv5, conv5]), ["a", "b", "c"])


def test_a_tracker_has_one_colour_in_all_strips(sequence):
    other = Sequence("Other", Dot(9), np.tile(TARGET, (9, 1)))
    a, b = ({s.name: s.boxes + by for s in (sequence, other)} for by in (1, 5))
    figure = R.qualitative_strips(
        [sequence, other], {"Dot": [0, 5], "Other": [2, 4, 8]}, {"a": a, "b": b}, "rendered-test"
    )
    grid = panels(figure, 2, 3)
    assert [[text.get_text() for text in ax.texts] for ax in grid.flat] == [["#0"], ["#5"], [], ["#2"], ["#4"], ["#8"]]
    assert (sequence.frames.read, other.frames.read) == ([0, 5], [2, 4, 8])
    assert [line[0].get_ylabel() for line in grid] == ["Dot", "Other"]
    colours = {tuple(patch.get_edgecolor() for patch in ax.patches) for ax in grid.flat if ax.patches}
    assert len(colours) == 1
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["ground truth", "a", "b"]
    drawn = grid[0, 0].patches
    assert [line.get_color() for line in legend.legend_handles[1:]] == [R.look(0)["color"], R.look(1)["color"]]
    assert len({patch.get_linestyle() for patch in drawn}) == 3
    assert drawn[0].get_bbox().bounds == (321.5, 241.5, 9, 9)  # of "a"; imshow centres pixel 0 on 0
    assert drawn[0].get_edgecolor() == to_rgba(R.look(0)["color"])
    assert "synthetic" in figure.get_suptitle()
    with pytest.raises(ValueError, match="no frames to show of Dot"):
        R.qualitative_strips([sequence], 0, {})


def test_peak_margin_is_the_lead_of_the_target_whatever_the_gain():
    regions, boxes = np.tile(REGION, (3, 1)), np.tile(TARGET, (3, 1))
    boxes[2] = np.nan
    maps = np.zeros((3, 17, 17))
    maps[2, 0, 0] = 1
    maps[0, 7, 10], maps[0, 1, 1] = 4, 1  # the target is 2.5 cells right, 1.25 up: row 6.75, column 10.5
    maps[1, 7, 10], maps[1, 7, 14] = 1, 4
    margin = R.peak_margin(maps, regions, boxes)
    assert margin[:2].tolist() == [0.75, -0.75]
    assert np.isnan(margin[2])
    assert R.peak_margin(0.5 * maps[:2] - 3, regions[:2], boxes[:2]).tolist() == [0.75, -0.75]
    far = boxes[:1] + np.array([200, 0, 0, 0])
    assert np.isnan(R.peak_margin(maps[:1], regions[:1], far)).all()
