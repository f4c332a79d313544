"""Admission: which records of a source are worked on, by what is known of them before their text is extracted.

Asked twice, for many records at once: when a record's place, address and headers are known, and when its body is
decoded. A record that an expression of the source's `refuse` is true of is counted out for that reason; others go on.
Records stay in source order, and what waits is bounded in number and in bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import pyarrow as pa

from data_specs.expressions import normalised, parse
from data_specs.filters import Language
from data_specs.sources import SourceSettings, UrlList
from tasks.engine.hosts import split
from tasks.engine.reading import RAW_LANGUAGE, RECORD, Part, Read
from tasks.engine.stage import installed
from tasks.extraction.raw_text import declared_language, raw_text
from tasks.sources.files import absolute
from tasks.sources.records import Found, Records
from tasks.sources.url_lists import Listed, list_digest, same
from tasks.text.fasttext_model import LIBRARY, load
from tasks.text.identification import identified, model_file

VERSION = 2  # an address without a scheme may have a port
"""Raised when other records would be refused, with the reason beside it."""
CHARACTERS = 1000
"""Characters of a raw text whose language is identified."""
PLACE = pa.schema(
    [
        ("url", pa.string()),
        ("host", pa.string()),  # of the address, lower case
        ("file", pa.string()),
        ("offset", pa.int64()),
        ("length", pa.int64()),
    ]
)
"""Columns of a record beside RECORD; all but `host` are as its document has them."""
_OF_BODY = frozenset({"payload", "declared_language", "raw_length", *RAW_LANGUAGE})
"""Columns that are known once a body is decoded."""
_RECORDS = 256
"""Records that wait, at most."""
_BYTES = 2**24
"""Bytes of their payloads, or characters of their texts, at most, but for one."""


class Admission:
    """What a source refuses."""

    def __init__(self, settings: SourceSettings, lists: Mapping[str, UrlList], own: pa.Schema) -> None:
        """Raises SourceError where a list cannot be read."""
        refuse, self.repeated = settings.refuse, settings.refuse_same_payload
        self._types = {field.name: field.type for field in (*PLACE, *RECORD, *own)}
        self._own = own.names
        self._refuse = dict(refuse)
        needs = {reason: parse(text).columns for reason, text in refuse.items()}
        self.needs = frozenset[str]().union(*needs.values())
        self.late = {reason: text for reason, text in refuse.items() if needs[reason] & _OF_BODY}
        """What is asked once the body is decoded."""
        self.early = {reason: text for reason, text in refuse.items() if reason not in self.late}
        """What is asked before."""
        self._settings = {
            name: each.model_copy(update={each.kind: absolute(each.path)})  # workers have another working directory
            for name, each in lists.items()
            if name in self.needs
        }
        self._digests = {name: list_digest(name, each) for name, each in self._settings.items()}
        self._file = model_file(Language()) if self.identifies else None
        """The model of languages, where it is asked for: path and sha256."""

    def __bool__(self) -> bool:
        return bool(self._refuse or self.repeated)

    @property
    def identifies(self) -> bool:
        """Whether the language of raw texts is asked for, which documents then have as RAW_LANGUAGE."""
        return not self.needs.isdisjoint(RAW_LANGUAGE)

    def hashed_settings(self) -> dict[str, Any]:
        """What decides: reasons in order with their expressions, and what the lists hold."""
        libraries = ["duckdb", *([LIBRARY] if self._file else [])]
        return {
            "version": VERSION,
            "refuse": [[reason, normalised(text)] for reason, text in self._refuse.items()],
            "lists": {name: [each.kind, self._digests[name]] for name, each in self._settings.items()},
            "languages": self._file and self._file[1],
            "same_payload": self.repeated,
            "libraries": {library: installed(library) for library in libraries},
        }

    def by_address(self, records: Sequence[Found]) -> list[str | None]:
        """For each record why it is refused, by what is known without its body; None where it is not."""
        return self._reasons(self.early, records)

    def by_text(self, records: Sequence[Found]) -> list[str | None]:
        """For each record with a text why it is refused; None where it is not."""
        if self.identifies:
            found = identified(self._model, [record.raw for record in records])
            for record, (language, score) in zip(records, found, strict=True):
                record.columns |= dict(zip(RAW_LANGUAGE, (language, score), strict=True))
        return self._reasons(self.late, records)

    def facts(self, record: Found) -> dict[str, Any]:
        """The source's own columns of a record, which a refused one keeps."""
        return {name: record.columns[name] for name in self._own if name in record.columns}

    def _reasons(self, refuse: Mapping[str, str], records: Sequence[Found]) -> list[str | None]:
        if not refuse or not records:
            return [None] * len(records)
        from tasks.engine.sql import first_true

        names = frozenset({"file"}).union(*(parse(text).columns for text in refuse.values()))
        table = pa.table({name: self._column(name, records) for name in sorted(names)})
        reasons: list[str | None] = first_true(refuse, table).to_pylist()
        return reasons

    def _column(self, name: str, records: Sequence[Found]) -> pa.Array:
        if name in self._lists:
            return pa.array(self._lists[name].matches([record.url for record in records]), pa.bool_())
        return pa.array([self._value(name, record) for record in records], self._types[name])

    def _value(self, name: str, record: Found) -> Any:
        match name:
            case "url":
                return record.url and record.url.encode(errors="ignore").decode()
            case "host":
                return (split(record.url)[0].encode(errors="ignore").decode() or None) if record.url else None
            case "file":
                return record.part.key
            case "offset":
                return record.offset
            case "length":
                return record.length
        return record.columns.get(name)

    @cached_property
    def _lists(self) -> dict[str, Listed]:
        return {name: same(name, each, self._digests[name]) for name, each in self._settings.items()}

    @cached_property
    def _model(self) -> Any:
        assert self._file is not None  # where it is asked for, it was found
        return load(*self._file)


