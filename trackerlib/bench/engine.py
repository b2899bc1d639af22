"""The lane engine: many runs in one batch.

L lanes step together through one batched tracker. A lane that finishes is refilled while the others go on, by a run on
a video that is being watched if there is one, so that its frames are decoded once. The batch always has L lanes (idle
ones repeat), and every run starts alone, so the bytes of a result do not depend on what ran beside it."""

from __future__ import annotations

import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, astuple, dataclass, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data.formats import FAILURE, INIT, REGION, UNKNOWN, Trajectory
from ..data.sequence import Dataset, FrameSource, NoFrames, Sequence
from ..provenance import canonical, class_digest, code_digest, environment, sha256, write_json
from ..tracker import Frames, Output, State, Tracker
from .decoder import Decoder
from .features import FeatureCache
from .lanes import fewest_lanes, measured_lanes
from .protocols import Go, Protocol, Restart, Run, first_box, protocol
from .results import RunSet

try:
    import resource
except ImportError:  # Windows: the peak of memory is not reported
    resource = None


def evaluate(
    tracker: Tracker,
    dataset: Dataset,
    protocols: str | Protocol | Iterable[str | Protocol] = "OPE",
    results: str | Path = "results/evaluate",
    lanes: int | str = 1,
    keep_maps: bool = False,
    seed: int = 0,
    on_done: Callable[[Run, int, int], None] = lambda run, done, of: None,
    cache: str | Path | None = None,
    engine: Callable[..., Any] | None = None,
) -> RunSet | list[RunSet]:
    """Run protocols over a dataset; what is stored already is not done again.

    protocols: a name or an object of `bench.protocols`, or several: their runs then share lanes and decoded frames
    lanes:     targets tracked in one batch; "auto" takes the fewest that are as fast as any (`measured_lanes`). One
               lane also stores each frame's seconds (decoding excluded); with more, times are not a frame's own: NaN
               is stored; throughput and peak memory are written to `speed.json` beside the manifest
    on_done(run, done, of): called after each finished run.
    cache:     a folder where what trackers make of whole frames is kept (`bench.features`); by default in memory
               alone, and not at all with one lane, whose times are to be a frame's own
    engine:    what does the runs, made as `Engine` is and with its `run`, `written` and `speed`: by default this
               process; `cluster.evaluate` hands them to others
    Returns the stored results, a list where several protocols were given. Runs that raise are recorded under `errors/`
    while the others go on; a warning (`FailedRuns`) and `RunSet.failures()` tell. Processes that share a results folder
    share the work. torch is seeded anew at each start, from `seed` and the run's name: a tracker that draws by chance
    repeats its results with one lane."""
    one = isinstance(protocols, str) or not isinstance(protocols, Iterable)
    chosen = [protocol(p) if isinstance(p, str) else p for p in ([protocols] if one else protocols)]
    if not (lanes == "auto" or (isinstance(lanes, int) and lanes >= 1)):
        raise ValueError(f"lanes={lanes!r}: at least one target must be tracked (or 'auto')")
    if getattr(tracker, "sees_ground_truth", False):
        raise ValueError(f"{tracker.name} sees the ground truth: it is no tracker, and is not evaluated as one")
    if not len(dataset):
        raise ValueError(f"{dataset.name}: no sequences to evaluate on")
    if bare := next((s for s in dataset.values() if isinstance(s.frames, NoFrames)), None):
        bare.frames[0]  # which says that there are none
    jobs = [(p, list(p.runs(dataset))) for p in chosen]
    tracker.keep_maps = keep_maps
    recorded = {"environment": environment()}
    if lanes == "auto":
        recorded["lanes_measured"] = measured_lanes(tracker, dataset, sum(len(runs) for _, runs in jobs))
        lanes = fewest_lanes(recorded["lanes_measured"])
    recorded["lanes"] = lanes
    digests = {name: sequence.digest() for name, sequence in dataset.items()}  # before the key is made of them
    stores = [RunSet.open(results, manifest(tracker, dataset, p, seed) | recorded) for p in chosen]
    works = (engine or Engine)(tracker, dataset, lanes, on_done, seed=seed, cache=cache, digests=digests)
    started = time.perf_counter()
    with ExitStack() as stack:
        for store in stores:
            stack.enter_context(store.working())
        works.run([Job(p, store, run) for (p, runs), store in zip(jobs, stores, strict=True) for run in runs])
        works.run([Job(p, s, run) for p, s in zip(chosen, stores, strict=True) for run in p.more(dataset, _read(s))])
    for store in (store for store in stores if store.folder in works.written):
        write_json(store.folder / "speed.json", recorded | works.speed(time.perf_counter() - started))
    for store in stores:
        if lost := store.failures():
            (run, text), *_ = lost.items()
            what = f"{len(lost)} runs failed; {run}: {text.strip().splitlines()[-1]}"
            warnings.warn(f"{store.folder}: {what}; see errors/ there", FailedRuns, stacklevel=2)
    return stores[0] if one else stores


