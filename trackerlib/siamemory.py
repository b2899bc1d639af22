"""SiaMemory: a Siamese network that remembers (all-convolutional SiamFC, SqueezeNet and an LSTM).

Paper: "SiamMemory" in Procedia Computer Science 154 (2019), 146 to 153; no code was released. SiamFC's two max poolings
become strided convolutions and a 1 x 1 convolution narrows its features (Table 1). Its box in the frame and a global
vector of the frame are what a one-layer LSTM reads, and its answer is the tracker's:

    x_t = [cnn_fea (1024) ; cnn_loc (4)]                                                          (5)
    (i, f, o, g) = (sigma, sigma, sigma, tanh) T [x_t ; h_{t-1}]                                  (2)
    c_t = f c_{t-1} + i g,      h_t = o tanh(c_t)                                                 (3, 4)

Readings that the text leaves open carry their number in the register (M1 to M7 of SPEC, chapter 10).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from . import boxes as B
from .images import whole_frame
from .nn.checkpoints import load_into, provenance, read_tensors, weights_digest, weights_file
from .nn.correlation import correlate_scales
from .nn.recurrent import SequenceRegressor
from .nn.squeezenet import FEATURES, VECTORS, SqueezeNet, squeezenet_of
from .provenance import canonical, code_digest, sha256
from .siamfc import EXEMPLAR, SEARCH, SiamFC, SiamFCConfig, SiamFCState, SiamFCTracker, folded
from .tracker import Frames, Output

CONV6 = {"64/2": (64, 2), "64/1": (64, 1), "128/2": (128, 2)}  # M1: channels and groups of conv6


def _layer(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution without padding, batch norm, ReLU."""
    norm = nn.BatchNorm2d(outputs, eps=1e-6, momentum=0.05)
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, groups=groups), norm, nn.ReLU(inplace=True))


class AllConv(nn.Module):
    """The Siamese branch, Table 1: 3,018,400 parameters and the bias b at width 1; scores as SiamFC's.

    width:     multiplies every channel count
    conv6:     M1, a reading of "128*64" and "x64": one of `CONV6`
    depthwise: M2, the pooling convolutions one channel each; else full ones, as All-CNN's
    Layers that SiamFC has too carry its names, so that its weights are copied by key (`from_siamfc`)."""

    def __init__(self, width: float = 1.0, conv6: str = "64/2", depthwise: bool = False):
        super().__init__()
        c1, c2, c3, c4, c5 = (round(n * width) for n in (96, 256, 384, 384, 256))
        (last, groups), self.width = CONV6[conv6], width
        self.backbone = nn.Sequential()
        self.backbone.conv1 = _layer(3, c1, 11, stride=2)
        self.backbone.conv_p1 = _layer(c1, c1, 3, stride=2, groups=c1 if depthwise else 1)
        self.backbone.conv2 = _layer(c1, c2, 5, groups=2)
        self.backbone.conv_p2 = _layer(c2, c2, 3, stride=2, groups=c2 if depthwise else 1)
        self.backbone.conv3 = _layer(c2, c3, 3)
        self.backbone.conv4 = _layer(c3, c4, 3, groups=2)
        self.backbone.conv5 = nn.Sequential(nn.Conv2d(c4, c5, 3, groups=2))
        self.backbone.conv6 = nn.Sequential(nn.Conv2d(c5, round(last * width), 1, groups=groups))
        scale = 1e-3 * c5 / round(last * width)  # SiamFC's, for products of fewer channels
        self.register_buffer("scale", torch.tensor(scale), persistent=False)
        self.bias = nn.Parameter(torch.zeros(()))

    def initialise(self, generator: torch.Generator) -> AllConv:
        """As SiamFC; then conv_p1 and conv_p2 average, each channel on its own, and conv6 is orthogonal."""
        SiamFC.initialise(self, generator)
        for pool in (self.backbone.conv_p1[0], self.backbone.conv_p2[0]):
            averaging(pool)
        nn.init.orthogonal_(self.backbone.conv6[0].weight, generator=generator)
        return self

    def from_siamfc(self, net: SiamFC) -> AllConv:
        """Take over the unchanged layers: conv1 to conv5 with their norms, and the bias."""
        if net.width != self.width:
            raise ValueError(f"SiamFC of width {net.width:g} has no layers for width {self.width:g}")
        self.load_state_dict(self.state_dict() | net.state_dict())
        return self

    def embed(self, images: Tensor) -> Tensor:
        """`(B, 3, H, W)` RGB in 0..255 to `(B, 64, h, w)`; 127 to 6, 255 to 22."""
        return self.backbone(images)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        """Score maps `(B, 1, h, w)` of exemplars `(B, 3, 127, 127)` and search images `(B, 3, 255, 255)` (Eq. 1)."""
        z, x = self.embed(z).float(), self.embed(x).float()
        with torch.autocast(z.device.type, enabled=False):
            return self.scale * correlate_scales(z, x) + self.bias


