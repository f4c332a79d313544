"""Where documents come from: one settings class per kind of source."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from data_specs.base import Bytes, Count, Encoding, Expression, Name, Settings, TemplateText
from data_specs.expressions import suggestion

ColumnType = Literal["string", "int", "float", "bool"]


class UrlList(Settings):
    """A file of domains, of addresses, or of words in addresses, one a line, plain or .gz; lines that begin with # are
    comments. Its name is a column of records, true where their address is listed. Relative to the working directory, or
    a URL; every node reads it."""

    domains: str | None = None
    """Host names: each stands for itself and all below it, `example.org` for `www.example.org`."""
    urls: str | None = None
    """Addresses, compared without scheme, user, port, fragment and a slash at the end."""
    words: str | None = None
    """Words, or several in a row, as they stand between other characters than letters and digits of an address:
    `casino` is in `/best-casino/`, and not in `/casinos/`."""

    @model_validator(mode="after")
    def _one(self) -> UrlList:
        if len(self.model_fields_set) != 1 or not self.path:
            raise ValueError("a list has the path of one file, as `domains`, `urls` or `words`")
        return self

    @property
    def kind(self) -> str:
        """What it lists."""
        return next(iter(self.model_fields_set))

    @property
    def path(self) -> str:
        """The file."""
        return str(getattr(self, self.kind) or "")


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
    """Read only files in whose path below the fixed part of `paths` this regular expression is found: `^2024/.*-en`."""
    refuse: dict[Name, Expression] = {}
    """Reason -> expression over a record's columns (docs/columns.md) and `lists`: where it is true, no document is made
    of the record. What the address decides is asked before the body is decoded, the rest before its text is
    extracted; of several the first is the reason."""
    refuse_same_payload: bool = False
    """Refuse, as `same_payload`, what is byte for byte the payload of an admitted record before it in its shard. Copies
    in other shards become documents, and are dropped as duplicates."""

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
    every record that may hold a page is accounted for. Those in the older ARC format are of the kind `arc`."""

    kind: Literal["warc"]
    shard: Annotated[Bytes, Field(ge=1)] = 64 * 2**20
    """Compressed bytes of one WARC that make one shard. A file that is not compressed, or was compressed as a whole, is
    one shard whatever its size: of one above some 300 MB, `warcio recompress` makes one that can be split."""
    payload: Bytes = 16 * 2**20
    """Largest decoded HTTP body in bytes; a larger one is dropped as too large, whatever its compression promised."""
    revisits: bool = False
    """Count revisits, which say that an address gave once more what another record of the crawl holds: each is dropped
    as `revisit`, so that `select url from refused` tells all that was visited. By default they are passed over, as
    requests and metadata are."""
    listing: str | None = None
    """A `warc.paths.gz` whose lines, appended to `paths` as their base URL, name the files (Common Crawl)."""


class ArcSource(SourceSettings):
    """ARC files, the format before WARC, gzip per record or plain; pages as of `warc`."""

    kind: Literal["arc"]
    shard: Annotated[Bytes, Field(ge=1)] = 64 * 2**20
    """Compressed bytes of one file that make one shard. One that is not compressed is one shard whatever its size."""
    payload: Bytes = 16 * 2**20
    """Largest decoded HTTP body in bytes; a larger one is dropped as too large, whatever its compression promised."""


class CdxSource(CompressedSource):
    """Pages of a crawl that its index named: of each WARC file the records of a selection, which `sluice find` makes of
    Common Crawl's index (CDXJ or Parquet), are transferred alone. `paths` are selections; every node reads them."""

    kind: Literal["cdx"]
    base: str
    """The folder or URL to which the names of WARC files are appended: `https://data.commoncrawl.org/`."""
    shard: Annotated[Bytes, Field(ge=1)] = 64 * 2**20
    """Bytes of records that make one shard, about."""
    gap: Bytes = 64 * 2**10
    """Records of a file with at most so many bytes between them are had with one request."""
    payload: Bytes = 16 * 2**20
    """Largest decoded HTTP body in bytes; a larger one is dropped as too large, whatever its compression promised."""


