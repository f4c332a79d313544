"""A corpus that is being computed: the keys of its outputs, and jobs that read some of its columns.

An output's key is the digest of its stage's fingerprint and of the values it reads, so what exists is never computed
again, even where an ancestor ran and wrote the same values. A key is None as long as something it depends on is not
computed. Everything here is known from manifests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from data_specs.spec import Spec
from tasks.engine.corpus import Corpus
from tasks.engine.job import Job, inputs_by_file, shard_uid
from tasks.engine.nodes import Node
from tasks.engine.outputs import Output
from tasks.engine.reading import InputShard, Reader
from tasks.engine.stage import DOCUMENTS, CorpusStage, Instance, Stage
from tasks.storage.manifest import DONE, QUARANTINED, Index
from tasks.storage.store import Store

STAGING = "again/"
"""Goes before the paths of what is computed again beside what exists: no folder of the store's own has this name."""


class KeyedCorpus(Corpus):
    """Shards, stages over them, and their outputs as far as they are known."""

    def __init__(self, spec: Spec, store: Store, run: str, readers: Mapping[str, Reader]) -> None:
        self.spec, self.store, self.run, self.readers = spec, store, run, readers
        self.nodes: list[Node] = []
        """The stages, in the order that their columns give."""
        self.outputs: dict[str, Output] = {}
        self.documents_schema = pa.unify_schemas([DOCUMENTS, *(reader.writes for reader in readers.values())])
        """The columns of documents, those that only some sources have among them."""
        self.provider: dict[str, str] = dict.fromkeys(self.documents_schema.names, "documents")
        self.role: dict[str, str] = {name: name for name in self.documents_schema.names}
        self.tried: set[str] = set()
        """Keys that were computed, or failed, in this run."""
        self.staged: str | None = None
        """The stage that is being computed again, beside what exists."""
        self.shards: list[InputShard] = []
        self.rebasing = False
        """Whether all shards are one generation, whatever came when."""
        self.known_generations: dict[tuple[str, str, str], int] = {}
        """The generations of the last accepted version: source, name and digest of a shard -> number."""

    def node(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)

    def documents_folder(self, source: str) -> str:
        return self._staging_path("documents", f"documents/{source}@{self.readers[source].fingerprint}")

    def _staging_path(self, name: str, folder: str) -> str:
        return STAGING + folder if self.staged == name else folder

    def folder(self, stage: Stage | CorpusStage) -> str:
        return self._staging_path(stage.label, f"{stage.folder or f'columns/{stage.name}'}@{stage.fingerprint}")

    @staticmethod
    def columns_read(stage: Instance, roles: Sequence[str]) -> list[str]:
        """The columns that a stage reads in some roles."""
        return [stage.read_from(role) for role in roles]

    def uids(self) -> list[int]:
        ids = self.outputs["documents"].index.digests["id"]
        return [shard_uid(row.tobytes().hex()) for row in ids]

    def generations(self) -> list[list[int]]:
        """Places of the shards by generation, the oldest first: those of the last accepted version as they are there,
        and what came since."""
        if self.rebasing or not self.known_generations:
            return [list(range(len(self.shards)))]
        found: list[list[int]] = [[] for _ in range(1 + max(self.known_generations.values()))]
        for place, shard in enumerate(self.shards):
            number = self.known_generations.get((shard.source, shard.name, shard.digest))
            if number is not None:
                found[number].append(place)
        return [places for places in [*found, self.newer()] if places]

    def newer(self) -> list[int]:
        """Places of the shards that came since the last accepted version."""
        shards = enumerate(self.shards)
        return [place for place, each in shards if (each.source, each.name, each.digest) not in self.known_generations]

    def due(self, index: Index, places: Sequence[int] | None = None) -> list[int]:
        """Places to compute now: known keys without output, not already tried in this run."""
        chosen = index.pending() if places is None else [p for p in places if index.keys[p] and index.state[p] != DONE]
        return [place for place in chosen if index.keys[place] not in self.tried]

    def unavailable(self, names: Sequence[str]) -> np.ndarray:
        """Shards whose `names` will not be computed in this run: quarantined there or further up."""
        result = np.zeros(len(self.shards), bool)
        for provider in {self.provider[name] for name in names} | {"documents"}:
            output = self.outputs[provider]
            result |= output.index.state == QUARANTINED
            if provider != "documents":
                result |= self.unavailable(self.node(provider).inputs)
        return result

    def keys(self, fingerprint: str, names: Sequence[str]) -> list[str | None]:
        """Per shard: the digest of fingerprint, ids, and values of the columns `names`."""
        keys: list[str | None] = [None] * len(self.shards)
        for place, key in self.keys_of(range(len(keys)), fingerprint, names).items():
            keys[place] = key
        return keys

    def keys_of(
        self,
        places: Sequence[int],
        fingerprint: str,
        names: Sequence[str],
        extra: Callable[[int], bytes] | None = None,
    ) -> dict[int, str]:
        """The same of some shards, as far as these columns are there; `extra` of each goes into its key, too."""
        documents = self.outputs["documents"].index
        chosen = np.asarray(places, np.int64)
        ready = documents.done[chosen]
        parts = [documents.digests["id"][chosen]]
        for name in names:
            index = self.outputs[self.provider[name]].index
            ready &= index.done[chosen]
            parts.append(index.digests[self.role[name]][chosen])
        joined, prefix = np.hstack(parts), fingerprint.encode()
        keys = {}
        for number in np.flatnonzero(ready).tolist():
            place = int(chosen[number])
            state = hashlib.blake2b(prefix + joined[number].tobytes(), digest_size=16)
            if extra:
                state.update(extra(place))
            keys[place] = state.hexdigest()
        return keys

    def job(
        self, stage: Instance, kind: Any, key: str, path: str, place: int, roles: Sequence[str], **more: Any
    ) -> Job:
        """A job that reads some roles of a stage from one shard."""
        documents = self.outputs["documents"].index
        wanted = [(self.column(stage.read_from(role), place), role) for role in dict.fromkeys(roles)]
        ids = documents.digests["id"][place].tobytes().hex()
        cost = int(documents.bytes[place])
        rows = int(documents.rows[place])
        name = self.shards[place].name
        recorded = self.recorded(place, [stage.read_from(role) for role in roles])
        return Job(
            kind, key, path, name, self.run, ids, rows, inputs_by_file(wanted), recorded=recorded, cost=cost, **more
        )
