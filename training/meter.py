"""One rank's clock: what a step's seconds went to, how the ranks compare, and what the device makes of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import psutil
import torch

from training import utilisation


class Meter:
    """Of one step after the other."""

    def __init__(self, device: torch.device, low_precision: bool, rank: int, world: int) -> None:
        self.device, self.rank, self.world = device, rank, world
        self.peak = utilisation.peak(device, low_precision)
        self.began = self.loader = 0.0
        self.ranks = torch.zeros(world, dtype=torch.float64, device=device)
        self.events: tuple[torch.cuda.Event, torch.cuda.Event] | None = None

    def since_start(self) -> float:
        """Seconds that this process runs."""
        return time.time() - psutil.Process().create_time()

    def begin(self) -> None:
        """A step begins."""
        self.began, self.loader = time.perf_counter(), 0.0
        if self.device.type == "cuda":
            self.begun = torch.cuda.Event(enable_timing=True)
            self.begun.record()

    @contextmanager
    def loading(self) -> Iterator[None]:
        """The rows of a micro-batch are read in the block."""
        before = time.perf_counter()
        yield
        self.loader += time.perf_counter() - before

    def own(self) -> torch.Tensor:
        """What this rank adds to the exchange that ends a step's forward passes, float64 [world], its seconds until
        then at its place: from ZeRO 2 on with some waiting for others, where a step has several micro-batches. On a GPU
        those of the step before, as the last kernels are not done yet."""
        self.ranks = torch.zeros(self.world, dtype=torch.float64, device=self.device)
        if self.device.type == "cpu":
            self.ranks[self.rank] = time.perf_counter() - self.began
            return self.ranks
        if self.events:
            self.ranks[self.rank] = self.events[0].elapsed_time(self.events[1]) / 1000
        arrived = torch.cuda.Event(enable_timing=True)
        arrived.record()
        self.events = self.begun, arrived
        return self.ranks

    def facts(self, targets: int, flops: int) -> dict[str, Any]:
        """What the log says of a step of so many targets and floating-point operations over all ranks, once it is done
        and `own` was summed over them."""
        seconds = time.perf_counter() - self.began
        found: dict[str, Any] = {
            "tokens_per_second": targets / seconds,
            "seconds": seconds,
            "loader": self.loader,
            "memory": utilisation.memory(self.device),
        }
        if self.peak:
            found["mfu"] = flops / seconds / self.world / self.peak
        if self.world > 1:
            times = self.ranks.tolist()
            slowest = max(range(self.world), key=times.__getitem__)
            if (middle := median(times)) > 0:
                found |= {"slowest_rank": slowest, "straggling": times[slowest] / middle}
        return found
