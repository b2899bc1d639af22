"""Clips for joint training: functions of (seed, index), seen through a window that stands still."""

import pickle

import numpy as np
import pytest

from trackerlib import boxes as B
from trackerlib.data import load_dataset
from trackerlib.data.clips import MARGIN, ClipSampler, usable_starts
from trackerlib.data.sequence import Dataset, NoFrames, Sequence


class Video(list):
    def digest(self):
        return f"{len(self)} frames"


def passing(name="passing", count=16, seed=0, background=None, size=(120, 90)):
    """A white rectangle that moves along a curve and grows before a background that does not."""
    noise = np.random.default_rng(seed).integers(0, 200, (size[1], size[0], 3), np.uint8)
    frames, boxes = Video(), []
    for t in range(count):
        image = noise.copy() if background is None else np.full_like(noise, background)
        x, y, w, h = 4 + 3 * t, 2 + t * t // 6, 16 + t, 20 + t // 2
        image[y : y + h, x : x + w] = 255
        frames.append(image)
        boxes.append((x, y, w, h))
    return Sequence(name, frames, np.array(boxes, float))


def annotated(boxes, size=(320, 240), absent=None):
    """A sequence that cannot be decoded."""
    return Sequence("annotated", NoFrames(len(boxes), "nowhere"), np.array(boxes, float), size=size, absent=absent)


def starts(sequence, area=(0.0, 1.0)):
    return usable_starts(sequence, 10, area, 383).tolist()


def test_clips_depend_on_seed_and_index_alone():
    dataset = Dataset("toy", [passing("a"), passing("b", seed=1, size=(160, 100))])
    one, other = ClipSampler(dataset, seed=3), pickle.loads(pickle.dumps(ClipSampler(dataset, seed=3)))
    other[5]
    for index in (0, 7, 1000):
        clip = one[index]
        assert {k: (v.shape, v.dtype.name) for k, v in clip.items()} == {
            "images": ((10, 383, 383, 3), "uint8"),
            "boxes": ((10, 4), "float32"),
        }
        for key, value in clip.items():
            np.testing.assert_array_equal(value, other[index][key])
    again = ClipSampler(dataset, seed=4)
    assert [one.draw(i) for i in range(8)] != [again.draw(i) for i in range(8)]


def test_boxes_lie_on_the_target():
    """A white rectangle on black: centroid and number of its pixels in the window are the box's centre and area."""
    clip = ClipSampler(Dataset("toy", [passing(background=0)]))[0]
    at = np.arange(383) + 0.5
    for image, box in zip(clip["images"][..., 0] > 127, clip["boxes"], strict=True):
        centroid = np.array([(image.sum(axis) * at).sum() for axis in (0, 1)]) / image.sum()
        assert np.abs(centroid - B.centre(box)).max() < 0.4
        assert image.sum() == pytest.approx(box[2] * box[3], rel=0.02)


def test_window_takes_scale_from_the_first_frame_and_place_from_the_whole_path():
    sampler = ClipSampler(Dataset("toy", [passing()]))
    boxes, start = sampler[0]["boxes"], sampler.draw(0)[1]
    assert B.context_side(boxes[0, 2:]) == pytest.approx(127, abs=1e-3)
    centres = B.centre(boxes)
    np.testing.assert_allclose((centres.min(0) + centres.max(0)) / 2, 383 / 2, atol=1e-3)
    sizes = passing().boxes[start : start + 10, 2:]
    np.testing.assert_allclose(boxes[:, 2:] / boxes[0, 2:], sizes / sizes[0], rtol=1e-5)


