"""Records of WARC and JSON lines as strangers may have written them: structure-aware mutations of real ones.

Every mutation takes a generator of random numbers and a record, and changes the record. What they do is a function of
the generator alone, so that a seed names a case.
"""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import brotli
import zstandard

FILLERS = (
    *(
        " ",
        "\t",
        ";",
        "a",
        "=",
        '"',
        ",",
        "<",
        "&",
        "\r",
        "\x00",
        "\u0301",
        "\u1100",
        "\u200d",
        "\u3000",
        "é",
        "\u0344",
    ),
    *("charset=", '; q="', "<meta ", "<!--", "<?xml ", "gzip,", "👨\u200d", "\\u0000", "[{", "1e9", "ﷺ", "\U0001d160"),
)
"""What is repeated: what patterns, parsers and normalisation go through step by step."""
LABELS = (
    *("utf-8", "gb2312", "gbk", "big5", "shift_jis", "euc-jp", "iso-2022-jp", "utf-16", "utf-16be", "utf-7", "utf-32"),
    *(
        "windows-1251",
        "iso-8859-8-i",
        "x-user-defined",
        "replacement",
        "none",
        "\x00",
        "é",
        "hz",
        "x-mac-cyrillic",
        "idna",
    ),
    *(
        "punycode",
        "unicode_escape",
        "base64",
        "rot13",
        "zlib",
        "undefined",
        "mbcs",
        "../utf-8",
        "utf-8;utf-16",
        "koi8-u",
    ),
)
CODECS = (
    "gbk",
    "utf-16",
    "utf-16-be",
    "utf-32",
    "shift_jis",
    "iso2022_jp",
    "euc_kr",
    "koi8-r",
    "utf-7",
    "cp1252",
    "utf-8-sig",
)
NUMBERS = (
    "-1",
    "0",
    "1",
    "",
    "1e3",
    "+5",
    "0x10",
    "٣",
    "5, 5",
    "9" * 18,
    "9" * 19,
    "9" * 5000,
    "4294967296",
    " 7 ",
    "2147483648",
)


