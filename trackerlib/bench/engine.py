"""The lane engine: many runs in one batch.

L lanes step together through one batched tracker. A lane that finishes is refilled while the others go on; frames are
decoded ahead by threads within a memory budget; a finished trajectory is written at once. The batch always has L lanes
(idle ones repeat), and every run starts alone, so the bytes of a result do not depend on what ran beside it."""

from __future__ import annotations

import os
import time
import traceback
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data.sequence import Dataset, Sequence
from ..images import to_tensor
from ..provenance import canonical, class_digest, code_digest, environment, sha256, write_json
from ..tracker import Frames, Output, State, Tracker
from .protocols import Protocol, Run, protocol
from .results import RunSet


def evaluate(
    tracker: Tracker,
    dataset: Dataset,
    protocol_name: str = "OPE",
    results: str | Path = "results/evaluate",
    lanes: int = 1,
    keep_maps: bool = False,
    seed: int = 0,
    on_done: Callable[[Run, int, int], None] = lambda run, done, of: None,
) -> RunSet:
    """Run a protocol over a dataset and return its stored results; what is stored already is not done again.

    lanes: targets tracked in one batch. One lane also stores each frame's seconds (decoding excluded); with more, times
           are not a frame's own and are left out; the throughput is written to `speed.json` beside the manifest.
    on_done(run, done, of): called after each finished run.
    Runs that raise are recorded under `errors/` while the others go on; `RunSet.failures()` tells."""
    if lanes < 1:
        raise ValueError(f"lanes={lanes}: at least one target must be tracked")
    chosen = protocol(protocol_name)
    runs = list(chosen.runs(dataset))
    recorded = {"lanes": lanes, "environment": environment()}
    store = RunSet.open(results, manifest(tracker, dataset, chosen, seed) | recorded)
    todo = [r for r in runs if not store.has(r.name, len(r), maps=keep_maps)]
    tracker.keep_maps = keep_maps
    torch.manual_seed(seed)  # ours draw nothing while they track; a user's may
    engine = Engine(tracker, dataset, store, lanes, on_done)
    started = time.perf_counter()
    engine.run(todo, len(runs))
    if engine.frames:
        seconds = time.perf_counter() - started
        speed = recorded | {"frames": engine.frames, "frames_per_second": round(engine.frames / seconds, 2)}
        write_json(store.folder / "speed.json", speed)
    return store


def manifest(tracker: Tracker, dataset: Dataset, chosen: Protocol, seed: int) -> dict[str, Any]:
    """What determines the outcome, hashed into `key`. Lanes, threads, host and versions are recorded, not keyed."""
    config = getattr(tracker, "config", None)
    facts = {
        "tracker": tracker.name,
        "class": f"{type(tracker).__module__}:{type(tracker).__qualname__}",
        "code": [class_digest(type(tracker)), code_digest([__name__])],
        "config": asdict(config) if is_dataclass(config) else config,
        "weights": getattr(tracker, "weights_sha", None),
        "dtype": str(getattr(tracker, "dtype", "")),
        "device": str(getattr(tracker, "device", "cpu")).split(":")[0],
        "dataset": dataset.name,
        "data": dataset.digest(),
        "protocol": chosen.name,
        "seed": seed,
    }
    seen = sorted(set(getattr(tracker, "seen", ())) & set(dataset))
    return facts | {"key": sha256(canonical(facts)), "seen": seen}


@dataclass
class Lane:
    """A run under way: the frame it has reached, its boxes so far, and its seconds and maps where they are kept."""

    run: Run
    sequence: Sequence
    frame: int
    boxes: list[np.ndarray]
    times: list[float] = field(default_factory=list)
    maps: dict[str, list[np.ndarray]] = field(default_factory=dict)


