"""DSiam: a Siamese network whose two branches are transformed online, by regressions solved in the Fourier domain.

Paper: Guo et al., "Learning Dynamic Siamese Network for Visual Object Tracking" (ICCV 2017). Where it is silent or
inconsistent the released code tsingqguo/DSiam decides (tracking only; it has no training), by named switches.

    S_t^l = corr(V_{t-1}^l * f^l(O_1),  W_{t-1}^l * f^l(Z_t)),       S_t = sum_l Y^l o S_t^l            (2), (9)

V takes the features of the first target O_1 towards those of its last appearance O_{t-1}; W takes those of the last
search region G_{t-1} towards the same with the background dimmed. Both are ridge regressions, each channel on its own
(Eqs. 3 to 8), learned anew in each frame. l runs over conv5 (DSiam) or conv5 and conv4 (DSiamM); the fusion maps Y and
the regularisation lambda are learned by joint training on clips.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import boxes as B
from .nn.checkpoints import load_into, provenance, read_tensors, weights_digest, weights_file
from .nn.correlation import correlate_scales
from .nn.fourier import Regress, regress
from .siamfc import (
    EXEMPLAR,
    SEARCH,
    SiamFC,
    SiamFCConfig,
    SiamFCTracker,
    joined,
    labels,
    load_siamfc,
    logistic_loss,
    mean_colours,
)
from .tracker import Frames, Output, State, lane_by_lane

CELLS = 17  # of a response, a side


class DSiam(nn.Module):
    """What is learned offline: the features f, lambda_v and lambda_w of each layer, and the fusion maps.

    base:     the feature network, by its method `layers`: a `SiamFC`, or a VGG-19 (DSiamM_Vgg19)
    layers:   the first one's map weighs 1 before training, the others' 0 (Section 3.6, Initialization)
    lambda_v, lambda_w: initial values, the release's
    gain:     what the sum of correlations is multiplied by, before the base's bias; default the base's `scale`
    2,336,321 + 2 parameters with one layer of SiamFC, 2,336,321 + 4 + 289 with two. Batch norm keeps its statistics."""

    def __init__(
        self,
        base: nn.Module,
        layers: tuple[str, ...] = ("conv5",),
        lambda_v: float = 1e-5,
        lambda_w: float = 10.0,
        gain: float | None = None,
    ):
        super().__init__()
        self.base, self.layers, self.gain = base, layers, float(base.scale) if gain is None else gain
        self.rho_v, self.rho_w = (nn.Parameter(_inverse_softplus(w, len(layers))) for w in (lambda_v, lambda_w))
        first = torch.arange(len(layers) - 1).eq(0).float()
        self.free = nn.Parameter(first[:, None, None].repeat(1, CELLS, CELLS))

    @property
    def lambda_v(self) -> Tensor:
        """`(L,)`, kept positive: softplus(rho)."""
        return F.softplus(self.rho_v)

    @property
    def lambda_w(self) -> Tensor:
        return F.softplus(self.rho_w)

    @property
    def weights(self) -> Tensor:
        """The fusion maps `(L, 17, 17)`: all but the last are free, the last is what they lack to 1 (Eq. 9)."""
        return torch.cat([self.free, 1 - self.free.sum(0, keepdim=True)])

    def train(self, mode: bool = True) -> "DSiam":
        super().train(mode)
        self.base.eval()  # a clip's ten frames are no sample of the world
        return self


def _inverse_softplus(value: float, count: int) -> Tensor:
    if value <= 0:
        raise ValueError(f"lambda is above 0, not {value}")
    return torch.full((count,), value, dtype=torch.float64).expm1().log().float()


def load_dsiam(weights: str | Path, layers: tuple[str, ...] = ("conv5",), seed: int = 0) -> DSiam:
    """The network of DSiam (`layers` of one) or DSiamM (of two).

    weights: what joint training made: a file of `DSiam`, with the features in it, or without them and their SiamFC
             named as `base` in its provenance, with its digest; or weights of SiamFC, all else as before training."""
    tensors = {} if str(weights) == "random" else read_tensors(weights_file(weights))
    if "rho_v" not in tensors:
        return DSiam(load_siamfc(weights, seed), layers).eval()
    path, width = weights_file(weights), tensors.get("base.backbone.conv1.0.weight")
    base = SiamFC(len(width) / 96) if width is not None else _base(path)
    net = DSiam(base, layers)
    if len(tensors["rho_v"]) != len(layers):
        of = ("dsiam", "dsiamm")[len(tensors["rho_v"]) - 1 : len(tensors["rho_v"])]
        raise ValueError(f"{path}: trained for {len(tensors['rho_v'])} layers, want {len(layers)}: use {', '.join(of)}")
    kept = {} if width is not None else {f"base.{k}": v for k, v in base.state_dict().items()}
    load_into(net, kept | tensors, str(path))
    return net.eval()


def _base(path: Path) -> SiamFC:
    """The SiamFC that a file of DSiam without features was trained on."""
    origin = provenance(path)
    if "base" not in origin:
        raise ValueError(f"{path}: holds no features, and no {path.stem}.json beside it names their SiamFC as `base`")
    base = load_siamfc(origin["base"])
    if origin.get("base_sha", weights_digest(base)) != weights_digest(base):
        raise ValueError(f"{path}: was trained on other weights than {origin['base']} are now; train it anew")
    return base


@dataclass(frozen=True)
class DSiamConfig(SiamFCConfig):
    """Tracking constants of the release, and the switches of its ablations (Figure 9)."""

    template: str = "variation"  # V * F_1; "first": F_1 (-VT); "previous": F_{t-1} (withFrame(t-1))
    suppression: bool = True  # W; without it: -BS
    fusion: str = "learned"  # "fixed": the first layer weighs fixed_weight everywhere (fixedFusionWeight)
    fixed_weight: float = 0.8  # conv5-4 against conv4-4 in the release's VGG19
    eta_v: float = 0.49  # D3: blending rates of V and W; as printed: 1
    eta_w: float = 0.29
    taper: bool = True  # D3: features under a Hann window in the regression; as printed: none
    cells: bool = True  # D3: lambda counts for each cell, N lambda in Eq. 4; as printed: lambda
    saliency: str = "code"  # D4: Hamming x Hann window; "gaussian": sigma of a quarter of the region
    tap: str = "relu"  # D5: conv4 after its ReLU; "linear": before
    surroundings: str = "searched"  # G_t: the search image of the scale found; "centred": cut anew around the target
    threshold: float = 0.0  # on the peak: above it the frame succeeded
    grow: float = 1.1  # of the search side after a failure
    recentre: int = 0  # after so many frames outside the image (release: 2) the search returns to its middle; 0: never
    gradient: str = "autograd"  # D2; "exact": the written-out gradients of nn.fourier.Regress

    def __post_init__(self):
        super().__post_init__()
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is one of {', '.join(map(repr, known))}, not {getattr(self, name)!r}")
        for name in ("eta_v", "eta_w", "fixed_weight"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share, from 0 to 1, not {getattr(self, name)}")
        if self.recentre < 0 or self.grow < 1:
            raise ValueError(f"recentre is 0 or more and grow 1 or more, not {self.recentre} and {self.grow}")


CHOICES = {
    "template": ("variation", "first", "previous"),
    "fusion": ("learned", "fixed"),
    "saliency": ("code", "gaussian"),
    "tap": ("relu", "linear"),
    "surroundings": ("searched", "centred"),
    "gradient": ("autograd", "exact"),
}
DSIAM = DSiamConfig()
DSIAM_RELEASE = DSiamConfig(surroundings="centred", recentre=2)
DSIAM_PRINTED = DSiamConfig(  # pure Eqs. 6 and 8, and the Gaussian that the text tells of
    eta_v=1.0, eta_w=1.0, taper=False, cells=False, saliency="gaussian", surroundings="centred"
)
DSIAM_VGG19 = DSiamConfig(scale_lr=0.58, fusion="fixed")


def saliency(kind: str, shift: Tensor, size: int = SEARCH) -> Tensor:
    """The weights `(B, size, size)`, 1 at most, that make G-bar of G (the "Gaussian weight map").

    shift: `(B, 2)` x, y of the target from the middle, in pixels of G.
    "code": the release multiplies its Gaussian, of sigma 12,700 pixels and so flat, by a Hamming window down and a Hann
    window across. "gaussian": sigma of a quarter of the size."""
    at = torch.arange(size, device=shift.device) - (size - 1) / 2 - shift[..., None]  # (B, 2, size)
    if kind == "gaussian":
        across, down = torch.exp(-0.5 * (at / (size / 4)).square()).unbind(1)
    else:
        wave, inside = torch.cos(2 * torch.pi * at / (size - 1)), at.abs() <= (size - 1) / 2
        hann, hamming = (inside * (a + (1 - a) * wave) for a in (0.5, 0.54))
        across, down = hann[:, 0], hamming[:, 1]
    return down[:, :, None] * across[:, None, :]


Features = dict[str, Tensor]  # by layer


@dataclass
class DSiamState(State):
    """Per lane, in frame pixels where lengths are meant.

    first, last `(B, C, 6, 6)`:        F_1, and F_{t-1}: of the target
    region, salient `(B, C, 22, 22)`:  F_G and F_Gbar of frame t-1
    on, failed `(B,)`:                 1 where V and W are in use; where the last frame failed
    outside `(B,)`:                    frames that left the image since the last return to its centre
    shrink `(B,)`:                     of the target's size where its context is measured"""

    first: Features
    last: Features
    region: Features
    salient: Features
    on: Tensor
    failed: Tensor
    outside: Tensor
    shrink: Tensor
    fill: Tensor
    centre: Tensor
    size: Tensor
    side: Tensor
    first_side: Tensor


