"""The outcome: the verdict, but for documents of whose text a cut behind it left nothing.

`repeated_lines` and `repeated_spans` cut a text of what the verdict keeps, so the verdict cannot know what they leave.
Where the model reads such a text, `kept` and `reason` are these, which everything that counts, plans and exports reads;
the verdict's own are `kept_before_cut` and `reason_before_cut`, which the cut reads.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_specs.base import Settings
from data_specs.reasons import EMPTIED_BY_CUT
from tasks.arrays.addresses import true
from tasks.decision.verdict import BEFORE_CUT, outcomes
from tasks.engine.stage import Stage


class Outcome(Stage):
    """`kept` and `reason`: the verdict's, but `emptied_by_cut` for a kept document of which nothing is left."""

    name, version = "outcome", 1
    writes = pa.schema([("kept", pa.bool_()), ("reason", pa.string())])

    def __init__(self, emptied: Sequence[str]) -> None:
        """`emptied`: columns one of which is true of a document of whose text the cuts left nothing."""
        super().__init__(Settings())
        self.emptied = {f"emptied_{number}": column for number, column in enumerate(emptied)}
        self.reads = (*self.writes.names, *self.emptied, "source")
        self.bound = {**BEFORE_CUT, **self.emptied}

    def __call__(self, batch: pa.Table) -> pa.Table:
        emptied = pa.array(np.logical_or.reduce([true(batch[role]) for role in self.emptied]))
        gone = pc.and_(batch["kept"], emptied)
        reason = pc.if_else(gone, EMPTIED_BY_CUT, batch["reason"])
        return pa.table([pc.and_not(batch["kept"], gone), reason], schema=self.writes)

    def ledger(self, columns: pa.Table, batch: pa.Table) -> dict[str, dict[str, int]]:
        """Source -> {"kept" or a reason: documents}."""
        return outcomes(batch["source"], columns["reason"])
