"""The process group that a training runs on, and what its ranks tell each other."""

from __future__ import annotations

import os
import time
from typing import Any
from uuid import uuid4

import torch
import torch.distributed as dist
from torch.distributed.constants import default_pg_timeout

HELLO = 20
"""Looks for rank 0's answer before its name is read again."""


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
            store, _, _ = next(iter(dist.rendezvous(rendezvous, rank, world)))
            dist.init_process_group(backend, store=fresh(store, rank, world), rank=rank, world_size=world)
        else:
            dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    if on_gpu():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", dist.get_world_size()))
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // local))
    resolve_kernels()


def fresh(store: dist.Store, rank: int, world: int) -> dist.Store:
    """The part of a store in which the ranks of this start alone meet. A launcher that starts ranks again may give them
    the store of those before them, where one can read the address of a rank that is dead and wait for it.

    Rank 0 names the part by chance; each other takes the name that stands there and says hello with a number of its
    own; rank 0, once all did, answers with these numbers. Who does not find his own has read the name of an earlier
    start, and reads it again."""
    own, deadline = uuid4().hex, time.monotonic() + default_pg_timeout.total_seconds()
    if rank == 0:
        store.set("start", own)
        others = [store.get(f"{own}/hello/{other}").decode() for other in range(1, world)]
        store.set(f"{own}/all", " ".join(others))
        return dist.PrefixStore(own, store)
    while time.monotonic() < deadline:
        name = store.get("start").decode()
        store.set(f"{name}/hello/{rank}", own)
        for _ in range(HELLO):
            if store.check([f"{name}/all"]):
                if own in store.get(f"{name}/all").decode().split():
                    return dist.PrefixStore(name, store)
                break
            time.sleep(0.05)
        time.sleep(0.05)
    raise TimeoutError(f"rank {rank} of {world} did not find rank 0 in {default_pg_timeout}")


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
