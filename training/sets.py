"""Named sets of documents from files (`training.evaluate.sets`), evaluated beside the held-out table.

They are read once, at the beginning, encoded with the run's tokenizer and packed as rows of the plan are; what is
predicted of them is what the plan's objective predicts of held-out rows, with the same noise in all runs.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from itertools import islice
from typing import Any

import numpy as np
import orjson

from data_specs.training import EvaluationSet
from tasks.engine.stage import digest
from tasks.planning.objectives import Noise, numbers, row_shape, target_counts
from tasks.sources.compression import DamageError, Packing, Unpacked, named
from tasks.sources.files import absolute, steady
from tasks.tokenization.tokenizer import Loaded
from training.channel_sums import bits_per_byte, perplexity
from training.loss import Losses
from training.objectives import Batch, Packed, batch
from training.rows import Plan, PlanError

BLOCK = 2**18
"""Bytes that are read at a time."""


def texts(name: str, chosen: EvaluationSet) -> list[str]:
    """Its documents. Raises PlanError where they cannot be read, or the file is compressed and any of it is damaged:
    what was read of it may be, too."""
    where = f"training.evaluate.sets.{name}: {chosen.path}"
    try:
        with steady(absolute(chosen.path)) as file:
            kind = named(chosen.path)
            lines: Any = io.BufferedReader(Unpacked(file, Packing(kind)), BLOCK) if kind else file
            found = [orjson.loads(line)[chosen.field] for line in islice(lines, chosen.documents)]
            while kind and lines.read(BLOCK):  # its checksum stands at the end
                pass
    except EOFError as error:
        raise PlanError(f"{where} is truncated; fetch it again") from error
    except DamageError as error:
        raise PlanError(f"{where} is damaged after byte {error.at:,}: {error}; fetch it again") from error
    except (OSError, ValueError) as error:
        raise PlanError(f"{where} cannot be read as JSON lines: {error}") from error
    except (KeyError, TypeError) as error:
        raise PlanError(f"{where}: a line has no field {chosen.field}") from error
    if not found or not all(isinstance(text, str) for text in found):
        raise PlanError(f"{where} has no documents, or some whose {chosen.field} is no text")
    return found


class SetRows:
    """Rows of the sets, one after the other; a row is of one set, whose number is its channel."""

    def __init__(self, plan: Plan, sets: Mapping[str, list[np.ndarray]]) -> None:
        self.plan, self.noise = plan, Noise(plan.seed, None)
        self.shape = row_shape(plan.objective, plan.sequence)
        self.rows: list[tuple[int, list[np.ndarray]]] = []
        for number, documents in enumerate(sets.values()):
            self.rows += [(number, row) for row in self._packed(documents)]

    def _packed(self, documents: list[np.ndarray]) -> list[list[np.ndarray]]:
        """Documents in their order, cut where a row is full: next to it, so that each token is predicted once."""
        rows: list[list[np.ndarray]] = [[]]
        room = self.shape.width
        for tokens in documents:
            at = 0
            while len(tokens) - at > (self.shape.overlap if at else 0):
                piece = tokens[at : at + room]
                rows[-1].append(piece)
                at, room = at + len(piece), room - len(piece)
                if room <= self.shape.overlap:
                    rows.append([])
                    room = self.shape.width
                    at -= self.shape.overlap if at < len(tokens) else 0
        return [row for row in rows if row]

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, first: int, count: int) -> Batch:
        """Rows first .. first+count."""
        chosen = self.rows[first : first + count]
        pieces = [piece for _, row in chosen for piece in row]
        lengths = np.array([len(piece) for piece in pieces])
        segments = np.array([len(row) for _, row in chosen])
        targets = target_counts(self.plan.objective, lengths, segments, first, self.noise)
        channels = np.array([number for number, _ in chosen], np.int64)
        tokens = np.concatenate(pieces).astype(np.int64)
        packed = Packed(first, self.shape.width, tokens, lengths, segments, targets, channels)
        special = numbers(self.plan.special, self.plan.vocabulary)
        ordinary = self.plan.vocabulary - len(special)
        return batch(self.plan.objective, packed, self.noise, {**special, **self.plan.own}, ordinary)


class Sets:
    """What is evaluated, and what its losses mean."""

    def __init__(self, plan: Plan, loaded: Loaded, chosen: Mapping[str, EvaluationSet]) -> None:
        """Raises PlanError where a set cannot be read."""
        read = {name: texts(name, each) for name, each in chosen.items()}
        self.rows = SetRows(plan, {name: loaded.encode(documents) for name, documents in read.items()})
        self.names = tuple(read)
        self.bytes = {name: sum(len(text.encode()) for text in documents) for name, documents in read.items()}
        self.digests = {name: digest(documents) for name, documents in read.items()}
        """Of the texts of each: what tells a set from another of its name."""
        self.every_token = plan.objective.kind == "causal"

    def measures(self, losses: Losses, spelled: Mapping[str, int]) -> dict[str, dict[str, float]]:
        """Name -> `loss`, `perplexity`, `tokens`; where every token is predicted also `bits_per_byte`: of what the
        targets spell (`spelled`), and where that is not known of the whole texts, first tokens too."""
        found: dict[str, dict[str, float]] = {}
        for name, (loss, tokens) in losses.items():
            if loss is not None:
                found[name] = {"loss": loss, "perplexity": perplexity(loss), "tokens": tokens}
                if self.every_token:
                    size = spelled.get(name) or self.bytes[name]
                    found[name]["bits_per_byte"] = bits_per_byte(loss * tokens, size)
        return found
