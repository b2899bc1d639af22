"""A user's own clip: a folder of images, or a video file, with the target's first box."""

from collections.abc import Sequence as Numbers
from pathlib import Path

import numpy as np

from .benchmark import image_files
from .sequence import Dataset, FrameSource, ImageFiles, Sequence, VideoFile


def load_clip(path: str | Path, box: Numbers[float] | None = None) -> Sequence:
    """A clip as a Sequence: row 0 of `boxes` is `box` (`x, y, w, h`, 0-based edge form), the others are NaN.

    Without a box all rows are NaN: enough to look at, not to track. Raises FileNotFoundError, or ValueError for a
    folder without images, a file OpenCV cannot read, and a box that is no box or lies outside the first frame."""
    path = Path(path)
    frames = _frames(path)
    boxes = np.full((len(frames), 4), np.nan)
    if box is not None:
        boxes[0] = _checked(box, frames[0].shape)
    return Sequence(path.stem if path.is_file() else path.name, frames, boxes)


def load_folder(root: str | Path, box: Numbers[float] | None = None) -> Dataset:
    """A Dataset of one clip; see `load_clip`."""
    return Dataset("folder", [load_clip(root, box)])


def _frames(path: Path) -> FrameSource:
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such folder or video")
    if not path.is_dir():
        return VideoFile(path)
    files = image_files(path) or (image_files(path / "img") if (path / "img").is_dir() else [])
    if not files:
        raise ValueError(f"{path}: no .jpg, .png or .bmp images in this folder")
    return ImageFiles(tuple(files))


def _checked(box: Numbers[float], shape: tuple[int, ...]) -> np.ndarray:
    box = np.asarray(box, np.float64)
    if box.shape != (4,) or not np.isfinite(box).all() or (box[2:] <= 0).any():
        raise ValueError(f"the first box must be four numbers x,y,w,h with w and h above 0, not {box.tolist()}")
    height, width = shape[:2]
    if (box[:2] >= (width, height)).any() or (box[:2] + box[2:] <= 0).any():
        raise ValueError(f"the first box {box.tolist()} lies outside the {width} x {height} frame")
    return box