class DSiamTracker(SiamFCTracker):
    """SiamFC's online phase (Section 3.6, Tracking algorithm) with V and W learned after each frame that succeeds.

    net is a `DSiam`, the rest as in `SiamFCTracker`."""

    config: DSiamConfig

    def __init__(
        self,
        net: DSiam,
        config: DSiamConfig = DSIAM,
        name: str = "dsiam",
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        fold: bool = True,
    ):
        super().__init__(net.base, config, name, device, dtype, fold)
        self.dynamic = net.to(self.device)
        self.regress: Callable[..., Tensor] = Regress.apply if config.gradient == "exact" else regress
        with torch.no_grad():
            black = torch.zeros(1, 3, SEARCH, SEARCH, device=self.device, dtype=dtype)
            self.searched = {layer: x.shape[-2:] for layer, x in self.embed(black).items()}

    def embed(self, crops: Tensor) -> Features:
        features = self.net.layers(crops, self.config.tap)
        return {layer: features[layer].float() for layer in self.dynamic.layers}

    def init(self, frames: Frames, boxes: Tensor) -> DSiamState:
        """Features of the first target; V_0 and W_0 are "empty": off."""
        centre, size = B.centre(boxes), boxes[:, 2:]
        shrink = torch.where(size[:, 1] > 2 * size[:, 0], 0.98, 1.0)
        side, fill = B.context_side(size * shrink[:, None]), mean_colours(frames)
        first = self._features(frames, centre, side.round()[:, None], EXEMPLAR, fill)
        empty = {layer: z.new_zeros(*z.shape[:2], *self.searched[layer]) for layer, z in first.items()}
        off, search = torch.zeros_like(side), side * SEARCH / EXEMPLAR
        last, region, salient = ({k: v.clone() for k, v in x.items()} for x in (first, empty, empty))
        geometry = (fill, centre, size, search, search.clone())
        return DSiamState(first, last, region, salient, off, off.clone(), off.clone(), shrink, *geometry)

    def track(self, state: DSiamState, frames: Frames) -> tuple[DSiamState, Output]:
        """One frame on: search with V and W of the last frame, then learn those of this one."""
        sides = (state.side[:, None] * self.factors).round()
        x = self._features(frames, state.centre, sides, SEARCH, state.fill)
        maps = self.respond(state, x)
        best, centre, score = self.locate(state, maps["response"])
        factor, lanes = self.factors[best], torch.arange(len(best), device=best.device)
        region = {layer: f.unflatten(0, (len(best), -1))[lanes, best] for layer, f in x.items()}
        learned = self.observe(state, frames, region, centre, (state.side * factor).round())
        new = replace(self._moved(state, frames, centre, factor, score > self.config.threshold), **learned)
        output = Output(B.from_centre(new.centre, new.size), score)
        if self.keep_maps:
            if not torch.is_grad_enabled():  # training has no use for it
                maps["static"] = self.respond(replace(state, on=torch.zeros_like(state.on)), x)["response"]
            output.maps, output.regions = self._shown(state, best, maps)
        return new, output

    def respond(self, state: DSiamState, x: Features) -> Features:
        """Eqs. 2 and 9: maps `(B, S, 17, 17)`, one a layer and the fused "response", of features `(B * S, C, h, w)`."""
        if self.device.type != "cpu":
            return self._respond(state, x)
        scales = len(next(iter(x.values()))) // len(state.on)
        part = lambda b: {layer: f[b * scales : (b + 1) * scales] for layer, f in x.items()}  # noqa: E731
        return joined(lane_by_lane(lambda b: self._respond(state.lane(b), part(b)), len(state.on)))

    @torch.autocast("cpu", enabled=False)
    @torch.autocast("cuda", enabled=False)  # thousands of products a cell: summed in float32, as in SiamFC
    def _respond(self, state: DSiamState, x: Features) -> Features:
        net, maps = self.dynamic, {}
        for layer, lambda_v, lambda_w in zip(net.layers, net.lambda_v, net.lambda_w, strict=True):
            z = self.template(state, layer, lambda_v)
            scales = x[layer].unflatten(0, (len(z), -1))
            if self.config.suppression:
                learned = (state.region[layer][:, None], state.salient[layer][:, None])
                scales = self._transformed(scales, *learned, lambda_w, self.config.eta_w * state.on)
            maps[layer] = _upsampled(correlate_scales(z, scales.flatten(0, 1)))
        fused = sum(w * score for w, score in zip(self._fusion(), maps.values(), strict=True))
        bias = getattr(net.base, "bias", 0.0)
        return {layer: net.gain * score for layer, score in maps.items()} | {"response": net.gain * fused + bias}

    def template(self, state: DSiamState, layer: str, lambda_v: Tensor) -> Tensor:
        """The first template as this frame sees it: Eqs. 5 and 6, or what the ablations put in their place."""
        first, last = state.first[layer], state.last[layer]
        if self.config.template == "first":
            return first
        if self.config.template == "previous":
            return torch.where(state.on[:, None, None, None] > 0, last, first)
        return self._transformed(first, first, last, lambda_v, self.config.eta_v * state.on)

    def _transformed(self, signal: Tensor, x: Tensor, y: Tensor, ridge: Tensor, eta: Tensor) -> Tensor:
        """`(1 - eta) s + eta R * (h s)`, R the regression from `h x` to `h y` by lambda = `ridge`, h the Hann window;
        eta `(B,)`."""
        if self.config.cells:
            ridge = ridge * signal.shape[-2:].numel()
        tapered = map(self._tapered, (signal, x, y))
        learned = self.regress(*tapered, ridge)
        return torch.lerp(signal, learned, eta.reshape(-1, *[1] * (signal.ndim - 1)))

    def _tapered(self, x: Tensor) -> Tensor:
        if self.config.taper:
            x = x * _hann(*x.shape[-2:], x.device)
        return x.contiguous()  # a transform of channels-last features takes twice as long

    def _fusion(self) -> Tensor:
        """The fusion maps `(L, 17, 17)`."""
        if self.config.fusion == "learned":
            return self.dynamic.weights
        first, others = self.config.fixed_weight, len(self.dynamic.layers) - 1
        share = [first, *[(1 - first) / others] * others] if others else [1.0]
        return torch.tensor(share, device=self.device)[:, None, None]

    def observe(
        self, state: DSiamState, frames: Frames, region: Features, centre: Tensor, side: Tensor
    ) -> dict[str, Features]:
        """What V and W of the next frame are learned from: F_t (`last`), F_G (`region`) and F_Gbar (`salient`).

        region: features of the search image of the scale found, of this side `(B,)`; centre: where the target is in the
        frame. A regression does not change when both its sides are shifted alike (circularly), so G is not cut around
        the target anew: it is the search image, with the saliency where the target is. That saves one pass of the
        network of five. It is an approximation where the target moved: the window of the regression stays in the
        middle, and other background lies at the border. The release's way is `surroundings="centred"`."""
        c, learned = self.config, {}
        if c.suppression:
            middle = state.centre if c.surroundings == "searched" else centre
            if c.surroundings == "centred":
                region = self._features(frames, centre, side[:, None], SEARCH, state.fill)
            mask = saliency(c.saliency, (centre - middle) * (SEARCH / side)[:, None])
            salient = self._features(frames, middle, side[:, None], SEARCH, state.fill, mask)
            learned = {"region": region, "salient": salient}
        if c.template != "first":
            own = B.context_side(state.size * state.shrink[:, None]).round()
            learned["last"] = self._features(frames, centre, own[:, None], EXEMPLAR, state.fill)
        return learned

    def _moved(self, state: DSiamState, frames: Frames, centre: Tensor, factor: Tensor, found: Tensor) -> DSiamState:
        """The release's state machine: scale after success and failure, and what happens at the border of the image.

        A failure turns V and W off and lets the search grow; the next success measures it anew, from the size kept."""
        size, side = self.damped(state, factor)
        anew = self._bounded(state, B.context_side(state.size * state.shrink[:, None]) * SEARCH / EXEMPLAR)
        larger = self._bounded(state, state.side * self.config.grow)
        kept, recovered = ~found | (state.failed > 0), found & (state.failed > 0)
        size = torch.where(kept[:, None], state.size, size)
        side = torch.where(recovered, anew, torch.where(found, side, larger))

        limits = [[frames.images[u].shape[2], frames.images[u].shape[1]] for u in frames.lane]
        limits = torch.tensor(limits, device=centre.device, dtype=centre.dtype)
        corner = centre + size * state.shrink[:, None] / 2
        left = ((corner < 0) | (corner > limits)).any(1)
        outside = state.outside + left
        lost = outside >= (self.config.recentre or float("inf"))
        centre = torch.where(lost[:, None], limits / 2, centre)
        failed = (~found | left).float()
        moved = {"centre": centre, "size": size, "side": side, "outside": torch.where(lost, 0.0, outside)}
        return replace(state, **moved, failed=failed, on=1 - failed)


