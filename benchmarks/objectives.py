"""Objectives against the causal one, and what of a step is not the model: `python -m benchmarks.objectives`.

Models of one width and depth, on the same documents, on one thread. Each round has every objective take some steps; of
each, its analytic operations (`training.models.row_flops`: two streams, encoder and decoder counted) per second of CPU
time are held against the causal one's of that round. Beside it stands what share of the CPU time of a step went to
reading rows, to channel loss, and to the log with channel losses over many steps. Figures are medians of the rounds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

KINDS = ("causal", "prefix", "masked", "span_corruption", "permutation")
VOCABULARY, SEQUENCE, ROWS, MICRO = 8192, 256, 16, 8
SIZES = {"hidden": 128, "layers": 4, "heads": 4, "intermediate": 320}


def spec(kind: str, steps: int, sizes: dict[str, int] = SIZES, **training: Any) -> Any:
    """Of an objective: a model of such sizes, and what else is said of its training."""
    from data_specs.objectives import ARCHITECTURES
    from data_specs.spec import Spec

    return Spec.model_validate(
        {
            "name": kind,
            "seed": 7,
            "sources": {"text": {"kind": "text", "paths": "*.txt"}},
            "channels": {"even": "true", "odd": "true"},
            "mixture": {"epochs": {"default": 1e6}},
            "model": {"architecture": ARCHITECTURES[kind], **sizes},
            "training": {
                "workers": 1,
                "objective": kind,
                "sequence": SEQUENCE,
                "steps": steps,
                "batch": {"tokens": ROWS * SEQUENCE, "micro": MICRO},
                "precision": "fp32",
                "evaluate": {"every": 0, "tokens": 512},
                "checkpoint": {"every": 0},
                **training,
            },
        }
    )


def shards(store: Any) -> list[tuple[str, pa.Table]]:
    """A token file and what planning reads of its documents."""
    rng = np.random.default_rng(5)
    count = 400
    documents = [rng.integers(2, VOCABULARY, size=rng.integers(50, 900)) for _ in range(count)]
    path = "tokens/objectives/0.arrow"
    column = pa.table({"tokens": pa.array(documents, pa.list_(pa.uint16()))})
    with store.writer(path) as file, pa.ipc.new_file(file, column.schema) as out:
        out.write_table(column)
    table = {
        "id": pa.array([number.to_bytes(8, "little") * 2 for number in range(count)], pa.binary(16)),
        "channel": pa.array(["even" if number % 2 else "odd" for number in range(count)]),
        "length": pa.array([len(document) for document in documents], pa.int32()),
        "held_out": pa.array([number % 50 == 0 for number in range(count)]),
    }
    return [(path, pa.table(table))]


def planned(spec: Any, store: Any, vocabulary: int = VOCABULARY) -> Any:
    """The run plan of a spec, of seeded documents."""
    from tasks.planning.run_plan import build, plan_folder, plan_key
    from training.rows import Plan

    inputs = shards(store)
    key = plan_key(spec, vocabulary, [(path, "") for path, _ in inputs])
    build(spec, vocabulary, key, inputs, store)
    return Plan.read(store, plan_folder(spec, key))


SPENT: dict[str, float] = defaultdict(float)
"""CPU seconds of parts of steps."""


def timed(owner: Any, name: str, part: str) -> None:
    """Have a method add its CPU time to a part."""
    method: Callable[..., Any] = getattr(owner, name)

    def spending(*given: Any, **named: Any) -> Any:
        began = time.thread_time()
        try:
            return method(*given, **named)
        finally:
            SPENT[part] += time.thread_time() - began

    setattr(owner, name, spending)


class Measured:
    """A training of one objective, of which parts are timed."""

    def __init__(self, store: Any, kind: str, steps: int) -> None:
        from training import loop
        from training.begin import begin

        made = spec(kind, steps)
        self.trainer = loop.Trainer(made, store, planned(made, store), kind)
        begin(self.trainer, resume=False)
        timed(self.trainer.phases[0], "batch", "rows")
        timed(self.trainer, "_write_step", "log")

    def steps(self, count: int) -> tuple[float, dict[str, float]]:
        """Take so many -> operations per CPU second, and the share of each part."""
        SPENT.clear()
        began = time.process_time()
        for _ in range(count):
            self.trainer.step()
        seconds = time.process_time() - began
        return count * self.trainer.flops[0] / seconds, {name: part / seconds for name, part in SPENT.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    options = parser.parse_args()
    os.environ |= {"LOCAL_WORLD_SIZE": str(os.cpu_count()), "DS_ACCELERATOR": "cpu"}
    import torch

    from tasks.storage.store import Store
    from training import ranks
    from training.loss import ChannelLoss

    timed(ChannelLoss, "add", "channel loss")
    timed(ChannelLoss, "reduce", "channel loss")
    ranks.join("cpu")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        kinds = ["causal", *(kind for kind in options.kinds if kind != "causal")]
        steps = options.rounds * options.steps + 1
        found = {kind: Measured(Store(folder), kind, steps) for kind in kinds}
        rates: dict[str, list[float]] = defaultdict(list)
        shares: dict[str, dict[str, list[float]]] = {kind: defaultdict(list) for kind in kinds}
        for each in found.values():
            each.steps(1)
        for number in range(options.rounds):
            for kind in kinds if number % 2 else reversed(kinds):
                rate, parts = found[kind].steps(options.steps)
                rates[kind].append(rate)
                for name, share in parts.items():
                    shares[kind][name].append(share)
        for kind in kinds:
            ratio = statistics.median(a / b for a, b in zip(rates[kind], rates["causal"], strict=True))
            parts = {name: statistics.median(each) for name, each in shares[kind].items()}
            print(
                f"{kind}: {statistics.median(rates[kind]) / 1e9:.2f} GFLOP per CPU second, {ratio:.3f} of causal; "
                f"{', '.join(f'{name} {share:.2%}' for name, share in parts.items())} of a step"
            )


if __name__ == "__main__":
    main()