class FailedRuns(UserWarning):
    """Some runs have no result; `RunSet.failures()` holds their tracebacks."""


def _read(store: RunSet) -> Callable[[str], Trajectory | None]:
    return lambda run: store.trajectory(run) if store.has(run) else None


def manifest(tracker: Tracker, dataset: Dataset, chosen: Protocol, seed: int) -> dict[str, Any]:
    """What determines the outcome, hashed into `key`. Lanes, threads, host and versions are recorded, not keyed."""
    runs = [astuple(run) for run in chosen.runs(dataset)]
    truth = [np.ascontiguousarray(s.regions).tobytes() + str(s.size).encode() for s in dataset.values()]
    facts = tracker_facts(tracker) | {
        "code": [class_digest(type(tracker)), class_digest(type(chosen)), code_digest([__name__])],
        "dataset": dataset.name,
        "data": [dataset.digest(), sha256(canonical(runs), *truth)],
        "protocol": chosen.name,
        "protocol_parameters": asdict(chosen) if is_dataclass(chosen) else {},
        "layout": chosen.layout or dataset.layout,
        "seed": seed,
    }
    seen = sorted(set(getattr(tracker, "seen", ())) & set(dataset))
    return facts | {"key": sha256(canonical(facts)), "seen": seen}


def tracker_facts(tracker: Tracker) -> dict[str, Any]:
    """What of a tracker, beside its code, determines the outcome."""
    config = getattr(tracker, "config", None)
    if config is None:  # a user's own: what it holds that is plain
        config = {k: v for k, v in vars(tracker).items() if isinstance(v, _PLAIN) and k != "keep_maps"}
    return {
        "tracker": tracker.name,
        "class": f"{type(tracker).__module__}:{type(tracker).__qualname__}",
        "config": asdict(config) if is_dataclass(config) else config,
        "weights": getattr(tracker, "weights_sha", None),
        "dtype": str(getattr(tracker, "dtype", "")),
        "device": str(getattr(tracker, "device", "cpu")).split(":")[0],
    }


_PLAIN = (bool, int, float, str, bytes, list, tuple, dict, np.ndarray, torch.Tensor)


@dataclass(frozen=True)
class Job:
    """A run, the protocol that asked for it and the store that takes it."""

    protocol: Protocol
    store: RunSet
    run: Run


class Lane:
    """A run under way: the frame it has reached, its boxes and codes so far, and its seconds and maps where kept."""

    def __init__(self, job: Job, sequence: Sequence, video: str):
        self.job, self.sequence, self.video, self.frame = job, sequence, video, job.run.first
        self.boxes, self.times = np.full((len(job.run), 4), np.nan), np.full(len(job.run), np.nan)
        self.codes = np.full(len(job.run), UNKNOWN, np.int8)
        self.maps: dict[str, list[np.ndarray]] = {}

    @property
    def row(self) -> int:
        return self.frame - self.job.run.first