def _check(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} is one of {', '.join(known)}, not {value!r}")


NEW = ("backbone.conv_p1.", "backbone.conv_p2.", "backbone.conv6.")  # layers that SiamFC lacks


def calibrate(net: AllConv, batches: Iterable[dict[str, Tensor]]) -> None:
    """Set the norms' statistics by passes in training mode, before anything is learned: averaged features are smaller
    than the maxima that the layers after them know."""
    net.train()
    with torch.no_grad():
        for batch in batches:
            for k in "zx":
                net.embed(batch[k].permute(0, 3, 1, 2).float())


def branch_groups(net: AllConv, rate: float = 10.0) -> list[dict[str, Any]]:
    """Groups for `training.loop.fit`: the new layers learn at `rate` times the schedule's; vectors do not decay."""
    groups = []
    for new in (True, False):
        of = [p for name, p in net.named_parameters() if name.startswith(NEW) == new]
        facts = {"rate": rate if new else 1.0}
        groups += [facts | {"params": [p for p in of if p.ndim > 1]}]
        groups += [facts | {"params": [p for p in of if p.ndim <= 1], "weight_decay": 0.0}]
    return groups


def averaging(pool: nn.Conv2d) -> None:
    """Make a 3 x 3 convolution the average pooling of each channel (M2): what follows it sees pooled features."""
    with torch.no_grad():
        pool.weight.zero_()
        for channel in range(pool.out_channels):
            pool.weight[channel, channel if pool.groups == 1 else 0] = 1 / 9
        pool.bias.zero_()


READOUTS = ("linear", "slice", "change")


class Memory(nn.Module):
    """The LSTM and its read-out: windows `(B, T, 1028)` of Eq. 5 to boxes `(B, 4)`, cx, cy, w, h in shares of frames.

    features: length of cnn_fea. Two buffers that training sets bring it to mean 0 and a mean square length of 1: beside
              a thousand numbers of any scale the LSTM would hardly see cnn_loc. (The paper has no such step.)
    hidden:   of the LSTM, by default as wide as its input (M4)
    readout:  M4, "linear" or "slice" as in `SequenceRegressor`; "change", ours: a linear layer says how the answer
              differs from the last box read, so that what was measured need not pass through the LSTM
    vector:   M3, which of SqueezeNet's `VECTORS` it reads; of the 512 of "mean" a layer of its own makes 1024"""

    def __init__(
        self,
        features: int = FEATURES,
        hidden: int | None = None,
        readout: str = "linear",
        vector: str = "mean-max",
    ):
        super().__init__()
        _check("readout", readout, READOUTS)
        _check("vector", vector, VECTORS)
        self.project = nn.Linear(features, 2 * features) if vector == "mean" else nn.Identity()
        inputs = 4 + (2 * features if vector == "mean" else features)
        self.regressor = SequenceRegressor(inputs, hidden, "slice" if readout == "slice" else "linear")
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("deviation", torch.ones(features))
        self.register_buffer("reads", torch.tensor([READOUTS.index(readout), VECTORS.index(vector)]))

    @property
    def vector(self) -> str:
        return VECTORS[int(self.reads[1])]

    def initialise(self, generator: torch.Generator) -> Memory:
        self.regressor.initialise(generator)
        if isinstance(self.project, nn.Linear):
            nn.init.orthogonal_(self.project.weight, generator=generator)
            nn.init.zeros_(self.project.bias)
        return self

    def standardise(self, features: Tensor) -> None:
        """Take the statistics of training vectors `(N, features)`."""
        self.mean.copy_(features.mean(0))
        self.deviation.copy_(features.std(0).clamp_min(1e-6) * len(self.mean) ** 0.5)

    def normal(self, windows: Tensor) -> Tensor:
        """What the LSTM reads `(B, T, 1028)`."""
        vector, box = windows.split([len(self.mean), 4], -1)
        return torch.cat([self.project((vector - self.mean) / self.deviation), box], -1)

    def answer(self, read: Tensor, states: Tensor) -> Tensor:
        """Boxes `(B, 4)` of what was read last `(B, 1028)` and the state after it `(B, hidden)`."""
        box = self.regressor.boxes(states)
        return read[:, -4:] + box if READOUTS[int(self.reads[0])] == "change" else box

    def forward(self, windows: Tensor) -> Tensor:
        return self.answer(windows[:, -1], self.regressor.states(self.normal(windows))[:, -1])

    def step(self, read: Tensor, carried: Tensor) -> tuple[Tensor, Tensor]:
        """One step on from a carried state `(B, 2, hidden)`, h and c (M4): boxes `(B, 4)` and the state after it."""
        h, c = (leaf.transpose(0, 1).contiguous() for leaf in carried.split(1, 1))
        carried = torch.cat(self.regressor.lstm(self.normal(read[:, None]), (h, c))[1]).transpose(0, 1)
        return self.answer(read, carried[:, 0]), carried


