"""HTTP responses as crawls stored them: headers, decoded bodies, and the characters in them.

Everything here is given bytes that anyone may have written, and returns something for all of them: crawlers store
bodies already decoded under headers that say otherwise, servers lie about lengths, codings and character sets, and
records are cut off. What can be decoded is kept; only a body that grows past its limit is refused, and while it grows.
Time is linear in the bytes: patterns give nothing back (possessive quantifiers) where a run can be long.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import brotli
import zstandard

from tasks.extraction.encodings import characters, codec_of, detected, of_utf_16, shifted

HEAD = 64 * 2**10
"""Bytes in which the header has to end."""
_STEP = 64 * 2**10
_SIP = 2**10
"""Bytes inflated at a time. They are few, because those after the end of a member are given once more."""
_TRAILER = 16
"""Bytes behind the end of a bare deflate stream: less than these."""
_CODINGS = 4
"""Content codings on top of each other that are undone; more is an attack."""
_PIECES = 2**20
"""Chunks, or members of gzip or zlib, that a body may be made of; each takes a microsecond or more, whatever it
holds."""
_CHUNK = re.compile(rb"[ \t]*+([0-9a-fA-F]{1,15})[ \t]*+(?:;[^\r\n]*+)?\r?\n")
_CHARSET = re.compile(r"charset\s*+=\s*+[\"']?\s*+([^\s;\"',>]+)", re.IGNORECASE)
_META = re.compile(
    rb"<meta[^>]{0,500}?charset\s*+=\s*+[\"']?\s*+([\w.:-]{2,40})"
    rb"|<\?xml[^>]{0,200}?encoding\s*+=\s*+[\"']([\w.:-]{2,40})",
    re.IGNORECASE,
)
_STATUS = re.compile(rb"HTTP/\d(?:\.\d)?[ \t]++(\d{3})\b[^\n]*+\n")
_BLANK_LINE = re.compile(rb"\r?\n\r?\n")
_INTERIM = (100, 102, 103)
"""Statuses after which the response to the same request follows (RFC 9110, 15.2); 101 ends the HTTP."""
_HTML = re.compile(rb"<(?:!doctype\s+html|html|head|body|title|meta|div|p|h1|table)\b", re.IGNORECASE)
_BINARY = re.compile(rb"%PDF-|\x89PNG|GIF8[79]a|\xff\xd8\xff|PK\x03\x04|\x1f\x8b|RIFF|wOF[F2]|\x7fELF|\x00\x00\x01\x00")
_LISTS = ("content-encoding", "transfer-encoding", "content-type")
_MEDIA = re.compile(r"[ \t\"']*+[\w.+-]++/[\w.+-]++[ \t\"']*+(?:;|$)", re.ASCII)
_SILENT = ("application/octet-stream", "text/xml", "application/xml", "unknown/unknown")
_MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_ASCII = bytes(range(128))


class TooLargeError(ValueError):
    """A body grows past its limit while it is decoded."""


class Response(NamedTuple):
    status: int
    headers: dict[str, str]
    """Lower-case names; of a repeated header the first value, of codings all, of Content-Type the last valid one."""
    payload: bytes
    """The body as stored, transfer and content codings not undone."""

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def media(self) -> str:
        """The media type that it says, lower case."""
        return re.split("[;,]", self.headers.get("content-type", ""))[0].strip(" \t\"'").lower()

    @property
    def declares_html(self) -> bool | None:
        """What the Content-Type says; None where it says nothing that helps."""
        media = self.media
        if media in ("text/html", "application/xhtml+xml", "application/vnd.wap.xhtml+xml"):
            return True
        return None if "/" not in media or media in _SILENT else False


def parse(block: bytes) -> Response | None:
    """A stored response, or None where the bytes are none; that of the server where it sent interim ones before."""
    head = block[:HEAD]
    status = _STATUS.match(head)
    if not status:
        return None
    while (end := _BLANK_LINE.search(head, status.end() - 2)) and int(status[1]) in _INTERIM:
        following = _STATUS.match(head, end.end())
        if not following:
            break
        status = following
    stop, start = end.span() if end else (len(head), len(head))
    headers: dict[str, str] = {}
    lists: dict[str, list[str]] = {name: [] for name in _LISTS}
    for line in head[status.end() : stop].decode("latin-1").splitlines():
        name, colon, value = line.partition(":")
        name, value = name.strip().lower(), value.strip()
        if colon and name in _LISTS:
            lists[name].append(value)
        elif colon:
            headers.setdefault(name, value)
    headers |= {name: ", ".join(values) for name, values in lists.items() if values}
    if types := lists["content-type"]:
        headers["content-type"] = _last_valid(types)
    return Response(int(status[1]), headers, block[start:])


def _last_valid(types: list[str]) -> str:
    """The last media type among headers, each of which may list several, with its charset; that of an earlier one of
    the same type where it says none (Fetch Standard, "extract a MIME type"). The first value where none is valid."""
    valid = [part.strip() for value in types for part in value.split(",") if _MEDIA.match(part)]
    if not valid:
        return types[0]
    media = _essence(valid[-1])
    charsets = (found for part in reversed(valid) if _essence(part) == media for found in _CHARSET.findall(part)[:1])
    charset = next(charsets, None)
    return f"{media}; charset={charset}" if charset else media


def _essence(value: str) -> str:
    return value.partition(";")[0].strip(" \t\"'").lower()


def is_html(response: Response, body: bytes) -> bool:
    """Whether a decoded body is an HTML page: it says so and is not plainly binary, or says nothing and looks so."""
    if _BINARY.match(body):
        return False
    declared = response.declares_html
    return _HTML.search(body[:2048].replace(b"\0", b""), 0, 1024) is not None if declared is None else declared


def decoded(response: Response, limit: int) -> bytes:
    """The body with its transfer and content codings undone. Raises TooLargeError past `limit` bytes."""
    body = response.payload
    if "chunked" in response.headers.get("transfer-encoding", "").lower():
        body = _unchunked(body)
    codings = [coding.strip().lower() for coding in response.headers.get("content-encoding", "").split(",")]
    for coding in reversed(codings[-_CODINGS:]):
        if coding in ("gzip", "x-gzip", "deflate"):
            body = _inflated(body, limit)
        elif coding == "br":
            body = _unbrotli(body, limit)
        elif coding == "zstd":
            body = _unzstd(body, limit)
    if len(body) > limit:
        raise TooLargeError(f"the body has more than {limit:,} bytes")
    return body


def _unchunked(body: bytes) -> bytes:
    found, pieces = bytearray(), _Pieces()
    position = 0
    while match := _CHUNK.match(body, position):
        size, start = int(match[1], 16), match.end()
        position = start + size
        if size and body[position : position + 1] not in (b"\r", b"\n", b""):
            break
        if size == 0:
            return bytes(found)
        pieces.count()
        found += body[start:position]
        position += 2 if body.startswith(b"\r\n", position) else 1
    return bytes(found) or body  # no chunk at all: stored already joined


class _Pieces:
    """How many pieces a body was found to be made of."""

    number = 0

    def count(self) -> None:
        self.number += 1
        if self.number > _PIECES:
            raise TooLargeError(f"the body is made of more than {_PIECES:,} chunks or members")


class _Output(bytearray):
    """What a body decodes to, up to a limit."""

    def add(self, part: bytes, limit: int) -> None:
        self += part
        if len(self) > limit:
            raise TooLargeError(f"the body decodes to more than {limit:,} bytes")


def _inflated(body: bytes, limit: int) -> bytes:
    """Members of gzip or zlib, or a bare deflate stream; the body itself where it is none of them. A bare stream has
    nothing to be known by, and a page that begins with a line end looks like one for some bytes: so it has to come to
    an end that is the body's, or to be of more bytes than these."""
    for window in (47, -15):
        found, pieces, position = _Output(), _Pieces(), 0
        while position < len(body):
            pieces.count()
            stream = zlib.decompressobj(window)
            try:
                while position < len(body) and not stream.eof:
                    fed, before = body[position : position + _SIP], stream.copy()
                    try:
                        found.add(stream.decompress(fed, limit + 1), limit)
                    except zlib.error:  # with it goes what these bytes gave before the damage
                        for at in range(len(fed)):
                            found.add(before.decompress(fed[at : at + 1]), limit)
                    position += len(fed) - len(stream.unconsumed_tail) - len(stream.unused_data)
            except zlib.error:
                break
            if window < 0:
                break
        if found and (window > 0 or len(found) > len(body) or (stream.eof and len(body) - position < _TRAILER)):
            return bytes(found)
    return body