class Engine:
    """Steps L lanes until no run is left."""

    def __init__(
        self,
        tracker: Tracker,
        dataset: Dataset,
        lanes: int,
        on_done: Callable,
        budget: int = 1 << 30,
        seed: int = 0,
        cache: str | Path | None = None,
        digests: Mapping[str, str] | None = None,
    ):
        """budget: bytes of decoded images kept; digests: of the sequences, as they must still be when a run ends."""
        self.tracker, self.dataset, self.on_done, self.budget, self.seed = tracker, dataset, on_done, budget, seed
        self.lanes: list[Lane | None] = [None] * lanes
        self.state: State | None = None
        self.device, self.digests = torch.device(getattr(tracker, "device", "cpu")), digests or {}
        self.videos = _videos(dataset)
        self.features = FeatureCache.of(dataset, self.videos, cache) if lanes > 1 else None
        self.frames = self.done = self.total = self.decoded = 0
        self.written: set[Path] = set()  # folders that got results
        self.spent: set[int] = set()  # idle lanes whose state is still the last run's

    @torch.inference_mode()
    def run(self, jobs: list[Job]) -> None:
        """Do what is not stored. Runs that another process is at come last: when it is done, or has died."""
        keep = self.tracker.keep_maps
        waiting = Waiting([j for j in jobs if not j.store.has(j.run.name, len(j.run), keep)], self.videos)
        self.total, self.done = self.total + len(jobs), self.done + len(jobs) - len(waiting)
        sources = {self.videos[name]: sequence.frames for name, sequence in self.dataset.items()}
        elsewhere: list[Job] = []
        with Decoder(sources, self.device, self.budget) as self.decoder:
            for job in waiting:
                self.decoder.expect(self.videos[job.run.sequence], job.run.first, job.run.last)
            while waiting or elsewhere or any(self.lanes):
                for b in range(len(self.lanes)):
                    while waiting and self.lanes[b] is None:
                        self._take_up(b, waiting.next({lane.video for lane in self.lanes if lane}), elsewhere)
                if any(self.lanes):
                    self._step(waiting)
                elif elsewhere:
                    time.sleep(0.2)
                    waiting, elsewhere = Waiting(elsewhere, self.videos), []
        self.decoded += self.decoder.decoded

    def speed(self, seconds: float) -> dict[str, Any]:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss if resource else None
        unit = 1 << 20 if sys.platform == "darwin" else 1 << 10  # macOS counts bytes, Linux KiB
        return {
            "frames": self.frames,
            "frames_per_second": round(self.frames / seconds, 2),
            "images_decoded": self.decoded,
            "peak_memory_MiB": peak and peak // unit,
        }

    def _take_up(self, b: int, job: Job, elsewhere: list[Job]) -> None:
        """Start a run in lane b, unless another process is at it or has done it."""
        run, store = job.run, job.store
        if not store.claim(run.name):
            elsewhere.append(job)
        elif store.has(run.name, len(run), self.tracker.keep_maps):
            self.decoder.passed(self.videos[run.sequence], run.first, run.last)
            self._end(job)
        else:
            self._start(b, Lane(job, self.dataset[run.sequence], self.videos[run.sequence]), run.box)

    def _start(self, b: int, lane: Lane, box: tuple[float, ...]) -> None:
        """Start the tracker at the lane's frame, alone; then put it into the batch."""
        self.lanes[b] = lane
        try:
            boxes = torch.tensor([box], dtype=torch.float32, device=self.device)
            torch.manual_seed(int(sha256(str(self.seed), lane.job.run.name, str(lane.frame))[:15], 16))
            frames, started = self._frames([lane], [0]), time.perf_counter()
            if lane.frame == 0:
                first_box(lane.sequence.name, np.array(box), frames.images[0].shape[:0:-1])
            state = self.tracker.init(frames, boxes)
            if self.device.type == "cuda":
                torch.cuda.synchronize()
            lane.times[lane.row] = time.perf_counter() - started
            if self.state is None:
                self.state = state.take([0] * len(self.lanes))
            else:
                self.state.put([b], state)
        except Exception:
            self._fail(b)
            return
        self.spent.discard(b)
        lane.boxes[lane.row], lane.codes[lane.row] = box, INIT
        self._advance(b, lane.frame + 1)

    def _step(self, waiting: Waiting) -> None:
        """All lanes one frame on. A step that raises is replayed lane by lane: only those that raise again fail."""
        busy = [lane for lane in self.lanes if lane]
        self.decoder.ahead(_wanted(busy, waiting))
        place = {id(lane): i for i, lane in enumerate(busy)}
        try:
            if self.spent:  # an idle lane goes along as a copy of a busy one: what ended it could raise for ever
                first = self.state.take([next(b for b, lane in enumerate(self.lanes) if lane)] * len(self.spent))
                self.state.put(sorted(self.spent), first)
                self.spent.clear()
            frames = self._frames(busy, [place.get(id(lane), 0) for lane in self.lanes])  # idle lanes see the first's
            state, output, seconds = self._track(self.state, frames)
        except Exception:
            self._replay()
            return
        self.state = state
        self._record(output, seconds, {b: b for b, lane in enumerate(self.lanes) if lane})

    def _replay(self) -> None:
        """Each lane's step again, in a batch of its own copies: the same shapes, so the same bits."""
        for b in [b for b, lane in enumerate(self.lanes) if lane]:
            try:
                frames = self._frames([self.lanes[b]], [0] * len(self.lanes))
                state, output, seconds = self._track(self.state.take([b] * len(self.lanes)), frames)
            except Exception:
                self._fail(b)
                continue
            self.state.put([b], state.take([0]))
            self._record(output, seconds, {b: 0})

    def _track(self, state: State, frames: Frames) -> tuple[State, Output, float]:
        started = time.perf_counter()
        state, output = self.tracker.track(state, frames)
        boxes = output.boxes.double().cpu().numpy()  # waits for the device
        if boxes.shape != (want := (len(self.lanes), 4)):
            raise ValueError(f"{self.tracker.name}: track gave boxes of shape {boxes.shape}, want {want}")
        output.boxes = boxes
        return state, output, time.perf_counter() - started

    def _record(self, output: Output, seconds: float, rows: dict[int, int]) -> None:
        """Row `rows[b]` of the output is lane b's; its protocol says how it goes on."""
        maps = {name: m.float().cpu().numpy() for name, m in output.maps.items()}
        if maps and output.regions is not None:
            maps["region"] = output.regions.cpu().numpy()
        for b, row in rows.items():
            lane, box = self.lanes[b], output.boxes[row]
            lane.boxes[lane.row], lane.codes[lane.row], lane.times[lane.row] = box, REGION, seconds
            self.frames += 1
            try:
                for name, values in maps.items():
                    lane.maps.setdefault(name, []).append(values[row])
                after = lane.job.protocol.after(lane.sequence, lane.job.run, lane.frame, box)
            except Exception:
                self._fail(b)
                continue
            if not isinstance(after, Restart):
                self._advance(b, lane.frame + 1 if after is Go.ON else lane.job.run.last + 1)
                continue
            lane.boxes[lane.row], lane.codes[lane.row] = np.nan, FAILURE
            self._advance(b, after.frame)
            if self.lanes[b]:
                self._start(b, lane, after.box)

    def _advance(self, b: int, frame: int) -> None:
        """Lane b goes on at a frame; past its last it is stored and the lane is free."""
        lane, run = self.lanes[b], self.lanes[b].job.run
        self.decoder.passed(lane.video, lane.frame, min(frame - 1, run.last))
        lane.frame = frame
        if frame <= run.last:
            return
        try:
            self._check_unchanged(lane.sequence)
        except (ValueError, OSError):
            self._fail(b)
            return
        self.lanes[b] = None
        self.spent.add(b)
        maps = {k: np.stack(v) for k, v in lane.maps.items()} if self.tracker.keep_maps else None
        if unknown := int((np.isnan(lane.boxes).any(1) & (lane.codes == REGION)).sum()):
            warnings.warn(f"{self.tracker.name} on {run.name}: {unknown} boxes are NaN", stacklevel=2)
        times = lane.times if len(self.lanes) == 1 else np.full(len(lane.times), np.nan)
        lane.job.store.write(run.name, lane.boxes, times, maps, lane.codes)
        self.written.add(lane.job.store.folder)
        self._end(lane.job)

    def _check_unchanged(self, sequence: Sequence) -> None:
        """The key names the frames as they were at the start: of others there is no result under it."""
        if self.digests.get(sequence.name, now := sequence.digest()) != now:
            raise ValueError(f"{sequence.name}: its files changed while it was tracked; run again")

    def _fail(self, b: int) -> None:
        lane, self.lanes[b] = self.lanes[b], None
        if self.state is not None:
            self.spent.add(b)
        self.decoder.passed(lane.video, lane.frame, lane.job.run.last)
        lane.job.store.fail(lane.job.run.name, f"frame {lane.frame}\n{traceback.format_exc()}")
        self._end(lane.job)

    def _end(self, job: Job) -> None:
        job.store.release(job.run.name)
        self.done += 1
        self.on_done(job.run, self.done, self.total)

    def _frames(self, lanes: list[Lane], lane_of: list[int]) -> Frames:
        """The distinct images these lanes look at, decoded and uploaded once each."""
        keys = [(lane.video, lane.frame) for lane in lanes]
        distinct = list(dict.fromkeys(keys))
        images = [self.decoder.get(key) for key in distinct]
        return Frames(images, [distinct.index(keys[i]) for i in lane_of], distinct, self.features)


