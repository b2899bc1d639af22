"""The lane engine against one run at a time: OPE, TRE and SRE of eight sequences, JPEG files of 1280 x 720 on disk,
the size of UAV123's."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import torch

from ..data import Dataset, load_dataset
from ..data.sequence import ImageFiles, Sequence
from ..siamfc import SiamFC, SiamFCTracker
from ..tracker import OneTarget
from .engine import Engine, Job, manifest
from .lanes import measured_lanes
from .protocols import OPE, SRE, TRE, Protocol, Run
from .results import RunSet

ENGINE_FIGURES = {
    "engine_vs_one_run_at_a_time": "frames per second of OPE, TRE and SRE together, eight lanes, over the same runs "
    "one after the other (frame read, tracker updated), siamfc-3s at full width",
    "engine_network_share": "time inside the network over the engine's wall time, full width",
    "engine_decodings_per_frame": "images decoded over different images looked at",
    "engine_quarter_vs_one_run_at_a_time": "as the first, at quarter width",
}
_PROTOCOLS: tuple[Protocol, ...] = (OPE(), TRE(segments=5, shortest=5), SRE())


def bench_engine(device: str = "cpu", frames: int = 16, lanes: int = 8, every: int = 6) -> dict[str, float]:
    """The figures above. One run of `every` is done by the plain loop too, as the engine goes along: whatever else the
    machine does slows both."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        dataset = jpeg_dataset(Path(folder), frames)
        for width, prefix in ((1.0, "engine"), (0.25, "engine_quarter")):
            net = SiamFC(width).initialise(torch.Generator().manual_seed(0)).eval()
            tracker = SiamFCTracker(net, device=device)
            plain = PlainLoop(tracker, dataset, every)
            plain.track(next(OPE().runs(dataset)))  # warm
            stores = {p.name: RunSet.open(Path(folder) / prefix, manifest(tracker, dataset, p, 0)) for p in _PROTOCOLS}
            jobs = [Job(p, stores[p.name], run) for p in _PROTOCOLS for run in p.runs(dataset)]
            engine = Engine(tracker, dataset, lanes, plain)
            with _network_spans(tracker) as spans:
                started = time.perf_counter()
                engine.run(jobs)
                seconds = time.perf_counter() - started - plain.seconds
            found[f"{prefix}_vs_one_run_at_a_time"] = engine.frames / seconds / (plain.frames / plain.seconds)
            if width == 1.0:
                found["engine_network_share"] = (_covered(spans) - plain.inside(spans)) / seconds
                found["engine_decodings_per_frame"] = engine.decoded / sum(map(len, dataset.values()))
            if device != "cpu":
                curve = measured_lanes(tracker, dataset, 4096)
                found |= {f"{prefix}_frames_per_second_at_{n}_lanes": rate for n, rate in curve.items()}
    return found


def jpeg_dataset(folder: Path, frames: int, size: tuple[int, int] = (1280, 720)) -> Dataset:
    """Eight rendered sequences, enlarged and written as JPEG files."""
    sequences = []
    for s in load_dataset("rendered")[:8].values():
        (folder / s.name).mkdir()
        paths = tuple(folder / s.name / f"{t:04d}.jpg" for t in range(frames))
        for t, path in enumerate(paths):
            cv2.imwrite(str(path), cv2.resize(s.frames[t][..., ::-1], size))
        height, width = s.frames[0].shape[:2]
        scale = np.array(size * 2) / (width, height, width, height)
        sequences.append(Sequence(s.name, ImageFiles(paths), s.boxes[:frames] * scale))
    return Dataset("jpeg", sequences)


class PlainLoop:
    """The loop that every toolkit has, on one of `every` runs that it is told of."""

    def __init__(self, tracker: SiamFCTracker, dataset: Dataset, every: int):
        self.one, self.dataset, self.every = OneTarget(tracker), dataset, every
        self.frames, self.seconds, self.spans = 0, 0.0, []

    def __call__(self, run: Run, done: int, of: int) -> None:
        if done % self.every:
            return
        started = time.perf_counter()
        self.track(run)
        self.spans.append((started, time.perf_counter()))
        self.seconds += self.spans[-1][1] - started
        self.frames += len(run) - 1

    def track(self, run: Run) -> None:
        frames = self.dataset[run.sequence].frames
        self.one.init(frames[run.first], run.box)
        for frame in range(run.first + 1, run.last + 1):
            self.one.update(frames[frame])

    def inside(self, network: list[tuple[float, float]]) -> float:
        """Seconds of the network's calls that were this loop's."""
        return _covered([call for call in network if any(a <= call[0] < b for a, b in self.spans)])


@contextmanager
def _network_spans(tracker: SiamFCTracker) -> Iterator[list[tuple[float, float]]]:
    """Start and end of each call of the tracker's network."""
    spans, embed = [], tracker.net.embed

    def timed(x):
        started = time.perf_counter()
        y = embed(x)
        if x.is_cuda:
            torch.cuda.synchronize()
        spans.append((started, time.perf_counter()))
        return y

    tracker.net.embed = timed
    try:
        yield spans
    finally:
        del tracker.net.embed


def _covered(spans: list[tuple[float, float]]) -> float:
    """Seconds during which at least one call was under way: cores work on lanes of their own."""
    total, until = 0.0, 0.0
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total
