"""Context crops against an independent crop by OpenCV, and their geometry."""

import cv2
import numpy as np
import pytest
import torch

from trackerlib.images import context_crops, decode, mean_colour, read_image, to_tensor


def noise(height=120, width=160, seed=0):
    return cv2.GaussianBlur(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8), (0, 0), 1.5)


def reference(image, centre, side, out, fill):
    """Pad the whole frame by the fill in float, then remap: OpenCV's own interpolation of the same positions."""
    pad = 300
    padded = np.empty((image.shape[0] + 2 * pad, image.shape[1] + 2 * pad, 3), np.float32)
    padded[:] = fill
    padded[pad:-pad, pad:-pad] = image
    at = (np.arange(out) + 0.5) / out * side - side / 2
    xs, ys = np.meshgrid(at + centre[0] + pad - 0.5, at + centre[1] + pad - 0.5)
    return cv2.remap(padded, xs.astype(np.float32), ys.astype(np.float32), cv2.INTER_LINEAR)


@pytest.mark.parametrize(("centre", "side"), [((80, 60), 50), ((3.3, 110.7), 97), ((150, 2), 240), ((-90, 60), 80)])
def test_crop_equals_opencv_on_a_padded_frame(centre, side):
    """Largest difference 6e-4 of 255 grey levels beside OpenCV 5; OpenCV 4's remap rounds positions to 1/32 pixel."""
    image = noise()
    fill = mean_colour(to_tensor(image))
    crop = context_crops(to_tensor(image), torch.tensor([centre]).float(), torch.tensor([float(side)]), 127, fill)
    want = reference(image, centre, side, 127, fill.numpy())
    difference = np.abs(crop[0].permute(1, 2, 0).numpy() - want)
    exact = int(cv2.__version__.split(".")[0]) >= 5
    assert difference.max() < (0.002 if exact else 4)
    assert difference.mean() < (0.0005 if exact else 0.3)


def test_integer_crop_is_exact():
    """At scale 1 and a whole-pixel corner the crop is the slice itself."""
    image = noise()
    crop = context_crops(to_tensor(image), torch.tensor([[70.0, 50.0]]), torch.tensor([64.0]), 64, torch.zeros(3))
    np.testing.assert_allclose(crop[0].permute(1, 2, 0), image[18:82, 38:102], atol=2e-3)


def test_outside_is_the_fill_colour():
    fill = torch.tensor([10.0, 20.0, 30.0])
    crop = context_crops(to_tensor(noise()), torch.tensor([[-500.0, -500.0]]), torch.tensor([100.0]), 32, fill)
    assert torch.equal(crop[0], fill[:, None, None].expand(3, 32, 32))


def test_many_crops_equal_one_by_one():
    image, generator = to_tensor(noise()), torch.Generator().manual_seed(0)
    centres, sides = torch.rand(7, 2, generator=generator) * 160, 20 + 200 * torch.rand(7, generator=generator)
    fills = torch.rand(7, 3, generator=generator) * 255
    together = context_crops(image, centres, sides, 63, fills)
    for k in range(7):
        alone = context_crops(image, centres[k : k + 1], sides[k : k + 1], 63, fills[k])
        # Another part of the image is sampled: positions in it round otherwise.
        torch.testing.assert_close(together[k], alone[0], atol=0.02, rtol=0)


def test_dot_round_trip_within_half_a_pixel():
    """Render a dot, crop, and map its place in the crop back to the frame (SPEC 9.3)."""
    for x, y in [(40, 70), (81, 33), (120, 100)]:
        image = np.zeros((120, 160, 3), np.uint8)
        image[y, x] = 255
        centre, side, out = torch.tensor([[75.4, 61.8]]), 143.0, 255
        crop = context_crops(to_tensor(image), centre, torch.tensor([side]), out, torch.zeros(3))[0, 0]
        weight = crop / crop.sum()
        at = torch.arange(out) + 0.5
        found = (
            torch.stack([(weight.sum(0) * at).sum(), (weight.sum(1) * at).sum()]) * side / out + centre[0] - side / 2
        )
        assert (found - torch.tensor([x + 0.5, y + 0.5])).abs().max() < 0.5


def test_truncated_jpeg_is_refused(tmp_path):
    data = cv2.imencode(".jpg", noise())[1].tobytes()
    path = tmp_path / "0001.jpg"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"0001\.jpg: truncated"):
        read_image(path)
    path.write_bytes(data + bytes(5000))  # what cameras append
    assert read_image(path).shape == (120, 160, 3)
    with pytest.raises(ValueError, match="not a decodable"):
        decode(b"", "empty.jpg")
    with pytest.raises(FileNotFoundError, match="no such image"):
        read_image(tmp_path / "none.jpg")


def test_images_are_rgb(tmp_path):
    cv2.imwrite(str(tmp_path / "red.png"), np.full((4, 4, 3), (0, 0, 255), np.uint8))
    assert read_image(tmp_path / "red.png")[0, 0].tolist() == [255, 0, 0]
