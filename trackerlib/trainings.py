"""Trainings by name, alone or by many processes: `python -m trackerlib train`, and the same from a notebook.

A training is a frozen dataclass of plain values, so that every process can be told it on its command line; its `fit`
trains, and the first process saves the weights. torchrun starts the processes, restarts all of them when one is lost,
and they go on from the last checkpoint."""

import ast
import importlib
import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
import torch

from . import siamfc
from .config import configured, near
from .data.crops import CropStore
from .data.samplers import STRONG, Augmentation, PairSampler
from .nn.checkpoints import save_weights
from .parameters import UNREADABLE
from .provenance import code_digest, sha256
from .training import parallel
from .training.loop import FitConfig, fit, read_log


class Training(Protocol):
    """What `train` wants of a class whose fields have defaults; a `check()` is called before processes start."""

    def fit(self, folder: Path, device: torch.device, on_epoch: Callable[[dict], None]) -> pd.DataFrame: ...


@dataclass(frozen=True)
class SiamFCTraining:
    """SiamFC on packed crops. Defaults: the paper's and its released code's."""

    crops: tuple[str, ...] = ()  # folders that `data prepare`, or `cut_crops`, made
    init: str = ""  # weights to start from
    width: float = 1.0  # of every layer
    epochs: int = 50
    steps: int = 6250  # batches an epoch: 50,000 pairs
    batch: int = 8  # pairs, of all processes together
    lr: float = 0.01  # first epoch's
    lr_end: float = 0.00001  # last epoch's
    average: float = 0.0  # decay of a moving average of the weights; 0: none
    clip: float = 0.0  # largest gradient norm; 0: none
    precision: str = "fp32"  # or bf16
    augmentation: str = "paper"  # or strong
    search: int = 239  # pixels of a search image, S3
    bias: bool = True  # learn the score's bias, S4
    workers: int = 0  # processes that make pairs ahead, for each that trains
    checkpoint_minutes: float = 5.0
    seed: int = 0

    @cached_property
    def stores(self) -> list[CropStore]:
        """Raises ValueError where no crops are named."""
        if not self.crops:
            raise ValueError("crops: name a folder of packed crops (python -m trackerlib data prepare makes them)")
        return [CropStore(Path(folder)) for folder in self.crops]

    @cached_property
    def samples(self) -> PairSampler:
        if self.augmentation not in (chosen := {"strong": STRONG, "paper": Augmentation()}):
            raise ValueError(f"augmentation is 'strong' or 'paper', not {self.augmentation!r}")
        kinds = {"real": 2, "still": 1, "rendered": 2}
        return PairSampler(self.stores, chosen[self.augmentation], kinds, search=self.search, seed=self.seed)

    def check(self) -> None:
        """Raises ValueError or FileNotFoundError for what could not be trained on."""
        _ = self.samples, self.net

    @cached_property
    def net(self) -> siamfc.SiamFC:
        net = siamfc.SiamFC(self.width, self.bias).initialise(torch.Generator().manual_seed(self.seed))
        if self.init:
            net.load_state_dict(siamfc.load_siamfc(self.init).state_dict())
        return net

    def settings(self) -> list[str]:
        """Its values as `load_training` reads them."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return [f"{name}={value}" for name, value in values.items()]

    @property
    def config(self) -> FitConfig:
        schedule = (self.epochs, self.steps, self.batch, self.lr, self.lr_end)
        same = ("average", "clip", "precision", "workers", "checkpoint_minutes", "seed")
        return FitConfig(*schedule, **{name: getattr(self, name) for name in same})

    def fit(
        self, folder: Path, device: torch.device | str = "cpu", on_epoch: Callable[[dict], None] = lambda row: None
    ) -> pd.DataFrame:
        """Train; the log. `folder` gets `siamfc.safetensors` beside checkpoints and log."""
        identity = sha256(self.samples.digest(), code_digest(["trackerlib.siamfc"]))
        log = fit(self.net, siamfc.pair_loss, self.samples, self.config, folder, identity, device, on_epoch)
        if parallel.rank() == 0:
            seen = sorted({name for store in self.stores for name in store.index["sequence"]})
            origin = {"pairs": self.epochs * self.steps * self.batch, "init": self.init, "seed": self.seed}
            save_weights(self.net, Path(folder) / "siamfc.safetensors", origin | {"seen": seen})
        return log


TRAININGS: dict[str, type] = {"siamfc": SiamFCTraining}


def load_training(name: str, settings: Iterable[str] = ()) -> Training:
    """A training by name, or your own class by `module:Class`, with fields set as typed: "width=0.5".

    Raises ValueError naming the unknown, or ill-typed, name or value."""
    if name not in TRAININGS and ":" not in name:
        raise ValueError(f"no training is called {name!r}{near(name, TRAININGS)} (your own: module:Class)")
    try:
        module, _, attribute = name.partition(":")
        base = TRAININGS[name]() if name in TRAININGS else getattr(importlib.import_module(module), attribute)()
    except (ImportError, AttributeError, TypeError) as error:
        raise ValueError(f"{name}: {error}; write module:Class of a dataclass whose fields have defaults") from None
    values = {}
    for setting in settings:
        field, equals, text = setting.partition("=")
        if not equals:
            raise ValueError(f"--set {setting}: want name=value, for example width=0.5")
        values[field] = _typed(text, getattr(base, field, None))
    return configured(base, values)


def _typed(text: str, like: Any) -> Any:
    """Text as a value of the type that `like` has, where it can be read as one; several of a tuple by commas."""
    if isinstance(like, str):
        return text
    if isinstance(like, tuple) and not text.startswith("("):
        return tuple(part for part in text.split(",") if part)
    try:
        return ast.literal_eval({"true": "True", "false": "False"}.get(text, text))
    except UNREADABLE:
        return text


def tell(row: dict) -> None:
    """Print an epoch's line, on the first process."""
    if parallel.rank() == 0:
        rate = f"{row['samples_per_second']:.0f} samples/s"
        print(f"epoch {row['epoch']}: loss {row['loss']:.4f}, rate {row['lr']:.2g}, {rate}", flush=True)