@dataclass(frozen=True)
class Track:
    """A training video as the memory reads it: vectors `(T, 1024)`, measured and true boxes `(T, 4)` in shares of the
    frame, and for each frame the first one `(T,)` of those tracked without a break, -1 where nothing was measured."""

    vectors: np.ndarray
    measured: np.ndarray
    truth: np.ndarray
    since: np.ndarray


class WindowSampler:
    """Windows of cached vectors for stage 3: `sampler[index]` gives `windows (T, 1028)` and `boxes (4,)`, float32.

    drop:         probability that a measurement is the one before it, as after a low peak
    shift, scale: noise on measurements, U(-1, 1) of the frame and of the target's sides (ROLO's are 0.02 and 0.2)
    moved:        mirror the boxes and put them elsewhere: cnn_fea hardly says where in the frame something is, and so
                  only the boxes need to change
    A target's first frames are read as the tracker reads them: the first one repeated."""

    def __init__(
        self,
        tracks: Sequence[Track],
        length: int = 6,
        drop: float = 0.1,
        shift: float = 0.0,
        scale: float = 0.0,
        moved: bool = True,
        seed: int = 0,
    ):
        self.tracks, self.length, self.moved, self.seed = list(tracks), length, moved, seed
        self.drop, self.shift, self.scale = drop, shift, scale
        usable = [(track.since >= 0) & np.isfinite(track.truth).all(1) for track in self.tracks]
        self.frames = np.array([(k, t) for k, good in enumerate(usable) for t in np.flatnonzero(good)])
        if not len(self.frames):
            raise ValueError(f"no frame of {len(self.tracks)} tracks was measured and has a true box")

    def digest(self) -> str:
        """Names every sample this sampler can give."""
        facts = [self.length, self.drop, self.shift, self.scale, self.moved, self.seed]
        arrays = (np.ascontiguousarray(a).tobytes() for track in self.tracks for a in vars(track).values())
        return sha256(canonical(facts), code_digest([__name__]), *arrays)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng([self.seed, index])
        k, t = self.frames[rng.integers(len(self.frames))]
        track = self.tracks[k]
        rows = np.maximum(np.arange(t - self.length + 1, t + 1), track.since[t])
        read, truth = track.measured[rows].copy(), track.truth[t].copy()
        for late in np.flatnonzero(rng.random(self.length) < self.drop):
            read[late] = read[max(late - 1, 0)]
        read[:, :2] += self.shift * rng.uniform(-1, 1, (self.length, 2))
        read[:, 2:] *= 1 + self.scale * rng.uniform(-1, 1, (self.length, 2))
        if self.moved:
            if rng.random() < 0.5:
                read[:, 0], truth[0] = 1 - read[:, 0], 1 - truth[0]
            away = rng.uniform(0, 1, 2) - truth[:2]
            read[:, :2] += away
            truth[:2] += away
        windows = np.concatenate([track.vectors[rows], read], 1)
        return {"windows": windows.astype(np.float32), "boxes": truth.astype(np.float32)}


LOSSES = ("l2", "feature", "none")


def memory_loss(net: Memory, batch: dict[str, Tensor], kind: str = "l2", weight: float = 1e-4) -> Tensor:
    """Regularised least squares (Eq. 8): `(1 / n) sum ||B - Bhat||^2 + lambda sum ||W||_F^2` (M5).

    batch: windows `(B, T, 1028)` and boxes `(B, 4)` of their last frames; kind: "l2"; "feature", the form released with
    ROLO: 100 times the mean squares, and that the state should be the input's vector; "none".
    Raises ValueError for another kind."""
    _check("regularisation", kind, LOSSES)
    windows = net.normal(batch["windows"])
    states = net.regressor.states(windows)[:, -1]
    errors = (net.answer(batch["windows"][:, -1], states) - batch["boxes"]).square()
    if kind == "feature":
        size = min(states.shape[1], windows.shape[2] - 4)
        return 100 * errors.mean() + 100 * weight * (windows[:, -1, :size] - states[:, :size]).square().mean()
    decay = sum(w.square().sum() for w in net.regressor.weights) if kind == "l2" else 0.0
    return errors.sum(1).mean() + weight * decay


