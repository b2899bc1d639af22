"""Our trackers inside other toolkits, theirs inside ours, and result files from one layout into another.

got10k: a tracker of ours for its experiments.

    ExperimentOTB(root).run(as_got10k(load_tracker("siamfc-3s")))

vot-toolkit: in the workspace's trackers.ini, where `vot-trax` is installed beside trackerlib:

    [siamfc-3s]
    label = SiamFC-3s
    protocol = traxpython
    command = from trackerlib.trackers import load_tracker
        from trackerlib.interchange import serve_trax
        serve_trax(load_tracker('siamfc-3s'))

It writes its results in a binary form of its own; with VOT_RESULTS_BINARY=0 in the environment, as text, which we read.
(Release 0.9.0 stops at any tracker in its supervised experiment; ours does not, and it reads and judges our files.)

A tracker written for got10k's two methods: `evaluate(InitUpdate(TheirTracker), dataset)`, or from the command line
`python -m trackerlib evaluate --tracker module:TheirTracker`.

None of these toolkits is a dependency: what needs one imports it when it is called.
"""

from __future__ import annotations

import inspect
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import boxes as B
from .bench.layouts import one_pass_codes
from .bench.results import RunSet
from .data.formats import name_key
from .data.sequence import Dataset
from .data.vot import boxes_of
from .images import read_image
from .provenance import class_digest, file_sha256, write_json
from .tracker import Frames, OneTarget, Output, State, Tracker


class _ForGot10k:
    """A tracker of ours as got10k's experiments want it.

    origin: the coordinate of the first pixel in the benchmark's files, for got10k hands annotation on as it stands: 1
            in OTB and UAV, and in GOT-10k by its author's word (got-10k/toolkit, issue 6)"""

    is_deterministic = True

    def __init__(self, tracker: Tracker, origin: int = 1):
        self.name, self.one, self.origin = tracker.name, OneTarget(tracker), origin

    def init(self, image: Any, box: np.ndarray) -> None:
        """image: PIL or `(H, W, 3)` RGB uint8; box `x, y, w, h` as the benchmark's file has it."""
        self.one.init(_rgb(image), B.from_origin(np.asarray(box, np.float64), self.origin))

    def update(self, image: Any) -> np.ndarray:
        return B.to_origin(self.one.update(_rgb(image)), self.origin)

    def track(self, img_files: Sequence[str], box: np.ndarray, visualize=False) -> tuple[np.ndarray, np.ndarray]:
        """Boxes `(T, 4)` and seconds `(T,)`, decoding excluded."""
        boxes, times = np.tile(np.asarray(box, np.float64), (len(img_files), 1)), np.zeros(len(img_files))
        for t, file in enumerate(img_files):
            image = read_image(file)
            started = time.perf_counter()
            if t:
                boxes[t] = self.update(image)
            else:
                self.init(image, box)
            times[t] = time.perf_counter() - started
            if visualize:
                from got10k.utils.viz import show_frame

                show_frame(image[..., ::-1], boxes[t])  # it takes arrays for BGR
        return boxes, times


def _rgb(image: Any) -> np.ndarray:
    """`(H, W, 3)` of a PIL image of any mode, or the array itself."""
    return np.array(image.convert("RGB")) if hasattr(image, "convert") else image


as_got10k = _ForGot10k


@torch.inference_mode()
def serve_trax(tracker: Tracker) -> None:
    """Speak TraX on standard input and output, for vot-toolkit and its like, until the client quits.

    Polygons are turned into boxes by the rule that our own VOT datasets use, so that a run there starts as one here.
    Raises ImportError without `vot-trax`."""
    import trax

    one = OneTarget(tracker)
    regions = [trax.Region.RECTANGLE, trax.Region.POLYGON]
    with trax.Server(regions, [trax.Image.PATH], tracker_name=tracker.name) as server:
        while (request := server.wait()).type in ("initialize", "frame"):
            image = read_image(request.image["color"].path())
            if request.type == "initialize":
                region = request.objects[0][0]
                polygon = region.type == "polygon"
                box = boxes_of(np.reshape(list(region), (1, -1)))[0] if polygon else np.array(region.bounds())
                one.init(image, box)
            else:
                box = one.update(image)
            server.status([(trax.Rectangle.create(*map(float, box)), {})])


