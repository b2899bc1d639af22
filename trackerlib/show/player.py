"""A player for one sequence: see where and why a tracker failed.

Live it is a widget. The kernel sends numbers, and frames as JPEG, a few at a time and ahead of the one shown; the
browser keeps the frames and draws boxes, maps and curves (player.js). Frames are decoded as they are asked for: the
length of a sequence costs nothing. Headless, or in a notebook that is not trusted, it is a contact sheet.
"""

from __future__ import annotations

import base64
import difflib
import html
import os
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import anywidget
import cv2
import matplotlib
import numpy as np
from traitlets import Bool, Bytes, Dict, Float, Int, List, Unicode

from .. import boxes as B
from ..notebook import results_root
from .plots import RESPONSE_SPAN, STYLES, TRUTH, colour, overlaps, response_over, snapshots, spread
from .tables import data_name
from .video import draw_box, write_clip

LARGEST = 1280  # width in pixels of the frames that the browser gets; larger ones are scaled down
THUMBNAIL = 240
TRUTH_NAME = "ground truth"
_PALETTE = np.rint(matplotlib.colormaps["inferno"](np.arange(256))[:, :3] * 255).astype(np.uint8).tobytes()
_CANVAS_DASHES = dict(zip(STYLES, ([], [9, 4], [9, 3, 2, 3], [3, 3]), strict=True))  # as in the figures

Maps = Mapping[str, np.ndarray]