_STORE = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}  # a new store for each attempt (see `parallel.joined`)


def torchrun(
    name: str, settings: Iterable[str], folder: str | Path, processes: int, device: str = "cpu"
) -> pd.DataFrame:
    """Train by several processes of this machine, and print what they say as they say it; the log.

    They end with this process, or when it is interrupted; started again they go on from the last checkpoint. On several
    hosts, on each: torchrun --nnodes N --nproc-per-node GPUS --rdzv-backend c10d --rdzv-endpoint HOST:PORT
    -m trackerlib train NAME --out DIR --set ...

    Raises ValueError for what is wrong with the settings, RuntimeError with their last words when they fail."""
    training = load_training(name, settings)  # a slip is told here, once and not by each
    if getattr(training, "batch", processes) % processes:
        raise ValueError(f"a batch of {training.batch} cannot be shared by {processes} processes; choose a multiple")
    if hasattr(training, "check"):
        training.check()
    Path(folder).mkdir(parents=True, exist_ok=True)
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // processes))
    run = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "--max-restarts", "3"]
    job = ["-m", "trackerlib", "train", name, "--out", str(folder), "--device", device]
    job += [word for setting in settings for word in ("--set", setting)]
    process = subprocess.Popen(
        [sys.executable, *run, *job],
        stdin=subprocess.PIPE,  # its end tells them that this process is gone
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": threads, "TRK_END_WITH_STDIN": "1", **_STORE},
    )
    last, cause = deque(maxlen=20), ""
    try:
        for line in process.stdout:
            print(line, end="", flush=True)
            last.append(line)
            cause = line.strip() if line.startswith("error: ") else cause
    finally:
        process.stdin.close()
        process.terminate()
        code = process.wait()
    if code:
        raise RuntimeError(cause.removeprefix("error: ") or f"torchrun ended with {code}:\n{''.join(last)}")
    return read_log(folder)
