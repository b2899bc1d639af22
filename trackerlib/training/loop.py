"""One training loop for all papers: mixed precision, clipping, checkpoints, exact resume, a log that plots itself.

Everything a step depends on is its number: the sampler answers `sampler[index]` from (seed, index) alone, the learning
rate is a function of the step, and a checkpoint holds model, optimiser, average and random state. So a run that is
killed and started again ends, on the same machine, with the same bits. Under torchrun several processes are one
(`parallel`): `batch` is of all of them, and the first alone writes."""

import copy
import io
import json
import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path
from typing import Any

import cv2
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ..config import bounded
from ..nn.checkpoints import weights_digest
from ..provenance import alone, canonical, sha256, write_bytes, write_text
from . import parallel


@dataclass(frozen=True)
class FitConfig:
    """Defaults: siamese-fc's recipe (clipping is ours). One epoch is what one learning rate and one log row cover."""

    epochs: int = 50
    steps: int = 6250  # an epoch: 50,000 pairs in batches of 8
    batch: int = 8
    lr: float = 1e-2  # first and last epoch's, log-spaced between
    lr_end: float = 1e-5
    optimiser: str = "sgd"  # or "adam"
    momentum: float = 0.9  # Adam's first beta
    weight_decay: float = 5e-4  # on weights; biases and batch norm have none
    clip: float = 10.0  # largest gradient norm; 0: none
    precision: str = "fp32"  # or "bf16": autocast
    average: float = 0.0  # decay of an exponential moving average of the weights; 0: none
    checkpoint_minutes: float = 5.0
    workers: int = 0
    seed: int = 0
    milestones: tuple[int, ...] = ()  # epochs from which on the rate is a tenth of the one before, in lr_end's place

    def __post_init__(self):
        if self.precision not in ("fp32", "bf16"):
            raise ValueError(f"precision is 'fp32' or 'bf16', not {self.precision!r}")
        if self.optimiser not in ("sgd", "adam"):
            raise ValueError(f"optimiser is 'sgd' or 'adam', not {self.optimiser!r}")
        some = {"epochs": (1, inf), "steps": (1, inf), "batch": (1, inf), "clip": (0, inf), "workers": (0, inf)}
        bounded(self, ("lr", "lr_end"), **some, weight_decay=(0, inf), average=(0, 1 - 1e-9))

    def rate(self, step: int) -> float:
        """Learning rate of a step: `logspace(lr, lr_end, epochs)[step // steps]`, or by milestones."""
        epoch = min(step // self.steps, self.epochs - 1)
        if self.milestones:
            return self.lr * 0.1 ** sum(epoch >= at for at in self.milestones)
        return self.lr * (self.lr_end / self.lr) ** (epoch / max(self.epochs - 1, 1))


def fit(
    model: nn.Module,
    loss: Callable[[nn.Module, Any], Tensor],
    samples,
    config: FitConfig,
    folder: str | Path,
    identity: str,
    device: torch.device | str = "cpu",
    on_epoch: Callable[[dict], None] = lambda row: None,
    groups: Callable[[nn.Module], list[dict[str, Any]]] | None = None,
) -> pd.DataFrame:
    """Train `model` in place and return the log, a row an epoch.

    loss(model, batch): scalar, a mean over the batch's samples (with several processes, each one's is of its share);
    samples[index]: a dict of arrays, any index from 0 to epochs * steps * batch.
    folder gets `checkpoint.pt` (every few minutes and at the end), the one before it and `log.jsonl`; a checkpoint
    found there is continued if it is of the same configuration, groups, initial weights and `identity`, else it is an
    error. One that is damaged is named in a warning and moved aside, and the one before it is continued. Raises
    ValueError while another run trains into the folder.
    identity: names what the samples and the loss are (`PairSampler.digest()`).
    groups(model): every trained parameter once, in dicts of `params` (a list), `rate` (times the schedule's learning
    rate; 1) and `weight_decay` (the configuration's); by default the weights, and the rest without decay.
    The trained model is the averaged one. Raises FloatingPointError when an epoch's loss is not finite."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    held = alone(folder, "another run trains into it; wait for it, or choose another folder")
    with held if parallel.rank() == 0 else nullcontext():
        run = _Run(model, config, Path(folder), torch.device(device), identity, groups or _weights_and_rest)
        first, total = run.resume(), config.epochs * config.steps
        clock = saved = time.monotonic()
        with parallel.shared_norms(run.model):
            forward = parallel.spread(loss, run.model)
            for done, batch in enumerate(_batches(samples, config, first, total), first + 1):
                run.step(done - 1, forward, batch)
                if done % config.steps == 0:
                    on_epoch(run.log(done, time.monotonic() - clock))
                    clock = time.monotonic()
                if done == total or time.monotonic() - saved > 60 * config.checkpoint_minutes:
                    run.save(done)
                    saved = time.monotonic()
    model.load_state_dict((run.average or run.model).state_dict())
    return pd.DataFrame(run.rows)


class _Run:
    """Model, optimiser, average and their checkpoint."""

    def __init__(
        self, model: nn.Module, config: FitConfig, folder: Path, device: torch.device, identity: str, groups: Callable
    ):
        # what must agree for a resume to be exact; how often to save and who makes samples does not
        settings = {k: v for k, v in asdict(config).items() if k not in ("checkpoint_minutes", "workers")}
        settings = {k: v for k, v in settings.items() if v or k != "milestones"}  # older checkpoints know none
        self.model = model.to(device, memory_format=torch.channels_last)
        names, groups = _checked(groups(model), model, config)
        self.identity = sha256(canonical([settings, names]), weights_digest(model), identity)
        self.config, self.folder, self.device = config, folder, device
        self.average = copy.deepcopy(self.model).requires_grad_(False) if config.average else None
        if config.optimiser == "sgd":
            self.optimiser = torch.optim.SGD(groups, config.lr, config.momentum)
        else:
            self.optimiser = torch.optim.Adam(groups, config.lr, (config.momentum, 0.999))
        parts = {"model": self.model, "average": self.average, "optimiser": self.optimiser}
        self.parts = {name: part for name, part in parts.items() if part is not None}  # what a checkpoint holds
        self.loss, self.count, self.rows = torch.zeros((), dtype=torch.float64, device=device), 0, []
        self.taken = 0  # steps of this process since the last row

    def step(self, step: int, loss: Callable[[Any], Tensor], batch: dict[str, Tensor]) -> None:
        self.model.train()
        if parallel.world() > 1:  # processes draw apart, and a resume by any number of them can repeat it
            torch.manual_seed(int(sha256(str(self.config.seed), str(step), str(parallel.rank()))[:15], 16))
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.rate(step) * group["rate"]
        batch = {k: v.to(self.device, non_blocking=True) for k, v in batch.items()}
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            value = loss(batch)
        self.optimiser.zero_grad()
        value.backward()
        if self.config.clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        self.optimiser.step()
        self.loss += parallel.mean(value.detach())
        self.count += 1
        self.taken += 1
        decay = min(self.config.average, (step + 1) / (step + 10))  # a young average follows closely
        theirs = self.model.state_dict()
        for name, mine in self.average.state_dict().items() if self.average else ():
            if mine.is_floating_point():
                mine.lerp_(theirs[name], 1 - decay)
            else:
                mine.copy_(theirs[name])

    def log(self, done: int, seconds: float) -> dict[str, float]:
        """Close an epoch: its row, which the log then has too."""
        mean = float(self.loss) / self.count
        if not math.isfinite(mean):
            remedy = f"lower the learning rate or clip; the last good checkpoint is {self.folder / 'checkpoint.pt'}"
            raise FloatingPointError(f"the loss is {mean} at step {done}: {remedy}")
        row = {
            "epoch": done // self.config.steps,
            "step": done,
            "samples": done * self.config.batch,
            "lr": self.config.rate(done - 1),
            "loss": mean,
            "samples_per_second": round(self.taken * self.config.batch / seconds, 2),
        }
        self.loss.zero_()
        self.count = self.taken = 0
        self.rows.append(row)
        if parallel.rank() == 0:
            write_text(self.folder / "log.jsonl", "".join(json.dumps(r) + "\n" for r in self.rows))
        return row

    def save(self, step: int) -> None:
        """Write a checkpoint; the one before it stays, as what a damaged one is replaced by."""
        if parallel.rank() > 0:
            return
        state = {name: part.state_dict() for name, part in self.parts.items()} | {
            "identity": self.identity,
            "step": step,
            "random": [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [])],
            "loss": self.loss,
            "count": self.count,
            "rows": json.dumps(self.rows),
        }
        torch.save(state | {"digest": sha256(canonical(state))}, buffer := io.BytesIO())
        new, path, before = (self.folder / f"checkpoint{kind}.pt" for kind in (".new", "", ".before"))
        write_bytes(new, buffer.getvalue())
        if path.is_file():
            path.replace(before)
        new.replace(path)

    def resume(self) -> int:
        """Load the folder's checkpoint, if there is one; the step to go on from."""
        data = parallel.from_first(self._whole() if parallel.rank() == 0 else b"")
        if not data:
            return 0
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)  # Adam counts its steps there
        if state["identity"] != self.identity:
            made = "another configuration, other data or other initial weights"
            raise ValueError(
                f"{self.folder / 'checkpoint.pt'}: made by {made}; delete it, or train into another folder"
            )
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        cpu, *cuda = state["random"]
        torch.set_rng_state(cpu)
        if cuda and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(cuda[: torch.cuda.device_count()])
        self.loss, self.count, self.rows = state["loss"].to(self.device), state["count"], json.loads(state["rows"])
        return state["step"]

    def _whole(self) -> bytes:
        """The newest checkpoint that is undamaged; empty where there is none. torch sees no flipped bit: the digest."""
        for path in (self.folder / f"checkpoint{kind}.pt" for kind in ("", ".before")):
            if not path.is_file():
                continue
            data = path.read_bytes()
            try:
                state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
                if state.pop("digest", None) in (None, sha256(canonical(state))):  # older ones have none
                    return data
                fault = "its digest is another"
            except Exception as error:
                fault = str(error).split("\n")[0]
            aside = path.replace(path.with_suffix(".damaged"))
            remedy = f"kept as {aside.name}; the one before it is taken, if any"
            warnings.warn(f"{path}: damaged ({fault}), {remedy}", stacklevel=2)
        return b""


