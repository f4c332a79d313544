"""The two kinds of stages. Both are pure: they know neither Prefect, nor Ray, nor the store.

A shard stage maps a table of the columns it reads to a table of the columns it writes, same rows, same order. A corpus
stage maps each shard to rows keyed into partitions, reduces each partition, and scatters the result back by shard; one
that is repeated deals its rows into the partitions round after round before that.
A stage names what it reads and writes by roles: `text`, `quality`. A spec may have several stages of one kind, which
read and write columns of other names; only the pipeline knows these. Files and fingerprints have roles, so renaming
costs nothing.

What changes a stage's values is declared (settings, version, model files, libraries) and hashed into its fingerprint;
the fingerprint names the folder of its output, so an undeclared input is a bug that `--from` finds.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from itertools import pairwise
from types import MappingProxyType
from typing import Any, ClassVar, Self

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from data_specs import stages
from data_specs.base import Settings
from data_specs.expressions import normalised, parse

DOCUMENTS = pa.schema(
    [
        ("id", pa.binary(16)),  # hash of (source, record); only documents carry it
        ("source", pa.string()),
        ("url", pa.string()),
        ("text", pa.string()),  # NFC, no control characters, never null
        ("title", pa.string()),
        ("date", pa.string()),  # ISO 8601 day of publication, null where unknown
        ("author", pa.string()),
        ("site", pa.string()),
        ("kind", pa.string()),  # html, text, code, markdown, latex
        ("file", pa.string()),  # file, offset, length, payload digest: how to read the record again
        ("offset", pa.int64()),
        ("length", pa.int64()),
        ("payload", pa.string()),  # sha256 of the payload as stored, hexadecimal
    ]
)
"""Columns of a document; later stages add more, none changes these."""


@cache
def installed(library: str) -> str:
    """Version of an installed distribution; finding it reads files, so it is found once a process."""
    return metadata.version(library)


def digest(value: Any) -> str:
    """128 bits of BLAKE2b over canonical JSON (sorted keys), hexadecimal."""
    return hashlib.blake2b(orjson.dumps(value, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()


class Instance:
    """What a stage of a spec, or something learned, is called there, and what the columns are called that it reads and
    writes. By default all is called as the code calls it."""

    name: str
    instance: str = ""
    """Its name in the spec, where it has one of its own."""
    bound: Mapping[str, str] = MappingProxyType({})
    """Role -> the column that is read in it."""

    def called(self, instance: str, bound: Mapping[str, str]) -> Self:
        """The same stage by another name, reading other columns."""
        self.instance, self.bound = instance if instance != self.name else "", dict(bound)
        return self

    @property
    def label(self) -> str:
        """What it is called in the spec."""
        return self.instance or self.name

    def read_from(self, role: str) -> str:
        """The column that is read in a role."""
        return self.bound.get(role, role)

    def written_as(self, role: str) -> str:
        """The column that a role becomes."""
        return stages.column(self.instance, self.name, role) if self.instance else role


class Fingerprinted(Instance, ABC):
    """What stages of both kinds, and readers of sources, share: a name, settings, and the fingerprint of what shapes
    their values."""

    version: ClassVar[int] = 1
    """Raised when values change, with the reason beside it."""
    libraries: ClassVar[tuple[str, ...]] = ()
    """Distributions whose installed version shapes the values."""
    unhashed: ClassVar[frozenset[str]] = frozenset()
    """Settings that do not change the output (memory, partitions, ...)."""
    rewrites: ClassVar[bool] = False
    """Whether it writes a text: a column of its name, and `<name>_emptied`, whether nothing was left of one."""
    reads: tuple[str, ...]
    writes: pa.Schema
    where: str | None = None
    """Gate: rows for which this expression over columns is not true are not computed; their columns are null."""
    folder: str = ""
    """Folder in the store; `columns/<name>` unless the stage says otherwise."""
    format: ClassVar[str] = "parquet"
    """`parquet`, or `arrow` for memory-mapped columns."""
    code: str = ""
    """Of a stage of one's own, the sha256 of its class's file."""

    def __init__(self, settings: Settings, files: dict[str, str] | None = None) -> None:
        """`files` maps each model file's path to its sha256."""
        self.settings = settings
        self.files = files or {}

    def hashed_settings(self) -> dict[str, Any]:
        """What changes the values, beside version, files and libraries. JSON."""
        return self.settings.model_dump(mode="json", exclude={*self.unhashed, *_unhashed(self.settings)})

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that name this stage's outputs."""
        return digest(self.fingerprint_fields())[:16]

    def fingerprint_fields(self) -> dict[str, Any]:
        """The fingerprint in the clear: what `plan` compares to say which setting made a stage stale."""
        return {
            "name": self.name,
            "version": self.version,
            "settings": self.hashed_settings(),
            "files": sorted(self.files.values()),
            "libraries": {library: installed(library) for library in self.libraries},
            "where": normalised(self.where) if self.where else None,
            "reads": list(self.reads),
            "writes": {field.name: str(field.type) for field in self.writes},
        }

    @property
    def gated(self) -> tuple[str, ...]:
        """Columns that `reads` names, and those of the gate."""
        return (*self.reads, *sorted(parse(self.where).columns - set(self.reads) if self.where else ()))

    @property
    def inputs(self) -> tuple[str, ...]:
        """Every column that is read."""
        return self.gated

    def setup(self) -> None:
        """Once per worker process: load models. `files` then names files of this machine."""

    variant: str = ""
    """With `of_source`: what shapes the values beside the fingerprint."""

    def of_source(self, source: str) -> Self:
        """The stage for the shards of a source: the same for all, for most stages."""
        del source
        return self

    def ledger(self, columns: pa.Table, batch: pa.Table) -> dict[str, dict[str, int]]:
        """Counts kept in the manifest beside the shard's output, by group, from what was written and what was read;
        `{}` for most stages."""
        return {}


