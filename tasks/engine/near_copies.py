"""The near-copies of documents: what is in their clusters of duplicates, as the columns say that stages wrote."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.arrays.addresses import U64, arrays, as_numbers
from tasks.arrays.groups import I64, explode
from tasks.engine.pipeline import Pipeline
from tasks.engine.runner import StageError
from tasks.engine.snapshot import Snapshot
from tasks.engine.views import views
from tasks.storage.manifest import MISSING

_EVIDENCE = ("copy_of", "alike", "cluster")


def unsought(pipeline: Pipeline | Snapshot) -> list[str]:
    """The shards among whose documents no near-copies can be sought, as their duplicates are quarantined. Raises
    StageError where those of others are still to be computed, or to be known again, as their entries are lost."""
    providers = [pipeline.provider.get(name) for name in _EVIDENCE]
    lacking = pipeline.outputs["documents"].index.done.copy()
    known = [pipeline.outputs[name].index for name in providers if name is not None]
    done = [index.done for index in known if len(index.keys) == len(lacking)]
    complete = len(done) == len(providers)
    lacking &= ~np.logical_and.reduce(done) if complete else True
    if isinstance(pipeline, Pipeline):
        lost = pipeline.unavailable(_EVIDENCE) if complete else ~lacking
    else:  # of a version's shards those that were quarantined have no outputs
        lost = np.array([any(index.keys[place] is None for index in known) for place in range(len(lacking))])
    if (lacking & ~lost).any() or _forgotten(pipeline):
        raise StageError(
            "takedown: near-copies are not known before duplicates are computed for all documents: `sluice run "
            "SPEC --until clusters` first; or leave near-copies where they are (`--only`)"
        )
    return [pipeline.shards[place].name for place in np.flatnonzero(lacking).tolist()]


def _forgotten(corpus: Pipeline | Snapshot) -> bool:
    """Whether there are documents that no entry speaks of: the next run takes them up again."""
    documents = corpus.outputs["documents"]
    places = [
        place for place in np.flatnonzero(documents.index.state == MISSING).tolist() if documents.index.keys[place]
    ]
    names = {folder: corpus.store.list(folder).keys() for folder in {documents.folders[place] for place in places}}
    return any(documents.path(place).rpartition("/")[2] in names[documents.folders[place]] for place in places)


def in_clusters(pipeline: Pipeline | Snapshot, ids: Collection[bytes]) -> set[bytes]:
    """The ids of documents that copies and verified pairs connect with some, directly or through others; those
    themselves included."""
    corpus = views(pipeline)["corpus"]
    found = {each.hex() for each in ids}
    known, clusters = np.empty(0, np.uint64), np.empty(0, np.uint64)
    while True:
        before = len(found), len(known), len(clusters)
        for _, table in corpus.scan(("id", "shard", "position", *_EVIDENCE)):
            row, alike = _partners(table["alike"])
            copied, original = _partners(table["copy_of"])
            address = as_numbers(*arrays(table, "shard", "position"))
            cluster = pc.fill_null(table["cluster"], 0).to_numpy()
            mine = pc.is_in(table["id"], pa.array(sorted(found), pa.string())).to_numpy()
            mine |= np.isin(address, known) | (np.isin(cluster, clusters) & table["cluster"].is_valid().to_numpy())
            mine[row[np.isin(alike, known)]] = True
            mine[copied[np.isin(original, known)]] = True
            if mine.any():
                found.update(table["id"].filter(pa.array(mine)).to_pylist())
                known = np.unique(np.concatenate([known, address[mine], alike[mine[row]], original[mine[copied]]]))
                in_one = mine & table["cluster"].is_valid().to_numpy()
                clusters = np.unique(np.concatenate([clusters, cluster[in_one]]))
        if before == (len(found), len(known), len(clusters)):
            return {bytes.fromhex(each) for each in found}


def _partners(column: pa.ChunkedArray) -> tuple[I64, U64]:
    """Addresses, or lists of them -> (the row of each, its address as a number)."""
    if pa.types.is_struct(column.type):
        row = np.flatnonzero(column.is_valid().to_numpy())
        found = column.combine_chunks().take(pa.array(row))
    else:
        row, found = explode(column)
    return row, as_numbers(*(pc.struct_field(found, name).to_numpy() for name in ("shard", "position")))