@dataclass
class _Asked:
    """A record that waits, and what is to be done with it if it is admitted."""

    found: Found
    then: Callable[[], None]


class Admitted(Records):
    """The records of one shard of a source that refuses some."""

    def __init__(self, source: str, schema: pa.Schema, admission: Admission, earlier: pa.Table | None = None) -> None:
        super().__init__(source, schema, earlier)
        self._admission = admission
        self._held: list[_Asked | Callable[[], None]] | None = []
        """Records that wait, and what was counted out behind them; None while they go on."""
        self._first: dict[bytes, tuple[Part, int, int]] = {}
        """Places of admitted records by the digest of their payload, where those of the same payload are refused."""
        self._opening = False
        self._waiting = 0
        """Bytes of what waits."""
        self._admitted: Found | None = None
        """The record that is made a document."""

    def drop(self, *args: Any, **more: Any) -> None:
        self._hold(partial(super().drop, *args, **more))

    def quarantine(self, *args: Any, **more: Any) -> None:
        self._hold(partial(super().quarantine, *args, **more))

    def take_back(self, *args: Any) -> None:
        self._hold(partial(super().take_back, *args))

    def take_back_at(self, *args: Any) -> None:
        self._hold(partial(super().take_back_at, *args))

    def by_address(self, found: Found, then: Callable[[], None]) -> None:
        self._hold(_Asked(found, then), len(found.payload))

    def by_text(
        self, found: Found, text: str, then: Callable[[], None], html: bool = False, header: str | None = None
    ) -> None:
        found.columns["raw_length"] = len(text)
        if "payload" in self._admission.needs:
            found.columns["payload"] = hashlib.sha256(found.payload).hexdigest()
        if html:
            found.columns["declared_language"] = declared_language(text, header)
        if self._admission.identifies:
            found.raw = (raw_text(text, CHARACTERS) if html else text.lstrip()[:CHARACTERS])[:CHARACTERS].lower()
        self._hold(_Asked(found, then), len(text))

    def keep(self, *args: Any, **more: Any) -> None:
        assert self._admitted is not None  # none becomes a document that was not asked about
        raw = {name: self._admitted.columns[name] for name in RAW_LANGUAGE if self._admission.identifies}
        super().keep(*args, **more | {"own": {**more.get("own", {}), **raw}})

    def read(self) -> Read:
        self._open()
        return super().read()

    def _hold(self, what: _Asked | Callable[[], None], size: int = 0) -> None:
        if self._held is None:
            assert not isinstance(what, _Asked)  # a record that went on is not asked about again
            return what()
        self._held.append(what)
        self._waiting += size
        if not self._opening and (len(self._held) >= _RECORDS or self._waiting >= _BYTES):
            self._open()

    def _open(self) -> None:
        """Decode the records that wait, but for those whose address is refused, and go on with them."""
        held, self._held, self._waiting, self._opening = self._held or [], [], 0, True
        reasons = iter(self._admission.by_address([each.found for each in held if isinstance(each, _Asked)]))
        for each in held:
            if not isinstance(each, _Asked):
                self._held.append(each)
            elif reason := next(reasons):
                self._held.append(partial(self._refuse, reason, each.found))
            else:
                each.then()
            if self._waiting >= _BYTES:
                self._go_on()
        self._go_on()
        self._opening = False

    def _go_on(self) -> None:
        """Extract the records whose bodies are decoded, but for those that are refused."""
        held, self._held, self._waiting = self._held or [], None, 0
        reasons = iter(self._admission.by_text([each.found for each in held if isinstance(each, _Asked)]))
        for each in held:
            if not isinstance(each, _Asked):
                each()
            elif reason := next(reasons):
                self._refuse(reason, each.found)
            elif first := self._before(each.found):
                self._refuse("same_payload", each.found, {"first": self._id(*first).hex(), "offset": first[1]})
            else:
                self._admitted = each.found
                each.then()
        self._held, self._admitted = [], None

    def _before(self, found: Found) -> tuple[Part, int, int] | None:
        """The place of the admitted record before this one that has its payload, where that counts."""
        if not self._admission.repeated:
            return None
        first = self._first.setdefault(hashlib.blake2b(found.payload, digest_size=16).digest(), found.place)
        return first if first != found.place else None

    def _refuse(self, reason: str, found: Found, more: Mapping[str, Any] | None = None) -> None:
        measures = self._admission.facts(found) | dict(more or {})
        super().drop(reason, found.part, found.offset, found.length, found.url, measures, found.columns)