class InitUpdate:
    """A tracker written for got10k's interface, `init(image, box)` and `update(image) -> box`, as a batch-first one.

    Every run gets an object of its own. Objects take their steps one after the other: more lanes bring no speed.

    make:   the class, or any function that gives a new object; arguments: what it is called with. Results of a function
            are never taken up again by a later run, for the code behind it is not known; those of a class are.
    origin: the coordinate of the first pixel that the tracker expects; 1 as in got10k's benchmarks
    images: "pil" (RGB, as got10k gives them) or "numpy" (`(H, W, 3)` RGB uint8)

    Raises ValueError where the object lacks one of the two methods."""

    def __init__(self, make: Callable[..., Any], arguments: dict | None = None, origin: int = 1, images: str = "pil"):
        self.make, self.arguments, self.origin, self.images = make, arguments or {}, origin, images
        first = make(**self.arguments)
        self.name = getattr(first, "name", type(first).__name__)
        if not is_init_update(first):
            raise ValueError(f"{self.name}: not a tracker of got10k's kind: no init(image, box) and update(image)")
        given = {k: file_sha256(v) if Path(str(v)).is_file() else v for k, v in self.arguments.items()}
        kind = f"{type(first).__module__}:{type(first).__qualname__}"
        self.config = {"class": kind, "arguments": given, "origin": origin, "images": images}
        self.weights_sha = class_digest(make) if isinstance(make, type) else secrets.token_hex()

    def init(self, frames: Frames, boxes: Tensor) -> InitUpdateState:
        rows = B.to_origin(boxes.double().cpu().numpy(), self.origin)
        images, targets = frames.once(self.images, self._image), []
        for image, u, row in zip(images, frames.lane, rows, strict=True):
            targets.append(_Target(self.make(**self.arguments), frames.ids[u], row))
            targets[-1].object.init(image, row)
        return InitUpdateState(targets)

    def track(self, state: InitUpdateState, frames: Frames) -> tuple[InitUpdateState, Output]:
        images = frames.once(self.images, self._image)
        rows = [t.at(frames.ids[u], i) for t, u, i in zip(state.targets, frames.lane, images, strict=True)]
        boxes = torch.from_numpy(B.from_origin(np.stack(rows), self.origin))
        return state, Output(boxes, torch.full((len(rows),), torch.nan))

    def _image(self, image: Tensor) -> Any:
        array = image.permute(1, 2, 0).cpu().numpy().copy()  # their own: the decoded frame is everybody's
        if self.images == "numpy":
            return array
        from PIL import Image

        return Image.fromarray(array)


@dataclass
class InitUpdateState(State):
    """Per lane: the object at work. Lanes that are copies of one another share it."""

    targets: list[_Target]


@dataclass
class _Target:
    """One object, the last frame `(video, number)` that it was shown and its box there.

    An object cannot go back, and the engine asks twice: for copies in an idle lane, and when a step is tried again
    because another lane's raised. So only the next frame moves the object; else its last answer, a box or an exception,
    stands."""

    object: Any
    frame: tuple[str, int]
    answer: np.ndarray | Exception

    def at(self, frame: tuple[str, int], image: Any) -> np.ndarray:
        video, number = self.frame
        if frame == (video, number + 1):
            self.frame = frame
            try:
                box = self.object.update(image)
                self.answer = np.array(box, np.float64)
                if self.answer.shape != (4,):
                    raise ValueError(f"update gave {box!r}, want a box x, y, w, h")
            except Exception as error:
                self.answer = error
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def is_init_update(thing: Any) -> bool:
    """Whether an object has got10k's two methods and is no batch-first tracker (got10k's `track` takes image files)."""
    track = getattr(thing, "track", None)
    alone = track is None or "img_files" in inspect.signature(track).parameters
    return alone and callable(getattr(thing, "init", None)) and callable(getattr(thing, "update", None))


def convert(source: str | Path | RunSet, target: str | Path, layout: str, dataset: Dataset | None = None) -> RunSet:
    """Write the one-pass runs of a result folder into `target` as another toolkit stores them (see `bench.layouts`).

    Four decimals are kept, seconds a frame go along where they are stored; of VOT's repetitions the first.
    source: a folder, or where its layout is not to be guessed `RunSet(folder, layout)`
    dataset: needed from "vot", whose files hold no first box

    Raises ValueError for a run with restarts, which only VOT's files can hold, for polygons, and for a run that the
    dataset lacks; FileNotFoundError for a source without results."""
    runs = source if isinstance(source, RunSet) else RunSet(source)
    goal = RunSet(target, layout)
    firsts = {name_key(name): s.boxes[0] for name, s in (dataset or {}).items()}
    names = [n for n in runs.names() if not runs.layout.coded or n.endswith("_001")]
    if not names:
        raise FileNotFoundError(f"{runs.folder}: no results there in the layout {runs.layout.name!r}")
    for name in names:
        boxes, codes = runs.read(name), runs.trajectory(name).codes
        plain = name.removesuffix("_001") if runs.layout.coded else name
        if (codes != one_pass_codes(len(codes))).any():
            raise ValueError(f"{runs.folder}: {name} was restarted; only the layout 'vot' can hold that")
        if runs.layout.coded:
            if name_key(plain) not in firsts:
                raise ValueError(f"{runs.folder}: {name} holds no first box; give the dataset that {plain} is of")
            boxes[0] = firsts[name_key(plain)]
        times = runs.times(name)
        if times is None and layout == "got10k":
            times = np.full(len(boxes), np.nan)  # without the file got10k 0.1.3 gives no report
        goal.write(f"{plain}_001" if goal.layout.coded else plain, boxes, times)
    if runs.manifest:
        write_json(goal.folder / "manifest.json", runs.manifest | {"layout": layout})
    return goal
