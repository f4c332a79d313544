"""The process group that a training runs on, and what its ranks tell each other."""

from __future__ import annotations

import os
from typing import Any

import torch
import torch.distributed as dist


def on_gpu() -> bool:
    """Whether the process group was made for GPUs; that a machine has some is not enough."""
    return dist.get_backend() == "nccl"


def join(device: str, rendezvous: str | None = None) -> None:
    """Make a process group where none runs, on GPUs where `device` allows and there are some: of the processes that
    meet at `rendezvous` (torch's init_method; RANK and WORLD_SIZE say which this is), or of this one alone. Take this
    process's share of the cores."""
    if not dist.is_initialized():
        for key, value in {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}.items():
            os.environ.setdefault(key, value)
        backend = "nccl" if device != "cpu" and torch.cuda.is_available() else "gloo"
        if rendezvous:
            rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
            dist.init_process_group(backend, init_method=rendezvous, rank=rank, world_size=world)
        else:
            dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    if on_gpu():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", dist.get_world_size()))
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // local))
    resolve_kernels()


def resolve_kernels() -> None:
    """Have MKL choose the kernels of its vector functions on one thread. It does so at a process's first call; where
    several threads make that call at once, one of them can be given a kernel of low accuracy (errors of 1.5e-4 in a
    cosine, PyTorch's issue 188792), and the first step of a resumed run then differs from the straight one's."""
    for function in (torch.cos, torch.sin, torch.sqrt):
        function(torch.ones(1))


def from_all_ranks(value: Any) -> list[Any]:
    """The value of every rank, on every rank."""
    values = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def from_rank_zero(value: Any) -> Any:
    """Rank 0's value on every rank."""
    return from_all_ranks(value)[0]
