"""The verdict: which documents are kept, and for each other one the reason.

Every rule judges every document. Those of a cluster of duplicates that pass all rules, have a channel and are not held
out then stand for election, in order of preference: a document that is alike to one already kept is its duplicate, any
other is kept. So each removed duplicate is alike to one that stays (no chains), no two that stay are known to be alike,
and a cluster with a passing member keeps one. What fails a rule neither stays nor removes others. A cluster that
touches a held-out document is out of training altogether: its other members are copies of what is evaluated on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data_specs.base import Settings
from data_specs.expressions import normalised, parse
from data_specs.spec import Rule
from tasks.arrays.addresses import ADDRESS, SIMILAR_ADDRESS, addresses, arrays, true
from tasks.arrays.external import Sorted, flags
from tasks.arrays.groups import scatter_by_position
from tasks.decision.election import Election
from tasks.decision.evaluated import EVALUATED, all_but_one, of_clusters, texts_of
from tasks.engine.blockwise import Blocks, BlockwiseStage
from tasks.engine.sql import evaluate
from tasks.engine.stage import AskingStage
from tasks.engine.takedowns import REASON, TAKEN_DOWN


def preference(name: str) -> tuple[pa.Field, str]:
    """The column that says which of several duplicates stays, and how it is sorted: the longest, the earliest, the one
    of the first source, of the plainest address, or of the highest score of a column; what is unknown comes last."""
    match name:
        case "source":
            return pa.field("source_rank", pa.int32()), "ascending"
        case "url":
            return pa.field("url_shape", pa.int64()), "ascending"
        case "length":
            return pa.field("text_length", pa.uint32()), "descending"
        case "date":
            return pa.field("date", pa.string()), "ascending"
    return pa.field(name, pa.float32()), "descending"


BEFORE_CUT = {"kept": "kept_before_cut", "reason": "reason_before_cut"}
"""What the verdict's columns are called where a cut behind it may empty a text (tasks/decision/outcome.py)."""

_NONE = np.empty(0, np.uint64)

MADE_OF = {"source_rank": "source", "url_shape": "url"}
"""Of preferences that are no column: the one that they are made of."""


def url_shapes(urls: pa.ChunkedArray) -> pa.ChunkedArray:
    """int64: the lower, the plainer an address: those without parameters come first, then those of fewer parts, then
    the shorter ones; null where there is none, or an empty one."""
    urls = pc.if_else(pc.not_equal(pc.utf8_trim_whitespace(urls), ""), urls, None)
    length = pc.min_element_wise(pc.utf8_length(urls), 999_999).cast(pa.int64())
    depth = pc.min_element_wise(pc.count_substring(urls, "/"), 999).cast(pa.int64())
    query = pc.match_substring(urls, "?").cast(pa.int64())
    return pc.add(pc.add(pc.multiply(query, 10**9), pc.multiply(depth, 10**6)), length)


