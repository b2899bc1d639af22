"""How many targets to track in one batch: measured, since it depends on the tracker and on the machine."""

import time

import torch

from ..data.sequence import Dataset
from ..images import to_tensor
from ..tracker import Frames, Tracker
from .protocols import first_box


@torch.inference_mode()
def measured_lanes(tracker: Tracker, dataset: Dataset, runs: int, steps: int = 3) -> dict[int, float]:
    """Frames per second by number of lanes 1, 2, 4, ..., on the first sequence; up to `runs`, to what memory holds, or
    to where twice the lanes bring nothing."""
    sequence, device = dataset[0], torch.device(getattr(tracker, "device", "cpu"))
    images = [to_tensor(sequence.frames[t], device) for t in range(min(2, len(sequence)))]
    box = torch.tensor([first_box(sequence.name, sequence.boxes[0])], dtype=torch.float32, device=device)
    found: dict[int, float] = {}
    lanes = 1
    while lanes <= max(runs, 1):
        try:
            state = tracker.init(Frames(images[:1], [0] * lanes, [(sequence.name, 0)]), box.expand(lanes, 4))
            for step in range(steps + 1):
                state, output = tracker.track(state, Frames(images[-1:], [0] * lanes, [(sequence.name, step + 1)]))
                output.boxes.cpu()  # waits for the device
                if step == 0:  # that was to warm up
                    started = time.perf_counter()
        except Exception:  # no memory for so many, or a tracker that fails here: its runs will tell
            break
        found[lanes] = round(steps * lanes / (time.perf_counter() - started), 2)
        if lanes > 2 and found[lanes] < 1.03 * found[lanes // 4]:
            break
        lanes *= 2
    return found


def fewest_lanes(measured: dict[int, float]) -> int:
    """The fewest lanes within 3 % of the best."""
    best = max(measured.values(), default=0.0)
    return min((lanes for lanes, rate in measured.items() if rate >= 0.97 * best), default=1)
