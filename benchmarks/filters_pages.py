"""Real pages as a crawl, for `benchmarks/filters.py`: WARC files of equal numbers of pages.

A third are ordinary web pages, most in English, from the archives of HTML pages in a folder of real data; a third the
kernel's documentation, in English; a third pages of the demo's documentation packages, in some forty languages. Which
are taken follows from their addresses. Records say which type a page
has, as Common Crawl's do: datatrove's reader passes over XHTML that does not.
"""

from __future__ import annotations

import hashlib
import subprocess
import tarfile
import uuid
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

from tasks.sources.demo import Apt

PAGES = 8400
ENGLISH = "linux-doc-6.1"
FILES = 12
LANGUAGE_SCORE = 0.65
"""Of English, from which both sides keep a document."""
DATE = "2024-12-31T00:00:00Z"
ENDS = (".html", ".htm", ".xhtml")


def _of_tar(name: str, tar: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
    for member in tar:
        if member.name.endswith(ENDS) and member.isreg() and (file := tar.extractfile(member)):
            yield f"https://{name}.example/{quote(member.name.removeprefix('./'))}", file.read()


def web(folder: Path) -> Iterator[tuple[str, bytes]]:
    """(URL, page) of the archives of web pages."""
    for archive in sorted((folder / "html").glob("*.tar.xz")):
        with tarfile.open(archive) as tar:
            yield from _of_tar(archive.name.partition("_")[0], tar)


def documentation(packages: Sequence[Path]) -> Iterator[tuple[str, bytes]]:
    """(URL, page) of documentation packages."""
    for package in packages:
        command = ["dpkg-deb", "--fsys-tarfile", str(package)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as unpacked:
            assert unpacked.stdout is not None
            with tarfile.open(fileobj=unpacked.stdout, mode="r|") as tar:
                yield from _of_tar(package.name.partition("_")[0], tar)


def _order(page: tuple[str, bytes]) -> bytes:
    return hashlib.sha256(page[0].encode()).digest()


def write(shared: Path, to: Path, pages: int = PAGES) -> int:
    """Write the crawl, at most so many pages, a third of each kind; returns how many there are. Raises DemoError where
    the package of English documentation cannot be had."""
    english = Apt(Path("demo")).fetch(ENGLISH)
    packages = sorted(Path("demo/packages").glob("*.deb"))
    kinds = (
        web(shared),
        documentation([package for package in packages if package == english]),
        documentation([package for package in packages if package != english]),
    )
    chosen: list[tuple[str, bytes]] = []
    for number, kind in enumerate(kinds, 1):
        chosen += sorted(kind, key=_order)[: pages * number // len(kinds) - len(chosen)]
    chosen.sort(key=_order)
    for number in range(FILES):
        with (to / f"crawl-{number:02}.warc.gz").open("wb") as warc:
            for url, body in chosen[number::FILES]:
                warc.write(_record(url, body))
    return len(chosen)


def _record(url: str, body: bytes) -> bytes:
    kind = "application/xhtml+xml" if b"XHTML" in body[:500] else "text/html"
    block = b"HTTP/1.1 200 OK\r\nContent-Type: " + kind.encode() + b"\r\n\r\n" + body
    head = (
        f"WARC/1.1\r\nWARC-Type: response\r\nWARC-Record-ID: <urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, url)}>\r\n"
        f"WARC-Date: {DATE}\r\nWARC-Target-URI: {url}\r\nContent-Type: application/http; msgtype=response\r\n"
        f"WARC-Identified-Payload-Type: {kind}\r\nContent-Length: {len(block)}\r\n\r\n"
    )
    gzip = zlib.compressobj(6, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    return gzip.compress(head.encode() + block + b"\r\n\r\n") + gzip.flush()
