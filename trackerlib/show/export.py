"""What a player shows, as a file: a clip, a sheet of frames, a page."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..data.sequence import Sequence
from .page import write_page
from .plots import snapshots, spread
from .scene import TRUTH_NAME, Scene
from .video import write_clip

GIF_WIDTH, GIF_MOST = 640, 1000  # pixels, and frames: all are in memory until the last is in


def save(scene: Scene, path: str | Path, frames: Iterable[int] | None = None) -> Path:
    """Write frames, by default all, with what is shown: a clip (.mp4, .gif), a sheet of up to six of them (.png,
    .jpg, .pdf), or a page that plays in any browser without a kernel (.html). Returns the path.

    Raises ValueError for no frames or too many, a frame that is not there or cannot be read, another suffix, and a
    path that would overwrite the video itself."""
    path, count = Path(path), len(scene.sequence)
    frames = [int(t) for t in (range(count) if frames is None else frames)]
    if not frames:
        raise ValueError(f"{scene.sequence.name}: no frames to save; select a first and a later last frame")
    if outside := [t for t in frames if not 0 <= t < count]:
        raise ValueError(f"{scene.sequence.name} has frames 0 to {count - 1}, not {outside[0]}")
    if path.exists() and any(path.samefile(source) for source in sources(scene.sequence)):
        raise ValueError(f"{path}: that is the video itself; choose another name")
    suffix = path.suffix.lower()
    if suffix == ".html":
        return write_page(path, scene, frames)
    if suffix in (".png", ".jpg", ".jpeg", ".pdf"):
        some = [frames[i] for i in spread(len(frames), 6)]
        shown = {name: boxes if name in scene.shown else None for name, boxes in scene.results.items()}
        return snapshots(scene.sequence, shown, some, scene.title, truth=TRUTH_NAME in scene.shown).save(path)
    if suffix == ".gif":
        if len(frames) > GIF_MOST:
            raise ValueError(f"{path}: {len(frames)} frames; a GIF holds at most {GIF_MOST}: select fewer, or .mp4")
        width = min(GIF_WIDTH, scene.size[0])
        return write_clip(path, (scene.drawn(t, width) for t in frames), scene.fps)
    return write_clip(path, (scene.drawn(t) for t in frames), scene.fps)


def sources(sequence: Sequence) -> list[Path]:
    """The files that the frames are read from."""
    frames = sequence.frames
    return [Path(path) for path in getattr(frames, "paths", [getattr(frames, "path", None)]) if path]