def _unbrotli(body: bytes, limit: int) -> bytes:
    pieces = [body[start : start + _STEP] for start in range(0, len(body), _STEP)]
    found, sound = _fed(pieces, limit)
    if sound < len(pieces):  # with the damage goes what its piece gave before it: so that one byte by byte
        found, _ = _fed([*pieces[:sound], *(bytes((byte,)) for byte in pieces[sound])], limit)
    return bytes(found) or body


def _fed(pieces: Sequence[bytes], limit: int) -> tuple[_Output, int]:
    """What pieces of a Brotli stream decode to, up to damage, and how many are before that."""
    stream, found = brotli.Decompressor(), _Output()
    for number, piece in enumerate(pieces):
        try:
            part = stream.process(piece, output_buffer_limit=_STEP)
            while part:
                found.add(part, limit)
                part = stream.process(b"", output_buffer_limit=_STEP)
        except brotli.error:
            return found, number
    return found, len(pieces)


def _unzstd(body: bytes, limit: int) -> bytes:
    found = _Output()
    try:  # RFC 8878: a window above 8 MiB is not for the web
        with zstandard.ZstdDecompressor(max_window_size=2**23).stream_reader(body, read_across_frames=True) as stream:
            while part := stream.read(_STEP):
                found.add(part, limit)
    except zstandard.ZstdError:
        pass
    return bytes(found) or body


