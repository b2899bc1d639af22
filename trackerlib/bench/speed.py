"""How fast, as ratios: every figure stands beside what it is a ratio of, measured in the same process.

This machine's seconds mean little elsewhere, and little here a minute later; two things timed in turns compare."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..boxes import context_side
from ..data import load_dataset
from ..images import context_crops, to_tensor
from ..provenance import write_json
from ..siamfc import EXEMPLAR, SEARCH, SIAMFC_3S, SiamFC, SiamFCTracker
from ..tracker import Frames

Part = tuple[Callable[[], Mapping[str, float | str]], Mapping[str, str]]

FIGURES = {
    "siamfc_3s_fp32_vs_plain_loop": "frames per second of siamfc-3s in fp32 (batch norm folded, channels-last, one "
    "sampling call a frame) over a plain loop (eager fp32, torch's default layout, three padded cv2 crops)",
    "siamfc_3s_bf16_vs_plain_loop": "the same in bfloat16 over the same plain loop in fp32",
    "siamfc_3s_fp32_vs_strided_loop": "the same in fp32 over that loop when it forgets .contiguous() after permute, as "
    "common code does: its convolutions then run channels-last by accident",
    "network_share_of_peak": "GFLOP/s of the folded fp32 network on 3 x 255 x 255 over the faster of torch.mm (2048) "
    "and a 256-to-256 3 x 3 channels-last convolution",
    "network_share_of_step": "time in the network over the time of a whole tracking step, fp32, one lane",
    "lanes_4_vs_1": "frames per second of four lanes on four sequences over one lane, fp32",
    "crops_vs_cv2": "time of three cv2 crops that pad the frame over one batched sampling call",
}


def bench(device: str = "cpu", frames: int = 24, rounds: int = 3) -> dict[str, float]:
    """Named ratios (see `FIGURES`); each the median over `rounds` of timings taken in turns."""
    net = SiamFC().initialise(torch.Generator().manual_seed(0)).eval()
    fast, half = (SiamFCTracker(net, device=device, dtype=t) for t in (torch.float32, torch.bfloat16))
    dataset = load_dataset("rendered")[:4]
    videos = [[s.frames[t] for t in range(frames)] for s in dataset.values()]
    boxes = [torch.tensor(s.boxes[0], dtype=torch.float32, device=device) for s in dataset.values()]
    x = torch.rand(3, 3, SEARCH, SEARCH, device=device).contiguous(memory_format=torch.channels_last) * 255
    image, shifts = to_tensor(videos[0][0], device), torch.tensor([0.0, 1.0, 2.0], device=device)
    centres, sides = 100 + shifts[:, None].expand(3, 2), 150 + 8 * shifts
    places = list(zip(centres, sides, strict=True))
    work = peaks(device) | {
        "plain": lambda: _plain_loop(net.to(device), videos[0], boxes[0], device),
        "strided": lambda: _plain_loop(net.to(device), videos[0], boxes[0], device, torch.preserve_format),
        "fast": lambda: track_videos(fast, videos[:1], boxes[:1]),
        "half": lambda: track_videos(half, videos[:1], boxes[:1]),
        "lanes": lambda: track_videos(fast, videos, boxes),
        "network": lambda: [fast.net.embed(x) for _ in range(8)],
        "crops": lambda: [context_crops(image, centres, sides, SEARCH, centres.new_zeros(3)) for _ in range(20)],
        "padded": lambda: [padded_crop(videos[0][0], *place) for _ in range(20) for place in places],
    }
    timed = in_turns(work, rounds, device)
    ratio = lambda a, b: float(np.median(timed[a] / timed[b]))  # noqa: E731
    flops = 8 * network_flops(net, 3)
    peak = np.maximum(2 * 2048**3 / timed["mm"], CONV_FLOPS / timed["conv"])
    return {
        "siamfc_3s_fp32_vs_plain_loop": ratio("plain", "fast"),
        "siamfc_3s_bf16_vs_plain_loop": ratio("plain", "half"),
        "siamfc_3s_fp32_vs_strided_loop": ratio("strided", "fast"),
        "network_share_of_peak": float(np.median(flops / timed["network"] / peak)),
        "network_share_of_step": ratio("network", "fast") * (frames - 1) / 8,
        "lanes_4_vs_1": 4 * ratio("fast", "lanes"),
        "crops_vs_cv2": ratio("padded", "crops"),
    }


def network_flops(net: SiamFC, images: int, size: int = SEARCH) -> int:
    """Multiplications and additions of the convolutions on `images` images of `size` x `size`."""
    total, x = 0, torch.zeros(1, 3, size, size, device="meta")
    for layer in SiamFC(net.width).to("meta").eval().backbone:
        total += 2 * layer[0].weight.numel() * layer[0](x).shape[2:].numel()
        x = layer(x)
    return total * images


CONV_FLOPS = 2 * 256 * 256 * 9 * 8 * 32 * 32


def peaks(device: str) -> dict[str, Callable[[], object]]:
    """What a processor's peak is measured by: a matrix product of 2048 and a convolution (`CONV_FLOPS`)."""
    a, b = torch.rand(2, 2048, 2048, device=device)
    x = torch.rand(8, 256, 34, 34, device=device).contiguous(memory_format=torch.channels_last)
    w = torch.rand(256, 256, 3, 3, device=device).contiguous(memory_format=torch.channels_last)
    return {"mm": lambda: torch.mm(a, b), "conv": lambda: F.conv2d(x, w)}


