"""What a planning page needs beside the ratios of `bench`: absolute rates of one core of this machine, for what a GPU
does not do in training and tracking (`planning`)."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from . import dsiam, gstp, rolo, siamfc
from .bench.speed import in_turns, track_videos
from .bench.speed_engine import jpeg_dataset
from .bench.speed_training import Ready
from .data import Dataset
from .data.clips import ClipSampler
from .data.pairs import FramePairs, Trajectories
from .data.sequence import Sequence
from .trackers import load_tracker
from .training.loop import FitConfig, fit

STEPS = (
    "siamfc",
    "siamfc-3s",
    "dsiam",
    "dsiamm",
    "siamemory",
    "goturn",
    "kcf",
    "rolo",
    "gstp",
    "siamrcnn",
)
LEARNED = ("pair", "window", "clip", "siamrcnn", "motion")
PLANNING_FIGURES = {
    "frames_per_second_decoded": "JPEG frames of 1280 x 720 decoded a second, one process",
    "clips_per_second": "clips of ten frames of 1280 x 720 decoded and cut a second for DSiam, one process",
    "frame_pairs_per_second": "pairs of frames of 1280 x 720 decoded, scaled to 1344 x 800 and augmented a second, for "
    "GSTP, one process",
    "trajectories_per_second": "frames of 1280 x 720 decoded, scaled to 384 x 288 and augmented a second, for GSTP",
}
PLANNING_FIGURES |= {
    f"host_ms_{name.replace('-', '_')}": f"milliseconds of a step of {name} as shipped, a target, outside convolutions "
    "and fully connected layers; four targets on frames of 1280 x 720 that are decoded already; one thread"
    for name in STEPS
}
PLANNING_FIGURES |= {
    f"host_ms_training_{name}": f"milliseconds of a training step on one sample ({name}) by a network so narrow that "
    "arithmetic hardly counts: what Python and the library take; one thread"
    for name in LEARNED
}


def bench_planning(frames: int = 12, rounds: int = 3, steps: int = 6) -> dict[str, float]:
    """The figures above, each the best of `rounds`: whatever else a machine does can only slow it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            dataset = jpeg_dataset(Path(folder), frames)[:4]
            found = _reading(dataset, frames, rounds) | _tracking(dataset, min(frames, 6), rounds)
            return found | _training(dataset, Path(folder), steps, rounds)
    finally:
        torch.set_num_threads(threads)


def _reading(dataset: Dataset, frames: int, rounds: int) -> dict[str, float]:
    """Samples a second of what is read straight from videos."""
    first: Sequence = dataset[0]
    clips, pairs, paths = ClipSampler(dataset), FramePairs(dataset, (1344, 800)), Trajectories(dataset)
    counts = {"frames_per_second_decoded": frames, "clips_per_second": 2}
    counts |= {"frame_pairs_per_second": 4, "trajectories_per_second": 8}
    work = {
        "frames_per_second_decoded": lambda: [first.frames[t] for t in range(frames)],
        "clips_per_second": lambda: [clips[k] for k in range(2)],
        "frame_pairs_per_second": lambda: [pairs[k] for k in range(4)],
        "trajectories_per_second": lambda: [paths[k] for k in range(8)],
    }
    return {name: counts[name] / float(took.min()) for name, took in in_turns(work, rounds, "cpu").items()}


def _tracking(dataset: Dataset, frames: int, rounds: int) -> dict[str, float]:
    """Milliseconds of each tracker's step outside of what `planning` counts as arithmetic."""
    videos = [[s.frames[t] for t in range(frames)] for s in dataset.values()]
    boxes = [torch.tensor(s.boxes[0], dtype=torch.float32) for s in dataset.values()]
    found = {}
    for name in STEPS:
        tracker = load_tracker(name)
        with torch.inference_mode():
            seconds = [_outside(lambda t=tracker: track_videos(t, videos, boxes)) for _ in range(rounds + 1)]
        found[f"host_ms_{name.replace('-', '_')}"] = 1e3 * min(seconds[1:]) / (frames * len(videos))
    return found


def _outside(job: Callable[[], Any]) -> float:
    """Seconds of a job less those inside convolutions, fully connected layers and LSTMs."""
    counted, inside, begun = (nn.Conv2d, nn.Linear, nn.LSTM), 0.0, 0.0

    def enter(layer: nn.Module, _: Any) -> None:
        nonlocal begun
        if isinstance(layer, counted):
            begun = time.perf_counter()

    def leave(layer: nn.Module, _: Any, __: Any) -> None:
        nonlocal inside
        if isinstance(layer, counted):
            inside += time.perf_counter() - begun

    hooks = [register_module_forward_pre_hook(enter), register_module_forward_hook(leave)]
    try:
        started = time.perf_counter()
        job()
        return time.perf_counter() - started - inside
    finally:
        for hook in hooks:
            hook.remove()


def _training(dataset: Dataset, folder: Path, steps: int, rounds: int) -> dict[str, float]:
    """Milliseconds of training steps of narrow networks, one sample each."""
    pixels = lambda side: np.zeros((side, side, 3), np.uint8)  # noqa: E731
    window = {"features": np.zeros((6, 64), np.float32), "boxes": np.full((6, 4), 0.5, np.float32)}
    window |= {"found": np.ones(6, np.float32), "truth": np.full(4, 0.5, np.float32), "blind": False}
    narrow = siamfc.SiamFC(1 / 16).initialise(torch.Generator().manual_seed(0))
    told = lambda net, batch: gstp.siamrcnn_loss(net, batch, 1.0, 256, 128, 300)  # noqa: E731
    learned = {
        "pair": (siamfc.SiamFC(1 / 16), siamfc.pair_loss, [{"z": pixels(127), "x": pixels(239)}]),
        "window": (rolo.Memory(64), rolo.memory_loss, [window]),
        "clip": (dsiam.DSiam(narrow, ("conv5",)), dsiam.clip_loss, ClipSampler(dataset)),
        "siamrcnn": (gstp.SiamRCNN(1 / 16), told, FramePairs(dataset, (192, 128), (32, 64), (96, 96))),
        "motion": (gstp.MotionModel(10, (96, 64), 32, 1 / 16), gstp.motion_loss, Trajectories(dataset, 10, (96, 64))),
    }
    found = {}
    for name, (net, loss, samples) in learned.items():
        if name != "clip":
            net.initialise(torch.Generator().manual_seed(0))
        ready, config = Ready(samples, 1), FitConfig(rounds + 1, steps, 1, 1e-6, 1e-6)
        log = fit(net, loss, ready, config, folder / name, name, "cpu")  # the first epoch is to warm up
        found[f"host_ms_training_{name}"] = 1e3 / float(log["samples_per_second"].iloc[1:].max())
    return found