def text(body: bytes, content_type: str = "", *, meta: bool = True) -> str:
    """The characters of a body, never an error: U+FFFD stands for what no character set explains.

    In this order: byte order mark; UTF-16, by its zeros; UTF-8 where the bytes are that, whatever is said of them
    (other text never is by chance), but for broken ones, at most a hundredth of those beyond ASCII; the charset of the
    Content-Type; with `meta`, that of a meta element or an XML declaration in the first 4 kB; detection (resiliparse),
    also of what the web has no label for (Mac Cyrillic, HZ). Labels mean what the WHATWG Encoding Standard says (gb2312
    is gb18030). A charset is believed when less than a tenth of the bytes beyond ASCII contradict it, of ISO-2022-JP of
    all.
    """
    for mark, codec in _MARKS:
        if body.startswith(mark):
            return body.decode(codec, "replace")
    if unmarked := of_utf_16(body):
        return body.decode(unmarked, "replace")
    header, element = _CHARSET.search(content_type), _META.search(body, 0, 4096) if meta else None
    labels = [header[1]] if header else []
    if element:
        labels.append((element[1] or element[2]).decode("ascii"))
    known = [codec for codec in map(codec_of, labels) if codec]
    if "iso2022_jp" not in known and not (known and known[0].startswith("utf-16") and b"\0" in body):
        try:
            found = body.decode("utf-8")
            return (shifted(body) or found) if body.isascii() else found
        except UnicodeDecodeError:
            found = body.decode("utf-8", "replace")
            if found.count("\ufffd") * 100 <= len(body.translate(None, _ASCII)):
                return found
    beyond = len(body.translate(None, _ASCII))
    for candidate in [*known, "utf-8", detected(body)]:
        found = characters(body, candidate)
        if found.count("\ufffd") * 10 <= (len(body) if candidate == "iso2022_jp" else beyond):
            return found
    return characters(body, "cp1252")
