"""Our training loop against a bare DeepSpeed loop and the Hugging Face Trainer: `python -m benchmarks.training
[--rounds 8] [--compile] [--whole]`.

All train the demo's model on the same rows with the same document mask, optimizer and engine settings, each with two
workers of one thread. The bare loop has its batches in memory and does nothing but forward, backward and step; ours
reads the run plan, sets the rate, checks the loss on all ranks, sums channel loss and writes the log; the Trainer
(`benchmarks/training_peer.py`) has its rows in memory, with the DeepSpeed configuration of ours, and without DeepSpeed.
Rounds of all alternate within one run; a figure is the median of the rounds' ratios, in time and, for a machine that
others use, in CPU time of rank 0. With `--compile` ours with its layers compiled takes part, for which there has to be
a C++ compiler; with `--whole` ours has its loss by whole logits, as the others have, so that loops alone are compared.
The Trainer needs accelerate, which is in the extra `bench` alone: `pip install -e .[bench]`.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.training_ranks import RATE, WORKERS, Clock, Rates, joined

WARM = 2
"""Steps that each takes before it is measured."""
PEERS = {"deepspeed": "the Trainer with the same DeepSpeed", "plain": "a plain Trainer"}


def bare_step(engine: Any, batches: list[tuple[Any, ...]]) -> None:
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
        group["lr"] = RATE
    micro, rows = spec.training.batch.micro, spec.training.rows
    firsts = [range(s * rows + number * micro, (s + 1) * rows, micro * WORKERS) for s in range(trainer.plan.steps)]
    table = [[trainer.phases[0].batch(first, micro) for first in of_step] for of_step in firsts]
    steps = iter(
        [[tuple(map(torch.from_numpy, (b.inputs, b.positions, b.labels))) for b in of_step] for of_step in table]
    )
    return lambda: bare_step(bare, next(steps))


def rank(number: int, pipes: list[Connection], folder: str, zero: int, compiled: bool, whole: bool) -> None:
    """One worker of ours and the bare loop: steps of one of them when it is told; at the end what the log says."""
    spec, store, plan = joined(number, folder, zero, "ours")
    from training import log, loop
    from training.begin import begin

    trainers = {}
    for name in (["compiled"] if compiled else []) + ["ours"]:  # what is built without would switch the compiler off
        chosen = {"compile": name == "compiled", "chunked_loss": False if whole else "auto"}
        training = spec.training.model_copy(update=chosen)
        trainers[name] = loop.Trainer(spec.model_copy(update={"training": training}), store, plan, name)
        begin(trainers[name], resume=False)
    loops = {name: our_step(trainer) for name, trainer in trainers.items()}
    loops["bare"] = bare_loop(trainers["ours"], number)
    while order := pipes[number].recv():
        name, count = order
        clock = Clock()
        for _ in range(count):
            loops[name]()
        pipes[number].send(clock.rates(count * spec.training.batch.tokens))
    if ours := trainers["ours"].log:
        ours.flush()
    steps = log.read(store, "ours") if number == 0 else []
    waited = statistics.median(step["loader"] / step["seconds"] for step in steps[WARM:]) if steps else 0.0
    pipes[number].send({"loss": steps[0]["loss"] if steps else None, "loader": waited, "bf16": trainers["ours"].bf16})


class Group:
    """Ranks in processes of their own, which take steps of a loop when they are told."""

    def __init__(self, rank: Callable[..., None], *given: Any) -> None:
        from torch.multiprocessing import get_context, spawn

        pairs = [get_context("spawn").Pipe() for _ in range(WORKERS)]
        self.pipes = [here for here, _ in pairs]
        self.processes = spawn(rank, ([there for _, there in pairs], *given), nprocs=WORKERS, join=False)
        for _, there in pairs:
            there.close()

    def tell(self, order: tuple[str, int] | None) -> Any:
        """What rank 0 answers to an order, once all ranks have. Raises what a rank raises."""
        for pipe in self.pipes:
            pipe.send(order)
        return [self._answer(pipe) for pipe in self.pipes][0]  # noqa: RUF015  # all are waited for

    def _answer(self, pipe: Connection) -> Any:
        while not pipe.poll(1):
            self.processes.join(0)
        return pipe.recv()

    def end(self) -> Any:
        """Have them end -> what rank 0 says of it all."""
        said = self.tell(None)
        while not self.processes.join():
            pass
        return said


def report(rates: list[dict[str, Rates]], names: Iterable[str]) -> None:
    """Print the medians of the rounds' ratios."""
    for one, other in (
        ("compiled", "ours"),
        *(("ours", other) for other in names if other not in ("ours", "compiled")),
    ):
        if one in rates[0]:
            wall, busy = (statistics.median(r[one][of] / r[other][of] for r in rates) for of in (0, 1))
            print(f"{one} {wall:.3f} of {PEERS.get(other, other)}, {busy:.3f} by CPU time")


def same_start(losses: dict[str, float]) -> None:
    """Exits where the losses of the first step differ by more than bf16 makes them."""
    print(", ".join(f"{name} {loss:.3f}" for name, loss in losses.items()), "is the loss of the first step")
    if max(losses.values()) > 1.002 * min(losses.values()):
        sys.exit("they do not train the same: other weights, rows, masks or targets")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--zero", type=int, default=1)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--whole", action="store_true")
    options = parser.parse_args()
    from benchmarks import training_peer
    from tasks.storage.store import Store
    from tests import training_plan

    with tempfile.TemporaryDirectory() as folder:
        count = options.rounds * options.steps + WARM
        training_plan.write(Store(folder), (count,), rows=32, sequence=256, vocabulary=8192, longest=2000)
        ours = Group(rank, folder, options.zero, options.compile, options.whole)
        loops = dict.fromkeys(["compiled", "ours", "bare"] if options.compile else ["ours", "bare"], ours)
        if importlib.util.find_spec("accelerate"):
            loops |= {kind: Group(training_peer.rank, folder, options.zero, kind) for kind in PEERS}
        else:
            print("without the Trainer, as accelerate is not installed: pip install -e .[bench]")
        for name, group in loops.items():
            group.tell((name, WARM))
        rates: list[dict[str, Rates]] = []
        for index in range(options.rounds):
            names = list(loops) if index % 2 else list(reversed(loops))
            rates.append({name: loops[name].tell((name, options.steps)) for name in names})
            said = ", ".join(f"{name} {rates[-1][name][0]:,.0f}" for name in loops)
            print(f"round {index + 1}: {said} tokens/s", flush=True)
        ends = {group: group.end() for group in dict.fromkeys(loops.values())}
    same_start({name: ends[group]["loss"] for name, group in loops.items()})
    said = ends[ours]
    print(f"ZeRO {options.zero}, {'bf16' if said['bf16'] else 'fp32'}, {WORKERS} workers; medians:")
    report(rates, loops)
    print(f"of a step's seconds ours waited {said['loader']:.2%} for rows")


if __name__ == "__main__":
    main()
