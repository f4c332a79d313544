"""A training from plan to summary, on one rank: the loop, again after spikes where the spec says so, and the export."""

from __future__ import annotations

from typing import Any

from data_specs.spec import Spec
from tasks.storage.pins import Pin
from tasks.storage.store import Store
from training import checkpoint, export, identity, log
from training.begin import begin
from training.history import History
from training.loop import Trainer
from training.ranks import from_rank_zero, join
from training.rows import Plan
from training.spikes import DivergedError


def fit(
    spec: Spec,
    store_url: str,
    plan: str,
    run: str,
    tokenizer: Pin,
    resume: bool,
    device: str | None = None,
    rendezvous: str | None = None,
) -> dict[str, Any] | None:
    """Train a run plan, on the process group that runs, one that meets at `rendezvous`, or alone -> on rank 0 the
    summary, also at `runs/<run>/summary.json`; None where the run was asked to end before it was done. A run that was
    complete is only exported again. See `training.launch.train`."""
    join(device or spec.training.device, rendezvous)
    store = Store(store_url)
    read = Plan.read(store, plan, spec.mixture.shards == "rows")
    read.check(spec.training)
    trainer, done = run_to_end(spec, store, read, run, resume, tokenizer)
    if not (trainer.log and done):
        return None
    step = trainer.cursor.step
    exported = export.write(store, spec, read, run, step, tokenizer)
    if upload := spec.training.checkpoint.upload:
        export.write(store, spec, read, run, step, tokenizer, (Store(upload), run))
    summary = log.summarize(store, run) | {
        "checkpoint": f"{checkpoint.folder(run)}/{step:08d}.json",
        "export": export.folder(run),
        "exported": exported,
        "exported_with": identity.export_choices(spec.model_dump(mode="json")),
        "checksums": store.checksums(export.folder(run), exported),
    }
    store.commit_json(f"runs/{run}/summary.json", summary)
    return summary


def run_to_end(
    spec: Spec, store: Store, plan: Plan, run: str, resume: bool, tokenizer: Pin | None = None
) -> tuple[Trainer, bool]:
    """Train, going back to the newest checkpoint after each spike as `training.spikes` allows -> the trainer, and what
    its `train` returned."""
    while True:
        trainer, done = Trainer(spec, store, plan, run, tokenizer), None
        try:
            begin(trainer, resume)
            done = trainer.train()
        except DivergedError:
            trainer.saved(wait=True)
            if trainer.log:
                trainer.log.close()
            if not from_rank_zero(_rolls_back(spec, store, run)):
                raise
        trainer.engine.destroy()
        if trainer.log:
            trainer.log.close()
        if done is not None:
            return trainer, done
        resume = bool(from_rank_zero(checkpoint.steps(store, run)))


def _rolls_back(spec: Spec, store: Store, run: str) -> bool:
    """Whether a run that has just diverged goes on by itself."""
    watched = spec.training.spikes
    return bool(watched and watched.action == "rollback" and len(History(store, run).diverged()) <= watched.at_most)
