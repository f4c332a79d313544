"""The training loop, on one rank of a process group: plan, loader, loss, steps, evaluations, checkpoints, log.

Guarantees: what a step reads and its learning rate are functions of the place in the plan alone; an interrupted run
resumed at the same world size gives the losses of a straight one to the last bit, at another size the same up to
rounding. A loss that is not finite on any rank is seen on all of them, in the one all-reduce of channel loss after the
step's last forward pass and before the backward pass that ends it, so it never reaches the weights: the run stops, with
a `non_finite` record of its rows in the log. Resumed, it goes on from its newest checkpoint and never reads those
rows again; with `training.spikes` it does so by itself, also where the loss is finite and far from those before. A run
that is asked to end (`training.stop`) leaves after the step it is in, on all ranks, with a checkpoint of it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.distributed as dist

from data_specs.spec import Spec
from data_specs.training import Start
from tasks.storage.pins import Pin
from tasks.storage.store import Store
from training import (
    checkpoint,
    devices,
    document_losses,
    engine,
    log,
    models,
    parallel,
    spikes,
    start,
    stop,
    trackers,
    watchdog,
)
from training.ahead import opening
from training.channel_sums import WINDOW, ChannelSums
from training.checkpoint import Checkpoint, CheckpointError
from training.described import described
from training.document_losses import Read
from training.evaluate import Evaluation
from training.history import History
from training.loss import ChannelLoss, Targets, finite, minimised, token_losses
from training.meter import Meter
from training.parallel import Place
from training.ranks import from_all_ranks, from_rank_zero, on_gpu
from training.resume import newest
from training.rows import Batch, Cursor, Phase, Plan, PlanError, Rows
from training.saver import Saver
from training.schedule import learning_rate
from training.spikes import DivergedError, NonFiniteError, SpikeError
from training.vocabulary import bytes_of_tokens, loaded_tokenizer
from training.watchdog import Watchdog

SUMMED = 10
"""Steps between records of the channels' losses over many steps."""


