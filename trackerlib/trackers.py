"""Trackers by name, and users' own by `module:Class`."""

import importlib
import sys
from pathlib import Path

import torch

from .config import configured, near
from .interchange import InitUpdate, is_init_update
from .nn.checkpoints import load_into, provenance, read_tensors, weights_digest, weights_file
from .provenance import canonical, file_sha256, sha256
from .siamfc import (
    SIAMFC_3S,
    SIAMFC_3S_PYTORCH,
    SIAMFC_5S,
    SIAMFC_5S_PAPER,
    SiamFC,
    SiamFCConfig,
    SiamFCTracker,
)
from .tracker import Tracker

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


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


def _siamfc(name: str, config: SiamFCConfig):
    def build(weights, device, dtype, seed, values) -> SiamFCTracker:
        weights = weights or "siamfc"
        net = load_siamfc(weights, seed)
        tracker = SiamFCTracker(net, configured(config, values), name, device, dtype)
        tracker.weights_sha = weights_digest(net)
        tracker.seen = () if str(weights) == "random" else tuple(provenance(weights_file(weights)).get("seen", ()))
        return tracker

    return build


TRACKERS = {
    "siamfc": _siamfc("siamfc", SIAMFC_5S),
    "siamfc-paper": _siamfc("siamfc-paper", SIAMFC_5S_PAPER),
    "siamfc-3s": _siamfc("siamfc-3s", SIAMFC_3S),
    "siamfc-3s-pytorch": _siamfc("siamfc-3s-pytorch", SIAMFC_3S_PYTORCH),
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
    _check_device(device)
    if name in TRACKERS:
        return TRACKERS[name](weights, device, DTYPES[dtype], seed, config)
    if ":" not in name:
        raise ValueError(f"no tracker is called {name!r}{near(name, TRACKERS)} (your own: module:Class)")
    given = {"weights": (weights, None), "device": (device, "cpu"), "dtype": (dtype, "float32"), "seed": (seed, 0)}
    return _own(name, {k: v for k, (v, default) in given.items() if v != default} | config)


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