class Stage(Fingerprinted):
    """A shard stage."""

    @abstractmethod
    def __call__(self, batch: pa.Table) -> pa.Table:
        """Columns `reads` of some rows of one shard -> columns `writes` of the same rows in the same order."""

    def filled(self, columns: pa.Table, batch: pa.Table) -> pa.Table:
        """Columns `writes` in which rows that the gate skipped are null, and what was read -> those columns: skipped
        rows stay null, for most stages."""
        return columns


class Rewriting(Stage):
    """A shard stage that writes a text: a column of its name, and `<name>_emptied`, whether that left nothing of a text
    that had something. The verdict drops such documents where this is the text that is trained on."""

    rewrites = True
    reads = ("text",)

    def __init__(self, settings: Settings, files: dict[str, str] | None = None) -> None:
        super().__init__(settings, files)
        self.where = getattr(settings, "where", None)
        self.writes = pa.schema([(self.name, pa.string()), (f"{self.name}_emptied", pa.bool_())])

    @abstractmethod
    def rewritten(self, texts: pa.ChunkedArray) -> pa.Array:
        """Texts -> texts, none of them null."""

    def __call__(self, batch: pa.Table) -> pa.Table:
        return self.table(self.rewritten(batch["text"]), batch["text"])

    def table(self, made: pa.Array, texts: pa.ChunkedArray, *more: pa.Array) -> pa.Table:
        """The text that was made of `texts`, and what else is written."""
        made = pc.utf8_trim_whitespace(made)
        emptied = pc.and_(pc.equal(made, ""), pc.not_equal(texts, ""))
        return pa.table([made, emptied, *more], schema=self.writes)

    def filled(self, columns: pa.Table, batch: pa.Table) -> pa.Table:
        """The text of skipped rows stays as it is."""
        made, emptied, *more = columns.columns
        return pa.table([pc.coalesce(made, batch["text"]), pc.fill_null(emptied, False), *more], schema=self.writes)