@cache
@torch.inference_mode(False)  # made while tracking it would be of no use in training
def _hann(height: int, width: int, device: torch.device) -> Tensor:
    rows, columns = (torch.hann_window(n, periodic=False, device=device) for n in (height, width))
    return rows[:, None] * columns


def _upsampled(scores: Tensor) -> Tensor:
    """To 17 x 17 where the layer's stride is 16 (VGG's conv5-4: 9 x 9); `antialias` has MATLAB's bicubic kernel."""
    if scores.shape[-1] == CELLS:
        return scores
    return F.interpolate(scores, (CELLS, CELLS), mode="bicubic", antialias=True)


def clip_loss(net: DSiam, batch: dict[str, Tensor], **settings) -> Tensor:
    """The joint training's loss `L = sum_t L_t`, averaged over the batch; settings: those of `frame_losses`."""
    return frame_losses(net, batch, **settings).sum(0).mean()


def frame_losses(
    net: DSiam,
    batch: dict[str, Tensor],
    config: DSiamConfig = replace(DSIAM, scales=1),
    balanced: bool = False,
    through_time: bool = True,
) -> Tensor:
    """Track the clips: L_t (Eq. 10) of every frame but the first, which is given, `(N - 1, B)`.

    batch:    images `(B, N, S, S, 3)` uint8 and boxes `(B, N, 4)` in their pixels, as `data.clips.ClipSampler` gives
    balanced: positives and negatives weigh half each, as in SiamFC; the paper: every cell the same
    through_time: gradients reach f through the features of O_{t-1}, G_{t-1} and Gbar_{t-1} too, one frame back. No path
                  is longer: V starts from frame 1 each time, and places of crops are constants (an argmax)
    A network whose features are frozen tracks with their inference copy."""
    images, truth = batch["images"].permute(0, 1, 4, 2, 3), batch["boxes"]
    frozen = not any(p.requires_grad for layers in net.base.children() for p in layers.parameters())
    tracker = DSiamTracker(net, config, device=truth.device, fold=frozen)
    tracker.keep_maps = True
    lanes = list(range(len(images)))
    frames = [Frames(list(images[:, t]), lanes, [(f"clip {b}", t) for b in lanes]) for t in range(images.shape[1])]
    state, losses = tracker.init(frames[0], truth[:, 0]), []
    for t, frame in enumerate(frames[1:], 1):
        if not through_time:
            state = replace(state, **{k: _detached(getattr(state, k)) for k in ("last", "region", "salient")})
        state, output = tracker.track(state, frame)
        y, weights = shifted_labels(truth[:, t], output.regions, balanced)
        losses.append(torch.stack(list(map(logistic_loss, output.maps["response"], y, weights))))
    return torch.stack(losses)


