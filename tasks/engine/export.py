"""The kept documents as files for others: shards of Parquet or JSON lines, zstd, in another folder or bucket.

The shards of a corpus are cut into files by what manifests say of their sizes, and each file is made from its shards
alone, so the same corpus gives the same bytes, in whatever order files are made and however often that was stopped. A
file is there whole or not at all, and noted in a manifest of the export's own, which begins with what is exported;
`export.json`, written last, ends it. So an export never takes what is there for its own, nor writes over it.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_specs.amounts import plural
from data_specs.expressions import parse
from data_specs.redaction import redacted
from tasks.engine.export_formats import ENDS, WRITERS, Form
from tasks.engine.runner import StageError
from tasks.engine.sql import evaluate
from tasks.engine.stage import digest
from tasks.engine.views import View
from tasks.storage.checksums import Summed, of_file
from tasks.storage.columns import ROW_GROUP
from tasks.storage.manifest import MISSING, QUARANTINED, Manifest
from tasks.storage.store import Store

log = logging.getLogger("sluice")

VERSION = 1
"""Raised when the same documents give other bytes."""
SIZE = 256 * 2**20
"""Bytes of a file, about: of its documents as the store has them."""
GROUPS = ("source", "channel", "language")
"""Columns by which documents are counted."""
MARKS = ("origin", "augmented")
"""Columns that say of which document a text was made, and by which stage; null of a document."""
_PROGRESS = "progress"
"""Folder of the manifest of files that are written, until the export ends."""
_OWN = frozenset({"README.md", "export.json"})
"""What an export writes beside its data."""

Progress = Callable[[int, int], None]
"""Called with files written and files in all."""


class TargetError(ValueError):
    """The export cannot go where it is to go; the message says why, and what to do."""


@dataclass(frozen=True)
class Question:
    """What is exported, and how."""

    form: Form = "parquet"
    columns: tuple[str, ...] = ()
    """Columns beside `id` and `text`."""
    text: str = "text"
    """The column that is exported as `text`."""
    where: str | None = None
    """Of the kept documents, those for which this expression is true."""
    size: int = SIZE
    augmented: tuple[str, ...] = ()
    """Stages whose texts of these documents are exported, too: as rows of their own, with an id of their own, the
    document's in `origin`, the stage in `augmented`, and what else is exported as the document has it."""


