"""Training by several processes as by one: each takes its share of every batch, and what a batch has in common (losses,
the statistics of batch norm, gradients) is of all shares together.

Started by torchrun, which tells each process its rank; without it everything here is what one process does alone."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


@contextmanager
def joined(device: str = "cpu") -> Iterator[torch.device]:
    """Join the processes that torchrun started, if it did; gives this one's device: of several GPUs its own.

    CUDA devices talk by NCCL, processors by gloo."""
    if "RANK" not in os.environ:
        yield torch.device(device)
        return
    mine = torch.device(f"cuda:{os.environ['LOCAL_RANK']}") if device == "cuda" else torch.device(device)
    if mine.type == "cuda":
        torch.cuda.set_device(mine)
    store, number, count = next(dist.rendezvous("env://"))
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        # torchrun's store outlives those that it restarts, and with it the addresses of the dead. (Hosts count attempts
        # apart: on several, TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 gives each attempt a store.)
        store = dist.PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
    dist.init_process_group("nccl" if mine.type == "cuda" else "gloo", store=store, rank=number, world_size=count)
    try:
        yield mine
        dist.barrier()  # nobody leaves while the first still writes
    finally:
        dist.destroy_process_group()


def world() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """This process's number; 0 alone writes files."""
    return dist.get_rank() if dist.is_initialized() else 0


def share(batch: int) -> range:
    """The places of a batch that are this process's. Raises ValueError when the batch cannot be shared equally."""
    if batch % world():
        raise ValueError(f"a batch of {batch} cannot be shared by {world()} processes equally; choose a multiple")
    size = batch // world()
    return range(rank() * size, (rank() + 1) * size)


def mean(x: Tensor) -> Tensor:
    """Of a tensor that every process has its own of; gradients flow to all."""
    return _Mean.apply(x) if world() > 1 else x


class _Mean(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        y = x / world()
        dist.all_reduce(y)
        return y

    backward = forward  # of a sum over processes, the sum over processes


def from_first(data: bytes) -> bytes:
    """What the first process has, on all of them: a file that the others need not see."""
    if world() == 1:
        return data
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    size = torch.tensor([len(data)], device=device)
    dist.broadcast(size, 0)
    if not size:
        return b""
    content = torch.empty(int(size), dtype=torch.uint8, device=device)
    if rank() == 0:
        content.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
    dist.broadcast(content, 0)
    return content.cpu().numpy().tobytes()


def spread(loss: Callable[[nn.Module, Any], Tensor], model: nn.Module) -> Callable[[Any], Tensor]:
    """`batch -> loss(model, batch)`, whose gradients become the mean over the processes (DistributedDataParallel)."""
    if world() == 1:
        return lambda batch: loss(model, batch)
    return DistributedDataParallel(_Loss(loss, model))


class _Loss(nn.Module):
    """The loss as a module's output: what DistributedDataParallel wraps; losses call more of a model than `forward`."""

    def __init__(self, loss: Callable[[nn.Module, Any], Tensor], model: nn.Module):
        super().__init__()
        self.loss, self.model = loss, model

    def forward(self, batch: Any) -> Tensor:
        return self.loss(self.model, batch)


@contextmanager
def shared_norms(model: nn.Module) -> Iterator[None]:
    """Batch norms over all shares while in here: torch's own on CUDA, and `SharedNorm` where that has none."""
    norms = [m for m in model.modules() if type(m) is nn.BatchNorm2d] if world() > 1 else []
    for norm in norms:
        norm.process_group = None
        norm.__class__ = nn.SyncBatchNorm if next(model.parameters()).is_cuda else SharedNorm
    try:
        yield
    finally:
        for norm in norms:
            norm.__class__ = nn.BatchNorm2d


class SharedNorm(nn.BatchNorm2d):
    """Batch norm by the statistics of all processes' shares, as one process that had the whole batch would norm it."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        of, dtype = (1, -1, 1, 1), x.dtype
        x = x.to(self.running_mean.dtype)  # of an autocast's half precision
        middle = mean(x.mean((0, 2, 3)))
        centred = x - middle.view(of)
        variance = mean(centred.square().mean((0, 2, 3)))
        count = world() * x.numel() / x.shape[1]
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(middle, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        y = centred * torch.rsqrt(variance + self.eps).view(of)
        return (y * self.weight.view(of) + self.bias.view(of) if self.affine else y).to(dtype)
