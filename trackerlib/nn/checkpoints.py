"""Weights in and out. Ours are fp16 safetensors; foreign files are read by key, never by executing what they hold."""

import hashlib
import json
import struct
import warnings
import zlib
from collections.abc import Iterator
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
        origin = json.loads(beside.read_text()) if beside.is_file() else {}
    except json.JSONDecodeError as error:
        raise ValueError(f"{beside}, line {error.lineno}: {error.msg}; copy it again, or delete it") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{beside}: {error}; copy it again, or delete it") from None
    if not isinstance(origin, dict):
        raise ValueError(f"{beside}: holds no mapping; copy it again, or delete it")
    return origin


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """All tensors of a `.safetensors`, `.pth`/`.pt` or MatConvNet `.mat` file, under our key names, float32.

    Raises ValueError when the file is not what its name says: a pickle with code in it is refused, not run."""
    path = Path(path)
    if path.suffix == ".safetensors":
        if (written := provenance(path).get("sha256")) and written != file_sha256(path):
            raise ValueError(f"{path}: not as it was saved, by the sha256 in {path.stem}.json; copy both again")
        try:
            tensors = safetensors.torch.load_file(path)
        except Exception as error:
            raise ValueError(f"{path}: not a safetensors file ({_said(error)})") from None
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
    except Exception as error:  # a damaged pickle raises nearly anything
        raise ValueError(f"{path}: refused, it holds more than tensors or is damaged ({_said(error)})") from None
    for wrapper in ("average", "model", "state_dict"):  # a checkpoint of `training.loop`, or of a common trainer
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not all(type(k) is str and isinstance(v, Tensor) for k, v in content.items()):
        raise ValueError(f"{path}: holds no state_dict (a mapping of names to tensors)")
    most = max(path.stat().st_size, _MOST)
    if large := next((k for k, v in content.items() if v.numel() * v.element_size() > most), None):
        raise ValueError(f"{path}: the file is smaller than its tensor {large}; save it dense, or fetch the file again")
    return {_renamed(k.removeprefix("module.")): v for k, v in content.items()}


def _said(error: Exception) -> str:
    """The first sentence of an error's first line."""
    return next(iter(str(error).split(". ")[0].splitlines()), type(error).__name__)


def _renamed(key: str) -> str:
    old = next(filter(key.startswith, SIAMFC_V1), "")
    return SIAMFC_V1.get(old, "") + key.removeprefix(old)


def read_matconvnet(path: str | Path) -> dict[str, Tensor]:
    """siamese-fc's `.net.mat`: `conv1f` (h, w, in, out), `conv1b`, `bn1m` gain, `bn1b`, `bn1x` (C, 2): mean
    and standard deviation *with* epsilon, `adjust_f`, `adjust_b`. Both libraries cross-correlate: no flip."""
    try:
        params = _mat_struct(*_mat_variable(Path(path).read_bytes(), "net"), "params")
        arrays = _of_matconvnet({_mat_text(*p["name"]): np.float32(_mat_array(*p["value"])) for p in params})
    except (ValueError, LookupError, TypeError, struct.error, zlib.error) as error:
        raise ValueError(f"{path}: not a MatConvNet network ({_said(error)})") from None
    return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}


def _of_matconvnet(params: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
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
    return arrays


# MAT files of version 5 to 7 (The MathWorks, *MAT-File Format*), as far as a network needs them. scipy's own reader
# takes a file's type numbers for places in memory: a damaged file ends the process, a made-up one may do worse.
_MAT_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_MAT_NUMBERS |= {16: "u1", 17: "u2"}  # characters
_MATRIX, _COMPRESSED, _STRUCT, _MOST = 14, 15, 2, 2**30


def _mat_elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Type and content of the elements that follow each other in a file, or in an array."""
    at = 0
    while at < len(data):
        kind, size = struct.unpack_from(order + "2I", data, at)
        start, step = at + 8, size if kind == _COMPRESSED else -(-size // 8) * 8
        if kind >> 16:  # up to four bytes stand in the tag itself
            kind, size, start, step = kind & 0xFFFF, min(kind >> 16, 4), at + 4, 0
        if start + size > len(data):
            raise ValueError("it is cut short")
        yield kind, data[start : start + size]
        at += 8 + step


def _mat_variable(data: bytes, name: str) -> tuple[memoryview, str]:
    """An array by name, and the file's byte order."""
    order = {b"\0\1IM": "<", b"\1\0MI": ">"}.get(data[124:128])
    if order is None:
        raise ValueError("no MAT file of version 5 to 7")
    for kind, content in _mat_elements(memoryview(data)[128:], order):
        if kind == _COMPRESSED:
            unpacked = memoryview(zlib.decompressobj().decompress(content, _MOST))
            ((kind, content),) = _mat_elements(unpacked, order)
        parts = list(_mat_elements(content, order)) if kind == _MATRIX else []
        if len(parts) > 2 and bytes(parts[2][1]) == name.encode():
            return content, order
    raise ValueError(f"it has no variable {name}")


def _mat_struct(content: memoryview, order: str, field: str = "") -> list[dict[str, tuple[memoryview, str]]]:
    """The elements of a struct array, each field unread; with `field`: those of that field of the first."""
    (_, flags), _, _, (_, width), (_, names), *values = _mat_elements(content, order)  # shape and name do not matter
    if flags[0 if order == "<" else 3] != _STRUCT:
        raise ValueError("it has another array where a struct is due")
    step = int(np.frombuffer(width, order + "i4")[0])
    fields = [bytes(names[i : i + step]).rstrip(b"\0").decode("latin-1") for i in range(0, len(names), step)]
    unread = [(value, order) for _, value in values]
    found = [dict(zip(fields, unread[i : i + len(fields)], strict=True)) for i in range(0, len(unread), len(fields))]
    return _mat_struct(*found[0][field]) if field else found


def _mat_array(content: memoryview, order: str) -> np.ndarray:
    """An array of numbers or characters; MATLAB's are stored by columns."""
    _, (_, shape), _, (kind, numbers), *_ = _mat_elements(content, order)
    values = np.frombuffer(numbers, order + _MAT_NUMBERS[kind])
    return values.reshape(np.frombuffer(shape, order + "i4"), order="F")


def _mat_text(content: memoryview, order: str) -> str:
    return "".join(map(chr, _mat_array(content, order).ravel().tolist()))


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
