"""The contract between trackers and everything that runs them.

A tracker is batch-first: one object tracks B targets ("lanes") in lock-step, so that a benchmark can fill a GPU. It
sees frames and first boxes and gives back boxes; it never sees ground truth, a protocol or a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from functools import cache
from itertools import count
from typing import Any, Protocol, Self, TypeVar, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from .images import to_tensor

T = TypeVar("T")


class Kept(Protocol):
    """What was made of frames, by name and frame id: tensors and tuples of tensors (`bench.features`)."""

    def get(self, name: str, frame: tuple[str, int], device: torch.device) -> Any: ...

    def put(self, name: str, frame: tuple[str, int], value: Any) -> None: ...


@dataclass
class Frames:
    """One step's input: each distinct image once, and which lane looks at which.

    images: U tensors `(3, H, W)` uint8 on the tracker's device, sizes may differ
    lane:   for each of the B lanes, its index into `images`
    ids:    for each image `(sequence name, frame number)`
    """

    images: list[Tensor]
    lane: list[int]
    ids: list[tuple[str, int]]
    kept: Kept | None = field(default=None, repr=False)  # what outlives the step
    _made: dict = field(default_factory=dict, repr=False)

    def by_image(self) -> Iterator[tuple[Tensor, list[int]]]:
        """Each distinct image with the lanes that look at it."""
        for u, image in enumerate(self.images):
            yield image, [b for b, of in enumerate(self.lane) if of == u]

    def of(self, lanes: Sequence[int]) -> Frames:
        """What these lanes look at."""
        seen = sorted({self.lane[b] for b in lanes})
        images, ids = [self.images[u] for u in seen], [self.ids[u] for u in seen]
        return Frames(images, [seen.index(self.lane[b]) for b in lanes], ids, self.kept)

    def sizes(self, like: Tensor) -> Tensor:
        """Width and height `(B, 2)` of each lane's frame, of the type and on the device of `like`."""
        return like.new_tensor([[self.images[u].shape[2], self.images[u].shape[1]] for u in self.lane])

    def once(self, name: str, f: Callable[[Tensor], T]) -> list[T]:
        """`f(image)` for each lane, evaluated once per distinct image (a global feature, a detector).

        `name` identifies f and the weights behind it."""
        return self._together(name, lambda images: [f(image) for image in images], None)

    def together(self, name: str, f: Callable[[list[Tensor]], list[T]]) -> list[T]:
        """As `once`, for an f that takes many images in a batch and whose values, tensors or tuples of them, are worth
        keeping beyond the step: it is given those not known. `name` identifies the code and the device too."""
        return self._together(name, f, self.kept)

    def _together(self, name: str, f: Callable[[list[Tensor]], list[T]], kept: Kept | None) -> list[T]:
        if kept is not None:
            known = {(u, name): kept.get(name, of, self.images[u].device) for u, of in enumerate(self.ids)}
            self._made = {key: value for key, value in known.items() if value is not None} | self._made
        new = [u for u in range(len(self.images)) if (u, name) not in self._made]
        for u, value in zip(new, f([self.images[u] for u in new]) if new else [], strict=True):
            self._made[u, name] = value
            if kept is not None:
                kept.put(name, self.ids[u], value)
        return [self._made[u, name] for u in self.lane]


def lane_by_lane(f: Callable[[int], T], lanes: int) -> list[T]:
    """`f` of every lane, on a CPU: each core takes lanes of its own, where the small convolutions of one lane keep two
    cores busy for four fifths of the time. With gradients, and for what is left over, one after the other."""
    cores = torch.get_num_threads()
    together = 0 if torch.is_grad_enabled() or cores == 1 else lanes - lanes % cores
    inference = torch.is_inference_mode_enabled()

    def alone(lane: int) -> T:
        with torch.inference_mode(inference), torch.set_grad_enabled(False):
            return f(lane)

    return [*_cores(cores).map(alone, range(together)), *map(f, range(together, lanes))]


@cache
def _cores(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, "lane", torch.set_num_threads, (1,))


@dataclass
class State:
    """Base of a tracker's state: a dataclass whose fields are per-lane.

    Tensors have the lanes first; what differs in shape by lane is a list; a field may be a State itself, or a dict of
    such leaves (features by layer)."""

    def take(self, lanes: Sequence[int]) -> Self:
        """The state of these lanes alone."""
        return _take(self, list(lanes))

    def lane(self, b: int) -> Self:
        """One lane's state, a view of this one."""
        return _take(self, slice(b, b + 1))

    def put(self, lanes: Sequence[int], other: Self) -> None:
        """Overwrite these lanes by those of `other`, in place; the rest stays as it is to the bit."""
        for f in fields(self):
            _put(getattr(self, f.name), lanes, getattr(other, f.name))


