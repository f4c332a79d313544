"""Which encoding bytes are in that nothing names, and the characters of encodings as the web means them.

Detection is resiliparse's; where short texts mislead it, what is common in a language decides.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterable
from functools import cache
from importlib import import_module

from resiliparse.parse.encoding import detect_encoding, map_encoding_to_html5

_SUPERSETS = {
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "big5": "big5hkscs",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
}
"""Python's codec that holds what the WHATWG Encoding Standard means by a label."""
_VENDORS = "sluice.euc_jp"
"""What undefined bytes of EUC-JP are handled by."""
_SHIFTS = re.compile(rb"(?:\x1b(?:\$[@B]|\([BJI])(?=\x1b[$(]))*+\x1b(\$[@B]|\([BJI])([^\x1b]*+)")
"""What a shift of ISO-2022-JP is to, the last of several, and what follows."""
_PAIR = re.compile(rb"[\xa1-\xfe]{2}")
_ADDED = re.compile(rb"(?:[\xa9-\xaf\xf5-\xfe][\xa1-\xfe])+")
"""Characters of rows that JIS X 0208 has nothing in."""
_HIGH = bytes(byte | 0x80 if byte > 0x20 else byte for byte in range(256))
_THAI = ("cp874", "iso8859-11", "iso8859_11", "tis_620")
_GB = re.compile(rb"[\x81-\xfe][\x40-\x7e\x80-\xfe]|[\x80-\xff]")
"""A character beyond ASCII by GBK, or a byte that is none."""
_GB_COMMON = re.compile(rb"[\xa1\xa3\xb0-\xd7][\xa1-\xfe]")
_BIG5 = re.compile(rb"[\x81-\xfe][\x40-\x7e\xa1-\xfe]|[\x80-\xff]")
"""The same by Big5."""
_BIG5_COMMON = re.compile(rb"[\xa1\xa4-\xc6].")
_BIG5_ALONE = re.compile(rb"[\xa4-\xc6][\x40-\x7e]")
_KOI8 = re.compile(
    rb"[\xb3\xb4\xb6\xb7\xbd\xe0-\xff]?[\xa3\xa4\xa6\xa7\xad\xc0-\xdf]+|[\xb3\xb4\xb6\xb7\xbd\xe0-\xff]+"
)
"""A word of Russian or Ukrainian in KOI8, with a capital at its beginning alone, or of capitals."""
_HIGH_RUN = re.compile(rb"[\x80-\xff]+")
_UKRAINIAN = re.compile(rb"[\xa4\xa6\xa7\xad\xb4\xb6\xb7\xbd]")
"""What KOI8-U has for letters, and KOI8-R for lines of boxes."""
_SEEN = 2**16
"""Bytes in which a language is looked for."""
_EAST_ASIAN = re.compile(r"[\u3041-\u30ff\u4e00-\u9fff]{4}")
_SPACES = b" \t\r\n"


def detected(body: bytes) -> str:
    """Python's name for the encoding that the bytes look like. It is asked without regard to HTML5, for which
    resiliparse calls UTF-8 what has no label there."""
    name = detect_encoding(body, html5_compatible=False) or ""
    codec = codec_of(name)
    if not codec:
        try:
            codec = codecs.lookup(name).name.replace("-", "_")
        except LookupError:
            codec = "cp1252"
    if codec.startswith("koi8") and _is_koi8(body):
        return "koi8-u" if _UKRAINIAN.search(body) else codec
    may_be = codec == "utf-8" or (_table(codec) and codec not in _THAI)  # bytes that are asked about are no UTF-8
    if (may_be or codec == "gb18030") and _is_big5(body):
        return "big5hkscs"
    return "gb18030" if may_be and _is_chinese(body) else codec


def _is_chinese(body: bytes) -> bool:
    """Whether nine in ten of what is beyond ASCII in the first 64 kB, four characters at least, are punctuation and the
    3,755 common characters of GB 2312, as in Chinese that is short or has much English in it. Of other languages in
    single-byte charsets such pairs are beside others after a few words, but for Thai."""
    found = _GB.findall(body, 0, _SEEN)
    common = _matching(_GB_COMMON.match, found)
    return common >= 4 and common * 10 >= 9 * len(found)


def _is_koi8(body: bytes) -> bool:
    """Whether nine in ten of the words beyond ASCII in the first 64 kB are such in KOI8, as short Chinese is not."""
    words = _HIGH_RUN.findall(body, 0, _SEEN)
    return _matching(_KOI8.fullmatch, words) * 10 >= 9 * len(words)


