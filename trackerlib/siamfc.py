"""SiamFC: tracking by similarity learning with a fully-convolutional Siamese network.

Paper: "Implementation of Fully-Convolutional Siamese Networks for Object Tracking", a re-implementation report of
Bertinetto et al., "Fully-Convolutional Siamese Networks for Object Tracking" (2016). Where the report is silent the
released code bertinetto/siamese-fc decides, and huanglianghua/siamfc-pytorch where it differs by a named switch.

    f(z, x) = g(phi(z), phi(x)) = s * (phi(z) cross-correlated with phi(x)) + b

The exemplar z (127 x 127) is embedded once; each frame's search image x (255 x 255, the target's previous place) is
embedded at several scales; the peak of the 17 x 17 score map is the displacement.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import boxes as B
from .config import bounded
from .images import context_crops, mean_colour
from .nn.checkpoints import load_into, read_tensors, weights_file
from .nn.correlation import correlate_scales
from .tracker import Frames, Output, State, lane_by_lane

EXEMPLAR, SEARCH, STRIDE = 127, 255, 8  # Table I


def _layer(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, pool: bool = False
) -> nn.Sequential:
    """Convolution without padding, batch norm, ReLU and, after the first two, max pooling."""
    layer = [
        nn.Conv2d(inputs, outputs, kernel, stride, groups=groups),
        nn.BatchNorm2d(outputs, eps=1e-6, momentum=0.05),
        nn.ReLU(inplace=True),
    ]
    return nn.Sequential(*layer, nn.MaxPool2d(3, 2)) if pool else nn.Sequential(*layer)


class SiamFC(nn.Module):
    """The embedding phi and the score f(z, x); 2,336,320 parameters and the bias b at width 1.

    Table I's channel maps (96x3, 256x48, 384x256, 384x192, 256x192) imply groups 1, 2, 1, 2, 2. The text says batch
    norm in each layer; the released network has none after conv5, nor a ReLU there.

    width:     multiplies every channel count (0.25 is the shipped small network)
    bias:      learn b (S4; siamfc-pytorch has none)
    Parameter names are those of siamfc-pytorch (`backbone.conv1.0.weight`), so its checkpoints load as they are.
    """

    def __init__(self, width: float = 1.0, bias: bool = True):
        super().__init__()
        c1, c2, c3, c4, c5 = (round(n * width) for n in (96, 256, 384, 384, 256))
        self.width = width
        self.backbone = nn.Sequential()
        self.backbone.conv1 = _layer(3, c1, 11, stride=2, pool=True)
        self.backbone.conv2 = _layer(c1, c2, 5, groups=2, pool=True)
        self.backbone.conv3 = _layer(c2, c3, 3)
        self.backbone.conv4 = _layer(c3, c4, 3, groups=2)
        self.backbone.conv5 = nn.Sequential(nn.Conv2d(c4, c5, 3, groups=2))
        self.register_buffer("scale", torch.tensor(1e-3), persistent=False)  # s is fixed: it only conditions the loss
        self.bias = nn.Parameter(torch.zeros(()), requires_grad=bias)

    def initialise(self, generator: torch.Generator) -> SiamFC:
        """N(0, 2 / (k k out)) weights and zero biases ("improved Xavier", fan-out form), from the given generator."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
                nn.init.zeros_(module.bias)
        return self

    def embed(self, images: Tensor) -> Tensor:
        """phi: `(B, 3, H, W)` RGB in 0..255 to `(B, 256, h, w)`; 127 to 6, 255 to 22, 239 to 20."""
        return self.backbone(images)

    def layers(self, images: Tensor, tap: str = "relu") -> dict[str, Tensor]:
        """conv4, `(B, 384, h + 2, w + 2)`, and conv5 = phi; tap: conv4 after its "relu", or before it ("linear")."""
        before = self.backbone.conv4[:2](self.backbone[:3](images))
        conv4 = before.relu()
        return {"conv4": conv4 if tap == "relu" else before, "conv5": self.backbone.conv5(conv4)}

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        """Score maps `(B, 1, h, w)` of exemplars `(B, 3, 127, 127)` and search images `(B, 3, 255, 255)`."""
        z, x = self.embed(z).float(), self.embed(x).float()
        with torch.autocast(z.device.type, enabled=False):  # 9216 products a cell: summed in float32
            return self.scale * correlate_scales(z, x) + self.bias