def filler(rng: random.Random, most: int = 60_000) -> str:
    piece = rng.choice(FILLERS)
    return piece * (rng.randint(1, most) // len(piece) + 1)


def flipped(rng: random.Random, data: bytes) -> bytes:
    """Some bytes flipped, cut out, repeated or overwritten."""
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 3, 20])):
        at, size = rng.randrange(len(changed) + 1), rng.choice([1, 4, 100, 3000])
        match rng.randrange(4):
            case 0:
                changed[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                del changed[at : at + size]
            case 2:
                changed[at:at] = changed[at : at + size] * rng.randint(1, 20)
            case 3:
                changed[at : at + size] = rng.randbytes(size)
    return bytes(changed)


# -- WARC --------------------------------------------------------------------------------------------------------------


@dataclass
class Page:
    """A record of a WARC, taken apart."""

    warc: list[tuple[bytes, bytes]]
    status: bytes
    http: list[tuple[bytes, bytes]]
    body: bytes
    length: bytes | None = None
    """The Content-Length, where it is another than the block's."""
    said: list[str] = field(default_factory=list)
    """Names of the mutations."""

    @classmethod
    def of(cls, record: bytes) -> Page:
        """Of a whole record: its header, and what follows up to the two line ends after the block."""
        head, _, block = record.partition(b"\r\n\r\n")
        headers, _, body = block.partition(b"\r\n\r\n")
        status, *fields = headers.split(b"\r\n")
        return cls(_fields(head.split(b"\r\n")[1:]), status, _fields(fields), body.removesuffix(b"\r\n\r\n"))

    def data(self) -> bytes:
        block = _joined([self.status, *(name + b": " + value for name, value in self.http)]) + self.body
        others = [name + b": " + value for name, value in self.warc if name.lower() != b"content-length"]
        length = b"%d" % len(block) if self.length is None else self.length
        return _joined([b"WARC/1.0", *others, b"Content-Length: " + length]) + block + b"\r\n\r\n"

    def header(self, name: bytes, value: bytes) -> None:
        """Set a header of HTTP."""
        self.http = [item for item in self.http if item[0].lower() != name.lower()] + [(name, value)]


def _fields(lines: list[bytes]) -> list[tuple[bytes, bytes]]:
    return [(name, value.strip()) for name, _, value in (line.partition(b":") for line in lines)]


def _joined(lines: list[bytes]) -> bytes:
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


def _headers(rng: random.Random, page: Page) -> list[tuple[bytes, bytes]]:
    return page.http if rng.random() < 0.6 else page.warc


def grown(rng: random.Random, page: Page) -> None:
    headers = _headers(rng, page)
    if headers:
        at = rng.randrange(len(headers))
        name, value = headers[at]
        headers[at] = name, rng.choice([value + b";", value, b""]) + _bytes(filler(rng)) + rng.choice([b"", value])


def typed_at_length(rng: random.Random, page: Page) -> None:
    parts = [b"text/html", b";", _bytes(filler(rng, 50_000)), b"charset=", _bytes(rng.choice(LABELS))]
    rng.shuffle(parts)
    page.header(b"Content-Type", b"".join([b"text/html" * rng.randint(0, 1), *parts]))


def doubled(rng: random.Random, page: Page) -> None:
    headers = _headers(rng, page)
    if headers:
        name, value = rng.choice(headers)
        value = rng.choice([value, b"", b"gzip", _bytes(rng.choice(NUMBERS)), flipped(rng, value)])
        for _ in range(rng.choice([1, 2, 3000])):
            headers.insert(rng.randint(0, len(headers)), (rng.choice([name, name.upper(), name + b" "]), value))


def named_oddly(rng: random.Random, page: Page) -> None:
    headers = _headers(rng, page)
    name = rng.choice([b"", b" ", b"\x00", b"a b", b"\xff", b"x" * 40_000, b"Content-Type\r\n ", b":", b"WARC-Type\n"])
    headers.insert(rng.randint(0, len(headers)), (name, rng.choice([b"", b"text/html", b"\r\n folded", b"\r\r\n"])))


def measured_wrongly(rng: random.Random, page: Page) -> None:
    right = (
        int(Page.data(page).partition(b"Content-Length: ")[2].partition(b"\r")[0] or 0) if page.length is None else 0
    )
    wrong = [_bytes(rng.choice(NUMBERS)), b"%d" % (right + rng.choice([-1, 1, -100, 100, 10**6, 10**10]))]
    page.length = rng.choice(wrong)


def lied_of_length(rng: random.Random, page: Page) -> None:
    page.header(b"Content-Length", _bytes(rng.choice(NUMBERS)))


def retyped(rng: random.Random, page: Page) -> None:
    kinds = [b"resource", b"conversion", b"", b"RESPONSE", b"revisit", b"request", b"response ", b"\xff", b"x" * 20_000]
    page.warc = [(name, rng.choice(kinds) if name == b"WARC-Type" else value) for name, value in page.warc]
    if rng.random() < 0.3:
        page.status, page.http, page.body = b"", [], page.body.lstrip()


def dated_and_addressed(rng: random.Random, page: Page) -> None:
    addresses = [
        b"",
        b"\xff\xfe",
        b"http://a/\x1b[31m",
        b"<http://a/>",
        _bytes("http://é/\ud800"),
        b"http://" + b"a" * 60_000,
    ]
    days = [b"", b"2020", b"2020-13-45T00:00:00Z", b"20200101", b"2020-W01-1", b"0000-00-00", b"-", b"9" * 5000]
    odd = {b"WARC-Target-URI": addresses, b"WARC-Date": days}
    page.warc = [(name, rng.choice(odd[name]) if name in odd else value) for name, value in page.warc]


def answered(rng: random.Random, page: Page) -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\n" * rng.choice([1, 3, 2500])
    lines = [
        interim + page.status,
        b"HTTP/2 200",
        b"HTTP/1.1 200 " + b" " * 60_000,
        b"HTTP/1.1 999",
        b"",
        b"HTTP/1.1 \xd9\xa2",
    ]
    page.status = rng.choice([*lines, b"HTTP/1.1 101 Switching\r\n\r\n" + page.status, b"ICY 200 OK", b"HTTP/1.1 204 "])


def coded(rng: random.Random, page: Page) -> None:
    told: list[bytes] = []
    for _ in range(rng.choice([1, 1, 2, 3, 6])):
        coding = rng.choice(list(CODINGS))
        page.body = CODINGS[coding](page.body)
        told.append(coding)
    match rng.randrange(6):
        case 0:
            told.reverse()
        case 1:
            told = [
                rng.choice([*CODINGS, b"identity", b"compress", b"\xff"]) for _ in range(rng.choice([0, 1, 3, 5000]))
            ]
        case 2:
            page.body = flipped(rng, page.body)
        case 3:
            page.body = page.body[: rng.randrange(len(page.body) + 1)]
    page.header(b"Content-Encoding", b", ".join(told))


CODINGS: dict[bytes, Callable[[bytes], bytes]] = {
    b"gzip": lambda data: zlib.compress(data, 6, 31),
    b"deflate": lambda data: zlib.compress(data, 6, -15),
    b"x-gzip": lambda data: zlib.compress(data, 6, 15),
    b"br": lambda data: brotli.compress(data, quality=3),
    b"zstd": zstandard.compress,
}


def expanded(rng: random.Random, page: Page) -> None:
    """A body that becomes more than its bytes promise, in one coding or in several on top of each other."""
    data = bytes([rng.randrange(128)]) * rng.choice([2**16, 2**20, 2**25])
    told = [rng.choice(list(CODINGS)) for _ in range(rng.choice([1, 1, 2, 4]))]
    for coding in told:
        data = CODINGS[coding](data)
    page.body = data * rng.choice([1, 1, 30])
    page.header(b"Content-Encoding", b", ".join(told))


def in_members(rng: random.Random, page: Page) -> None:
    """A body of many members of gzip, of zlib or of deflate."""
    size = rng.choice([1, 7, 500])
    window = rng.choice([31, 15, -15])
    parts = [
        zlib.compress(page.body[at : at + size], 1, window) for at in range(0, min(len(page.body), 2000 * size), size)
    ]
    page.body = b"".join(parts) * rng.choice([1, 1, 20])
    page.header(b"Content-Encoding", rng.choice([b"gzip", b"deflate", b"gzip, gzip"]))


def chunked(rng: random.Random, page: Page) -> None:
    size, extra = (
        rng.choice([1, 2, 50, 5000]),
        rng.choice([b"", b"", b" ", b";" + _bytes(filler(rng, 5000)), b"\t" * 3000]),
    )
    parts = [page.body[at : at + size] for at in range(0, min(len(page.body), 5000 * size), size)]
    lines = [b"%x%s\r\n%s\r\n" % (len(part), extra if at % 100 == 0 else b"", part) for at, part in enumerate(parts)]
    lines.append(
        rng.choice([b"0\r\n\r\n", b"", b"-1\r\n", b"ffffffffffffff\r\n", b"f" * 50_000, b"0;" + b" " * 50_000])
    )
    if parts and rng.random() < 0.5:
        at = rng.randrange(len(parts))
        lines[at] = (
            rng.choice([b"%x\r\n" % (size + 1), b"7fffffffffffffff\r\n", b"\r\n", b"zz\r\n"]) + parts[at] + b"\r\n"
        )
    page.body = b"".join(lines)
    page.header(b"Transfer-Encoding", rng.choice([b"chunked", b"gzip, chunked", b"chunked, chunked", b"Chunked\x00"]))


def charset(rng: random.Random, page: Page) -> None:
    label = rng.choice(LABELS)
    if rng.random() < 0.7:
        page.header(b"Content-Type", b"text/html; charset=" + rng.choice([b"", b'"', b"'"]) + _bytes(label))
    if rng.random() < 0.5:
        page.body = page.body.decode(errors="replace").encode(rng.choice(CODECS), "replace")
    if rng.random() < 0.5:
        quote = rng.choice(['"', "'", "", " " * 4000])
        page.body = _bytes(f"<meta{' ' * rng.choice([1, 499, 4000])}charset={quote}{label}{quote}>") + page.body
    if rng.random() < 0.3:
        page.body = rng.choice([b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf", b"+/v8", b"\xff\xfe\0\0"]) + page.body


def stuffed(rng: random.Random, page: Page) -> None:
    """A body that repeats something, now and then for megabytes."""
    most = 60_000 if rng.random() < 0.95 else 2**22
    at = rng.randrange(len(page.body) + 1)
    page.body = page.body[:at] + _bytes(filler(rng, most)) + page.body[at:]


def scrambled(rng: random.Random, page: Page) -> None:
    page.body = flipped(rng, page.body) if rng.random() < 0.7 else rng.randbytes(rng.choice([0, 1, 100, 300_000]))


def nested(rng: random.Random, page: Page) -> None:
    """A WARC in a record of a WARC."""
    page.body = page.data() * rng.choice([1, 2, 50])


PAGE: tuple[Callable[[random.Random, Page], None], ...] = (
    *(grown, typed_at_length, doubled, named_oddly, measured_wrongly, lied_of_length, retyped, dated_and_addressed),
    *(answered, coded, expanded, in_members, chunked, charset, stuffed, scrambled, nested),
)


# -- JSON lines --------------------------------------------------------------------------------------------------------


def row(rng: random.Random, line: bytes) -> tuple[bytes, str]:
    """A line made of another, and the name of what was done to it."""
    mutation = rng.choice(ROW)
    return mutation(rng, json.loads(line)), mutation.__name__


def _with(item: dict[str, Any], raw: str, rng: random.Random) -> bytes:
    """The row with a key whose value is written as it stands."""
    plain = json.dumps(item, ensure_ascii=rng.random() < 0.5)
    before = rng.random() < 0.5
    return _bytes(f'{{"extra": {raw}, {plain[1:]}' if before else f'{plain[:-1]}, "extra": {raw}}}')


def deep(rng: random.Random, item: dict[str, Any]) -> bytes:
    number = rng.choice([10, 900, 1100, 5000, 100_000])
    opened, closed = rng.choice([("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
    return _with(item, opened * number + "1" + closed * rng.choice([number, number, number - 1, 0]), rng)


def numbered(rng: random.Random, item: dict[str, Any]) -> bytes:
    digits = "".join(rng.choices("0123456789", k=rng.choice([20, 4301, 100_000])))
    odd = [
        digits,
        f"-{digits}.{digits}e{digits[:3]}",
        "1e999999",
        "-0",
        "NaN",
        "-Infinity",
        "01",
        "1.",
        ".5",
        "1e",
        "0x1",
    ]
    return _with(item, rng.choice(odd), rng)


def surrogates(rng: random.Random, item: dict[str, Any]) -> bytes:
    odd = rng.choice(
        ["\\ud800", "\\udc00", "\\ud83d\\ude00", "\\udbff\\udfff", "\\ud800\\u0041", "\\u0000", "\\uffff", "\\ud8"]
    )
    key = rng.choice(["text", "url", "other"])
    value = rng.choice(["{}", "river {} bed", "{0}{0}{0}"]).format(odd * rng.choice([1, 1, 5000]))
    rest = {name: value for name, value in item.items() if name != key}
    return _with(rest, "null", rng)[:-1] + _bytes(f', "{key}": "{value}"}}')


def of_another_type(rng: random.Random, item: dict[str, Any]) -> bytes:
    odd: list[Any] = [None, True, 5, 1.5, [], {}, ["a"], {"text": "a"}, "", " ", "\x00", "\u200b"]
    if rng.random() < 0.3:
        return json.dumps(rng.choice([*odd, [item], item["text"]])).encode()
    return json.dumps({**item, rng.choice(["text", "url"]): rng.choice(odd)}).encode()


def keys(rng: random.Random, item: dict[str, Any]) -> bytes:
    match rng.randrange(4):
        case 0:
            return json.dumps({filler(rng, 2**20): 1, **item}, ensure_ascii=rng.random() < 0.5).encode(errors="replace")
        case 1:
            return json.dumps({**{str(number): number for number in range(50_000)}, **item}).encode()
        case 2:
            return _bytes(json.dumps(item)[:-1] + ', "text": "another"' * rng.choice([1, 5000]) + "}")
    return json.dumps({rng.choice(["Text", "text ", "te\x00xt", "\ufefftext"]): item["text"]}).encode()


def repeated(rng: random.Random, item: dict[str, Any]) -> bytes:
    most = 60_000 if rng.random() < 0.95 else 2**24
    key, text = rng.choice(["text", "text", "url"]), str(item["text"])
    at = rng.randrange(len(text) + 1)
    changed = {**item, key: text[:at] + filler(rng, most) + text[at:]}
    return _bytes(json.dumps(changed, ensure_ascii=rng.random() < 0.3))


def parts(rng: random.Random, item: dict[str, Any]) -> bytes:
    number = 20_000 if rng.random() < 0.97 else 2_000_000
    return _with(item, "[" + rng.choice(["{},", "[],", "1,", '"a",', '{"a":1},']) * number + "1]", rng)


def encoded(rng: random.Random, item: dict[str, Any]) -> bytes:
    plain = json.dumps(item, ensure_ascii=False)
    ends = ["\r", "\r\n", "\n" * 5000, "\x00" * 5000, " " * 50_000, "\u2028", "\n\n{}\n"]
    match rng.randrange(4):
        case 0:
            return plain.encode(rng.choice(CODECS), "replace")
        case 1:
            return _bytes(
                "".join(f"\\u{ord(c) & 0xFFFF:04x}" if c.isalpha() and c not in "nrtbfu" else c for c in plain)
            )
        case 2:
            return b"\xef\xbb\xbf" * rng.choice([1, 2]) + plain.encode()
    return _bytes(rng.choice(ends) + plain + rng.choice(ends))


def torn(rng: random.Random, item: dict[str, Any]) -> bytes:
    plain = json.dumps(item).encode()
    return flipped(rng, plain) if rng.random() < 0.6 else plain[: rng.randrange(len(plain))]


ROW = (deep, numbered, surrogates, of_another_type, keys, repeated, parts, encoded, torn)
