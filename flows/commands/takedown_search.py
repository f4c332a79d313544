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

from data_specs.amounts import plural
from data_specs.expressions import parse
from data_specs.load import SpecError
from data_specs.sql_parser import ExpressionError
from flows.commands.export import condition
from flows.commands.takedown_request import Asked
from flows.run import Run
from tasks.engine.near_copies import in_clusters, unsought
from tasks.engine.outputs import shards_of_tokens, token_files
from tasks.engine.pipeline import Pipeline
from tasks.engine.reading import refused_path
from tasks.engine.runner import StageError
from tasks.engine.snapshot import Snapshot
from tasks.engine.sql import evaluate
from tasks.engine.takedowns import TAKEN_DOWN, Takedowns
from tasks.engine.versions import Versions
from tasks.engine.views import views
from tasks.planning.files import read_plan
from tasks.sources import SourceError, identities, returned
from tasks.sources.canonical_url import canonical_url
from tasks.sources.taken_down import TakenDown
from tasks.storage import columns
from tasks.storage.columns import Recorded
from tasks.storage.manifest import Manifest
from tasks.storage.store import DamagedError, Store

Progress = Callable[[int, int], None]
"""Called with files done and files in all."""
Picked = Callable[[str, Recorded, pa.Table, Sequence[bool]], list[int]]
"""Path of documents, what is recorded of them, their `identities.COLUMNS`, and which are left -> the rows that go."""


