"""Runs the training loop on ranks of its own: processes forked from a server that has imported torch once."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_specs.spec import Spec
from tasks.storage.store import Store

Job = tuple[Spec, str, str, bool]
"""Spec, plan, run, resume."""


class Ranks:
    """`world` processes that train `jobs` one after the other, without export."""

    def __init__(self, folder: Path, world: int, jobs: Sequence[Job]) -> None:
        context = multiprocessing.get_context("forkserver")
        os.environ["DS_ACCELERATOR"] = "cpu"
        context.set_forkserver_preload(["deepspeed", "training.loop", "transformers.models.llama.modeling_llama"])
        self.errors = context.SimpleQueue()
        meeting = f"{tempfile.mkdtemp(dir=folder)}/meeting"
        arguments = [(rank, world, meeting, str(folder), list(jobs), self.errors) for rank in range(world)]
        self.processes = [context.Process(target=_rank, args=argument, daemon=True) for argument in arguments]
        for process in self.processes:
            process.start()

    def wait(self) -> list[BaseException]:
        """Errors of the jobs, on any rank."""
        for process in self.processes:
            process.join()
        found = []
        while not self.errors.empty():
            found.append(self.errors.get())
        return found

    def kill(self) -> None:
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.join()


def _rank(rank: int, world: int, meeting: str, folder: str, jobs: list[Job], errors: Any) -> None:
    import torch.distributed as dist

    from training import fit, ranks
    from training.rows import Plan

    os.environ |= {"LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(os.cpu_count())}
    if world > 1:
        dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world)
    ranks.join("cpu")
    for spec, plan, run, resume in jobs:
        try:
            store = Store(folder)
            trainer, _ = fit.run_to_end(spec, store, Plan.read(store, plan), run, resume)
            if trainer.log:
                trainer.log.flush()
        except Exception as error:
            errors.put(error)
            raise
