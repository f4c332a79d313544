"""What a store has of documents whose files are removed: tokens that plans read, pinned texts, answers of models."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from tasks.engine.outputs import shards_of_tokens
from tasks.engine.purge import ANSWERS
from tasks.storage import columns, pinned_texts
from tasks.storage.manifest import Manifest
from tasks.storage.store import DamagedError, Store


@dataclass(frozen=True)
class Remains:
    """What there is beside the documents themselves."""

    shards: frozenset[str]
    """Those of which there are tokens, by the digest of their ids."""
    documents: pa.Array
    """Ids of those of which there are texts."""

    @classmethod
    def of(cls, store: Store, files: Collection[str]) -> Remains:
        """What some files of a store hold, and its answers of language models."""
        ids = [pa.array(sorted(_answered(store)), pa.binary(16))]
        for path in files:
            if path.startswith("models/") and path.endswith(pinned_texts.SUFFIX) and "/samples@" not in path:
                ids.append(pinned_texts.ids(store.read(path)))
        return cls(frozenset(_tokenised(store, files)), pa.concat_arrays(ids))

    def of_documents(self, shard: str, ids: pa.ChunkedArray) -> pa.Array:
        """bool: whether there is anything of each of a shard's documents."""
        found = pc.is_in(ids, self.documents).combine_chunks()
        return pc.or_(found, shard in self.shards)


def _answered(store: Store) -> Iterable[bytes]:
    """The documents that language models were asked about."""
    for name in store.folders(ANSWERS):
        for entry in Manifest(store, f"{ANSWERS}/{name}").entries():
            if "id" in entry:
                yield bytes.fromhex(entry["id"])


def _tokenised(store: Store, files: Collection[str]) -> Iterable[str]:
    """The shards that token files are of."""
    known = shards_of_tokens(store)
    for path in files:
        if (
            path.startswith("tokens/")
            and path.endswith(".arrow")
            and (ids := known.get(path) or _in_footer(store, path))
        ):
            yield ids


def _in_footer(store: Store, path: str) -> str | None:
    """The shard of a file that no entry speaks of; None of a damaged one."""
    try:
        return str(columns.recovered(store, path)["ids"])
    except DamagedError:
        return None
