"""A sequence with the boxes and maps of trackers: what a player shows, as numbers and as pictures, without a widget."""

from __future__ import annotations

import base64
import difflib
import html
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import cv2
import numpy as np

from .. import boxes as B
from ..data.sequence import Sequence
from .plots import RESPONSE_SPAN, STYLES, TRUTH, colour, overlaps, response_over, spread
from .tables import data_name
from .video import draw_box

LARGEST = 1280  # width in pixels of the frames that a browser gets; larger ones are scaled down
THUMBNAIL = 240
TRUTH_NAME = "ground truth"
_CANVAS_DASHES = dict(zip(STYLES, ([], [9, 4], [9, 3, 2, 3], [3, 3]), strict=True))  # as in the figures

Maps = Mapping[str, np.ndarray]


@dataclass
class Scene:
    """Boxes `(T, 4)` and maps by tracker, checked and copied; `shown`, `overlay` and `fps` are as the player has them.

    Of each tracker (a row) and frame: overlap and centre error with the annotation, NaN where there is no box or no
    target to compare it with, and whether the target is lost: annotated, in view, and no box on it, though the tracker
    had one before."""

    sequence: Sequence
    results: dict[str, np.ndarray]
    maps: dict[str, dict[str, np.ndarray]]
    title: str = ""
    shown: tuple[str, ...] = ()
    overlay: str = ""
    fps: float = 25.0
    overlaps: np.ndarray = field(init=False)
    errors: np.ndarray = field(init=False)
    lost: np.ndarray = field(init=False)

    def __post_init__(self):
        self.overlaps, self.errors, self.lost = (
            np.full((len(self.results), len(self.sequence)), np.nan) for _ in "123"
        )
        for row in range(len(self.results)):
            self._measure(row, slice(None))

    @classmethod
    def of(cls, sequence: Sequence, results: Mapping, maps: Mapping[str, Maps] | None, dataset: str = "") -> Scene:
        """Raises ValueError for boxes or maps of another length, and for maps of a tracker that has no boxes."""
        results = _checked(sequence, results)
        for name, kept in (maps or {}).items():
            if name not in results:
                known = ", ".join(difflib.get_close_matches(name, results, 3) or results) or "no tracker"
                raise ValueError(f"maps of {name!r}, which has no boxes; there are boxes of {known}")
            check_maps(sequence, name, kept)
        title = ", ".join(filter(None, [data_name(dataset), sequence.name]))
        known = _annotated(sequence)
        fps = float(getattr(sequence.frames, "fps", 25.0))
        copied = {name: dict(kept) for name, kept in (maps or {}).items()}
        return cls(sequence, results, copied, title, (*results, *[TRUTH_NAME] * known), fps=fps)

    @cached_property
    def size(self) -> tuple[int, int]:
        """Width and height of the first frame in pixels; where it cannot be read, any."""
        try:
            width, height = self.sequence.image_size()
        except Exception:  # whoever asks for the frame itself is told
            return 640, 360
        return int(width), int(height)

    @property
    def map_names(self) -> list[str]:
        """What `overlay` may be."""
        return [f"{name}: {kind}" for name, of in self.maps.items() for kind in of if kind != "region"]

    def _measure(self, row: int, frames: slice) -> None:
        boxes, truth = list(self.results.values())[row], self.sequence.boxes[frames]
        overlap = overlaps(self.sequence, boxes, frames)
        error = np.where(np.isfinite(overlap), B.centre_error(truth, boxes[frames]), np.nan)
        begun = np.maximum.accumulate(np.isfinite(boxes).all(1))[frames]
        lost = np.isfinite(truth).all(1) & ~self.sequence.absent[frames] & begun & ~(overlap > 0)
        for of, values in ((self.overlaps, overlap), (self.errors, error), (self.lost, lost)):
            of[row, frames] = values

    # For the browser

    def described(self) -> dict[str, Any]:
        """What a browser must know before the frames: plain values."""
        known = _annotated(self.sequence)
        judged = f"; continuous IoU{' with the box of each polygon' * (self.sequence.polygons is not None)}, no repairs"
        looks = [{"colour": colour(i), "dash": _CANVAS_DASHES[STYLES[i % 4]]} for i in range(len(self.results))]
        return {
            "statement": f"{self.title}, {len(self.sequence)} frames{judged * known}",
            "count": len(self.sequence),
            "size": list(self.size),
            "fps": self.fps,
            "trackers": [{"name": name, **look} for name, look in zip(self.results, looks, strict=True)],
            "truth": {"name": TRUTH_NAME, "colour": TRUTH, "dash": [5, 3]} if known else None,
            "maps": self.map_names,
            "tags": {name: stretches(marks) for name, marks in self._tags().items()},
        }

    def _tags(self) -> dict[str, np.ndarray]:
        tags = {name: np.asarray(marks, bool) for name, marks in self.sequence.tags.items()}
        annotated = np.isfinite(self.sequence.boxes[0]).all()
        tags["target out of view"] = np.asarray(self.sequence.absent, bool) & annotated
        return {name: marks for name, marks in tags.items() if marks.any()}

    def packed(self, frames: slice = slice(None)) -> bytes:
        """The numbers of these frames as frames.js unpacks them, float32: boxes (truth first), overlap, error, lost."""
        boxes = np.stack([self.sequence.boxes, *self.results.values()])[:, frames]
        parts = (boxes, *(of[:, frames] for of in (self.overlaps, self.errors, self.lost)))
        return b"".join(np.ascontiguousarray(part, np.float32).tobytes() for part in parts)

    def encoded(self, frame: int, width: int = LARGEST) -> tuple[dict[str, Any], list[bytes]]:
        """A frame for the browser: what it is, and its JPEG and maps. Boxes are not in it; of a frame that cannot be
        read, why."""
        try:
            image = self.sequence.frames[frame]
            maps, values = self.placed_maps(frame, image.shape[1::-1])
            jpeg = _jpeg(_scaled(image, width))
        except Exception as error:  # of whatever source: the browser waits for an answer
            told = str(error) or type(error).__name__
            return {"frame": frame, "error": told, "size": list(self.size), "maps": []}, [b""]
        return {"frame": frame, "size": list(image.shape[1::-1]), "maps": maps}, [jpeg, *values]

    def placed_maps(self, frame: int, size: tuple[int, int], of: str | None = None) -> tuple[list[dict], list[bytes]]:
        """The maps of a frame (of one tracker), what and where they are; and their values from 0 to 255."""
        found, values = [], []
        for tracker in self.maps if of is None else [of]:
            for kind in [kind for kind in self.maps.get(tracker, ()) if kind != "region"]:
                if (placed := self._placed(frame, size, tracker, kind)) is None:
                    continue
                levels, place, searched = _levels(placed[0]), _covered(placed[1], kind), placed[2]
                about = {"name": f"{tracker}: {kind}", "tracker": tracker, "place": place.tolist()}
                about |= {"rows": levels.shape[0], "columns": levels.shape[1]}
                found.append(about | ({"searched": placed[1].tolist()} if searched else {}))
                values.append(levels.tobytes())
        return found, values

    def _placed(self, frame: int, size: tuple[int, int], tracker: str, kind: str) -> tuple | None:
        """A map, its region in frame pixels (without one: the whole frame), and whether it was searched; None where
        there is no map: in the first frame, which was given, and where a tracker at work has not been."""
        of = self.maps[tracker]
        if not frame or kind not in of:
            return None
        values, searched = np.asarray(of[kind][frame - 1]), "region" in of
        region = np.asarray(of["region"][frame - 1] if searched else (0, 0, *size), np.float64)
        whole = np.isfinite(region).all() and np.isfinite(values).any()
        return (values, region, searched) if whole else None

    def put(self, tracker: str, frame: int, box: np.ndarray, maps: Maps, region: np.ndarray | None) -> dict[str, Any]:
        """Set one box of a tracker at work, with its maps `(h, w)`; what a browser is told of it, without the maps."""
        row = list(self.results).index(tracker)
        self.results[tracker][frame] = box
        self._measure(row, slice(frame, frame + 1))
        if frame and maps:
            of = dict(self.maps.get(tracker, {}))
            for kind, values in {**maps, **({} if region is None else {"region": region})}.items():
                if kind not in of:
                    of[kind] = np.full((len(self.sequence) - 1, *np.shape(values)), np.nan, np.float32)
                of[kind][frame - 1] = values
            self.maps[tracker] = of  # at once: another thread may be reading
        measured = [_finite(of[row, frame]) for of in (self.overlaps, self.errors, self.lost)]
        box = [_finite(v) for v in box]
        return {"tracker": tracker, "row": row, "frame": frame, "measured": measured, "box": box}

    # Pictures

    def drawn(self, frame: int, width: int | None = None) -> np.ndarray:
        """A frame `(H, W, 3)` RGB with what is shown: boxes, and the map chosen; raises as its source does."""
        image = self.sequence.frames[frame]
        tracker, _, kind = self.overlay.partition(": ")
        if tracker in self.maps and (placed := self._placed(frame, image.shape[1::-1], tracker, kind)):
            image = response_over(image, placed[1], placed[0], _span(kind))
        scale = 1 if width is None else min(width / image.shape[1], 0.75 * width / image.shape[0])
        size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        for i, (name, boxes) in enumerate(self.results.items()):
            if name in self.shown:
                draw_box(image, boxes[frame] * scale, colour(i))
        if TRUTH_NAME in self.shown:
            draw_box(image, self.sequence.boxes[frame] * scale, TRUTH, dashed=True)
        return image

    def contact_sheet(self, count: int = 8) -> str:
        """Up to `count` frames, evenly spread, as self-contained HTML."""
        cells = []
        for frame in spread(len(self.sequence), count):
            picture, text = self._thumbnail(frame)
            source = f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}"
            image = f"<img alt='frame {frame}' width='{THUMBNAIL}' src='{source}'>" if picture else ""
            style = f"margin:0;width:{THUMBNAIL}px"
            cells.append(f"<figure style='{style}'>{image}<figcaption>{text}</figcaption></figure>")
        note = "; ground truth dashed" if TRUTH_NAME in self.shown else ""
        return (
            f"<p><b>{html.escape(self.title)}</b>, {len(self.sequence)} frames{note}</p>"
            f"<div style='display:flex;flex-wrap:wrap;gap:8px;font-size:11px'>{''.join(cells)}</div>"
        )

    def _thumbnail(self, frame: int) -> tuple[bytes, str]:
        """Picture and caption; of a frame that cannot be read no picture, and why."""
        try:
            return _jpeg(self.drawn(frame, THUMBNAIL)), self._caption(frame)
        except Exception as error:  # of whatever source: a sheet without a picture says more than none
            return b"", f"<b>frame {frame} cannot be shown:</b> {html.escape(str(error))}"

    def _caption(self, frame: int) -> str:
        """Frame number, and each tracker's IoU in its colour; a dash where there is no box or no truth."""
        parts = [f"<b>{frame}</b> / {len(self.sequence) - 1}"]
        for i, (name, overlap) in enumerate(zip(self.results, self.overlaps[:, frame], strict=True)):
            value = f"{overlap:.2f}" if np.isfinite(overlap) else "–"
            parts.append(f"<span style='color:{colour(i)}'>&#9632;</span> {html.escape(name)} IoU {value}")
        return " &nbsp; ".join(parts)


