"""Sources: where records become documents, or are counted out with a reason.

One reader per source lists its shards and reads them: `warc` (pages, with their extraction), `jsonl`, `parquet`, and
folders of `html`, `text` and `code`. Every record is accounted for, and a document's id does not depend on how files
are cut into shards.
"""

from __future__ import annotations

from data_specs.sources import FolderSource, HtmlSource, JsonlSource, ParquetSource, SourceSettings, WarcSource
from data_specs.stages import Extract
from tasks.engine.reading import InputShard, LedgerError, Part, Read, SourceError
from tasks.sources.base import Reader
from tasks.sources.folder import FolderReader
from tasks.sources.html import HtmlReader
from tasks.sources.jsonl import JsonlReader
from tasks.sources.parquet import ParquetReader
from tasks.sources.warc import WarcReader

__all__ = ["InputShard", "LedgerError", "Part", "Read", "Reader", "SourceError", "reader"]


def reader(source: str, settings: SourceSettings, extract: Extract) -> Reader:
    """The reader of a source. Raises SourceError for settings of an unknown kind."""
    match settings:
        case WarcSource():
            return WarcReader(source, settings, extract)
        case JsonlSource():
            return JsonlReader(source, settings, extract)
        case ParquetSource():
            return ParquetReader(source, settings, extract)
        case HtmlSource():
            return HtmlReader(source, settings, extract)
        case FolderSource():
            return FolderReader(source, settings, extract)
    raise SourceError(f"source {source}: no reader for {type(settings).__name__}")