class CorpusStage(Fingerprinted):
    """A corpus stage: map each shard, reduce each partition, scatter to each shard."""

    partitions: int = 16
    shuffled: pa.Schema
    """Columns that `map` returns beside `partition`: `position` (uint32) must be among them."""
    reduced: pa.Schema
    """Columns that `reduce` returns beside `shard` and `position`."""
    scatters: tuple[str, ...] = ()
    """Columns that `scatter` reads."""
    state_key: str = ""
    """Column of `shuffled` (uint64, evenly spread) by which a later generation finds mapped rows of earlier ones; ""
    for a stage that needs none."""

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.gated, *self.scatters)))

    def reduce_groups(self, rows: int) -> list[range]:
        """Which partitions go into one reduction, where the maps gave so many rows: each stays alone."""
        del rows
        return [range(each, each + 1) for each in range(self.partitions)]

    @abstractmethod
    def map(self, batch: pa.Table) -> pa.Table:
        """Columns `reads` of one whole shard -> rows of `shuffled` plus `partition` (int32, 0 <= p < partitions)."""

    @abstractmethod
    def reduce(self, rows: pa.Table) -> pa.Table:
        """All rows of one partition (`shuffled` plus `shard` uint64, sorted by shard, then as mapped) -> rows of
        `reduced` plus `shard` and `position`, which say which document a row is about. In a later generation: its rows,
        after those of earlier ones (the oldest first) that have a `state_key` of theirs; what is said about older
        documents is not scattered."""

    def remember(self, rows: pa.Table) -> pa.Table:
        """Mapped rows of one partition, the oldest generation first -> those that later generations need. Of rows put
        together it keeps what it keeps of what it kept of each."""
        return rows

    @abstractmethod
    def scatter(self, batch: pa.Table, rows: pa.Table) -> pa.Table:
        """Columns `scatters` of one whole shard, and the reduced rows about it sorted by position -> `writes`."""


class RecallingStage(CorpusStage):
    """A corpus stage that reads older documents, which those of a later generation name."""

    recalls: tuple[str, ...]
    """Columns of older documents that `recall` reads; among them may be what this stage wrote."""
    named_by: str = ""
    """The column whose stage's reductions name the older documents; "" for one that asks for them itself."""

    @abstractmethod
    def recall(self, batch: pa.Table, rows: pa.Table) -> pa.Table:
        """Older documents of one shard (`recalls`, `shard`, `position`; sorted by position), and the reduced rows that
        name them (`position` among their columns) -> mapped rows plus `shard`, which are reduced with the others."""


class AskingStage(RecallingStage):
    """One whose own columns name older documents, and whose maps are told of these."""

    asks: tuple[str, ...]
    """Columns that name documents: an address, or a list of them with similarities."""
    answers: pa.Schema
    """Columns that `recall` returns beside `by_shard`; `by_position` (uint32) must be among them."""

    @abstractmethod
    def recall(self, batch: pa.Table, rows: pa.Table) -> pa.Table:
        """Older documents of one shard (`recalls`, `shard`, `position`; sorted by position), and rows that name them
        (`position`, `by_shard`, `by_position`, `similarity`) -> rows of `answers` plus `by_shard`."""

    @abstractmethod
    def map_recalled(self, batch: pa.Table, rows: pa.Table) -> pa.Table:
        """The same as `map` in a later generation, with the `answers` about this shard. Rows about other documents than
        this shard's have a `shard` of their own; then all have."""


