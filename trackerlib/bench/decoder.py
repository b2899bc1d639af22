"""Frames for the engine: decoded ahead in threads, once for all runs that look at them, within a budget of memory."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from ..data.sequence import FrameSource
from ..images import to_tensor

Key = tuple[str, int]  # a video and a frame of it


class Decoder:
    """Images by (video, frame), on the tracker's device.

    A run says with `expect` which frames it will look at and with `passed` that it has; an image is kept while some run
    still needs it, if the budget allows, and forgotten then. Frames that lanes need next come before those that waiting
    runs will need. `decoded` counts decodings: as many as images, unless the budget forced one out."""

    def __init__(
        self,
        sources: dict[str, FrameSource],
        device: torch.device,
        budget: int = 1 << 30,
        threads: int = min(4, os.cpu_count() or 1),
    ):
        """sources: video name to its frames; budget: bytes of decoded images."""
        self.sources, self.device, self.budget = sources, device, budget
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self.images: dict[Key, Future[Tensor]] = {}
        self.needed = {video: np.zeros(len(frames), np.int32) for video, frames in sources.items()}
        self.largest = 1  # bytes of the largest image so far
        self.decoded = 0

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, *_) -> None:
        self.pool.shutdown(cancel_futures=True)

    def expect(self, video: str, first: int, last: int) -> None:
        """A run will look at these frames, both included."""
        self.needed[video][first : last + 1] += 1

    def passed(self, video: str, first: int, last: int) -> None:
        """A run has looked at these frames, or never will."""
        self.needed[video][first : last + 1] -= 1
        for frame in range(first, last + 1):
            if self.needed[video][frame] <= 0 and (video, frame) in self.images:
                self._forget((video, frame))

    def get(self, key: Key) -> Tensor:
        """The image `(3, H, W)` uint8; raises what decoding raised."""
        if key not in self.images:
            self._request(key)
        image = self.images[key].result()
        self.largest = max(self.largest, image.nbytes)
        return image

    def ahead(self, wanted: Iterable[Key]) -> None:
        """Ask for images that will be needed next, the most urgent first, and make room for them."""
        room = max(self.budget // self.largest, 1)
        soon = dict.fromkeys(islice(dict.fromkeys(wanted), room))
        for key in soon:
            if key not in self.images:
                self._request(key)
        # Runs come back to a video from its start: what was passed last will be needed last.
        if (excess := len(self.images) - room) > 0:
            spare = [key for key in reversed(self.images) if key not in soon]
            for key in spare[:excess]:
                self._forget(key)

    def _request(self, key: Key) -> None:
        self.images[key] = self.pool.submit(self._decode, key)
        self.decoded += 1

    def _forget(self, key: Key) -> None:
        self.decoded -= self.images.pop(key).cancel()

    def _decode(self, key: Key) -> Tensor:
        return to_tensor(self.sources[key[0]][key[1]], self.device)