class SiaMemory(nn.Module):
    """The three parts, for one file: `siamese`, `squeezenet`, `memory`; 12.2 million parameters with SqueezeNet 1.1's
    trunk and an LSTM as wide as its input."""

    def __init__(self, siamese: AllConv, squeezenet: SqueezeNet, memory: Memory):
        super().__init__()
        self.siamese, self.squeezenet, self.memory = siamese, squeezenet, memory


def load_siamemory(weights: str | Path, seed: int = 0) -> SiaMemory:
    """The parts of a weights file or shipped name, at the file's own sizes; "random" are untrained ones of the paper's.

    A file may leave out `siamese` or `squeezenet`: its provenance then names their files, with their digests.
    Raises FileNotFoundError, and ValueError for another file, or one trained with other parts than are there now."""
    if str(weights) == "random":
        generator = torch.Generator().manual_seed(seed)
        return SiaMemory(*(part.initialise(generator) for part in (AllConv(), SqueezeNet(), Memory()))).eval()
    path = weights_file(weights)
    tensors = read_tensors(path)
    if not any(name.startswith("memory.") for name in tensors):
        raise ValueError(f"{path}: not weights of SiaMemory: no memory.regressor.lstm.weight_hh_l0")
    parts = {part: _part(path, tensors, part) for part in ("siamese", "squeezenet")}
    return SiaMemory(**parts, memory=memory_of(_within(tensors, "memory"), str(path))).eval()