class RepeatedStage(CorpusStage):
    """A corpus stage whose rows go through rounds before they are reduced: what a round returns is partitioned anew and
    is read by the next one, until a round returns what the one before it returned. `map` names no
    partition: what it returns goes through `iterate` too. Rows that fit into one reduction need no further round."""

    rows_per_reduce: int = 2**20
    """Rows that one reduction takes; with more, there are more reductions, at most `partitions`."""

    def reduce_groups(self, rows: int) -> list[range]:
        count = min(self.partitions, max(1, -(-rows // self.rows_per_reduce)))
        cuts = [self.partitions * each // count for each in range(count + 1)]
        return [range(first, end) for first, end in pairwise(cuts)]

    @abstractmethod
    def iterate(self, rows: pa.Table, partition_range: range) -> pa.Table:
        """All rows of the partitions `partition_range`, or, with an empty range, what one map returned: `shuffled` plus
        `shard` -> rows of `shuffled` plus `shard` and `partition`. The same rows give the same rows; and whatever is
        given, a number of rounds later they no longer change."""


class Estimator(Instance, ABC):
    """How a model is learned from the corpus: sampled shard by shard, fitted once, pinned."""

    version: ClassVar[int] = 1
    libraries: ClassVar[tuple[str, ...]] = ()
    reads: tuple[str, ...]
    suffix: ClassVar[str]
    """File name's suffix of the artefact, such as `.bin` or `.json`."""
    where: str | None = None
    """Gate: documents for which this expression over columns is not true are not learned from."""

    def __init__(self, settings: Settings, seed: int) -> None:
        self.settings = settings
        self.seed = seed
        self.models: dict[str, str] = {}
        """Pins, by name, and their sha256, that shape the columns it reads: where one moves, this is learned anew."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Every column that is read; those of the gate and `held_out` only to leave documents out."""
        held_out = () if self.name == "held_out" else ("held_out",)
        gate = sorted(parse(self.where).columns) if self.where else ()
        return tuple(dict.fromkeys(("id", *self.reads, *gate, *held_out)))

    def hashed_settings(self) -> dict[str, Any]:
        """What changes what is learned, beside version, seed and libraries. JSON."""
        return self.settings.model_dump(mode="json", exclude=_unhashed(self.settings))

    def fingerprint_fields(self) -> dict[str, Any]:
        """The fingerprint in the clear."""
        return {
            "name": self.name,
            "version": self.version,
            "settings": self.hashed_settings(),
            "seed": self.seed,
            "libraries": {library: installed(library) for library in self.libraries},
            "where": normalised(self.where) if self.where else None,
            "reads": list(self.reads),
            "models": self.models,
        }

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that name what this would learn from the same documents."""
        return digest(self.fingerprint_fields())[:16]

    @abstractmethod
    def sample(self, batch: pa.Table) -> pa.Table:
        """Columns `reads` of one whole shard, without held-out documents -> the rows (any schema, the same for every
        shard) to learn from, with `id`; chosen by `hash(id, seed)`, never by position."""

    def downsample(self, rows: pa.Table) -> pa.Table:
        """What `fit` may use of samples put together. Called on any part of them, any number of times, so that no
        process holds the samples of all shards."""
        return rows

    @abstractmethod
    def fit(self, rows: pa.Table) -> tuple[bytes, dict[str, Any]]:
        """All sampled rows, sorted by id -> the artefact and facts about it (JSON: sizes, scores, sample digest).
        The same rows give the same bytes."""

    def since(self, pin: Mapping[str, Any]) -> str:
        """What has changed since it was pinned beside its settings and what it reads; "" for most."""
        del pin
        return ""

    def caution(self, facts: Mapping[str, Any]) -> str:
        """What its users ought to know of what was learned, by the facts of its pin; "" for most."""
        del facts
        return ""

    def fit_in(self, store: Any, rows: pa.Table) -> tuple[bytes, dict[str, Any]]:
        """The same with a store, where what was dear to get is kept, for those that ask somebody else."""
        del store
        return self.fit(rows)


def _unhashed(settings: Settings) -> set[str]:
    """Settings of every stage that shape no value."""
    return set(stages.Stage.UNHASHED) if isinstance(settings, stages.Stage | stages.Extract) else set()
