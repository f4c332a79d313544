"""`sluice duplicates`: what to look at before a threshold is believed. Clusters, pairs with their differences, and what
other thresholds would leave.

Everything is asked of the columns (`docs/columns.md`): `cluster`, `alike`, `pairs`, and `duplicate_of` of the
verdict. Of a pair those words are shown that only one of the texts has.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_specs.amounts import decimal, plural
from data_specs.load import SpecError
from data_specs.spec import Spec
from flows import chosen_thresholds, word_diff
from flows.commands import budget, query
from flows.commands.document import by_url
from flows.commands.query import select
from flows.corpus_run import CorpusRun
from flows.terminal import cell, console, difference, line, progress, table
from tasks.engine.pipeline import Pipeline

SIZES = (2, 3, 6, 11, 101, 1001)
"""From how many members on clusters are counted together."""
ROWS = 50_000
"""Rows of an export that are held at once."""
MEMBERS = 20
"""Members of a cluster that are shown."""
_MEMBER = """id, source, url, file, channel, kept, reason, duplicate_of.similarity as similarity,
    text_length as characters"""
_CLUSTERED = """with named as (  -- who was alone in its generation is named by newer documents alone
        select cluster, copy_of.shard as shard, copy_of.position as position from corpus
        where cluster is not null and copy_of is not null
        union all
        select cluster, other.shard, other.position from (
            select cluster, unnest(alike) as other from corpus where cluster is not null and alike is not null
        )
    ),
    clustered as (
        select id, source, url, file, channel, kept, reason, duplicate_of, text_length,
            coalesce(corpus.cluster, once.cluster) as cluster
        from corpus left join (select shard, position, min(cluster) as cluster from named group by all) once
        using (shard, position)
    ) """
"""The documents with the cluster that each is in, also where a later generation made it one."""


def not_computed(pipeline: Pipeline) -> str:
    """What to say where duplicates, or the verdict, are not known of all documents; "" where they are."""
    stages = dict.fromkeys(pipeline.provider[name] for name in ("copy_of", "alike", "cluster", "kept"))
    return query.not_computed(pipeline, stages)


def summary(pipeline: Pipeline) -> dict[str, Any]:
    """{"clusters": [[smallest size, clusters, documents, kept]], "removed": [[similarity, documents]]}; a similarity
    stands for the twentieth that begins with it, 1 for copies."""
    sizes = " ".join(f"when n >= {size} then {size}" for size in reversed(SIZES))
    clusters = _rows(
        pipeline,
        f"{_CLUSTERED} select case {sizes} else 1 end as size, count(*), sum(n), sum(kept) from (select count(*) as n, "
        "count(*) filter (kept) as kept from clustered where cluster is not null group by cluster) "
        "group by 1 order by 1",
    )
    removed = _rows(
        pipeline,
        "select case when duplicate_of.similarity < 1 then least(floor(duplicate_of.similarity * 20 + 1e-4), 19) / 20 "
        "else 1 end, count(*) from corpus where reason = 'duplicate' group by 1 order by 1",
    )
    return {"clusters": clusters, "removed": [[round(similarity, 2), count] for similarity, count in removed]}


def largest(pipeline: Pipeline, number: int) -> list[dict[str, Any]]:
    """The largest clusters, with their first members, those that are kept before the others."""
    found = _rows(
        pipeline,
        f"{_CLUSTERED} select cluster, count(*), count(*) filter (kept) from clustered where cluster is not null "
        f"group by 1 order by 2 desc, 1 limit {number}",
    )
    return [
        {"cluster": cluster, "documents": documents, "kept": kept, "members": _members(pipeline, cluster)}
        for cluster, documents, kept in found
    ]


def of(pipeline: Pipeline, asked: str) -> dict[str, Any]:
    """The cluster of a document, by its URL or the beginning of its id, and how each member differs from the first one
    that is kept. Raises SpecError where no document, or more than one, is meant, or it is alone."""
    quoted = asked.replace("'", "''")
    condition = f"url = '{quoted}'" if by_url(asked) else f"starts_with(id, '{quoted.lower()}')"
    found = _rows(pipeline, f"{_CLUSTERED} select id, cluster from clustered where {condition} limit 2")
    if len(found) != 1:
        raise SpecError([f"duplicates: {'more than one' if found else 'no'} document has {line(asked)}"])
    [[name, cluster]] = found
    if cluster is None:
        raise SpecError([f"duplicates: {name} is alone: no copy of it is known, and nothing alike to it"])
    members = _members(pipeline, cluster)
    texts = _texts(pipeline, [member["id"] for member in members])
    for member in members[1:]:
        member["difference"] = _difference(texts[members[0]["id"]], texts[member["id"]])
    return {"cluster": cluster, "document": name, "members": members}


def near(pipeline: Pipeline, similarity: float, number: int) -> list[dict[str, Any]]:
    """The pairs whose similarity is nearest to one, `number` on each side of it, from the most similar on, with the
    words that differ."""
    column = "pairs" if pipeline.spec.duplicates.keeps_pairs else "alike"
    found = [
        row
        for compared, order in (("<", "desc"), (">=", "asc"))
        for row in _rows(
            pipeline,
            f"""with known as (
                select shard, position, unnest({column}) as other from corpus where {column} is not null
            ),
            pair as (  -- of one generation both name each other, of two the newer the older
                select distinct other.similarity,
                    least((shard, position), (other.shard, other.position)) as one,
                    greatest((shard, position), (other.shard, other.position)) as two
                from known
            ),
            nearest as (
                select * from pair where similarity {compared} {similarity!r}::float
                order by similarity {order}, one, two limit {number}
            )
            select n.similarity, a.id, b.id from nearest n
            join corpus a on (a.shard, a.position) = n.one
            join corpus b on (b.shard, b.position) = n.two""",
        )
    ]
    texts = _texts(pipeline, [name for _, *names in found for name in names])
    return [
        {
            "similarity": float(str(np.float32(value))),
            "documents": [one, other],
            "difference": _difference(texts[one], texts[other]),
        }
        for value, one, other in sorted(found, reverse=True)
    ]


MATCHES = pa.schema(
    [
        ("id", pa.string()),
        ("url", pa.string()),
        ("kept_id", pa.string()),
        ("kept_url", pa.string()),
        ("similarity", pa.float32()),
    ]
)
"""Columns of an export of matches."""


def matches(pipeline: Pipeline, path: str) -> int:
    """Write which removed document matches which kept one to a Parquet file, a row for each that is removed as a
    duplicate, by id; returns how many."""
    sql = """select gone.id, gone.url, kept.id, kept.url, gone.duplicate_of.similarity
        from corpus gone join corpus kept on kept.shard = gone.duplicate_of.shard
        and kept.position = gone.duplicate_of.position where gone.reason = 'duplicate' order by gone.id"""
    count = 0
    with select(pipeline, sql) as answer, pq.ParquetWriter(path, MATCHES, compression="zstd") as file:
        while rows := list(islice(answer.rows, ROWS)):
            columns = [
                pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), MATCHES, strict=True)
            ]
            file.write_table(pa.table(columns, schema=MATCHES))
            count += len(rows)
    return count


def thresholds(spec: str, store: str | None, settings: Sequence[str]) -> dict[str, Any]:
    """What each threshold from the floor on would leave of the last accepted version (see `left_by_thresholds`), by the
    thresholds that a budget has chosen. Raises SpecError, also where no pairs are kept for them, and StageError."""
    given = [*settings, *([f"store={store}"] if store is not None else [])]
    asked = chosen_thresholds.loaded(spec, given)
    if not asked.duplicates.keeps_pairs:
        raise SpecError(
            [
                f"duplicates: of thresholds {asked.duplicates.threshold:g} alone is known, which says what stays; with "
                "a lower stages.duplicates.floor the next run keeps pairs for others"
            ]
        )
    return left_by_thresholds(CorpusRun.of(spec, store), asked)


def left_by_thresholds(as_is: CorpusRun, asked: Spec) -> dict[str, Any]:
    """{"floor", "threshold", "rows": [{"threshold", "recall", "documents", "tokens", "channels": {name: [documents,
    tokens]}}]}: what each threshold from the floor on would leave, and which share of the pairs right at it is
    found."""
    with progress("thresholds") as report:
        rows = budget.table_of(as_is, asked, report)
    return {"floor": asked.duplicates.compared_from, "threshold": asked.duplicates.threshold, "rows": rows}


def _rows(pipeline: Pipeline, sql: str) -> list[list[Any]]:
    with select(pipeline, sql) as answer:
        return list(answer.rows)


def _members(pipeline: Pipeline, cluster: int) -> list[dict[str, Any]]:
    order = "order by kept desc, duplicate_of.similarity desc, id"
    sql = f"{_CLUSTERED} select {_MEMBER} from clustered where cluster = {cluster} {order} limit {MEMBERS}"
    with select(pipeline, sql) as answer:
        return [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]


def _texts(pipeline: Pipeline, names: Iterable[str]) -> dict[str, str]:
    named = ", ".join(f"'{name}'" for name in dict.fromkeys(names))
    if not named:
        return {}
    found = _rows(pipeline, f'select id, "{pipeline.spec.judged_text}" from corpus where id in ({named})')
    return {name: text or "" for name, text in found}


def _difference(one: str, other: str) -> list[word_diff.Piece]:
    return list(word_diff.shortened(word_diff.pieces(one, other)))


def size_named(size: int) -> str:
    """The sizes that are counted with the smallest of them."""
    after = next((each for each in SIZES if each > size), None)
    if after == size + 1:
        return f"{size}"
    return f"{size:,} to {after - 1:,}" if after else f"{size:,} and more"


def show_summary(found: dict[str, Any]) -> None:
    """Print how large clusters are, and how similar what was removed is to what stayed."""
    grid = table("members", "clusters", "documents", "kept", title="Clusters of duplicates")
    for size, *counts in found["clusters"]:
        grid.add_row(size_named(size), *map(cell, counts))
    console().print(grid if grid.row_count else "no cluster of duplicates")
    grid = table("similarity", "removed documents", title="Removed for a document that stays")
    for similarity, count in found["removed"]:
        some = "1 (copies, and the same shingles)" if similarity == 1 else f"{similarity:.2f} and more"
        grid.add_row(some, cell(count))
    console().print(grid if grid.row_count else "no document is removed for another that stays")


def show_clusters(found: list[dict[str, Any]]) -> None:
    """Print clusters with their members."""
    for each in found:
        console().print(f"\ncluster {each['cluster']}: {plural(each['documents'], 'document')}, {each['kept']:,} kept")
        for member in each["members"]:
            _show_member(member)
        if (more := each["documents"] - len(each["members"])) > 0:
            console().print(f"  and {more:,} more")


def show_cluster(found: dict[str, Any]) -> None:
    """Print one cluster, and how its members differ from the first."""
    console().print(f"cluster {found['cluster']}, of {found['document']}")
    for member in found["members"]:
        _show_member(member)
        if member.get("difference"):
            _show_difference(member["difference"])


def show_pairs(found: list[dict[str, Any]], similarity: float, known_from: float) -> None:
    """Print pairs, from the most similar on, and that those below `known_from` are not known."""
    if found:
        console().print("[-such words-] stand in the first document of a pair alone, {+such+} in the second")
    for each in found:
        one, other = each["documents"]
        side = "" if each["similarity"] >= similarity else " (below)"
        console().print(f"\n{decimal(each['similarity'], 4, similarity)}{side}  {one}  {other}")
        _show_difference(_beginning(each["difference"]))
    if not found:
        console().print("no two documents are known to be similar")
    if all(each["similarity"] >= similarity for each in found):
        console().print(
            f"pairs below {known_from:g} are not known: stages.duplicates.floor says down to which they are kept"
        )


def show_thresholds(found: dict[str, Any]) -> None:
    """Print what each threshold would leave."""
    budget.show_rows(found["rows"], found["threshold"])


def _show_member(member: dict[str, Any]) -> None:
    similar = "" if member["similarity"] is None else f" {decimal(member['similarity'])}"
    state = "kept" if member["kept"] else f"{line(member['reason'])}{similar}"
    size = plural(member["characters"] or 0, "character")
    console().print(f"  {member['id'][:12]}  {state}  {size}  {line(member['url'] or member['file'])}", soft_wrap=True)


def _beginning(found: list[word_diff.Piece], most: int = 20) -> list[word_diff.Piece]:
    """The first differences of a pair; how many more there are is said."""
    differing = [place for place, piece in enumerate(found) if piece.kind in ("removed", "added")]
    if len(differing) <= most:
        return found
    more = f"{plural(len(differing) - most, 'more difference')}, by `sluice duplicates SPEC` and either id"
    return [*found[: differing[most]], word_diff.Piece("skipped", more)]


def _show_difference(found: list[word_diff.Piece]) -> None:
    console().print(difference(found), end="\n\n", soft_wrap=True)