def _videos(dataset: Dataset) -> dict[str, str]:
    """The video that each sequence is of, called by the first sequence that shows it: two targets may share one."""
    first: dict[Any, str] = {}
    return {name: first.setdefault(_identity(sequence.frames), name) for name, sequence in dataset.items()}


def _identity(frames: FrameSource) -> Any:
    try:
        hash(frames)
    except TypeError:
        return id(frames)
    return frames


def _wanted(busy: list[Lane], waiting: Waiting, depth: int = 4) -> Iterable[tuple[str, int]]:
    """The images needed next: those of this step, those of the next ones, and the first of the run that waits."""
    for step in range(depth + 1):
        yield from ((lane.video, lane.frame + step) for lane in busy if lane.frame + step <= lane.job.run.last)
        if step == 1 and waiting and (job := waiting.peek({lane.video for lane in busy})):
            yield waiting.videos[job.run.sequence], job.run.first


class Waiting:
    """Runs that wait for a lane, by video; the longest first, so that short ones fill the lanes at the end."""

    def __init__(self, jobs: list[Job], videos: dict[str, str]):
        self.videos = videos
        self.by_video: dict[str, list[Job]] = {}
        self.frames: Counter[str] = Counter()  # left to do, by video
        self.count = len(jobs)
        for job in sorted(jobs, key=lambda j: len(j.run)):
            video = videos[job.run.sequence]
            self.by_video.setdefault(video, []).append(job)
            self.frames[video] += len(job.run)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Job]:
        return (job for jobs in self.by_video.values() for job in jobs)

    def peek(self, watched: set[str]) -> Job:
        """The run to take up next: on a video that is being watched if there is one, else on that with most to do."""
        near = [video for video in watched if video in self.by_video] or self.by_video
        return self.by_video[max(near, key=self.frames.__getitem__)][-1]

    def next(self, watched: set[str]) -> Job:
        job = self.peek(watched)
        video = self.videos[job.run.sequence]
        self.by_video[video].pop()
        self.frames[video] -= len(job.run)
        self.count -= 1
        if not self.by_video[video]:
            del self.by_video[video]
        return job
