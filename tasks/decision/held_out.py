"""The held-out documents: chosen once per lineage by a hash of their id, then frozen.

`HeldOut` writes the table (a pinned Arrow IPC file of id, source and text, so that evaluation text outlives its
source); `HeldOutColumn` says of each document whether it is in it. A document that arrives after the table was frozen
is not held out, whatever its hash, since models may have been learned from it or its like; but where its source came
later than the table, the same hash chooses of it from its first document on, so that it is evaluated on, too.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from data_specs.base import Settings
from data_specs.training import Evaluate
from tasks.arrays.hashing import below, seeded_hash, words
from tasks.engine.stage import Estimator, Stage
from tasks.storage.pinned_texts import SUFFIX, written
from tasks.storage.pins import Pins

TABLE = pa.schema([("id", pa.binary(16)), ("source", pa.string()), ("text", pa.string())])


class HeldOut(Estimator):
    """The frozen table: every document whose seeded 64-bit hash lies in the first `Evaluate.held_out` of the range.

    One process holds the table; a share that fits a demo (0.5 %) is gigabytes of a crawl, where 0.001 % will do."""

    name = "held_out"
    reads = ("id", "source", "text")
    suffix = SUFFIX
    settings: Evaluate

    def hashed_settings(self) -> dict[str, Any]:
        return {"held_out": self.settings.held_out}

    def sample(self, batch: pa.Table) -> pa.Table:
        chosen = below(seeded_hash(words(batch["id"]), self.seed, self.name), self.settings.held_out)
        return batch.select(TABLE.names).filter(pa.array(chosen))

    def fit(self, rows: pa.Table) -> tuple[bytes, dict[str, Any]]:
        """Facts: documents (`rows`), documents per source, and that what rules drop is evaluated on, too."""
        table = rows.select(TABLE.names).cast(TABLE).combine_chunks()
        counts = {entry["values"]: entry["counts"] for entry in table["source"].value_counts().to_pylist()}
        facts = {"rows": table.num_rows, "sources": dict(sorted(counts.items())), "evaluates_dropped": True}
        return written(table), facts


def evaluates_dropped(pins: Pins) -> bool:
    """Whether held-out documents are evaluated on that a rule drops: not those of a table of an earlier version, whose
    lineage goes on with the evaluation that it has, until a retrain."""
    pin = pins.get("held_out")
    return pin is None or bool(pin["facts"].get("evaluates_dropped"))


class HeldOutColumn(Stage):
    """Column `held_out`: whether the first 64 bits of the document's id are in the frozen table (a chance of 3e-4 that
    one of 1e9 documents is held out by mistake beside a table of 5e6)."""

    name, version = "held_out", 1
    reads = ("id",)
    writes = pa.schema([("held_out", pa.bool_())])

    def __init__(self, files: dict[str, str], joined: Mapping[str, tuple[float, int]] | None = None) -> None:
        """`files`: the frozen table's path and sha256. `joined`: the share and the seed of each source that came after
        it."""
        super().__init__(Settings(), files)
        self.joined = dict(joined or {})
        self.chosen: tuple[float, int] | None = None

    def of_source(self, source: str) -> HeldOutColumn:
        """Of a source that came later, the hash of its documents is asked, too."""
        if source not in self.joined:
            return self
        made = copy.copy(self)
        made.chosen = self.joined[source]
        made.variant = f"{made.chosen}"
        return made

    def setup(self) -> None:
        [path] = self.files
        only_ids = pa.ipc.IpcReadOptions(included_fields=[TABLE.get_field_index("id")])
        with pa.memory_map(path) as source:
            self.members = np.sort(words(pa.ipc.open_file(source, options=only_ids).read_all()["id"]))

    def __call__(self, batch: pa.Table) -> pa.Table:
        ids = words(batch["id"])
        held = np.searchsorted(self.members, ids, "right") > np.searchsorted(self.members, ids, "left")
        if self.chosen:
            share, seed = self.chosen
            held |= below(seeded_hash(ids, seed, HeldOut.name), share)
        return pa.table({"held_out": held}, self.writes)
