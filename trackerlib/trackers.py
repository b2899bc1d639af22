"""Trackers by name, and users' own by `module:Class`."""

import importlib
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from .baselines.goturn import GOTURNConfig, GOTURNTracker, load_goturn
from .baselines.kcf import KCF_GREY, KCF_HOG, KCFConfig, KCFTracker
from .baselines.sort import SORTConfig, YOLOSORTTracker
from .config import configured, near
from .dsiam import DSIAM, DSIAM_VGG19, DSiam, DSiamTracker, load_dsiam
from .gstp import GSTPConfig, GSTPTracker, load_gstp
from .interchange import InitUpdate, is_init_update
from .nn.checkpoints import provenance, weights_digest, weights_file
from .nn.vgg import load_vgg19
from .nn.yolo import load_yolo
from .provenance import canonical, file_sha256, sha256
from .rolo import SHIPPED, ROLOConfig, ROLOTracker, load_rolo
from .siamemory import SIAMEMORY, SiaMemoryTracker, load_siamemory
from .siamfc import (
    SIAMFC_3S,
    SIAMFC_3S_PYTORCH,
    SIAMFC_5S,
    SIAMFC_5S_PAPER,
    SiamFCConfig,
    SiamFCTracker,
    load_siamfc,
)
from .tracker import Tracker

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def _siamfc(name: str, config: SiamFCConfig):
    def build(weights, device, dtype, seed, values) -> SiamFCTracker:
        weights = weights or "siamfc"
        net = load_siamfc(weights, seed)
        return _sealed(SiamFCTracker(net, configured(config, values), name, device, dtype), net, weights)

    return build


def _dsiam(name: str, layers: tuple[str, ...]):
    def build(weights, device, dtype, seed, values) -> DSiamTracker:
        weights = weights or name
        net = load_dsiam(weights, layers, seed)
        return _sealed(DSiamTracker(net, configured(DSIAM, values), name, device, dtype), net, weights)

    return build


def _dsiam_vgg19(weights, device, dtype, seed, values) -> DSiamTracker:
    """Lambdas, gain and fusion weight are the release's, for MatConvNet's VGG-19, and not tuned to this one. Its
    scores have no bias and are above 0: no frame counts as a failure unless `threshold` says so."""
    if weights is None:
        wanted = "torch.save(torchvision.models.vgg19(weights='IMAGENET1K_V1').state_dict(), FILE)"
        raise ValueError(
            f"dsiamm-vgg19 ships no weights (500 MB): give --weights FILE, made where torchvision is: {wanted}"
        )
    net = DSiam(load_vgg19(weights), ("conv5", "conv4"), lambda_v=10.0, gain=1e-8).eval()
    return _sealed(DSiamTracker(net, configured(DSIAM_VGG19, values), "dsiamm-vgg19", device, dtype), net, weights)


def _kcf(name: str, config: KCFConfig):
    def build(weights, device, dtype, seed, values) -> KCFTracker:
        if weights is not None or dtype is not torch.float32:
            raise ValueError(f"{name} has no network: it takes no weights, and computes in float32")
        return KCFTracker(configured(config, values), name, device)

    return build


def _goturn(weights, device, dtype, seed, values) -> GOTURNTracker:
    weights = weights or "goturn"
    net = load_goturn(weights, seed)
    return _sealed(GOTURNTracker(net, configured(GOTURNConfig(), values), "goturn", device, dtype), net, weights)


def _siamemory(weights, device, dtype, seed, values) -> SiaMemoryTracker:
    weights = weights or "siamemory"
    net = load_siamemory(weights, seed)
    tracker = SiaMemoryTracker(
        net.siamese, net.squeezenet, net.memory, configured(SIAMEMORY, values), "siamemory", device, dtype
    )
    return _sealed(tracker, net, weights)


def _rolo(name: str, config: ROLOConfig, heatmap: int = 0):
    def build(weights, device, dtype, seed, values) -> ROLOTracker:
        weights = weights or name
        net = load_rolo(weights, seed, heatmap)
        if bool(net.memory.heatmap) != bool(heatmap):
            other = "rolo-heatmap" if net.memory.heatmap else "rolo"
            raise ValueError(f"{weights}: weights of {other}, not of {name}; take --tracker {other}")
        origin = {} if str(weights) == "random" else provenance(weights_file(weights))
        trained = {k: origin[k] for k in ("threshold", "history", "least", "step") if k in origin}
        tracker = ROLOTracker(net.detector, net.memory, configured(config, trained | values), name, device, dtype)
        return _sealed(tracker, net, weights)

    return build


def _yolo_sort(weights, device, dtype, seed, values) -> YOLOSORTTracker:
    weights = weights or "rolo-yolo"
    net = load_rolo("random", seed).detector if str(weights) == "random" else load_yolo(weights)
    config = configured(SORTConfig(threshold=SHIPPED.threshold), values)
    return _sealed(YOLOSORTTracker(net, config, "yolo-sort", device, dtype), net, weights)


