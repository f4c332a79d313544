"""The demo's sources: what is taken of a package, the WARC bytes, the package client's failures, and being killed."""

from __future__ import annotations

import gzip
import os
import random
import shutil
import subprocess
import zlib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fastwarc.warc import ArchiveIterator as FastIterator
from fastwarc.warc import WarcRecordType
from warcio.archiveiterator import ArchiveIterator

from tasks.sources import demo

WRITTEN = datetime(2023, 5, 8, 12, 30, 59, tzinfo=UTC)
KOREAN = '<html lang="ko"><meta charset="euc-kr"><p>데비안 문서'.encode("euc-kr")
FILES = {
    "usr/share/doc/guide/html/zh-CN/start.html": '<html lang="zh"><meta charset="utf-8"><p>开始安装'.encode(),
    "usr/share/doc/guide/html/en/start page.html": b"<html><p>Start here",
    "usr/share/doc/guide/html/en/end.xhtml": b'<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"/>',
    "usr/share/doc/guide/html/de/ende.html": b"<html><p>Ende",
    "usr/share/manual/ko/intro.html": KOREAN,
    "usr/share/doc/guide/style.css": b"p {color: black}",
    "usr/share/doc/guide/picture.png": b"\x89PNG" + bytes(demo.LARGEST_ASSET),
    "usr/share/doc/guide/changelog.gz": gzip.compress(b"first release"),
}


@pytest.fixture
def deb(tmp_path: Path) -> Path:
    """A package file with `FILES` and a symbolic link."""
    if not shutil.which("dpkg-deb"):
        pytest.skip("dpkg-deb is not installed")
    tree = tmp_path / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN" / "control").write_text(
        "Package: guide\nVersion: 1:2.0\nArchitecture: all\nMaintainer: A <a@demo.example>\nDescription: a guide\n"
    )
    for name, body in FILES.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(body)
        os.utime(tree / name, (WRITTEN.timestamp(), WRITTEN.timestamp()))
    (tree / "usr/share/doc/guide/link.html").symlink_to("html/de/ende.html")
    file = tmp_path / "guide_2.0_all.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", tree, file], check=True, stdout=subprocess.DEVNULL)
    return file