class Trainer:
    """One rank's model, engine and rows, and the run's cursor."""

    def __init__(self, spec: Spec, store: Store, plan: Plan, run: str, tokenizer: Pin | None = None) -> None:
        self.spec, self.store, self.plan, self.run = spec, store, plan, run
        self.settings = spec.training
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self.place = Place.of(spec.training, self.rank, self.world)
        self.device = torch.device("cuda", torch.cuda.current_device()) if on_gpu() else torch.device("cpu")
        devices.check(spec, self.device.type == "cuda")
        self.bf16 = from_rank_zero(models.bf16(spec.training, self.device))
        model: torch.nn.Module = models.build(spec.model, plan.vocabulary, plan.longest(), spec.seed)
        self.shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
        models.prepare(model, spec.training, compiled := devices.compiles(spec, self.device.type == "cuda"))
        if spec.training.sequence_parallel > 1:
            parallel.share_positions(model, self.place)
        self.engine = engine.initialize(model.to(self.device), spec.training, self.bf16, compiled)
        self.phases = [Rows(store, plan, number) for number in range(len(plan.phases))]
        self.chunked_loss = spec.training.chunks_loss(plan.vocabulary)
        loaded = self.tokenizer = loaded_tokenizer(store, tokenizer, spec) if tokenizer else None
        self.token_bytes = bytes_of_tokens(plan, loaded, self.device) if loaded else None
        self.evaluation = Evaluation(store, spec.training, plan, loaded, self.place)
        self.cursor = Cursor()
        self.updates = 0
        self.rope_base = spec.model.rope_theta
        self.flops = [
            phase.rows_per_step * models.row_flops(spec.model, plan.vocabulary, phase.sequence, phase.targets_of_a_row)
            for phase in plan.phases
        ]
        self.meter = Meter(self.device, self.bf16, self.rank, self.world)
        self.sums = ChannelSums()
        self._saves = (spec.training.checkpoint.every, spec.training.checkpoint.milestones)
        self.saver = Saver(store, run, self.rank, self.world)
        self.watchdog = Watchdog(store, run, self.rank, self.world, 0)
        self.watch: spikes.Watch | None = None
        self.log: log.Log | None = None
        self.evaluated_at: set[int] = set()
        """On rank 0, steps after which the log that goes on has an evaluation."""
        self.request: stop.Request | None = None

    def begin(self, resume: bool) -> None:
        """Start at step 0, or at the newest checkpoint that verifies; rank 0 begins the log and saves what is run. All
        ranks call it, as they agree on where to start. Raises CheckpointError when there is nothing to resume, when a
        run that is not resumed has checkpoints, or when the log lacks steps."""
        steps = from_rank_zero(checkpoint.steps(self.store, self.run))
        if steps and not resume:
            raise CheckpointError(f"runs/{self.run} has checkpoints: resume it, or choose another name for this run")
        broken: list[str] = []
        begun_with: dict[str, str] = {}
        sums = None
        if resume:
            found, broken = newest(self.store, self.run, steps)
            self._restore(found)
            sums = found.sums
        elif self.settings.start:
            begun_with = start.contents(self.store, self.settings.start)
            if any(each != begun_with for each in from_all_ranks(begun_with)):
                raise CheckpointError(
                    "training.start.folder does not hold the same on all nodes; copy it to each again"
                )
            self._check_tokens(self.settings.start)
            read, self.updates = start.reader(self.store, self.spec, self.settings.start, self.shapes, self.tokenizer)
            engine.restore(self.engine, self.updates, read)
        history = History(self.store, self.run) if self.rank == 0 else None
        lost, diverged = from_rank_zero(history and (history.lost(self.cursor.step), history.diverged()))
        if lost:
            raise CheckpointError(log.lacking(self.run, lost))
        self.cursor = replace(self.cursor, skipped=tuple(sorted({*self.cursor.skipped, *diverged})))
        watched = self.settings.spikes
        needed = None if sums is None else max(WINDOW, watched.window if watched else 0)
        before = history.last_steps(self.cursor.step, needed) if history else []
        self.sums = ChannelSums(sums, before)
        if watched:
            known, left_out = from_rank_zero((spikes.known(before)[-watched.window :], spikes.left_out(before)))
            self.watch = spikes.Watch(watched, self.settings.learning_rate.warmup, known, left_out)
        if history:
            self._begin_log(resume, history, broken, begun_with)

    def _check_tokens(self, begins: Start) -> None:
        """Raises CheckpointError where the weights to begin with are of other tokens."""
        said = start.other_tokens(self.store, begins, self.tokenizer, self.plan) if self.tokenizer else ""
        if said:
            raise CheckpointError(said)

    def _restore(self, found: Checkpoint) -> None:
        """Go on from a checkpoint. Raises CheckpointError for one of another plan or model."""
        if (found.plan, found.model) != (self.plan.digest, self.spec.model.model_dump(mode="json")):
            raise CheckpointError(f"{found.path} was trained on another plan or model; start a new run for this spec")
        self.cursor = found.cursor
        self.updates = start.updates(found, self.settings.start)
        engine.restore(self.engine, self.updates, checkpoint.Reader(self.store, self.run, found).read)

    def _begin_log(self, resume: bool, history: History, broken: Sequence[str], begun_with: dict[str, str]) -> None:
        """On rank 0: leave nothing of steps that are done again, begin the log, and save what is run."""
        checkpoint.remove(self.store, self.run, self.cursor.step + 1, self.plan.steps)
        self.store.sweep(checkpoint.folder(self.run))
        about = {"workers": self.world, "zero": self.settings.zero, "bf16": self.bf16, "skipped": self.cursor.skipped}
        about["loading"] = self.meter.since_start()
        self.request = stop.Request(self.store, self.run)
        changed = []
        if resume:
            changed = history.other_evaluation(self.evaluation.digests, self.evaluation.averaged)
            changed.insert(0, history.other_precision(self.bf16))
            self.evaluated_at = {record["step"] for record in history.of("held_out")}
        config = {"model": self.spec.model.model_dump(mode="json"), "plan": self.plan.path, **about}
        followers = trackers.begin(self.settings.trackers, self.store, self.run, config)
        self.log = log.Log(self.store, self.run, self.cursor.step if resume else -1, followers, **about)
        silent = watchdog.last_word(self.store, self.run)
        watchdog.forget(self.store, self.run)
        found = [*changed, f"before this start, {silent}" if silent else ""]
        for message in [*(f"checkpoint left out: {problem}" for problem in broken), *filter(None, found)]:
            self.log.write("warning", self.cursor.step, message=message)
        facts = described(self.spec, self.plan, self.bf16)
        if begun_with := start.noted(self.store, self.run)[1] if resume else begun_with:
            facts["start"] = begun_with
        self.store.commit_json(f"runs/{self.run}/run.json", facts, private=True)

    def losses(self, batch: Batch) -> tuple[torch.Tensor, Targets]:
        """The forward pass -> the sum that is minimised; token losses float32 [m, L], and labels, channels and groups
        of the batch."""
        part = self.place.positions(batch.labels.shape[1])
        labels, channels = (torch.from_numpy(a).to(self.device) for a in (batch.labels[:, part], batch.channels))
        groups = {column: torch.from_numpy(array[:, part]).to(self.device) for column, array in batch.groups.items()}
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16 and self.settings.zero == 0):
            if self.chunked_loss:
                total, losses = models.chunked_losses(self.engine, batch, self.device, labels, self.settings.z_loss)
                return total, (losses, labels, channels, groups)
            logits = models.logits(self.engine, batch, self.device)
        losses = token_losses(logits, labels)
        return minimised(losses, logits, labels, self.settings.z_loss), (losses, labels, channels, groups)

    def _enter(self, phase: Phase) -> None:
        """Turn the model to a phase's base of RoPE, where it is another than so far."""
        base = phase.rope_theta or self.spec.model.rope_theta
        if base != self.rope_base:
            models.set_rope_base(self.engine.module, base)
            self.rope_base = base

    def step(self) -> None:
        """One optimizer step at the cursor, which must lie in the plan."""
        self.meter.begin()
        phase, rows = self.plan.phases[self.cursor.phase], self.phases[self.cursor.phase]
        self._enter(phase)
        supervised = rows.target_count(self.cursor.row, phase.rows_per_step)
        place, width = self.cursor.planned(self.plan), self.spec.model.hidden
        rate = learning_rate(place, self.plan.steps, self.settings.learning_rate, width)
        rate *= spikes.rate(self.settings.spikes, self.plan, self.cursor)
        for group in self.engine.optimizer.param_groups:
            group["lr"] = rate
        total = ChannelLoss(self.plan.channels, self.device, self.plan.loss_by, self.token_bytes)
        micro = self.settings.micro(phase.sequence)
        starts = self.place.rows(self.cursor.row, phase.rows_per_step, micro)
        norm, refused = None, ""
        read: list[Read] = []
        for number, first in enumerate(starts, 1):
            self.watchdog.at_place(f"reading rows {first} to {first + micro} of step {self.cursor.step + 1}")
            with self.meter.loading():
                batch = rows.batch(first, micro)
            self.watchdog.at_place(f"a forward pass of step {self.cursor.step + 1}")
            sought, found = self.losses(batch)
            if self.place.counts:
                total.add(*found)
                read.append((first, batch, found[0].detach()))
            if number == len(starts):
                mean, tokens, by_channel = total.reduce(self.meter.own())
                if tokens != supervised:
                    raise PlanError(
                        f"{self.plan.path}: step {self.cursor.step + 1} has {tokens} targets, not {supervised}"
                    )
                if not math.isfinite(mean):
                    refused = self._refuse(NonFiniteError, "the loss is not finite", read)
                elif self.watch and (why := self.watch.of_loss(mean, place)):
                    refused = self._refuse(SpikeError, why, read, loss=mean, channels=by_channel)
            self.watchdog.at_place(f"a backward pass of step {self.cursor.step + 1}")
            self.engine.set_gradient_accumulation_boundary(number == len(starts))
            self.engine.backward(sought * self.place.averaged / supervised, scale_wrt_gas=False)
            wanted = partial(self._takes, refused, place) if self._leaves_out else None
            norm = engine.step(self.engine, self.settings.clip, wanted)
        overflow = engine.overflowed(self.engine)
        if not (refused or overflow):
            if norm is None or not math.isfinite(norm):
                refused = self._refuse(NonFiniteError, f"the norm of the gradient is {norm}", read)
            elif self.watch and (why := self.watch.of_norm(norm, place)):
                refused = self._refuse(SpikeError, why, read, loss=mean, channels=by_channel, grad_norm=norm)
        taken = not (refused or overflow)
        if self.watch and refused:
            self.watch.left_out += 1
        elif self.watch and norm is not None and taken:
            self.watch.add(mean, norm)
        if self.settings.average and taken:
            engine.average(self.engine, self.settings.average.decay, self.updates)
        self.updates += taken
        row, self.cursor = self.cursor.row, self.cursor.after(self.plan)
        if self.log:
            self._write_step(
                phase=self.cursor.phase,
                row=row,
                rows=phase.rows_per_step,
                lr=rate,
                loss=mean,
                grad_norm=norm,
                tokens=tokens,
                channels=finite(by_channel),
                **({"by": {name: finite(each) for name, each in total.grouped.items()}} if total.grouped else {}),
                **({"bytes": total.bytes} if total.bytes else {}),
                **({"overflow": True} if overflow else {}),
                **({"left_out": refused} if refused else {}),
                **self.meter.facts(tokens, self.flops[self.cursor.phase]),
            )

    def _write_step(self, **facts: Any) -> None:
        """A step that was taken, and every so often what many came to."""
        step = self.cursor.step
        self.sums.add(facts)
        if self.log:
            self.log.write("step", step, **facts)
            if due(step, SUMMED) or self.cursor.seek(self.plan) is None:
                self.log.write("losses", step, **self.sums.record())

    @property
    def _leaves_out(self) -> bool:
        """Whether the update of a step that diverges is left out; that of the very first never is, as no weights are
        known to be good."""
        return bool(self.watch and self.watch.leaves_out and self.updates)

    def _takes(self, refused: str, place: int, norm: float) -> bool:
        """Whether a step's update is taken, by its loss and the norm of its gradient."""
        return not (refused or not math.isfinite(norm) or (self.watch and self.watch.of_norm(norm, place)))

    def _refuse(self, error: type[DivergedError], reason: str, read: Sequence[Read], **facts: Any) -> str:
        """The reason, of a step whose update is left out; else raises the error. The log says before which rows the
        step read, and the losses of their documents. All ranks call it."""
        step, rows = self.cursor.step + 1, self.plan.phases[self.cursor.phase].rows_per_step
        facts |= {"phase": self.cursor.phase, "row": self.cursor.row, "rows": rows}
        facts["documents"] = document_losses.of_step(self.store, self.plan, self.cursor, self.place, read)
        if self._leaves_out:
            if self.log:
                self.log.write("left_out", step, reason=reason, **facts)
            return reason
        if self.log:
            self.log.write("spike" if error is SpikeError else "non_finite", step, reason=reason, **facts)
            self.log.flush()
        raise error(
            f"step {step}: {reason}; it read rows {self.cursor.row} to {self.cursor.row + rows} of phase "
            f"{self.plan.phases[self.cursor.phase].name} of {self.plan.path}. Resume the run to go on from its newest "
            "checkpoint without them, or lower training.learning_rate.peak and start a new run"
        )

    def evaluate(self) -> None:
        """Held-out loss per channel, into the log."""
        began = time.perf_counter()
        self.watchdog.at_place(f"the evaluation after step {self.cursor.step}")
        self._enter(self.plan.phases[self.cursor.phase])
        with engine.averaged(self.engine) if self.evaluation.averaged else nullcontext():
            found = self.evaluation.losses(self.engine, self._evaluated, self.token_bytes, self.device)
        if self.log:
            self.log.write("held_out", self.cursor.step, **found, seconds=time.perf_counter() - began)

    def _evaluated(self, batch: Batch) -> Targets:
        self.watchdog.at_place(f"a batch of the evaluation after step {self.cursor.step}")
        return self.losses(batch)[1]

    def save(self, wait: bool = True) -> None:
        """Copy what a checkpoint holds, and `wait` until it is written; the log up to it is committed before."""
        self.watchdog.at_place("saving")
        if self.log:
            self.log.flush()
        cursor, every, updates = self.cursor, self.settings.checkpoint, self.updates
        model, sums = self.spec.model.model_dump(mode="json"), self.sums.copy()

        def commit(step: int) -> None:
            kept = every.keep, sums, every.milestones, updates
            checkpoint.commit(self.store, self.run, cursor, self.plan.digest, model, self.world, *kept)

        self.saver.save(cursor.step, engine.state(self.engine), commit)
        self.saved(wait)

    def saved(self, wait: bool) -> None:
        """Log the checkpoints that were written since, or `wait` for what is being written, too."""
        if wait:
            self.watchdog.at_place("waiting for a checkpoint")
            self.saver.wait()
        for facts in self.saver.written():
            if self.log:
                self.log.write("checkpoint", **facts)

    def train(self) -> bool:
        """Every step from the cursor to the end of the plan, with the evaluations and checkpoints that are due. False
        where the run was asked to end before; it is saved as it stands, and an evaluation then due is made up for."""
        dog = self.watchdog = Watchdog(self.store, self.run, self.rank, self.world, self.settings.watchdog)
        try:
            share = self.place.replica, self.place.replicas
            with opening(self.phases, self.plan, lambda: self.cursor, *share, self.settings.micro):
                return self._train()
        finally:
            dog.close()

    def _train(self) -> bool:
        step, last = self.cursor.step, self.cursor.seek(self.plan) is None
        evaluations = [0, step] if last or due(step, self.settings.evaluate.every) else [0]
        if step in evaluations and from_rank_zero(step not in self.evaluated_at):
            self.evaluate()
        if self.request:
            self.request.saves = True
        while place := self.cursor.seek(self.plan):
            self.cursor = place
            self.step()
            self.watchdog.step_taken()
            self.saved(wait=False)
            step, last = self.cursor.step, self.cursor.seek(self.plan) is None
            leaving = self._asked()
            if (last or due(step, self.settings.evaluate.every)) and not leaving:
                self.evaluate()
            if last or leaving or any(due(step, each) for each in self._saves):
                self.save(wait=last or leaving)
            if leaving:
                if self.request:
                    self.request.obeyed()
                return False
        if self.request:
            self.request.close()
        return True

    def _asked(self) -> bool:
        """Whether rank 0 has been asked to end the run; the same on all ranks."""
        asked = torch.tensor([bool(self.request and self.request.asked)], dtype=torch.uint8, device=self.device)
        dist.broadcast(asked, 0)
        return bool(asked.item())


def due(step: int, every: int) -> bool:
    """Whether something done every so many steps (0: never) is due after this step."""
    return every > 0 and step % every == 0
