"""What trackers make of whole frames, kept (`Frames.together`): a detector's answers.

TRE and SRE see every frame many times, and a second tracker on the same detector sees them all again. Values are kept
in memory, and in a folder where one is given; both are bounded, and the least recently used go first."""

import os
import secrets
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from ..data.sequence import Dataset
from ..provenance import sha256


class FeatureCache:
    """Values by name and frame id: a tensor, or a tuple of tensors.

    videos: the digest of each video's frames, by the name that frame ids have: two datasets may share names
    folder: for a file each, `<name>/<video>-<frame>.safetensors`; None: memory alone
    memory, disk: bytes kept"""

    def __init__(
        self, videos: Mapping[str, str], folder: str | Path | None = None, memory: int = 1 << 28, disk: int = 4 << 30
    ):
        self.videos, self.folder, self.memory, self.disk = videos, folder and Path(folder), memory, disk
        self._held: OrderedDict[tuple, tuple[Any, int]] = OrderedDict()
        self._bytes = 0
        files = [(p, p.stat()) for p in self.folder.rglob("*.safetensors")] if self.folder else []
        self._files = OrderedDict((p, s.st_size) for p, s in sorted(files, key=lambda file: file[1].st_mtime))
        self._stored = sum(self._files.values())

    @classmethod
    def of(cls, dataset: Dataset, videos: Mapping[str, str], folder: str | Path | None = None) -> "FeatureCache":
        """For a dataset's frames; `videos` says how frame ids call those of each sequence. Memory needs no digests."""
        return cls({v: dataset[v].frames.digest() for v in set(videos.values())} if folder else {}, folder)

    def get(self, name: str, frame: tuple[str, int], device: torch.device | str = "cpu") -> Any | None:
        """What was put there; None where nothing was, or where its file is damaged or gone."""
        key = (name, *frame)
        if key in self._held:
            self._held.move_to_end(key)
            return _mapped(self._held[key][0], lambda part: part.to(device))
        path = self._path(name, frame)
        if path not in self._files:
            return None
        try:
            tensors = safetensors.torch.load(path.read_bytes())
        except Exception:  # cut short, or removed by another process: made anew
            self._stored -= self._files.pop(path)
            return None
        self._files.move_to_end(path)
        os.utime(path)  # the next process goes by the time
        tensors = {part: tensor.to(device) for part, tensor in tensors.items()}
        value = tensors["all"] if "all" in tensors else tuple(tensors[str(i)] for i in range(len(tensors)))
        self._hold(key, value)
        return value

    def put(self, name: str, frame: tuple[str, int], value: Any) -> None:
        self._hold((name, *frame), _mapped(value, torch.clone))  # not a view of a whole batch
        path = self._path(name, frame)
        if path is None:
            return
        parts = {str(i): part for i, part in enumerate(value)} if isinstance(value, tuple) else {"all": value}
        data = safetensors.torch.save({part: tensor.contiguous().cpu() for part, tensor in parts.items()})
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")  # not flushed: it can be made anew
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(data)
            temporary.replace(path)
        except OSError as error:  # a full disk: what is not kept is computed again
            temporary.unlink(missing_ok=True)
            warnings.warn(f"{self.folder}: no longer kept there ({error.strerror})", stacklevel=2)
            self.folder = None
            return
        self._stored += len(data) - self._files.pop(path, 0)
        self._files[path] = len(data)
        while self._stored > self.disk and len(self._files) > 1:
            oldest, size = self._files.popitem(last=False)
            oldest.unlink(missing_ok=True)
            self._stored -= size

    def _hold(self, key: tuple, value: Any) -> None:
        parts = value if isinstance(value, tuple) else (value,)
        size = sum(part.numel() * part.element_size() for part in parts)
        self._bytes += size - self._held.pop(key, (None, 0))[1]
        self._held[key] = value, size
        while self._bytes > self.memory and len(self._held) > 1:
            self._bytes -= self._held.popitem(last=False)[1][1]

    def _path(self, name: str, frame: tuple[str, int]) -> Path | None:
        video, number = frame
        if self.folder is None or video not in self.videos:
            return None
        return self.folder / sha256(name)[:16] / f"{self.videos[video][:16]}-{number}.safetensors"


def _mapped(value: Any, f: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    return tuple(map(f, value)) if isinstance(value, tuple) else f(value)