@pytest.fixture
def apt_get(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that comes first in PATH; `script` writes its apt-get, which logs its calls."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def script(folder: Path, body: str) -> None:
    (folder / "apt-get").write_text(f'#!/bin/sh\necho "$@" >> {folder}/calls\n{body}\n')
    (folder / "apt-get").chmod(0o755)


def calls(folder: Path) -> int:
    log = folder / "calls"
    return len(log.read_text().splitlines()) if log.exists() else 0


def resources(number: int) -> list[demo.Resource]:
    return [
        demo.Resource(f"https://demo.example/p/{n}.html", "text/html", WRITTEN, f"<p>page {n}".encode())
        for n in range(number)
    ]


def test_pages_are_read_as_they_stand_in_the_package(deb: Path) -> None:
    found = {page.url: page for page in demo.read(deb, demo.Package("guide"), 100)}
    doc = "usr/share/doc/guide/html"
    assert {url: (page.type, page.body) for url, page in found.items()} == {
        "https://demo.example/guide/html/zh-CN/start.html": ("text/html", FILES[f"{doc}/zh-CN/start.html"]),
        "https://demo.example/guide/html/en/start%20page.html": ("text/html", FILES[f"{doc}/en/start page.html"]),
        "https://demo.example/guide/html/en/end.xhtml": ("application/xhtml+xml", FILES[f"{doc}/en/end.xhtml"]),
        "https://demo.example/guide/html/de/ende.html": ("text/html", FILES[f"{doc}/de/ende.html"]),
        "https://demo.example/guide/manual/ko/intro.html": ("text/html", KOREAN),
        "https://demo.example/guide/style.css": ("text/css", FILES["usr/share/doc/guide/style.css"]),
    }
    assert {page.date for page in found.values()} == {WRITTEN}


def test_locales_and_numbers_of_pages_are_chosen_by_path(deb: Path) -> None:
    def urls(paths: str, pages: int) -> list[str]:
        return [page.url for page in demo.read(deb, demo.Package("guide", paths), pages) if page.type in demo.HTML]

    assert {url.split("/")[5] for url in urls("/(zh-CN|en)/", 100)} == {"zh-CN", "en"}
    assert set(urls("", 2)) < set(urls("", 3)) < set(urls("", 100))


def test_a_damaged_package_file_is_named(deb: Path) -> None:
    deb.write_bytes(deb.read_bytes()[:-20])
    with pytest.raises(demo.DemoError, match=r"guide_2\.0_all\.deb: remove it"):
        demo.read(deb, demo.Package("guide"), 100)


def test_the_same_pages_give_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    written = []
    for name in "ab":
        (tmp_path / name).mkdir()
        pages = resources(100)
        random.Random(name).shuffle(pages)
        demo.write_crawl(tmp_path / name, pages)
        written.append({file.name: file.read_bytes() for file in (tmp_path / name).iterdir()})
    assert written[0] == written[1]
    assert len(written[0]) == demo.WARC_FILES


def test_two_other_readers_find_every_record_with_its_digest(tmp_path: Path, deb: Path) -> None:
    pages = {page.url: page for page in [*resources(100), *demo.read(deb, demo.Package("guide"), 100)]}
    demo.write_crawl(tmp_path, list(pages.values()))
    seen, ids = set(), set()
    for file in sorted(tmp_path.glob("*.warc.gz")):
        with file.open("rb") as stream:
            for record in ArchiveIterator(stream, check_digests="raise"):
                ids.add(record.rec_headers["WARC-Record-ID"])
                if record.rec_type != "response":
                    assert record.rec_type == "warcinfo"
                    continue
                page = pages[record.rec_headers["WARC-Target-URI"]]
                assert record.content_stream().read() == page.body
                assert record.http_headers["Content-Type"] == page.type
                assert record.rec_headers["WARC-Date"] == "2023-05-08T12:30:59Z"
                seen.add(page.url)
        with file.open("rb") as stream:
            fast = list(FastIterator(stream, record_types=WarcRecordType.response, parse_http=True))
            assert all(record.headers["WARC-Target-URI"] in pages for record in fast)
    assert seen == set(pages)
    assert len(ids) == len(pages) + demo.WARC_FILES


def test_every_record_is_a_gzip_member_of_its_own(tmp_path: Path) -> None:
    demo.write_crawl(tmp_path, resources(50))
    members = []
    for file in tmp_path.glob("*.warc.gz"):
        rest = file.read_bytes()
        while rest:
            member = zlib.decompressobj(zlib.MAX_WBITS | 16)
            members.append(member.decompress(rest))
            rest = member.unused_data
    assert len(members) == 50 + demo.WARC_FILES
    assert all(member.startswith(b"WARC/1.1\r\n") and member.endswith(b"\r\n\r\n") for member in members)


def test_outdated_lists_are_refreshed_once_without_root(tmp_path: Path, deb: Path, apt_get: Path) -> None:
    script(
        apt_get,
        'case "$*" in *Dir::State::lists*update) ;;\n'
        f"*Dir::State::lists*download*) cp {deb} . ;;\n"
        "*) echo 'E: 404 Not Found' >&2; exit 100 ;; esac",
    )
    apt = demo.Apt(tmp_path / "demo")
    fetched = apt.fetch("guide")
    assert fetched is not None
    assert fetched.read_bytes() == deb.read_bytes()
    assert calls(apt_get) == 3
    assert apt.fetch("guide") == fetched
    assert calls(apt_get) == 3


def test_a_package_that_the_distribution_lacks_is_no_error(tmp_path: Path, apt_get: Path) -> None:
    script(apt_get, 'case "$*" in *update) ;; *) echo "E: Unable to locate package guide" >&2; exit 100 ;; esac')
    assert demo.Apt(tmp_path / "demo").fetch("guide") is None


def test_a_failing_network_is_an_error_with_its_remedy(tmp_path: Path, apt_get: Path) -> None:
    script(apt_get, "echo 'E: Temporary failure resolving' >&2; exit 100")
    with pytest.raises(demo.DemoError, match=r"(?s)sudo apt-get update.*Temporary failure resolving"):
        demo.Apt(tmp_path / "demo").fetch("guide")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, deb: Path, apt_get: Path) -> Path:
    """A demo of one small package and a small standard library."""
    script(apt_get, f"cp {deb} .")
    library = tmp_path / "lib"
    for name in ("a.py", "b/c.py", "b/d.py", "site-packages/e.py", "b/f.txt"):
        (library / name).parent.mkdir(parents=True, exist_ok=True)
        (library / name).write_bytes(f"# {name}\n".encode())
    monkeypatch.setattr(demo, "PACKAGES", (demo.Package("guide"),))
    monkeypatch.setattr(demo, "FEWEST_PAGES", 5)
    monkeypatch.setattr(demo.sysconfig, "get_path", lambda name: str(library))
    return tmp_path / "demo"


