"""Images: decoding at the door, and context crops cut in batches on the device.

A crop is given by a centre and a side in frame pixels (edge convention, see `boxes`) and resampled to `out` x `out`:
output pixel `i` looks at `centre - side / 2 + (i + 1/2) * side / out`, bilinear, no antialiasing, the same in training
and tracking. What lies outside the frame is the target's mean colour; the frame itself is never padded.
"""

from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def read_image(path: str | Path) -> np.ndarray:
    """Decode one image file to RGB uint8 `(H, W, 3)`.

    Raises FileNotFoundError, or ValueError for a truncated or undecodable file: OpenCV alone would fill the missing
    rows of a truncated JPEG with grey and say nothing."""
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such image") from None
    return decode(data, str(path))


def decode(data: bytes, name: str) -> np.ndarray:
    """Decode an encoded image to RGB uint8 `(H, W, 3)`; `name` is what an error calls it."""
    if _is_cut(data):
        raise ValueError(f"{name}: truncated image ({len(data)} bytes, no end marker); fetch or copy the file again")
    width, height = _jpeg_size(data)
    if width * height > 512 * len(data):  # an 8 x 8 block takes a bit at least; OpenCV would make up the rest
        raise ValueError(f"{name}: {width} x {height} pixels cannot stand in {len(data)} bytes; fetch the file again")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except cv2.error:  # of sizes beyond what it takes
        image = None
    if image is None:
        raise ValueError(f"{name}: not a decodable image ({len(data)} bytes)")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _is_cut(data: bytes) -> bool:
    """Whether a JPEG or PNG lacks its end marker. Inside a JPEG's scan 0xFF is escaped, so the marker can only follow
    the last scan: a camera's trailer behind it does no harm, a thumbnail's own marker before it does not count."""
    if data.startswith(b"\x89PNG"):
        return b"IEND" not in data
    return data.startswith(b"\xff\xd8") and data.find(b"\xff\xd9", max(data.rfind(b"\xff\xda"), 0)) < 0


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Width and height that a JPEG's header claims; zeros where there is none to be found."""
    at = 2 if data.startswith(b"\xff\xd8") else len(data)
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(data[at + 7 : at + 9]), int.from_bytes(data[at + 5 : at + 7])
        at += 1 if marker == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4])  # markers may be padded with 0xFF
    return 0, 0


def to_tensor(image: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
    """`(H, W, 3)` uint8 at the door to `(3, H, W)` uint8 on the device (strides stay those of the pixels in memory)."""
    return torch.from_numpy(image).to(device, non_blocking=True).permute(2, 0, 1)


def mean_colour(image: Tensor) -> Tensor:
    """Per-channel mean `(3,)` float32 of a `(3, H, W)` image."""
    return image.float().mean((1, 2))


def whole_frame(image: Tensor, side: int = 224) -> Tensor:
    """A frame `(3, H, W)` uint8 of any aspect as a square `(1, 3, side, side)` float32 in 0..255, antialiased.

    224 pixels are what networks of ImageNet take."""
    return F.interpolate(image[None].float(), (side, side), mode="bilinear", antialias=True, align_corners=False)


def context_crops(image: Tensor, centres: Tensor, sides: Tensor, out: int, fill: Tensor) -> Tensor:
    """Cut K crops from one frame in one sampling call.

    image `(3, H, W)` uint8 or float; centres `(K, 2)` and sides `(K,)` in frame pixels, or `(K, 2)` where width and
    height differ (the crop is square all the same); fill `(3,)` or `(K, 3)`, the colour outside the frame. Returns
    `(K, 3, out, out)` float32 in the image's own range.

    Bilinear weights that fall outside the frame belong to the fill: sampling with zeros outside leaves exactly
    `1 - inside` of it, where `inside` is the share of the bilinear kernel on the frame."""
    sides = sides.reshape(len(sides), -1).expand(-1, 2)
    image, centres = _window(image, centres, sides)
    count, (height, width) = len(sides), image.shape[1:]
    steps = (torch.arange(out, device=image.device) + 0.5) / out - 0.5
    xs, ys = ((centres[:, i, None] + sides[:, i, None] * steps).float() for i in (0, 1))  # (K, out)
    grid = xs.new_empty(count, out, out, 2)
    grid[..., 0] = (2 * xs / width - 1)[:, None, :]
    grid[..., 1] = (2 * ys / height - 1)[:, :, None]
    tall = grid.reshape(1, count * out, out, 2)  # K crops below one another: one image, one call
    pixels = F.grid_sample(image[None].float(), tall, mode="bilinear", padding_mode="zeros", align_corners=False)
    pixels = pixels.reshape(3, count, out, out).transpose(0, 1)
    inside = _inside(ys, height)[:, :, None] * _inside(xs, width)[:, None, :]
    return torch.addcmul(pixels, (1 - inside)[:, None], fill.expand(count, 3)[:, :, None, None])


def _window(image: Tensor, centres: Tensor, sides: Tensor) -> tuple[Tensor, Tensor]:
    """The part of an image that crops touch, and their centres in it. On a CPU: only that need become float; a GPU
    would wait for the numbers longer than the rest takes."""
    if image.device.type != "cpu":
        return image, centres
    reach = sides / 2 + 2
    size = torch.tensor([image.shape[2], image.shape[1]])
    low = (centres - reach).amin(0).long().clamp(torch.zeros(2, dtype=torch.long), size - 1)
    high = torch.maximum((centres + reach).amax(0).long().clamp_max(size), low + 1)
    (x1, y1), (x2, y2) = low.tolist(), high.tolist()
    return image[:, y1:y2, x1:x2], centres - low


def _inside(at: Tensor, length: int) -> Tensor:
    """Share of a unit-wide bilinear kernel at position `at` whose pixels lie in `[0, length)`."""
    return torch.minimum(at + 0.5, length + 0.5 - at).clamp(0, 1)
