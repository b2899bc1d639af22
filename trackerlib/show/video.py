"""Clips with boxes drawn into them, to look at without a notebook."""

import itertools
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image


def write_clip(path: str | Path, frames: Iterable[np.ndarray], fps: float = 25.0) -> Path:
    """Write images `(H, W, 3)` RGB as an .mp4 or a .gif; the file appears whole when the last is in.

    An .mp4 is MPEG-4 part 2, which players know and browsers do not. A .gif has 256 colours a frame and at most 50
    frames a second, and repeats. Raises ValueError for another suffix, for no frame or frames that differ in size, and
    when OpenCV cannot write an mp4 here."""
    path = Path(path)
    writers = {".mp4": _write_mp4, ".gif": _write_gif}
    if path.suffix.lower() not in writers:
        raise ValueError(f"{path}: clips are written as .mp4 or .gif")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix.lower()}")
    try:
        writers[path.suffix.lower()](part, _alike(path, frames), fps)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def _alike(path: Path, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The frames, of which there is at least one, all of one size."""
    size = None
    for image in frames:
        size = size or image.shape[1::-1]
        if image.shape[1::-1] != size:
            raise ValueError(f"{path}: frames of {size[0]} x {size[1]} and of {image.shape[1]} x {image.shape[0]}")
        yield image
    if size is None:
        raise ValueError(f"{path}: no frame to write")


def _write_mp4(path: Path, frames: Iterator[np.ndarray], fps: float) -> None:
    first = next(frames)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), fps, first.shape[1::-1])
    try:
        if not writer.isOpened():
            raise ValueError(f"{path.parent}: OpenCV cannot write an mp4 here")
        for image in itertools.chain([first], frames):
            writer.write(image[..., ::-1])
    finally:
        writer.release()


def _write_gif(path: Path, frames: Iterator[np.ndarray], fps: float) -> None:
    images = (Image.fromarray(image).quantize(256, Image.Quantize.FASTOCTREE) for image in frames)
    lasting = max(round(100 / fps), 2) * 10  # milliseconds, in a gif's steps of 10; browsers slow down below 20
    next(images).save(path, save_all=True, append_images=images, duration=lasting, loop=0)


def draw_box(image: np.ndarray, box: np.ndarray, colour: str, dashed: bool = False) -> None:
    """Draw a box `(4,)`, 0-based edge form, into an RGB image, on a border that shows it on any ground; NaN draws
    nothing. colour: `#rrggbb`."""
    if not np.isfinite(box).all():
        return
    rgb = tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))
    x, y, w, h = box
    ends = np.array([(x, y), (x + w, y), (x + w, y + h), (x, y + h), (x, y)]) - 0.5  # cv2 counts from pixel centres
    strokes = np.concatenate([_dashes(a, b) if dashed else [(a, b)] for a, b in itertools.pairwise(ends)])
    fixed = np.rint(strokes.clip(-20000, 20000) * 16).astype(np.int32)  # 4 fractional bits, in the range cv2 can hold
    border = (255, 255, 255) if rgb == (0, 0, 0) else (0, 0, 0)
    for shade, thickness in ((border, 4), (rgb, 2)):
        cv2.polylines(image, fixed, False, shade, thickness, cv2.LINE_AA, shift=4)


def _dashes(a: np.ndarray, b: np.ndarray, length: float = 6) -> np.ndarray:
    """The ends `(N, 2, 2)` of dashes about `length` pixels long; the line begins and ends with one."""
    count = int(np.hypot(*(b - a)) / length) // 2 * 2 + 1
    return (a + (b - a) * np.arange(count + 1)[:, None] / count).reshape(-1, 2, 2)
