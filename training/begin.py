"""Where a training starts: at step 0, with the weights of another run or folder, or at its newest checkpoint.

All ranks start at the same place, or none does. What stands of later steps is removed before the log begins, so that
no step is there twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from data_specs.training import Start
from training import checkpoint, engine, log, spikes, start, stop, trackers, watchdog
from training.channel_sums import WINDOW, ChannelSums
from training.checkpoint import Checkpoint, CheckpointError
from training.described import described
from training.history import History
from training.loop import Trainer
from training.ranks import from_all_ranks, from_rank_zero
from training.resume import newest


def begin(trainer: Trainer, resume: bool) -> None:
    """Start at step 0, or at the newest checkpoint that verifies; rank 0 begins the log and saves what is run. All
    ranks call it, as they agree on where to start. Raises CheckpointError when there is nothing to resume, when a
    run that is not resumed has checkpoints, or when the log lacks steps."""
    steps = from_rank_zero(checkpoint.steps(trainer.store, trainer.run))
    if steps and not resume:
        raise CheckpointError(f"runs/{trainer.run} has checkpoints: resume it, or choose another name for this run")
    broken: list[str] = []
    begun_with: dict[str, str] = {}
    sums = None
    if resume:
        found, broken = newest(trainer.store, trainer.run, steps)
        restore(trainer, found)
        sums = found.sums
    elif trainer.settings.start:
        begun_with = _begin_with(trainer, trainer.settings.start)
    history = History(trainer.store, trainer.run) if trainer.rank == 0 else None
    lost, diverged = from_rank_zero(history and (history.lost(trainer.cursor.step), history.diverged()))
    if lost:
        raise CheckpointError(log.lacking(trainer.run, lost))
    trainer.cursor = replace(trainer.cursor, skipped=tuple(sorted({*trainer.cursor.skipped, *diverged})))
    watched = trainer.settings.spikes
    needed = None if sums is None else max(WINDOW, watched.window if watched else 0)
    before = history.last_steps(trainer.cursor.step, needed) if history else []
    trainer.sums = ChannelSums(sums, before)
    if watched:
        (known, phase), left_out = from_rank_zero((spikes.known(before), spikes.left_out(before)))
        trainer.watch = spikes.Watch(watched, trainer.settings.learning_rate.warmup, known, left_out, phase)
    if history:
        _begin_log(trainer, resume, history, broken, begun_with)


def _begin_with(trainer: Trainer, begins: Start) -> dict[str, str]:
    """Take the weights of another run or folder; what was read, by name. Raises CheckpointError where these are of
    other tokens, not the same on all nodes, or written to meanwhile."""
    contents = start.contents(trainer.store, begins)
    if any(each != contents for each in from_all_ranks(contents)):
        raise CheckpointError("training.start.folder does not hold the same on all nodes; copy it to each again")
    if trainer.tokenizer:
        mistake = start.other_tokens(trainer.store, begins, trainer.tokenizer, trainer.plan)
        if mistake:
            raise CheckpointError(mistake)
    read, trainer.updates = start.reader(trainer.store, trainer.spec, begins, trainer.shapes, trainer.tokenizer)
    engine.restore(trainer.engine, trainer.updates, read)
    after = from_all_ranks(start.contents(trainer.store, begins))
    if any(each and each != contents for each in after):  # what is gone by now was read
        what = begins.folder or begins.run
        raise CheckpointError(f"training.start: {what} was written to while it was read; run again")
    return contents


def restore(trainer: Trainer, found: Checkpoint) -> None:
    """Go on from a checkpoint. Raises CheckpointError for one of another plan or model."""
    if (found.plan, found.model) != (trainer.plan.digest, trainer.spec.model.model_dump(mode="json")):
        raise CheckpointError(f"{found.path} was trained on another plan or model; start a new run for this spec")
    trainer.cursor = found.cursor
    trainer.updates = start.updates(found, trainer.settings.start)
    engine.restore(trainer.engine, trainer.updates, checkpoint.Reader(trainer.store, trainer.run, found).read)


def _begin_log(
    trainer: Trainer, resume: bool, history: History, broken: Sequence[str], begun_with: dict[str, str]
) -> None:
    """On rank 0: leave nothing of steps that are done again, begin the log, and save what is run."""
    checkpoint.remove(trainer.store, trainer.run, trainer.cursor.step + 1, trainer.plan.steps)
    trainer.store.sweep(checkpoint.folder(trainer.run))
    about = {"workers": trainer.world, "zero": trainer.settings.zero, "bf16": trainer.bf16}
    about |= {"skipped": trainer.cursor.skipped, "loading": trainer.meter.since_start()}
    trainer.request = stop.Request(trainer.store, trainer.run)
    changed = []
    if resume:
        changed = history.other_evaluation(trainer.evaluation.digests, trainer.evaluation.averaged)
        changed.insert(0, history.other_precision(trainer.bf16))
        trainer.evaluated_at = {record["step"] for record in history.of("held_out")}
    config = {"model": trainer.spec.model.model_dump(mode="json"), "plan": trainer.plan.path, **about}
    followers = trackers.begin(trainer.settings.trackers, trainer.store, trainer.run, config)
    trainer.log = log.Log(trainer.store, trainer.run, trainer.cursor.step if resume else -1, followers, **about)
    silent = watchdog.last_word(trainer.store, trainer.run)
    watchdog.forget(trainer.store, trainer.run)
    found = [*changed, f"before this start, {silent}" if silent else ""]
    for message in [*(f"checkpoint left out: {problem}" for problem in broken), *filter(None, found)]:
        trainer.log.write("warning", trainer.cursor.step, message=message)
    facts = described(trainer.spec, trainer.plan, trainer.bf16)
    if begun_with := start.noted(trainer.store, trainer.run)[1] if resume else begun_with:
        facts["start"] = begun_with
    trainer.store.commit_json(f"runs/{trainer.run}/run.json", facts, private=True)
