"""HTTP responses as crawls stored them: codings undone under a limit, characters found, nothing raised."""

from __future__ import annotations

import gzip
import random
import time
import tracemalloc
import zlib
from typing import Any

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tasks.extraction import encodings
from tasks.extraction import http as web

LIMIT = 2**24


def response(body: bytes, **headers: str) -> web.Response:
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    parsed = web.parse(b"HTTP/1.1 200 OK\r\n" + lines.encode("latin-1") + b"\r\n" + body)
    assert parsed
    return parsed


def deflated(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(data) + stream.flush()


CODINGS = {
    "gzip": gzip.compress,
    "x-gzip": lambda data: gzip.compress(data[:100]) + gzip.compress(data[100:]),
    "deflate": zlib.compress,
    "Deflate": deflated,
    "br": lambda data: brotli.compress(data, quality=1),
    "zstd": zstandard.compress,
    "gzip, br": lambda data: brotli.compress(gzip.compress(data)),
    "identity": bytes,
}


@pytest.mark.parametrize("coding", CODINGS)
def test_bodies_are_decoded_also_when_they_already_were_or_break_off(coding: str) -> None:
    data = b"<html>" + random.Random(1).randbytes(300_000).hex().encode()
    encoded = CODINGS[coding](data)
    assert web.decoded(response(encoded, Content_Encoding=coding), LIMIT) == data
    assert web.decoded(response(data, Content_Encoding=coding), LIMIT) == data
    cut = web.decoded(response(encoded[: len(encoded) // 2], Content_Encoding=coding), LIMIT)
    assert data.startswith(cut) or coding == "gzip, br"
    chunks = b"".join(
        b"%x;ext=1\r\n%s\r\n" % (len(encoded[at : at + 777]), encoded[at : at + 777])
        for at in range(0, len(encoded), 777)
    )
    assert (
        web.decoded(response(chunks + b"0\r\n\r\n", Content_Encoding=coding, Transfer_Encoding="chunked"), LIMIT)
        == data
    )
    assert web.decoded(response(encoded, Content_Encoding=coding, Transfer_Encoding="chunked"), LIMIT) == data


@pytest.mark.parametrize("begins", [b"\n", b"\r\n\n", b"\n\n\n\t", b" ", b"", b"x\x01", b"\x0b"])
@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_a_body_that_was_stored_decoded_is_itself_whatever_it_begins_with(coding: str, begins: bytes) -> None:
    for size in (0, 3, 40, 3000):
        page = begins + b"<!DOCTYPE html>\n<html><p>" + b"running text " * size
        assert web.decoded(response(page, Content_Encoding=coding), LIMIT) == page


def test_a_bare_deflate_stream_is_undone_whole_or_broken_off() -> None:
    for size in (1, 20, 2000):
        page = b"\n<html>" + b"".join(b"line %d of the page\n" % number for number in range(size))
        encoded = deflated(page)
        assert web.decoded(response(encoded, Content_Encoding="deflate"), LIMIT) == page
        assert web.decoded(response(encoded + b"\r\n", Content_Encoding="deflate"), LIMIT) == page
        if size > 20:
            assert page.startswith(web.decoded(response(encoded[:-99], Content_Encoding="deflate"), LIMIT)[:-1])


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_body_with_a_wrong_checksum_is_kept_and_of_a_damaged_one_what_comes_before(coding: str) -> None:
    for size in (20, 2000, 200_000):
        data = b"<html>" + random.Random(1).randbytes(size).hex().encode()
        encoded = bytearray(CODINGS[coding](data))
        encoded[-2] ^= 1
        for body in (encoded, encoded[:-1], encoded + b"more"):
            assert web.decoded(response(bytes(body), Content_Encoding=coding), LIMIT) == data
        encoded[len(encoded) // 2 :] = b"\xff" * 999
        found = web.decoded(response(bytes(encoded), Content_Encoding=coding), LIMIT)
        assert found[: len(data) // 3] == data[: len(data) // 3]


@pytest.mark.parametrize(
    ("text", "codec"),
    [
        *(("принимая во внимание, что", "koi8-r"), ("Воля народа должна быть", "koi8-r")),
        ("Кожна людина має право на життя, її свободу", "koi8-u"),
        *(("臺灣的歷史與文化", "big5"), ("這是一個很短的句子。", "big5")),
        *(("water, 水", "utf-16-le"), ("water", "utf-16-be"), ("第一段文字。\n\n第二段。\n", "utf-16-be")),
        *(("你好世界", "gbk"), ("戏剧化的剧情，实在精彩", "gbk")),
        ("2. (5 分) $\\frac{1+2 i}{(1-i)^{2}}=(\\quad)$ A. $-1$ B. $2$ 选择正确的一项", "gbk"),
        *(
            ("Съешь же ещё этих мягких французских булок", "koi8-r"),
            ("Un café très glacé à Besançon, où ça ?", "cp1252"),
        ),
        *(("ปฏิบัติการสักการะบูชาและการประ", "cp874"), ("Ξεσκεπάζω την ψυχοφθόρα βδελυγμία", "iso8859-7")),
    ],
)
def test_little_text_in_an_encoding_that_nothing_names_is_itself(text: str, codec: str) -> None:
    assert web.text(text.encode(codec), meta=False) == text


@pytest.mark.parametrize("text", ["one\0two", "\0\0 of UTF-8", "a\0b\0 and more words, 文字", "\0" * 9])
def test_zeros_in_utf_8_make_no_utf_16_of_it(text: str) -> None:
    assert web.text(text.encode()) == text


@pytest.mark.parametrize("size", [2000, 400_000])
def test_of_a_damaged_body_in_brotli_what_comes_before_the_damage_is_kept(size: int) -> None:
    data = b"<html>" + random.Random(1).randbytes(size).hex().encode()
    encoded = bytearray(brotli.compress(data, quality=5))
    encoded[len(encoded) // 2 :] = b"\xff" * 999
    found = web.decoded(response(bytes(encoded), Content_Encoding="br"), LIMIT)
    assert found[: len(data) * 2 // 5] == data[: len(data) * 2 // 5]


def test_repeated_headers_of_codings_are_all_undone() -> None:
    page = b"<html>gold"
    twice = b"Content-Encoding: gzip\r\nX: y\r\ncontent-encoding: br\r\nContent-Type: text/html\r\n"
    for body in (CODINGS["gzip, br"](page), brotli.compress(page), gzip.compress(page), page):
        parsed = web.parse(b"HTTP/1.1 200 OK\r\n" + twice + b"Content-Type: text/plain\r\n\r\n" + body)
        assert parsed
        assert web.decoded(parsed, LIMIT) == page


@pytest.mark.parametrize(
    ("said", "html"),
    [
        *(("text/html, text/html", True), ('"text/html"; charset=x', True), (" TEXT/HTML ;q", True)),
        *(("'application/xhtml+xml'", True), ("text/plain, text/html", True), ("text/html5", False), ("html", None)),
        *(("text/html, image/png", False), ("text/html, nonsense, */", True), ("nonsense, text/html", True)),
    ],
)
def test_media_types_are_read_repeated_and_quoted_and_the_last_valid_one_counts(said: str, html: bool | None) -> None:
    assert response(b"", Content_Type=said).declares_html is html
    lines = "".join(f"Content-Type: {part}\r\n" for part in said.split(","))
    parsed = web.parse(f"HTTP/1.1 200 OK\r\n{lines}\r\n".encode())
    assert parsed
    assert parsed.declares_html is html


@pytest.mark.parametrize(
    ("said", "charset"),
    [
        ("text/plain; charset=gbk, text/html; charset=big5", "big5"),
        ("text/html; charset=gbk, text/html", "gbk"),
        ("text/plain; charset=gbk, text/html", None),
        ("text/html; charset=gbk, charset=big5", "gbk"),
    ],
)
def test_the_charset_is_that_of_the_last_valid_content_type(said: str, charset: str | None) -> None:
    found = response(b"", Content_Type=said).headers["content-type"]
    assert found.partition("charset=")[2] == (charset or "")


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_a_bomb_is_refused_before_it_takes_memory(coding: str) -> None:
    bomb = CODINGS[coding](bytes(2**25))
    tracemalloc.start()
    with pytest.raises(web.TooLargeError):
        web.decoded(response(bomb, Content_Encoding=coding), 2**20)
    assert tracemalloc.get_traced_memory()[1] < 2**23
    tracemalloc.stop()


class Counted:
    """zlib, with the bytes counted that its decompressors are given."""

    error, given = zlib.error, 0

    @classmethod
    def decompressobj(cls, window: int) -> Any:
        stream = zlib.decompressobj(window)

        class Stream:
            def __getattr__(self, name: str) -> Any:
                return getattr(stream, name)

            def decompress(self, data: bytes, most: int) -> bytes:
                cls.given += len(data)
                return stream.decompress(data, most)

        return Stream()


def test_many_small_members_cost_no_more_than_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "zlib", Counted)
    members = 20_000
    body = gzip.compress(b"gold") * members
    assert web.decoded(response(body, Content_Encoding="gzip"), LIMIT) == b"gold" * members
    assert Counted.given <= members * 2**10
    monkeypatch.undo()
    members = 500_000  # copying the rest for each of them takes minutes
    body = gzip.compress(b"gold") * members
    assert web.decoded(response(body, Content_Encoding="gzip"), LIMIT) == b"gold" * members


def test_interim_responses_before_the_response_are_passed_over() -> None:
    final = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<p>gold"
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nContent-Type: image/png\r\n\r\n"
    for before in (b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 102 Processing\n\n", hints, hints * 9):
        parsed = web.parse(before + final)
        assert parsed == web.Response(200, {"content-type": "text/html"}, b"<p>gold")
    for alone in (b"HTTP/1.1 100 Continue\r\n\r\n", hints, hints + b"garbage\r\n\r\n", hints[:-2], hints * 2000):
        parsed = web.parse(alone)
        assert parsed
        assert parsed.status in (100, 103)
    switched = web.parse(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n" + final)
    assert switched == web.Response(101, {"upgrade": "x"}, final)


SPACES = " " * 60_000
HOSTILE = {
    **{
        f"content type {part!r}": (f"text/html; {part}{SPACES}", b"<p>")
        for part in ("charset", "charset=", "charset='")
    },
    **{f"media {part!r}": (part * 60_000, b"<p>") for part in (";", ",", "charset=", '"', "\t", "charset= ")},
    **{
        f"meta {part!r}": ("text/html", part + SPACES.encode() + b"x")
        for part in (
            b"<meta charset",
            b"<meta charset=",
            b"<meta " * 90 + b"charset=" * 9,
            b"<?xml encoding =",
            b"<?xml ",
        )
    },
    **{f"doctype {part!r}": ("", part * 9000) for part in (b"<!doctype ", b"<!doctype" + b"\n" * 99)},
    **{f"bytes {byte!r}": ("text/html; charset=windows-1252", byte * 2**22) for byte in (b"\x81", b"a\x81", b"\x1b$B")},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_said_of_a_page_costs_time_linear_in_its_bytes(name: str) -> None:
    said, body = HOSTILE[name]
    start = time.process_time()
    parsed = response(body, Content_Type=said)
    web.is_html(parsed, web.decoded(parsed, LIMIT))
    web.text(body, said)
    assert time.process_time() - start < 2


@pytest.mark.parametrize(
    "line", ["A: b", "Content-Encoding: gzip", "Content-Encoding:", "a", ":", "Transfer-Encoding: chunked,", "\x85"]
)
def test_thousands_of_headers_cost_no_more_than_their_bytes(line: str) -> None:
    start = time.process_time()
    parsed = web.parse(b"HTTP/1.1 200 OK\r\n" + (f"{line}\r\n" * 60_000).encode("latin-1") + b"\r\n<p>gold")
    assert parsed
    assert len(web.decoded(parsed, LIMIT)) < 2**21
    assert time.process_time() - start < 2


@pytest.mark.parametrize("pieces", [b"1\nx\n", b"2\r\nxx\r\n", zlib.compress(b"a"), gzip.compress(b"a")])
def test_a_body_in_tiny_pieces_takes_the_memory_of_its_bytes_and_is_refused_where_there_are_too_many(
    monkeypatch: pytest.MonkeyPatch, pieces: bytes
) -> None:
    coded = {"Content-Encoding": "deflate"} if pieces[0] in (0x78, 0x1F) else {"Transfer-Encoding": "chunked"}
    number = 2**17 // len(pieces)
    parsed = response(pieces * number)._replace(headers={name.lower(): value for name, value in coded.items()})
    tracemalloc.start()
    found = web.decoded(parsed, LIMIT)
    assert tracemalloc.get_traced_memory()[1] < 2**19
    tracemalloc.stop()
    assert len(found) in (number, 2 * number)
    monkeypatch.setattr(web, "_PIECES", 9)
    with pytest.raises(web.TooLargeError, match="more than 9 chunks or members"):
        web.decoded(parsed, LIMIT)
    few = response(pieces * 9)._replace(headers=parsed.headers)
    assert len(web.decoded(few, LIMIT)) in (9, 18)


@pytest.mark.parametrize("codec", ["cp1252", "cp1255", "cp874", "koi8-u", "mac-roman", "iso8859-8", "gb18030", "utf-8"])
def test_undefined_bytes_are_replaced_as_python_replaces_them(codec: str) -> None:
    body = bytes(range(256)) * 3
    assert encodings.characters(body, codec) == body.decode(codec, "replace")


TEXTS = {
    "gb2312": ("gb18030", "中文网页测试，内容很多，包括㐀和€。"),
    "shift_jis": ("cp932", "日本語のページです。①～㈱"),
    "euc-kr": ("cp949", "한국어 페이지 똠방각하"),
    "big5": ("big5hkscs", "繁體中文網頁測試"),
    "windows-1251": ("cp1251", "Русский текст страницы"),
    "iso-8859-1": ("cp1252", "café “déjà vu” – 5 €"),
    "tis-620": ("cp874", "ภาษาไทย"),
    "iso-2022-jp": ("iso2022_jp", "日本語のページ"),
    "utf-8": ("utf-8", "żółw, 水"),
}


@pytest.mark.parametrize("label", TEXTS)
def test_characters_are_found_by_header_and_by_meta_element(label: str) -> None:
    codec, text = TEXTS[label]
    body = (text * 20).encode(codec)
    assert web.text(body, f"text/html; Charset='{label}'") == text * 20
    assert web.text(f'<meta http-equiv=x content="text/html; charset={label}">'.encode() + body).endswith(text * 20)


def test_characters_are_found_without_or_against_what_is_said() -> None:
    assert web.text("水".encode("utf-8-sig") * 9, "text/html; charset=gbk")[0] == "水"
    assert web.text("water, 水".encode("utf-16")) == "water, 水"
    assert web.text("naïve水".encode(), "text/html; charset=iso-8859-1") == "naïve水"
    assert web.text(("Русский текст " * 9).encode("cp1251")) == "Русский текст " * 9
    assert web.text("café ".encode("cp1252") * 9, "text/html; charset=utf-8") == "café " * 9
    cut = ("中文网页" * 99).encode()[:-1]
    assert web.text(cut, "text/html; charset=utf-8") == "中文网页" * 98 + "中文网\ufffd"


UNLABELLED = {
    "cp949": "한국어 위키백과는 누구나 자유롭게 쓸 수 있는 백과사전입니다. 똠방각하 펲시콜라. ",
    "euc_kr": "한국어 위키백과는 누구나 자유롭게 쓸 수 있는 백과사전입니다. ",
    "mac_cyrillic": "Русский язык является одним из восточнославянских языков. ",
    "hz": "中文维基百科是维基百科的中文版本，自由的百科全书。",
    "iso2022_jp": "日本語のウィキペディアは自由な百科事典です。",
}


@pytest.mark.parametrize("codec", UNLABELLED)
@pytest.mark.parametrize("form", ["{}", "<html><head><title>x</title></head><body><p>{}</p></body></html>"])
def test_characters_are_found_where_no_label_says_their_encoding(codec: str, form: str) -> None:
    for times in (1, 20):
        text = form.format(UNLABELLED[codec] * times)
        assert web.text(text.encode(codec)) == text


@pytest.mark.parametrize("text", ["in LaTeX ~{a}~{bcd}~} ~{", "a shell's ~{x,y}~}", "\x1b$ and \x1b$B"])
def test_text_that_only_looks_shifted_is_what_it_is(text: str) -> None:
    assert web.text(text.encode()) == text


@pytest.mark.parametrize("label", TEXTS)
def test_a_page_in_utf_8_survives_a_broken_character_whatever_is_declared(label: str) -> None:
    text = "".join(text for _, text in TEXTS.values()) * 3
    for at in (0, 100, len(text) - 1):
        body = text[:at].encode() + "水".encode()[:2] + text[at:].encode()
        assert web.text(body, f"text/html; charset={label}") == f"{text[:at]}\ufffd{text[at:]}"


@pytest.mark.parametrize("label", TEXTS)
def test_a_page_in_another_charset_is_not_taken_for_utf_8(label: str) -> None:
    codec, text = TEXTS[label]
    body = (text * 50).encode(codec) + "水".encode() * (label != "iso-2022-jp")
    assert web.text(body, f"text/html; charset={label}").startswith(text * 50)


@given(st.binary(max_size=300), st.text(max_size=20), st.sampled_from([*CODINGS, "nonsense"]))
def test_no_bytes_make_http_raise(body: bytes, said: str, coding: str) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset={said}\r\nContent-Encoding: {coding}\r\n".encode()
    web.parse(body)
    parsed = web.parse(head + b"Transfer-Encoding: chunked\r\n" + body)
    assert parsed
    decoded = web.decoded(parsed, LIMIT)
    assert isinstance(web.text(decoded, parsed.headers.get("content-type", "")), str)
    web.is_html(parsed, decoded)


def _rows(text: str) -> list[bytes]:
    """Characters of JIS X 0208, and of what NEC and IBM added to it, as the two bytes of its rows and cells."""
    found = []
    for first, second in (character.encode("cp932") for character in text):
        row = (first - (0x81 if first < 0xA0 else 0xC1)) * 2 + (0x21 if second < 0x9F else 0x22)
        cell = second - (0x7E if second >= 0x9F else 0x20 if second > 0x7F else 0x1F)
        found.append(bytes((row, cell)))
    return found


NEC = "価格は①から㈱の№Ⅲ、②③のテスト、纊髙﨑です。" * 9
"""With characters that JIS X 0208 has not, and every page of Japan."""


@pytest.mark.parametrize("charset", ["euc-jp", None])
def test_euc_jp_has_the_characters_of_vendors_that_browsers_show(charset: str | None) -> None:
    body = b"<html>" + b"".join(bytes(byte | 0x80 for byte in pair) for pair in _rows(NEC)) + b"</html>"
    assert web.text(body, f"text/html; charset={charset}" if charset else "") == f"<html>{NEC}</html>"


def test_euc_jp_goes_on_behind_what_it_has_not_and_keeps_what_else_it_had() -> None:
    text = "日本語のテスト、ｶﾀｶﾅと鄧小平と〜" * 9
    body = text.encode("euc_jp")
    assert web.text(body, "text/html; charset=euc-jp") == text
    assert web.text(body + b"\xa9\xa1" + body, "text/html; charset=euc-jp") == f"{text}\ufffd{text}"
    assert web.text(body + b"\xa4A" + body, "text/html; charset=euc-jp") == f"{text}\ufffdA{text}"


@pytest.mark.parametrize("charset", ["iso-2022-jp", None])
def test_iso_2022_jp_has_them_too_and_one_unknown_character_costs_itself_alone(charset: str | None) -> None:
    said = f"text/html; charset={charset}" if charset else ""
    pairs = _rows(NEC)
    body = b"<html>\x1b$B" + b"".join(pairs) + b"\x1b(B</html>\n\x1b(J~\x1b(B"
    assert web.text(body, said) == f"<html>{NEC}</html>\n~"
    body = b"<html>\x1b$B" + b"".join([*pairs, b")!", *pairs]) + b"\x1b(B</html>"
    assert web.text(body, said) == f"<html>{NEC}\ufffd{NEC}</html>"
    assert web.text("ﾃｽﾄ日本語".encode("iso2022_jp_ext"), "text/html; charset=iso-2022-jp") == "ﾃｽﾄ日本語"