def load_siamfc(weights: str | Path, seed: int = 0) -> SiamFC:
    """The network of a weights file or shipped name, at the file's own width; "random" is an untrained one."""
    if str(weights) == "random":
        return SiamFC().initialise(torch.Generator().manual_seed(seed)).eval()
    path = weights_file(weights)
    tensors = read_tensors(path)
    first = tensors.get("backbone.conv1.0.weight")
    if first is None or first.ndim != 4:
        raise ValueError(f"{path}: not weights of SiamFC: no convolution backbone.conv1.0.weight")
    net = SiamFC(width=len(first) / 96)
    load_into(net, tensors, str(path), optional=("bias",))
    return net.eval()


def folded(net: nn.Module, dtype: torch.dtype = torch.float32) -> nn.Module:
    """A copy for inference: batch norm folded into the convolutions, channels-last, layers in `dtype`.

    gamma (W x + c - mean) / sigma + beta = (gamma / sigma) W x + (gamma (c - mean) / sigma + beta)."""
    net = copy.deepcopy(net).eval().requires_grad_(False)
    for layer in [module for module in net.modules() if isinstance(module, nn.Sequential)]:
        if isinstance(layer[1] if len(layer) > 1 else None, nn.BatchNorm2d):
            layer[0], layer[1] = nn.utils.fuse_conv_bn_eval(layer[0], layer[1]), nn.Identity()
    for part in net.children():  # what stands beside them, as the score's scale and bias, stays as it is
        part.to(dtype=dtype, memory_format=torch.channels_last)
    return net


def labels(
    size: int, radius: float = 16, device: torch.device | str = "cpu", shift: Tensor | float = 0.0
) -> tuple[Tensor, Tensor]:
    """`y[u] = +1 if 8 |u - c| <= radius else -1` and balanced weights, each `(size, size)`.

    At radius 16 these are 13 positives; positives and negatives weigh 1/2 each, whatever their number. shift: of c from
    the middle, in pixels of the search image: one number, or `(B, 2)` x, y for maps `(B, size, size)`."""
    at = (torch.arange(size, device=device) - (size - 1) / 2) * STRIDE - torch.as_tensor(shift, device=device)[
        ..., None
    ]
    x, y = at.broadcast_to(*at.shape[:-2], 2, size).unbind(-2)
    positive = (y[..., :, None] ** 2 + x[..., None, :] ** 2).sqrt() <= radius
    weights = torch.where(positive, 0.5 / _count(positive), 0.5 / _count(~positive))
    return positive * 2.0 - 1.0, weights


def _count(cells: Tensor) -> Tensor:
    return cells.sum((-1, -2), keepdim=True)


def logistic_loss(scores: Tensor, y: Tensor, weights: Tensor) -> Tensor:
    """`L = sum_u w[u] log(1 + exp(-y[u] v[u]))`, averaged over the batch of score maps `(..., h, w)`."""
    return (F.softplus(-y * scores) * weights).sum((-1, -2)).mean()


def pair_loss(net: SiamFC, batch: dict[str, Tensor]) -> Tensor:
    """Loss of a batch of pairs: `z (B, 127, 127, 3)` and `x (B, 239, 239, 3)` uint8, as the sampler gives them."""
    z, x = (batch[k].permute(0, 3, 1, 2).float() for k in "zx")  # channels-last already
    scores = net(z, x)
    return logistic_loss(scores, *labels(scores.shape[-1], device=scores.device))


@dataclass(frozen=True)
class SiamFCConfig:
    """Tracking constants of siamese-fc's released tracker; `SIAMFC_5S` holds its five-scale file (params-5s)."""

    scales: int = 3
    step: float = 1.0375  # ratio of neighbouring scales
    penalty: float = 0.9745  # on the peak of every scale but the middle one
    scale_lr: float = 0.59
    window: float = 0.176  # weight of the cosine window
    upsample: int = 16  # 17 x 17 to 272 x 272, bicubic
    displacement: str = "matlab"  # S2: by the rounded search side, unscaled; "pytorch": by the chosen scale's
    smallest: float = 0.2  # bounds of the search side, in units of the first
    largest: float = 5.0

    def __post_init__(self):
        bounded(
            self, ("step", "penalty", "smallest"), scales=(1, inf), upsample=(1, inf), scale_lr=(0, 1), window=(0, 1)
        )
        bounded(self, smallest=(0, 1), largest=(1, inf))
        if self.scales % 2 == 0:
            raise ValueError(f"scales are an odd number, the middle one unchanged, not {self.scales}")
        if self.displacement not in ("matlab", "pytorch"):
            raise ValueError(f"displacement is 'matlab' or 'pytorch', not {self.displacement!r}")


