"""What looking at whole frames costs, as shares of the arithmetic that the processor can do: YOLO-small and ROLO's LSTM
at the paper's own sizes, and ROLO as shipped on one video and on four."""

import copy

import numpy as np
import torch
from torch import nn

from ..data import load_dataset
from ..nn.yolo import YOLO
from ..rolo import Memory
from ..trackers import load_tracker
from .speed import CONV_FLOPS, in_turns, peaks, track_videos

DETECT_FIGURES = {
    "yolo_share_of_peak": "GFLOP/s of YOLO-small at full size on a frame of 448 x 448, fp32, over the faster of "
    "torch.mm (2048) and a 256-to-256 3 x 3 channels-last convolution",
    "yolo_4_frames_vs_1": "frames per second of YOLO-small on four frames in a batch over one at a time (its fully "
    "connected layers are then read once for four)",
    "rolo_lstm_share_of_peak": "GFLOP/s of the 4102-wide LSTM on a window of six frames, one target, over that peak",
    "rolo_lstm_8_share_of_peak": "the same with the windows of eight targets in a batch",
    "rolo_lstm_vs_yolo": "time of the LSTM's six steps over that of YOLO-small's frame (paper: 20 over 60 frames per "
    "second, 0.33)",
    "rolo_4_lanes_vs_1": "frames per second of rolo as shipped with four lanes on four sequences over one lane",
    "rolo_vs_siamfc_3s": "time of a step of rolo as shipped (an eighth of the width) over one of siamfc-3s",
}


def bench_detect(device: str = "cpu", frames: int = 12, rounds: int = 5, width: float = 1.0) -> dict[str, float]:
    """Named ratios (see `DETECT_FIGURES`); each the median over `rounds` of timings taken in turns."""
    generator = torch.Generator().manual_seed(0)
    yolo = YOLO(width=width).initialise(generator).eval().to(device, memory_format=torch.channels_last)
    memory = Memory(yolo.size).initialise(generator).eval().to(device)
    four = 255 * torch.rand(4, 3, yolo.input, yolo.input, device=device).contiguous(memory_format=torch.channels_last)
    windows = torch.rand(8, 6, memory.regressor.lstm.input_size, device=device)
    rolo, siamfc = (load_tracker(name, device=device) for name in ("rolo", "siamfc-3s"))
    dataset = load_dataset("rendered")[:4]
    videos = [[s.frames[t] for t in range(frames)] for s in dataset.values()]
    boxes = [torch.tensor(s.boxes[0], dtype=torch.float32, device=device) for s in dataset.values()]
    work = peaks(device) | {
        "yolo": lambda: yolo(four[:1]),
        "yolo, 4": lambda: yolo(four),
        "lstm": lambda: memory(windows[:1]),
        "lstm, 8": lambda: memory(windows),
        "rolo": lambda: track_videos(rolo, videos[:1], boxes[:1]),
        "rolo, 4": lambda: track_videos(rolo, videos, boxes),
        "siamfc": lambda: track_videos(siamfc, videos[:1], boxes[:1]),
    }
    timed = in_turns(work, rounds, device)
    peak = np.maximum(2 * 2048**3 / timed["mm"], CONV_FLOPS / timed["conv"])
    lstm = 6 * 2 * sum(w.numel() for w in memory.regressor.weights)
    found = {
        "yolo_share_of_peak": detector_flops(yolo) / timed["yolo"] / peak,
        "yolo_4_frames_vs_1": 4 * timed["yolo"] / timed["yolo, 4"],
        "rolo_lstm_share_of_peak": lstm / timed["lstm"] / peak,
        "rolo_lstm_8_share_of_peak": 8 * lstm / timed["lstm, 8"] / peak,
        "rolo_lstm_vs_yolo": timed["lstm"] / timed["yolo"],
        "rolo_4_lanes_vs_1": 4 * timed["rolo"] / timed["rolo, 4"],
        "rolo_vs_siamfc_3s": timed["rolo"] / timed["siamfc"],
    }
    return {name: float(np.median(values)) for name, values in found.items()}


def detector_flops(net: YOLO) -> int:
    """Multiplications and additions of the detector's convolutions and fully connected layers on one frame."""
    counts: list[int] = []

    def count(layer: nn.Module, _, out: torch.Tensor) -> None:
        counts.append(2 * layer.weight.numel() * out[0, 0].numel())

    bare = copy.deepcopy(net.features).to("meta")
    for layer in (m for m in bare.modules() if isinstance(m, nn.Conv2d)):
        layer.register_forward_hook(count)
    bare(torch.zeros(1, 3, net.input, net.input, device="meta"))
    return sum(counts) + sum(2 * m.weight.numel() for m in (*net.head, net.last) if isinstance(m, nn.Linear))
