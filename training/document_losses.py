"""The losses of a step's documents: which of them a step's loss came from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from tasks.planning.trace import row_documents
from tasks.storage.store import Store
from training.parallel import Place
from training.ranks import from_all_ranks
from training.rows import IGNORED, Batch, Cursor, Plan

SHOWN = 50
"""Documents of a step with the highest loss, and as many with the lowest, that the log has."""
Read = tuple[int, Batch, torch.Tensor]
"""A micro-batch that a rank read: its first row in the phase, itself, its token losses [m, L]."""


class DocumentLosses:
    """Sums of token losses over the segments of `count` rows, which `documents` names (`trace.row_documents`)."""

    def __init__(self, documents: pa.Table, count: int) -> None:
        row, length = documents["row"].to_numpy(), documents["length"].to_numpy()
        self.documents = documents
        self.starts = np.cumsum(length) - length
        """Of each segment, in tokens of the rows laid end to end."""
        rows = np.bincount(row, length, count)
        self.row_starts = (np.cumsum(rows) - rows).astype(np.int64)
        self.losses, self.targets = np.zeros(len(row)), np.zeros(len(row), np.int64)

    def add(self, first: int, batch: Batch, losses: np.ndarray, positions: slice = slice(None)) -> None:
        """Token losses, float32 [m, L], of the rows from the `first` on, of which a rank may have some `positions`."""
        labels, origin = batch.labels[:, positions], batch.origin[:, positions]
        some = labels != IGNORED
        token = self.row_starts[first : first + len(some), None] + origin
        segment = np.searchsorted(self.starts, token[some], "right") - 1
        self.losses += np.bincount(segment, losses[some].astype(np.float64), len(self.losses))
        self.targets += np.bincount(segment, minlength=len(self.targets))

    def by_document(self) -> pa.Table:
        """`file`, `position`, `channel`, `tokens` (int64, targets), `loss` (float64, nats per token): what is not
        finite first, then the highest; documents without a target are left out."""
        table = self.documents.select(["file", "position", "channel"])
        table = table.append_column("tokens", pa.array(self.targets)).append_column("total", pa.array(self.losses))
        table = table.group_by(["file", "position", "channel"]).aggregate([("tokens", "sum"), ("total", "sum")])
        tokens, total = table["tokens_sum"].to_numpy(), table["total_sum"].to_numpy()
        some = np.flatnonzero(tokens)
        mean = total[some] / tokens[some]
        order = np.argsort(-np.nan_to_num(mean, nan=np.inf, posinf=np.inf), kind="stable")
        found = table.select(["file", "position", "channel"]).take(some[order])
        return found.append_column("tokens", pa.array(tokens[some][order])).append_column(
            "loss", pa.array(mean[order], from_pandas=False)
        )


def of_step(store: Store, plan: Plan, cursor: Cursor, place: Place, read: Sequence[Read]) -> list[dict[str, Any]]:
    """Rows of `by_document` of the step at the cursor, as the weights that read it had them, the SHOWN at either end.
    `read`: what this rank read. All ranks call it."""
    count = plan.phases[cursor.phase].rows_per_step
    found = DocumentLosses(row_documents(store, plan.path, cursor.phase, cursor.row, count), count)
    for first, batch, losses in read:
        part = place.positions(batch.labels.shape[1])
        found.add(first - cursor.row, batch, losses.float().cpu().numpy(), part)
    found.losses, found.targets = (
        sum(each) for each in zip(*from_all_ranks((found.losses, found.targets)), strict=True)
    )
    table = found.by_document()
    places = sorted({*range(table.num_rows)[:SHOWN], *range(table.num_rows)[-SHOWN:]})
    shown: list[dict[str, Any]] = table.take(places).to_pylist()
    return shown
