"""A player for one sequence: scrub through the frames and see where and why a tracker failed.

Live it is a slider, a play button and an image; headless, or in a notebook that is not trusted, a static contact sheet.
Frames are decoded one at a time as they are shown: the length of a sequence costs nothing.
"""

import base64
import difflib
import html
import itertools
import os
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import cv2
import ipywidgets as widgets
import numpy as np

from .plots import TRUTH, colour, overlaps, response_over, spread

WIDTH = 640  # of the displayed image, pixels; its height stays within 3/4 of that
THUMBNAIL = 240
KEPT = 256  # encoded frames, about 30 KB each


Maps = Mapping[str, np.ndarray]


class Player:
    """Widget that shows a sequence with the boxes of any number of trackers.

    sequence: a `Sequence`; one without ground truth (rows of NaN) plays as well
    results:  tracker name to boxes `(T, 4)`, 0-based, a row a frame; NaN rows are not drawn
    maps:     tracker name to what the results store kept of it, `{"response": (T - 1, h, w), "region": (T - 1, 4)}`
              from the second frame on; a response is laid over its frame on request

    >>> Player(sequence, {"siamfc-3s": runs.read("David")}, {"siamfc-3s": runs.maps("David")})      # doctest: +SKIP

    Frames are numbered from 0, like rows of the boxes. Raises ValueError for boxes or maps of another length and for
    maps of a tracker that has no boxes; a frame that cannot be read is told in the widget, and the others play on."""

    def __init__(self, sequence, results: Mapping[str, np.ndarray], maps: Mapping[str, Maps] | None = None):
        self.sequence, self.results, self.maps = sequence, _checked(sequence, results, maps or {}), dict(maps or {})
        self.overlaps = {name: overlaps(sequence, boxes) for name, boxes in self.results.items()}
        self._encoded: OrderedDict[tuple, bytes] = OrderedDict()
        last = len(sequence) - 1
        wide = widgets.Layout(width=f"{WIDTH - 120}px")
        self.slider = widgets.IntSlider(0, 0, last, description="frame", layout=wide)
        self.play = widgets.Play(min=0, max=last, interval=40)  # 25 frames a second, fewer where the machine is slower
        known = bool(np.isfinite(sequence.boxes).all(1).any())
        self.truth = widgets.Checkbox(known, description="ground truth", indent=False, disabled=not known)
        self.map = widgets.Dropdown(options=["no map", *self.maps], layout=widgets.Layout(width="160px"))
        self.map.layout.display = None if self.maps else "none"
        self.image = widgets.Image(format="jpeg")
        self.label = widgets.HTML()
        widgets.jslink((self.play, "value"), (self.slider, "value"))
        for control in (self.slider, self.truth, self.map):
            control.observe(lambda _: self._show(), "value")
        controls = [widgets.HBox([self.play, self.slider]), widgets.HBox([self.truth, self.map])]
        self.box = widgets.VBox([self.image, self.label, *controls])
        self._show()

    def frame_jpeg(self, frame: int, width: int = WIDTH) -> bytes:
        """One frame as JPEG, scaled to `width`, with the boxes (and map) that the controls ask for."""
        key = (frame, width, self.truth.value, self.map.value)
        if key not in self._encoded:
            self._encoded[key] = _jpeg(self._drawn(frame, width))
        self._encoded.move_to_end(key)
        if len(self._encoded) > KEPT:
            self._encoded.popitem(last=False)
        return self._encoded[key]

    def _drawn(self, frame: int, width: int) -> np.ndarray:
        image = self.sequence.frames[frame]
        if self.map.value in self.maps and frame > 0:  # the first frame was given, not searched
            of = self.maps[self.map.value]
            image = response_over(image, of["region"][frame - 1], of["response"][frame - 1])
        scale = min(width / image.shape[1], 0.75 * width / image.shape[0])
        size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        for i, boxes in enumerate(self.results.values()):
            _draw(image, boxes[frame] * scale, colour(i), dashed=False)
        if self.truth.value:
            _draw(image, self.sequence.boxes[frame] * scale, TRUTH, dashed=True)
        return image

    def _show(self) -> None:
        picture, self.label.value = self._shown(self.slider.value, WIDTH)
        self.image.value = picture or _jpeg(np.full((WIDTH * 9 // 16, WIDTH, 3), 96, np.uint8))

    def _shown(self, frame: int, width: int) -> tuple[bytes, str]:
        """Picture and caption; of a frame that cannot be read no picture, and why."""
        try:
            return self.frame_jpeg(frame, width), self._caption(frame)
        except (OSError, ValueError) as error:
            return b"", f"<b>frame {frame} cannot be shown:</b> {html.escape(str(error))}"

    def _caption(self, frame: int) -> str:
        """Frame number, and each tracker's IoU in its colour; a dash where there is no box or no truth."""
        parts = [f"<b>{frame}</b> / {len(self.sequence) - 1}"]
        for i, (name, overlap) in enumerate(self.overlaps.items()):
            value = f"{overlap[frame]:.2f}" if np.isfinite(overlap[frame]) else "–"
            parts.append(f"<span style='color:{colour(i)}'>&#9632;</span> {html.escape(name)} IoU {value}")
        return " &nbsp; ".join(parts)

    def contact_sheet(self, count: int = 8) -> str:
        """Up to `count` frames, evenly spread, as self-contained HTML."""
        cells = []
        for frame in spread(len(self.sequence), count):
            picture, text = self._shown(frame, THUMBNAIL)
            source = f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}"
            image = f"<img alt='frame {frame}' width='{THUMBNAIL}' src='{source}'>" if picture else ""
            style = f"margin:0;width:{THUMBNAIL}px"
            cells.append(f"<figure style='{style}'>{image}<figcaption>{text}</figcaption></figure>")
        note = "; ground truth dashed" if self.truth.value else ""
        return (
            f"<p><b>{html.escape(self.sequence.name)}</b>, {len(self.sequence)} frames{note}</p>"
            f"<div style='display:flex;flex-wrap:wrap;gap:8px;font-size:11px'>{''.join(cells)}</div>"
        )

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, Any]:
        """The widget where a kernel and a browser are there, and always a static sheet for where they are not."""
        bundle = {} if os.environ.get("TRK_HEADLESS") else dict(self.box._repr_mimebundle_())
        bundle["text/html"] = self.contact_sheet()
        bundle["text/plain"] = f"Player({self.sequence.name}, {len(self.sequence)} frames, {', '.join(self.results)})"
        return bundle


def _checked(sequence, results: Mapping[str, np.ndarray], maps: Mapping[str, Maps]) -> dict[str, np.ndarray]:
    if not isinstance(results, Mapping):
        raise ValueError(f"results must map a tracker's name to its boxes, not be {type(results).__name__}")
    if not len(sequence):
        raise ValueError(f"{sequence.name}: no frames to play")
    checked = {name: np.asarray(boxes, np.float64) for name, boxes in results.items()}
    for name, boxes in checked.items():
        if boxes.shape != (len(sequence), 4):
            shapes = f"the boxes of {name} are {boxes.shape}, not ({len(sequence)}, 4)"
            raise ValueError(f"{sequence.name} has {len(sequence)} frames, but {shapes}: are they of another sequence?")
    for name, of in maps.items():
        if name not in results:
            known = ", ".join(difflib.get_close_matches(name, results, 3) or results) or "no tracker"
            raise ValueError(f"maps of {name!r}, which has no boxes; there are boxes of {known}")
        for part in ("response", "region"):
            rows, wanted = len(of.get(part, ())), len(sequence) - 1
            if rows != wanted:
                what = f"{part!r} for the {wanted} frames after the first, have {rows} rows"
                raise ValueError(f"{sequence.name}: the maps of {name} need {what}")
    return checked


def _jpeg(image: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()


def _draw(image: np.ndarray, box: np.ndarray, hexadecimal: str, dashed: bool) -> None:
    """A box in edge convention, in place, on a dark border that shows it on any ground."""
    if not np.isfinite(box).all():
        return
    rgb = tuple(int(hexadecimal[i : i + 2], 16) for i in (1, 3, 5))
    x, y, w, h = box
    ends = np.array([(x, y), (x + w, y), (x + w, y + h), (x, y + h), (x, y)]) - 0.5  # cv2 counts from pixel centres
    strokes = np.concatenate([_dashes(a, b) if dashed else [(a, b)] for a, b in itertools.pairwise(ends)])
    fixed = np.rint(strokes.clip(-20000, 20000) * 16).astype(np.int32)  # 4 fractional bits, in the range cv2 can hold
    for shade, thickness in (((0, 0, 0), 4), (rgb, 2)):
        cv2.polylines(image, fixed, False, shade, thickness, cv2.LINE_AA, shift=4)


def _dashes(a: np.ndarray, b: np.ndarray, length: float = 6) -> np.ndarray:
    """The ends `(N, 2, 2)` of dashes about `length` pixels long; the line begins and ends with one."""
    count = int(np.hypot(*(b - a)) / length) // 2 * 2 + 1
    return (a + (b - a) * np.arange(count + 1)[:, None] / count).reshape(-1, 2, 2)