@dataclass
class Found:
    """What goes."""

    documents: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By id: "source", "file", "url", "why" (asked, near-copy or refused)."""
    rows: dict[str, list[int]] = field(default_factory=dict)
    """By the path of the documents, or of their identities."""
    payloads: dict[str, list[str | None]] = field(default_factory=dict)
    """By id: of its record, as settings made it, sorted; None where it is not known."""
    addresses: dict[str, set[str]] = field(default_factory=dict)
    """By id: as they are compared."""
    names: dict[str, set[str]] = field(default_factory=dict)
    """By the path of the documents: their ids."""
    standing: set[str] = field(default_factory=set)
    """Ids of those that stood in the place of documents that stay."""
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
    found, store = Found(), run.store
    given = TakenDown(map(bytes.fromhex, asked.ids), asked.urls, asked.domains)
    _add(store, _named(store, given), found, "asked", progress)
    if not (found.documents or run.takedowns):
        return found
    corpus = newest_corpus(run)
    now = _now(run, corpus)
    if found.documents and not asked.only:
        found.unsought = unsought(corpus)
        # Of what is in no cluster, as it is not in the corpus, the copies that are.
        _add(store, _named(store, _texts_beside(store, found, now)), found, "near-copy", progress, now.__contains__)
        here = {bytes.fromhex(name) for path in now & found.rows.keys() for name in found.names[path]}
        near = TakenDown(in_clusters(corpus, here) if here else ())
        _add(store, _named(store, near), found, "near-copy", progress, now.__contains__)
    sure = found.documents.keys() | set()
    _add(
        store,
        _beside(store, _refused(store, asked, found), now),
        found,
        "refused",
        progress,
        lambda path: path not in now,
    )
    _add(store, _same_records(found, sure, asked), found, "near-copy", progress)
    found.standing = _standing(store, found, now)
    return found


def _now(run: Run, corpus: Pipeline | Snapshot) -> set[str]:
    """The paths of the documents of the corpus as it stands, but for those that came back out of the store."""
    documents = corpus.outputs["documents"]
    now = {documents.path(place) for place, key in enumerate(documents.index.keys) if key}
    return now - {path for path, _ in returned.older(corpus, run.takedowns)} if isinstance(corpus, Pipeline) else now


def _texts_beside(store: Store, found: Found, now: set[str]) -> TakenDown:
    """The texts of documents that were found, and not in the corpus as it stands."""
    here = set[str]().union(*(found.names[path] for path in now & found.rows.keys()))
    texts, words = set[str](), set[str]()
    for path, recorded in _documents(store):
        if path in found.rows and not found.names[path] <= here:
            told = _digests(store, path, recorded, found.rows[path])
            texts.update(filter(None, told["text_digest"].to_pylist()))
            words.update(filter(None, told["words_digest"].to_pylist()))
    return TakenDown(texts=texts, words=words)


def _named(store: Store, named: TakenDown) -> Picked:
    """Documents by their ids, addresses and texts."""

    def picked(path: str, recorded: Recorded, table: pa.Table, left: Sequence[bool]) -> list[int]:
        places = zip(table["id"].to_pylist(), table["url"].to_pylist(), left, strict=True)
        rows = {
            row for row, (name, url, stands) in enumerate(places) if stands and (name in named.ids or named.names(url))
        }
        if named.by_text:
            rows.update(_of_text(_digests(store, path, recorded), left, named))
        return sorted(rows)

    return picked


def _beside(store: Store, refused: TakenDown, now: Collection[str]) -> Picked:
    """Documents that would be refused were they read again, which the store has beside the corpus as it stands, as by
    an earlier name of their source or of a file that was edited: they would come back from there. Not those that are
    in the corpus, too, and stay."""
    named, beside = _named(store, refused), Found()
    _add(store, named, beside, "refused", lambda *_: None, lambda path: path not in now)
    ids = pa.array([bytes.fromhex(name) for name in sorted(beside.documents)], pa.binary(16))
    stand = set[tuple[bytes, str | None, str | None]]()
    for path, recorded in _documents(store):
        if path in now and len(ids):
            table = columns.read(store, path, ["id", "url", "payload", "kind"], recorded)
            table = table.filter(pc.and_(pc.is_in(table["id"], ids), pc.not_equal(table["kind"], TAKEN_DOWN)))
            stand.update(_places(table))

    def picked(path: str, recorded: Recorded, table: pa.Table, left: Sequence[bool]) -> list[int]:
        rows = beside.rows.get(path, [])
        places = _places(table.take(pa.array(rows, pa.int64())))
        return [row for row, place in zip(rows, places, strict=True) if place not in stand]

    return picked


def _places(table: pa.Table) -> Iterator[tuple[bytes, str | None, str | None]]:
    """Id, address and payload of each of some documents."""
    return zip(*(table[name].to_pylist() for name in ("id", "url", "payload")), strict=True)


def _same_records(found: Found, sure: Collection[str], asked: Asked) -> Picked:
    """Other readings of records that were found, such as by other settings. Where an id was asked for all that stands,
    or stood, in its place goes; elsewhere what has another address is another document, and so is what has other bytes
    than one that was found by its text alone."""
    known = {bytes.fromhex(name): (found.payloads[name], found.addresses[name]) for name in found.documents}
    all_of, loosely = {*map(bytes.fromhex, asked.ids)}, {*map(bytes.fromhex, sure)}

    def same(name: bytes, url: str | None, payload: str | None) -> bool:
        payloads, addresses = known[name]
        if name in all_of or (payload is not None and payload in payloads):
            return True
        return name in loosely and (url is None or not addresses or canonical_url(url) in addresses)

    def picked(path: str, recorded: Recorded, table: pa.Table, left: Sequence[bool]) -> list[int]:
        rows = _places(table)
        return [
            row
            for row, (each, stands) in enumerate(zip(rows, left, strict=True))
            if stands and each[0] in known and same(*each)
        ]

    return picked


def _standing(store: Store, found: Found, now: Collection[str]) -> set[str]:
    """The ids of documents in whose place another one stands now, which stays."""
    standing: set[str] = set()
    wanted = pa.array([bytes.fromhex(name) for name in sorted(found.documents)], pa.binary(16))
    for path, recorded in _documents(store):
        if path in now:
            table = columns.read(store, path, ["id", "kind"], recorded)
            mine = pc.and_(pc.is_in(table["id"], wanted), pc.not_equal(table["kind"], TAKEN_DOWN)).to_pylist()
            stays = sorted({row for row, each in enumerate(mine) if each} - {*found.rows.get(path, ())})
            standing.update(each.hex() for each in table["id"].take(pa.array(stays, pa.int64())).to_pylist())
    return standing


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
    store: Store,
    picked: Picked,
    found: Found,
    why: str,
    progress: Progress,
    among: Callable[[str], bool] = lambda _: True,
) -> None:
    """Add documents to what was found, of those files that are `among` them."""
    files = [each for each in _documents(store) if among(each[0])]
    for number, (path, recorded) in enumerate(files, 1):
        table = columns.read(store, path, identities.COLUMNS, recorded)
        left = pc.not_equal(table["kind"], TAKEN_DOWN).to_pylist()
        if rows := picked(path, recorded, table, left):
            known, ids_digest = {*found.rows.get(path, ())}, str(recorded.ids)
            found.rows[path] = sorted(known | {*rows})
            found.shards[ids_digest] = sorted({*found.shards.get(ids_digest, ()), *found.rows[path]})
            told = _digests(store, path, recorded, rows)
            found.texts.update(each for each in told["text_digest"].to_pylist() if each)
            found.words.update(each for each in told["words_digest"].to_pylist() if each)
            for facts in table.take(pa.array(rows)).to_pylist():
                name = facts["id"].hex()
                found.names.setdefault(path, set()).add(name)
                shown = {key: facts[key] for key in ("source", "file", "url")}
                found.documents.setdefault(name, shown | {"why": why})
                payloads = {*found.payloads.get(name, ()), facts["payload"]}
                found.payloads[name] = sorted(payloads, key=lambda each: each or "")
                found.addresses.setdefault(name, set()).update([canonical_url(facts["url"])] if facts["url"] else [])
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


def tokens_of(run: Run, found: Found) -> dict[str, list[int]]:
    """Token file -> rows that go: of one of which a version, or the corpus as it stands, says from which documents it
    was made those of these; of others those of all documents of its shard."""
    made = {name: {*paths} for name, paths in _made_of(run).items()}
    rows: dict[str, set[int]] = {}
    for path, each in found.rows.items():
        rows.setdefault(identities.documents_path(path), set()).update(each)
    return {
        path: sorted(
            set[int]().union(*(rows.get(each, ()) for each in made[path])) if path in made else found.shards[ids]
        )
        for ids, paths in token_files(run.store, found.shards).items()
        for path in paths
    }


def _made_of(run: Run) -> dict[str, set[str]]:
    """Token file -> the documents that it was made from, as far as that is known."""
    found: dict[str, set[str]] = {}
    for name in run.store.folders("versions"):
        versions = Versions(run.store, name)
        for facts in versions.all():
            for path, documents in versions.tokens(facts):
                found.setdefault(path, set()).add(documents)
    outputs = run.pipeline.outputs
    for output in outputs.values():
        for place, key in enumerate(output.index.keys if output.folders else ()):
            if key and output.folders[place].startswith("tokens/"):
                found.setdefault(output.path(place), set()).add(outputs["documents"].path(place))
    return found


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
                f"takedown: --where: {name} is not computed for {len(lacking):,} of "
                f"{plural(int(documents.sum()), 'shard')} ({shards}), so of their documents nothing would be taken "
                f"down; `sluice run SPEC --until {stage}` computes it"
            )