def _put(mine: Any, lanes: Sequence[int], new: Any) -> None:
    if isinstance(mine, State):
        mine.put(lanes, new)
    elif isinstance(mine, dict):
        for name, leaf in mine.items():
            _put(leaf, lanes, new[name])
    elif isinstance(mine, Tensor):
        mine[list(lanes)] = new.to(mine.dtype)
    else:
        for lane, leaf in zip(lanes, new, strict=True):
            mine[lane] = leaf


def _take(value: Any, lanes: list[int] | slice) -> Any:
    if isinstance(value, State):
        return type(value)(*(_take(getattr(value, f.name), lanes) for f in fields(value)))
    if isinstance(value, dict):
        return {name: _take(leaf, lanes) for name, leaf in value.items()}
    if isinstance(value, Tensor) or isinstance(lanes, slice):
        return value[lanes]
    return [value[b] for b in lanes]


@dataclass
class Output:
    """boxes `(B, 4)` (see `boxes` for the convention) and scores `(B,)`; when the tracker was asked to keep them,
    maps (name to `(B, h, w)`: response, heat map) and regions `(B, 4)`: where it looked."""

    boxes: Tensor
    scores: Tensor
    maps: dict[str, Tensor] = field(default_factory=dict)
    regions: Tensor | None = None


@runtime_checkable
class Tracker(Protocol):
    """What the engine asks of a tracker.

    `init` takes first frames and boxes `(B, 4)`; `track` takes the next ones. `track` never enters inference mode
    (joint training needs gradients); the engine does. Optional attributes that the engine reads: `device` (default
    cpu), `dtype`, `config` and `weights_sha` (for the results' key), `seen` (names of the sequences in the training
    data); it sets `keep_maps` where maps are wanted. `track` must leave the state it was given as it was: a step that
    raises is tried again from it."""

    name: str

    def init(self, frames: Frames, boxes: Tensor) -> State: ...

    def track(self, state: State, frames: Frames) -> tuple[State, Output]: ...


_VIDEOS = count()  # ids of videos that have no name: a cache must not take one for another


class OneTarget:
    """A batch-first tracker as OpenCV and got10k spell it, for one target at a time.

    >>> one = OneTarget(load_tracker("siamfc-3s"))      # doctest: +SKIP
    >>> one.init(first_image, (x, y, w, h))             # doctest: +SKIP
    >>> box = one.update(next_image)                    # doctest: +SKIP
    """

    def __init__(self, tracker: Tracker):
        self.tracker, self.state, self.last = tracker, None, None
        self.frame = self.video = 0

    @torch.inference_mode()
    def init(self, image: np.ndarray, box: Sequence[float]) -> None:
        """image `(H, W, 3)` RGB uint8; box `x, y, w, h`, 0-based."""
        self.frame, self.video = 0, next(_VIDEOS)
        box = torch.as_tensor(np.asarray(box, np.float64), dtype=torch.float32)[None]
        self.state = self.tracker.init(self._frames(image), box.to(self._device))

    @torch.inference_mode()
    def update(self, image: np.ndarray) -> np.ndarray:
        """The target's box `(4,)` in this image; the whole `Output` stays in `self.last`."""
        if self.state is None:
            raise RuntimeError("update() before init(): give the first image and box to init")
        self.frame += 1
        self.state, self.last = self.tracker.track(self.state, self._frames(image))
        return self.last.boxes[0].double().cpu().numpy()

    @property
    def _device(self) -> torch.device | str:
        return getattr(self.tracker, "device", "cpu")

    def _frames(self, image: np.ndarray) -> Frames:
        return Frames([to_tensor(image, self._device)], [0], [(f"live {self.video}", self.frame)])


def track_sequence(tracker: Tracker, sequence) -> np.ndarray:
    """Track one `Sequence` from its first box: `(T, 4)` boxes, the first row the given one."""
    one, boxes = OneTarget(tracker), [np.asarray(sequence.boxes[0])]
    one.init(sequence.frames[0], boxes[0])
    boxes += [one.update(sequence.frames[t]) for t in range(1, len(sequence))]
    return np.stack(boxes)