def _checked(sequence: Sequence, results: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The boxes, copied: live tracking writes into them."""
    if not isinstance(results, Mapping):
        raise ValueError(f"results must map a tracker's name to its boxes, not be {type(results).__name__}")
    if not len(sequence):
        raise ValueError(f"{sequence.name}: no frames to play")
    checked = {str(name): np.array(boxes, np.float64) for name, boxes in results.items()}
    if TRUTH_NAME in checked:
        raise ValueError(f"no tracker can be called {TRUTH_NAME!r}: that is the annotation; give it another name")
    for name, boxes in checked.items():
        if boxes.shape != (len(sequence), 4):
            shapes = f"the boxes of {name} are {boxes.shape}, not ({len(sequence)}, 4)"
            raise ValueError(f"{sequence.name} has {len(sequence)} frames, but {shapes}: are they of another sequence?")
    return checked


def check_maps(sequence: Sequence, name: str, of: Maps) -> None:
    """Raises ValueError unless all maps of a tracker have a row for each frame but the first, and, if there are others
    than heat maps, a region."""
    wanted = len(sequence) - 1
    needed = [] if any(kind.startswith("heat") for kind in of) else ["response", "region"]
    for part in dict.fromkeys([*needed, *of]):
        if (rows := len(of.get(part, ()))) != wanted:
            what = f"{part!r} for the {wanted} frames after the first, have {rows} rows"
            raise ValueError(f"{sequence.name}: the maps of {name} need {what}")


def _annotated(sequence: Sequence) -> bool:
    """Whether a target is known in any frame."""
    return bool(np.isfinite(sequence.boxes).all(1).any())


def stretches(marks: np.ndarray) -> list[list[int]]:
    """First and last frame of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], marks.astype(np.int8), [0]])))
    return [[int(first), int(end) - 1] for first, end in edges.reshape(-1, 2)]


def _span(kind: str) -> float:
    """The share of its region's side that a map covers."""
    return 1.0 if kind.startswith("heat") else RESPONSE_SPAN


def _covered(region: np.ndarray, kind: str) -> np.ndarray:
    """The box `(4,)` of the frame that a map covers."""
    return B.from_centre(B.centre(region), region[2:] * _span(kind))


def _levels(values: np.ndarray) -> np.ndarray:
    """A map `(h, w)` from 0 to 255."""
    low, high = np.nanmin(values), np.nanmax(values)
    return np.rint(np.nan_to_num((values - low) / max(high - low, 1e-12)) * 255).astype(np.uint8)


def _finite(value: float) -> float | None:
    """NaN is no JSON."""
    return float(value) if np.isfinite(value) else None


def _scaled(image: np.ndarray, width: int) -> np.ndarray:
    scale = width / image.shape[1]
    size = (width, max(round(image.shape[0] * scale), 1))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image


def _jpeg(image: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()
