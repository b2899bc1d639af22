"""What a paper's tracker costs over SiamFC-3s on the same frames, and where it goes, in units of a SiamFC-3s step."""

import numpy as np
import torch

from ..data import load_dataset
from ..images import to_tensor, whole_frame
from ..nn.fourier import regress
from ..trackers import load_tracker
from .speed import in_turns, track_videos

COST_FIGURES = {
    "dsiam_cost": "time of a dsiam step over one of siamfc-3s on the same frames, fp32, one lane (paper: 86 over 45 "
    "frames per second, 1.9)",
    "dsiam_cost_4_lanes": "the same with four lanes on four sequences",
    "dsiam_cost_of_v": "of it: what V adds (an exemplar of its own, a regression); units of a siamfc-3s step",
    "dsiam_cost_of_w": "of it: what W adds (the search image once more, dimmed; a regression, three maps transformed)",
    "dsiam_cost_of_fourier": "of both: the regressions alone, without the features that they are learned from",
    "dsiam_centred_cost": "the release's way, with G cut around the target anew: one pass of the network more",
    "dsiamm_cost": "two layers, one lane (paper: 86 over 25, 3.4)",
    "dsiamm_cost_4_lanes": "two layers, four lanes",
    "siamemory_cost": "time of a siamemory step over one of siamfc-3s, fp32, one lane",
    "siamemory_cost_4_lanes": "the same with four lanes on four sequences",
    "siamemory_cost_one_sequence": "the same with four lanes on one sequence, whose global vector they share",
    "siamemory_cost_of_branch": "of it: the Siamese branch in SiamFC's place, its poolings convolutions (and one "
    "vector, of the first frame)",
    "siamemory_cost_of_vector": "of it: SqueezeNet on the whole frame",
    "siamemory_cost_of_memory": "of it: the LSTM on its window",
    "siamemory_vectors_a_frame": "passes of SqueezeNet a frame with four lanes on one sequence",
}
WITHOUT_V, WITHOUT_W = {"template": "first"}, {"suppression": False}


def bench_costs(device: str = "cpu", frames: int = 12, rounds: int = 5) -> dict[str, float]:
    """Named ratios (see `COST_FIGURES`); each the median over `rounds` of timings taken in turns."""
    trackers = {
        "siamfc": load_tracker("siamfc-3s", device=device),
        "dsiam": load_tracker("dsiam", device=device),
        "without v": load_tracker("dsiam", device=device, **WITHOUT_V),
        "without w": load_tracker("dsiam", device=device, **WITHOUT_W),
        "centred": load_tracker("dsiam", device=device, surroundings="centred"),
        "dsiamm": load_tracker("dsiamm", device=device),
    }
    dataset = load_dataset("rendered")[:4]
    videos = [[s.frames[t] for t in range(frames)] for s in dataset.values()]
    boxes = [torch.tensor(s.boxes[0], dtype=torch.float32, device=device) for s in dataset.values()]
    work = {name: lambda t=t: track_videos(t, videos[:1], boxes[:1]) for name, t in trackers.items()}
    work |= {
        f"{name}, 4": lambda t=trackers[name]: track_videos(t, videos, boxes) for name in ("siamfc", "dsiam", "dsiamm")
    }
    memory, alone = (load_tracker("siamemory", device=device, mode=mode) for mode in ("memory", "siam_only"))
    window, image = (
        torch.rand(1, memory.config.length, len(memory.memory.mean) + 4, device=device),
        to_tensor(videos[0][0], device),
    )
    together, passes = [videos[0]] * 4, []
    with memory.squeezenet.features.register_forward_hook(lambda *_: passes.append(1)), torch.inference_mode():
        track_videos(memory, together, boxes[:1] * 4)
    work |= {
        "memory": lambda: track_videos(memory, videos[:1], boxes[:1]),
        "memory, 4": lambda: track_videos(memory, videos, boxes),
        "memory, shared": lambda: track_videos(memory, together, boxes[:1] * 4),
        "siamfc, shared": lambda: track_videos(trackers["siamfc"], together, boxes[:1] * 4),
        "branch": lambda: track_videos(alone, videos[:1], boxes[:1]),
        "vector": lambda: [memory.squeezenet.vector(whole_frame(image)) for _ in range(frames - 1)],
        "lstm": lambda: [memory.memory(window) for _ in range(frames - 1)],
    }
    z, x = torch.rand(1, 256, 6, 6, device=device), torch.rand(1, 3, 256, 22, 22, device=device)
    pair = (z, z, z, torch.tensor(4e-4, device=device)), (x, x[:, :1], x[:, :1], torch.tensor(5e3, device=device))
    work["fourier"] = lambda: [regress(*each) for _ in range(frames - 1) for each in pair]
    timed = in_turns(work, rounds, device)
    cost = lambda name, of="siamfc": timed[name] / timed[of]  # noqa: E731
    found = {
        "dsiam_cost": cost("dsiam"),
        "dsiam_cost_4_lanes": cost("dsiam, 4", "siamfc, 4"),
        "dsiam_cost_of_v": cost("dsiam") - cost("without v"),
        "dsiam_cost_of_w": cost("dsiam") - cost("without w"),
        "dsiam_cost_of_fourier": cost("fourier"),
        "dsiam_centred_cost": cost("centred"),
        "dsiamm_cost": cost("dsiamm"),
        "dsiamm_cost_4_lanes": cost("dsiamm, 4", "siamfc, 4"),
        "siamemory_cost": cost("memory"),
        "siamemory_cost_4_lanes": cost("memory, 4", "siamfc, 4"),
        "siamemory_cost_one_sequence": cost("memory, shared", "siamfc, shared"),
        "siamemory_cost_of_branch": cost("branch"),
        "siamemory_cost_of_vector": cost("vector"),
        "siamemory_cost_of_memory": cost("lstm"),
        "siamemory_vectors_a_frame": len(passes) / frames,
    }
    return {name: float(np.median(values)) for name, values in found.items()}
