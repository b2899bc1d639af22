"""What GSTP trains on: the boxes lie where the target is drawn, whatever was cut, scaled, mirrored or padded."""

import numpy as np
import pytest

from trackerlib import boxes as B
from trackerlib.data import Dataset, Sequence
from trackerlib.data.frames import keep_frames
from trackerlib.data.pairs import FramePairs, Trajectories, _scaled
from trackerlib.data.samplers import Augmentation

STILL = Augmentation(lighting=0, flip=True)


class Squares:
    """A grey video with a white target that walks to the right, two pixels a frame."""

    def __init__(self, boxes):
        self.boxes = boxes

    def __len__(self):
        return len(self.boxes)

    def __getitem__(self, t):
        frame = np.full((90, 160, 3), 60, np.uint8)
        x, y, w, h = self.boxes[t].astype(int)
        frame[y : y + h, x : x + w] = 255
        return frame

    def digest(self):
        return "squares"


def walking(frames=20, absent=()):
    boxes = np.array([[20 + 2 * t, 30, 24, 16] for t in range(frames)], float)
    gone = np.isin(np.arange(frames), absent)
    return Dataset("squares", [Sequence("one", Squares(boxes), boxes, absent=gone)])


def white(image):
    """The box of what is white."""
    y, x = np.nonzero(image[..., 0] > 157)
    return np.array([x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1], float)


@pytest.mark.parametrize("roots", [(15, 20), (30, 40), (50, 60)])
def test_boxes_of_pairs_lie_where_the_target_is(roots):
    sampler, places, sides = FramePairs(walking(), (192, 128), roots, augmentation=STILL), [], set()
    for index in range(40):
        sample = sampler[index]
        assert sample["z"].shape == sample["x"].shape == (128, 192, 3)
        for label in "zx":
            box = sample[f"{label}_box"]
            np.testing.assert_allclose(white(sample[label]), box, atol=1.01)
            assert roots[0] - 0.5 <= np.sqrt(box[2] * box[3]) <= roots[1] + 0.5
        across, down = sample["size"].astype(int)
        assert (sample["x"][down:] == 0).all()
        assert (sample["x"][:, across:] == 0).all()
        assert sample["x"][:down, :across].min() > 0
        places.append(B.centre(sample["x_box"]))
        sides.add((across, down))
    assert np.ptp(places, 0)[0] > 30
    assert all((s <= (192, 128)) for s in sides)


def test_both_of_a_pair_are_mirrored_or_none():
    """The target is in the left half of every frame, and in the right half of a mirrored one."""
    sampler = FramePairs(walking(), (400, 300), (19.6, 19.61), augmentation=STILL)  # its own size
    sides = [tuple(B.centre(sampler[i][f"{label}_box"])[0] > 80 for label in "zx") for i in range(40)]
    assert set(sides) == {(False, False), (True, True)}


def test_trajectories_end_at_the_target():
    sampler = Trajectories(walking(), 4, (192, 128), jitter=0.0, lost=0.0, augmentation=STILL)
    repeated = 0
    for index in range(60):
        sample = sampler[index]
        x, y, w, h = white(sample["x"])
        np.testing.assert_allclose(sample["truth"], [x + w / 2, y + h / 2], atol=0.75)
        steps = np.diff(np.vstack([sample["places"], sample["truth"]])[:, 0])
        assert sample["places"].shape == (4, 2)
        assert {round(abs(float(step)), 2) for step in steps} <= {0.0, 2.4}  # 2 pixels, enlarged by 1.2
        repeated += steps[0] == 0
    assert 10 < repeated < 60
    lost = Trajectories(walking(), 4, (192, 128), jitter=0.0, lost=1.0, augmentation=STILL)
    away = [np.linalg.norm(lost[i]["places"][-1] - lost[i]["truth"]) for i in range(20)]
    assert np.median(away) > 20


def test_only_frames_that_were_kept_are_drawn(tmp_path):
    whole = walking()
    kept = keep_frames(whole, tmp_path, 7)
    pairs, paths = (
        FramePairs(kept, (192, 128), augmentation=STILL),
        Trajectories(kept, 3, (160, 90), augmentation=STILL),
    )
    assert list(pairs.shown["one"]) == [0, *paths.shown["one"]] == [0, 7, 14]
    assert len(pairs.seen["one"]) == 20
    assert {pairs[i]["video"] for i in range(5)} == {0}
    still = Trajectories(kept, 3, (160, 90), jitter=0.0, lost=0.0, forget=0.0, augmentation=Augmentation(lighting=0))
    sample = still.of("one", 14, np.random.default_rng(0))
    np.testing.assert_allclose(sample["places"][:, 0], [32 + 2 * t for t in (11, 12, 13)])
    assert sample["truth"][0] == 32 + 28


def test_an_exemplar_may_have_a_canvas_of_its_own():
    sample = FramePairs(walking(), (192, 128), (20, 30), exemplar=(64, 48), augmentation=STILL)[3]
    assert sample["z"].shape == (48, 64, 3)
    assert sample["x"].shape == (128, 192, 3)


@pytest.mark.parametrize("bad", [{"roots": (0, 5)}, {"roots": (64, 32)}, {"canvas": (20, 200)}, {"exemplar": (10, 64)}])
def test_pairs_of_no_size_are_refused(bad):
    with pytest.raises(ValueError, match="roots from 1 pixel up"):
        FramePairs(walking(), **bad)
    with pytest.raises(ValueError, match="one place at least"):
        Trajectories(walking(), 0)


def test_frames_without_the_target_are_not_drawn_and_samples_are_named():
    sampler = Trajectories(walking(absent=range(3, 20)), 2, (192, 128), augmentation=STILL)
    assert list(sampler.seen["one"]) == [0, 1, 2]
    with pytest.raises(ValueError, match="no frame in which"):
        FramePairs(walking(absent=range(20)))
    others = [FramePairs(walking(), **kw) for kw in ({}, {"seed": 1}, {"roots": (32, 64)}, {"canvas": (320, 192)})]
    assert len({s.digest() for s in others}) == 4
    again = FramePairs(walking())
    assert all((again[3][k] == others[0][3][k]).all() for k in again[3])


def test_frames_shrink_by_areas():
    """Noise at a tenth of its size is nearly even, as it is for a tracker; read between pixels it would stay noise."""
    noise = np.random.default_rng(0).integers(0, 256, (400, 600, 3), dtype=np.uint8)
    small = _scaled(noise, 0.1, np.array([4.0, 2.0]), (72, 48))
    inner = small[6:38, 8:60].astype(float)
    assert inner.std() < 12
    edge = np.zeros((400, 600, 3), np.uint8)
    edge[:, 300:] = 250
    small = _scaled(edge, 0.1, np.array([4.0, 2.0]), (72, 48))
    np.testing.assert_array_equal(small[20, [30, 33, 34, 37], 0], [0, 0, 250, 250])


def test_no_trajectory_ends_in_the_first_frame_of_the_target():
    sampler = Trajectories(walking(absent=range(3)), 2, (192, 128), augmentation=STILL)
    assert list(sampler.shown["one"]) == list(range(4, 20))
    with pytest.raises(ValueError, match="and was before"):
        Trajectories(walking(absent=range(1, 20)), 2)
