"""What was extracted already: the documents that the same source has by another admission.

A changed list or expression makes other documents of the same files, in a folder of their own. What extraction made of
a record is the same in both, so that only records that were refused before are extracted.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import orjson

from tasks.engine.reading import EXTRACTED, InputShard, Reader
from tasks.engine.stage import digest
from tasks.storage.columns import Recorded
from tasks.storage.manifest import Index, Manifest
from tasks.storage.store import DamagedError, Store


def document_key(fingerprint: str, shard: InputShard) -> str:
    """The key of a shard's documents that a reader of this fingerprint makes."""
    return digest([fingerprint, shard.source, shard.name, shard.digest])


def earlier(
    store: Store, source: str, reader: Reader, shards: Sequence[InputShard]
) -> list[tuple[str, Recorded] | None]:
    """For each of some shards of a source its documents by another admission, and what is known of their file: of
    several those with the most rows; None where there are none."""
    found: list[tuple[str, Recorded] | None] = [None] * len(shards)
    most = [0] * len(shards)
    for name in store.folders("documents") if reader.extracts and shards else ():
        stem, _, fingerprint = name.rpartition("@")
        folder = f"documents/{name}"
        if stem != source or fingerprint == reader.fingerprint or not _alike(store, folder, reader):
            continue
        keys = [document_key(fingerprint, shard) for shard in shards]
        with suppress(DamagedError):
            index = Index(Manifest(store, folder).entries(), keys, ["id", *EXTRACTED])
            for place in index.done.nonzero()[0].tolist():
                if index.rows[place] > most[place]:
                    ids = index.digests["id"][place].tobytes().hex()
                    recorded = index.recorded(place, ids, ["id", *EXTRACTED])
                    found[place], most[place] = (f"{folder}/{keys[place]}.parquet", recorded), int(index.rows[place])
    return found


def _alike(store: Store, folder: str, reader: Reader) -> bool:
    """Whether the documents of a folder were made as a reader makes them, but for what it refuses."""
    try:
        fields = store.json(f"{folder}/recipe.json")
    except (FileNotFoundError, DamagedError):
        return False
    return _without_refusals(fields) == _without_refusals(orjson.loads(orjson.dumps(reader.fingerprint_fields())))


def _without_refusals(fields: dict[str, Any]) -> dict[str, Any]:
    settings = {name: value for name, value in fields.get("settings", {}).items() if name != "refuse"}
    return fields | {"settings": settings}