class Player(anywidget.AnyWidget):
    """Widget that shows a sequence with the boxes of any number of trackers.

    sequence: a `Sequence`; one without ground truth (rows of NaN) plays as well
    results:  tracker name to boxes `(T, 4)`, 0-based, a row a frame; NaN rows are not drawn
    maps:     tracker name to what the results store kept of it, from the second frame on: `(T - 1, h, w)` by name, and
              `region`, the box searched, `(T - 1, 4)`. A "response" covers the middle of its region (17 cells of
              stride 8 on 255 pixels); a map whose name begins with "heat" the whole region, or the frame where there is
              no region
    folder:   where the buttons save clips; by default results/interactive/player
    dataset:  the name of what the sequence is from, to be shown with it

    >>> Player(sequence, {"siamfc-3s": runs.read("David")}, {"siamfc-3s": runs.maps("David")})      # doctest: +SKIP

    What the controls set can be set from Python, and is told back: `frame` (counted from 0, like rows of the boxes),
    `playing`, `speed` (frames a second), `shown` (names of trackers, and "ground truth"), `overlay` (a map, as
    "siamfc-3s: response", or ""), `searched` (draw the region), `selection` (first and last frame, or []), `drawing`
    (the next drag on the frame draws a box, which `on_drawn` is called with).

    A target is lost in frames where the overlap is 0 or there is no box, though it is annotated and in view.

    Raises ValueError for boxes or maps of another length and for maps of a tracker that has no boxes; a frame that
    cannot be read is told in the widget, and the others play on."""

    _esm = Path(__file__).with_name("player.js")
    _css = Path(__file__).with_name("player.css")
    frame = Int().tag(sync=True)
    playing = Bool().tag(sync=True)
    speed = Float(25.0).tag(sync=True)
    shown = List(Unicode()).tag(sync=True)
    overlay = Unicode().tag(sync=True)
    searched = Bool().tag(sync=True)
    selection = List(Int(), maxlen=2).tag(sync=True)
    drawing = Bool().tag(sync=True)
    told = Dict().tag(sync=True)
    _clip = Dict().tag(sync=True)
    _series = Bytes().tag(sync=True)
    _palette = Bytes(_PALETTE).tag(sync=True)

    def __init__(
        self,
        sequence,
        results: Mapping[str, np.ndarray],
        maps: Mapping[str, Maps] | None = None,
        folder: str | Path | None = None,
        dataset: str = "",
    ):
        super().__init__()
        self.folder = Path(folder or results_root() / "interactive" / "player")
        self.on_drawn: Callable[[int, np.ndarray], None] | None = None  # (frame, box)
        self._saving: threading.Thread | None = None
        self.load(sequence, results, maps, dataset)
        self.on_msg(lambda _, content, buffers: self._heard(content))

    def load(
        self,
        sequence,
        results: Mapping[str, np.ndarray],
        maps: Mapping[str, Maps] | None = None,
        dataset: str = "",
    ) -> None:
        """Show another sequence, or other results; raises as the constructor, and then shows what it showed."""
        results = _checked(sequence, results, maps or {})
        self.sequence, self.results = sequence, results
        self.title = ", ".join(filter(None, [data_name(dataset), sequence.name]))
        self.maps = {name: dict(of) for name, of in (maps or {}).items()}
        self.overlaps, self.errors, self.lost = (np.full((len(results), len(sequence)), np.nan) for _ in range(3))
        for row in range(len(results)):
            self._measure(row, slice(None))
        known = bool(np.isfinite(sequence.boxes).all(1).any())
        fps = float(getattr(sequence.frames, "fps", 25.0))
        with self.hold_sync():
            self.frame, self.playing, self.speed, self.selection, self.told = 0, False, fps, [], {}
            self.shown = [*results, *[TRUTH_NAME] * known]
            self.overlay = ""
            self._clip = self._described(known, fps, self._clip.get("id", 0) + 1)
            self._series = self._packed(slice(None))

    @property
    def map_names(self) -> list[str]:
        """What `overlay` may be."""
        return [f"{name}: {kind}" for name, of in self.maps.items() for kind in of if kind != "region"]

    def _described(self, known: bool, fps: float, id: int) -> dict[str, Any]:
        """What the browser must know of the sequence before its frames: plain values."""
        looks = [{"colour": colour(i), "dash": _CANVAS_DASHES[STYLES[i % 4]]} for i in range(len(self.results))]
        return {
            "id": id,
            "statement": f"{self.title}, {len(self.sequence)} frames{'; continuous IoU, no repairs' * known}",
            "count": len(self.sequence),
            "size": [int(v) for v in self.sequence.size or (640, 360)],  # until the first frame is there
            "fps": fps,
            "trackers": [{"name": name, **look} for name, look in zip(self.results, looks, strict=True)],
            "truth": {"name": TRUTH_NAME, "colour": TRUTH, "dash": [5, 3]} if known else None,
            "maps": self.map_names,
            "tags": {name: _stretches(marks) for name, marks in self._tags().items()},
        }

    def _tags(self) -> dict[str, np.ndarray]:
        tags = {name: np.asarray(marks, bool) for name, marks in self.sequence.tags.items()}
        tags["target out of view"] = np.asarray(self.sequence.absent, bool) & np.isfinite(self.sequence.boxes[0]).all()
        return {name: marks for name, marks in tags.items() if marks.any()}

    def _measure(self, row: int, frames: slice | int) -> None:
        boxes, truth = list(self.results.values())[row], self.sequence.boxes
        known = np.isfinite(truth).all(1) & ~self.sequence.absent
        overlap = overlaps(self.sequence, boxes)
        error = np.where(np.isfinite(overlap), B.centre_error(truth, boxes), np.nan)
        lost = known & ~(overlap > 0)
        for of, values in ((self.overlaps, overlap), (self.errors, error), (self.lost, lost)):
            of[row, frames] = values[frames]

    def _packed(self, frames: slice) -> bytes:
        """The numbers of these frames as player.js unpacks them, float32: boxes (truth first), overlap, error, lost."""
        boxes = np.stack([self.sequence.boxes, *self.results.values()])[:, frames]
        parts = (boxes, *(of[:, frames] for of in (self.overlaps, self.errors, self.lost)))
        return b"".join(np.ascontiguousarray(part, np.float32).tobytes() for part in parts)

    # What the browser asks for

    def _heard(self, content: Mapping[str, Any]) -> None:
        if "want" in content and content.get("clip") == self._clip["id"]:
            frame = min(max(int(content["want"]), 0), len(self.sequence) - 1)
            about, buffers = self.encoded(frame)
            self.send({"image": about | {"clip": content["clip"]}}, buffers)
        elif "save" in content:
            self._save_selection(str(content["save"]))
        elif "drawn" in content and self.on_drawn:
            self.on_drawn(int(content["at"]), np.array(content["drawn"], np.float64))

    def encoded(self, frame: int, width: int = LARGEST) -> tuple[dict[str, Any], list[bytes]]:
        """A frame for the browser: what it is, and its JPEG and maps. Boxes are not in it."""
        try:
            image = self.sequence.frames[frame]
        except (OSError, ValueError) as error:
            return {"frame": frame, "error": str(error), "size": self._clip["size"], "maps": []}, [b""]
        size, (maps, values) = list(image.shape[1::-1]), self._maps(frame, image.shape)
        return {"frame": frame, "size": size, "maps": maps}, [_jpeg(_scaled(image, width)), *values]

    def _maps(self, frame: int, shape: tuple[int, ...]) -> tuple[list[dict[str, Any]], list[bytes]]:
        """The maps of a frame: what they are, and their values from 0 to 255."""
        found, values = [], []
        for tracker, of in self.maps.items() if frame else ():  # the first frame was given, not searched
            region = of["region"][frame - 1] if "region" in of else np.array([0, 0, shape[1], shape[0]])
            for kind in of if np.isfinite(region).all() else ():
                if kind == "region":
                    continue
                levels, place = _levels(of[kind][frame - 1]), _covered(np.asarray(region, np.float64), kind)
                about = {"name": f"{tracker}: {kind}", "tracker": tracker, "place": place.tolist()}
                about |= {"rows": levels.shape[0], "columns": levels.shape[1]}
                found.append(about | ({"searched": [float(v) for v in region]} if "region" in of else {}))
                values.append(levels.tobytes())
        return found, values

    def put(
        self,
        tracker: str,
        frame: int,
        box: np.ndarray,
        maps: Mapping[str, np.ndarray] | None = None,
        region: np.ndarray | None = None,
    ) -> None:
        """Set one box of a tracker, with its maps `(h, w)`, while the sequence is shown: live tracking.

        `settle` afterwards, so that views opened later see it too."""
        row = list(self.results).index(tracker)
        self.results[tracker][frame] = box
        self._measure(row, frame)
        if frame and maps:
            of = self.maps.setdefault(tracker, {})
            for kind, values in {**maps, **({} if region is None else {"region": region})}.items():
                empty = np.full((len(self.sequence) - 1, *np.shape(values)), np.nan, np.float32)
                of.setdefault(kind, empty)[frame - 1] = values
        width, height = self._clip["size"]
        about, values = self._maps(frame, (height, width))
        mine = [i for i, map in enumerate(about) if map["tracker"] == tracker]
        measured = [_finite(of[row, frame]) for of in (self.overlaps, self.errors, self.lost)]
        row = {"clip": self._clip["id"], "tracker": tracker, "row": row, "frame": frame, "measured": measured}
        row |= {"box": [_finite(v) for v in box], "maps": [about[i] for i in mine]}
        self.send({"row": row}, [values[i] for i in mine])

    def settle(self) -> None:
        """Bring what `put` changed into the state that new views begin with."""
        self._series = self._packed(slice(None))

    def tell(self, text: str, fault: bool = False) -> None:
        """Write a line below the player, a fault in red."""
        self.told = {"text": text, "fault": fault}

    # Pictures without a browser

    def drawn(self, frame: int, width: int | None = None) -> np.ndarray:
        """A frame `(H, W, 3)` RGB with what is shown: boxes, and the map chosen; raises as its source does."""
        image = self.sequence.frames[frame]
        tracker, _, kind = self.overlay.partition(": ")
        if kind in self.maps.get(tracker, ()) and frame > 0:
            of, whole = self.maps[tracker], np.array([0, 0, image.shape[1], image.shape[0]])
            region = of["region"][frame - 1] if "region" in of else whole
            image = response_over(image, region, of[kind][frame - 1], _span(kind))
        scale = 1 if width is None else min(width / image.shape[1], 0.75 * width / image.shape[0])
        size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        for i, (name, boxes) in enumerate(self.results.items()):
            if name in self.shown:
                draw_box(image, boxes[frame] * scale, colour(i))
        if TRUTH_NAME in self.shown:
            draw_box(image, self.sequence.boxes[frame] * scale, TRUTH, dashed=True)
        return image

    def save(self, path: str | Path, frames: Iterable[int] | None = None) -> Path:
        """Write frames, by default all, with what is shown: a clip (.mp4, .gif), a sheet of up to six of them (.png,
        .jpg, .pdf), or a page that plays in any browser without a kernel (.html). Returns the path.

        Raises ValueError for no frames, a frame that is not there or cannot be read, and another suffix."""
        from .page import write_page

        path, count = Path(path), len(self.sequence)
        frames = list(range(count) if frames is None else frames)
        if not frames:
            raise ValueError(f"{self.sequence.name}: no frames to save; select a first and a later last frame")
        if outside := [t for t in frames if not 0 <= t < count]:
            raise ValueError(f"{self.sequence.name} has frames 0 to {count - 1}, not {outside[0]}")
        suffix = path.suffix.lower()
        if suffix == ".html":
            return write_page(path, self, frames)
        if suffix in (".png", ".jpg", ".pdf"):
            some = [frames[i] for i in spread(len(frames), 6)]
            shown = {name: boxes if name in self.shown else None for name, boxes in self.results.items()}
            return snapshots(self.sequence, shown, some, self.title, truth=TRUTH_NAME in self.shown).save(path)
        return write_clip(path, (self.drawn(t) for t in frames), self.speed)

    def _save_selection(self, kind: str) -> None:
        """Save the frames selected, in a thread: the player goes on meanwhile."""
        if self._saving and self._saving.is_alive():
            self.tell("Still writing: wait until it is done.", fault=True)
            return
        first, last = self.selection or (0, len(self.sequence) - 1)
        name, kind = (re.sub(r"[^\w.-]+", "_", text) for text in (self.sequence.name, kind))
        path = self.folder / f"{name}_{first:05d}-{last:05d}.{kind}"
        self.tell(f"Writing {path} ...")
        self._saving = threading.Thread(target=self._save_and_tell, args=(path, range(first, last + 1)), daemon=True)
        self._saving.start()

    def _save_and_tell(self, path: Path, frames: range) -> None:
        try:
            self.save(path, frames)
        except (OSError, ValueError) as error:
            self.tell(f"Not saved: {error}", fault=True)
        else:
            self.tell(f"Saved {path} ({len(frames)} frames, {path.stat().st_size / 1e6:.1f} MB)")

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
        except (OSError, ValueError) as error:
            return b"", f"<b>frame {frame} cannot be shown:</b> {html.escape(str(error))}"

    def _caption(self, frame: int) -> str:
        """Frame number, and each tracker's IoU in its colour; a dash where there is no box or no truth."""
        parts = [f"<b>{frame}</b> / {len(self.sequence) - 1}"]
        for i, (name, overlap) in enumerate(zip(self.results, self.overlaps[:, frame], strict=True)):
            value = f"{overlap:.2f}" if np.isfinite(overlap) else "–"
            parts.append(f"<span style='color:{colour(i)}'>&#9632;</span> {html.escape(name)} IoU {value}")
        return " &nbsp; ".join(parts)

    def _repr_mimebundle_(self, **kwargs) -> tuple[dict[str, Any], dict[str, Any]]:
        """The widget where a kernel and a browser are there, and always a static sheet for where they are not."""
        live, metadata = ({}, {}) if os.environ.get("TRK_HEADLESS") else super()._repr_mimebundle_(**kwargs)
        text = f"Player({self.title}, {len(self.sequence)} frames, {', '.join(self.results)})"
        return live | {"text/html": self.contact_sheet(), "text/plain": text}, metadata


def _checked(sequence, results: Mapping[str, np.ndarray], maps: Mapping[str, Maps]) -> dict[str, np.ndarray]:
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
    for name, of in maps.items():
        if name not in results:
            known = ", ".join(difflib.get_close_matches(name, results, 3) or results) or "no tracker"
            raise ValueError(f"maps of {name!r}, which has no boxes; there are boxes of {known}")
        missing = [] if any(kind.startswith("heat") for kind in of) else ["response", "region"]
        for part in dict.fromkeys([*missing, *of]):
            rows, wanted = len(of.get(part, ())), len(sequence) - 1
            if rows != wanted:
                what = f"{part!r} for the {wanted} frames after the first, have {rows} rows"
                raise ValueError(f"{sequence.name}: the maps of {name} need {what}")
    return checked


def _stretches(marks: np.ndarray) -> list[list[int]]:
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
