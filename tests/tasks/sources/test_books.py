"""Books: EPUBs put together here and by others, and texts of Project Gutenberg in the forms that it has used."""

from __future__ import annotations

import io
import random
import unicodedata
import zipfile
from pathlib import Path
from typing import Any

import pytest

from data_specs.extract import Extract
from data_specs.sources import BookSource
from tasks.sources import Reader, reader
from tests.tasks.sources.mutations import flipped
from tests.tasks.sources.test_arc import read_all

CONTAINER = '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>' + (
    '<rootfile full-path="OEBPS/book.opf"/></rootfiles></container>'
)
OPF = """<package xmlns="http://www.idpf.org/2007/opf" xmlns:dc="http://purl.org/dc/elements/1.1/">
<metadata><dc:title>The River</dc:title><dc:creator>A. Writer</dc:creator><dc:creator>B. Writer</dc:creator>
<dc:language>en</dc:language><dc:date>1911-05-01T00:00</dc:date><dc:subject>Rivers</dc:subject><dc:subject>水</dc:subject>
</metadata><manifest>
<item id="nav" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>
<item id="two" href="text/2%20b.xhtml" media-type="application/xhtml+xml"/>
<item id="one" href="text/1.xhtml" media-type="application/xhtml+xml"/>
<item id="toc" href="toc.xhtml" media-type="application/xhtml+xml"/>
<item id="aside" href="aside.xhtml" media-type="application/xhtml+xml"/>
<item id="map" href="map.png" media-type="image/png"/>
</manifest><spine><itemref idref="nav"/><itemref idref="toc"/><itemref idref="one"/><itemref idref="two"/>
<itemref idref="aside" linear="no"/><itemref idref="map"/></spine>
<guide><reference type="toc" href="toc.xhtml#here"/></guide></package>"""
PAGE = '<?xml version="1.0" encoding="utf-8"?><!DOCTYPE html><html><head><title>no</title></head><body>%s</body></html>'
FILES = {
    "mimetype": "application/epub+zip",
    "META-INF/container.xml": CONTAINER,
    "OEBPS/book.opf": OPF,
    "OEBPS/nav.xhtml": PAGE % "<nav>no</nav>",
    "OEBPS/toc.xhtml": PAGE % "no",
    "OEBPS/text/1.xhtml": PAGE % "<h1>One</h1>\n<p>It\nflows&nbsp;&amp; flows.</p>",
    "OEBPS/text/2 b.xhtml": PAGE % "<h1>Two</h1><p>水は流れる。</p><pre>  as\n   it is</pre>",
    "OEBPS/aside.xhtml": PAGE % "no",
}
TEXT = "One\n\nIt flows & flows.\n\nTwo\n\n水は流れる。\n\n  as\n   it is"


