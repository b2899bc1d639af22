"""ROLO: G. Ning et al., *Spatially supervised recurrent convolutional neural networks for visual object tracking*.

arXiv 1607.05781 (2016). YOLO looks at every whole frame; what it sees there, and the one of its boxes that is taken for
the target's, are what an LSTM reads, and its state holds the answer:

    p(B_1 .. B_T | X_1 .. X_T) = prod_t p(B_t | B_<t, X_<=t)                                      (1)
    x_t = [X_t (4096) ; B_t],      B_t = (0, x, y, w, h, 0)                                       (3)
    L = (1 / n) sum ||B_target - B_pred||^2                                                       (4)

The box is the centre and the size in shares of the frame; zeros stand for none. Instead of it a map of the frame may be
read and answered, 1 where the target is (5). What the paper leaves open is said by the release (Guanghan/ROLO), and
carries its number in the register (R1 to R5 of SPEC, chapter 10).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from . import boxes as B
from .config import bounded
from .data.sequence import Sequence as TrackedSequence
from .images import to_tensor, whole_frame
from .nn.checkpoints import load_into, provenance, read_tensors, weights_digest, weights_file
from .nn.recurrent import GATES, SequenceRegressor
from .nn.yolo import YOLO, load_yolo
from .provenance import canonical, class_digest, code_digest, sha256
from .tracker import Frames, Kept, Output, State

FEATURES = 4096  # numbers of X_t
RULES = ("causal", "oracle")  # which detection is the target's (R2)


class Memory(nn.Module):
    """The LSTM, as wide as its input: 134,627,640 parameters where it reads boxes, 209,735,680 where it reads maps
    (less torch's second bias of each gate).

    features: length of X_t
    heatmap:  cells a side of the map, 32 in the paper; 0: boxes
    gate:     "sigmoid" as Eq. 2 prints it (R4)
    The answer is a slice of the state, without a layer of its own: the box's numbers where the input has them."""

    def __init__(self, features: int = FEATURES, heatmap: int = 0, gate: str = "tanh"):
        super().__init__()
        self.heatmap, inputs = heatmap, features + (heatmap**2 or 6)
        self.regressor = SequenceRegressor(inputs, readout="slice", offset=1, gate=gate)
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("deviation", torch.ones(features))
        self.register_buffer("reads", torch.tensor([heatmap, GATES.index(gate)]))

    def initialise(self, generator: torch.Generator) -> Memory:
        """Orthogonal recurrent and Xavier input weights, zero biases but forgetting's 1 (D; TensorFlow's)."""
        lstm = self.regressor.lstm
        for rows in lstm.weight_hh_l0.chunk(4):
            nn.init.orthogonal_(rows, generator=generator)
        nn.init.xavier_uniform_(lstm.weight_ih_l0, generator=generator)
        nn.init.zeros_(lstm.bias_hh_l0)
        nn.init.zeros_(lstm.bias_ih_l0)
        with torch.no_grad():
            lstm.bias_ih_l0[lstm.hidden_size : 2 * lstm.hidden_size] = 1
        return self

    def standardise(self, features: Tensor, soft: float = 1.0) -> None:
        """Take the statistics of training features `(N, features)`; the release reads them as they are. soft: makes
        them so many times smaller again: four numbers of a box stand against thousands of the frame."""
        if soft <= 0:
            raise ValueError(
                f"soft is above 0, not {soft:g}: 1 leaves the features as large as their deviations make them"
            )
        self.mean.copy_(features.mean(0))
        self.deviation.copy_(soft * features.std(0).clamp_min(1e-6))

    def read(self, features: Tensor, boxes: Tensor, found: Tensor, dropout: float = 0.0) -> Tensor:
        """x_t `(..., 4102)` or `(..., 5120)` of X_t `(..., 4096)`, boxes in shares, and 1 where there is one."""
        normal = nn.functional.dropout((features - self.mean) / self.deviation, dropout)
        if self.heatmap:
            shown = masks(boxes, self.heatmap).flatten(-2)
            return torch.cat([normal, shown * found[..., None]], -1)
        location = torch.cat([B.centre(boxes), boxes[..., 2:]], -1) * found[..., None]  # (3)
        return torch.cat([normal, nn.functional.pad(location, (1, 1))], -1)

    def forward(self, windows: Tensor) -> Tensor:
        """What is answered after windows `(B, T, inputs)`: cx, cy, w, h `(B, 4)` in shares, or maps `(B, S, S)`."""
        if not self.heatmap:
            return self.regressor(windows)
        state = self.regressor.states(windows)[:, -1]
        return state[:, len(self.mean) :].unflatten(1, (self.heatmap, self.heatmap))


def masks(boxes: Tensor, side: int) -> Tensor:
    """1 in the cells that boxes `(..., 4)`, in shares, cover, else 0: `(..., side, side)`. Corners are cut to whole
    cells, as in the release; a box too small to reach a second cell covers one."""
    low, high = (side * B.corners(boxes)).long().clamp(0, side).split(2, -1)
    low = low.clamp_max(side - 1)
    high = torch.maximum(high, low + 1)
    at = torch.arange(side, device=boxes.device)
    columns, rows = ((at >= low[..., i, None]) & (at < high[..., i, None]) for i in (0, 1))
    return (rows[..., :, None] & columns[..., None, :]).float()


def best_rectangles(maps: Tensor) -> tuple[Tensor, Tensor]:
    """The box `(B, 4)` in shares that a map `(B, S, S)` says most for, and how much `(B,)`.

    By the release's score of a box (cal_heatmap_score), `(2 sum inside - sum of all) / area`, over all rectangles of
    whole cells: 1 for the very mask, less for any other. Cells below 0 count as 0 (ours)."""
    side = maps.shape[-1]
    sums = nn.functional.pad(maps.clamp_min(0), (1, 0, 1, 0)).cumsum(1).cumsum(2)
    low, high = torch.triu_indices(side + 1, side + 1, 1, device=maps.device)
    rows = sums[:, high] - sums[:, low]  # (B, R, S + 1)
    inside = rows[:, :, high] - rows[:, :, low]  # (B, rows, columns)
    area = (high - low)[:, None] * (high - low)
    scores = ((2 * inside - sums[:, -1:, -1:]) / area).flatten(1)
    best, place = scores.max(1)
    y, x = place // len(low), place % len(low)
    edges = torch.stack([low[x], low[y], high[x], high[y]], 1)
    return B.from_corners(edges / side), best


def memory_loss(
    net: Memory, batch: dict[str, Tensor], noise: float = 0.0, dropout: float = 0.0, auxiliary: float = 0.0
) -> Tensor:
    """Eqs. 4 and 5: squared errors, summed over an answer's numbers and averaged over the batch.

    batch: features `(B, T, 4096)`, and `blind (B,)`, whether they are of no use; boxes `(B, T, 4)` and the target's
    `truth (B, 4)`, x, y, w, h in shares; found `(B, T)`, whether there is a box. noise: on boxes, 1: the release's, 2 %
    of its centre and 20 % of its sides; dropout: of features; auxiliary: weight of the same errors from the last
    detection, where there is one. These three the paper tried, and found inferior (Section 4.4)."""
    boxes, features = batch["boxes"], torch.where(batch["blind"][:, None, None], net.mean, batch["features"])
    if noise:
        centre = B.centre(boxes) * (1 + noise * 0.02 * (2 * torch.rand_like(boxes[..., :2]) - 1))
        boxes = B.from_centre(centre, boxes[..., 2:] * (1 + noise * 0.2 * (2 * torch.rand_like(centre) - 1)))
    answer = net(net.read(features, boxes, batch["found"], dropout))

    def errors(of: Tensor) -> Tensor:
        wanted = masks(of, net.heatmap) if net.heatmap else torch.cat([B.centre(of), of[:, 2:]], -1)
        return (answer - wanted).square().flatten(1).sum(1)

    loss = errors(batch["truth"])
    if auxiliary:
        loss = loss + auxiliary * errors(batch["boxes"][:, -1]) * batch["found"][:, -1]
    return loss.mean()


def from_tensorflow(weight: Tensor, bias: Tensor) -> dict[str, Tensor]:
    """Our names of the released LSTM: W `(inputs + hidden, 4 hidden)`, its columns the gates i, j, f, o, and B.

    TensorFlow adds 1 to what the forget gate reads; here it is in the bias."""
    hidden = len(bias) // 4
    i, j, f, o = weight.T.chunk(4)
    rows = torch.cat([i, f, j, o])
    biases = bias.reshape(4, hidden)[[0, 2, 1, 3]] + bias.new_tensor([0.0, 1, 0, 0])[:, None]
    inputs = rows.shape[1] - hidden
    names = ("weight_ih_l0", rows[:, :inputs]), ("weight_hh_l0", rows[:, inputs:]), ("bias_ih_l0", biases.flatten())
    return {f"regressor.lstm.{name}": value.clone() for name, value in names} | {
        "regressor.lstm.bias_hh_l0": torch.zeros(4 * hidden)
    }


def associate(reference: Tensor, boxes: Tensor, scores: Tensor, least: float) -> tuple[Tensor, Tensor, Tensor]:
    """Which detection is the target: the one of the largest IoU with `reference (B, 4)`, if that is `least` (R2).

    boxes `(B, N, 4)`; scores `(B, N)`, 0 for what is no detection. Gives boxes `(B, 4)`, scores `(B,)`, which are 0
    where none was found, and `found (B,)`."""
    overlap = torch.where(scores > 0, B.iou(reference[:, None], boxes), scores.new_full((), -1.0))
    best, which = overlap.max(1)
    found = best >= least
    chosen = boxes.gather(1, which[:, None, None].expand(-1, 1, 4))[:, 0]
    return chosen, scores.gather(1, which[:, None])[:, 0] * found, found


@dataclass(frozen=True)
class ROLOConfig:
    threshold: float = 0.2  # of a detection's score
    overlap: float = 0.5  # IoU above which one of two detections goes
    history: int = 6  # validated detections whose mean the next one is compared with (R2)
    least: float = 0.3  # IoU_min of that
    step: int = 6  # frames of a window
    answer: str = "memory"  # or "detection": YOLO alone, by the same association, and its last box where it has none
    silent: int = 0  # of each twenty frames, at their end, so many without detections: a test of memory
    dark: bool = False  # and those without features too: X_t is the training frames' mean, or 0 where read as it is

    def __post_init__(self):
        if self.answer not in ("memory", "detection"):
            raise ValueError(f"answer is 'memory' or 'detection', not {self.answer!r}")
        bounded(self, history=(1, inf), step=(1, inf), silent=(0, 20), threshold=(0, 1), overlap=(0, 1), least=(0, 1))


SHIPPED = ROLOConfig(threshold=0.05)  # chosen on rendered-val for the detector that we ship, which is weak


@dataclass
class TargetState(State):
    history: Tensor  # (B, 6, 4) the last validated detections, in shares of the frame; at first the given box
    box: Tensor  # (B, 4) the last of them


class Detector:
    """YOLO in use: every frame once for all lanes, and which of its detections each lane follows."""

    def __init__(self, net: YOLO, config: ROLOConfig, device: torch.device, dtype: torch.dtype):
        self.net = copy.deepcopy(net).to(device, dtype, memory_format=torch.channels_last).eval().requires_grad_(False)
        self.config, self.device = config, device
        facts = (weights_digest(net), class_digest(Detector), str(config.threshold), str(config.overlap), str(dtype))
        self.name = f"YOLO {sha256(*facts)[:16]} on {device.type}"

    def look(self, frames: Frames) -> tuple[Tensor, Tensor, Tensor]:
        """Features `(B, 4096)`, boxes `(B, N, 4)` in shares and scores `(B, N)` of each lane's frame."""
        seen = frames.together(self.name, self._detections)
        return tuple(torch.stack(part) for part in zip(*seen, strict=True))

    def _detections(self, images: list[Tensor]) -> list[tuple[Tensor, Tensor, Tensor]]:
        squares = [whole_frame(image, self.net.input) for image in images]
        if self.device.type == "cpu":  # one by one, so that the bits do not depend on what is known already
            return [self._detect(square)[0] for square in squares]
        return self._detect(torch.cat(squares))

    def _detect(self, images: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        features, cells = self.net(images)
        boxes, scores, _ = self.net.decode(cells, self.config.threshold, self.config.overlap)
        return list(zip(features.float(), boxes, scores, strict=True))

    def start(self, frames: Frames, boxes: Tensor) -> TargetState:
        """The given boxes `(B, 4)`, in pixels, stand for the detections before them."""
        box = boxes / frames.sizes(boxes).repeat(1, 2)
        return TargetState(box[:, None].repeat(1, self.config.history, 1), box)

    def follow(self, state: TargetState, frames: Frames) -> tuple[TargetState, Tensor, Tensor, Tensor]:
        """One frame on: the state, and of what was found features `(B, 4096)`, scores and whether anything was `(B,)`;
        its boxes are then `state.box`."""
        features, boxes, scores = self.look(frames)
        if self.config.silent:
            scores = scores * ~self.quiet(frames)[:, None]
        box, score, found = associate(state.history.mean(1), boxes, scores, self.config.least)
        history = torch.cat([state.history[:, 1:], box[:, None]], 1)
        history = torch.where(found[:, None, None], history, state.history)
        return TargetState(history, torch.where(found[:, None], box, state.box)), features, score, found

    def quiet(self, frames: Frames) -> Tensor:
        """In whose frames `(B,)` nothing is to be detected."""
        return quiet(torch.tensor([frames.ids[u][1] for u in frames.lane], device=self.device), self.config.silent)


def quiet(frame, count: int):
    """Whether a frame, or each of an array of them, is one of the last `count` of every twenty: those made silent."""
    return frame % 20 >= 20 - count


@dataclass
class ROLOState(State):
    target: TargetState
    windows: Tensor  # (B, T, inputs) what the LSTM reads, the newest last


class ROLOTracker:
    """Detect, associate, remember. What it answers never reaches the detector, nor the association."""

    def __init__(
        self,
        net: YOLO,
        memory: Memory,
        config: ROLOConfig = ROLOConfig(),
        name: str = "rolo",
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ):
        self.name, self.config, self.device, self.dtype = name, config, torch.device(device), dtype
        self.detector = Detector(net, config, self.device, dtype)
        self.memory, self.keep_maps = copy.deepcopy(memory).to(self.device).eval().requires_grad_(False), False

    def init(self, frames: Frames, boxes: Tensor) -> ROLOState:
        target = self.detector.start(frames, boxes)
        features, *_ = self.detector.look(frames)
        read = self.memory.read(features, target.box, torch.ones_like(target.box[:, 0]))
        return ROLOState(target, read[:, None].repeat(1, self.config.step, 1))

    def track(self, state: ROLOState, frames: Frames) -> tuple[ROLOState, Output]:
        """One frame on. Scores are the detection's, 0 where there is none; of a map, those of its best rectangle."""
        target, features, scores, found = self.detector.follow(state.target, frames)
        if self.config.dark:
            features = torch.where(self.detector.quiet(frames)[:, None], self.memory.mean, features)
        read = self.memory.read(features, target.box, found.float())
        windows = torch.cat([state.windows[:, 1:], read[:, None]], 1)
        sizes, maps = frames.sizes(target.box), {}
        if self.config.answer == "detection":
            box = target.box
        elif self.memory.heatmap:
            maps = {"heat map": self.memory(windows)}
            box, scores = best_rectangles(maps["heat map"])
        else:
            answer = self.memory(windows)
            box = B.from_centre(answer[:, :2], answer[:, 2:].clamp_min(0))
        output = Output(in_frame(box * sizes.repeat(1, 2), sizes), scores)
        if self.keep_maps:
            output.maps, output.regions = maps, nn.functional.pad(sizes, (2, 0))
        return ROLOState(target, windows), output


def in_frame(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Boxes `(B, 4)` in pixels of frames of `sizes (B, 2)`: the centre inside, at least a pixel and at most the frame
    large."""
    centre = torch.minimum(B.centre(boxes).clamp_min(0), sizes)
    return B.from_centre(centre, torch.minimum(boxes[:, 2:].clamp_min(1), sizes))


@dataclass(frozen=True)
class Clip:
    """A video as the memory reads it: features `(T, F)`, detections `(T, N, 4)` and their scores `(T, N)`, and the
    target's true boxes `(T, 4)`, NaN where there is none; all boxes in shares of the frame."""

    name: str
    features: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    truth: np.ndarray

    @property
    def first(self) -> int:
        """The first frame with a true box: the one that is given."""
        return int(np.flatnonzero(np.isfinite(self.truth).all(1))[0])

    def silenced(self, count: int) -> Clip:
        """The same without detections in the last `count` of every twenty frames (`ROLOConfig.silent`)."""
        return replace(self, scores=self.scores * ~quiet(np.arange(len(self.scores)), count)[:, None])


@torch.inference_mode()
def cut_clip(detector: Detector, sequence: TrackedSequence, kept: Kept | None = None) -> Clip:
    """What the detector makes of every frame of a video, once. kept: where that outlives the process."""
    parts, sizes = [], []
    for t in range(len(sequence)):
        frames = Frames([to_tensor(sequence.frames[t], detector.device)], [0], [(sequence.name, t)], kept)
        parts.append([part[0].cpu() for part in detector.look(frames)])
        sizes.append(frames.sizes(torch.zeros(1))[0].repeat(2).numpy())
    features, boxes, scores = (torch.stack(part).numpy() for part in zip(*parts, strict=True))
    truth = np.where(sequence.absent[:, None], np.nan, sequence.boxes) / np.stack(sizes)
    return Clip(sequence.name, features, boxes, scores, truth.astype(np.float32))


def followed(clip: Clip, config: ROLOConfig = ROLOConfig()) -> tuple[np.ndarray, np.ndarray]:
    """The causal rule on a clip from its first true box on: boxes `(T, 4)` and whether one was found `(T,)`.

    As in `Detector.follow`; the given box is the first frame's, and the rows before it are of no use."""
    boxes, found, first = np.zeros_like(clip.truth), np.zeros(len(clip.truth), bool), clip.first
    boxes[first], found[first] = clip.truth[first], True
    history = torch.from_numpy(clip.truth[first]).repeat(config.history, 1)
    for t in range(first + 1, len(boxes)):
        seen = (torch.from_numpy(part[t])[None] for part in (clip.boxes, clip.scores))
        box, _, hit = associate(history.mean(0)[None], *seen, config.least)
        if hit[0]:
            boxes[t], found[t] = box[0], True
            history = torch.cat([history[1:], box])
    return boxes, found


def held(boxes: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Boxes `(T, 4)`, the last one that was found where none was: what YOLO alone answers."""
    return boxes[np.maximum.accumulate(np.where(found, np.arange(len(found)), 0))]


def oracle(clip: Clip, least: float = 1e-6) -> tuple[np.ndarray, np.ndarray]:
    """The release's rule: in every frame the detection nearest to that frame's *true* box (find_best_location), if
    their IoU is `least`; the release asks for any. The given box is the first frame's, as in `followed`.

    It sees the ground truth of the frames it is tested on: no tracker, and `evaluate` refuses what comes of it."""
    truth = torch.nan_to_num(torch.from_numpy(clip.truth))
    boxes, _, found = associate(truth, torch.from_numpy(clip.boxes), torch.from_numpy(clip.scores), least)
    boxes, found = (boxes * found[:, None]).numpy(), found.numpy()
    boxes[clip.first], found[clip.first] = clip.truth[clip.first], True
    return boxes, found


@torch.inference_mode()
def answers(net: Memory, clip: Clip, boxes: np.ndarray, found: np.ndarray, step: int = 6) -> np.ndarray:
    """What the memory says of every frame `(T, 4)`, in shares, after the window of `step` frames that ends there; the
    first frame with a true box stands for those before it."""
    parts = (clip.features, boxes, found.astype(np.float32))
    reads = net.read(*(torch.from_numpy(np.ascontiguousarray(part)) for part in parts))
    rows = (torch.arange(len(reads))[:, None] + torch.arange(1 - step, 1)).clamp_min(clip.first)
    answer = torch.cat([net(reads[some]) for some in rows.split(64)])
    if net.heatmap:
        return best_rectangles(answer)[0].numpy()
    return B.from_centre(answer[:, :2], answer[:, 2:].clamp_min(0)).numpy()


class WindowSampler:
    """Windows for phase 3: `sampler[index]` gives `features (T, F)`, `boxes (T, 4)`, `found (T,)`, `truth (4,)` and
    whether it is `blind`.

    rule:   which detection is the target's: "causal", or "oracle", by the truth as in the release (R2), but of the
            least overlap in `config` too
    offset: 0: the truth is that of the window's last frame; -1: of the one before it, as in the release (R3), so that a
            tracker with this memory answers a frame late
    share:  of each video's frames, from its beginning, that are used (the paper's experiment 2: 1/3)
    every:  one true box in so many is learned, of all frames (experiment 3: 3); with "oracle" all of them choose
            detections
    config: the causal rule's history and least overlap
    lose:   probability that a window ends with frames, any number of them, whose detection is taken away
    move:   probability that a window with some box is laid elsewhere in the frame, in another size; its features are
            then of no use, and it teaches to hold and to continue boxes (not in the paper, which trains where it tests)
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        step: int = 6,
        rule: str = "causal",
        offset: int = 0,
        share: float = 1.0,
        every: int = 1,
        lose: float = 0.0,
        move: float = 0.0,
        seed: int = 0,
        config: ROLOConfig = ROLOConfig(),
    ):
        if rule not in RULES or offset not in (0, -1):
            raise ValueError(f"rule is one of {', '.join(RULES)} and offset 0 or -1, not {rule!r} and {offset}")
        if not (0 <= lose <= 1 and 0 <= move <= 1):
            raise ValueError(f"lose and move are probabilities, 0 to 1, not {lose:g} and {move:g}")
        self.clips, self.step, self.offset, self.seed = list(clips), step, offset, seed
        self.lose, self.move = lose, move
        self.facts = [step, rule, offset, share, every, lose, move, seed, config.history, config.least]
        self.tracks = [followed(c, config) if rule == "causal" else oracle(c, config.least) for c in self.clips]
        frames = []
        for k, clip in enumerate(self.clips):
            known = np.isfinite(clip.truth).all(1)
            start, stop = clip.first, round(share * len(known))
            frames += [(k, t, start) for t in range(start, stop, every) if known[max(t + offset, start)]]
        self.frames = np.array(frames)

    def features(self) -> Tensor:
        """Those of the frames that windows end with, `(N, F)`: what `Memory.standardise` takes."""
        return torch.from_numpy(np.stack([self.clips[k].features[t] for k, t, _ in self.frames]))

    def digest(self) -> str:
        """Names every sample this sampler can give."""
        arrays = (np.ascontiguousarray(a).tobytes() for clip in self.clips for a in list(vars(clip).values())[1:])
        return sha256(canonical(self.facts), code_digest([__name__]), *arrays)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng([self.seed, index])
        k, t, start = self.frames[rng.integers(len(self.frames))]
        rows = np.maximum(np.arange(t - self.step + 1, t + 1), start)
        boxes, found = (part[rows].astype(np.float32) for part in self.tracks[k])
        if rng.random() < self.lose:
            found[self.step - rng.integers(1, self.step + 1) :] = 0
        truth, blind = self.clips[k].truth[max(t + self.offset, start)], bool(found.any()) and rng.random() < self.move
        if blind:
            *boxes, truth = moved(np.vstack([boxes, truth]), rng)
        features = self.clips[k].features[rows]
        return {"features": features, "boxes": np.array(boxes), "found": found, "truth": truth, "blind": blind}


def moved(boxes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Boxes `(T, 4)`, in shares, in as many frames, all laid elsewhere alike: the last one's centre anywhere in the
    frame, either side up to 1.6 times as long or short, mirrored or not."""
    centre, sides = B.centre(boxes), np.exp(rng.uniform(-0.5, 0.5, 2))
    centre = (centre - centre[-1]) * sides * rng.choice([-1, 1], 2) + rng.random(2)
    return B.from_centre(centre, boxes[:, 2:] * sides).astype(np.float32)


class ROLO(nn.Module):
    """Both parts, for one file: `detector` and `memory`."""

    def __init__(self, detector: YOLO, memory: Memory):
        super().__init__()
        self.detector, self.memory = detector, memory


def load_rolo(weights: str | Path, seed: int = 0, heatmap: int = 0) -> ROLO:
    """The parts of a memory's weights file or shipped name, at the file's own sizes; its provenance names the file of
    the detector it was trained with, and the digest. "random" are untrained ones of small width.

    Raises FileNotFoundError, and ValueError for another file, or one trained with another detector than is there."""
    if str(weights) == "random":
        generator = torch.Generator().manual_seed(seed)
        net = YOLO("small", 1 / 8, 256, 9, (640, 320)).initialise(generator)
        return ROLO(net, Memory(net.size, heatmap).initialise(generator)).eval()
    path = weights_file(weights)
    tensors = read_tensors(path)
    if "reads" not in tensors or "regressor.lstm.weight_hh_l0" not in tensors:
        raise ValueError(f"{path}: not weights of ROLO: no regressor.lstm.weight_hh_l0 or reads")
    origin = provenance(path)
    if "detector" not in origin:
        needed = f"copy {path.stem}.json with it, and what that names"
        raise ValueError(f"{path}: holds the memory alone, and nothing beside it tells its detector; {needed}")
    try:
        net = load_yolo(origin["detector"])
    except FileNotFoundError:
        missing = f"names the detector {origin['detector']}, which is not there; copy it there, or change 'detector'"
        raise FileNotFoundError(f"{path.with_suffix('.json')}: {missing}") from None
    if origin.get("detector_sha") != weights_digest(net):
        raise ValueError(f"{path}: was trained with another detector than {origin['detector']} is now; train it anew")
    reads = tensors["reads"].int().tolist()
    memory = Memory(len(tensors["mean"]), reads[0], GATES[reads[1]])
    load_into(memory, tensors, str(path))
    return ROLO(net, memory).eval()