@torch.inference_mode()
def in_turns(work: dict[str, Callable], rounds: int, device: str) -> dict[str, np.ndarray]:
    """Seconds of each job, `rounds` times round the table after one warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds + 1):
        for name, job in work.items():
            started = time.perf_counter()
            job()
            if device != "cpu":
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - started)
    return {name: np.array(s[1:]) for name, s in seconds.items()}


def track_videos(tracker: SiamFCTracker, videos: list[list[np.ndarray]], boxes: list[Tensor]) -> None:
    """A lane a video; lanes given the same list of frames share its images."""
    state, distinct = None, {id(v): v for v in videos}
    lane = [list(distinct).index(id(v)) for v in videos]
    for t in range(len(videos[0])):
        images = [to_tensor(v[t], tracker.device) for v in distinct.values()]
        frames = Frames(images, lane, [(str(i), t) for i in range(len(images))])
        if state is None:
            state = tracker.init(frames, torch.stack(boxes))
        else:
            state, output = tracker.track(state, frames)
            output.boxes.cpu()


def _plain_loop(net, video: list[np.ndarray], box: Tensor, device: str, layout=torch.contiguous_format) -> None:
    """SiamFC-3s as it is commonly written: what the ratios above are measured against."""
    c = SIAMFC_3S
    centre, side = box[:2].cpu() + box[2:].cpu() / 2, float(context_side(box[2:].cpu()))
    to_net = lambda crops: (  # noqa: E731
        torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).to(device, torch.float32, memory_format=layout)
    )
    template = net.embed(to_net([padded_crop(video[0], centre, side, EXEMPLAR)]))
    side *= SEARCH / EXEMPLAR
    hann = np.outer(np.hanning(272), np.hanning(272))
    hann /= hann.sum()
    for image in video[1:]:
        factors = [c.step**k for k in (-1, 0, 1)]
        x = net.embed(to_net([padded_crop(image, centre, side * f) for f in factors]))
        scores = (1e-3 * F.conv2d(x, template)).cpu().numpy()[:, 0]
        fine = np.stack([cv2.resize(s, (272, 272), interpolation=cv2.INTER_CUBIC) for s in scores])
        fine[[0, 2]] *= c.penalty
        best = int(fine.max((1, 2)).argmax())
        response = fine[best] - fine[best].min()
        response = (1 - c.window) * response / (response.sum() + 1e-16) + c.window * hann
        y, x = np.unravel_index(response.argmax(), response.shape)
        offset = torch.tensor([x - 135.5, y - 135.5]) * 8 / 16 * side * factors[best] / SEARCH
        centre = centre + offset.float()
        side *= 1 - c.scale_lr + c.scale_lr * factors[best]


def padded_crop(image: np.ndarray, centre: Tensor, side: Tensor | float, out: int = SEARCH) -> np.ndarray:
    """Pad the whole frame by its mean where the crop needs it, slice, resize."""
    side = round(float(side))
    x, y = (round(float(v) - side / 2) for v in centre)
    pad = max(0, -x, -y, x + side - image.shape[1], y + side - image.shape[0])
    if pad:
        image = cv2.copyMakeBorder(image, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=cv2.mean(image))
    return cv2.resize(image[y + pad : y + pad + side, x + pad : x + pad + side], (out, out))


def main(json: Path | None = None, only: str | None = None, more: Mapping[str, Part] | None = None) -> None:
    """Print every ratio on each device there is, and write them as one flat object.

    only: "trackers", "costs", "detect", "search", "engine", "training", "peers" or one of `more`; by default all.
    more: parts that stand above this one, by name: what measures, and what its figures are."""
    from .speed_costs import COST_FIGURES, bench_costs
    from .speed_detect import DETECT_FIGURES, bench_detect
    from .speed_engine import ENGINE_FIGURES, bench_engine
    from .speed_peers import PEER_FIGURES, bench_peers
    from .speed_search import SEARCH_FIGURES, bench_search
    from .speed_training import TRAINING_FIGURES, bench_training

    figures = (
        FIGURES | COST_FIGURES | DETECT_FIGURES | SEARCH_FIGURES | ENGINE_FIGURES | TRAINING_FIGURES | PEER_FIGURES
    )
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    each = {"trackers": bench, "costs": bench_costs, "detect": bench_detect, "search": bench_search}
    each |= {"engine": bench_engine, "training": bench_training}
    jobs = [(kind, d, job) for kind, job in each.items() for d in devices]
    jobs.append(("peers", "cpu", lambda _: bench_peers()))
    for kind, (measure, described) in (more or {}).items():
        figures |= described
        jobs.append((kind, "cpu", lambda _, measure=measure: measure()))
    flat: dict[str, float | str] = {}
    for kind, device, job in jobs:
        for figure, value in job(device).items() if only in (None, kind) else ():
            name = figure if device == "cpu" else f"{device}.{figure}"
            of = figures.get(figure, figure.replace("_", " "))
            flat |= {name: value if isinstance(value, str) else round(value, 3), f"{name}__of": of}
            print(f"{flat[name]:>8}  {name}: {of}", flush=True)
    if json:
        write_json(json, flat)
