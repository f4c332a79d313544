"""Evaluation: held-out loss per channel, and that on named sets; the same rows each time, at every world size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch

from data_specs.training import Training
from tasks.storage.store import Store
from tasks.tokenization.tokenizer import Loaded
from training.channel_sums import bits_per_byte
from training.loss import ChannelLoss, Targets
from training.parallel import Place
from training.rows import IGNORED, Batch, Plan, Rows
from training.sets import Sets


class Evaluated(Protocol):
    """Rows that are evaluated: of a plan, or of named sets."""

    def __len__(self) -> int: ...

    def batch(self, first: int, count: int) -> Batch:
        """Rows first .. first+count."""


class HeldOut:
    """This rank's share of the held-out rows."""

    def __init__(self, rows: Evaluated, micro: int, rank: int, world: int) -> None:
        self.batches: list[Batch] = []
        mine = range(rank, len(rows), world)
        each = -(-len(rows) // world)  # every rank runs as many: ZeRO 3 gathers weights in each forward pass
        share = [*mine, *[0] * (each - len(mine))]
        for first in range(0, each, micro):
            parts = [rows.batch(row, 1) for row in share[first : first + micro]]
            batch = Batch.joined(parts)
            spare = first + len(parts) - len(mine)
            if spare > 0:
                batch.labels[-spare:] = IGNORED
            self.batches.append(batch)

    def losses(
        self, model: torch.nn.Module, losses: Callable[[Batch], Targets], total: ChannelLoss, counts: bool = True
    ) -> dict[str, float | None]:
        """{channel: mean loss in nats per token, None where the channel has no held-out row}, the same on all ranks.
        `counts`: whether this rank's losses are, or another has the same."""
        model.eval()
        with torch.no_grad():
            for batch in self.batches:
                found = losses(batch)
                if counts:
                    total.add(*found)
        model.train()
        return {name: loss for name, (loss, _) in total.reduce()[2].items()}


class Evaluation:
    """What a run is evaluated on: the held-out rows of its plan, and its named sets."""

    def __init__(self, store: Store, settings: Training, plan: Plan, loaded: Loaded | None, place: Place) -> None:
        """`loaded` is the run's tokenizer, which sets are encoded with. Raises PlanError where a set cannot be read."""
        self.plan, self.place = plan, place
        self.averaged = bool(settings.average and settings.average.evaluate)
        """Whether it is the average of the weights that is evaluated."""
        share = settings.batch.micro, place.replica, place.replicas
        self.held_out = HeldOut(Rows(store, plan, None), *share)
        chosen = settings.evaluate.sets
        self.sets = Sets(plan, loaded, chosen) if chosen and loaded else None
        self.set_rows = HeldOut(self.sets.rows, *share) if self.sets else None

    @property
    def digests(self) -> dict[str, str]:
        """Of the texts of each set."""
        return self.sets.digests if self.sets else {}

    def losses(
        self,
        model: torch.nn.Module,
        losses: Callable[[Batch], Targets],
        token_bytes: torch.Tensor | None,
        device: torch.device,
    ) -> dict[str, Any]:
        """What the log's record of an evaluation says, the same on all ranks: `losses` per channel in nats per token,
        `by` other groupings, `bits_per_byte` where bytes are known, and what the `sets` come to."""
        total = ChannelLoss(self.plan.channels, device, self.plan.loss_by, token_bytes)
        found = self.held_out.losses(model, losses, total, self.place.counts)
        sets: dict[str, dict[str, float]] = {}
        if self.sets and self.set_rows:
            of_sets = ChannelLoss(self.sets.names, device, token_bytes=token_bytes)
            self.set_rows.losses(model, losses, of_sets, self.place.counts)
            sets = self.sets.measures(of_sets.channels, of_sets.bytes.get("", {}))
        bits = {
            name: bits_per_byte(loss * tokens, total.bytes[""][name])
            for name, (loss, tokens) in total.channels.items()
            if total.bytes and loss is not None
        }
        by = {
            column: {value: loss for value, (loss, _) in of_column.items()}
            for column, of_column in total.grouped.items()
        }
        more = {"by": by, "sets": sets, "sets_of": self.digests, "bits_per_byte": bits, "averaged": self.averaged}
        return {"losses": found} | {name: each for name, each in more.items() if each}
