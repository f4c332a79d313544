"""Who the documents were that `gc` removes while there is something that was made of them, so that takedowns find it.

`identities/documents/<source>@<fingerprint>/<key>.parquet` has a row for each of the documents that had that path: id,
file, address and payload, and of the text digests alone; of those of which nothing stays no more than id and file.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import pyarrow as pa
import pyarrow.compute as pc

from tasks.engine.reading import refused_path
from tasks.engine.remains import Remains
from tasks.engine.takedowns import text_digest
from tasks.sources.taken_down import words_digest
from tasks.storage import columns
from tasks.storage.columns import Recorded
from tasks.storage.manifest import Entry, Manifest
from tasks.storage.store import DamagedError, Store

FOLDER = "identities"
COLUMNS = ("id", "source", "file", "url", "kind", "payload")
DIGESTS = ("text_digest", "words_digest")
_ALWAYS = frozenset({"id", "source", "file", "kind"})
_ENTRY = ("key", "shard", "ids", "rows", "seconds", "run")


def documents_path(path: str) -> str:
    """The path of documents, by that of their identities or by itself."""
    return path.removeprefix(f"{FOLDER}/")


def digests(documents: pa.Table) -> pa.Table:
    """What tells the texts of documents (`text`, `kind`): `text_digest` and, of what is no code, `words_digest`."""
    texts, kinds = documents["text"].to_pylist(), documents["kind"].to_pylist()
    words = [words_digest(*each) for each in zip(texts, kinds, strict=True)]
    return pa.table([_strings(text_digest(text.encode()) for text in texts), _strings(words)], names=DIGESTS)


def _strings(values: Iterable[str | None]) -> pa.Array:
    return pa.array(values, pa.string())


def keep(store: Store, removed: Collection[str]) -> None:
    """Before files of a store are removed, keep the identities of documents among them of which something stays."""
    documents = [
        path
        for path in sorted(removed)
        if path.startswith("documents/") and path.endswith(".parquet") and not path.endswith(refused_path(""))
    ]
    if not documents:
        return
    remains = Remains.of(store, store.walk().keys() - removed)
    for folder in dict.fromkeys(path.rpartition("/")[0] for path in documents):
        known = {entry["key"]: entry for entry in Manifest(store, folder).entries()}
        mine = [path for path in documents if path.startswith(f"{folder}/")]
        kept = [_kept(store, path, known, remains) for path in mine]
        Manifest(store, f"{FOLDER}/{folder}").append([entry for entry in kept if entry])


def needless(store: Store, removed: Collection[str]) -> dict[str, int]:
    """Path -> bytes of identities that are of no use once files of a store are removed: of their documents nothing
    stays."""
    files = {path: size for path, size in store.walk().items() if path not in removed}
    mine = {path: size for path, size in files.items() if path.startswith(f"{FOLDER}/")}
    remains = Remains.of(store, files) if mine else None
    used = {path for path in mine if path.endswith(".parquet") and remains and _used(store, path, remains)}
    folders = {path.rpartition("/")[0] for path in used}
    return {
        path: size
        for path, size in mine.items()
        if path not in used and not ("/manifest/" in path and path.partition("/manifest/")[0] in folders)
    }


def _used(store: Store, path: str, remains: Remains) -> bool:
    try:
        entry = columns.recovered(store, path)
        return bool(pc.any(remains.of_documents(entry["ids"], columns.read(store, path, ["id"])["id"])).as_py())
    except DamagedError:
        return True


def _kept(store: Store, path: str, known: dict[str, Entry], remains: Remains) -> Entry | None:
    """Write the identities of a file of documents; None where nothing of it stays, or it is damaged: what stays is then
    of documents that are not known, which takedowns say."""
    entry = known.get(path.rpartition("/")[2].removesuffix(".parquet"), {})
    try:
        entry = entry if "columns" in entry else columns.recovered(store, path)
        recorded = Recorded(entry["ids"], entry.get("checksum", ""), entry["columns"])
        wanted = remains.of_documents(entry["ids"], columns.read(store, path, ["id"], recorded)["id"])
        if not pc.any(wanted).as_py():
            return None
        table = columns.read(store, path, [*COLUMNS, "text"], recorded)
    except DamagedError:
        return None
    told = pa.table([*table.select(COLUMNS).columns, *digests(table).columns], names=[*COLUMNS, *DIGESTS])
    masked = [told[name] if name in _ALWAYS else pc.if_else(wanted, told[name], None) for name in told.column_names]
    table = pa.table(masked, told.schema).combine_chunks()
    facts = {name: entry[name] for name in _ENTRY if name in entry} | {"columns": columns.digests(table)}
    return facts | columns.write(store, f"{FOLDER}/{path}", table, facts, once=False)