@dataclass
class Exported:
    """What an export came to."""

    identity: str
    """The digest of what was asked and of every value that is read: the same identity, the same bytes."""
    schema: pa.Schema
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By name: rows, bytes and checksum (XXH3-64)."""
    counts: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    """By source, channel and language: documents and bytes of text."""
    left_out: list[str] = field(default_factory=list)
    """Shards of which something is quarantined."""
    written: int = 0
    """Files written now; the others were there."""
    ended: bool = False
    """Whether all of it was there."""

    @property
    def documents(self) -> int:
        return sum(found["rows"] for found in self.files.values())

    @property
    def bytes(self) -> int:
        return sum(found["bytes"] for found in self.files.values())


class Export:
    """One export of one corpus. `corpus` is the view of its columns (`tasks.engine.views`)."""

    def __init__(self, corpus: View, asked: Question, target: Store) -> None:
        self.corpus, self.asked, self.target = corpus, asked, target
        kinds = corpus.schema
        always = ("id", "text", *(MARKS if asked.augmented else ()))
        self.schema = pa.schema(
            [
                ("id", pa.string()),
                ("text", pa.string()),
                *(kinds.field(name) for name in asked.columns if name not in always),
                *((name, pa.string()) for name in MARKS if asked.augmented),
            ]
        )
        judged = sorted(parse(asked.where).columns) if asked.where else []
        groups = [name for name in GROUPS if name in kinds.names]
        exported = [name for name in self.schema.names if name not in ("text", *MARKS)]
        exported += [column for name in asked.augmented for column in (name, f"{name}_id")]
        self.read = tuple(dict.fromkeys((asked.text, *exported, *groups, *judged)))
        self.groups = groups
        self._stop = threading.Event()

    def run(self, progress: Progress = lambda *_: None) -> Exported:
        """Write what is missing. Raises StageError where the corpus is not complete, TargetError where something else
        is in the target, StoreError where a file cannot be read or written."""
        places, left_out = self._places()
        found = Exported(self._identity(places), self.schema, left_out=left_out)
        named = {f"data/{number:05d}{ENDS[self.asked.form]}": each for number, each in enumerate(self._cut(places))}
        if self._ended(found):
            return found
        done = self._begun(found.identity, named)
        waiting = {name: each for name, each in named.items() if name not in done}
        progress(len(done), len(named))
        for name, entry in self._written(waiting):
            done[name] = entry
            Manifest(self.target, _PROGRESS).append([{"key": name, "identity": found.identity} | entry])
            progress(len(done), len(named))
        found.written = len(waiting)
        found.counts = {group: {} for group in self.groups}
        for name in named:
            facts = dict(done[name])
            for group, values in facts.pop("counts").items():
                for value, counted in values.items():
                    _add(found.counts[group], value, counted)
            if facts["rows"]:
                found.files[name] = facts
        return found

    def end(self, found: Exported, card: str, about: Mapping[str, Any]) -> None:
        """Write the card and, last, `export.json`, which ends the export; `about` says what it is of. Of one that had
        ended before the card alone is written, where it is gone or licenses are others now."""
        if found.ended and self.target.exists("README.md"):
            before = self.target.json("export.json").get("licenses")
            if before is None or before == about.get("licenses"):  # an earlier version noted none
                return
        self.target.commit("README.md", card.encode())
        facts = {name: getattr(found, name) for name in ("identity", "documents", "bytes", "files", "counts")}
        self.target.commit_json("export.json", {**about, **facts, "left_out": found.left_out})
        self.target.remove(*self.target.walk(_PROGRESS))
        if folder := self.target.local(_PROGRESS):
            shutil.rmtree(folder, ignore_errors=True)

    # -- what is there already ---------------------------------------------------------------------------------------

    @property
    def _where(self) -> str:
        return redacted(str(self.target.folder or self.target.url))

    def _ended(self, found: Exported) -> bool:
        """Whether this export was done to its end and is whole; its files and counts. Raises TargetError where another
        is there."""
        if not self.target.exists("export.json"):
            return False
        ended = self.target.json("export.json")
        if ended.get("identity") != found.identity:
            raise TargetError(f"{self._where} holds another export (export.json); name a new folder, or empty this one")
        sizes = self.target.list("data")
        self._refuse(f"data/{name}" for name in sizes if f"data/{name}" not in ended["files"])
        if not all(self._whole(name, facts, sizes) for name, facts in ended["files"].items()):
            return False
        found.files, found.counts, found.ended = ended["files"], ended["counts"], True
        return True

    def _begun(self, identity: str, named: Collection[str]) -> dict[str, dict[str, Any]]:
        """What was noted of files of this export, which are `named`, that are there whole, by name; that it is begun is
        noted first. Raises TargetError where the target holds anything else."""
        entries = list(Manifest(self.target, _PROGRESS).entries())
        if any(entry["identity"] != identity for entry in entries):
            raise TargetError(
                f"{self._where} holds the beginning of another export; name a new folder, or empty this one"
            )
        data = self.target.list("data")
        resumes = entries or self.target.exists("export.json")
        ours = {"data", _PROGRESS, *_OWN} if resumes else set()
        self._refuse({*self.target.list(""), *self.target.folders("")} - ours)
        self._refuse(f"data/{name}" for name in data if f"data/{name}" not in named)
        if not entries:
            self._begin(identity)
        return {
            entry["key"]: {name: entry[name] for name in ("rows", "bytes", "checksum", "counts")}
            for entry in entries
            if entry["key"] and self._whole(entry["key"], entry, data)
        }

    def _begin(self, identity: str) -> None:
        """Note that this export is begun. Raises TargetError where another one has been meanwhile: of two that begin at
        once, each of which found nothing, one at least then sees the other."""
        progress = Manifest(self.target, _PROGRESS)
        progress.append([{"key": "", "identity": identity}])
        if {entry["identity"] for entry in progress.entries()} != {identity}:
            segments = [f"{_PROGRESS}/manifest/{name}" for name in self.target.list(f"{_PROGRESS}/manifest")]
            mine = [path for path in segments if {entry["identity"] for entry in progress.segment(path)} == {identity}]
            self.target.remove(*mine)
            raise TargetError(f"another export to {self._where} has begun meanwhile; name a new folder")

    def _whole(self, name: str, facts: Mapping[str, Any], sizes: Mapping[str, int]) -> bool:
        """Whether a file is there as it was written, or none, where it had no rows; in an object store, which sees to
        that itself, by its size."""
        size = sizes.get(name.removeprefix("data/"))
        if not facts["rows"] or size != facts["bytes"]:
            return size is None and not facts["rows"]
        local = self.target.local(name)
        if local is None or of_file(local) == facts["checksum"]:
            return True
        log.warning("%s is damaged and is made again", redacted(str(local)))
        return False

    def _refuse(self, others: Iterable[str]) -> None:
        """Raises TargetError where there are others than belong to the export; names with a dot are nobody's."""
        if found := [name for name in others if not name.rpartition("/")[2].startswith(".")]:
            raise TargetError(f"{self._where} is not empty ({min(found)}); name a new folder for the export")

    # -- what is exported --------------------------------------------------------------------------------------------

    def _places(self) -> tuple[list[int], list[str]]:
        """Shards that have every column that is read, and the names of those that are quarantined."""
        outputs, provider = self.corpus.pipeline.outputs, self.corpus.pipeline.provider
        needed = {"documents", *(provider[name] for name in (*self.read, "kept"))}
        if replaced := sorted(needed & self.corpus.pipeline.replaced):
            raise StageError(
                f"export: {', '.join(replaced)}: other values took the place of those of this version since "
                "(`sluice run --from STAGE --replace`); export a later version, or ask for other columns"
            )
        done = np.ones(len(self.corpus.pipeline.shards), bool)
        for name in sorted(needed):
            index = outputs[name].index
            done &= index.done
        if "tokens" in outputs:  # documents without are counted as quarantined, and not as kept
            done &= ~self.corpus.pipeline.unavailable(("tokens",))
        lost = np.zeros(len(done), bool)
        for output in outputs.values():
            if len(output.index.state) == len(done):
                lost |= output.index.state == QUARANTINED
        for name in sorted(needed):
            waiting = (outputs[name].index.state == MISSING) & ~lost
            if waiting.any():
                raise StageError(
                    f"export: {name} is not complete ({plural(int(waiting.sum()), 'shard')}): `sluice run` first; of "
                    "an old version, `sluice gc` removes what later ones do not name"
                )
        names = [self.corpus.pipeline.shards[place].name for place in np.flatnonzero(~done).tolist()]
        return np.flatnonzero(done).tolist(), names

    def _identity(self, places: Sequence[int]) -> str:
        outputs, provider, role = (getattr(self.corpus.pipeline, each) for each in ("outputs", "provider", "role"))
        read = sorted({*self.read, "kept", "id"})
        asked = {name: value for name, value in vars(self.asked).items() if value or name != "augmented"}
        columns = [outputs[provider[name]].index.digests[role[name]] for name in read]
        values = np.hstack([column[places] for column in columns]).tobytes() if places else b""
        kinds = {field.name: str(field.type) for field in self.schema}
        return digest([VERSION, asked, kinds, read, len(places), digest(values.hex())])[:32]

    def _cut(self, places: Sequence[int]) -> list[list[int]]:
        """Consecutive shards for each file, as many as have about `size` bytes that are kept."""
        documents = self.corpus.pipeline.outputs["documents"].index
        verdict = self.corpus.pipeline.outputs[self.corpus.pipeline.provider["kept"]].index
        cut: list[list[int]] = []
        room = 0.0
        for place in places:
            rows = max(1, int(documents.rows[place]))
            judged = verdict.ledger(place) or {}
            kept = judged.get(self.corpus.pipeline.shards[place].source, {}).get("kept", 0) if judged else rows
            size = float(documents.bytes[place]) * kept / rows
            if not cut or room < size:
                cut.append([])
                room = float(self.asked.size)
            cut[-1].append(place)
            room -= size
        return cut

    # -- writing -----------------------------------------------------------------------------------------------------

    def _written(self, waiting: Mapping[str, Sequence[int]]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Write files, as many at a time as there are cores; each as it is done."""
        queue = iter(waiting.items())
        pool = ThreadPoolExecutor(workers := len(os.sched_getaffinity(0)))
        running: dict[Future[dict[str, Any]], str] = {}
        try:
            while True:
                while len(running) < workers and (following := next(queue, None)):
                    running[pool.submit(self._file, *following)] = following[0]
                if not running:
                    return
                ended, _ = wait(running, return_when=FIRST_COMPLETED)
                for each in ended:
                    yield running.pop(each), each.result()
        finally:
            self._stop.set()
            pool.shutdown(cancel_futures=True)
            self._stop.clear()

    def _file(self, name: str, places: Sequence[int]) -> dict[str, Any]:
        """Write one file: its rows, bytes, checksum and counts. Of no rows no file is made."""
        counts: dict[str, dict[str, list[int]]] = {group: {} for group in self.groups}
        rows, batches = 0, self._batches(places, counts)
        first = next(batches, None)
        if first is None:
            self.target.remove(name)
            return {"rows": 0, "bytes": 0, "checksum": "", "counts": counts}
        with self.target.writer(name) as file:
            summed = Summed(file)
            with WRITERS[self.asked.form](summed, self.schema) as write:
                for table in chain([first], batches):
                    rows += table.num_rows
                    write(table)
        plain = {group: dict(sorted(found.items())) for group, found in counts.items()}
        return {"rows": rows, "bytes": summed.size, "checksum": summed.checksum, "counts": plain}

    def _batches(self, places: Sequence[int], counts: dict[str, dict[str, list[int]]]) -> Iterator[pa.Table]:
        """The documents of some shards, ROW_GROUP rows or a little more at a time, and counted."""
        held: list[pa.Table] = []
        view = View(self.corpus.pipeline, self.corpus.columns, places)
        for _, table in view.scan(self.read, pc.field("kept")):
            if self._stop.is_set():
                raise _StoppedError
            if self.asked.where:
                judged = evaluate({"--where": self.asked.where}, table)["--where"]
                table = table.filter(pc.fill_null(judged, False))
            if not table.num_rows:
                continue
            for rows in self._rows(table):
                _count(rows, counts)
                held.append(rows.select(self.schema.names))
            if sum(each.num_rows for each in held) >= ROW_GROUP:
                yield pa.concat_tables(held)
                held = []
        if held:
            yield pa.concat_tables(held)

    def _rows(self, table: pa.Table) -> Iterator[pa.Table]:
        """The documents of a table as they are exported, with what they are counted by; then the texts that each stage
        made of them."""
        others = [name for name in dict.fromkeys([*self.schema.names, *self.groups]) if name not in ("id", "text")]
        for stage in ("", *self.asked.augmented):
            made = table.filter(pc.is_valid(table[f"{stage}_id"])) if stage else table
            renamed = {"id": made[f"{stage}_id"], "text": made[stage]} if stage else {"text": made[self.asked.text]}
            if self.asked.augmented:
                nothing = pa.nulls(len(made), pa.string())
                renamed |= {"origin": made["id"] if stage else nothing}
                renamed |= {"augmented": pa.array([stage] * len(made), pa.string()) if stage else nothing}
            columns = {name: renamed[name] if name in renamed else made[name] for name in ("id", "text", *others)}
            yield pa.table(columns)


class _StoppedError(RuntimeError):
    """Another file failed, or the export was interrupted."""


def _add(found: dict[str, list[int]], value: str, counted: Sequence[int]) -> None:
    """Add documents and bytes to those of a value."""
    before = found.get(value, [0, 0])
    found[value] = [before[0] + counted[0], before[1] + counted[1]]


def _count(table: pa.Table, counts: dict[str, dict[str, list[int]]]) -> None:
    """Count documents and bytes of text by some columns."""
    size = pc.fill_null(pc.binary_length(table["text"]), 0).to_numpy()
    for group, found in counts.items():
        values = pc.fill_null(table[group], "").combine_chunks().dictionary_encode()
        number, names = values.indices.to_numpy(), values.dictionary.to_pylist()
        rows, weights = np.bincount(number, minlength=len(names)), np.bincount(number, size, len(names))
        for name, documents, weight in zip(names, rows.tolist(), weights.tolist(), strict=True):
            _add(found, name, [documents, int(weight)])