def _within(tensors: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    return {name.removeprefix(f"{part}."): of for name, of in tensors.items() if name.startswith(f"{part}.")}


def _part(path: Path, tensors: dict[str, Tensor], part: str) -> nn.Module:
    build = {"siamese": allconv_of, "squeezenet": squeezenet_of}[part]
    if own := _within(tensors, part):
        return build(own, str(path))
    origin = provenance(path)
    if part not in origin:
        needed = f"copy {path.stem}.json with it, and what that names"
        raise ValueError(f"{path}: holds the memory alone, and nothing beside it tells its {part}; {needed}")
    file = weights_file(origin[part])
    net = build(read_tensors(file), str(file))
    if origin.get(f"{part}_sha") != weights_digest(net):
        raise ValueError(f"{path}: was trained with another {part} than {origin[part]} is now; train it anew")
    return net


def allconv_of(tensors: dict[str, Tensor], name: str) -> AllConv:
    """The Siamese branch with these tensors; width and readings are those of their shapes."""
    try:
        first, pool, last = (tensors[f"backbone.{layer}.0.weight"] for layer in ("conv1", "conv_p1", "conv6"))
    except KeyError as missing:
        raise ValueError(f"{name}: not weights of AllConv: no {missing}") from None
    width, wide = len(first) / 96, tensors["backbone.conv5.0.weight"].shape[0]
    read = (round(len(last) / width), wide // last.shape[1])
    net = AllConv(width, next((k for k, v in CONV6.items() if v == read), "64/2"), pool.shape[1] == 1)
    load_into(net, tensors, name)
    return net.eval()


def memory_of(tensors: dict[str, Tensor], name: str) -> Memory:
    """The LSTM with these tensors, of their sizes."""
    hidden, mean, reads = (tensors.get(k) for k in ("regressor.lstm.weight_hh_l0", "mean", "reads"))
    if hidden is None or mean is None or reads is None:
        raise ValueError(f"{name}: not weights of Memory: no lstm, mean or reads")
    readout, vector = READOUTS[int(reads[0])], VECTORS[int(reads[1])]
    net = Memory(len(mean), hidden.shape[1], readout, vector)
    load_into(net, tensors, name)
    return net.eval()


@dataclass(frozen=True)
class SiaMemoryConfig(SiamFCConfig):
    """SiamFC-3s's constants, and those of the memory."""

    mode: str = "memory"  # "lstm_open_loop": it does not steer the search; "siam_only": it is not asked
    length: int = 6  # T, frames of a window (M4)
    stateful: bool = False  # M4: no windows, one state carried from the first frame on
    steers: str = "centre"  # what the LSTM's box sets for the next search; "box": its size too
    lost: float = 0.2  # tau: below it (after the sigmoid) the Siamese box is not believed

    def __post_init__(self):
        super().__post_init__()
        _check("mode", self.mode, MODES)
        _check("steers", self.steers, ("centre", "box"))
        if self.length < 1 or not 0 <= self.lost <= 1:
            raise ValueError(f"length is 1 or more and lost from 0 to 1, not {self.length} and {self.lost}")


MODES = ("memory", "lstm_open_loop", "siam_only")
SIAMEMORY = SiaMemoryConfig()


@dataclass
class SiaMemoryState(SiamFCState):
    box: Tensor  # (B, 4) the LSTM's last answer, in shares of the frame
    windows: Tensor  # (B, T, 1028) what it has read, the newest last
    carried: Tensor  # (B, 2, hidden) h and c of a stateful memory


class SiaMemoryTracker(SiamFCTracker):
    """Siamese search, and the LSTM's box as answer and as the next search's place."""

    def __init__(
        self,
        net: AllConv,
        squeezenet: SqueezeNet,
        memory: Memory,
        config: SiaMemoryConfig = SIAMEMORY,
        name: str = "siamemory",
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ):
        super().__init__(net, config, name, device, dtype)
        self.squeezenet = folded(squeezenet, dtype).to(self.device)
        self.memory = copy.deepcopy(memory).to(self.device).eval().requires_grad_(False)
        self.vector_name = f"SqueezeNet's {memory.vector}, weights {weights_digest(squeezenet)[:8]}, {dtype}"

    def init(self, frames: Frames, boxes: Tensor) -> SiaMemoryState:
        first = super().init(frames, boxes)
        box = in_shares(boxes, frames.sizes(boxes))
        read = torch.cat([self._vectors(frames), box], 1)
        carried = read.new_zeros(len(read), 2, self.memory.regressor.lstm.hidden_size)
        if self.config.stateful:
            carried = self.memory.step(read, carried)[1]
        windows = read[:, None].repeat(1, self.config.length, 1)
        return SiaMemoryState(**_leaves(first), box=box, windows=windows, carried=carried)

    def track(self, state: SiaMemoryState, frames: Frames) -> tuple[SiaMemoryState, Output]:
        """One frame on. Where the Siamese peak is low the memory reads its own last box, not the measured one."""
        c = self.config
        siamese, output = super().track(state, frames)
        if c.mode == "siam_only":
            return siamese, output
        sizes = frames.sizes(output.boxes)
        lost = torch.sigmoid(output.scores) < c.lost
        measured = torch.where(lost[:, None], state.box, in_shares(output.boxes, sizes))
        read = torch.cat([self._vectors(frames), measured], 1)
        windows, carried = torch.cat([state.windows[:, 1:], read[:, None]], 1), state.carried
        if c.stateful:
            box, carried = self.memory.step(read, carried)
        else:
            box = self.memory(windows)
        output.boxes = in_pixels(box, sizes)
        if c.mode == "memory":
            siamese = replace(siamese, centre=B.centre(output.boxes))
            if c.steers == "box":
                size = output.boxes[:, 2:]
                side = self._bounded(state, B.context_side(size) * SEARCH / EXEMPLAR)
                siamese = replace(siamese, size=size, side=side)
        return replace(siamese, box=box, windows=windows, carried=carried), output

    def _vectors(self, frames: Frames) -> Tensor:
        """cnn_fea of each lane's frame `(B, 1024)`, made once a frame for all lanes that see it."""
        return torch.cat(frames.once(self.vector_name, self._vector))

    def _vector(self, image: Tensor) -> Tensor:
        return self.squeezenet.vector(whole_frame(image), self.memory.vector)


def _leaves(state: SiamFCState) -> dict[str, Tensor]:
    return {f.name: getattr(state, f.name) for f in fields(state)}


def in_shares(boxes: Tensor, sizes: Tensor) -> Tensor:
    """cnn_loc: boxes `(..., 4)` in pixels to cx, cy, w, h in shares of frames of `sizes (..., 2)`."""
    return torch.cat([B.centre(boxes) / sizes, boxes[..., 2:] / sizes], -1)


def in_pixels(shares: Tensor, sizes: Tensor) -> Tensor:
    """The inverse, with the centre in the frame, and at least a pixel and at most the frame large: what an LSTM that
    reads its own answers says knows no such bounds."""
    return B.from_centre(
        shares[..., :2].clamp(0, 1) * sizes, torch.minimum((shares[..., 2:] * sizes).clamp_min(1), sizes)
    )
