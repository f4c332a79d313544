"""Documents that come into a corpus out of its store, where they lay since before a takedown: no reader has held them
against it."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from tasks.engine.pipeline import Pipeline
from tasks.engine.takedowns import TAKEN_DOWN, PendingError, Takedowns
from tasks.engine.versions import Versions
from tasks.sources.taken_down import TakenDown
from tasks.storage import columns
from tasks.storage.columns import Recorded
from tasks.storage.manifest import Entry, Manifest


def none_taken_down(pipeline: Pipeline, takedowns: Takedowns) -> None:
    """Raises PendingError where documents are in the corpus that the last accepted version has not, that were read
    before the newest takedown, and that would be refused were they read now."""
    if (named := TakenDown.of(takedowns)) is None:
        return
    for path, entry in older(pipeline, takedowns):
        recorded = Recorded(entry["ids"], entry.get("checksum", ""), entry["columns"])
        if _any_of(columns.read(pipeline.store, path, ["id", "url", "kind", "payload", "text"], recorded), named):
            raise PendingError(
                f"{path} of {pipeline.store.url} has documents that were taken down, from before: "
                "`sluice takedown SPEC --yes` goes on with it"
            )


def older(pipeline: Pipeline, takedowns: Takedowns) -> Iterator[tuple[str, Entry]]:
    """Files of documents that are not in the last accepted version, and were written before the newest takedown."""
    output, versions = pipeline.outputs["documents"], Versions(pipeline.store, pipeline.spec.name)
    known = set(versions.files(versions.accepted, "documents")) if versions.accepted else set[str]()
    there = [output.path(place) for place in range(len(output.folders)) if output.index.done[place]]
    paths = {path for path in there if path not in known}
    for folder in sorted({path.rpartition("/")[0] for path in paths}):
        latest = {entry["key"]: entry for entry in Manifest(pipeline.store, folder).entries()}
        for key, entry in latest.items():
            path = f"{folder}/{key}.parquet"
            if path in paths and "columns" in entry and takedowns.before_newest(entry.get("run", "")):
                yield path, entry


def _any_of(documents: pa.Table, named: TakenDown) -> bool:
    """Whether one of some documents would be refused."""
    for row in documents.to_pylist():
        if row["kind"] != TAKEN_DOWN and (
            (row["id"] in named.ids and not named.other_at(row["id"], row["payload"]))
            or named.names(row["url"])
            or named.has(row["text"], row["kind"])
        ):
            return True
    return False
