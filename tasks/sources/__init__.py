"""Sources: where records become documents, or are counted out with a reason.

One reader per source lists its shards and reads them: `warc`, `arc` and `cdx` (pages, with their extraction), `wet`,
`jsonl`, `csv`, `parquet`, `arrow`, `mediawiki`, `stackexchange`, `books`, `arxiv`, `pdf`, `repository`, and folders of
`html`, `text` and `code`. Every record is accounted for, and a document's id does not depend on how files are cut into
shards.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module

import pyarrow as pa

from data_specs.expressions import parse
from data_specs.extract import Extract
from data_specs.load import SpecError
from data_specs.sources import (
    ArcSource,
    ArrowSource,
    ArxivSource,
    BookSource,
    CdxSource,
    CsvSource,
    FolderSource,
    HtmlSource,
    JsonlSource,
    MediawikiSource,
    ParquetSource,
    PdfSource,
    RepositorySource,
    RowSource,
    SourceSettings,
    StackExchangeSource,
    UrlList,
    WarcSource,
    WetSource,
)
from data_specs.spec import Spec
from tasks.arrays.addresses import ADDRESS
from tasks.engine.reading import RAW_LANGUAGE, RECORD, InputShard, LedgerError, Part, Read, SourceError
from tasks.engine.stage import DOCUMENTS
from tasks.sources.admission import PLACE
from tasks.sources.base import TYPES, Reader

__all__ = [
    "InputShard",
    "LedgerError",
    "Part",
    "Read",
    "Reader",
    "SourceError",
    "own_columns",
    "reader",
    "record_columns",
]


_READERS: dict[type[SourceSettings], tuple[str, str]] = {
    WarcSource: ("warc", "WarcReader"),
    ArcSource: ("warc", "ArcReader"),
    CdxSource: ("cdx", "CdxReader"),
    WetSource: ("wet", "WetReader"),
    JsonlSource: ("jsonl", "JsonlReader"),
    CsvSource: ("csv", "CsvReader"),
    ParquetSource: ("parquet", "ParquetReader"),
    ArrowSource: ("arrow", "ArrowReader"),
    HtmlSource: ("html", "HtmlReader"),
    BookSource: ("books", "BookReader"),
    ArxivSource: ("arxiv", "ArxivReader"),
    PdfSource: ("pdf", "PdfReader"),
    MediawikiSource: ("mediawiki", "MediawikiReader"),
    StackExchangeSource: ("stackexchange", "StackExchangeReader"),
    FolderSource: ("folder", "FolderReader"),
    RepositorySource: ("repository", "RepositoryReader"),
}
"""Kind of source -> module of this package, and the reader there. Imported where a spec has such a source: all of them
take 80 ms."""


@cache
def _kind(settings: type[SourceSettings]) -> type[Reader]:
    """The reader of a kind of source. Raises KeyError for an unknown one."""
    module, name = _READERS[settings]
    found: type[Reader] = getattr(import_module(f"{__name__}.{module}"), name)
    return found


def reader(
    source: str, settings: SourceSettings, extract: Extract, lists: Mapping[str, UrlList] | None = None
) -> Reader:
    """The reader of a source. Raises SourceError for settings of an unknown kind."""
    if type(settings) in _READERS:
        return _kind(type(settings))(source, settings, extract, lists)
    raise SourceError(f"source {source}: no reader for {type(settings).__name__}")


def record_columns(settings: SourceSettings, lists: Mapping[str, UrlList]) -> pa.Schema:
    """What the expressions of a source's `refuse` may read: columns of its records, and lists."""
    known = [field for field in (*PLACE, *RECORD) if field.name in _kind(type(settings)).knows]
    own = [(name, TYPES[kind]) for name, kind in getattr(settings, "columns", {}).items()]
    return pa.schema([*known, *own, *((name, pa.bool_()) for name in lists)])


def otherwise(source: str, name: str, settings: SourceSettings) -> str:
    """What to do about a column of a source that is called as another one of its documents."""
    if not isinstance(settings, RowSource):
        return "; call the stage otherwise"
    if name in ("text", "url"):
        return f"; `{name}` of the source says what it is read from"
    other = f"{source.replace('-', '_')}_{name}"
    kind, key = settings.columns[name], settings.keys.get(name, name)
    return f"; call it otherwise, `columns: {{{other}: {kind}}}, keys: {{{other}: {key}}}`"


def own_columns(spec: Spec) -> pa.Schema:
    """The columns that sources of a spec have of their own, and those of the language of raw texts where one asks for
    it. Raises SpecError for one of two types, or of the name of one that every document has."""
    found: dict[str, tuple[str, str]] = {}
    for source, settings in spec.sources.items():
        for name, kind in getattr(settings, "columns", {}).items():
            first, before = found.setdefault(name, (source, kind))
            if name in (*DOCUMENTS.names, *(field.name for field in ADDRESS)):
                message = "every document has a column of this name"
                raise SpecError([f"sources.{source}.columns.{name}: {message}{otherwise(source, name, settings)}"])
            if before != kind:
                raise SpecError([f"sources.{source}.columns.{name} is {kind}, but {before} in sources.{first}"])
    refused = [text for settings in spec.sources.values() for text in settings.refuse.values()]
    asked = any(not parse(text).columns.isdisjoint(RAW_LANGUAGE) for text in refused)
    raw = map(RECORD.field, RAW_LANGUAGE if asked else ())
    return pa.schema([*((name, TYPES[kind]) for name, (_, kind) in found.items()), *raw])
