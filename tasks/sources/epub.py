"""The text of an EPUB: its chapters in the order of its spine, and what it tells of itself.

An EPUB is a zip of anyone's making: no more of it is unpacked than `largest`, no entity is declared, and names lead
nowhere but into the archive.
"""

from __future__ import annotations

import io
import posixpath
import re
import struct
import unicodedata
import zipfile
import zlib
from contextlib import suppress
from dataclasses import dataclass, field
from html import escape, unescape
from typing import IO, Any
from urllib.parse import unquote

from lxml import etree

from tasks.extraction import http
from tasks.sources import navigation
from tasks.sources.fragments import plain
from tasks.sources.tree import zip_name

_PAGES = ("application/xhtml+xml", "text/html", "application/x-dtbook+xml")
_METADATA = 2**20
"""Bytes of a file that describes the archive, at most."""
_FILES = 10_000
"""Files of an archive, at most."""
_TAIL = 2**16 + 22
"""Bytes in which an archive's end begins, with a comment behind it."""
_APART = ("toc", "cover", "index")
"""Pages of EPUB 2 that are not read."""
_STORED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""How files of an EPUB may be compressed."""
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError, RuntimeError, KeyError, EOFError),
    *(ValueError, OSError),
)
"""What reading an archive of anyone's making raises."""
_PROLOG = re.compile(r"<(?:html|body)\b", re.IGNORECASE)
"""What a page begins with behind its declarations."""
_LITERAL = re.compile(r"<!\[CDATA\[(.*?)\]\]>", re.DOTALL)
"""Text of XML that is written as it is, which HTML knows no more than to pass over."""
_OF_FILES = ("creation", "modification", "conversion")
"""What dates in EPUB 2 are of, beside a publication."""
_OBFUSCATED = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")
"""What fonts are made unreadable by, and no text is."""


