"""A crawl's index: which pages it has, and at which bytes of which WARC file, in the two forms that Common Crawl gives.

CDXJ has a line a capture (`key timestamp {json}`), plain or compressed; the columnar index is Parquet. Of both the same
columns are known (`COLUMNS`); captures for which an expression over them is true are a selection, sorted by file and
place, which a source of the kind `cdx` reads. So what is wanted is found, counted and looked at before a byte of it is
transferred.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import IO, Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.engine.hosts import split
from tasks.engine.reading import SourceError
from tasks.engine.sql import evaluate
from tasks.sources.compression import DamageError, Packing, Unpacked, named
from tasks.sources.files import steady
from tasks.sources.text import day

COLUMNS = pa.schema(
    [
        ("url", pa.string()),
        ("host", pa.string()),  # lower case
        ("crawled", pa.string()),  # ISO 8601 day
        ("status", pa.int64()),  # null of a revisit in CDXJ
        ("mime", pa.string()),  # as the server says; warc/revisit of a revisit
        ("mime_detected", pa.string()),
        ("languages", pa.string()),  # ISO 639-3, the likeliest first, a comma between
        ("digest", pa.string()),  # of the payload, as the crawl writes it
        ("filename", pa.string()),  # of the WARC file
        ("offset", pa.int64()),
        ("length", pa.int64()),  # bytes of the record as stored
    ]
)
"""What is known of a capture; null where the index does not say."""
_CDXJ = {
    **{name: name for name in ("url", "status", "mime", "languages", "digest", "filename", "offset", "length")},
    "mime_detected": "mime-detected",
}
_PARQUET = {
    "url": "url",
    "host": "url_host_name",
    "crawled": "fetch_time",
    "status": "fetch_status",
    "mime": "content_mime_type",
    "mime_detected": "content_mime_detected",
    "languages": "content_languages",
    "digest": "content_digest",
    "filename": "warc_filename",
    "offset": "warc_record_offset",
    "length": "warc_record_length",
}
LONGEST_RECORD = 2**32
"""Bytes of a record as stored, at most: WARC files are of about 1 GiB."""
_BATCH = 2**14
_LONGEST = 2**20
"""Bytes of a line, at most."""


@dataclass
class Selection:
    """Captures of a crawl, and how many there were."""

    table: pa.Table = field(default_factory=COLUMNS.empty_table)
    """Sorted by file and place, each record once."""
    captures: int = 0
    """Lines or rows of the index: also those that are unreadable, or name a record once more."""
    unreadable: int = 0
    """Lines that are none, and captures that do not say where they lie."""
    revisits: int = 0
    """Selected captures that say what another one holds."""

    def as_json(self) -> dict[str, Any]:
        """Numbers, as JSON."""
        table = self.table
        return {
            "captures": self.captures,
            "unreadable": self.unreadable,
            "selected": len(table),
            "revisits": self.revisits,
            "files": pc.count_distinct(table["filename"]).as_py(),
            "bytes": pc.sum(table["length"]).as_py() or 0,
            "hosts": dict(Counter(table["host"].to_pylist()).most_common(10)),
        }


def select(paths: Iterable[str], where: str) -> Selection:
    """The captures of index files for which an expression over COLUMNS is true. Memory is that of what is selected,
    some 300 bytes a capture. Raises ExpressionError for another expression, SourceError for a file that is no index."""
    found, parts = Selection(), list[pa.Table]()
    for path in paths:
        for batch, unreadable in _batches(path):
            found.captures += len(batch) + unreadable
            placed = pc.and_(
                pc.and_(pc.is_valid(batch["filename"]), pc.greater_equal(batch["offset"], 0)),
                pc.and_(pc.greater(batch["length"], 0), pc.less_equal(batch["length"], LONGEST_RECORD)),
            )
            sound = batch.filter(pc.fill_null(placed, False))
            found.unreadable += unreadable + len(batch) - len(sound)
            if len(sound):
                parts.append(sound.filter(pc.fill_null(evaluate({"where": where}, sound)["where"], False)))
    if parts:
        order = {"filename": "ascending", "offset": "ascending", "length": "descending"}
        table = pa.concat_tables(parts).sort_by([*order.items()])
        found.table = _once(table.combine_chunks())
    found.revisits = pc.sum(pc.equal(found.table["mime"], "warc/revisit")).as_py() or 0
    return found


def write(selection: Selection, path: str) -> None:
    """Write a selection for a source of the kind `cdx`."""
    pq.write_table(selection.table, path, compression="zstd", row_group_size=2**16)


def _once(table: pa.Table) -> pa.Table:
    """A sorted table without rows of the same place as the one before: of two lengths the greater holds it whole."""
    if len(table) < 2:
        return table
    same = [pc.equal(table[name].slice(1), table[name].slice(0, len(table) - 1)) for name in ("filename", "offset")]
    first = pa.chunked_array([[True], *pc.invert(pc.and_(*same)).chunks])
    return table.filter(first)


def _batches(path: str) -> Iterator[tuple[pa.Table, int]]:
    """Captures of an index file, some at a time, and how many lines beside them are none."""
    with steady(path) as file:
        try:
            if file.read(4) == b"PAR1":
                yield from _columnar(path, file)
            else:
                file.seek(0)
                yield from _lines(path, file)
        except (DamageError, EOFError, pa.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise SourceError(f"{path} is damaged, or no index of a crawl: {error}; fetch it again") from None


def _columnar(path: str, file: IO[bytes]) -> Iterator[tuple[pa.Table, int]]:
    index = pq.ParquetFile(file, page_checksum_verification=True)
    names = index.schema_arrow.names
    if missing := [_PARQUET[name] for name in ("url", "filename", "offset", "length") if _PARQUET[name] not in names]:
        raise SourceError(f"{path} is no columnar index of a crawl: it has no column {missing[0]}")
    there = {name: column for name, column in _PARQUET.items() if column in names}
    for batch in index.iter_batches(_BATCH, columns=[*there.values()], use_threads=False):
        given = {name: batch.column(column) for name, column in there.items()}
        if "crawled" in given and pa.types.is_timestamp(given["crawled"].type):
            given["crawled"] = pc.strftime(given["crawled"], "%Y-%m-%d")
        if "host" not in given:
            given["host"] = pa.array([_host(url) for url in given["url"].to_pylist()], pa.string())
        columns = [
            given[each.name].cast(each.type) if each.name in given else pa.nulls(len(batch), each.type)
            for each in COLUMNS
        ]
        yield pa.table(columns, schema=COLUMNS), 0


def _lines(path: str, file: IO[bytes]) -> Iterator[tuple[pa.Table, int]]:
    kind = named(path)
    raw: Any = Unpacked(file, Packing(kind)) if kind else file
    rows, unreadable, known = list[dict[str, Any]](), 0, False
    stream = io.BufferedReader(raw, 2**18)
    while line := stream.readline(_LONGEST):
        row = _capture(line)
        known = known or row is not None
        if row is not None:
            rows.append(row)
        elif not line.isspace() and not line.startswith(b"!"):
            unreadable += 1
        if len(rows) == _BATCH or unreadable == _BATCH:
            if not known:
                raise SourceError(f"{path} is no index of a crawl: its lines are not `key timestamp {{json}}`")
            yield pa.Table.from_pylist(rows, COLUMNS), unreadable
            rows, unreadable = [], 0
    if unreadable and not known:
        raise SourceError(f"{path} is no index of a crawl: its lines are not `key timestamp {{json}}`")
    yield pa.Table.from_pylist(rows, COLUMNS), unreadable


def _capture(line: bytes) -> dict[str, Any] | None:
    """The capture of a line; None where it is none."""
    head, brace, rest = line.partition(b" {")
    stamp = head.rpartition(b" ")[2].decode("ascii", "replace")
    if not brace or not stamp[:14].isdigit():
        return None
    try:
        facts = orjson.loads(b"{" + rest)
    except orjson.JSONDecodeError:
        return None
    row = {name: _text(facts.get(key)) for name, key in _CDXJ.items()}
    numbers = {name: _number(row[name]) for name in ("status", "offset", "length")}
    return {**row, **numbers, "host": _host(row["url"]), "crawled": day(f"{stamp[:4]}-{stamp[4:6]}-{stamp[6:8]}")}


def _text(value: Any) -> str | None:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch("[0-9]{1,18}", text) else None


def _host(url: str | None) -> str | None:
    return split(url)[0] or None if url else None
