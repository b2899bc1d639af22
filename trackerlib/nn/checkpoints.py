"""Weights in and out. Ours are fp16 safetensors; foreign files are read by key, never by executing what they hold."""

import hashlib
import json
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from ..config import near
from ..provenance import file_sha256, write_bytes, write_json
from ..resources import resource

BN_EPS = 1e-6  # of the SiamFC family

# huanglianghua/siamfc-pytorch before 2020 kept one flat Sequential: its convolutions and norms by turns.
SIAMFC_V1 = {
    f"feature.{layer}.": f"backbone.conv{k // 2 + 1}.{k % 2}." for k, layer in enumerate((0, 1, 4, 5, 8, 9, 11, 12, 14))
}


def weights_file(name: str | Path) -> Path:
    """A weights file by shipped name (`siamfc`, `siamfc-quarter`) or by path."""
    shipped = {p.stem: p for p in resource("data", "weights").glob("*.safetensors")}
    path = shipped.get(str(name), Path(name))
    if not path.is_file():
        raise FileNotFoundError(f"{name}: no such weights file, nor shipped weights{near(str(name), shipped)}")
    return path


def provenance(path: str | Path) -> dict[str, Any]:
    """What is written beside shipped weights: how they were made and which sequences they saw; {} where nothing is."""
    beside = Path(path).with_suffix(".json")
    try:
        return json.loads(beside.read_text()) if beside.is_file() else {}
    except json.JSONDecodeError as error:
        raise ValueError(f"{beside}, line {error.lineno}: {error.msg}; copy it again, or delete it") from None


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """All tensors of a `.safetensors`, `.pth`/`.pt` or MatConvNet `.mat` file, under our key names, float32.

    Raises ValueError when the file is not what its name says: a pickle with code in it is refused, not run."""
    path = Path(path)
    if path.suffix == ".safetensors":
        try:
            tensors = safetensors.torch.load_file(path)
        except Exception as error:
            raise ValueError(f"{path}: not a safetensors file ({error})") from None
    elif path.suffix in (".pth", ".pt"):
        tensors = _read_torch(path)
    elif path.suffix == ".mat":
        tensors = read_matconvnet(path)
    else:
        raise ValueError(f"{path}: weights are .safetensors, .pth, .pt or .mat files, not {path.suffix or 'this'}")
    return {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the pickle's protocol: the refusal below says what matters
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError) as error:
        first = str(error).split(". ")[0].splitlines()[0]
        raise ValueError(f"{path}: refused, it holds more than tensors or is damaged ({first})") from None
    for wrapper in ("average", "model", "state_dict"):  # a checkpoint of `training.loop`, or of a common trainer
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise ValueError(f"{path}: holds no state_dict (a mapping of names to tensors)")
    return {_renamed(k.removeprefix("module.")): v for k, v in content.items()}


def _renamed(key: str) -> str:
    old = next(filter(key.startswith, SIAMFC_V1), "")
    return SIAMFC_V1.get(old, "") + key.removeprefix(old)


def read_matconvnet(path: str | Path) -> dict[str, Tensor]:
    """siamese-fc's `.net.mat`: `conv1f` (h, w, in, out), `conv1b`, `bn1m` gain, `bn1b`, `bn1x` (C, 2): mean
    and standard deviation *with* epsilon, `adjust_f`, `adjust_b`. Both libraries cross-correlate: no flip."""
    try:
        from scipy.io import loadmat
    except ImportError:
        raise ImportError("reading .mat weights needs scipy: pip install 'trackerlib[mat]'") from None
    try:
        records = loadmat(path)["net"]["params"][0][0].ravel()
        params = {str(p["name"].item()): np.asarray(p["value"], np.float32) for p in records}
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise ValueError(f"{path}: not a MatConvNet network ({error})") from None
    arrays = {"bias": params.get("adjust_b", np.zeros(1, np.float32)).ravel()[0]}
    for i in range(1, 6):
        conv, bn = f"backbone.conv{i}.0.", f"backbone.conv{i}.1."
        arrays[conv + "weight"] = params[f"conv{i}f"].transpose(3, 2, 0, 1)
        arrays[conv + "bias"] = params[f"conv{i}b"].ravel()
        if i < 5:
            mean, deviation = params[f"bn{i}x"].T
            arrays[bn + "weight"] = params[f"bn{i}m"].ravel()
            arrays[bn + "bias"] = params[f"bn{i}b"].ravel()
            arrays[bn + "running_mean"] = mean
            arrays[bn + "running_var"] = deviation**2 - np.float32(BN_EPS)
    return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}


def load_into(module: nn.Module, tensors: dict[str, Tensor], name: str, optional: tuple[str, ...] = ()) -> None:
    """Fill a module strictly; a missing, unknown or misshapen tensor is an error that names it."""
    own = module.state_dict()
    counters = {k for k in own if k.endswith("num_batches_tracked")}
    missing = own.keys() - tensors.keys() - counters - set(optional)
    unknown = tensors.keys() - own.keys()
    shapes = [k for k in own.keys() & tensors.keys() if own[k].shape != tensors[k].shape]
    if missing or unknown or shapes:
        what = [f"lacks {k}" for k in sorted(missing)[:1]] + [f"has an unknown {k}" for k in sorted(unknown)[:1]]
        what += [f"{k} is {tuple(tensors[k].shape)}, want {tuple(own[k].shape)}" for k in sorted(shapes)[:1]]
        raise ValueError(f"{name}: not weights of {type(module).__name__}: " + "; ".join(what))
    module.load_state_dict(own | tensors)


def save_weights(
    module: nn.Module,
    path: str | Path,
    origin: dict[str, Any],
    dtype: torch.dtype = torch.float16,
    without: str | tuple[str, ...] = (),
) -> None:
    """Write a module's tensors as safetensors, floating ones in `dtype`, and their origin (how made, sequences seen) as
    JSON beside. without: names that begin so are left out."""
    tensors = {
        k: (v.to(dtype) if v.is_floating_point() else v).contiguous().cpu()
        for k, v in module.state_dict().items()
        if not k.endswith("num_batches_tracked") and not (without and k.startswith(without))
    }
    path = Path(path)
    write_bytes(path, safetensors.torch.save(tensors))
    write_json(path.with_suffix(".json"), origin | {"sha256": file_sha256(path)})


def weights_digest(module: nn.Module) -> str:
    """sha256 of a module's tensors, whatever file they came from; part of a result's key."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode() + tensor.detach().cpu().contiguous().float().numpy().tobytes())
    return digest.hexdigest()