def _detached(features: Features) -> Features:
    return {layer: x.detach() for layer, x in features.items()}


def shifted_labels(truth: Tensor, regions: Tensor, balanced: bool = False) -> tuple[Tensor, Tensor]:
    """J_t and its weights, each `(B, 17, 17)`: +1 within 16 pixels of the true centre as the searched region shows it.

    truth, regions `(B, 4)`: boxes in the frame. Where the region misses the target, all is -1."""
    shift = (B.centre(truth) - B.centre(regions)) * SEARCH / regions[:, 2:]
    y, weights = labels(CELLS, device=truth.device, shift=shift)
    return y, weights if balanced else torch.full_like(y, 1 / CELLS**2)


def calibrated_threshold(net: SiamFC, pairs: list[dict[str, Tensor]]) -> float:
    """The `threshold` for features whose score has no learned bias (siamfc-pytorch's): the t for which scores minus t
    have the least loss on training pairs, batches as `siamfc.pair_loss` takes them. Convex in t: bisected.

    It is of responses without V and W, which dim them; joint training learns a bias with both on."""
    with torch.no_grad():
        images = [[batch[k].permute(0, 3, 1, 2).float() for k in "zx"] for batch in pairs]
        scores = torch.cat([net(z, x) for z, x in images])
    y, weights = labels(scores.shape[-1], device=scores.device)
    low, high = scores.min(), scores.max()
    for _ in range(50):
        t = (low + high) / 2
        slope = (weights * y * torch.sigmoid(-y * (scores - t))).sum()
        low, high = (low, t) if slope > 0 else (t, high)
    return float(t)