CANDIDATE = pa.schema(
    [
        ("position", pa.uint32()),
        ("id", pa.binary(16)),
        ("cluster", pa.uint64()),
        ("copy_of", ADDRESS),
        ("alike", pa.list_(SIMILAR_ADDRESS)),
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
    sources: tuple[str, ...] = ()
    """In the order of preference, where `keep` has `source`."""


class Verdict(BlockwiseStage, AskingStage):
    """Rules, then the election inside clusters.

    `kept`; `reason`: null for a kept document, else the first of its reasons: `takedown`; `emptied`, where rewriting
    left nothing of its text; a rule, by name, in order; `no_channel`; `held_out`; `held_out_copy`; `duplicate`.
    `evaluated`: whether it is held out and has a text and a channel, whatever rules drop it, so that variants of rules
    are compared on the same texts; but for a duplicate of what an earlier generation kept, and of copies but for one.
    `duplicate_of`: for a duplicate, the address of the kept document it is alike to, and their similarity (1 for
    copies). `fails_<rule>`: whether the rule drops the document, whatever the others say.
    """

    name, version = "verdict", 2  # 2: copies of held-out documents have a reason of their own
    libraries = ("duckdb",)
    settings: Judgement
    reduced = pa.schema([("duplicate_of", SIMILAR_ADDRESS)])
    state_key = "cluster"
    asks = ("copy_of", "alike")
    recalls: tuple[str, ...] = ("held_out", "kept", "reason")
    answers = pa.schema(
        [
            ("by_position", pa.uint32()),
            ("similarity", pa.float32()),
            ("shard", pa.uint64()),
            ("position", pa.uint32()),
            ("kept", pa.bool_()),
            ("contaminated", pa.bool_()),
        ]
    )

    def __init__(
        self,
        rules: tuple[Rule, ...],
        keep: Sequence[str],
        partitions: int = 16,
        gates: Mapping[str, str] | None = None,
        emptied: Sequence[str] = (),
        taken_down: bool = False,
        sources: tuple[str, ...] = (),
        cut_later: bool = False,
        evaluates_dropped: bool = True,
        by_payload: bool = False,
    ) -> None:
        """`rules`: in plain SQL, percentiles bound. `keep`: of those whose columns are written. `gates`: the `where` of
        each stage that has one, for the ledger's count of kept documents that were skipped. `emptied`: columns one of
        which is true of a document of whose text rewriting left nothing. `taken_down`: whether documents were, of which
        empty rows are left. `sources`: in the order in which duplicates of them stay. `cut_later`: whether texts of
        what is kept are cut, so that not this, but the outcome is the last word on a document. `evaluates_dropped`:
        false of held-out tables of earlier versions, of which a document that a rule drops is not evaluated on: their
        lineages stay comparable with themselves. `by_payload`: whether documents are held out by payloads, too, so
        that copies are, of which one is evaluated on."""
        super().__init__(Judgement(rules=rules, keep=tuple(keep), sources=sources if "source" in keep else ()))
        self.emptied, self.taken_down, self.cut_later = tuple(emptied), taken_down, cut_later
        self.evaluates_dropped, self.by_payload = evaluates_dropped, by_payload
        self.partitions = partitions
        self.gates = dict(gates or {})
        texts = [text for rule in rules for text in (rule.drop, rule.where) if text]
        judged = frozenset[str]().union(*(parse(text).columns for text in texts))
        chosen = [preference(name)[0] for name in keep]
        known = []
        if by_payload:
            known = [pa.field(name, pa.bool_()) for name in ("held_out_by_payload", "to_evaluate")]
            self.recalls = (*self.recalls, "evaluated")
            self.answers = self.answers.append(pa.field("evaluated", pa.bool_()))
        self.shuffled = pa.schema([*CANDIDATE, *known, *chosen])
        judged |= {*emptied} | ({"kind"} if taken_down else set())
        wanted = (MADE_OF.get(name, name) for name in self.shuffled.names)
        columns = {*judged, "channel", *wanted} - {"position", "passes", "to_evaluate"}
        self.reads = tuple(sorted(columns))
        gating = frozenset[str]().union(*(parse(text).columns for text in self.gates.values()))
        self.scatters = tuple(sorted({*judged, *gating, "source", "channel", "held_out"}))
        fails = [pa.field(f"fails_{rule.name}", pa.bool_()) for rule in rules]
        fixed = [
            ("kept", pa.bool_()),
            ("reason", pa.string()),
            ("evaluated", pa.bool_()),
            ("duplicate_of", SIMILAR_ADDRESS),
        ]
        self.writes = pa.schema([*fixed, *fails])

    def written_as(self, role: str) -> str:
        return BEFORE_CUT.get(role, role) if self.cut_later else role

    def hashed_settings(self) -> dict[str, Any]:
        rules = [
            {"name": rule.name, "drop": normalised(rule.drop), "where": rule.where and normalised(rule.where)}
            for rule in self.settings.rules
        ]
        optional: dict[str, Any] = {name: True for name in ("emptied", "taken_down") if getattr(self, name)}
        optional |= {"sources": self.settings.sources} if self.settings.sources else {}
        optional |= {"evaluates_dropped": True} if self.evaluates_dropped else {}
        optional |= {"by_payload": 3} if self.by_payload else {}  # 3: of copies of all generations one is evaluated on
        optional |= {"url_shapes": 2} if "url_shape" in self.shuffled.names else {}  # an empty address is none
        return {"rules": rules, "keep": self.settings.keep, "gates": self.gates, **optional}

    def map(self, batch: pa.Table) -> pa.Table:
        position = np.flatnonzero(batch["cluster"].is_valid())
        batch = batch.take(position)
        textless, fails = self._textless(batch), failing(self.settings.rules, batch)
        held_out, channel = true(batch["held_out"]), batch["channel"].is_valid().to_numpy()
        passes = channel & ~held_out & ~_any([*fails.values(), *textless.values()], len(batch))
        partition = (batch["cluster"].to_numpy() % self.partitions).astype(np.int32)
        found: dict[str, Any] = {"position": position.astype(np.uint32), "passes": passes, "partition": partition}
        if self.by_payload:
            against = [*textless.values(), *(() if self.evaluates_dropped else fails.values())]
            found["to_evaluate"] = channel & held_out & ~_any(against, len(batch))
        if "source_rank" in self.shuffled.names:
            found["source_rank"] = pc.index_in(batch["source"], pa.array(self.settings.sources, pa.string()))
        if "url_shape" in self.shuffled.names:
            found["url_shape"] = url_shapes(batch["url"])
        return pa.table(
            {name: found[name] if name in found else batch[name] for name in (*self.shuffled.names, "partition")}
        )

    def remember_blocks(self, read: Callable[[], Blocks]) -> Iterator[pa.Table]:
        """Of each cluster that touches a held-out document one of these, and of each text that is evaluated on; of each
        other one those that were kept. These have no `id`: where newer documents come, they stay."""
        election, contaminated, evaluated = self._election(), _NONE, _NONE
        for batch in read():
            election.add(batch)
            held_out = np.flatnonzero(pc.fill_null(batch["held_out"], False))
            clusters, first = np.unique(batch["cluster"].to_numpy()[held_out], return_index=True)
            stay = held_out[first[~np.isin(clusters, contaminated)]]
            contaminated = np.union1d(contaminated, clusters)
            if self.by_payload:
                mine = np.flatnonzero(pc.fill_null(batch["to_evaluate"], False))
                texts, first = np.unique(texts_of(batch)[mine], return_index=True)
                stay = np.union1d(stay, mine[first[~np.isin(texts, evaluated)]])
                evaluated = np.union1d(evaluated, texts)
            if len(stay):
                yield _unnamed(pa.table(batch.take(stay)))

        def stand(rows: pa.Table) -> NDArray[np.bool_]:
            """An older one was kept, also where newer ones are held out now."""
            return true(rows["passes"]) & (true(rows["older"]) | ~np.isin(rows["cluster"].to_numpy(), contaminated))

        gone, count = flags(election.count), 0
        for rows in election.duplicates(stand):
            gone[rows["number"].to_numpy().astype(np.int64)] = 1
        for batch in read():
            rows = pa.table(batch)
            stays = stand(rows.append_column("older", rows["id"].is_null())) & (gone[count : count + len(rows)] == 0)
            count += len(rows)
            yield _unnamed(rows.filter(stays))

    def recall(self, batch: pa.Table, rows: pa.Table) -> pa.Table:
        """Of the older documents that are named, those that are kept, and those that are, or are copies of, what is
        evaluated on: most are in the state, but for those of other clusters that a new document connects."""
        batch = batch.take(np.searchsorted(batch["position"].to_numpy(), rows["position"].to_numpy()))
        copy = pc.fill_null(pc.equal(batch["reason"], "held_out_copy"), False)
        rows = rows.append_column("shard", batch["shard"])
        for name in ("kept", "evaluated") if self.by_payload else ("kept",):
            rows = rows.append_column(name, batch[name])
        rows = rows.append_column("contaminated", pc.or_(copy, pc.fill_null(batch["held_out"], False)))
        return rows.filter(pc.or_(rows["kept"], rows["contaminated"]))

    def map_recalled(self, batch: pa.Table, rows: pa.Table) -> pa.Table:
        """Older documents stand in the clusters of those that name them. They have no `id`, which puts them first."""
        mapped = self.map(batch)
        uid = rows["by_shard"][0].as_py()
        mapped = mapped.append_column("shard", pa.array(np.full(len(mapped), uid, np.uint64)))
        rows = rows.filter(batch["cluster"].take(rows["by_position"]).is_valid())
        by, position, shard, similarity = arrays(rows, "by_position", "position", "shard", "similarity")
        cluster = batch["cluster"].take(by)
        text = pc.coalesce(batch["copy_of"].combine_chunks().take(by), addresses(np.full(len(by), uid, np.uint64), by))
        named = pa.StructArray.from_arrays([*text.flatten(), pa.array(similarity)], fields=list(SIMILAR_ADDRESS))
        known = {
            "position": position,
            "cluster": cluster,
            "alike": pa.ListArray.from_arrays(np.arange(len(by) + 1, dtype=np.int32), named),
            "hub": np.zeros(len(by), bool),
            "held_out": rows["contaminated"],
            "passes": rows["kept"],
            "to_evaluate": rows["evaluated"] if self.by_payload else None,
            "shard": shard,
            "partition": (cluster.to_numpy() % self.partitions).astype(np.int32),
        }
        older = [known[field.name] if field.name in known else pa.nulls(len(by), field.type) for field in mapped.schema]
        return pa.concat_tables([mapped, pa.table(older, names=mapped.column_names).cast(mapped.schema)])

    def reduce_blocks(self, blocks: Blocks) -> Iterator[pa.Table]:
        election, held_out, evaluated = self._election(), _NONE, [EVALUATED.empty_table()]
        for batch in blocks:
            election.add(batch)
            if self.by_payload:
                evaluated.append(of_clusters(batch))
            clusters = batch["cluster"].filter(pc.fill_null(batch["held_out"], False))
            held_out = np.union1d(held_out, clusters) if len(clusters) else held_out

        def contaminated(rows: pa.Table) -> NDArray[np.bool_]:
            return np.isin(rows["cluster"].to_numpy(), held_out)

        found = Sorted(("shard", "ascending"), ("position", "ascending"))
        again = all_but_one(pa.concat_tables(evaluated))
        found.add(again.append_column("duplicate_of", pa.nulls(len(again), SIMILAR_ADDRESS)))
        for rows in election.documents:
            copies = rows["address"].filter(pa.array(rows["passes"].to_numpy() & contaminated(rows)))
            shard, position = election.addresses(copies.to_numpy())  # of what is evaluated on
            nothing = pa.nulls(len(copies), SIMILAR_ADDRESS)
            found.add(pa.table({"shard": shard, "position": position, "duplicate_of": nothing}))
        duplicates = election.duplicates(lambda rows: rows["passes"].to_numpy() & ~contaminated(rows))
        for rows in chain(duplicates, election.seen()):
            address, survivor, similarity = arrays(rows, "address", "survivor", "similarity")
            shard, position = election.addresses(address)
            kept = pa.StructArray.from_arrays([*election.addresses(survivor), similarity], fields=list(SIMILAR_ADDRESS))
            found.add(pa.table({"shard": shard, "position": position, "duplicate_of": kept}))
        return iter(found)

    def _election(self) -> Election:
        preferred = [preference(name) for name in self.settings.keep]
        return Election([(field.name, order) for field, order in preferred])

    def scatter(self, batch: pa.Table, rows: pa.Table) -> pa.Table:
        duplicate_of = scatter_by_position(rows, rows["duplicate_of"], batch.num_rows)
        held_out_copy = np.zeros(batch.num_rows, bool)
        held_out_copy[rows["position"].filter(rows["duplicate_of"].is_null()).to_numpy()] = True
        textless, fails = self._textless(batch), failing(self.settings.rules, batch)
        no_channel, held_out = ~batch["channel"].is_valid().to_numpy(), true(batch["held_out"])
        if self.by_payload:
            held_out &= ~held_out_copy
        duplicate = duplicate_of.is_valid().to_numpy(zero_copy_only=False)
        reasons = {
            **textless,
            **fails,
            "no_channel": no_channel,
            "held_out": held_out,
            "held_out_copy": held_out_copy,
            "duplicate": duplicate,
        }
        reason = _first_that_holds(reasons)
        against = [*textless.values(), no_channel, duplicate, *(() if self.evaluates_dropped else fails.values())]
        evaluated = pa.array(held_out & ~np.logical_or.reduce(against))
        return pa.table([reason.is_null(), reason, evaluated, duplicate_of, *fails.values()], schema=self.writes)

    def ledger(self, columns: pa.Table, batch: pa.Table) -> dict[str, dict[str, int]]:
        """Source -> {"kept" or a reason: documents}; "<source>.fails" -> {rule: documents that it would drop};
        "<source>.skipped" -> {stage: kept documents that its gate skipped}."""
        counts = outcomes(batch["source"], columns["reason"])
        for rule in self.settings.rules:
            failing = batch["source"].filter(columns[f"fails_{rule.name}"])
            for row in failing.value_counts().to_pylist():
                counts.setdefault(f"{row['values']}.fails", {})[rule.name] = row["counts"]
        for stage, passed in zip(self.gates, evaluate(self.gates, batch).columns if self.gates else (), strict=True):
            skipped = batch["source"].filter(pc.and_(columns["kept"], pc.invert(pc.fill_null(passed, False))))
            for row in skipped.value_counts().to_pylist():
                counts.setdefault(f"{row['values']}.skipped", {})[stage] = row["counts"]
        return counts

    def _textless(self, batch: pa.Table) -> dict[str, NDArray[np.bool_]]:
        """Why a document has no text to be trained on."""
        found = {REASON: true(pc.equal(batch["kind"], TAKEN_DOWN))} if self.taken_down else {}
        emptied = [true(batch[name]) for name in self.emptied]
        return found | ({"emptied": np.logical_or.reduce(emptied)} if emptied else {})


def _unnamed(rows: pa.Table) -> pa.Table:
    """Documents as those of earlier generations are: without `id`."""
    nothing = pa.nulls(len(rows), rows["id"].type)
    return rows.set_column(rows.schema.get_field_index("id"), rows.schema.field("id"), nothing)


def _any(flags: Sequence[NDArray[np.bool_]], count: int) -> NDArray[np.bool_]:
    """Of each of some documents, whether any of some flags holds."""
    return np.logical_or.reduce([np.zeros(count, bool), *flags])


def outcomes(source: pa.ChunkedArray, reason: pa.ChunkedArray) -> dict[str, dict[str, int]]:
    """Source -> {"kept" or a reason: documents}."""
    counts: dict[str, dict[str, int]] = {}
    found = pa.table({"source": source, "outcome": pc.fill_null(reason, "kept")})
    for row in found.group_by(["source", "outcome"]).aggregate([([], "count_all")]).to_pylist():
        counts.setdefault(row["source"], {})[row["outcome"]] = row["count_all"]
    return counts


def failing(rules: Sequence[Rule], batch: pa.Table) -> dict[str, NDArray[np.bool_]]:
    """Rule -> whether it drops each document."""
    wheres = {f"{rule.name} where": rule.where for rule in rules if rule.where}
    judged = evaluate({rule.name: rule.drop for rule in rules} | wheres, batch)
    return {
        rule.name: true(judged[rule.name]) & (true(judged[f"{rule.name} where"]) if rule.where else True)
        for rule in rules
    }


def _first_that_holds(reasons: Mapping[str, NDArray[np.bool_]]) -> pa.Array:
    """string [n]: for each document the name of the first reason that holds; null where none does."""
    holds = np.array([*reasons.values()])
    first = np.argmax(holds, axis=0)
    return pa.array([*reasons], pa.string()).take(pa.array(first, mask=~holds.any(axis=0)))