def _gstp(name: str, config: GSTPConfig):
    def build(weights, device, dtype, seed, values) -> GSTPTracker:
        weights = weights or "gstp"
        net = load_gstp(weights, seed, config.motion)
        origin = {} if str(weights) == "random" else provenance(weights_file(weights))
        trained = configured(config, origin.get("reads", {}) | values)
        return _sealed(GSTPTracker(net.siamese, net.motion, trained, name, device, dtype), net, weights)

    return build


def _sealed(tracker: SiamFCTracker, net: torch.nn.Module, weights: str | Path) -> SiamFCTracker:
    """The tracker with what results want to know of its weights: their digest, and which sequences they saw."""
    tracker.weights_sha = weights_digest(net)
    tracker.seen = () if str(weights) == "random" else tuple(provenance(weights_file(weights)).get("seen", ()))
    return tracker


TRACKERS = {
    "siamfc": _siamfc("siamfc", SIAMFC_5S),
    "siamfc-paper": _siamfc("siamfc-paper", SIAMFC_5S_PAPER),
    "siamfc-3s": _siamfc("siamfc-3s", SIAMFC_3S),
    "siamfc-3s-pytorch": _siamfc("siamfc-3s-pytorch", SIAMFC_3S_PYTORCH),
    "dsiam": _dsiam("dsiam", ("conv5",)),
    "dsiamm": _dsiam("dsiamm", ("conv5", "conv4")),
    "dsiamm-vgg19": _dsiam_vgg19,
    "siamemory": _siamemory,
    "goturn": _goturn,
    "rolo": _rolo("rolo", SHIPPED),
    "rolo-heatmap": _rolo("rolo-heatmap", replace(SHIPPED, step=3), 16),
    "yolo-sort": _yolo_sort,
    "gstp": _gstp("gstp", GSTPConfig()),
    "siamrcnn": _gstp("siamrcnn", GSTPConfig(motion=False)),
    "kcf": _kcf("kcf", KCF_HOG),
    "kcf-grey": _kcf("kcf-grey", KCF_GREY),
    "kcf-scale": _kcf("kcf-scale", replace(KCF_HOG, scales=3)),
}


def load_tracker(
    name: str,
    weights: str | Path | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    seed: int = 0,
    **config,
) -> Tracker:
    """A tracker ready to run.

    name:    one of `TRACKERS`, or `module:Class` for your own: the class is called with those of the arguments below
             that you give and it takes
    weights: a file, the name of shipped weights, or "random"; default the tracker's own
    dtype:   "float32", or "bfloat16" where the processor has it (faster; `bench` says how much)
    config:  fields of the tracker's configuration, checked by name and type

    Raises ValueError for an unknown name, a device that is not there, or a class that is no tracker."""
    if dtype not in DTYPES:
        raise ValueError(f"dtype is one of {', '.join(DTYPES)}, not {dtype!r}")
    if weights == "":
        raise ValueError("weights is empty: give a file, the name of shipped weights, or leave it out")
    _check_device(device)
    place = Path(weights).absolute() if weights is not None and Path(weights).is_file() else weights
    recipe = Recipe(name, place, device, dtype, seed, tuple(sorted(config.items())))
    if name in TRACKERS:
        tracker = TRACKERS[name](weights, device, DTYPES[dtype], seed, config)
    elif ":" in name:
        given = {"weights": (weights, None), "device": (device, "cpu"), "dtype": (dtype, "float32"), "seed": (seed, 0)}
        tracker = _own(name, {k: v for k, (v, default) in given.items() if v != default} | config)
    else:
        raise ValueError(f"no tracker is called {name!r}{near(name, TRACKERS)} (your own: module:Class)")
    with suppress(AttributeError):  # a class with slots goes without
        tracker.recipe = recipe
    return tracker


@dataclass(frozen=True)
class Recipe:
    """What `load_tracker` was asked for: enough to make the same tracker in another process."""

    name: str
    weights: str | Path | None
    device: str
    dtype: str
    seed: int
    config: tuple[tuple[str, Any], ...]

    def load(self) -> Tracker:
        return load_tracker(self.name, self.weights, self.device, self.dtype, self.seed, **dict(self.config))


def _check_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {device!r} cannot be used here ({str(error).splitlines()[0]})") from None


def _own(name: str, arguments: dict) -> Tracker:
    """A user's tracker, batch-first or of got10k's kind. Weights given as a file and all other arguments become part of
    its results' key."""
    module, _, attribute = name.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")  # a module in the folder where the command runs
    try:
        made = getattr(importlib.import_module(module), attribute)
        tracker = made(**arguments)
    except (ImportError, AttributeError, SyntaxError, TypeError) as error:
        raise ValueError(f"{name}: {error}; write module:Class of a class that takes the arguments given") from None
    if is_init_update(tracker):
        return InitUpdate(made, arguments)
    if not isinstance(tracker, Tracker):
        raise ValueError(f"{name}: not a tracker: it wants a name, init and track (or init and update, as in got10k)")
    facts = {k: file_sha256(v) if Path(str(v)).is_file() else v for k, v in arguments.items()}
    if facts and not hasattr(tracker, "weights_sha"):
        tracker.weights_sha = sha256(canonical(facts))
    return tracker