class EpubError(ValueError):
    """An archive that cannot be read as a book; `reason`: `unreadable`, `encrypted` or `too_large`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass
class Epub:
    """A book."""

    text: str
    title: str | None = None
    author: str | None = None
    language: str | None = None
    date: str | None = None
    subjects: list[str] = field(default_factory=list)
    missing: int = 0
    """Chapters that it names and has not."""


def read(file: IO[bytes], largest: int) -> Epub:
    """A book. Raises EpubError."""
    try:
        with zipfile.ZipFile(file) as archive:
            _check(archive, file)
            return _Archive(archive, largest).book()
    except _DAMAGE as error:
        raise error if isinstance(error, EpubError) else EpubError("unreadable") from error


def _check(archive: zipfile.ZipFile, file: IO[bytes]) -> None:
    """Raises EpubError or BadZipFile where the directory has not all files under their own names: no checksum is over
    it, and a book would be without a chapter."""
    files = archive.infolist()
    if len(files) > _FILES:
        raise EpubError("too_large")
    file.seek(max(0, file.seek(0, io.SEEK_END) - _TAIL))
    tail = file.read()
    (number,) = struct.unpack_from("<H", tail, tail.rfind(b"PK\5\6") + 10)
    if number not in (len(files), 2**16 - 1):
        raise EpubError("unreadable")
    for each in files:
        with suppress(RuntimeError):  # of a kind that is not read, once its name was held against the file's own
            archive.open(each).close()


class _Archive:
    def __init__(self, archive: zipfile.ZipFile, largest: int) -> None:
        self._archive, self._left = archive, largest
        self._files = {_composed(zip_name(each)): each for each in archive.infolist()}

    def book(self) -> Epub:
        container = self._xml("META-INF/container.xml")
        [place, *_] = [each.get("full-path") or "" for each in _all(container, "rootfile")] or [""]
        package = self._xml(place)
        self._readable()
        items = {each.get("id"): each for each in _all(package, "item")}
        order = [each.get("idref") for each in _all(package, "itemref") if each.get("linear") != "no"]
        folder = posixpath.dirname(place)
        apart = {_place(folder, each) for each in _all(package, "reference") if each.get("type") in _APART}
        chosen = [items[each] for each in order if each in items and _is_chapter(items[each])]
        places = dict.fromkeys(_place(folder, each) for each in chosen)
        read = [each for each in places if each not in apart]
        there = [each for each in read if _composed(each) in self._files]
        chapters = [self._chapter(each) for each in there]
        names = ("title", "date", "language")
        metadata = {
            name: [text for each in _all(package, name) if (text := _text(each)) and not _is_of_the_file(each)]
            for name in names
        }
        return Epub(
            "\n\n".join(filter(None, chapters)),
            next(iter(metadata["title"]), None),
            ", ".join(_authors(package)[:10]) or None,
            next(iter(metadata["language"]), None),
            next(iter(metadata["date"]), None),
            [_text(each) for each in _all(package, "subject")][:50],
            len(read) - len(there) + sum(each not in items for each in order),
        )

    def _readable(self) -> None:
        """Raises EpubError where more than fonts is encrypted."""
        if "META-INF/encryption.xml" not in self._files:
            return
        methods = _all(self._xml("META-INF/encryption.xml"), "EncryptionMethod")
        if any(method.get("Algorithm") not in _OBFUSCATED for method in methods):
            raise EpubError("encrypted")

    def _chapter(self, name: str) -> str:
        page = http.text(self._bytes(name, self._left), "application/xhtml+xml")
        begun = _PROLOG.search(page)
        page = _LITERAL.sub(lambda found: escape(found[1]), page[begun.start() :] if begun else page)
        return plain(page, navigation.of_page)

    def _xml(self, name: str) -> Any:
        parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
        try:
            return etree.fromstring(self._bytes(name, _METADATA), parser)
        except etree.XMLSyntaxError as error:
            raise EpubError("unreadable") from error

    def _bytes(self, name: str, most: int) -> bytes:
        member = self._files[_composed(name)]
        if member.compress_type not in _STORED:
            raise EpubError("unreadable")
        with self._archive.open(member) as file:
            found = file.read(most + 1)
        self._left -= len(found)
        if len(found) > most or self._left < 0:
            raise EpubError("too_large")
        return found


def _composed(name: str) -> str:
    """A name as names are compared: some systems write their accents apart."""
    return unicodedata.normalize("NFC", name)


def _all(tree: Any, name: str) -> list[Any]:
    """Elements of a name in any namespace."""
    return list(tree.iter(f"{{*}}{name}", name))


def _place(folder: str, element: Any) -> str:
    """The name in the archive of what an element leads to."""
    place = posixpath.join(folder, unquote((element.get("href") or "").partition("#")[0]))
    return posixpath.normpath(place).lstrip("/")


def _authors(package: Any) -> list[str]:
    """Who wrote a book: its creators, without those whose role was another one, unless all are."""
    roles = {
        (each.get("refines") or "").removeprefix("#"): _text(each)
        for each in _all(package, "meta")
        if each.get("property") == "role"
    }
    creators = [
        (text, next((value for name, value in each.items() if name.endswith("}role")), roles.get(each.get("id") or "")))
        for each in _all(package, "creator")
        if (text := _text(each))
    ]
    return [name for name, role in creators if role in (None, "", "aut")] or [name for name, _ in creators]


def _is_of_the_file(element: Any) -> bool:
    """Whether a date is that of the making or the change of a file, and not that of a book."""
    return any(name.rpartition("}")[2] == "event" and value in _OF_FILES for name, value in element.items())


def _text(element: Any) -> str:
    """The text of an element, on one line."""
    return " ".join(unescape(element.text or "").split())  # some escape it twice


def _is_chapter(item: Any) -> bool:
    """Whether an item of the spine is text: no table of contents, no cover."""
    kinds = {"nav", "cover-image"} & set((item.get("properties") or "").split())
    return item.get("media-type") in _PAGES and not kinds and bool(item.get("href"))
