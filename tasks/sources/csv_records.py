"""The records of CSV: bytes into rows of fields, of files that anyone may have written.

A record ends with its line, unless a quoted field is open there. Which quotes open one is found here, in bytes and with
a bound, so that of a record that grows above its limit nothing is held; what its fields are says Python's `csv`, in its
strict form. Where quoting is wrong the first line of a record is at fault alone, and what is behind is read again: a
quote that is never closed costs its line, not its file. No byte is read more than a few times for that: of two records
that are open at the end of a line one goes on as the other, so that what is known of the first holds for both.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

_PIECE = 2**20
"""Bytes of a line that are read at once."""
_LONGEST = 2**31 - 1
"""Characters of a field, above those that `longest` may let in."""


@dataclass(frozen=True)
class Dialect:
    """How fields are told apart: one character between them, and one around those that hold it or line ends, "" where
    quotes are characters as any other."""

    delimiter: str
    quote: str

    @property
    def blank(self) -> bytes:
        """What a line may hold and be blank."""
        return b" \r\n".replace(self.delimiter.encode(), b"")


@dataclass(frozen=True)
class Row:
    """A record: where it begins, in bytes and in lines, from 1 on; its bytes without the line end, and its fields, or
    why it has none: `not_csv`, `unclosed_quote` or `too_large`."""

    offset: int
    length: int
    line: int
    data: bytes = b""
    fields: list[str] | None = None
    reason: str = ""


def rows(
    opened: Callable[[int], AbstractContextManager[io.BufferedReader]],
    dialect: Dialect,
    longest: int,
    start: int = 0,
    line: int = 1,
) -> Iterator[Row]:
    """The records of a file in UTF-8, without blank lines, from a byte on that begins a line. `opened` gives its bytes
    from a place on; of a record above `longest` bytes no field is made."""
    csv.field_size_limit(_LONGEST)  # of the whole process; what there is of a record is bounded here
    with opened(start) as stream:
        behind = yield from _rows(_Ahead(stream), dialect, longest, start, line, unclosed=False)
    if behind:
        start, line = behind
        with opened(start) as stream:
            yield from _rows(_Ahead(stream), dialect, longest, start, line, unclosed=True)


def _rows(
    ahead: _Ahead, dialect: Dialect, longest: int, offset: int, line: int, unclosed: bool
) -> Generator[Row, None, tuple[int, int] | None]:
    """The records that come next. Where a line opens a quoted field that nothing closes, and what is behind it was read
    and is too much to be held, its end is returned: the byte and the line from which the rest is to be read again,
    `unclosed`, which does not happen there again."""
    while True:
        blank = ahead.pass_blank(dialect.blank)
        offset, line = offset + len(blank), line + blank.count(b"\n")
        found = _next(ahead, dialect, longest, unclosed)
        if not found:
            return None
        if found.open:
            yield Row(offset, found.first, line, reason="unclosed_quote")
            offset, line, unclosed = offset + found.first, line + 1, True
            if found.data is None and found.size > found.first:
                return offset, line
            ahead.give_back((found.data or b"")[found.first :])
            continue
        row, rest = _row(found, offset, line, dialect), b""
        if row.reason == "not_csv" and found.size > found.first:
            rest = yield from _apart(found.data or b"", offset, line, dialect)
            ahead.give_back(rest)
        elif row.reason or row.fields is not None:
            yield row
        offset, line = offset + found.size - len(rest), line + found.lines - rest.endswith(b"\n")


def _apart(data: bytes, offset: int, line: int, dialect: Dialect) -> Generator[Row, None, bytes]:
    """The rows of a record that is none, each line read as if one began there; returns the last line, where a record
    may begin that goes on behind.

    A line that leaves a quoted field open goes on as the record does whose line it is, and so fails where that does: it
    is not read again before it is there.
    """
    stored = io.BytesIO(data).readlines()
    place = fault = 0
    while place < len(stored):
        opens = _opens(stored[place], dialect, False, True)[0]
        if opens and place == len(stored) - 1:
            return stored[place]
        fields, last = None, place
        if not opens or place >= fault:
            fields, last = _fields_of(stored, place, dialect)
        if fields is None:
            fault, last = max(fault, last), place
        lines = stored[place : last + 1]
        whole = b"".join(lines)
        row = Row(offset, len(whole), line, whole.rstrip(b"\r\n"), fields, "not_csv" if fields is None else "")
        if row.reason or row.data.strip(dialect.blank):
            yield row
        offset, line, place = offset + len(whole), line + len(lines), last + 1
    return b""


class _Ahead:
    """The lines of a stream, of which some may be given back."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self._stream, self._back = stream, io.BytesIO()

    def readline(self, size: int) -> bytes:
        return self._back.readline(size) or self._stream.readline(size)

    def pass_blank(self, blank: bytes) -> bytes:
        """Blank lines that come next, all at once that are buffered."""
        if self._back.tell() < len(self._back.getbuffer()):
            return b""
        ahead = self._stream.peek()
        return self._stream.read(ahead.rfind(b"\n", 0, len(ahead) - len(ahead.lstrip(blank))) + 1)

    def give_back(self, data: bytes) -> None:
        if data:
            self._back = io.BytesIO(data + self._back.read())


