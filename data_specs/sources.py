"""Where documents come from: one settings class per kind of source."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from data_specs.base import Bytes, Count, Name, Settings


class SourceSettings(Settings):
    """What every kind of source has."""

    paths: str | tuple[str, ...]
    """Glob pattern(s), relative to the working directory, or URLs that fsspec reads (s3://, https://). Links to files
    are read; a link to a folder is followed where it is written out, not by a wildcard. One may be added or widened:
    files that were read keep their names, and only others are read."""
    license: str = "unknown"
    """SPDX identifier or a word; kept with the source, never a value of a document."""
    count: Annotated[int, Field(ge=1)] | None = None
    """Read only the first so many files, in sorted order; all by default."""
    match: str | None = None
    """Read only files whose path below the fixed part of `paths` matches this regular expression."""

    @field_validator("paths")
    @classmethod
    def _some(cls, paths: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if not paths or not all(paths):
            raise ValueError("a source needs a path or a pattern")
        return paths

    @property
    def patterns(self) -> tuple[str, ...]:
        return (self.paths,) if isinstance(self.paths, str) else self.paths


class CompressedSource(SourceSettings):
    """What sources have whose files may be compressed."""

    window: Annotated[Bytes, Field(ge=2**20, le=2**31)] = 2**27
    """Bytes that decompressing may look back, so much memory it takes: 2GiB reads what `zstd --long=31` wrote. A file
    (of WARC a record) that asks for more is quarantined as `window`."""


class WarcSource(CompressedSource):
    """WARC files, gzip or zstd per record (.warc.gz, .warc.zst), or plain, or compressed as a whole (also .bz2, .xz);
    every record that may hold a page is accounted for. Those in the older ARC format are not read: `warcio recompress
    OLD.arc.gz NEW.warc.gz` turns them into WARC."""

    kind: Literal["warc"]
    shard: Annotated[Bytes, Field(ge=1)] = 64 * 2**20
    """Compressed bytes of one WARC that make one shard. A file that is not compressed, or was compressed as a whole, is
    one shard whatever its size: of one above some 300 MB, `warcio recompress` makes one that can be split."""
    payload: Bytes = 16 * 2**20
    """Largest decoded HTTP body in bytes; a larger one is dropped as too large, whatever its compression promised."""
    listing: str | None = None
    """A `warc.paths.gz` whose lines, appended to `paths` as their base URL, name the files (Common Crawl)."""


ColumnType = Literal["string", "int", "float", "bool"]


class ParquetSource(SourceSettings):
    """Parquet files; one document a row."""

    kind: Literal["parquet"]
    text: str = "text"
    """The column of the text."""
    url: str = "url"
    """The column of the address; null where absent."""
    columns: dict[Name, ColumnType] = {}
    """Columns that documents keep, and their types: int and float have 64 bits. Rules, gates, channels and queries see
    them; they are null for documents of other sources, and where a value is of another type."""
    shard: Annotated[Bytes, Field(ge=1)] = 64 * 2**20
    """Bytes of a range of a file. A row group is never split: one of above some 300 MB is better written in several."""


class JsonlSource(CompressedSource):
    """JSON lines, plain or compressed (.gz, .zst, .bz2, .xz); one document a line."""

    kind: Literal["jsonl"]
    text: str = "text"
    """The key of the text."""
    url: str = "url"
    """The key of the address; null where absent."""
    columns: dict[Name, ColumnType] = {}
    """Keys whose values documents keep as columns, and their types: int and float have 64 bits. Rules, gates, channels
    and queries see them; they are null for documents of other sources, and where a value is of another type."""
    shard: Annotated[Bytes, Field(ge=1)] = 64 * 2**20
    """Bytes of a group of files, or of a range of a larger plain file. A compressed file can only be read from its
    beginning and is never split: one above some 300 MB is better cut into many (`split --line-bytes=256M --filter`)."""


class FolderSource(SourceSettings):
    """Text files; one document a file."""

    kind: Literal["text", "code"]
    groups: Count = 0
    """Shards the files are grouped into by the hash of their path; 0: chosen at first reading, then pinned until the
    files would fill four times as many."""
    largest: Bytes = 2**20
    """Files above this many bytes are dropped as too large."""


class HtmlSource(SourceSettings):
    """HTML files; one document a file, its main text extracted as that of pages in WARC files."""

    kind: Literal["html"]
    base: str | None = None
    """The URL to which a file's path below the fixed part of `paths` is appended, as the document's address; null: none
    has one."""
    groups: Count = 0
    """Shards the files are grouped into by the hash of their path; 0: chosen at first reading, then pinned until the
    files would fill four times as many."""


Source = Annotated[WarcSource | JsonlSource | ParquetSource | HtmlSource | FolderSource, Field(discriminator="kind")]
