"""How long a run takes from its loaded model to its next step, after a hundred steps and after many:
`python -m benchmarks.resume [--steps 100000]`.

The demo's model on one rank. A plan of so many steps, and the log of a run that took them all but one, a record a step
as the loop writes them, in segments as a training of a step a second leaves them; then the run is taken up again from a
checkpoint of its last step. Printed are the seconds that the model takes (built, put on the engine, its checkpoint
verified and read) and those of all else until the next step is done: log, rows, evaluation apart.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from dataclasses import replace
from typing import Any

FEW = 100
ROWS, SEQUENCE, VOCABULARY = 8, 64, 8192


def spec() -> Any:
    from data_specs.training import Model
    from tests import training_plan

    made = training_plan.spec(workers=1, micro=8, rows=ROWS, sequence=SEQUENCE)
    model = Model(hidden=128, layers=4, heads=4, kv_heads=2, intermediate=320)
    return made.model_copy(update={"model": model})


def planned(store: Any, steps: int) -> Any:
    """A plan of so many steps, of which it has the rows of the first two and of the last two."""
    from tests import training_plan
    from training.rows import Plan

    path = f"plans/of-{steps}@0"
    training_plan.write(store, (2, 2), ROWS, SEQUENCE, VOCABULARY, path, longest=2000)
    made = store.json(f"{path}/plan.json")
    first, last = made["phases"]
    first |= {"steps": steps - 2, "rows": (steps - 2) * ROWS}
    store.commit_json(f"{path}/plan.json", made | {"steps": steps, "phases": [first, last | {"first_step": steps - 2}]})
    return Plan.read(store, path)


def interrupted(store: Any, plan: Any, run: str) -> None:
    """Take the plan's first step, then write the log and the checkpoint of a run that took all steps but the last."""
    from training import begin, log, loop

    trainer = loop.Trainer(spec(), store, plan, run)
    begin.begin(trainer, resume=False)
    trainer.step()
    assert trainer.log
    trainer.log.flush()
    [step] = log.read(store, run)
    last = plan.steps - 1
    segment = 60  # steps: of a second each, as a run of hours flushes its log
    for first in range(2, last + 1, segment):
        for number in range(first, min(first + segment, last + 1)):
            trainer.log.pending.append({**step, "step": number})
        trainer.log.flush()
    trainer.cursor = replace(trainer.cursor, step=last, phase=1, row=ROWS)
    trainer.save()
    trainer.log.close()
    trainer.engine.destroy()


def taken_up(store: Any, plan: Any, run: str) -> tuple[float, float]:
    """Seconds until the model is loaded, and of all else until the next step is done."""
    from training import begin, loop

    loading = [0.0]
    restore = begin.restore

    def timed(trainer: Any, found: Any) -> None:
        began = time.perf_counter()
        restore(trainer, found)
        loading[0] += time.perf_counter() - began

    began = time.perf_counter()
    trainer = loop.Trainer(spec(), store, plan, run)
    loading[0] = time.perf_counter() - began
    begin.restore = timed
    try:
        begin.begin(trainer, resume=True)
    finally:
        begin.restore = restore
    trainer.step()
    seconds = time.perf_counter() - began
    assert trainer.cursor.step == plan.steps
    trainer.engine.destroy()
    return loading[0], seconds - loading[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=100_000)
    options = parser.parse_args()
    os.environ |= {"LOCAL_WORLD_SIZE": str(os.cpu_count()), "DS_ACCELERATOR": "cpu"}
    from tasks.storage.store import Store
    from training import ranks

    ranks.join("cpu")
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        for steps in (FEW, options.steps):
            plan, run = planned(store, steps), f"after-{steps}"
            interrupted(store, plan, run)
            size = sum(store.walk(f"runs/{run}/log").values())
            loading, rest = taken_up(store, plan, run)
            print(
                f"after {steps - 1:,} steps, {size / 2**20:,.1f} MiB of log: model {loading:.2f} s, then {rest:.2f} s"
            )


if __name__ == "__main__":
    main()