@dataclass(frozen=True)
class _Found:
    """A record: its bytes and lines, how long its first line is, whether a quoted field is open at the end of the file;
    what it is, where that is no more than was asked for."""

    size: int
    lines: int
    first: int
    open: bool
    data: bytes | None


def _next(ahead: _Ahead, dialect: Dialect, longest: int, unclosed: bool) -> _Found | None:
    """The next record; None at the end. Where a field is `unclosed` to the end of the file, all that is open behind a
    line is."""
    pieces: list[bytes] = []
    size = lines = first = 0
    open_, fresh = False, True
    while piece := ahead.readline(_PIECE):
        size += len(piece)
        if size <= longest:
            pieces.append(piece)
        else:
            pieces.clear()
        ended = piece.endswith(b"\n")
        lines += ended
        first += len(piece) if not lines or (ended and lines == 1) else 0
        open_, fresh = _opens(piece, dialect, open_, fresh)
        if ended and (unclosed or not open_):
            break
    if not size:
        return None
    return _Found(size, max(1, lines), first, open_, b"".join(pieces) if size <= longest else None)


def _opens(piece: bytes, dialect: Dialect, open_: bool, fresh: bool) -> tuple[bool, bool]:
    """Whether a quoted field is open behind a piece of a record, and whether a quote that follows would open one, as
    at the beginning of a field; or open it again, behind the quote that closed it. The same of what is before it."""
    delimiter, quote = dialect.delimiter.encode(), dialect.quote.encode()
    if not quote or (not open_ and quote not in piece):
        return False, piece.endswith(delimiter)
    place = 0
    while True:
        if open_:
            place = piece.find(quote, place) + len(quote)
            if place < len(quote):
                return True, False
            open_, fresh = False, True
        if not (fresh and piece.startswith(quote, place)):
            found = piece.find(delimiter + quote, place)
            if found < 0:
                return False, piece.endswith(delimiter) or (fresh and place == len(piece))
            place = found + len(delimiter)
        place += len(quote)
        open_ = True


def _row(found: _Found, offset: int, line: int, dialect: Dialect) -> Row:
    reason, fields = "too_large" if found.data is None else "", None
    data = (found.data or b"").rstrip(b"\r\n")
    if not reason and data.strip(dialect.blank):
        try:
            fields = _fields(data.decode(), dialect)
        except (UnicodeDecodeError, csv.Error):
            reason = "not_csv"
    return Row(offset, found.size, line, data, fields, reason)


def _fields(text: str, dialect: Dialect) -> list[str]:
    """Raises csv.Error for what stands behind a quoted field, and for a line end within another one."""
    return next(_reader([text], dialect), [])


def _fields_of(lines: Sequence[bytes], first: int, dialect: Dialect) -> tuple[list[str] | None, int]:
    """The fields of the record that begins with a line, and its last line; None and the line that is wrong."""
    place = first

    def texts() -> Iterator[str]:
        nonlocal place
        for place in range(first, len(lines)):
            yield lines[place].decode()

    try:
        return next(_reader(texts(), dialect), []), place
    except (UnicodeDecodeError, csv.Error):
        return None, place


def _reader(lines: Iterable[str], dialect: Dialect) -> Iterator[list[str]]:
    if dialect.quote:
        return csv.reader(lines, delimiter=dialect.delimiter, quotechar=dialect.quote, strict=True)
    return csv.reader(lines, delimiter=dialect.delimiter, quoting=csv.QUOTE_NONE, quotechar=None, strict=True)
