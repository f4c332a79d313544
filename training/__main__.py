"""A training under torch's own launcher, without Ray and Prefect:

    torchrun --nproc-per-node 8 -m training SPEC [--name NAME] [--plan FOLDER] [--set KEY=VALUE ...]

With `--dry-run` it takes two steps of the plan, prints memory and seconds as JSON, and leaves nothing behind.
The plan is one that `sluice run` has written (with `--until plan`, without training); run, log and checkpoints are
those of a training that Ray placed, so that either goes on with what the other began. Ranks are as many as the launcher
starts, whatever `training.workers` says. SIGTERM and SIGINT save the step that the ranks are in; then, as after a stop
that anyone asked for, it ends with 75: run it again to go on.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from typing import Any

import orjson

from data_specs.load import SpecError, load
from data_specs.spec import Spec
from tasks.storage.store import DamagedError, Store
from training import checkpoint, identity, launch, stop
from training.checkpoint import CheckpointError
from training.devices import DeviceError
from training.models import ModelError
from training.rows import Plan, PlanError

INTERRUPTED = 75
"""Ends a run that is to be gone on with (sysexits' EX_TEMPFAIL)."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m training", description="Train a run plan under torchrun.")
    parser.add_argument("spec", help="path of the spec")
    parser.add_argument("--name", help="of the training, below runs/ in the store; by default that of `sluice run`")
    parser.add_argument("--plan", help="folder of the plan in the store; by default the only one of this spec's name")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--dry-run", action="store_true", help="take two steps, say what they take, leave nothing")
    asked = parser.parse_args()
    try:
        return train(load(asked.spec, asked.overrides), asked.name, asked.plan, asked.dry_run)
    except (
        SpecError,
        PlanError,
        CheckpointError,
        DamagedError,
        DeviceError,
        ModelError,
        launch.TrainingError,
    ) as error:
        print(error, file=sys.stderr)
        return 1


def train(spec: Spec, run: str | None, plan: str | None, dry: bool = False) -> int:
    """On this rank, of as many as the launcher says. Raises PlanError, CheckpointError, DamagedError, TrainingError."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    training = spec.training.model_copy(update={"workers": world})
    spec = spec.model_copy(update={"training": training})
    store = Store(spec.store)
    plan = plan or _plan(store, spec, run)
    read = Plan.read(store, plan, spec.mixture.shards == "rows")
    rendezvous = "env://" if world > 1 else None
    if dry:
        from training.dry_run import dry_run

        read.check(training)
        found = dry_run(spec, store, read, training.device, rendezvous)
        if os.environ.get("RANK", "0") == "0":
            print(orjson.dumps(found).decode())
        return 0
    run = run or identity.name(spec, read.digest)
    resume = bool(checkpoint.steps(store, run))
    launch.check(spec, store, plan, run, resume)
    if os.environ.get("RANK", "0") == "0":
        store.remove(stop.path(run))
    _stop_on_signals(store, run)
    from training.fit import fit
    from training.ranks import from_rank_zero
    from training.vocabulary import pinned_tokenizer

    work: dict[str, Any] = {"spec": spec, "store_url": spec.store, "plan": plan, "run": run}
    done = fit(**work, tokenizer=pinned_tokenizer(store, spec, read), resume=resume, rendezvous=rendezvous)
    return 0 if from_rank_zero(done is not None) else INTERRUPTED  # a rank that ends with an error ends the others


def _plan(store: Store, spec: Spec, run: str | None) -> str:
    """The plan of a training that was begun, else the only one of the spec's name. Raises PlanError."""
    if run and store.exists(f"runs/{run}/run.json"):
        return str(store.json(f"runs/{run}/run.json")["plan"])
    found = sorted(name for name in store.folders("plans") if name.startswith(f"{spec.name}@"))
    if len(found) != 1:
        known = f"there are {', '.join(found)}" if found else "`sluice run --until plan` writes one"
        raise PlanError(f"{spec.store} has {len(found)} plans of {spec.name}: name one with --plan plans/...; {known}")
    return f"plans/{found[0]}"


def _stop_on_signals(store: Store, run: str) -> None:
    """Ask the training to end where a signal asks this process; whichever rank it comes to, all of them leave."""

    def asked(*_: Any) -> None:
        threading.Thread(target=store.commit, args=(stop.path(run), b"")).start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, asked)


if __name__ == "__main__":
    sys.exit(main())