def _is_big5(body: bytes) -> bool:
    """Whether nine in ten of what is beyond ASCII in the first 64 kB, four characters at least, are punctuation and the
    5,401 common characters of Big5, two of them with a second byte that GB 2312, EUC-JP and EUC-KR never have; and they
    are most of the text, as letters with accents are not."""
    found = _BIG5.findall(body, 0, _SEEN)
    common = _matching(_BIG5_COMMON.match, found)
    most = 4 * common >= len(body[:_SEEN].translate(None, _SPACES))
    return common >= 4 and common * 10 >= 9 * len(found) and most and _matching(_BIG5_ALONE.match, found) >= 2


def _matching(match: Callable[[bytes], object], found: Iterable[bytes]) -> int:
    return sum(map(bool, map(match, found)))


def _is_utf_8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def of_utf_16(body: bytes) -> str | None:
    """The kind of UTF-16 that bytes without a mark look like: zeros stand at every other place, of ASCII at half of
    these; None of others."""
    if b"\0" not in body:
        return None
    zeros = body[::2].count(0), body[1::2].count(0)
    few, many = sorted(zeros)  # U+4E00, one, has a zero, too
    if many < 2 or few * 3 > many or many * (2 if _is_utf_8(body) else 20) < len(body) // 2:
        return None
    return "utf-16-be" if zeros[0] == many else "utf-16-le"


def shifted(body: bytes) -> str | None:
    """The characters of a body that says its Chinese or Japanese in ASCII, between marks that shift to a second set
    (HZ, ISO-2022-JP); None of others."""
    if b"\x1b$" not in body and not (b"~{" in body and b"~}" in body):
        return None
    codec = detected(body)
    if codec not in ("hz", "iso2022_jp"):
        return None
    found = characters(body, codec)
    return found if _EAST_ASIAN.search(found) and found.count("\ufffd") * 10 <= len(body) else None


def characters(body: bytes, codec: str) -> str:
    """What `body.decode(codec, "replace")` returns, which takes ten times as long for bytes that a single-byte charset
    leaves undefined, and knows no ① in the encodings of Unix and of mail of Japanese."""
    if codec == "iso2022_jp":
        body, codec = _SHIFTS.sub(_of_unix, body), "euc_jp"
    table = _table(codec)
    errors = _VENDORS if codec == "euc_jp" else "replace"
    return codecs.charmap_decode(body, "strict", table)[0] if table else body.decode(codec, errors)


def _of_unix(found: re.Match[bytes]) -> bytes:
    """The bytes of ISO-2022-JP up to the next shift as EUC-JP has them: those of two-byte characters and of halfwidth
    katakana have the eighth bit."""
    if found[1] in (b"$B", b"$@"):
        return found[2].translate(_HIGH)
    return re.sub(rb"[!-~]", lambda one: bytes((0x8E, one[0][0] | 0x80)), found[2]) if found[1] == b"(I" else found[2]


def _of_a_vendor(error: UnicodeError) -> tuple[str, int]:
    """What stands where Python's EUC-JP finds no character: one that NEC or IBM added to JIS X 0208 (①, ㈱, 髙), by
    Shift_JIS as Windows has it, which the WHATWG Encoding Standard reads here too; else U+FFFD."""
    assert isinstance(error, UnicodeDecodeError)
    added = _ADDED.match(error.object, error.start)
    if added:
        return "".join(map(_by_windows, _PAIR.findall(added[0]))), added.end()
    pair = _PAIR.match(error.object, error.start)
    return (_by_windows(pair[0]), pair.end()) if pair else ("\ufffd", error.start + 1)


@cache
def _by_windows(pair: bytes) -> str:
    """The character that Windows has where EUC-JP has two bytes; U+FFFD where it has none, either."""
    row, cell = pair
    first = (row - 0xA1) // 2 + (0x81 if row < 0xDF else 0xC1)
    second = cell - 2 if row % 2 == 0 else cell - (0x61 if cell < 0xE0 else 0x60)
    return bytes((first, second)).decode("cp932", "replace")[:1]


codecs.register_error(_VENDORS, _of_a_vendor)


@cache
def _table(codec: str) -> str | None:
    """The characters of the 256 bytes of a single-byte charset, U+FFFD for undefined ones; None of others."""
    name = codecs.lookup(codec).name.replace("-", "_")
    table: str | None = getattr(import_module(f"encodings.{name}"), "decoding_table", None)
    return table.replace("\ufffe", "\ufffd").ljust(256, "\ufffd") if table else None


def codec_of(label: str) -> str | None:
    """Python's name for the encoding that a label means; None for one that the web does not know."""
    codec = map_encoding_to_html5(label, fallback_utf8=False)
    return _SUPERSETS.get(codec, codec) if codec else None
