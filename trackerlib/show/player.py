"""A player for one sequence: scrub through the frames and see where and why a tracker failed.

Live it is a slider, a play button and an image; headless, or in a notebook that is not trusted, it is a static contact
sheet, so that no executed notebook is blank. Frames are decoded one at a time as they are shown: the length of a
sequence costs nothing.
"""

from __future__ import annotations

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

from .. import boxes as B
from .plots import TRUTH, colour, response_over, spread

WIDTH = 640  # of the displayed image, pixels; its height stays within 3/4 of that
THUMBNAIL = 240
KEPT = 256  # encoded frames, about 30 KB each


class Player:
    """Widget that shows a sequence with the boxes of any number of trackers.

    sequence: a `Sequence`; one without ground truth (rows of NaN) plays as well
    results:  tracker name to boxes `(T, 4)`, 0-based, a row a frame; NaN rows are not drawn
    maps:     tracker name to what the results store kept of it, `{"response": (T - 1, h, w), "region": (T - 1, 4)}`
              from the second frame on; a response is laid over its frame on request

    >>> Player(sequence, {"siamfc-3s": runs.read("David")}, {"siamfc-3s": runs.maps("David")})      # doctest: +SKIP

    Frames are numbered from 0, like rows of the boxes. Errors: ValueError for boxes or maps of another length and for
    maps of a tracker that has no boxes; a frame that cannot be read is reported in the widget, and the others play on.
    """

    def __init__(
        self,
        sequence,
        results: Mapping[str, np.ndarray],
        maps: Mapping[str, Mapping[str, np.ndarray]] | None = None,
    ):
        self.sequence, self.results, self.maps = sequence, _checked(sequence, results), dict(maps or {})
        _check_maps(sequence, self.results, self.maps)
        self.overlaps = {name: _overlaps(sequence, boxes) for name, boxes in self.results.items()}
        self._encoded: OrderedDict[tuple, bytes] = OrderedDict()
        last = len(sequence) - 1
        self.slider = widgets.IntSlider(
            0, 0, last, description="frame", layout=widgets.Layout(width=f"{WIDTH - 120}px")
        )
        self.play = widgets.Play(min=0, max=last, interval=40)  # 25 frames a second, fewer where the machine is slower
        self.truth = widgets.Checkbox(_has_truth(sequence), description="ground truth", indent=False)
        self.truth.disabled = not self.truth.value
        self.map = widgets.Dropdown(options=["no map", *self.maps], layout=widgets.Layout(width="160px"))
        self.map.layout.display = None if self.maps else "none"
        self.image = widgets.Image(format="jpeg")
        self.label = widgets.HTML()
        widgets.jslink((self.play, "value"), (self.slider, "value"))
        for control in (self.slider, self.truth, self.map):
            control.observe(lambda _: self._show(), "value")
        self.box = widgets.VBox(
            [self.image, self.label, widgets.HBox([self.play, self.slider]), widgets.HBox([self.truth, self.map])]
        )
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
        frame = self.slider.value
        try:
            self.image.value = self.frame_jpeg(frame)
            self.label.value = self._caption(frame)
        except (OSError, ValueError) as error:
            self.image.value = _jpeg(np.full((WIDTH * 9 // 16, WIDTH, 3), 96, np.uint8))
            self.label.value = f"<b>frame {frame} cannot be shown:</b> {html.escape(str(error))}"

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
            try:
                data = base64.b64encode(self.frame_jpeg(frame, THUMBNAIL)).decode()
                picture = f"<img alt='frame {frame}' width='{THUMBNAIL}' src='data:image/jpeg;base64,{data}'>"
                text = self._caption(frame)
            except (OSError, ValueError) as error:
                picture, text = "", f"<b>frame {frame} cannot be shown:</b> {html.escape(str(error))}"
            cells.append(
                f"<figure style='margin:0;width:{THUMBNAIL}px'>{picture}<figcaption>{text}</figcaption></figure>"
            )
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


def _checked(sequence, results: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    if not isinstance(results, Mapping):
        raise ValueError(f"results must map a tracker's name to its boxes, not be {type(results).__name__}")
    if not len(sequence):
        raise ValueError(f"{sequence.name}: no frames to play")
    checked = {name: np.asarray(boxes, np.float64) for name, boxes in results.items()}
    for name, boxes in checked.items():
        if boxes.shape != (len(sequence), 4):
            raise ValueError(
                f"{sequence.name} has {len(sequence)} frames, but the boxes of {name} are {boxes.shape}, "
                f"not ({len(sequence)}, 4): are they of another sequence?"
            )
    return checked


def _check_maps(sequence, results: Mapping[str, np.ndarray], maps: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    for name, of in maps.items():
        if name not in results:
            known = difflib.get_close_matches(name, results, 3) or list(results)
            raise ValueError(
                f"maps of {name!r}, which has no boxes; there are boxes of {', '.join(known) or 'no tracker'}"
            )
        for part in ("response", "region"):
            rows = len(of[part]) if part in of else 0
            if rows != len(sequence) - 1:
                raise ValueError(
                    f"{sequence.name}: the maps of {name} need {part!r} for the {len(sequence) - 1} frames "
                    f"after the first, have {rows} rows"
                )


def _overlaps(sequence, boxes: np.ndarray) -> np.ndarray:
    """IoU `(T,)`; NaN where there is no box, or no target to compare it with."""
    known = np.isfinite(boxes).all(1) & np.isfinite(sequence.boxes).all(1) & ~sequence.absent
    return np.where(known, B.iou(sequence.boxes, boxes), np.nan)


def _has_truth(sequence) -> bool:
    return bool(np.isfinite(sequence.boxes).all(1).any())


def _jpeg(image: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()


def _draw(image: np.ndarray, box: np.ndarray, hexadecimal: str, dashed: bool) -> None:
    """A box in edge convention, in place, on a dark border that shows it on any ground."""
    if not np.isfinite(box).all():
        return
    rgb = tuple(int(hexadecimal[i : i + 2], 16) for i in (1, 3, 5))
    x, y, w, h = box
    ends = np.array([(x, y), (x + w, y), (x + w, y + h), (x, y + h), (x, y)]) - 0.5  # cv2 counts from pixel centres
    strokes = [stroke for a, b in itertools.pairwise(ends) for stroke in (_dashes(a, b) if dashed else [(a, b)])]
    for shade, thickness in (((0, 0, 0), 4), (rgb, 2)):
        for p, q in strokes:
            cv2.line(image, _fixed(p), _fixed(q), shade, thickness, cv2.LINE_AA, shift=4)


def _dashes(a: np.ndarray, b: np.ndarray, length: float = 6) -> list[tuple[np.ndarray, np.ndarray]]:
    """A line in dashes about `length` pixels long, beginning and ending with one."""
    count = max(int(np.hypot(*(b - a)) / length) // 2, 0) * 2 + 1
    at = [a + (b - a) * k / count for k in range(count + 1)]
    return list(zip(at[::2], at[1::2], strict=True))


def _fixed(point: np.ndarray) -> tuple[int, int]:
    """To cv2's fixed point of 4 fractional bits; far-off places are brought into the range it can hold."""
    return tuple(int(v) for v in np.rint(point.clip(-20000, 20000) * 16))
