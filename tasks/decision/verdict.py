"""The verdict: which documents are kept, and for each other one the reason.

Every rule judges every document. Those of a cluster of duplicates that pass all rules, have a channel and are not held
out then stand for election, in order of preference: a document that is alike to one already kept is its duplicate, any
other is kept. So each removed duplicate is alike to one that stays (no chains), no two that stay are known to be alike,
and a cluster with a passing member keeps one. What fails a rule neither stays nor removes others. A cluster that
touches a held-out document is out of training altogether: its other members are copies of what is evaluated on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data_specs.base import Settings
from data_specs.expressions import normalised, parse
from data_specs.spec import Rule
from tasks.arrays.addresses import ADDRESS, ALIKE, I64, addresses, arrays, flattened, numbered, placed, true
from tasks.engine.sql import evaluate
from tasks.engine.stage import CorpusStage


def preference(name: str) -> tuple[pa.Field, str]:
    """The column that says which of several duplicates stays, and how it is sorted: the longest, the earliest, or the
    highest score of a column; what is unknown comes last."""
    match name:
        case "length":
            return pa.field("text_length", pa.uint32()), "descending"
        case "date":
            return pa.field("date", pa.string()), "ascending"
    return pa.field(name, pa.float32()), "descending"


CANDIDATE = pa.schema(
    [
        ("position", pa.uint32()),
        ("id", pa.binary(16)),
        ("cluster", pa.uint64()),
        ("copy_of", ADDRESS),
        ("alike", pa.list_(ALIKE)),
        ("hub", pa.bool_()),
        ("held_out", pa.bool_()),
        ("passes", pa.bool_()),
    ]
)
"""What the election knows of a document in a cluster, beside its preferences."""


class Judgement(Settings):
    """What decides: rules with their thresholds bound, and the preferences of the election."""

    rules: tuple[Rule, ...] = ()
    keep: tuple[str, ...] = ("quality", "length")


class Verdict(CorpusStage):
    """Rules, then the election inside clusters.

    `kept`; `reason`: null for a kept document, else the first of its reasons: `emptied`, where rewriting left nothing
    of its text; a rule, by name, in order; `no_channel`; `held_out`; `held_out_copy`; `duplicate`. `evaluated`: whether
    it is held out, and for nothing else not kept.
    `duplicate_of`: for a duplicate, the address of the kept document it is alike to, and their similarity (1 for
    copies). `fails_<rule>`: whether the rule drops the document, whatever the others say.
    """

    name, version = "verdict", 2  # 2: copies of held-out documents have a reason of their own
    libraries = ("duckdb",)
    settings: Judgement
    reduced = pa.schema([("duplicate_of", ALIKE)])

    def __init__(
        self,
        rules: tuple[Rule, ...],
        keep: Sequence[str],
        partitions: int = 16,
        gates: Mapping[str, str] | None = None,
        emptied: str | None = None,
    ) -> None:
        """`rules`: in plain SQL, percentiles bound. `keep`: of those whose columns are written. `gates`: the `where` of
        each stage that has one, for the ledger's count of kept documents that were skipped. `emptied`: the column that
        is true of a document of whose text rewriting left nothing."""
        super().__init__(Judgement(rules=rules, keep=tuple(keep)))
        self.emptied = emptied
        self.partitions = partitions
        self.gates = dict(gates or {})
        texts = [text for rule in rules for text in (rule.drop, rule.where) if text]
        judged = frozenset[str]().union(*(parse(text).columns for text in texts))
        chosen = [preference(name)[0] for name in keep]
        self.shuffled = pa.schema([*CANDIDATE, *chosen])
        judged |= {emptied} if emptied else set()
        columns = {*judged, "channel", *self.shuffled.names} - {"position", "passes"}
        self.reads = tuple(sorted(columns))
        gating = frozenset[str]().union(*(parse(text).columns for text in self.gates.values()))
        self.scatters = tuple(sorted({*judged, *gating, "source", "channel", "held_out"}))
        fails = [pa.field(f"fails_{rule.name}", pa.bool_()) for rule in rules]
        own = [("kept", pa.bool_()), ("reason", pa.string()), ("evaluated", pa.bool_()), ("duplicate_of", ALIKE)]
        self.writes = pa.schema([*own, *fails])

    def declared(self) -> dict[str, Any]:
        rules = [
            {"name": rule.name, "drop": normalised(rule.drop), "where": rule.where and normalised(rule.where)}
            for rule in self.settings.rules
        ]
        own = {"emptied": True} if self.emptied else {}
        return {"rules": rules, "keep": self.settings.keep, "gates": self.gates, **own}

    def map(self, batch: pa.Table) -> pa.Table:
        position = np.flatnonzero(batch["cluster"].is_valid())
        batch = batch.take(position)
        passes = batch["channel"].is_valid().to_numpy() & ~true(batch["held_out"])
        for fails in [*self._fails(batch).values(), *self._emptied(batch).values()]:
            passes &= ~fails
        partition = (batch["cluster"].to_numpy() % self.partitions).astype(np.int32)
        found = {"position": position.astype(np.uint32), "passes": passes, "partition": partition}
        return pa.table(
            {name: found[name] if name in found else batch[name] for name in (*self.shuffled.names, "partition")}
        )

    def reduce(self, rows: pa.Table) -> pa.Table:
        shard, position, passes, cluster = arrays(rows, "shard", "position", "passes", "cluster")
        touched = np.isin(cluster, cluster[true(rows["held_out"])])
        excluded = np.flatnonzero(passes & touched)
        found = np.array([*self._elected(rows, passes & ~touched)], "i8, i8, f4")
        removed, keeper, similarity = found["f0"], found["f1"], found["f2"]
        kept = pa.StructArray.from_arrays([shard[keeper], position[keeper], similarity], fields=list(ALIKE))
        about = np.concatenate([removed, excluded])
        duplicate_of = pa.concat_arrays([kept, pa.nulls(len(excluded), ALIKE)])
        return pa.table({"shard": shard[about], "position": position[about], "duplicate_of": duplicate_of})

    def _elected(self, rows: pa.Table, standing: NDArray[np.bool_]) -> Iterator[tuple[int, int, float]]:
        """Rows of whole clusters, and which of them stand -> (row removed, row kept in its place, similarity)."""
        text, first, partner, similarity = _graph(rows)
        hub = np.isin(text, text[true(rows["hub"])])
        preferred = [preference(name) for name in self.settings.keep]
        keys = [("hub", "descending"), *((field.name, order) for field, order in preferred), ("id", "ascending")]
        ranked = rows.set_column(rows.schema.get_field_index("hub"), "hub", [hub])
        order = pc.sort_indices(ranked, sort_keys=keys).to_numpy()
        taken: dict[int, tuple[int, float]] = {}
        for row in order[standing[order]].tolist():
            mine = int(text[row])
            if mine in taken:
                yield row, *taken[mine]
                continue
            taken[mine] = row, 1.0
            for edge in range(first[mine], first[mine + 1]):
                taken.setdefault(int(partner[edge]), (row, float(similarity[edge])))

    def scatter(self, batch: pa.Table, rows: pa.Table) -> pa.Table:
        duplicate_of = placed(rows, rows["duplicate_of"], batch.num_rows)
        held_out_copy = np.zeros(batch.num_rows, bool)
        held_out_copy[rows["position"].filter(rows["duplicate_of"].is_null()).to_numpy()] = True
        fails = self._fails(batch)
        reasons: dict[Any, NDArray[np.bool_]] = {
            **self._emptied(batch),
            **fails,
            "no_channel": ~batch["channel"].is_valid().to_numpy(),
            "held_out": true(batch["held_out"]),
            "held_out_copy": held_out_copy,
            "duplicate": duplicate_of.is_valid().to_numpy(zero_copy_only=False),
            None: np.ones(batch.num_rows, bool),
        }
        first = np.argmax(np.array([*reasons.values()]), axis=0)
        reason = pa.array(reasons, pa.string()).take(pa.array(first))
        evaluated = pc.fill_null(pc.equal(reason, "held_out"), False)
        return pa.table([reason.is_null(), reason, evaluated, duplicate_of, *fails.values()], schema=self.writes)

    def ledger(self, columns: pa.Table, batch: pa.Table) -> dict[str, dict[str, int]]:
        """Source -> {"kept" or a reason: documents}; "<source>.fails" -> {rule: documents that it would drop};
        "<source>.skipped" -> {stage: kept documents that its gate skipped}."""
        counts: dict[str, dict[str, int]] = {}
        outcome = pa.table({"source": batch["source"], "outcome": pc.fill_null(columns["reason"], "kept")})
        for row in outcome.group_by(["source", "outcome"]).aggregate([([], "count_all")]).to_pylist():
            counts.setdefault(row["source"], {})[row["outcome"]] = row["count_all"]
        for rule in self.settings.rules:
            failing = batch["source"].filter(columns[f"fails_{rule.name}"])
            for row in failing.value_counts().to_pylist():
                counts.setdefault(f"{row['values']}.fails", {})[rule.name] = row["counts"]
        for stage, passed in zip(self.gates, evaluate(self.gates, batch).columns if self.gates else (), strict=True):
            skipped = batch["source"].filter(pc.and_(columns["kept"], pc.invert(pc.fill_null(passed, False))))
            for row in skipped.value_counts().to_pylist():
                counts.setdefault(f"{row['values']}.skipped", {})[stage] = row["counts"]
        return counts

    def _emptied(self, batch: pa.Table) -> dict[str, NDArray[np.bool_]]:
        return {"emptied": true(batch[self.emptied])} if self.emptied else {}

    def _fails(self, batch: pa.Table) -> dict[str, NDArray[np.bool_]]:
        """Rule -> whether it drops each document."""
        wheres = {f"{rule.name} where": rule.where for rule in self.settings.rules if rule.where}
        judged = evaluate({rule.name: rule.drop for rule in self.settings.rules} | wheres, batch)
        return {
            rule.name: true(judged[rule.name]) & (true(judged[f"{rule.name} where"]) if rule.where else True)
            for rule in self.settings.rules
        }


def _graph(rows: pa.Table) -> tuple[I64, I64, I64, NDArray[np.float32]]:
    """Documents -> (the number of each one's text, the same for copies; where the partners of each text begin; the
    partners, by number; how similar they are)."""
    own = addresses(*arrays(rows, "shard", "position"))
    row, partners = flattened(rows["alike"])
    texts, number = numbered(pc.coalesce(rows["copy_of"].combine_chunks(), own), partners)
    text, partner = np.split(number, [rows.num_rows])
    order = np.argsort(text[row], kind="stable")
    first = np.searchsorted(text[row][order], np.arange(len(texts) + 1))
    return text, first, partner[order], pc.struct_field(partners, "similarity").to_numpy()[order]
