"""A clip with the tracker's box drawn into it, to look at without a notebook."""

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

_COLOUR = (60, 60, 230)  # BGR


def write_clip(path: str | Path, frames: Iterable[tuple[np.ndarray, np.ndarray]], fps: float = 25.0) -> None:
    """Write an mp4 of (image `(H, W, 3)` RGB, box `(4,)` 0-based) pairs; the file appears whole when the last is in.

    Raises ValueError for a name that is no .mp4, and when OpenCV cannot write one here."""
    path = Path(path)
    if path.suffix.lower() != ".mp4":
        raise ValueError(f"{path}: clips are written as .mp4")
    path.parent.mkdir(parents=True, exist_ok=True)
    part, writer = path.with_name(f".{path.stem}.part.mp4"), None
    try:
        for image, box in frames:
            if writer is None:
                height, width = image.shape[:2]
                writer = cv2.VideoWriter(str(part), cv2.VideoWriter_fourcc(*"mp4v"), fps, (width, height))
                if not writer.isOpened():
                    raise ValueError(f"{path}: OpenCV cannot write an mp4 here")
            if image.shape[:2] != (height, width):
                raise ValueError(f"{path}: frames of {width} x {height} and of {image.shape[1]} x {image.shape[0]}")
            writer.write(_drawn(image, box))
        if writer is None:
            raise ValueError(f"{path}: no frame to write")
        writer.release()
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _drawn(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The frame in OpenCV's order, the box as a rectangle on its edge (drawn in sixteenths of a pixel)."""
    canvas = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    if not np.isfinite(box).all():
        return canvas  # no box is known here
    x, y, w, h = np.asarray(box, np.float64)
    corners = [tuple(round(16 * (v - 0.5)) for v in corner) for corner in ((x, y), (x + w, y + h))]
    cv2.rectangle(canvas, *corners, _COLOUR, thickness=2, lineType=cv2.LINE_AA, shift=4)
    return canvas
