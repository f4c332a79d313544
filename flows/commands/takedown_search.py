"""The documents that a takedown takes: of every lineage by address, domain or id, of the spec's own by an expression,
too, those that are in their clusters of duplicates, and of what is not in the corpus as it stands what would be refused
were it read again. Nothing is changed here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_specs.expressions import parse
from data_specs.load import SpecError
from data_specs.sql_parser import ExpressionError
from flows.commands.export import condition
from flows.commands.takedown_request import Asked
from flows.run import Run
from tasks.engine.near_copies import in_clusters, unsought
from tasks.engine.outputs import shards_of_tokens
from tasks.engine.pipeline import Pipeline
from tasks.engine.reading import refused_path
from tasks.engine.runner import StageError
from tasks.engine.snapshot import Snapshot
from tasks.engine.sql import evaluate
from tasks.engine.takedowns import TAKEN_DOWN, Takedowns
from tasks.engine.versions import Versions
from tasks.engine.views import views
from tasks.planning.files import read_plan
from tasks.sources import SourceError, identities
from tasks.sources.taken_down import TakenDown
from tasks.storage import columns
from tasks.storage.columns import Recorded
from tasks.storage.manifest import Manifest
from tasks.storage.store import DamagedError, Store

Progress = Callable[[int, int], None]
"""Called with files done and files in all."""


@dataclass
class Found:
    """What goes."""

    documents: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By id: "source", "file", "url", "why" (asked, near-copy or refused)."""
    rows: dict[str, list[int]] = field(default_factory=dict)
    """By the path of the documents, or of their identities."""
    payloads: dict[str, list[str | None]] = field(default_factory=dict)
    """By id: of its record, as settings made it, sorted; None where it is not known."""
    texts: set[str] = field(default_factory=set)
    """Digests of their texts."""
    words: set[str] = field(default_factory=set)
    """Digests of the words of those that are no code."""
    shards: dict[str, list[int]] = field(default_factory=dict)
    """The same rows by the digest of their shard's ids."""
    unsought: list[str] = field(default_factory=list)
    """Shards among whose documents no near-copies could be sought."""

    @property
    def documents_paths(self) -> set[str]:
        """The paths that their documents have, or had."""
        return {*map(identities.documents_path, self.rows)}


def find(run: Run, asked: Asked, progress: Progress = lambda *_: None) -> Found:
    """The documents that go. Raises StageError where near-copies are to go, and duplicates are not computed."""
    found = Found()
    given = TakenDown(map(bytes.fromhex, asked.ids), asked.urls, asked.domains)
    _add(run.store, given, found, "asked", progress)
    if found.documents:
        ids = {*map(bytes.fromhex, found.documents)}
        if not asked.only:
            corpus = newest_corpus(run)
            found.unsought = unsought(corpus)
            ids |= in_clusters(corpus, ids)
        # Also where the same documents were extracted otherwise, and have no address.
        _add(run.store, TakenDown(ids), found, "near-copy", progress)
        _add(run.store, TakenDown(_would_return(run, asked, found, progress)), found, "refused", progress)
    return found


def _would_return(run: Run, asked: Asked, found: Found, progress: Progress) -> set[bytes]:
    """The ids of documents that the store has beside the corpus as it stands, as by an earlier name of their source or
    of a file that was edited since, and that would be refused were they read again: they would come back from there."""
    documents = newest_corpus(run).outputs["documents"]
    now = {documents.path(place) for place, key in enumerate(documents.index.keys) if key}
    beside = Found()
    _add(run.store, _refused(run.store, asked, found), beside, "refused", progress, apart_from=now)
    ids = {*map(bytes.fromhex, beside.documents)}
    for path, recorded in _documents(run.store) if ids else ():
        if path in now:
            ids.difference_update(columns.read(run.store, path, ["id"], recorded)["id"].to_pylist())
    return ids


def _refused(store: Store, asked: Asked, found: Found) -> TakenDown:
    """What readers refuse by its address or text once all that was found is taken down, whatever its id."""
    before = Takedowns(store)
    urls = {each["url"] for each in found.documents.values() if each["url"]}
    texts, words = (found.texts, found.words) if not asked.only else (set[str](), set[str]())
    return TakenDown(
        (),
        urls.union(before.named("urls")),
        {*asked.domains, *before.named("domains")},
        texts.union(before.named("texts")),
        words.union(before.named("words")),
    )


def newest_corpus(run: Run) -> Pipeline | Snapshot:
    """The corpus as it stands, or, where its sources cannot be listed now, its newest version."""
    try:
        if "documents" not in run.pipeline.outputs:
            run.resolve()
    except SourceError:
        lineage = Versions(run.store, run.spec.name)
        if facts := lineage.newest():
            return Snapshot(lineage, facts)
        raise
    return run.pipeline


