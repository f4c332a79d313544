"""Our training loop against a bare DeepSpeed loop: `python -m benchmarks.training [--rounds 8] [--compile]`.

Both train the demo's model on the same rows with the same document mask and the same engine settings, with two workers
of one thread. The bare loop has its batches in memory and does nothing but forward, backward and step; ours reads the
run plan, sets the rate, checks the loss on all ranks, sums channel loss and writes the log. Rounds of both alternate
within one run; the figure is the median of the rounds' ratios, in time and, for a machine that others use, in CPU time.
With `--compile` a third one takes part: ours with its layers compiled, for which there has to be a C++ compiler.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

WORKERS = 2


def demo(zero: int) -> Any:
    """The demo's model and batch: 1.74M parameters, 8,192 tokens a step."""
    from data_specs.training import Model
    from tests.training_plan import spec

    made = spec(workers=WORKERS, micro=8, rows=32, sequence=256, zero=zero, precision="auto")
    model = Model(hidden=128, layers=4, heads=4, kv_heads=2, intermediate=320)
    return made.model_copy(update={"model": model})


def bare_step(trainer: Any, engine: Any, batches: list[tuple[Any, ...]]) -> None:
    """One optimizer step of a plain DeepSpeed loop over micro-batches in memory."""
    import torch

    from training.rows import IGNORED

    for number, (inputs, positions, labels) in enumerate(batches, 1):
        logits = engine(inputs, positions)
        loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
        engine.set_gradient_accumulation_boundary(number == len(batches))
        engine.backward(loss)
        engine.step()


def our_step(trainer: Any) -> Callable[[], None]:
    """Takes the next step of one of our loops."""

    def step() -> None:
        place = trainer.cursor.seek(trainer.plan)
        assert place, "the plan has too few steps"
        trainer.cursor = place
        trainer.step()

    return step


def bare_loop(trainer: Any, number: int) -> Callable[[], None]:
    """Takes the next step of a bare loop over the rows that `trainer` reads on this rank, made into tensors before."""
    import torch

    from training import engine, models

    spec = trainer.spec
    built = models.build(spec.model, trainer.plan.vocabulary, trainer.plan.longest(), spec.seed)
    bare = engine.initialize(built, spec.training, trainer.bf16)
    for group in bare.optimizer.param_groups:
        group["lr"] = 1e-3
    micro, rows = spec.training.batch.micro, spec.training.rows
    firsts = [range(s * rows + number * micro, (s + 1) * rows, micro * WORKERS) for s in range(trainer.plan.steps)]
    table = [[trainer.phases[0].batch(first, micro) for first in of_step] for of_step in firsts]
    steps = iter(
        [[tuple(map(torch.from_numpy, (b.inputs, b.positions, b.labels))) for b in of_step] for of_step in table]
    )
    return lambda: bare_step(trainer, bare, next(steps))


def timed(step: Callable[[], None], count: int, tokens: int) -> tuple[float, float]:
    """Of so many steps of so many tokens: tokens per second of all workers, and per second of this one's CPU time."""
    import torch.distributed as dist

    dist.barrier()
    began, busy = time.perf_counter(), time.process_time()
    for _ in range(count):
        step()
    busy = time.process_time() - busy
    dist.barrier()
    return count * tokens / (time.perf_counter() - began), count * tokens / busy


def rank(number: int, folder: str, zero: int, rounds: int, steps: int, compiled: bool) -> None:
    """One worker: the loops in turn; rank 0 prints."""
    os.environ |= {"LOCAL_RANK": str(number), "LOCAL_WORLD_SIZE": str(WORKERS), "DS_ACCELERATOR": "cpu"}
    import torch
    import torch.distributed as dist

    from tasks.storage.store import Store
    from tests.training_plan import PLAN
    from training import loop, ranks
    from training.rows import Plan

    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=number, world_size=WORKERS)
    ranks.join("cpu")
    torch.set_num_threads(1)
    spec, store = demo(zero), Store(folder)
    trainers = {}
    for name in (["compiled"] if compiled else []) + ["ours"]:  # what is built without would switch the compiler off
        training = spec.training.model_copy(update={"compile": name == "compiled"})
        chosen = spec.model_copy(update={"training": training})
        trainers[name] = loop.Trainer(chosen, store, Plan.read(store, PLAN), name)
        trainers[name].begin(resume=False)
    loops = {name: our_step(trainer) for name, trainer in trainers.items()}
    loops["bare"] = bare_loop(trainers["ours"], number)
    tokens = spec.training.batch.tokens
    for step in loops.values():
        timed(step, 2, tokens)
    rates: list[dict[str, tuple[float, float]]] = []
    for index in range(rounds):
        names = list(loops) if index % 2 else list(reversed(loops))
        rates.append({name: timed(loops[name], steps, tokens) for name in names})
        if number == 0:
            said = ", ".join(f"{name} {rates[-1][name][0]:,.0f}" for name in loops)
            print(f"round {index + 1}: {said} tokens/s", flush=True)
    if number == 0:
        what = f"ZeRO {zero}, {'bf16' if trainers['ours'].bf16 else 'fp32'}, {WORKERS} workers"
        report(what, rates)
    dist.destroy_process_group()


def report(what: str, rates: list[dict[str, tuple[float, float]]]) -> None:
    """Print the medians of the rounds' ratios."""
    for one, other in (("ours", "bare"), ("compiled", "ours")):
        if one in rates[0]:
            wall, busy = (statistics.median(r[one][of] / r[other][of] for r in rates) for of in (0, 1))
            print(f"{what}: {one} {wall:.3f} of {other}, {busy:.3f} by CPU time (medians)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--zero", type=int, default=1)
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    from torch.multiprocessing import spawn

    from tasks.storage.store import Store
    from tests import training_plan

    with tempfile.TemporaryDirectory() as folder:
        count = options.rounds * options.steps + 2
        training_plan.write(Store(folder), (count,), rows=32, sequence=256, vocabulary=8192, longest=2000)
        given = str(Path(folder)), options.zero, options.rounds, options.steps, options.compile
        spawn(rank, given, nprocs=WORKERS)


if __name__ == "__main__":
    main()
