"""Draw a box on your own video, choose a tracker, watch it run, correct it, save what it found."""

from __future__ import annotations

import copy
import html
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import numpy as np

from .. import boxes as B
from ..config import near
from ..data.folder import load_clip
from ..data.formats import format_rows
from ..provenance import write_text
from ..tracker import OneTarget, Tracker
from ..trackers import TRACKERS, load_tracker
from .player import Player

SHIPPED = {"shipped, the tracker's own": "", "shipped, a quarter of the width (faster)": "siamfc-quarter"}
WHOLE = ("siamemory", "goturn", "rolo", "rolo-heatmap", "yolo-sort")  # which come in one size
OFFERED = tuple(name for name in TRACKERS if name != "dsiamm-vgg19")  # which ships no weights


class DrawAndTrack:
    """Widget: a path, a player to draw on, a tracker to choose, buttons to track, stop and save.

    path:   a video, or a folder of images; by default the user names one
    folder: where `save` and the player's buttons write; by default results/interactive/player

    `boxes` are what was found and drawn, `(T, 4)`, 0-based, NaN where there is nothing yet.
    Draw a box on any frame: tracking starts there and goes on to the end, and the boxes before that frame stay as they
    are. To correct, go to the frame where the tracker errs, and draw again: a tracker at work stops for it.
    A mistake is told in the widget and changes nothing."""

    def __init__(self, path: str | Path = "", tracker: str = "siamfc-3s", weights: str = "", folder: str | Path = ""):
        self.folder, self.player = folder or None, None
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._unsaved, self._warned = False, ""  # boxes that no file has, and the path that was asked for twice
        wide = wide_field()
        self.path = widgets.Text(str(path), description="video", placeholder="clip.mp4, or a folder of images", **wide)
        if tracker not in OFFERED:
            raise ValueError(f"no tracker is called {tracker!r}{near(tracker, OFFERED)}")
        self.tracker = widgets.Dropdown(options=OFFERED, value=tracker, description="tracker", **wide)
        known = SHIPPED if weights in SHIPPED.values() else {**SHIPPED, weights: weights}
        self.weights = widgets.Dropdown(options=known, value=weights, description="weights", **wide)
        self.out = widgets.Text(description="save to", placeholder="by default NAME.txt, in OTB's format", **wide)
        self.opening = _button("Open", "open the video or folder", self.open)
        facts = {"description": "Draw a box", "tooltip": "then drag on the frame"}
        self.drawing = widgets.ToggleButton(False, disabled=True, **facts)
        self.tracking = _button("Track", "track on from the last box up to this frame", self.track, disabled=True)
        self.stopping = _button("Stop", "stop tracking; what was found stays", self._halt, disabled=True)
        self.saving = _button("Save boxes", "write a row x,y,w,h a frame, first pixel 1", self._save, disabled=True)
        self.said = widgets.HTML()
        self.drawing.observe(lambda change: setattr(self.player, "drawing", change["new"]), "value")
        flow = widgets.Layout(flex_flow="row wrap", align_items="center")
        rows = [(self.path, self.opening), (self.tracker, self.weights)]
        rows += [(self.drawing, self.tracking, self.stopping), (self.out, self.saving)]
        self._rows = [widgets.HBox(row, layout=flow) for row in rows]
        self.box = widgets.VBox([*self._rows, self.said])
        if path:
            self.open()

    @property
    def boxes(self) -> np.ndarray:
        return self.player.results[self._name]

    @property
    def _name(self) -> str:
        return next(iter(self.player.results))

    def open(self) -> None:
        """Show the video or folder that `path` names."""
        path = os.path.expanduser(self.path.value.strip())
        try:
            if not path:
                raise ValueError("type the path of a video, or of a folder of images")
            clip = load_clip(path)
            clip.frames[0]
        except (OSError, ValueError) as error:
            self.say(str(error), fault=True)
            return
        if self._unsaved and path != self._warned:
            self._warned = path
            self.say("There are boxes that were not saved: save them, or press Open again to drop them.", fault=True)
            return
        self.stop()
        self._unsaved, self._warned = False, ""
        results = {"tracked": np.full((len(clip), 4), np.nan)}
        if self.player is None:
            self.player = Player(clip, results, folder=self.folder)
            self.player.on_drawn = self.begin
            self.player.observe(lambda change: setattr(self.drawing, "value", change["new"]), "drawing")
        else:
            self.player.load(clip, results)
        self.box.children = [self._rows[0], self.player, *self._rows[1:], self.said]
        for control in (self.drawing, self.tracking, self.saving):
            control.disabled = False
        self.drawing.value = True
        self.say(f"{clip.name}: {len(clip)} frame{'s' * (len(clip) != 1)}. Drag a box around the target, on any frame.")

    def begin(self, frame: int, box: np.ndarray) -> None:
        """A box `(4,)` was drawn on a frame: keep it, and track from there."""
        box = np.asarray(box, np.float64)
        self.player.put(self._name, frame, box)
        self._unsaved, self.drawing.value = True, False
        self._start(frame, box)

    def track(self) -> None:
        """Track on from the last drawn or found box at or before the frame shown."""
        known = np.flatnonzero(np.isfinite(self.boxes[: self.player.frame + 1]).all(1))
        if not len(known):
            self.say("There is no box at or before this frame: draw one first.", fault=True)
            return
        frame = int(known[-1])
        self.player.frame = frame
        self._start(frame, self.boxes[frame].copy())

    def _halt(self) -> None:
        """Ask a tracker at work to stop after this frame. Who waits for it would keep the kernel from all else."""
        self._stop.set()

    def stop(self) -> None:
        """Stop tracking, if it is under way; returns when it has."""
        self._halt()
        self.wait()

    def wait(self) -> None:
        """Return when tracking has reached the end: for scripts and tests."""
        if self._thread:
            self._thread.join()

    def save(self, path: str | Path) -> Path:
        """Write the boxes in OTB's format: a row `x,y,w,h` a frame, the first pixel 1, NaN where there is no box.

        Raises ValueError where no box was drawn yet, and for a path that is no .txt: it could be the video itself."""
        if self.player is None or np.isnan(self.boxes).all():
            raise ValueError("nothing to save yet: open a video, draw a box and track")
        if Path(path).suffix.lower() != ".txt":
            raise ValueError(f"{path}: boxes are written as .txt")
        write_text(path, format_rows(B.to_one_based(self.boxes)))
        self._unsaved = False
        return Path(path)

    def say(self, text: str, fault: bool = False) -> None:
        """Write a line below the controls, a fault in red."""
        self.said.value = line(text, fault)

    def _save(self) -> None:
        try:
            name = os.path.expanduser(self.out.value.strip())
            path = self.save(name or self.player.folder / f"{self.player.sequence.name}.txt")
        except (OSError, ValueError) as error:
            self.say(f"Not saved: {error}", fault=True)
        else:
            missing = int(np.isnan(self.boxes).any(1).sum())
            self.say(f"Saved {path}: {len(self.boxes)} rows{f', {missing} of them without a box' * bool(missing)}")

    def _start(self, frame: int, box: np.ndarray) -> None:
        """Track from a box in a thread of its own, which begins when the one before has ended."""
        self._halt()
        self._stop, before = threading.Event(), self._thread
        self.tracking.disabled, self.stopping.disabled = True, False
        name = self.tracker.value
        weights = self.weights.value or None
        if name.startswith("kcf") or (name in WHOLE and weights in SHIPPED.values()):  # a filter has none
            weights = None
        given = (before, self._stop, frame, box, name, weights)
        self._thread = threading.Thread(target=self._run, args=given, daemon=True)
        self._thread.start()

    def _run(
        self,
        before: threading.Thread | None,
        stop: threading.Event,
        frame: int,
        box: np.ndarray,
        name: str,
        weights: str | None,
    ) -> None:
        if before:
            before.join()
        try:
            self.say(f"{name}: loading ...")
            tracker = load_tracker(name, weights)
            self.say(f"{name}: tracking from frame {frame} ...")
            last = self._follow(tracker, frame, box, stop)
            older = " (boxes after it are of the track before)" * bool(np.isfinite(self.boxes[last + 1 :]).all(1).any())
            ended = "stopped" if stop.is_set() else "done"
            self.say(f"{name}: {ended} at frame {last}{older}. To correct it, go to a frame, draw again; then save.")
        except Exception as error:  # of any tracker, and of frames that cannot be read
            self.say(f"{name}: {error or type(error).__name__}; what was found before stays", fault=True)
        finally:
            if stop is self._stop:  # no other has taken over
                self.player.settle()
                self.tracking.disabled, self.stopping.disabled = False, True

    def _follow(self, tracker: Tracker, frame: int, box: np.ndarray, stop: threading.Event) -> int:
        """Track to the end or until told to stop; returns the last frame tracked."""
        player, one = self.player, OneTarget(tracker)
        frames = copy.copy(player.sequence.frames)  # a reader of its own: the player's is asked for other frames
        tracker.keep_maps = True
        image = frames[frame]
        one.init(image, box)
        player.put(self._name, frame, box)  # again: the tracker before may have been there last
        for t in range(frame + 1, len(frames)):
            if stop.is_set():
                return t - 1
            image = frames[t]
            found = one.update(image)
            maps = {name: m[0].float().cpu().numpy() for name, m in one.last.maps.items()}
            region = None if one.last.regions is None else one.last.regions[0].double().cpu().numpy()
            player.put(self._name, t, found, maps, region, image.shape[1::-1])
        return len(frames) - 1

    def _repr_mimebundle_(self, **kwargs) -> tuple[dict[str, Any], dict[str, Any]]:
        """As the player's own; before a video is open, a line."""
        return bundle(self.box, self.player, "Draw and track: no video is open")


def _button(text: str, tip: str, act: Callable[[], None], disabled: bool = False) -> widgets.Button:
    button = widgets.Button(description=text, tooltip=tip, disabled=disabled)
    button.on_click(lambda _: act())
    return button


def wide_field() -> dict[str, Any]:
    """How a text field or list among the controls looks."""
    return {"style": {"description_width": "70px"}, "layout": widgets.Layout(flex="1 1 260px", max_width="560px")}


def line(text: str, fault: bool) -> str:
    """A line below controls, as HTML; a fault in red."""
    style = "color:var(--jp-error-color0,#b71c1c);font-weight:600" if fault else ""
    return f"<div role='{'alert' if fault else 'status'}' style='{style}'>{html.escape(text)}</div>"


def bundle(box: widgets.Widget, player: Player | None, otherwise: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a notebook shows of controls with a player among them: live all of it, else the player's sheet or a line."""
    live = {} if os.environ.get("TRK_HEADLESS") else dict(box._repr_mimebundle_())
    sheet = html.escape(otherwise) if player is None else player.contact_sheet()
    return live | {"text/html": sheet, "text/plain": otherwise if player is None else repr(player)}, {}