def test_window_stands_still_and_shows_the_first_frame_s_mean_outside():
    sequence = passing()
    sampler = ClipSampler(Dataset("toy", [sequence]))
    index = next(i for i in range(100) if sampler.draw(i)[1] == 0)  # begins in the frame's corner
    images, boxes = sampler[index].values()
    ys, xs = np.mgrid[:383, :383] + 0.5
    covered = np.zeros((383, 383), bool)
    for x, y, w, h in boxes:
        covered |= (abs(xs - x - w / 2) < w / 2 + 4) & (abs(ys - y - h / 2) < h / 2 + 4)
    assert 0.1 < covered.mean() < 0.3
    assert images[0][~covered].std() > 20  # something to see there
    assert (images == images[0])[:, ~covered].all()
    mean = np.rint(sequence.frames[0].mean((0, 1)))
    assert (mean != np.rint(sequence.frames[9].mean((0, 1)))).all()
    assert (images[:, :3] == mean).all()


def test_the_target_is_in_view_for_a_whole_clip():
    still = np.tile([100.0, 100, 30, 40], (30, 1))
    assert starts(annotated(still)) == list(range(21))
    gone = np.arange(30) == 12
    usable = [0, 1, 2, *range(13, 21)]
    assert starts(annotated(still, absent=gone)) == usable
    for row in ([np.nan] * 4, [0, 0, 0, 0], [100, 100, np.inf, 40]):
        assert starts(annotated(np.where(gone[:, None], row, still), absent=np.zeros(30, bool))) == usable
    assert starts(annotated(still[:9])) == []


def test_area_and_aspect_are_the_first_frame_s():
    """Squares of side 20 + 10 t in 320 x 240: 1 % is a side of 27.7, a quarter one of 138.6."""
    side = 20.0 + 10 * np.arange(30)
    growing = np.stack([160 - side / 2, 120 - side / 2, side, side], 1)
    assert starts(annotated(growing), area=(0.01, 0.25)) == list(range(1, 12))
    flat = np.tile([100.0, 100, 80, 20], (12, 1))
    assert starts(annotated(flat)) == [0, 1, 2]
    flat[1, 2] = 81
    assert starts(annotated(flat)) == [0, 2]
    assert starts(annotated(flat[:, [1, 0, 3, 2]])) == [0, 2]


@pytest.mark.parametrize(("step", "usable"), [(11.16, True), (11.17, False)])
def test_the_path_fits_the_window(step, usable):
    """A square of 20 is shown at 127 / 40: in 383 - 2 * 32 window pixels nine steps of 11.164 fit."""
    square = np.tile([100.0, 100, 20, 20], (10, 1))
    for axis in (0, 1):
        square[:, axis] += np.arange(10) * step
        assert starts(annotated(square)) == [0] * usable
        square[:, axis] = 100


def test_rendered_clips_keep_what_the_window_promises():
    sampler = ClipSampler(load_dataset("rendered-train", count=4))
    for index in range(4):
        centres = B.centre(sampler[index]["boxes"])
        assert centres.min() >= MARGIN - 1e-3
        assert centres.max() <= 383 - MARGIN + 1e-3


def test_fixed_clips_come_once_an_epoch_in_changing_order():
    dataset = Dataset("toy", [passing("a", count=60), passing("b", count=60)])
    sampler = ClipSampler(dataset, clips=12)
    first, second = ([sampler.draw(i) for i in range(e * 12, (e + 1) * 12)] for e in (0, 1))
    assert sorted(first) == sorted(second)
    assert first != second
    fresh = ClipSampler(dataset)
    assert sorted(first) == sorted(fresh.draw(i) for i in range(12))
    assert len({fresh.draw(i) for i in range(100)}) > 12


def test_digest_names_dataset_and_settings():
    def digest(name="a", **settings):
        return ClipSampler(Dataset("toy", [passing(name)]), **settings).digest()

    assert digest() == digest()
    changes = [{"length": 5}, {"area": (0.02, 0.25)}, {"clips": 9}, {"size": 319}, {"seed": 1}, {"name": "b"}]
    assert len({digest(), *(digest(**change) for change in changes)}) == 7


def test_no_usable_clip_is_an_error():
    with pytest.raises(ValueError, match=r"toy: no usable clip in 1 sequences \(20 successive frames"):
        ClipSampler(Dataset("toy", [passing()]), length=20)