class Engine:
    """Steps L lanes until no run is left."""

    def __init__(self, tracker: Tracker, dataset: Dataset, store: RunSet, lanes: int, on_done: Callable):
        self.tracker, self.dataset, self.store, self.on_done = tracker, dataset, store, on_done
        self.lanes: list[Lane | None] = [None] * lanes
        self.state: State | None = None
        self.device = torch.device(getattr(tracker, "device", "cpu"))
        self.frames, self.done, self.total = 0, 0, 0

    @torch.inference_mode()
    def run(self, runs: Iterable[Run], total: int | None = None) -> None:
        """Longest first: short runs fill the lanes at the end."""
        waiting = sorted(runs, key=len)
        self.total = len(waiting) if total is None else total
        self.done = self.total - len(waiting)
        with Decoder(len(self.lanes)) as self.decoder:
            while waiting or any(self.lanes):
                for b in range(len(self.lanes)):
                    while waiting and self.lanes[b] is None:
                        self._start(b, waiting.pop())
                if any(self.lanes):
                    self._step()

    def _start(self, b: int, run: Run) -> None:
        """Start a run alone, then put it into its lane."""
        lane = Lane(run, self.dataset[run.sequence], run.first, [np.array(run.box)])
        try:
            box = torch.tensor([run.box], dtype=torch.float32, device=self.device)
            state = self.tracker.init(self._frames([lane], [0]), box)
        except Exception:
            self._fail(lane)
            return
        if self.state is None:
            self.state = state.take([0] * len(self.lanes))
        else:
            self.state.put([b], state)
        lane.frame += 1
        self.lanes[b] = lane
        if len(run) == 1:
            self._finish(b)

    def _step(self) -> None:
        """All lanes one frame on. A step that raises is replayed lane by lane: only those that raise again fail."""
        try:
            busy, lane_of = self._crew()
            self.decoder.ahead(busy)
            state, output, seconds = self._track(self.state, self._frames(busy, lane_of))
        except Exception:
            self._replay()
            return
        self.state = state
        self._record(output, seconds, {b: b for b, lane in enumerate(self.lanes) if lane})

    def _crew(self) -> tuple[list[Lane], list[int]]:
        """The busy lanes, and for each lane the place of its run among them; an idle lane looks at the first's."""
        busy = [b for b, lane in enumerate(self.lanes) if lane]
        place = {b: i for i, b in enumerate(busy)}
        return [self.lanes[b] for b in busy], [place.get(b, 0) for b in range(len(self.lanes))]

    def _replay(self) -> None:
        """Each lane's step again, in a batch of its own copies: the same shapes, so the same bits."""
        for b, lane in enumerate(self.lanes):
            if lane is None:
                continue
            copies = [b] * len(self.lanes)
            try:
                frames = self._frames([lane], [0] * len(self.lanes))
                state, output, seconds = self._track(self.state.take(copies), frames)
            except Exception:
                self._fail(lane)
                self.lanes[b] = None
                continue
            self.state.put([b], state.take([0]))
            self._record(output, seconds, {b: 0})

    def _track(self, state: State, frames: Frames) -> tuple[State, Output, float]:
        started = time.perf_counter()
        state, output = self.tracker.track(state, frames)
        boxes = output.boxes.double().cpu().numpy()  # waits for the device
        if boxes.shape != (len(self.lanes), 4):
            raise ValueError(
                f"{self.tracker.name}: track gave boxes of shape {boxes.shape}, want {(len(self.lanes), 4)}"
            )
        output.boxes = boxes
        return state, output, time.perf_counter() - started

    def _record(self, output: Output, seconds: float, rows: dict[int, int]) -> None:
        """Append row `rows[b]` of the output to lane b."""
        maps = {name: m.float().cpu().numpy() for name, m in output.maps.items()}
        if maps and output.regions is not None:
            maps["region"] = output.regions.cpu().numpy()
        for b, row in rows.items():
            lane = self.lanes[b]
            lane.boxes.append(output.boxes[row])
            lane.times.append(seconds)
            for name, values in maps.items():
                lane.maps.setdefault(name, []).append(values[row])
            lane.frame += 1
            self.frames += 1
            if lane.frame > lane.run.last:
                self._finish(b)

    def _finish(self, b: int) -> None:
        lane, self.lanes[b] = self.lanes[b], None
        times = np.array([np.nan, *lane.times]) if len(self.lanes) == 1 else None
        maps = {k: np.stack(v) for k, v in lane.maps.items()} if self.tracker.keep_maps else None
        if unknown := int(np.isnan(lane.boxes).any(1).sum()):
            warnings.warn(f"{self.tracker.name} on {lane.run.name}: {unknown} boxes are NaN", stacklevel=2)
        self.store.write(lane.run.name, np.stack(lane.boxes), times, maps)
        self._count(lane.run)

    def _fail(self, lane: Lane) -> None:
        self.store.fail(lane.run.name, f"frame {lane.frame}\n{traceback.format_exc()}")
        self._count(lane.run)

    def _count(self, run: Run) -> None:
        self.done += 1
        self.on_done(run, self.done, self.total)

    def _frames(self, lanes: list[Lane], lane_of: list[int]) -> Frames:
        """The distinct images these lanes look at, decoded and uploaded once each."""
        ids = [(lane.sequence.name, lane.frame) for lane in lanes]
        distinct = list(dict.fromkeys(ids))
        images = {}
        for lane, key in zip(lanes, ids, strict=True):
            if key not in images:
                images[key] = to_tensor(self.decoder.get(lane.sequence, lane.frame), self.device)
        return Frames([images[key] for key in distinct], [distinct.index(ids[i]) for i in lane_of], distinct)


class Decoder:
    """Frames decoded ahead in threads, at most `budget` bytes of them at a time."""

    def __init__(self, lanes: int, budget: int = 256 << 20, threads: int = min(4, os.cpu_count() or 1)):
        self.budget, self.depth = budget, 4
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self.pending: dict[tuple[str, int], Future] = {}
        self.held = 0  # bytes of one frame of the largest sequence seen

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, *_) -> None:
        self.pool.shutdown(cancel_futures=True)

    def ahead(self, lanes: list[Lane]) -> None:
        """Ask for the frames that these lanes need next, nearest first, and forget those that none will."""
        room = max(self.budget // self.held, len(lanes)) if self.held else len(lanes)
        wanted: dict[tuple[str, int], Sequence] = {}
        for step in range(self.depth + 1):
            for lane in lanes:
                if lane.frame + step <= lane.run.last and len(wanted) < room:
                    wanted[lane.sequence.name, lane.frame + step] = lane.sequence
        for key in self.pending.keys() - wanted.keys():
            self.pending.pop(key).cancel()
        for key, sequence in wanted.items():
            if key not in self.pending:
                self.pending[key] = self.pool.submit(sequence.frames.__getitem__, key[1])

    def get(self, sequence: Sequence, frame: int) -> np.ndarray:
        future = self.pending.get((sequence.name, frame))
        image = future.result() if future else sequence.frames[frame]
        self.held = max(self.held, image.nbytes)
        return image