def epub(changed: dict[str, str | None] | None = None) -> bytes:
    """An EPUB of FILES, some of them changed, added or left out."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, text in (FILES | (changed or {})).items():
            if text is not None:
                archive.writestr(zipfile.ZipInfo(name), text, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def source(path: Path, **settings: Any) -> Reader:
    return reader("books", BookSource(kind="books", paths=str(path), groups=1, **settings), Extract())


def test_chapters_are_read_in_their_order_and_what_a_book_tells_of_itself_is_kept(tmp_path: Path) -> None:
    (tmp_path / "a.epub").write_bytes(epub())
    found = source(tmp_path / "*")
    [row], counts = read_all(found)
    assert counts == {"in": 1}
    assert row["text"] == TEXT
    assert (row["title"], row["author"], row["date"]) == ("The River", "A. Writer, B. Writer", "1911-05-01")
    assert (row["book_language"], row["subjects"]) == ("en", "Rivers|水")
    assert found.reread(row) == epub()


def test_chapters_are_xml_and_what_stands_in_them_is_told_apart(tmp_path: Path) -> None:
    chapter = (
        "<section><header>One</header><a id='p1'/><p><ruby>法<rt>ほう</rt></ruby>は</p></section><script src='a'/>"
        "<section>Two<pre>if (a\n<b>&lt;</b> b)\n</pre><pre><![CDATA[a < b && <c>]]></pre></section>"
    )
    opf = OPF.replace("1911-05-01T00:00", "1911-02-30")
    (tmp_path / "a.epub").write_bytes(epub({"OEBPS/text/1.xhtml": PAGE % chapter, "OEBPS/book.opf": opf}))
    [row], _ = read_all(source(tmp_path / "*"))
    assert row["text"].startswith("One\n\n法は\n\nTwo\n\nif (a\n< b)\n\na < b && <c>\n\nTwo\n\n水")
    assert row["date"] is None


def test_a_chapter_that_a_book_names_and_has_not_is_counted_and_the_others_are_read(tmp_path: Path) -> None:
    opf = OPF.replace('<itemref idref="map"/>', '<itemref idref="map"/><itemref idref="gone"/>')
    (tmp_path / "a.epub").write_bytes(epub({"OEBPS/book.opf": opf, "OEBPS/text/1.xhtml": None}))
    [row], counts = read_all(source(tmp_path / "*"))
    assert row["text"] == TEXT[TEXT.index("Two") :]
    assert counts == {"in": 3, "missing": 2}


LINKS = "".join(f"<li><a href='{each}.xhtml#a'>Chapter {each}</a>, {each}</li>" for each in range(9))


@pytest.mark.parametrize(
    "page",
    [
        f"<p>It flows.</p><ul>{LINKS}</ul>",
        f"<p>It flows.</p><ul><li><a href='0.xhtml'>Part</a><ol>{LINKS}</ol></li></ul>",
        f"<p>It flows.</p><table><tr><td></td><td><ol>{LINKS}</ol></td></tr></table>",
        "<p>It <span epub:type='pagebreak' id='p1'>169</span>flows.</p>",
        "<p>It <span epub:type='pagebreak' title='169'/>flows.</p>",
        "<div role='doc-pagebreak'>169</div><p>It flows.</p>",
        "<ul><li><a href='1.html'>Back</a></li><li><a href='i.html'>Up</a></li><li><a href='2.html'>On</a></li></ul>"
        "<p>It flows.</p>",
        "<p>It <span class='pagenum x'><a id='p'>[Pg 169]</a></span>flows.</p>",
        f"<p>It flows.</p><table>{LINKS.replace('<li>', '<tr><td>').replace('</li>', '</td></tr>')}</table>",
        "<p>It flows.</p><section epub:type='backmatter index'><h2>Index</h2><p>Gold, 3</p></section>",
        "<section epub:type='toc'><h1>Brief Contents</h1><p>One</p></section><p>It flows.</p>",
    ],
)
def test_what_leads_through_a_book_is_no_text_of_it(tmp_path: Path, page: str) -> None:
    (tmp_path / "a.epub").write_bytes(epub({"OEBPS/text/1.xhtml": PAGE % page}))
    [row], _ = read_all(source(tmp_path / "*"))
    assert row["text"] == f"It flows.\n\n{TEXT[TEXT.index('Two') :]}"


def test_a_page_of_contents_is_no_text_and_lists_with_links_in_them_are(tmp_path: Path) -> None:
    contents = "<h1>Contents</h1>" + LINKS.replace("li>", "p>")
    (tmp_path / "a.epub").write_bytes(epub({"OEBPS/text/1.xhtml": PAGE % contents}))
    [row], _ = read_all(source(tmp_path / "*"))
    assert row["text"] == TEXT[TEXT.index("Two") :]
    few = "<ul><li><a href='2.xhtml'>Chapter 2</a></li></ul>"
    away = "<ul>" + "<li><a href='https://a.org/'>A place</a></li>" * 9 + "</ul>"
    told = "<ol>" + "<li>Of gold and lead it says nothing, see <a href='2.xhtml'>there</a></li>" * 9 + "</ol>"
    misused = "<p class='pagenum'>It flows through the land.</p>"
    for kept, number in ((few, 1), (away, 9), (told, 9), (misused, 1)):
        (tmp_path / "a.epub").write_bytes(epub({"OEBPS/text/1.xhtml": PAGE % kept}))
        [row], _ = read_all(source(tmp_path / "*"))
        assert row["text"].count("\n") == TEXT[TEXT.index("Two") :].count("\n") + 1 + number


def test_a_title_that_is_escaped_twice_is_plain(tmp_path: Path) -> None:
    (tmp_path / "a.epub").write_bytes(epub({"OEBPS/book.opf": OPF.replace("The River", "R &amp;amp; M")}))
    [row], _ = read_all(source(tmp_path / "*"))
    assert row["title"] == "R & M"


def test_paragraphs_of_a_cell_stay_in_its_row(tmp_path: Path) -> None:
    table = (
        "<table><tr><td><p>水</p></td><td><p>river</p><p>water</p></td></tr><tr><td colspan='2'>end</td></tr></table>"
    )
    (tmp_path / "a.epub").write_bytes(epub({"OEBPS/text/1.xhtml": PAGE % table}))
    [row], _ = read_all(source(tmp_path / "*"))
    assert row["text"].startswith("水 | river water\nend\n\nTwo")


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("says", [True, False])
def test_chapters_are_found_by_their_names_however_a_zip_writes_them(tmp_path: Path, form: Any, says: bool) -> None:
    name = "OEBPS/text/Éric 第一章.xhtml"
    opf = OPF.replace("text/1.xhtml", "text/Éric 第一章.xhtml")
    data = epub({unicodedata.normalize(form, name): FILES["OEBPS/text/1.xhtml"], "OEBPS/book.opf": opf})
    if not says:  # the bit that tells that a name is in UTF-8, in the file's header and in the directory's
        for mark, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
            parts = data.split(mark)
            data = mark.join([parts[0], *(part[: place - 3] + b"\0" + part[place - 2 :] for part in parts[1:])])
    (tmp_path / "a.epub").write_bytes(data)
    [row], _ = read_all(source(tmp_path / "*"))
    assert row["text"] == TEXT


def test_an_illustrator_is_no_author_and_a_slash_leads_to_the_archive(tmp_path: Path) -> None:
    creators = "<dc:creator>A. Writer</dc:creator><dc:creator>B. Writer</dc:creator>"
    two = '<dc:creator opf:role="ill">B. Drawer</dc:creator><dc:creator opf:role="aut">A. Writer</dc:creator>'
    three = (
        '<dc:creator id="a">A. Writer</dc:creator><dc:creator id="b">B. Drawer</dc:creator>'
        '<meta refines="#a" property="role">aut</meta><meta refines="#b" property="role">ill</meta>'
    )
    alone = '<dc:creator opf:role="edt">B. Editor</dc:creator>'
    for said, author in ((two, "A. Writer"), (three, "A. Writer"), (alone, "B. Editor")):
        opf = OPF.replace(creators, said).replace("<package ", '<package xmlns:opf="http://www.idpf.org/2007/opf" ')
        opf = opf.replace('href="text/1.xhtml"', 'href="/OEBPS/text/1.xhtml"')
        (tmp_path / "a.epub").write_bytes(epub({"OEBPS/book.opf": opf}))
        [row], _ = read_all(source(tmp_path / "*"))
        assert (row["author"], row["text"]) == (author, TEXT)


def test_a_date_is_that_of_the_book_and_not_of_its_file(tmp_path: Path) -> None:
    dates = (
        '<dc:date opf:event="modification">2021-02-03</dc:date><dc:date opf:event="publication">1911-05-01</dc:date>'
    )
    for said, day in ((dates, "1911-05-01"), (dates.partition("</dc:date>")[0] + "</dc:date>", None)):
        opf = OPF.replace("<dc:date>1911-05-01T00:00</dc:date>", said)
        opf = opf.replace("<package ", '<package xmlns:opf="http://www.idpf.org/2007/opf" ')
        (tmp_path / "a.epub").write_bytes(epub({"OEBPS/book.opf": opf}))
        [row], _ = read_all(source(tmp_path / "*"))
        assert row["date"] == day


LICENCE = (
    "This eBook is for the use of anyone anywhere.\n\n"
    "Title: The River\n  A Tale\n\nAuthor: A. Writer\n\nLanguage: English\n\n"
)
SMALL_PRINT = "*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*\n\n\n"
TYPED = "Produced by C. Typist and\nthe team at\nhttps://www.pgdp.net\n\n\n"
LAST = "\n\nEnd of the Project Gutenberg EBook of The River\n\n"
BODY = "THE RIVER\n\nby A. Writer\n\n\nIt flows\nand flows.\n\nEnd of the first part.\n\nTHE END"


@pytest.mark.parametrize(
    ("head", "tail", "told"),
    [
        (
            "*** START OF THE PROJECT GUTENBERG EBOOK A ***\n\n",
            "\n*** END OF THE PROJECT GUTENBERG EBOOK A ***\n",
            True,
        ),
        (
            f"*** START OF THIS PROJECT GUTENBERG EBOOK THE\nRIVER ***\n\n{TYPED}",
            f"{LAST}*** END OF THIS PROJECT GUTENBERG EBOOK THE RIVER ***\nno",
            True,
        ),
        (f"{SMALL_PRINT}This etext was prepared by C. Typist\n\n\n", "\n\nEnd of Project Gutenberg's The River", True),
        ("", "", False),
    ],
)
def test_what_stands_around_a_text_of_project_gutenberg_goes(tmp_path: Path, head: str, tail: str, told: bool) -> None:
    before = f"The Project Gutenberg EBook of The River\n\n{LICENCE}" if told else ""
    text = (before + head + BODY + tail).replace("\n", "\r\n")
    (tmp_path / "a.txt").write_bytes(text.encode("utf-8-sig"))
    [row], counts = read_all(source(tmp_path / "*"))
    assert counts == {"in": 1}
    assert row["text"] == BODY
    want = ("The River A Tale", "A. Writer", "English") if told else (None, None, None)
    assert (row["title"], row["author"], row["book_language"]) == want


ENCRYPTED = '<encryption><EncryptedData><EncryptionMethod Algorithm="%s"/></EncryptedData></encryption>'


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"\0binary", "not_text"),
        (b"x" * 200_001, "too_large"),
        (epub({"OEBPS/text/1.xhtml": PAGE % ("x" * 300_000)}), "too_large"),
        (epub({"OEBPS/book.opf": None}), "unreadable"),
        (epub()[:-200], "unreadable"),
        (epub({"META-INF/container.xml": "<container>"}), "unreadable"),
        (epub({"OEBPS/book.opf": OPF.partition("<spine>")[0] + "</package>"}), "no_text"),
        (epub({"META-INF/encryption.xml": ENCRYPTED % "http://www.w3.org/2001/04/xmlenc#aes128-cbc"}), "encrypted"),
    ],
)
def test_what_is_no_book_is_counted_under_a_name(tmp_path: Path, data: bytes, reason: str) -> None:
    (tmp_path / "a").write_bytes(data)
    assert read_all(source(tmp_path / "*", largest=200_000)) == ([], {"in": 1, reason: 1})


def test_fonts_may_be_obfuscated(tmp_path: Path) -> None:
    fonts = ENCRYPTED % "http://www.idpf.org/2008/embedding"
    (tmp_path / "a.epub").write_bytes(epub({"META-INF/encryption.xml": fonts}))
    [row], _ = read_all(source(tmp_path / "*"))
    assert row["text"] == TEXT


def test_no_entity_is_expanded_and_no_name_leads_out_of_the_archive(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("gold")
    entity = f'<!DOCTYPE package [<!ENTITY f SYSTEM "file://{tmp_path}/secret">]>'
    opf = entity + OPF.replace("The River", "&f;").replace("text/1.xhtml", "../../../secret")
    page = entity.replace("package", "html") + (PAGE % "<p>&f; two</p>").partition("<!DOCTYPE html>")[2]
    (tmp_path / "a.epub").write_bytes(epub({"OEBPS/book.opf": opf, "OEBPS/text/2 b.xhtml": page}))
    [row], _ = read_all(source(tmp_path / "*.epub"))
    assert "gold" not in repr(row)
    assert row["text"].endswith("two")


def test_a_damaged_archive_is_read_or_counted_whatever_was_done_to_it(tmp_path: Path) -> None:
    rng, whole = random.Random(1), epub()
    for number in range(300):
        (tmp_path / f"{number}.epub").write_bytes(b"PK\x03\x04" + flipped(rng, whole)[4:])
    rows, counts = read_all(source(tmp_path / "*"))
    assert counts["in"] == 300
    assert 5 < len(rows) < 280


def test_of_an_archive_with_a_flipped_bit_all_of_the_text_is_kept_or_none(tmp_path: Path) -> None:
    whole, rng = epub(), random.Random(4)
    place = whole.index(b"PK\x01\x02")  # the directory of names and places, over which there is no checksum
    for at in [*range(place, len(whole)), *(rng.randrange(place) for _ in range(100))]:
        damaged = bytearray(whole)
        damaged[at] ^= 1 << rng.randrange(8)
        (tmp_path / "a.epub").write_bytes(damaged)
        rows, counts = read_all(source(tmp_path / "*"))
        assert [row["text"] for row in rows] in ([], [TEXT]), at
        assert counts["in"] == 1
