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
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.distributed as dist

from data_specs.spec import Spec
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
    stop,
)
from training.ahead import opening
from training.channel_sums import ChannelSums
from training.document_losses import Read
from training.evaluate import Evaluation
from training.loss import ChannelLoss, Losses, Targets, finite, minimised, token_losses
from training.meter import Meter
from training.parallel import Place
from training.ranks import from_rank_zero, on_gpu
from training.rows import Batch, Cursor, Phase, Plan, PlanError, Rows
from training.saver import Saver
from training.schedule import learning_rate
from training.spikes import DivergedError, NonFiniteError, SpikeError
from training.vocabulary import bytes_of_tokens, loaded_tokenizer
from training.watchdog import Watchdog

SUMMED = 10
"""Steps between records of the channels' losses over many steps."""


@dataclass
class Passes:
    """What the passes of one step came to: the mean loss of all ranks' targets, how many these are, means by channel,
    the norm of the gradient before it was clipped, why the update is left out, and this rank's batches with their
    losses."""

    loss: float = math.nan
    tokens: int = 0
    channels: Losses = field(default_factory=dict)
    norm: float | None = None
    refused: str = ""
    read: list[Read] = field(default_factory=list)


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
        compiled = devices.compiles(spec, self.device.type == "cuda")
        models.prepare(model, spec.training, compiled)
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
        phase, place = self.plan.phases[self.cursor.phase], self.cursor.planned(self.plan)
        self._enter(phase)
        if self.watch:
            self.watch.enter(self.cursor.phase)
        rate = self._set_rate(place)
        total = ChannelLoss(self.plan.channels, self.device, self.plan.loss_by, self.token_bytes)
        done = self._passes(phase, place, total)
        overflow = engine.overflowed(self.engine)
        refused = done.refused or ("" if overflow else self._refused_by_norm(done, place))
        taken = not (refused or overflow)
        if self.watch and refused:
            self.watch.left_out += 1
        elif self.watch and done.norm is not None and taken:
            self.watch.add(done.loss, done.norm)
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
                loss=done.loss,
                grad_norm=done.norm,
                tokens=done.tokens,
                channels=finite(done.channels),
                **({"by": {name: finite(each) for name, each in total.grouped.items()}} if total.grouped else {}),
                **({"bytes": total.bytes} if total.bytes else {}),
                **({"overflow": True} if overflow else {}),
                **({"left_out": refused} if refused else {}),
                **self.meter.facts(done.tokens, self.flops[self.cursor.phase]),
            )

    def _set_rate(self, place: int) -> float:
        """Give the optimizer the learning rate of a place in the plan, lower after a spike where the spec says so."""
        rate = learning_rate(place, self.plan.steps, self.settings.learning_rate, self.spec.model.hidden)
        rate *= spikes.rate(self.settings.spikes, self.plan, self.cursor)
        for group in self.engine.optimizer.param_groups:
            group["lr"] = rate
        return rate

    def _passes(self, phase: Phase, place: int, total: ChannelLoss) -> Passes:
        """Forward and backward passes over this rank's rows of a step, a micro-batch after the other, and the update at
        the end of the last. Between its two halves the losses of all ranks are summed and judged: before the last
        backward pass, so that what is not finite reaches no weight."""
        rows, micro = self.phases[self.cursor.phase], self.settings.micro(phase.sequence)
        supervised = rows.target_count(self.cursor.row, phase.rows_per_step)
        starts = self.place.rows(self.cursor.row, phase.rows_per_step, micro)
        done = Passes()
        for number, first in enumerate(starts, 1):
            last = number == len(starts)
            self.watchdog.at_place(f"reading rows {first} to {first + micro} of step {self.cursor.step + 1}")
            with self.meter.loading():
                batch = rows.batch(first, micro)
            self.watchdog.at_place(f"a forward pass of step {self.cursor.step + 1}")
            sought, found = self.losses(batch)
            if self.place.counts:
                total.add(*found)
                done.read.append((first, batch, found[0].detach()))
            if last:
                done.loss, done.tokens, done.channels = total.reduce(self.meter.own())
                if done.tokens != supervised:
                    raise PlanError(
                        f"{self.plan.path}: step {self.cursor.step + 1} has {done.tokens} targets, not {supervised}"
                    )
                done.refused = self._refused_by_loss(done, place)
            self.watchdog.at_place(f"a backward pass of step {self.cursor.step + 1}")
            self.engine.set_gradient_accumulation_boundary(last)
            self.engine.backward(sought * self.place.averaged / supervised, scale_wrt_gas=False)
            wanted = partial(self._takes, done.refused, place) if self._leaves_out else None
            done.norm = engine.step(self.engine, self.settings.clip, wanted)
        return done

    def _refused_by_loss(self, done: Passes, place: int) -> str:
        """Why a step's update is left out, by its loss; "" where it is taken. Raises DivergedError (see `_refuse`)."""
        if not math.isfinite(done.loss):
            return self._refuse(NonFiniteError, "the loss is not finite", done.read)
        if self.watch and (why := self.watch.of_loss(done.loss, place)):
            return self._refuse(SpikeError, why, done.read, loss=done.loss, channels=done.channels)
        return ""

    def _refused_by_norm(self, done: Passes, place: int) -> str:
        """The same by the norm of its gradient."""
        if done.norm is None or not math.isfinite(done.norm):
            return self._refuse(NonFiniteError, f"the norm of the gradient is {done.norm}", done.read)
        if self.watch and (why := self.watch.of_norm(done.norm, place)):
            facts = {"loss": done.loss, "channels": done.channels, "grad_norm": done.norm}
            return self._refuse(SpikeError, why, done.read, **facts)
        return ""

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
            checkpoint.commit(
                self.store,
                self.run,
                cursor,
                self.plan.digest,
                model,
                self.world,
                keep=every.keep,
                sums=sums,
                milestones=every.milestones,
                updates=updates,
            )

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
            place = self.place
            with opening(
                self.phases, self.plan, lambda: self.cursor, place.replica, place.replicas, self.settings.micro
            ):
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