SIAMFC_3S = SiamFCConfig()
SIAMFC_5S = SiamFCConfig(scales=5, step=1.0255, penalty=0.962, scale_lr=0.34, window=0.168)
SIAMFC_5S_PAPER = SiamFCConfig(scales=5, step=1.025, penalty=0.962, scale_lr=0.35, window=0.168)  # S1, as printed
SIAMFC_3S_PYTORCH = SiamFCConfig(displacement="pytorch")  # S2


@dataclass
class SiamFCState(State):
    """Per lane: template `(B, C, 6, 6)`, fill colour `(B, 3)`, centre and size `(B, 2)`, search side and first side
    `(B,)`, all in frame pixels."""

    template: Tensor
    fill: Tensor
    centre: Tensor
    size: Tensor
    side: Tensor
    first_side: Tensor


class SiamFCTracker:
    """The report's online phase: five scales ("SiamFC") or three ("SiamFC-3s"), no update of the template.

    fold: track with an inference copy of the network; without it gradients reach the network itself."""

    def __init__(
        self,
        net: SiamFC,
        config: SiamFCConfig = SIAMFC_3S,
        name: str = "siamfc-3s",
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        fold: bool = True,
    ):
        self.name, self.config, self.device, self.dtype = name, config, torch.device(device), dtype
        self.net = (folded(net, dtype) if fold else net).to(self.device)
        self.keep_maps = False
        self.cells = (SEARCH - 87) // STRIDE + 1 - 5  # 17: receptive field 87, template of 6
        up = self.cells * config.upsample
        # Bicubic upsampling of one axis as a matrix `(272, 17)`: two products are ten times as fast as the resampling.
        cells = torch.eye(self.cells)[None, None]
        self.finer = F.interpolate(cells, scale_factor=(config.upsample, 1), mode="bicubic")[0, 0].to(self.device)
        hann = torch.hann_window(up, periodic=False)
        self.hann = (hann[:, None] * hann / hann.sum() ** 2).to(self.device)
        exponents = torch.arange(config.scales) - config.scales // 2
        self.factors = (config.step**exponents).to(self.device)
        self.penalties = torch.where(exponents == 0, 1.0, config.penalty).to(self.device)

    def init(self, frames: Frames, boxes: Tensor) -> SiamFCState:
        """Embed the exemplars; boxes `(B, 4)`."""
        centre, size = B.centre(boxes), boxes[:, 2:]
        side, fill = B.context_side(size), mean_colours(frames)
        template = self._features(frames, centre, side.round()[:, None], EXEMPLAR, fill)["conv5"]
        search = side * SEARCH / EXEMPLAR
        return SiamFCState(template, fill, centre, size, search, search.clone())

    def track(self, state: SiamFCState, frames: Frames) -> tuple[SiamFCState, Output]:
        """One frame on: search at every scale around the last place, keep the best."""
        sides = (state.side[:, None] * self.factors).round()
        x = self._features(frames, state.centre, sides, SEARCH, state.fill)
        response = self.respond(state.template, x["conv5"])
        best, centre, score = self.locate(state, response)
        size, side = self.damped(state, self.factors[best])
        output = Output(B.from_centre(centre, size), score)
        if self.keep_maps:
            output.maps, output.regions = self._shown(state, best, {"response": response})
        return replace(state, centre=centre, size=size, side=side), output

    def respond(self, template: Tensor, x: Tensor) -> Tensor:
        """Score maps `(B, S, 17, 17)` of templates `(B, C, 6, 6)` and features `(B * S, C, 22, 22)`."""
        return self.net.scale * correlate_scales(template.float(), x.float()) + self.net.bias

    def locate(self, state: State, response: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of the response `(B, S, 17, 17)`: the best scale's index `(B,)`, the new centre `(B, 2)`, the peak `(B,)`."""
        c, up = self.config, self.config.upsample
        fine = self.finer @ response @ self.finer.T
        peaks = fine.flatten(2).amax(2)
        best = (peaks * self.penalties).argmax(1)
        lanes = torch.arange(len(best), device=best.device)

        chosen = fine[lanes, best]  # (B, 272, 272); the next line cancels any penalty on it
        chosen = chosen - chosen.amin((1, 2), keepdim=True)
        total = chosen.sum(2).sum(1)  # row by row: one sum over both is split otherwise for one lane than for many
        chosen = chosen / total.clamp_min(1e-12)[:, None, None]
        flat = ((1 - c.window) * chosen + c.window * self.hann).flatten(1).argmax(1)
        at = torch.stack([flat % chosen.shape[-1], flat // chosen.shape[-1]], 1)

        if c.displacement == "matlab":  # tracker.m: the search side before this frame's scale; centre ceil(272 / 2)
            offset, side = at - (chosen.shape[-1] // 2 - 1), state.side.round()
        else:
            offset, side = at - (chosen.shape[-1] - 1) / 2, state.side * self.factors[best]
        return best, state.centre + offset * (STRIDE / up) * (side / SEARCH)[:, None], peaks[lanes, best]

    def damped(self, state: State, factor: Tensor) -> tuple[Tensor, Tensor]:
        """Target size `(B, 2)` and search side `(B,)` after the scales `factor (B,)` were found."""
        damped = (1 - self.config.scale_lr) + self.config.scale_lr * factor
        return state.size * damped[:, None], self._bounded(state, state.side * damped)

    def _bounded(self, state: State, side: Tensor) -> Tensor:
        return side.clamp(self.config.smallest * state.first_side, self.config.largest * state.first_side)

    def _shown(self, state: State, best: Tensor, maps: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        """Of maps `(B, S, 17, 17)` those of the chosen scale, and the region `(B, 4)` that they cover."""
        lanes, side = torch.arange(len(best), device=best.device), state.side * self.factors[best]
        chosen = {name: of[lanes, best] for name, of in maps.items()}
        return chosen, B.from_centre(state.centre, side[:, None].expand(-1, 2))

    def embed(self, crops: Tensor) -> dict[str, Tensor]:
        """The features that this tracker compares, by layer."""
        return {"conv5": self.net.embed(crops)}

    def _features(
        self, frames: Frames, centre: Tensor, sides: Tensor, out: int, fill: Tensor, mask: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Features `(B * S, C, h, w)` by layer of the crops at sides `(B, S)`; mask `(B, out, out)` multiplies them.

        A GPU cuts all crops of an image by one call and embeds all at once. A CPU goes lane by lane: twelve crops
        outgrow its cache and cost a third more, and so a lane's bits do not depend on what stands beside it."""
        scales = sides.shape[1]

        def crops(image: Tensor, lanes: list[int]) -> Tensor:
            centres = centre[lanes].repeat_interleave(scales, 0)
            colours = fill[lanes].repeat_interleave(scales, 0)
            cut = context_crops(image, centres, sides[lanes].flatten(), out, colours)
            if mask is not None:
                cut = cut * mask[lanes].repeat_interleave(scales, 0)[:, None]
            return cut.to(self.dtype, memory_format=torch.channels_last)

        if self.device.type == "cpu":
            alone = lambda b: self.embed(crops(frames.images[frames.lane[b]], [b]))  # noqa: E731
            return joined(lane_by_lane(alone, len(frames.lane)))
        groups = list(frames.by_image())
        embedded = self.embed(torch.cat([crops(image, lanes) for image, lanes in groups]))
        order = torch.tensor([b for _, lanes in groups for b in lanes]).argsort().tolist()
        return {layer: x.unflatten(0, (len(order), -1))[order].flatten(0, 1) for layer, x in embedded.items()}


def joined(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Lanes one after the other, of dicts with the same names."""
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def mean_colours(frames: Frames) -> Tensor:
    """The mean colour `(B, 3)` of each lane's image."""
    means = [mean_colour(image) for image in frames.images]
    return torch.stack([means[u] for u in frames.lane])
