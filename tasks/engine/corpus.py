"""The columns of a corpus, shard by shard: where each lies, and what is known of its file. What a pipeline, which is
being computed, and a version of it have in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from tasks.engine.job import Inputs, inputs_by_file
from tasks.engine.reading import InputShard
from tasks.engine.stage import DOCUMENTS
from tasks.storage.columns import Recorded
from tasks.storage.store import Store

if TYPE_CHECKING:
    from tasks.engine.outputs import Output


class Corpus:
    """Shards, and the outputs of stages over them."""

    store: Store
    shards: list[InputShard]
    outputs: dict[str, Output]
    provider: dict[str, str]
    """Column -> the stage that writes it."""
    role: dict[str, str]
    """Column -> what it is called in its stage's files and manifests."""
    replaced: frozenset[str] = frozenset()
    """Stages with other values than the corpus was made with: none of one that is being computed."""
    documents_schema: pa.Schema
    """The columns of documents, those that only some sources have among them."""

    def lacks(self, name: str, place: int) -> bool:
        """Whether a column is one that the documents of a shard do not have: their source has none, or an earlier
        version read them."""
        documents = self.outputs["documents"].index
        of_some_sources = self.provider[name] == "documents" and name not in DOCUMENTS.names
        return of_some_sources and not documents.has(self.role[name], place)

    def unavailable(self, names: Sequence[str]) -> np.ndarray:
        """Shards whose `names` there will not be: they are quarantined in the stages that write them, or further up.
        Documents are judged where this is not so of the verdict, and kept where it is not so of `tokens`, either."""
        raise NotImplementedError

    def recorded(self, place: int, names: Iterable[str]) -> dict[str, Recorded]:
        """What is known of the files that hold the columns `names` of a shard, by path."""
        ids = self.outputs["documents"].index.digests["id"][place].tobytes().hex()
        roles: dict[str, list[str]] = {}
        for name in names:
            if not self.lacks(name, place):
                roles.setdefault(self.provider[name], []).append(self.role[name])
        found = [(self.outputs[name], wanted) for name, wanted in roles.items()]
        return {output.path(place): output.index.recorded(place, ids, wanted) for output, wanted in found}

    def column(self, name: str, place: int) -> tuple[str, str]:
        """Where a column of a shard is: the file, and what it is called there. Of a column that the shard's source does
        not have, no file, and its type: it is null."""
        if self.lacks(name, place):
            return "", str(self.documents_schema.field(name).type)
        return self.outputs[self.provider[name]].path(place), self.role[name]

    def files(self, names: Sequence[str]) -> Iterator[tuple[int, Inputs]]:
        """Shards for which all of the columns `names` exist: (place, files with columns)."""
        providers = {self.provider[name] for name in names}
        ready = np.logical_and.reduce([self.outputs[provider].index.done for provider in providers])
        for place in np.flatnonzero(ready).tolist():
            yield place, inputs_by_file([(self.column(name, place), name) for name in names])