class WetSource(CompressedSource):
    """WET files: the text that Common Crawl made of pages, `conversion` records of WARC, compressed as those."""

    columns: ClassVar[dict[Name, ColumnType]] = {"languages": "string"}

    kind: Literal["wet"]
    largest: Annotated[Bytes, Field(ge=1, lt=2**31)] = 8 * 2**20
    """Texts above this many bytes are dropped as too large."""
    shard: Annotated[Bytes, Field(ge=1)] = 64 * 2**20
    """Compressed bytes of one file that make one shard, as of `warc`."""
    listing: str | None = None
    """A `wet.paths.gz` whose lines, appended to `paths` as their base URL, name the files (Common Crawl)."""


class RowSource(SourceSettings):
    """What sources have of which a row or a line with named values is a document."""

    text: str = "text"
    """The column, or key, of the text."""
    template: TemplateText = None
    """Instead of `text`: what a text is made of several fields by, in Jinja2's language, such as
    `{% for m in messages %}{{ m.role }}: {{ m.content }}\\n{% endfor %}`; `row` is the record as a whole. A record that
    does not fit has no text."""
    url: str = "url"
    """The column, or key, of the address; null where absent."""
    columns: dict[Name, ColumnType] = {}
    """Columns, or keys, whose values documents keep as columns, and their types: int and float have 64 bits; decimals
    may be floats, and bytes, dates and times of Parquet and Arrow strings. Rules, gates, channels and queries see them;
    they are null for documents of other sources, and where a value is of another type."""
    keys: dict[Name, str] = {}
    """Where the value of a column stands, where it is not at its name: `{score: metadata.language_score}`. Those of the
    text and the address may have dots, too."""

    @model_validator(mode="after")
    def _keys_of_columns(self) -> RowSource:
        for name in self.keys:
            if name not in self.columns:
                raise ValueError(f"keys.{name} is of no column of `columns`{suggestion(name, self.columns)}")
        return self


class ParquetSource(RowSource):
    """Parquet files; one document a row."""

    kind: Literal["parquet"]
    longest: Annotated[Bytes, Field(ge=1)] = 8 * 2**20
    """Rows whose text is longer than this many bytes are dropped as too large: a longer one could cost seconds."""
    shard: Annotated[Bytes, Field(ge=1)] = 64 * 2**20
    """Bytes of a range of a file. A row group is never split: one of above some 300 MB is better written in several."""


class ArrowSource(ParquetSource):
    """Arrow files, as the library `datasets` saves a data set (`save_to_disk`: data-*.arrow); one document a row."""

    kind: Literal["arrow"]  # type: ignore[assignment]
    shard: Annotated[Bytes, Field(ge=1)] = 64 * 2**20
    """Bytes of a group of files. A file is never split."""


class JsonlSource(RowSource, CompressedSource):
    """JSON lines, plain or compressed (.gz, .zst, .bz2, .xz); one document a line."""

    kind: Literal["jsonl"]
    longest: Annotated[Bytes, Field(ge=1, lt=2**31)] = 8 * 2**20
    """Lines longer than this many bytes are dropped as too large: a longer one could cost seconds."""
    shard: Annotated[Bytes, Field(ge=1)] = 64 * 2**20
    """Bytes of a group of files, or of a range of a larger plain file. A compressed file can only be read from its
    beginning and is never split: one above some 300 MB is better cut into many (`split --line-bytes=256M --filter`)."""