def _weights_and_rest(model: nn.Module) -> list[dict[str, Any]]:
    """The weights decay; biases, batch norm and other vectors do not."""
    return [
        {"params": [p for p in model.parameters() if p.ndim > 1]},
        {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _checked(groups: list[dict[str, Any]], model: nn.Module, config: FitConfig) -> tuple[list, list[dict[str, Any]]]:
    """The groups by their parameters' names, and the groups: defaults filled in, frozen parameters left out.

    A trained parameter in no group would stand still and yet take part in the clipping."""
    names = {p: name for name, p in model.named_parameters() if p.requires_grad}
    defaults = {"rate": 1.0, "weight_decay": config.weight_decay}
    groups = [defaults | g | {"params": [p for p in g["params"] if p.requires_grad]} for g in groups]
    if unknown := {key for g in groups for key in g} - {"params", *defaults}:
        raise ValueError(f"a group has params, rate and weight_decay, not {', '.join(sorted(unknown))}")
    grouped = {p for g in groups for p in g["params"]}
    if strangers := len(grouped - names.keys()):
        raise ValueError(f"groups hold {strangers} parameters that are not the model's")
    if missing := [name for p, name in names.items() if p not in grouped]:
        raise ValueError(f"in no group: {', '.join(missing)}; freeze what is not to be trained (requires_grad_(False))")
    return [g | {"params": [names[p] for p in g["params"]]} for g in groups], groups


def read_log(folder: str | Path) -> pd.DataFrame:
    """The log of a run: epoch, step, samples seen, lr, loss, samples per second."""
    return pd.DataFrame(map(json.loads, (Path(folder) / "log.jsonl").read_text().splitlines()))


def _batches(samples, config: FitConfig, first: int, total: int) -> Iterable[dict[str, Tensor]]:
    """This process's shares of batches `first` to `total`, made ahead by worker processes."""
    mine = parallel.share(config.batch)
    return DataLoader(
        samples,
        batch_size=len(mine),
        sampler=_Places(first, total, config.batch, mine),
        num_workers=config.workers,
        prefetch_factor=8 if config.workers else None,
        multiprocessing_context="forkserver" if config.workers else None,  # a plain fork after torch ran can hang
        worker_init_fn=_quiet_worker,
        generator=torch.Generator(),  # its own: the global one belongs to the model
        pin_memory=torch.cuda.is_available(),
    )


@dataclass(frozen=True)
class _Places:
    """The indices that a process draws, batch after batch."""

    first: int
    total: int
    batch: int
    mine: range

    def __len__(self) -> int:
        return (self.total - self.first) * len(self.mine)

    def __iter__(self) -> Iterator[int]:
        return (step * self.batch + place for step in range(self.first, self.total) for place in self.mine)


def _quiet_worker(_: int) -> None:
    cv2.setNumThreads(0)  # torch limits its own
