"""The held-out documents: chosen once per lineage by a hash of their id, then frozen.

`HeldOut` writes the table (a pinned Arrow IPC file of id, source, text and payload, so that evaluation text outlives
its source); `HeldOutColumn` says of each document whether it is in it. A document that arrives after the table was
frozen is not held out, whatever its hash, since models may have been learned from it or its like; but where its source
came later than the table, a hash chooses of it from its first document on, so that it is evaluated on, too.

An id says where a record stands, and lines of a file may move: what stands where a held-out record stood is held out
only if its payload is the same, and what has the payload of one is, wherever it stands. So is what a hash chooses of a
later source. Tables of earlier versions have no payloads: their lineages go by ids alone, until a retrain.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data_specs.base import Settings
from data_specs.training import Evaluate
from tasks.arrays.hashing import below, seeded_hash, words
from tasks.engine.stage import Estimator, Stage
from tasks.storage.pinned_texts import SUFFIX, written
from tasks.storage.pins import Pins

TABLE = pa.schema([("id", pa.binary(16)), ("source", pa.string()), ("text", pa.string()), ("payload", pa.string())])
UNKNOWN = 0
"""The number of a payload that is not known: that of a document that was taken down."""


class HeldOut(Estimator):
    """The frozen table: every document whose seeded 64-bit hash lies in the first `Evaluate.held_out` of the range.

    One process holds the table; a share that fits a demo (0.5 %) is gigabytes of a crawl, where 0.001 % will do."""

    name, version = "held_out", 2  # 2: payloads are in it
    reads = ("id", "source", "text", "payload")
    suffix = SUFFIX
    settings: Evaluate

    def hashed_settings(self) -> dict[str, Any]:
        return {"held_out": self.settings.held_out}

    def sample(self, batch: pa.Table) -> pa.Table:
        chosen = below(seeded_hash(words(batch["id"]), self.seed, self.name), self.settings.held_out)
        return batch.select(TABLE.names).filter(pa.array(chosen))

    def fit(self, rows: pa.Table) -> tuple[bytes, dict[str, Any]]:
        """Facts: documents (`rows`), documents per source, that what rules drop is evaluated on, too, and that payloads
        are known."""
        table = rows.select(TABLE.names).cast(TABLE).combine_chunks()
        counts = {entry["values"]: entry["counts"] for entry in table["source"].value_counts().to_pylist()}
        facts = {"rows": table.num_rows, "sources": dict(sorted(counts.items()))}
        return written(table), facts | {"evaluates_dropped": True, "payloads": True}


def evaluates_dropped(pins: Pins) -> bool:
    """Whether held-out documents are evaluated on that a rule drops: not those of a table of an earlier version, whose
    lineage goes on with the evaluation that it has, until a retrain."""
    pin = pins.get("held_out")
    return pin is None or bool(pin["facts"].get("evaluates_dropped"))


def knows_payloads(pins: Pins) -> bool:
    """Whether held-out documents are known by their payloads: not those of a table of an earlier version."""
    pin = pins.get("held_out")
    return pin is None or bool(pin["facts"].get("payloads"))


class HeldOutColumn(Stage):
    """Column `held_out`: whether the document is in the frozen table, by the first 64 bits of its id and of its payload
    (a chance of 3e-4 that one of 1e9 documents is held out by mistake beside a table of 5e6).

    `held_out_by_payload`: whether by its payload alone, at another place than the one that was held out, as one that
    has moved is, and as its copies are. Of a table of an earlier version there is `held_out` alone, by ids.
    """

    name, version = "held_out", 1
    reads: tuple[str, ...] = ("id",)

    def __init__(
        self,
        files: dict[str, str],
        joined: Mapping[str, tuple[float, int]] | None = None,
        payloads: bool = True,
    ) -> None:
        """`files`: the frozen table's path and sha256. `joined`: the share and the seed of each source that came after
        it. `payloads`: whether the table has them."""
        super().__init__(Settings(), files)
        self.joined = dict(joined or {})
        self.chosen: tuple[float, int] | None = None
        self.payloads = payloads
        self.writes = pa.schema([("held_out", pa.bool_())])
        if payloads:
            self.reads = ("id", "payload")
            self.writes = self.writes.append(pa.field("held_out_by_payload", pa.bool_()))

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
        wanted = pa.ipc.IpcReadOptions(included_fields=[TABLE.get_field_index(name) for name in self.reads])
        with pa.memory_map(path) as source:
            table = pa.ipc.open_file(source, options=wanted).read_all()
        ids = words(table["id"])
        order = np.argsort(ids)
        self.members = ids[order]
        if self.payloads:
            self.contents = payload_words(table["payload"])[order]

    def __call__(self, batch: pa.Table) -> pa.Table:
        ids = words(batch["id"])
        held = np.searchsorted(self.members, ids, "right") > np.searchsorted(self.members, ids, "left")
        if not self.payloads:
            return pa.table({"held_out": held | self._chosen(ids)}, self.writes)
        contents = payload_words(batch["payload"])
        held[held] = self._same(ids[held], contents[held])
        known = contents != UNKNOWN
        by_payload = known & ~held & (np.isin(contents, self.contents) | self._chosen(contents))
        return pa.table({"held_out": held | by_payload, "held_out_by_payload": by_payload}, self.writes)

    def _same(self, ids: NDArray[np.uint64], contents: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Of documents whose ids are in the table, whether the payloads are those of then, as far as is known."""
        then = self.contents[np.searchsorted(self.members, ids)]
        return (then == contents) | (then == UNKNOWN) | (contents == UNKNOWN)

    def _chosen(self, keys: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Which documents of a source that came later are chosen, by their ids or payloads."""
        if not self.chosen:
            return np.zeros(len(keys), bool)
        share, seed = self.chosen
        return below(seeded_hash(keys, seed, HeldOut.name), share)


def payload_words(payloads: pa.ChunkedArray) -> NDArray[np.uint64]:
    """The first 64 bits of payloads' digests (hexadecimal); UNKNOWN of null."""
    digits = pc.utf8_slice_codeunits(pc.fill_null(payloads, "0" * 16), 0, 16).to_pylist()
    return np.frombuffer(bytes.fromhex("".join(digits)), "<u8")
