"""Protocols: which runs a benchmark asks for. The engine packs them into lanes and does not know which it serves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol as Contract

import numpy as np

from ..config import near
from ..data.sequence import Dataset


@dataclass(frozen=True)
class Run:
    """One trajectory: a sequence's frames `first .. last`, both included, started from `box`; `name` is its file."""

    name: str
    sequence: str
    first: int
    last: int
    box: tuple[float, float, float, float]

    def __len__(self) -> int:
        return self.last - self.first + 1


class Protocol(Contract):
    name: str

    def runs(self, dataset: Dataset) -> Iterator[Run]: ...


class OPE:
    """One-pass evaluation (OTB): from the first frame's annotation to the end, never reset."""

    name = "OPE"

    def runs(self, dataset: Dataset) -> Iterator[Run]:
        for sequence in dataset.values():
            yield Run(sequence.name, sequence.name, 0, len(sequence) - 1, first_box(sequence.name, sequence.boxes[0]))


def first_box(name: str, box: np.ndarray) -> tuple[float, float, float, float]:
    """The box a run starts from; raises ValueError where no tracker could start."""
    if not np.isfinite(box).all() or (box[2:] <= 0).any():
        shown = ", ".join(f"{v:g}" for v in box)
        raise ValueError(
            f"{name}: the first box (x, y, w, h = {shown}) has no area or is NaN; a tracker needs a box to start from"
        )
    return tuple(float(v) for v in box)


PROTOCOLS = {"OPE": OPE}


def protocol(name: str) -> Protocol:
    if name not in PROTOCOLS:
        raise ValueError(f"no protocol is called {name!r}{near(name, PROTOCOLS)}")
    return PROTOCOLS[name]()
