"""A player for one sequence: see where and why a tracker failed.

Live it is a widget. The kernel sends numbers, and frames as JPEG, a few at a time and ahead of the one shown; the
browser keeps the frames and draws boxes, maps and curves (view.js). A frame is decoded when it is asked for, so a long
sequence opens as fast as a short one. Headless, or in a notebook that is not trusted, it is a contact sheet.
"""

from __future__ import annotations

import copy
import os
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
from traitlets import Bool, Bytes, Dict, Float, Int, List, TraitError, Unicode, validate

from ..data.sequence import Sequence
from ..notebook import results_root
from .export import save
from .page import PALETTE, SCRIPT, STYLE
from .scene import Maps, Scene


class Player(anywidget.AnyWidget):
    """Widget that shows a sequence with the boxes of any number of trackers.

    sequence: a `Sequence`; one without ground truth (rows of NaN) plays as well
    results:  tracker name to boxes `(T, 4)`, 0-based, a row a frame; NaN rows are not drawn
    maps:     tracker name to what the results store kept of it, from the second frame on: `(T - 1, h, w)` by name, and
              `region`, the box searched, `(T - 1, 4)`. A "response" covers the middle of its region (17 cells of stride
              8 on 255 pixels); a map whose name begins with "heat" the whole region, or the frame where there is none
    folder:   where the buttons save clips; by default results/interactive/player
    dataset:  the name of what the sequence is from, to be shown with it

    >>> Player(sequence, {"siamfc-3s": runs.read("David")}, {"siamfc-3s": runs.maps("David")})      # doctest: +SKIP

    What the controls set can be set from Python, and is told back: `frame` (counted from 0, like rows of the boxes;
    while it plays, told at the end), `playing`, `speed` (frames a second), `shown` (names of trackers, and "ground
    truth"), `overlay` (one of `map_names`, or ""), `searched` (draw the region), `selection` (first and last frame, or
    []), `drawing` (the next drag on the frame draws a box, which `on_drawn` is called with).

    `scene` has the numbers: overlap, centre error, and where a target is lost (no box on it, though it is annotated and
    in view, and the tracker had one before).

    Raises ValueError for boxes or maps of another length and for maps of a tracker that has no boxes; a frame that
    cannot be read is told in the widget, and the others play on."""

    _esm, _css = SCRIPT, STYLE
    frame = Int().tag(sync=True)
    playing = Bool().tag(sync=True)
    speed = Float(25.0).tag(sync=True)
    shown = List(Unicode()).tag(sync=True)
    overlay = Unicode().tag(sync=True)
    searched = Bool().tag(sync=True)
    selection = List(Int()).tag(sync=True)
    drawing = Bool().tag(sync=True)
    told = Dict().tag(sync=True)
    _clip = Dict().tag(sync=True)
    _series = Bytes().tag(sync=True)
    _palette = Bytes(PALETTE).tag(sync=True)

    def __init__(
        self,
        sequence: Sequence,
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
        sequence: Sequence,
        results: Mapping[str, np.ndarray],
        maps: Mapping[str, Maps] | None = None,
        dataset: str = "",
    ) -> None:
        """Show another sequence, or other results of the same one, at the frame shown; raises as the constructor, and
        then changes nothing."""
        before, self.scene = getattr(self, "scene", None), Scene.of(sequence, results, maps, dataset)
        scene, hidden = self.scene, set()
        with self.hold_sync():
            self.told = {}
            if before and before.sequence is sequence:
                hidden = {*before.shown} - {*self.shown}
            else:
                self.frame, self.playing, self.speed, self.selection = 0, False, scene.fps, []
            self.shown = [name for name in scene.shown if name not in hidden]
            self.overlay = self.overlay if self.overlay in scene.map_names else ""
            self._clip = {"id": self._clip.get("id", 0) + 1} | scene.described()
            self._series = scene.packed()

    @property
    def sequence(self) -> Sequence:
        return self.scene.sequence

    @property
    def results(self) -> dict[str, np.ndarray]:
        return self.scene.results

    @property
    def map_names(self) -> list[str]:
        """What `overlay` may be."""
        return self.scene.map_names

    @validate("selection")
    def _two_frames(self, proposal: Any) -> list[int]:
        if len(proposal["value"]) not in (0, 2):
            raise TraitError(f"selection is [first, last], or [] for all frames, not {proposal['value']}")
        return proposal["value"]

    @validate("frame")
    def _in_sequence(self, proposal: Any) -> int:
        return min(max(proposal["value"], 0), len(self.sequence) - 1)

    @validate("speed")
    def _above_zero(self, proposal: Any) -> float:
        if not proposal["value"] > 0:
            raise TraitError(f"speed is frames a second, above 0, not {proposal['value']}")
        return proposal["value"]

    def _heard(self, content: Mapping[str, Any]) -> None:
        """What the browser asks for."""
        if "save" in content:
            self._save_selection(str(content["save"]))
        elif content.get("clip") != self._clip["id"]:
            return  # of the sequence before this one
        elif "want" in content:
            about, buffers = self.scene.encoded(min(max(int(content["want"]), 0), len(self.sequence) - 1))
            self.send({"image": about | {"clip": content["clip"]}}, buffers)
        elif "drawn" in content and self.on_drawn and 0 <= content["at"] < len(self.sequence):
            self.on_drawn(int(content["at"]), np.array(content["drawn"], np.float64))

    def put(
        self,
        tracker: str,
        frame: int,
        box: np.ndarray,
        maps: Maps | None = None,
        region: np.ndarray | None = None,
        size: tuple[int, int] | None = None,
    ) -> None:
        """Set one box of a tracker at work, with its maps `(h, w)`; a view that stands at the frame before goes along.

        size: width and height of the frame, by default the first one's. `settle` afterwards, so that views opened later
        see it too."""
        row = self.scene.put(tracker, frame, box, maps or {}, region)
        about, values = self.scene.placed_maps(frame, size or self.scene.size, tracker)
        self.send({"row": row | {"clip": self._clip["id"], "maps": about}}, values)

    def settle(self) -> None:
        """Bring what `put` changed into the state that new views begin with."""
        with self.hold_sync():
            self._clip = self._clip | {"maps": self.map_names}
            self._series = self.scene.packed()

    def tell(self, text: str, fault: bool = False) -> None:
        """Write a line below the player, a fault in red."""
        self.told = {"text": text, "fault": fault}

    def still(self) -> Scene:
        """What is shown now, as it stays whatever is loaded, toggled or tracked meanwhile."""
        results = {name: boxes.copy() for name, boxes in self.results.items()}
        facts = {"shown": tuple(self.shown), "overlay": self.overlay, "fps": self.speed, "results": results}
        maps = {name: dict(of) for name, of in self.scene.maps.items()}
        sequence = replace(self.sequence, frames=copy.copy(self.sequence.frames))  # a video gets a reader of its own
        return replace(self.scene, **facts, maps=maps, sequence=sequence)

    def drawn(self, frame: int, width: int | None = None) -> np.ndarray:
        """A frame `(H, W, 3)` RGB with what is shown; see `Scene.drawn`."""
        return self.still().drawn(frame, width)

    def save(self, path: str | Path, frames: Iterable[int] | None = None) -> Path:
        """Write frames with what is shown, as .mp4, .gif, .png, .jpg, .pdf or .html; see `export.save`."""
        return save(self.still(), path, frames)

    def contact_sheet(self, count: int = 8) -> str:
        """Up to `count` frames, evenly spread, as self-contained HTML."""
        return self.still().contact_sheet(count)

    def _save_selection(self, kind: str) -> None:
        """Save the frames selected, in a thread: the player goes on meanwhile."""
        if self._saving and self._saving.is_alive():
            self.tell("Still writing: wait until it is done.", fault=True)
            return
        first, last = self.selection or (0, len(self.sequence) - 1)
        name, kind = (re.sub(r"[^\w.-]+", "_", text)[:80] for text in (self.sequence.name, kind))
        path = self.folder / f"{name}_{first:05d}-{last:05d}.{kind}"
        self.tell(f"Writing {path} ...")
        given = (self.still(), path, range(first, last + 1))
        self._saving = threading.Thread(target=self._save_and_tell, args=given, daemon=True)
        self._saving.start()

    def _save_and_tell(self, scene: Scene, path: Path, frames: range) -> None:
        try:
            save(scene, path, frames)
        except Exception as error:  # a thread that dies would leave its user waiting
            self.tell(f"Not saved: {error or type(error).__name__}", fault=True)
        else:
            self.tell(f"Saved {path} ({len(frames)} frames, {path.stat().st_size / 1e6:.1f} MB)")

    def __repr__(self) -> str:
        return f"Player({self.scene.title}, {len(self.sequence)} frames, {', '.join(self.results)})"

    def _repr_mimebundle_(self, **kwargs) -> tuple[dict[str, Any], dict[str, Any]]:
        """The widget where a kernel and a browser are there, and always a static sheet for where they are not."""
        live, metadata = ({}, {}) if os.environ.get("TRK_HEADLESS") else super()._repr_mimebundle_(**kwargs)
        text = repr(self)
        return live | {"text/html": self.contact_sheet(), "text/plain": text}, metadata
