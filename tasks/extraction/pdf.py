"""From a PDF with a text layer to its text, in the order in which it is read.

Runs inside the watched child (`tasks.extraction.child`): PDFium, which Chromium shows PDFs with, is C++ and reads what
anyone wrote. It gives the characters of a page line by line, in the order in which they were set, which is that of
reading where a program wrote the page; a page that was scanned has none. Here lines become paragraphs: what repeats at
the heads and feet of pages goes, and so do page numbers; words that were divided are put together.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pypdfium2
from pypdfium2 import raw

EDGE = 2
"""Lines at the head and at the foot of a page that may be running titles."""
OFTEN = 0.2, 3
"""Share of the pages, and pages at least, on which one stands."""
FULL = 0.85
"""Share of a page's long lines from which a line goes on in the next one."""
NARROW = 30
"""Characters of a line that goes on, at least: columns of text are wider."""
FEWEST = 20
"""Letters and digits that a page has which was not scanned: a scan may bear the stamp of a library."""
_DIVIDED = "\ufffe"
"""What PDFium writes where a hyphen ends a line, in the place of hyphen and line end."""
_LETTERS = re.compile(r"[^\W_]")
_ROMAN = r"(?=[ivxlc])c{0,3}(?:xc|xl|l?x{0,3})(?:ix|iv|v?i{0,3})"
_NUMBER = re.compile(rf"[\W_]*(?:\d{{1,4}}|{_ROMAN}|{_ROMAN.upper()})(?:\s*(?:/|of|von|de)\s*\d{{1,4}})?[\W_]*")
"""The number of a page: `ill` and `civil` are none."""
_WIDE = re.compile(r"[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef]")
_BULLET = re.compile(r"[•‣◦▪·–—*-]\s|\(?(?:\d{1,3}|[a-zA-Z])[.)]\s|[一二三四五六七八九十]+、")
_ENDED = re.compile(r"[.!?:;。！？：；…][\"'”’)\]」』]*$")
_LIGATURES = {0xFB00: "ff", 0xFB01: "fi", 0xFB02: "fl", 0xFB03: "ffi", 0xFB04: "ffl", 0xFB05: "st", 0xFB06: "st"}
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_BROKEN = re.compile(rf"([^\W\d_]*){_DIVIDED}([^\W\d_]*)")


def extract(path: str, pages: int, longest: int) -> dict[str, Any]:
    """`text`, `title`, `author`, `pages` and `pages_without_text` of a file; or `reason`, why there are none:
    `unreadable`, `encrypted` (it asks for a password), `too_large` (more pages, or characters of text), and
    `no_text_layer` (its pages are pictures)."""
    try:
        document = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        locked = error.err_code in (raw.FPDF_ERR_PASSWORD, raw.FPDF_ERR_SECURITY)
        return {"reason": "encrypted" if locked else "unreadable"}
    count = len(document)
    if count > pages:
        return {"reason": "too_large"}
    texts, size = list[str](), 0
    for number in range(count):
        texts.append(_page(document, number))
        size += len(texts[-1])
        if size > longest:
            return {"reason": "too_large"}
    scanned = sum(len(_LETTERS.findall(text)) < FEWEST for text in texts)
    if scanned == count:
        return {"reason": "no_text_layer" if any(map(_has_pictures, _some(document))) else "no_text"}
    properties = document.get_metadata_dict()
    return {
        "text": joined([text.translate(_LIGATURES).splitlines() for text in texts]),
        "title": properties.get("Title") or None,
        "author": properties.get("Author") or None,
        "pages": count,
        "pages_without_text": scanned,
    }


def _page(document: pypdfium2.PdfDocument, number: int) -> str:
    """The characters of a page; none of one that cannot be read."""
    try:
        page = document[number]
        try:
            layer = page.get_textpage()
            try:
                return layer.get_text_range()
            finally:
                layer.close()
        finally:
            page.close()
    except pypdfium2.PdfiumError:
        return ""


def _some(document: pypdfium2.PdfDocument) -> Iterator[Any]:
    """The first pages that can be read."""
    for number in range(min(len(document), 10)):
        try:
            yield document[number]
        except pypdfium2.PdfiumError:
            continue


def _has_pictures(page: Any) -> bool:
    return any(True for _ in page.get_objects(filter=[raw.FPDF_PAGEOBJ_IMAGE], max_depth=3))


def joined(pages: Sequence[Sequence[str]]) -> str:
    """Lines of pages as paragraphs, a line each."""
    lines = [[line for line in map(_squeezed, page) if line] for page in pages]
    running = _running(lines)
    kept = [_without_edges(page, running) for page in lines]
    known = Counter(word for page in kept for line in page for word in _WORD.findall(line.lower()))
    paragraphs: list[str] = []
    goes_on = False
    for page in kept:
        widths = sorted(_width(part) for line in page for part in line.split(_DIVIDED))
        full = max(NARROW, FULL * widths[-1 - len(widths) // 10]) if widths else 0
        for place, line in enumerate(page):
            if goes_on and not _BULLET.match(line) and (place or not line[:1].isupper()):
                paragraphs[-1] += ("" if _touch(paragraphs[-1], line) else " ") + line
            else:
                paragraphs.append(line)
            goes_on = (
                _width(line.rpartition(_DIVIDED)[2]) >= full
                and len(page) > 1
                and (place < len(page) - 1 or not _ENDED.search(line))
            )
    return "\n".join(_BROKEN.sub(lambda found: _undivided(found, known), each) for each in paragraphs)


def _undivided(found: re.Match[str], known: Counter[str]) -> str:
    """A word that a line's end divides: as the document writes it elsewhere, else without the hyphen."""
    first, last = found[1], found[2]
    whole, hyphened = (known[f"{first}{hyphen}{last}".lower()] for hyphen in ("", "-"))
    return f"{first}-{last}" if hyphened > whole or not last[:1].islower() else first + last


def _running(pages: Sequence[Sequence[str]]) -> set[str]:
    """Lines that stand at the head or the foot of many pages, whatever numbers are in them."""
    counts = Counter(form for page in pages for form in {*map(_form, (*page[:EDGE], *page[-EDGE:]))})
    least = max(OFTEN[1], OFTEN[0] * len(pages))
    return {form for form, count in counts.items() if count >= least}


def _without_edges(page: Sequence[str], running: set[str]) -> list[str]:
    """A page without what runs along at its head and its foot, and without its number."""
    first = _edge(page[:EDGE], running)
    return list(page[first : len(page) - _edge(page[first:][::-1][:EDGE], running)])


def _edge(lines: Sequence[str], running: set[str]) -> int:
    """How many lines, from a page's edge inward, run along there or are its number, of which there is one."""
    numbered = False
    for count, line in enumerate(lines):
        runs = _form(line) in running
        if not runs and (numbered or not _NUMBER.fullmatch(line)):
            return count
        numbered = numbered or not runs
    return len(lines)


def _form(line: str) -> str:
    return re.sub(r"\d+", "0", line)


def _squeezed(line: str) -> str:
    return " ".join(line.split())


def _width(line: str) -> int:
    """How wide a line is: characters of Chinese and Japanese take the place of two."""
    return len(line) + len(_WIDE.findall(line))


def _touch(before: str, after: str) -> bool:
    """Whether nothing stands between two lines: between Chinese characters there is no space."""
    return bool(_WIDE.match(before[-1:]) and _WIDE.match(after[:1])) or before.endswith(_DIVIDED)
