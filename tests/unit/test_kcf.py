"""KCF against the regression it is, against its authors' constants, and on moving targets."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import trackerlib as tl
from trackerlib import boxes as B
from trackerlib.baselines.kcf import KCF_GREY, KCF_HOG, KCFConfig, KCFTracker, _halved, _labels, _patch, _shift
from trackerlib.data.sequence import Sequence
from trackerlib.tracker import Frames


class Film:
    """A blob of texture that moves over another one."""

    def __init__(self, path: np.ndarray, size=(160, 120), target=(24, 20), grow: float = 1.0):
        rng = np.random.default_rng(3)
        self.path, self.grow = path, grow
        self.ground = np.kron(rng.integers(60, 120, (size[1] // 4 + 1, size[0] // 4 + 1)), np.ones((4, 4)))
        self.ground = self.ground[: size[1], : size[0]]
        self.target = np.kron(rng.integers(0, 256, (target[1] // 4, target[0] // 4)), np.ones((4, 4)))

    def __len__(self) -> int:
        return len(self.path)

    def __getitem__(self, t: int) -> np.ndarray:
        image, (x, y) = self.ground.copy(), self.path[t]
        h, w = self.target.shape
        image[y : y + h, x : x + w] = self.target
        return np.repeat(image[..., None], 3, 2).astype(np.uint8)

    def digest(self) -> str:
        return "film"


def film(length: int = 20, step=(2, 1), start=(20, 30)) -> Sequence:
    path = np.array(start) + np.arange(length)[:, None] * np.array(step)
    return Sequence("film", Film(path), np.column_stack([path, np.tile([24.0, 20], (length, 1))]))


@pytest.mark.parametrize("config", [KCF_HOG, KCF_GREY])
def test_it_follows_a_moving_target(config):
    sequence = film()
    found = tl.track_sequence(KCFTracker(config), sequence)
    assert B.centre_error(sequence.boxes, found).max() <= 4  # a cell of HOG
    assert (found[:, 2:] == [24, 20]).all()


def test_a_shifted_video_shifts_the_boxes():
    here, there = (tl.track_sequence(KCFTracker(), film(start=start)) for start in ((20, 30), (28, 34)))
    assert np.abs(there - here - [8, 4, 0, 0]).max() <= 4


def test_alpha_is_kernel_ridge_regression_on_all_circular_shifts():
    """The theorem that the paper is about: Eq. 17 solves (K + lambda) alpha = y with K_ij = k(x shifted by i, by j)."""
    x = torch.rand(2, 6, 5, generator=torch.Generator().manual_seed(0)).double()
    tracker, shape = KCFTracker(KCFConfig(ridge=0.01)), (6, 5)
    spectrum = torch.fft.rfft2(x)
    labels = _labels(1.0, shape, torch.device("cpu"))
    alpha = torch.fft.irfft2(labels / (tracker._kernel(spectrum, spectrum, shape) + 0.01), s=shape)
    shifted = [torch.roll(x, (i, j), (1, 2)) for i in range(6) for j in range(5)]
    distance = torch.stack([torch.stack([((a - b) ** 2).sum() for b in shifted]) for a in shifted]) / x.numel()
    gram = torch.exp(-distance / 0.5**2)
    y = torch.fft.irfft2(labels, s=shape).double().flatten()
    dense = torch.linalg.solve(gram + 0.01 * torch.eye(30), y)
    torch.testing.assert_close(alpha.flatten().double(), dense, atol=1e-5, rtol=1e-4)


def test_labels_are_a_gaussian_with_its_peak_at_no_shift():
    y = torch.fft.irfft2(_labels(2.0, (8, 7), torch.device("cpu")), s=(8, 7))
    assert y.argmax() == 0
    assert y[0, 0] == pytest.approx(1)
    for row, column, distance in ((1, 0, 1), (7, 0, 1), (0, 6, 1), (2, 3, 13), (4, 0, 16)):
        assert y[row, column] == pytest.approx(np.exp(-distance / 8), abs=1e-6)


@pytest.mark.parametrize(
    ("at", "shift"), [((0, 0), (0, 0)), ((1, 2), (2, 1)), ((4, 0), (0, -4)), ((3, 0), (0, 3)), ((7, 6), (-1, -1))]
)
def test_shifts_past_the_middle_go_backwards(at, shift):
    """MATLAB: vert_delta > size / 2, counted from 1."""
    response = torch.zeros(8, 7)
    response[at] = 1
    assert _shift(response).tolist() == list(shift)


def test_a_patch_reaches_beyond_the_image():
    image = torch.arange(20.0).reshape(4, 5)
    assert _patch(image, torch.tensor([0.0, 0.0]), 4, 3).tolist() == [
        [0, 0, 1, 2],  # of 4 pixels one lies before the place and two behind it, as MATLAB's floor has it
        [5, 5, 6, 7],
        [10, 10, 11, 12],
    ]
    assert _patch(image, torch.tensor([4.0, 3.0]), 3, 2).tolist() == [[19, 19, 19], [19, 19, 19]]


def test_large_targets_are_tracked_at_half_the_size():
    sequence = film()
    large = Sequence(
        "large", Film(np.array([[20, 30]] * 3), (400, 320), (128, 100)), np.tile([20.0, 30, 128, 100], (3, 1))
    )
    tracker = KCFTracker()
    for of, half in ((sequence, 1), (large, 2)):
        image = torch.from_numpy(of.frames[0]).permute(2, 0, 1)
        state = tracker.init(Frames([image], [0], [("x", 0)]), torch.tensor(of.boxes[:1], dtype=torch.float32))
        assert state.half.tolist() == [half]
        assert state.window.tolist() == [[float(int(int(v / half) * 2.5)) for v in of.boxes[0, 2:]]]
    assert B.centre_error(large.boxes, tl.track_sequence(tracker, large)).max() <= 8
    assert _halved(torch.full((7, 9), 100.0)).unique().tolist() == [100]


def test_the_variant_with_scales_follows_a_growing_target():
    length = 12
    sizes = np.array([40, 30]) * 1.03 ** np.arange(length)[:, None]
    rng = np.random.default_rng(0)
    texture = torch.tensor(rng.integers(0, 256, (1, 1, 10, 10)), dtype=torch.float32)

    class Growing(Film):
        def __getitem__(self, t):
            image = torch.full((120, 160), 90.0)
            w, h = sizes[t].round().astype(int)
            grown = torch.nn.functional.interpolate(texture, (int(h), int(w)), mode="bilinear")[0, 0]
            image[60 - h // 2 : 60 - h // 2 + h, 80 - w // 2 : 80 - w // 2 + w] = grown
            return np.repeat(image.numpy()[..., None], 3, 2).astype(np.uint8)

    boxes = np.column_stack([[80, 60] - sizes / 2, sizes])
    sequence = Sequence("growing", Growing(np.zeros((length, 2), int)), boxes)
    fixed, scaled = (tl.track_sequence(KCFTracker(c), sequence) for c in (KCF_HOG, KCFConfig(scales=3)))
    assert B.iou(boxes, scaled)[-1] > B.iou(boxes, fixed)[-1] + 0.1


def test_its_response_is_shown_over_the_window_searched():
    tracker, sequence = KCFTracker(), film(3)
    tracker.keep_maps = True
    one = tl.OneTarget(tracker)
    one.init(sequence.frames[0], sequence.boxes[0])
    one.update(sequence.frames[1])
    (region,) = one.last.regions.tolist()
    assert region == [3, 16, 60, 50]  # 2.5 times the target about it, in MATLAB's pixels
    heat = one.last.maps["heat map"][0]
    y, x = divmod(int(heat.argmax()), heat.shape[1])
    centre = np.array([3 + 60 * (x + 0.5) / 32, 16 + 50 * (y + 0.5) / 32])
    assert np.abs(centre - B.centre(sequence.boxes[1])).max() < 4


@pytest.mark.parametrize(
    ("setting", "message"),
    [({"features": "color"}, "features are 'hog' or 'grey'"), ({"scales": 2}, "scales are an odd number")],
)
def test_a_wrong_configuration_is_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        KCFConfig(**setting)
