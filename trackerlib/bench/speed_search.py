"""What searching the whole frame costs: GSTP at the paper's size on one frame of 720 x 1280, as shares of the
arithmetic that the processor can do, and in memory; and GSTP as shipped beside SiamFC-3s."""

import multiprocessing
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..data import load_dataset
from ..gstp import GSTPConfig, GSTPTracker, MotionModel, SiamRCNN
from ..tracker import Frames
from ..trackers import load_tracker
from .speed import CONV_FLOPS, in_turns, peaks, track_videos

SEARCH_FIGURES = {
    "gstp_share_of_peak": "GFLOP/s of a whole GSTP step at full size on a frame of 720 x 1280, fp32, its convolutions "
    "and fully connected layers counted, over the faster of torch.mm (2048) and a 256-to-256 3 x 3 channels-last "
    "convolution",
    "gstp_trunk_share_of_peak": "of it: ResNet-50 to the fourth stage",
    "gstp_rois_share_of_peak": "of it: its last stage on 300 RoIs of 14 x 14",
    "gstp_motion_share_of_peak": "of it: HRNet-W32 on 13 channels of 384 x 288",
    "gstp_trunk_share_of_step": "time of ResNet-50 to the fourth stage over that of the step",
    "gstp_rois_share_of_step": "time of the RoIs' last stage over that of the step",
    "gstp_gflops": "multiplications and additions of that step, in 1e9",
    "gstp_mebibytes": "memory that the step takes at most, above both networks loaded (no ratio; on CUDA what torch "
    "allocates, on a CPU without Linux not known)",
    "gstp_full_vs_siamfc_3s": "time of that step over one of siamfc-3s",
    "gstp_vs_siamfc_3s": "time of a step of gstp as shipped (narrow; rendered frames of 240 x 160) over one of "
    "siamfc-3s",
    "siamrcnn_vs_siamfc_3s": "the same without the motion model",
    "gstp_4_lanes_vs_1": "frames per second of gstp as shipped with four lanes on four sequences over one lane",
    "gstp_4_targets_vs_1": "the same with four lanes on one sequence, whose maps they share",
}
FRAME = (720, 1280)


def bench_search(device: str = "cpu", frames: int = 12, rounds: int = 3, width: float = 1.0) -> dict[str, float]:
    """Named ratios (see `SEARCH_FIGURES`); each the median over `rounds` of timings taken in turns."""
    full, seen, box = _full_size(device, width)
    gstp, alone, siamfc = (load_tracker(name, device=device) for name in ("gstp", "siamrcnn", "siamfc-3s"))
    videos = [[s.frames[t] for t in range(frames)] for s in load_dataset("rendered")[:4].values()]
    boxes = [
        torch.tensor(s.boxes[0], dtype=torch.float32, device=device) for s in load_dataset("rendered")[:4].values()
    ]
    places, channels = torch.full((1, 10, 2), 100.0, device=device), full.siamese.fusion[0].in_channels
    image = torch.zeros(1, 3, *FRAME, device=device).contiguous(memory_format=torch.channels_last)
    small = torch.zeros(1, 3, *full.motion.size[::-1], device=device)
    cells = torch.rand(300, channels, 14, 14, device=device).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        state = full.init(seen, box)
    parts = {
        "step": (full, lambda: full.track(state, Frames(seen.images, seen.lane, [("noise", 1)]))),
        "trunk": (full, lambda: full.siamese.backbone.trunk(image)),
        "rois": (full, lambda: full.siamese.backbone.layer4(cells)),
        "motion": (full, lambda: full.motion(small, places)),
    }
    work = peaks(device) | {name: job for name, (_, job) in parts.items()}
    for name, tracker in {"gstp": gstp, "siamrcnn": alone, "siamfc": siamfc}.items():
        work[name] = lambda tracker=tracker: track_videos(tracker, videos[:1], boxes[:1])
    work["gstp, 4"] = lambda: track_videos(gstp, videos, boxes)
    work["gstp, shared"] = lambda: track_videos(gstp, videos[:1] * 4, boxes[:1] * 4)
    flops = {name: _flops(tracker, job) for name, (tracker, job) in parts.items()}
    timed = in_turns(work, rounds, device)
    peak = np.maximum(2 * 2048**3 / timed["mm"], CONV_FLOPS / timed["conv"])
    step = timed["siamfc"] / frames
    share = {name: flops[name] / timed[name] / peak for name in parts}
    found = {
        "gstp_share_of_peak": share["step"],
        "gstp_trunk_share_of_peak": share["trunk"],
        "gstp_rois_share_of_peak": share["rois"],
        "gstp_motion_share_of_peak": share["motion"],
        "gstp_trunk_share_of_step": timed["trunk"] / timed["step"],
        "gstp_rois_share_of_step": timed["rois"] / timed["step"],
        "gstp_gflops": flops["step"] / 1e9,
        "gstp_mebibytes": step_memory(device, width),
        "gstp_full_vs_siamfc_3s": timed["step"] / step,
        "gstp_vs_siamfc_3s": timed["gstp"] / timed["siamfc"],
        "siamrcnn_vs_siamfc_3s": timed["siamrcnn"] / timed["siamfc"],
        "gstp_4_lanes_vs_1": 4 * timed["gstp"] / timed["gstp, 4"],
        "gstp_4_targets_vs_1": 4 * timed["gstp"] / timed["gstp, shared"],
    }
    return {name: float(np.median(values)) for name, values in found.items()}


def _full_size(device: str, width: float) -> tuple[GSTPTracker, Frames, Tensor]:
    """The tracker, a frame, and a target so large that the frame is read as it is."""
    generator = torch.Generator().manual_seed(0)
    siamese = SiamRCNN(width).initialise(generator)
    motion = MotionModel(width=width).initialise(generator)
    tracker = GSTPTracker(siamese, motion, GSTPConfig(), device=device)
    image = torch.randint(0, 256, (3, *FRAME), generator=generator, dtype=torch.uint8).to(device)
    box = torch.tensor([[500.0, 300, 128, 128]], device=device)
    return tracker, Frames([image], [0], [("noise", 0)]), box


@torch.inference_mode()
def _flops(tracker: GSTPTracker, job) -> int:
    """Multiplications and additions of the convolutions and fully connected layers that a job runs."""
    counts: list[int] = []

    def count(layer: nn.Module, _, out: Tensor) -> None:
        counts.append(2 * out.numel() * layer.weight[0].numel())

    layers = [m for net in (tracker.siamese, tracker.motion) for m in net.modules()]
    hooks = [m.register_forward_hook(count) for m in layers if isinstance(m, nn.Conv2d | nn.Linear)]
    job()
    for hook in hooks:
        hook.remove()
    return sum(counts)


def step_memory(device: str, width: float = 1.0) -> float:
    """MiB that one step takes above both networks loaded; on a CPU in a process of its own, whose peak is counted."""
    if device == "cpu":
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return pool.apply(_peak, (width,))
    tracker, seen, box = _full_size(device, width)
    with torch.inference_mode():
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        tracker.track(tracker.init(seen, box), seen)
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def _peak(width: float) -> float:
    tracker, seen, box = _full_size("cpu", width)
    try:
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak of loading (Linux)
    except OSError:
        return float("nan")
    before = _status("VmRSS")
    with torch.inference_mode():
        tracker.track(tracker.init(seen, box), seen)
    return (_status("VmHWM") - before) / 1024


def _status(name: str) -> int:
    """A line of what the kernel knows of this process, in kibibytes."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[name].split()[0])
