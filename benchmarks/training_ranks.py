"""Ranks of the demo's model on this machine, which the loops that are compared run in."""

from __future__ import annotations

import os
import time
from typing import Any

WORKERS = 2
RATE = 1e-3
"""Of learning, where no schedule sets it."""
Rates = tuple[float, float]
"""Tokens per second of all workers, and per second of rank 0's CPU time."""


def demo(zero: int) -> Any:
    """The demo's model and batch: 1.74M parameters, 8,192 tokens a step."""
    from data_specs.training import Model
    from tests.training_plan import spec

    made = spec(workers=WORKERS, micro=8, rows=32, sequence=256, zero=zero, precision="auto")
    model = Model(hidden=128, layers=4, heads=4, kv_heads=2, intermediate=320)
    return made.model_copy(update={"model": model})


def joined(number: int, folder: str, zero: int, group: str) -> tuple[Any, Any, Any]:
    """Have this process be a rank of one thread in a process group -> spec, store and plan."""
    os.environ |= {"RANK": str(number), "WORLD_SIZE": str(WORKERS), "OMP_NUM_THREADS": "1"}
    os.environ |= {"LOCAL_RANK": str(number), "LOCAL_WORLD_SIZE": str(WORKERS), "DS_ACCELERATOR": "cpu"}
    import torch
    import torch.distributed as dist

    from tasks.storage.store import Store
    from tests.training_plan import PLAN
    from training import ranks
    from training.rows import Plan

    dist.init_process_group("gloo", init_method=f"file://{folder}/{group}", rank=number, world_size=WORKERS)
    ranks.join("cpu")
    torch.set_num_threads(1)
    store = Store(folder)
    return demo(zero), store, Plan.read(store, PLAN)


class Clock:
    """Of some steps, which all ranks begin and end together."""

    def __init__(self) -> None:
        import torch.distributed as dist

        dist.barrier()
        self.began, self.busy = time.perf_counter(), time.process_time()

    def rates(self, tokens: int) -> Rates:
        """How fast so many tokens were trained on since."""
        import torch.distributed as dist

        busy = time.process_time() - self.busy
        dist.barrier()
        return tokens / (time.perf_counter() - self.began), tokens / busy
