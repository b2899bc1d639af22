"""GSTP: Z. Li et al., *Globally spatial-temporal perception: a long-term tracking system* (ICIP 2020).

SiamRCNN looks for the target's likes in the whole of every frame, in two stages as Faster R-CNN does for classes:

    f = W_2 relu(W_1 (phi(x) * RoIAlign(phi(z), box)))     depth-wise correlation, fused                   (Section 2.1)
    L = L_cls^rpn + L_cls^roi + lambda (L_reg^rpn + L_reg^roi)

A motion model, HRNet on the frame and on K maps of where the target was, says where it will be (Section 2.2), and
rescores what SiamRCNN found. The text leaves much open, and there is no release: what is ours carries its number in the
register (G1 to G6 of SPEC, chapter 10).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, inf
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import boxes as B
from .config import bounded
from .nn.checkpoints import load_into, read_tensors, weights_digest, weights_file
from .nn.correlation import correlate_channels
from .nn.hrnet import HRNet
from .nn.resnet import ResNet50
from .nn.roi import anchors, assign, decode, encode, nms, roi_align, sample
from .nn.vgg import MEAN, STD
from .provenance import class_digest, sha256
from .tracker import Frames, Output, State

STRIDE, TEMPLATE = 16, 7  # of the fourth stage's map; cells a side of the template
SIGMA = 3.0  # pixels, of every Gaussian: the paper's
ROI_DEVIATIONS = (0.1, 0.1, 0.2, 0.2)  # mmdetection's, as all that is counted here and the paper does not tell


class SiamRCNN(nn.Module):
    """25,674,876 parameters at width 1 with nine anchors a cell.

    width:  multiplies every channel count
    sizes:  roots of the anchors' areas, in pixels (G1: the sizes of targets in training); ratios: height over width
    pool:   G2, how the fusion map becomes 2048 x 7 x 7: 14, RoIAlign to 14 x 14 and ResNet's last stage; or 7, that
            stage without its stride
    scaled: G3, correlation is the mean over the template's cells, not their sum
    normed: ours, and no parameter more: correlations less their mean and over their deviation (batch norm without gain
            and offset). Features are positive, so that all correlations are, and differ little: without ImageNet's, and
            in as many pairs as we can train on, what follows learns next to nothing from them as they are"""

    def __init__(
        self,
        width: float = 1.0,
        sizes: Sequence[float] = (64, 128, 256),
        ratios: Sequence[float] = (0.5, 1, 2),
        pool: int = 14,
        scaled: bool = True,
        normed: bool = False,
    ):
        super().__init__()
        if pool not in (7, 14):
            raise ValueError(f"RoIs are pooled to 7 or 14 cells, not {pool}")
        if not len(sizes) or not len(ratios) or min(*sizes, *ratios) <= 0:
            raise ValueError(f"anchors want sizes and ratios above 0, not {list(sizes)} and {list(ratios)}")
        self.pool, self.scaled = pool, scaled
        self.register_buffer("sizes", torch.tensor(sizes).float())
        self.register_buffer("ratios", torch.tensor(ratios).float())
        self.register_buffer("reads", torch.tensor([pool, scaled, normed]))
        self.backbone = ResNet50(0, width)
        if pool == 7:
            self.backbone.layer4[0].conv2.stride = self.backbone.layer4[0].downsample[0].stride = (1, 1)
        middle, last = (stage[-1].conv3.out_channels for stage in (self.backbone.layer3, self.backbone.layer4))
        fused = nn.Conv2d(middle, middle, 1), nn.ReLU(inplace=True), nn.Conv2d(middle, middle, 1), nn.ReLU(inplace=True)
        self.norm = nn.BatchNorm2d(middle, affine=False) if normed else nn.Identity()
        self.fusion = nn.Sequential(*fused)
        per_cell = len(sizes) * len(ratios)
        self.rpn_scores, self.rpn_deltas = nn.Conv2d(middle, 2 * per_cell, 1), nn.Conv2d(middle, 4 * per_cell, 1)
        self.roi_scores, self.roi_deltas = nn.Linear(last, 2), nn.Linear(last, 4)

    def initialise(self, generator: torch.Generator) -> SiamRCNN:
        """Backbone and fusion as ResNet's, the rest normal of deviation 0.01, the boxes' last layer 0.001
        (mmdetection's)."""
        self.backbone.initialise(generator)
        for layer in self.fusion[::2]:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
            nn.init.zeros_(layer.bias)
        for layer in (self.rpn_scores, self.rpn_deltas, self.roi_scores, self.roi_deltas):
            nn.init.normal_(layer.weight, 0, 0.001 if layer is self.roi_deltas else 0.01, generator=generator)
            nn.init.zeros_(layer.bias)
        return self

    def template(self, images: Tensor, boxes: Tensor) -> Tensor:
        """What the target `(B, 4)` looks like, `(B, 1024, 7, 7)`, in images `(B, 3, H, W)` in 0..255."""
        return roi_align(self.backbone.trunk(images), boxes[:, None], TEMPLATE, STRIDE)[:, 0]

    def fuse(self, template: Tensor, maps: Tensor) -> Tensor:
        """Where each frame's map `(B, 1024, h, w)` is like the template, and how: `(B, 1024, h, w)`."""
        likeness = correlate_channels(template, maps)
        return self.fusion(self.norm(likeness / TEMPLATE**2 if self.scaled else likeness))

    def propose(self, fused: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of each anchor its box `(N, 4)`, two logits, nothing and target, `(B, N, 2)`, and deltas `(B, N, 4)`."""
        scores, deltas = (
            layer(fused).permute(0, 2, 3, 1).reshape(len(fused), -1, numbers)
            for layer, numbers in ((self.rpn_scores, 2), (self.rpn_deltas, 4))
        )
        at = anchors(*fused.shape[2:], STRIDE, self.sizes.tolist(), self.ratios.tolist()).to(fused.device)
        return at, scores, deltas

    def refine(self, fused: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Logits `(B, K, 2)` and deltas `(B, K, 4)` of boxes `(B, K, 4)`."""
        held = roi_align(fused, boxes, self.pool, STRIDE)
        vectors = self.backbone.layer4(held.flatten(0, 1)).mean((2, 3)).unflatten(0, held.shape[:2])
        return self.roi_scores(vectors), self.roi_deltas(vectors)


def likeliest(
    boxes: Tensor, scores: Tensor, sizes: Tensor, overlap: float, before: int, after: int
) -> tuple[Tensor, Tensor]:
    """The best `after` boxes `(B, after, 4)` of `(B, N, 4)`, and their scores, 0 where there are no more: cut at the
    image, `sizes (B, 2)`, the `before` best of them, less those that overlap a better one."""
    scores, rank = scores.topk(min(before, scores.shape[1]), 1)
    edges = B.corners(boxes.gather(1, rank[..., None].expand(-1, -1, 4)))
    boxes = B.from_corners(edges.clamp_min(0).minimum(sizes.repeat(1, 2)[:, None]))
    scores = scores * (boxes[..., 2:] >= 1).all(-1)
    scores = scores * nms(boxes, scores, overlap)
    scores, rank = F.pad(scores, (0, max(after - scores.shape[1], 0))).topk(after, 1)
    boxes = F.pad(boxes, (0, 0, 0, max(after - boxes.shape[1], 0)))
    return boxes.gather(1, rank[..., None].expand(-1, -1, 4)), scores


def siamrcnn_loss(
    net: SiamRCNN,
    batch: dict[str, Tensor],
    balance: float = 1.0,
    anchors_told: int = 256,
    rois_told: int = 128,
    proposals: int = 300,
    positive: float = 0.7,
) -> Tensor:
    """The paper's loss, of both stages, averaged over the boxes that are told something and over the batch.

    batch: images `z` and `x (B, H, W, 3)`, the target's box in each, `z_box` and `x_box (B, 4)`, in pixels, and how
    much of x is picture, `size (B, 2)`; the rest is padding. balance: the paper's lambda, which it does not give;
    positive: IoU from which an anchor is the target's."""
    z, x = (batch[name].permute(0, 3, 1, 2).float() for name in ("z", "x"))
    fused = net.fuse(net.template(z, batch["z_box"]), net.backbone.trunk(x))
    truth, size = batch["x_box"][:, None], batch["size"]
    at, logits, deltas = net.propose(fused)
    inside = (B.centre(at) < size[:, None]).all(-1)  # not the whole anchor: on a small canvas few large ones are
    labels = torch.where(inside, assign(B.iou(at[None], truth) * inside, positive, 0.3, 0.3), -1)
    told = sample(labels, anchors_told, 0.5)
    first = _stage_loss(logits, deltas, labels, told, encode(at[None], truth), 1 / 9, balance)
    with torch.no_grad():
        boxes = decode(at[None], deltas.float())
        found, _ = likeliest(boxes, logits.float().softmax(-1)[..., 1], size, 0.7, 4 * proposals, proposals)
        found = torch.cat([truth, found], 1)  # the true one among them, as in Fast R-CNN
        empty = (found[..., 2:] < 1).any(-1)
        labels = torch.where(empty, -1, assign(B.iou(found, truth), 0.5, 0.5))
        chosen, which = sample(labels, rois_told, 0.25).float().topk(min(rois_told, found.shape[1]), 1)
        found = found.gather(1, which[..., None].expand(-1, -1, 4))
        labels = torch.where(chosen > 0, labels.gather(1, which), -1)
        wanted = encode(found.clamp_min(1e-3), truth, ROI_DEVIATIONS)
    second = _stage_loss(*net.refine(fused, found), labels, labels >= 0, wanted, 1.0, balance)
    return first + second


def _stage_loss(
    logits: Tensor, deltas: Tensor, labels: Tensor, told: Tensor, wanted: Tensor, beta: float, balance: float
) -> Tensor:
    """Cross-entropy of those that are told, and smooth L1 of the positive ones' deltas, over the number told."""
    kinds = F.cross_entropy(logits.float().flatten(0, 1), labels.clamp_min(0).flatten(), reduction="none")
    errors = F.smooth_l1_loss(deltas.float(), wanted.expand_as(deltas), beta=beta, reduction="none").sum(-1)
    count = told.sum().clamp_min(1)
    errors = torch.where(told & (labels == 1), errors, 0.0)
    return (kinds.view_as(labels) * told).sum() / count + balance * errors.sum() / count


def contrast_loss(net: SiamRCNN, batch: dict[str, Tensor], temperature: float = 0.1) -> Tensor:
    """What the backbone learns first where there is no ImageNet: of all cells of all x, which show the target of z?

    Cross-entropy of the cosines of the target's mean feature with the cells' (InfoNCE, A. van den Oord et al., 2018).
    batch: as in `siamrcnn_loss`, and the number of the `video (B,)` that a pair is from."""
    z, x = (batch[name].permute(0, 3, 1, 2).float() for name in ("z", "x"))
    held = F.normalize(net.template(z, batch["z_box"]).mean((2, 3)).float(), dim=1)
    cells = F.normalize(net.backbone.trunk(x).float(), dim=1)
    alike = torch.einsum("bc,dchw->bdhw", held, cells) / temperature
    rows, columns = (STRIDE * (torch.arange(n, device=x.device) + 0.5) for n in cells.shape[2:])
    middles = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1)
    box, size, own = batch["x_box"][:, None, None], batch["size"][:, None, None], torch.arange(len(z), device=x.device)
    shown = (middles < size).all(-1)
    inside = shown & ((middles - B.centre(box)).abs() <= (box[..., 2:] / 2).clamp_min(STRIDE / 2)).all(-1)
    another = (batch["video"] == batch["video"][:, None]) & (own != own[:, None])  # neither right nor wrong
    left_out = another[..., None, None] | ~shown[None]
    whole = alike.masked_fill(left_out, -inf).flatten(1).logsumexp(1)
    losses = whole - alike[own, own].masked_fill(~inside, -inf).flatten(1).logsumexp(1)
    return losses[inside.flatten(1).any(1)].sum() / len(losses)


class MotionModel(nn.Module):
    """Where the target will be: HRNet on the frame and on a map of each of its last K places (Section 2.2).

    28,535,585 + 576 K parameters. history: K, which the paper does not give (G4); size: width and height of what it
    reads, the whole frame within; base: HRNet's 32 or 48; width: multiplies every channel count"""

    def __init__(self, history: int = 10, size: tuple[int, int] = (384, 288), base: int = 32, width: float = 1.0):
        super().__init__()
        if size[0] % 32 or size[1] % 32:
            raise ValueError(f"the motion model reads multiples of 32 pixels, not {size[0]} x {size[1]}")
        if history < 1:
            raise ValueError(f"the motion model wants a history of one place at least, not {history}")
        self.history, self.size, self.net = history, tuple(size), HRNet(3 + history, 1, base, width)
        self.register_buffer("reads", torch.tensor([history, *size, base]))

    def initialise(self, generator: torch.Generator) -> MotionModel:
        self.net.initialise(generator)
        return self

    def forward(self, images: Tensor, places: Tensor) -> Tensor:
        """Heat maps `(B, height / 4, width / 4)` of images `(B, 3, height, width)` in 0..255, and the centres
        `(B, K, 2)` of the target in the frames before, the oldest first, in pixels of these images."""
        trajectory = gaussians(places, self.size, SIGMA)
        mean, deviation = (images.new_tensor(v)[:, None, None] for v in (MEAN, STD))
        return self.net(torch.cat([(images / 255 - mean) / deviation, trajectory.to(images)], 1))[:, 0]


def gaussians(centres: Tensor, size: tuple[int, int], sigma: float) -> Tensor:
    """Maps `(..., height, width)` that are 1 at centres `(..., 2)` and fall off as a Gaussian; NaN: an empty one. A
    pixel's value is that of its middle."""
    x, y = (torch.arange(n, device=centres.device) + 0.5 for n in size)
    across, down = ((-((at - centres[..., i, None]) ** 2) / (2 * sigma**2)).exp() for i, at in ((0, x), (1, y)))
    return torch.nan_to_num(down[..., :, None] * across[..., None, :])


def motion_loss(net: MotionModel, batch: dict[str, Tensor]) -> Tensor:
    """Mean squared error of the heat map: 1 at the target's centre, a Gaussian of 3 of its own cells, cut at three of
    these, about the cell that it lies in; 0 everywhere where the target is not in the frame.

    batch: images `x (B, height, width, 3)`, places `(B, K, 2)` and the true centre `truth (B, 2)`, NaN for none, all in
    pixels of the images."""
    answer = net(batch["x"].permute(0, 3, 1, 2).float(), batch["places"])
    cell = (batch["truth"] / 4).floor() + 0.5
    wanted = gaussians(cell, (net.size[0] // 4, net.size[1] // 4), SIGMA)
    return (answer.float() - torch.where(wanted < exp(-4.5) - 1e-6, 0.0, wanted)).square().mean()


def rescored(scores: Tensor, likelihood: Tensor, rule: str = "product", least: float = 0.1) -> Tensor:
    """Candidates' scores `(B, N)` with what the motion model thinks of their places `(B, N)`, in 0..1 (G5).

    product: times the likelihood, or `least` where that is more, so that a target may come back anywhere
    convex:  the mean of the score and of its product with the likelihood
    gate:    the score where the likelihood is at least `least`, else a tenth of it
    motion:  an ablation: the likelihood of the candidates, whatever they look like"""
    if rule == "product":
        return scores * likelihood.clamp_min(least)
    if rule == "convex":
        return scores * (1 + likelihood) / 2
    if rule == "motion":
        return (scores > 0) * (likelihood + 1e-6)
    return torch.where(likelihood >= least, scores, 0.1 * scores)


RULES = ("product", "convex", "gate", "motion")


@dataclass(frozen=True)
class GSTPConfig:
    """The paper tells that the frame's size stays the same while a target is tracked, and none of the numbers."""

    target: float = 128.0  # pixels, root of the first target's area in what SiamRCNN reads
    shortest: int = 480  # pixels, bounds of that picture's longer side
    longest: int = 1333
    before: int = 6000  # anchors that go into suppression
    proposals: int = 300  # of them that the second stage looks at
    overlap: float = 0.7  # IoU above which one of two proposals goes
    candidates: int = 20  # that the motion model rescores
    candidate_overlap: float = 0.5
    rule: str = "product"  # G5
    least: float = 0.1  # likelihood of a place where the motion model says nothing
    doubt: float = 0.3  # after `patience` frames whose best score is below it, appearance alone decides
    patience: int = 10
    motion: bool = True  # or SiamRCNN alone
    window: float = 0.0  # an ablation: candidates are so many roots of the last box's area away at most; 0: anywhere

    def __post_init__(self):
        if self.rule not in RULES:
            raise ValueError(f"rule is one of {', '.join(RULES)}, not {self.rule!r}")
        bounded(self, target=(1, inf), shortest=(32, inf), longest=(self.shortest, inf), before=(1, inf))
        bounded(self, proposals=(1, inf), candidates=(1, inf), patience=(0, inf), window=(0, inf))
        bounded(self, overlap=(0, 1), candidate_overlap=(0, 1), least=(0, 1), doubt=(0, 1))


@dataclass
class GSTPState(State):
    template: Tensor  # (B, 1024, 7, 7)
    scale: Tensor  # (B,) pixels read of each pixel of the frame
    places: Tensor  # (B, K, 2) the target's centres, the oldest first, in pixels of the frame
    box: Tensor  # (B, 4)
    doubtful: Tensor  # (B,) frames since the best score was `doubt`


class GSTPTracker:
    """Detect everything like the target, everywhere; rescore by where it should be; take the best."""

    def __init__(
        self,
        siamese: SiamRCNN,
        motion: MotionModel,
        config: GSTPConfig = GSTPConfig(),
        name: str = "gstp",
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ):
        self.name, self.config, self.device, self.dtype = name, config, torch.device(device), dtype
        self.siamese, self.motion = (
            copy.deepcopy(net).to(self.device, dtype, memory_format=torch.channels_last).eval().requires_grad_(False)
            for net in (siamese, motion)
        )
        digest = sha256(weights_digest(siamese), class_digest(SiamRCNN), str(dtype))[:16]
        self.trunk, self.keep_maps = f"SiamRCNN {digest} on {self.device.type}", False

    def init(self, frames: Frames, boxes: Tensor) -> GSTPState:
        root, side = boxes[:, 2:].prod(1).sqrt(), frames.sizes(boxes).amax(1)
        scale = (self.config.target / root).clamp(self.config.shortest / side, self.config.longest / side)
        channels = self.siamese.fusion[0].in_channels
        template = boxes.new_zeros(len(boxes), channels, TEMPLATE, TEMPLATE)
        for size, lanes in _alike(scale, frames).items():
            maps, grown = self._maps(frames.of(lanes), size)
            template[lanes] = roi_align(maps, (boxes[lanes] * grown)[:, None], TEMPLATE, STRIDE)[:, 0].float()
        places = B.centre(boxes)[:, None].repeat(1, self.motion.history, 1)
        return GSTPState(template, scale, places, boxes, torch.zeros_like(scale))

    def track(self, state: GSTPState, frames: Frames) -> tuple[GSTPState, Output]:
        boxes, looks = self.candidates(state, frames)
        if self.config.window:
            away = (B.centre(boxes) - B.centre(state.box)[:, None]).norm(dim=-1)
            looks = looks * (away <= self.config.window * state.box[:, None, 2:].prod(-1).sqrt())
        scores, maps = looks, {}
        if self.config.motion:
            heat, likelihood = self.likelihood(state.places, boxes, frames)
            doubts = (state.doubtful >= self.config.patience)[:, None]
            scores = torch.where(doubts, looks, rescored(looks, likelihood, self.config.rule, self.config.least))
            maps = {"heat map": heat}
        best = scores.argmax(1)[:, None]
        found = looks.gather(1, best)[:, 0] > 0
        box = torch.where(found[:, None], boxes.gather(1, best[..., None].expand(-1, -1, 4))[:, 0], state.box)
        doubtful = torch.where(looks.amax(1) >= self.config.doubt, 0.0, state.doubtful + 1)
        places = torch.cat([state.places[:, 1:], B.centre(box)[:, None]], 1)
        output = Output(box, scores.gather(1, best)[:, 0])
        if self.keep_maps and maps:
            output.maps, output.regions = maps, self.region(frames, box)
        return GSTPState(state.template, state.scale, places, box, doubtful), output

    def _maps(self, frames: Frames, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """The fourth stage's maps of each lane's frame, read at `size`; what boxes of the frame grow by, `(B, 4)`."""

        def trunk(images: list[Tensor]) -> list[Tensor]:
            read = [F.interpolate(i[None].float(), size[::-1], mode="bilinear", antialias=True) for i in images]
            return list(self.siamese.backbone.trunk(torch.cat(read).to(self.dtype)))

        maps = torch.stack(frames.together(f"{self.trunk} at {size[0]} x {size[1]}", trunk))
        sizes = frames.sizes(torch.zeros((), device=self.device))
        return maps, (sizes.new_tensor(size) / sizes).repeat(1, 2)

    def candidates(self, state: GSTPState, frames: Frames) -> tuple[Tensor, Tensor]:
        """The boxes `(B, N, 4)` of each frame that are likest the target, and their scores, 0 where there are no more.

        Lanes whose frames are read at one size go together."""
        c, net = self.config, self.siamese
        boxes = state.box.new_zeros(len(state.box), c.candidates, 4)
        scores = boxes[..., 0].clone()
        for size, lanes in _alike(state.scale, frames).items():
            maps, grown = self._maps(frames.of(lanes), size)
            fused = net.fuse(state.template[lanes].to(maps), maps)
            at, logits, deltas = net.propose(fused)
            limits = boxes.new_tensor([size]).expand(len(lanes), 2)
            first = logits.float().softmax(-1)[..., 1]
            found, sure = likeliest(decode(at, deltas.float()), first, limits, c.overlap, c.before, c.proposals)
            logits, deltas = net.refine(fused, found)
            found = decode(found, deltas.float(), ROI_DEVIATIONS)
            sure = logits.float().softmax(-1)[..., 1] * (sure > 0)
            found, sure = likeliest(found, sure, limits, c.candidate_overlap, c.proposals, c.candidates)
            boxes[lanes], scores[lanes] = found / grown[:, None], sure
        return boxes, scores

    def likelihood(self, places: Tensor, boxes: Tensor, frames: Frames) -> tuple[Tensor, Tensor]:
        """The heat maps `(B, h, w)`, their largest value 1, and what they say of the boxes' centres `(B, N)`."""
        seen = torch.stack(
            frames.once(f"letterboxed at {self.motion.size}", lambda image: letterboxed(image, self.motion.size))
        )
        limits = boxes.new_tensor(self.motion.size)
        region = self.region(frames, boxes)  # the part of the frame, and beyond, that is read
        shrunk = limits / region[:, None, 2:]
        heat = self.motion(seen.to(self.dtype), (places - region[:, None, :2]) * shrunk).float().clamp_min(0)
        heat = heat / heat.amax((1, 2), keepdim=True).clamp_min(1e-6)
        at = 2 * (B.centre(boxes) - region[:, None, :2]) / region[:, None, 2:] - 1
        read = F.grid_sample(heat[:, None], at[:, None], padding_mode="border", align_corners=False)
        return heat, read[:, 0, 0]

    def region(self, frames: Frames, like: Tensor) -> Tensor:
        """What a letterboxed frame shows, as a box of the frame `(B, 4)`."""
        sizes, limits = frames.sizes(like), like.new_tensor(self.motion.size)
        shown = limits * (sizes / limits).amax(1, keepdim=True)
        return torch.cat([(sizes - shown) / 2, shown], 1)


def _alike(scale: Tensor, frames: Frames) -> dict[tuple[int, int], list[int]]:
    """The lanes by the size that their frames are read at."""
    sizes = (frames.sizes(scale) * scale[:, None]).round().int().tolist()
    return {size: [b for b, of in enumerate(sizes) if tuple(of) == size] for size in dict.fromkeys(map(tuple, sizes))}


def letterboxed(image: Tensor, size: tuple[int, int]) -> Tensor:
    """A frame `(3, H, W)` uint8, whole and in its aspect, in the middle of `(3, height, width)`; its mean beside it."""
    share = min(n / of for n, of in zip(size, image.shape[:0:-1], strict=True))
    width, height = (max(round(share * of), 1) for of in image.shape[:0:-1])
    whole = F.interpolate(image[None].float(), (height, width), mode="bilinear", antialias=True)[0]
    canvas = whole.mean((1, 2), keepdim=True).repeat(1, size[1], size[0])
    top, left = (size[1] - height) // 2, (size[0] - width) // 2
    canvas[:, top : top + height, left : left + width] = whole
    return canvas


class GSTP(nn.Module):
    """Both networks, for one file: `siamese` and `motion`."""

    def __init__(self, siamese: SiamRCNN, motion: MotionModel):
        super().__init__()
        self.siamese, self.motion = siamese, motion


def load_siamrcnn(weights: str | Path) -> SiamRCNN:
    """SiamRCNN alone, of a file of its own. Raises FileNotFoundError, and ValueError for another file."""
    path = weights_file(weights)
    tensors = read_tensors(path)
    net = _siamrcnn_of(tensors, path)
    load_into(net, tensors, str(path))
    return net.eval()


def _siamrcnn_of(tensors: dict[str, Tensor], path: Path) -> SiamRCNN:
    """The network that tensors are of, not yet theirs."""
    wanted = ("reads", "sizes", "ratios", "backbone.conv1.weight")
    if not set(wanted) <= set(tensors):
        raise ValueError(f"{path}: not weights of SiamRCNN: one of {', '.join(wanted)} is missing")
    (pool, scaled, normed), sizes, ratios, first = (tensors[name].tolist() for name in wanted)
    return SiamRCNN(len(first) / 64, sizes, ratios, int(pool), bool(scaled), bool(normed))


def _motion_of(tensors: dict[str, Tensor], path: Path) -> MotionModel:
    wanted = ("reads", "net.conv1.weight")
    if not set(wanted) <= set(tensors):
        raise ValueError(f"{path}: not weights of the motion model: one of {', '.join(wanted)} is missing")
    history, width, height, base = tensors["reads"].int().tolist()
    return MotionModel(history, (width, height), base, len(tensors["net.conv1.weight"]) / 64)


def load_gstp(weights: str | Path, seed: int = 0, motion: bool = True) -> GSTP:
    """Both networks of a weights file or shipped name, at the file's own sizes; "random": untrained ones of an eighth
    of the width. Raises FileNotFoundError, and ValueError for another file.

    motion: whether the motion model is wanted; without it a file of SiamRCNN alone, which stage 1 trains, will do."""
    generator = torch.Generator().manual_seed(seed)
    if str(weights) == "random":
        siamese, model = SiamRCNN(1 / 8), MotionModel(width=1 / 8)
        return GSTP(siamese.initialise(generator), model.initialise(generator)).eval()
    path = weights_file(weights)
    tensors = read_tensors(path)
    if not motion and "backbone.conv1.weight" in tensors:
        siamese = _siamrcnn_of(tensors, path)
        load_into(siamese, tensors, str(path))
        return GSTP(siamese, MotionModel(width=1 / 16).initialise(generator)).eval()
    siamese, model = (
        {name.removeprefix(f"{part}."): tensor for name, tensor in tensors.items() if name.startswith(f"{part}.")}
        for part in ("siamese", "motion")
    )
    if not siamese or not model:
        what = "not weights of GSTP, which are both networks, `siamese.` and `motion.`, in one file"
        alone = " (SiamRCNN's alone: --tracker siamrcnn)" if "backbone.conv1.weight" in tensors else ""
        raise ValueError(f"{path}: {what}{alone}")
    net = GSTP(_siamrcnn_of(siamese, path), _motion_of(model, path))
    load_into(net, tensors, str(path))
    return net.eval()