def _add(
    store: Store, named: TakenDown, found: Found, why: str, progress: Progress, apart_from: Collection[str] = ()
) -> None:
    """Add documents that are named to what was found, of every folder of documents but for some files."""
    files = [each for each in _documents(store) if each[0] not in apart_from]
    for number, (path, recorded) in enumerate(files, 1):
        table = columns.read(store, path, identities.COLUMNS, recorded)
        ids, urls, payloads = table["id"].to_pylist(), table["url"].to_pylist(), table["payload"]
        left = pc.not_equal(table["kind"], TAKEN_DOWN).to_pylist()
        rows = [
            row
            for row, (name, url, stands) in enumerate(zip(ids, urls, left, strict=True))
            if stands and (name in named.ids or named.names(url))
        ]
        if named.by_text:
            rows = sorted({*rows, *_of_text(_digests(store, path, recorded), left, named)})
        if rows:
            known, ids_digest = {*found.rows.get(path, ())}, str(recorded.ids)
            found.rows[path] = sorted(known | {*rows})
            found.shards[ids_digest] = sorted({*found.shards.get(ids_digest, ()), *found.rows[path]})
            told = _digests(store, path, recorded, rows)
            found.texts.update(each for each in told["text_digest"].to_pylist() if each)
            found.words.update(each for each in told["words_digest"].to_pylist() if each)
            for row, facts in zip(rows, table.select(["source", "file", "url"]).take(rows).to_pylist(), strict=True):
                name, payload = ids[row].hex(), payloads[row].as_py()
                found.documents.setdefault(name, facts | {"why": why})
                found.payloads[name] = sorted({*found.payloads.get(name, ()), payload}, key=lambda each: each or "")
        progress(number, len(files))


def _digests(store: Store, path: str, recorded: Recorded, rows: Sequence[int] | None = None) -> pa.Table:
    """What tells the texts of documents, of some rows or of all."""
    known = path != identities.documents_path(path)
    table = columns.read(store, path, identities.DIGESTS if known else ["text", "kind"], recorded)
    table = table if rows is None else table.take(pa.array(rows))
    return table if known else identities.digests(table)


def _of_text(told: pa.Table, left: Sequence[bool], named: TakenDown) -> list[int]:
    """The rows of documents whose texts are named."""
    columns = (told[name].to_pylist() for name in identities.DIGESTS)
    return [
        row for row, (stands, *each) in enumerate(zip(left, *columns, strict=True)) if stands and named.knows(*each)
    ]


def _documents(store: Store) -> Iterator[tuple[str, Recorded]]:
    """The documents of every source and fingerprint: path, and what is known of the file; also of those of which no
    entry speaks, as whoever wrote them was killed: the next run takes them up by their footer. Of those that gc has
    removed their identities."""
    for name in store.folders("documents"):
        yield from _files(store, f"documents/{name}")
    for name in store.folders(f"{identities.FOLDER}/documents"):
        yield from _files(store, f"{identities.FOLDER}/documents/{name}")


def unknown_tokens(store: Store) -> dict[str, list[str]]:
    """Token files of documents that are not known, as an earlier version of gc removed them and all that told who they
    were, by the plan that reads them; "" those that no plan reads."""
    known = {recorded.ids for _, recorded in _documents(store)}
    unknown = {path for path, ids in shards_of_tokens(store).items() if ids not in known}
    found: dict[str, list[str]] = {}
    for name in store.folders("plans") if unknown else ():
        plan = f"plans/{name}"
        read = unknown.intersection(read_plan(store, plan)["files"]) if store.exists(f"{plan}/plan.json") else ()
        found |= {plan: sorted(read)} if read else {}
    left = unknown.difference(*found.values())
    return found | ({"": sorted(left)} if left else {})


def _files(store: Store, folder: str) -> Iterator[tuple[str, Recorded]]:
    """The files of a folder of documents."""
    latest = {entry["key"]: entry for entry in Manifest(store, folder).entries()}
    known = {f"{folder}/{key}.parquet": entry for key, entry in latest.items() if "columns" in entry}
    files = {f"{folder}/{name}" for name in store.list(folder) if name.endswith(".parquet")}
    documents = {path for path in files if not path.endswith(refused_path(""))}
    for path in sorted(documents - known.keys()):
        with suppress(DamagedError):  # it is read anew, without what is taken down
            known[path] = columns.recovered(store, path)
    for path, entry in known.items():
        yield path, Recorded(entry["ids"], entry.get("checksum", ""), entry["columns"])


def matching(run: Run, where: str) -> tuple[str, ...]:
    """The ids of documents for which an expression over columns is true, evaluated as a rule is. Raises SpecError where
    it is none, StageError where one of its columns is not computed for all documents: of the others it would say
    nothing."""
    if "documents" not in run.pipeline.outputs:
        run.resolve()
    pipeline, corpus = run.pipeline, views(run.pipeline)["corpus"]
    _all_there(pipeline, where)
    plain, found = condition(pipeline.pins, corpus, "text", where), list[str]()
    for _, table in corpus.scan(sorted({"id", "kind", *parse(plain).columns})):
        try:
            judged = evaluate({"--where": plain}, table)["--where"]
        except ExpressionError as error:
            raise SpecError([str(error)]) from None
        stands = pc.fill_null(pc.not_equal(table["kind"], TAKEN_DOWN), True)
        found += table["id"].filter(pc.and_(stands, pc.fill_null(judged, False))).to_pylist()
    return tuple(found)


def _all_there(pipeline: Pipeline, where: str) -> None:
    """Raises SpecError for what is no expression, StageError where a column that it reads is not computed for all
    documents."""
    try:
        columns = parse(where).columns
    except ExpressionError as error:
        raise SpecError([f"--where: {error}"]) from None
    documents = pipeline.outputs["documents"].index.done
    for name in sorted(columns & pipeline.provider.keys()):
        stage = pipeline.provider[name]
        lacking = np.flatnonzero(documents & ~pipeline.outputs[stage].index.done).tolist()
        if lacking:
            shards = ", ".join(pipeline.shards[place].name for place in lacking[:3]) + (", ..." if lacking[3:] else "")
            raise StageError(
                f"takedown: --where: {name} is not computed for {len(lacking):,} of {int(documents.sum()):,} shards "
                f"({shards}), so of their documents nothing would be taken down; `sluice run SPEC --until {stage}` "
                "computes it"
            )