class CsvSource(RowSource, CompressedSource):
    """CSV and TSV, plain or compressed (.gz, .zst, .bz2, .xz); one document a row. The first row names the columns."""

    kind: Literal["csv"]
    delimiter: str | None = None
    """What stands between fields, one character; null: what a first line `sep=;` says, a tab in files named .tsv or
    .tab, else a comma."""
    quote: str = '"'
    """What stands around fields that hold the delimiter, line ends, or itself, doubled; "": nothing does, as in many
    TSV files."""
    header: tuple[str, ...] = ()
    """Names of the columns of files whose first row does not name them."""
    encoding: Encoding | None = None
    """Of files without a byte order mark, such as gb18030; null: UTF-8, or UTF-16 by its zeros."""
    longest: Annotated[Bytes, Field(ge=1, lt=2**31)] = 8 * 2**20
    """Rows longer than this many bytes are dropped as too large."""
    shard: Annotated[Bytes, Field(ge=1)] = 64 * 2**20
    """Bytes of a group of files. A file is never split: one above some 300 MB is better cut into many."""

    @model_validator(mode="after")
    def _told_apart(self) -> CsvSource:
        known = [each for each in (self.delimiter, self.quote) if each]
        if any(len(each) != 1 or each in "\r\n\0" for each in known) or self.delimiter == "":
            raise ValueError("delimiter and quote are one character, and no line end")
        if len(known) != len({*known}) or (self.delimiter is None and self.quote in (",", "\t")):
            raise ValueError("delimiter and quote are the same character")
        return self


class MediawikiSource(CompressedSource):
    """Dumps of MediaWiki, as Wikipedia's `pages-articles`: XML, plain or compressed (.bz2, .gz, .zst, .xz); one
    document an article, its text without markup. `docs/sources.md` says what is kept of it."""

    columns: ClassVar[dict[Name, ColumnType]] = {"categories": "string"}

    kind: Literal["mediawiki"]
    namespaces: tuple[int, ...] = (0,)
    """Numbers of the namespaces whose pages are read: 0 are articles, 4 pages about the wiki, 12 help."""
    largest: Annotated[Bytes, Field(ge=1, le=8 * 2**20)] = 4 * 2**20
    """Pages above this many bytes of XML are dropped as too large; MediaWiki itself takes 2 MiB of wikitext."""
    shard: Annotated[Bytes, Field(ge=1)] = 64 * 2**20
    """Bytes of a range of a file. A dump in pieces (`multistream`) or not compressed is cut into ranges; one that was
    compressed as a whole is one shard whatever its size, and is better had in pieces."""


class StackExchangeSource(CompressedSource):
    """`Posts.xml` of Stack Exchange's dumps, plain (as 7z leaves it) or compressed (.gz, .zst, .bz2, .xz); one document
    a question with its answers, the best first."""

    columns: ClassVar[dict[Name, ColumnType]] = {
        "score": "int",
        "answers": "int",
        "best_answer": "int",
        "tags": "string",
        "content_license": "string",
    }

    kind: Literal["stackexchange"]
    base: str | None = None
    """Address of the site, to which `/questions/ID` is appended; null: documents have none."""
    answers: Annotated[Count, Field(ge=0, le=1000)] = 30
    """Answers of a question that are kept, at most: those of the highest score."""
    score: int = 0
    """Answers below this score are left out of their document."""
    longest: Annotated[Bytes, Field(ge=1, le=8 * 2**20)] = 2**20
    """Rows above this many bytes are dropped as too large; a post has 30,000 characters at most."""
    shard: Annotated[Bytes, Field(ge=1)] = 256 * 2**20
    """Bytes of a range of a plain file: the questions in it are a shard. For each the whole file is gone through, to
    find their answers. A compressed file is one shard whatever its size."""


class FolderSource(SourceSettings):
    """Text files; one document a file."""

    kind: Literal["text", "code"]
    groups: Count = 0
    """Shards the files are grouped into by the hash of their path; 0: chosen at first reading, then pinned until the
    files would fill four times as many."""
    largest: Bytes = 2**20
    """Files above this many bytes are dropped as too large."""