def tree(root: Path) -> dict[str, bytes]:
    kept = [root / "crawl", root / "python-stdlib"]
    return {str(file.relative_to(root)): file.read_bytes() for top in kept for file in top.rglob("*") if file.is_file()}


def test_a_second_call_neither_fetches_nor_writes(small: Path, apt_get: Path) -> None:
    demo.main(small)
    before = {file: file.stat().st_mtime_ns for file in small.glob("crawl/*")}
    made = calls(apt_get)
    demo.main(small)
    assert {file: file.stat().st_mtime_ns for file in small.glob("crawl/*")} == before
    assert calls(apt_get) == made


def test_the_standard_library_is_copied_without_installed_packages(small: Path) -> None:
    demo.main(small)
    copied = {path.relative_to(small).as_posix() for path in small.rglob("*.py")}
    assert copied == {f"python-stdlib/{name}" for name in ("a.py", "b/c.py", "b/d.py")}
    assert (small / "python-stdlib/b/c.py").read_bytes() == b"# b/c.py\n"


@pytest.mark.parametrize("harm", ["damaged", "removed", "stamp cut short"])
def test_a_crawl_that_was_changed_is_made_again(small: Path, harm: str) -> None:
    demo.main(small)
    whole = tree(small)
    victim = small / "crawl" / "crawl-03.warc.gz"
    if harm == "damaged":
        victim.write_bytes(victim.read_bytes()[:-1])
    elif harm == "removed":
        victim.unlink()
    else:
        os.truncate(small / "crawl" / demo.STAMP, 10)
    demo.main(small)
    assert tree(small) == whole


def test_a_file_that_the_user_added_stays(small: Path) -> None:
    demo.main(small)
    added = small / "crawl" / "mine" / "crawl-99.warc.gz"
    added.parent.mkdir()
    added.write_bytes(b"mine")
    demo.main(small)
    (small / "crawl" / "crawl-03.warc.gz").unlink()
    demo.main(small)
    assert added.read_bytes() == b"mine"
    assert (small / "crawl" / "crawl-03.warc.gz").exists()


@pytest.mark.parametrize("at", range(5))
def test_being_stopped_before_any_rename_leaves_nothing_that_looks_complete(
    small: Path, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo.main(small)
    whole = tree(small)
    (small / "crawl" / "crawl-00.warc.gz").unlink()
    (small / "python-stdlib" / "a.py").unlink()
    shutil.rmtree(small / "packages")
    rename, seen = Path.rename, []

    def stopping(path: Path, target: Path) -> Path:
        seen.append(path)
        if len(seen) > at:
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", stopping)
        with pytest.raises(KeyboardInterrupt):
            demo.main(small)
    demo.main(small)
    assert tree(small) == whole


def test_too_few_pages_name_the_packages_that_are_missing(
    small: Path, apt_get: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(apt_get, 'case "$*" in *update) ;; *) echo "E: Unable to locate package guide" >&2; exit 100 ;; esac')
    with pytest.raises(demo.DemoError, match="only 0 pages of at least 5; not in this distribution: guide"):
        demo.main(small)
    assert not (small / "crawl").exists()