class RepositorySource(CompressedSource):
    """Repositories of source code: archives (tar, plain or compressed, zip), git bundles, or folders; one document a
    file that people wrote."""

    columns: ClassVar[dict[Name, ColumnType]] = {
        "repository": "string",
        "path": "string",
        "programming_language": "string",
        "spdx": "string",
    }

    kind: Literal["repository"]
    groups: Count = 0
    """Shards that the files of folders are grouped into by the hash of their path; 0: chosen at first reading, then
    pinned until the files would fill four times as many. An archive is one shard."""
    largest: Annotated[Bytes, Field(ge=1, le=2**27)] = 2**20
    """Files above this many bytes are dropped as too large."""


class BookSource(SourceSettings):
    """Books, EPUB or plain text; one document a file, without what Project Gutenberg puts around a text."""

    columns: ClassVar[dict[Name, ColumnType]] = {"book_language": "string", "subjects": "string"}

    kind: Literal["books"]
    groups: Count = 0
    """Shards the files are grouped into by the hash of their path; 0: chosen at first reading, then pinned until the
    files would fill four times as many."""
    largest: Annotated[Bytes, Field(ge=1, le=2**30)] = 32 * 2**20
    """Files above this many bytes are dropped as too large, and EPUBs that become more."""


class PdfSource(SourceSettings):
    """PDF files with a text layer; one document a file."""

    columns: ClassVar[dict[Name, ColumnType]] = {"pages": "int", "pages_without_text": "int"}

    kind: Literal["pdf"]
    groups: Count = 0
    """Shards the files are grouped into by the hash of their path; 0: chosen at first reading, then pinned until the
    files would fill four times as many."""
    largest: Annotated[Bytes, Field(ge=1, le=2**30)] = 64 * 2**20
    """Files above this many bytes are dropped as too large."""
    pages: Annotated[Count, Field(ge=1)] = 5000
    """Files of more pages are dropped as too large."""
    longest: Annotated[Bytes, Field(ge=1, le=2**27)] = 32 * 2**20
    """Files of more characters are dropped as too large."""
    cpu_seconds: Annotated[float, Field(gt=0)] = 120.0
    """CPU seconds after which the extraction of a file is ended."""
    memory: Bytes = 2**30
    """Bytes one file may cost above the child's baseline."""
    wall_seconds: Annotated[float, Field(gt=0)] = 600.0
    """Wall seconds after which a child is taken for hung."""


class ArxivSource(SourceSettings):
    """arXiv's sources, `arXiv_src_*.tar` or the `.gz` of single papers; one document a paper, its LaTeX."""

    kind: Literal["arxiv"]
    largest: Annotated[Bytes, Field(ge=1, le=2**30)] = 64 * 2**20
    """Papers above this many bytes, as stored, are dropped as too large."""
    unpacked: Annotated[Bytes, Field(ge=1, le=2**30)] = 256 * 2**20
    """Papers that become more bytes, pictures and all, are dropped as too large."""
    longest: Annotated[Bytes, Field(ge=1, le=2**26)] = 8 * 2**20
    """Papers of more bytes of text are dropped as too large."""


class HtmlSource(SourceSettings):
    """HTML files; one document a file, its main text extracted as that of pages in WARC files."""

    kind: Literal["html"]
    base: str | None = None
    """The URL to which a file's path below the fixed part of `paths` is appended, as the document's address; null: none
    has one. Patterns that are widened later change no address; another `base` stands for what they share then."""
    groups: Count = 0
    """Shards the files are grouped into by the hash of their path; 0: chosen at first reading, then pinned until the
    files would fill four times as many."""


Source = Annotated[
    WarcSource
    | ArcSource
    | CdxSource
    | WetSource
    | JsonlSource
    | CsvSource
    | ParquetSource
    | ArrowSource
    | HtmlSource
    | FolderSource
    | RepositorySource
    | MediawikiSource
    | StackExchangeSource
    | BookSource
    | ArxivSource
    | PdfSource,
    Field(discriminator="kind"),
]
