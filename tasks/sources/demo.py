"""The demo's sources: real pages from documentation packages as WARC files, and code from Python's standard library.

`python -m tasks.sources.demo` fetches the packages by name with apt-get, as any user and without root, reads them with
dpkg-deb and writes `demo/crawl/*.warc.gz` and `demo/python-stdlib/`. Which pages and files are taken follows from their
paths alone, dates are those in the package, record ids come from digests: the same packages give the same bytes (with
the same zlib). Each folder appears whole or not at all, and carries a stamp by which the next call finds it complete.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import uuid
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

PAGES = 3_600
"""HTML pages in the crawl: 35 s of fast extraction on one core, 820,000 Chinese tokens of an 8k BPE."""
FEWEST_PAGES = 3_000
"""Below this the demo is refused, with the names of the packages that are missing."""
WARC_FILES = 12
ASSETS = 5
"""Style sheets, pictures and plain texts per package: what a crawl also brings, and extraction must count out."""
LARGEST_ASSET = 64 * 2**10
MODULES = 600
"""Files of the standard library, about 10 MB."""
TYPES = {
    ".html": "text/html",
    ".htm": "text/html",
    ".xhtml": "application/xhtml+xml",
    ".css": "text/css",
    ".js": "text/javascript",
    ".txt": "text/plain",
    ".png": "image/png",
    ".gif": "image/gif",
    ".svg": "image/svg+xml",
}
STAMP = "SOURCES.json"
"""In each folder: what it was made of, and the SHA-256 of every file."""
HTML = {"text/html", "application/xhtml+xml"}


class DemoError(Exception):
    """The demo's data cannot be had; the message says why and what to do."""


@dataclass(frozen=True)
class Package:
    """A documentation package and what is taken of it."""

    name: str
    paths: str = ""
    """Regular expression that a page's path must contain."""
    pages: int = PAGES
    """At most so many pages, those whose path's digest is smallest."""


PACKAGES = (
    Package("debian-handbook", "/(en-US|zh-CN|zh-TW|ja-JP|de-DE|fr-FR|es-ES|ru-RU|ar-MA|ko-KR|hr-HR)/"),
    Package("installation-guide-amd64", "/(en|zh_CN|ja|ko|de|fr|es|ru|el|vi)/"),
    Package("debian-reference-en"),
    Package("debian-reference-zh-cn"),
    Package("debian-reference-zh-tw"),
    Package("debian-reference-ja"),
    Package("debian-reference-de"),
    Package("debian-faq"),
    Package("debian-faq-zh-cn"),
    Package("maint-guide"),
    Package("maint-guide-zh-cn"),
    Package("maint-guide-zh-tw"),
    Package("debian-edu-doc-zh-cn"),
    Package("kicad-doc-zh"),
    Package("developers-reference"),
    Package("debian-policy"),
    Package("git-doc", pages=60),
    Package("apache2-doc", pages=260),  # declares euc-kr, iso-8859-1 and utf-8
    Package("libreoffice-help-zh-cn"),  # the last one fills up to PAGES
)


@dataclass(frozen=True)
class Resource:
    """What a web server would answer for one file of a package."""

    url: str
    type: str
    date: datetime
    body: bytes


class Apt:
    """The system's package client; where its lists are absent or outdated, with fresh lists of its own in `folder`."""

    def __init__(self, folder: Path) -> None:
        if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
            raise DemoError(
                "apt-get and dpkg-deb (Debian, Ubuntu) are needed; elsewhere use the README's docker command"
            )
        self.cache = folder / "packages"
        self.lists = folder / "apt-lists"
        self.cache.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.lists, ignore_errors=True)

    def fetch(self, name: str) -> Path | None:
        """The package file of this name, or None where the distribution, by fresh lists, has no such package."""
        if cached := sorted(self.cache.glob(f"{name}_*.deb")):
            return cached[-1]
        partial = _fresh(self.cache / "partial")
        done = self._run("download", name, cwd=partial)
        if done.returncode and not self.lists.exists():
            self._refresh()
            done = self._run("download", name, cwd=partial)
        if done.returncode and re.search(r"Unable to locate package|no candidate", done.stderr):
            return None
        found = list(partial.glob("*.deb"))
        if done.returncode or not found:
            raise DemoError(f"apt-get download {name} failed; see whether `sudo apt-get update` does:\n{done.stderr}")
        return found[0].rename(self.cache / found[0].name)

    def _refresh(self) -> None:
        print("demo: refreshing the package lists", flush=True)
        (self.lists / "partial").mkdir(parents=True)
        if (done := self._run("update")).returncode:
            raise DemoError(f"apt-get update failed; see whether `sudo apt-get update` does:\n{done.stderr}")

    def _run(self, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        own = {"State::lists": self.lists.resolve(), "Cache::pkgcache": "", "Cache::srcpkgcache": ""}
        options = [f"-oDir::{key}={value}" for key, value in own.items() if self.lists.exists()]
        return subprocess.run(
            ["apt-get", "-q", "-oAcquire::Retries=3", "-oAPT::Sandbox::User=", *options, *arguments],
            cwd=cwd,
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )


def read(deb: Path, package: Package, pages: int) -> list[Resource]:
    """At most `pages` HTML pages of a package file, and `ASSETS` other files, by the digest of their addresses."""
    unpacked = subprocess.run(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE, check=False)
    if unpacked.returncode:
        raise DemoError(f"dpkg-deb cannot read {deb}: remove it, then run again")
    found = []
    with tarfile.open(fileobj=io.BytesIO(unpacked.stdout)) as files:
        for file in files:
            media = _wanted(file, package)
            if media and (stream := files.extractfile(file)):
                date = datetime.fromtimestamp(int(file.mtime), UTC)
                found.append(Resource(_url(package.name, file.name), media, date, stream.read()))
    found.sort(key=_order)
    return [r for r in found if r.type in HTML][:pages] + [r for r in found if r.type not in HTML][:ASSETS]


def _wanted(file: tarfile.TarInfo, package: Package) -> str | None:
    """The media type of a file that may be taken."""
    media = TYPES.get(PurePosixPath(file.name).suffix)
    fits = re.search(package.paths, file.name) if media in HTML else file.size <= LARGEST_ASSET
    return media if fits and file.isreg() else None


def _url(package: str, path: str) -> str:
    path = path.removeprefix("./").removeprefix("usr/share/").removeprefix("doc/").removeprefix(f"{package}/")
    return f"https://demo.example/{package}/{quote(path)}"


def _order(resource: Resource) -> bytes:
    return hashlib.sha256(resource.url.encode()).digest()


def record(resource: Resource) -> bytes:
    """A WARC 1.1 response record (ISO 28500:2017), a gzip member of its own."""
    http = (
        f"HTTP/1.1 200 OK\r\nContent-Type: {resource.type}\r\nContent-Length: {len(resource.body)}\r\n"
        f"Last-Modified: {format_datetime(resource.date, usegmt=True)}\r\n\r\n"
    ).encode()
    payload = base64.b32encode(hashlib.sha1(resource.body).digest()).decode()
    return _member(
        http + resource.body,
        "response",
        resource.date,
        f"WARC-Target-URI: {resource.url}\r\nWARC-Payload-Digest: sha1:{payload}\r\n"
        "Content-Type: application/http; msgtype=response\r\n",
    )


def _member(block: bytes, kind: str, date: datetime, headers: str) -> bytes:
    name = uuid.uuid5(uuid.NAMESPACE_URL, headers + hashlib.sha256(block).hexdigest())
    head = (
        f"WARC/1.1\r\nWARC-Type: {kind}\r\nWARC-Record-ID: <urn:uuid:{name}>\r\n"
        f"WARC-Date: {date:%Y-%m-%dT%H:%M:%SZ}\r\n{headers}Content-Length: {len(block)}\r\n\r\n"
    )
    gzip = zlib.compressobj(6, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    return gzip.compress(head.encode() + block + b"\r\n\r\n") + gzip.flush()


def write_crawl(folder: Path, resources: Sequence[Resource]) -> None:
    """`WARC_FILES` files, each beginning with a warcinfo record; each resource's file and place follow from its URL."""
    parts: list[list[Resource]] = [[] for _ in range(WARC_FILES)]
    for resource in sorted(resources, key=_order):
        parts[_order(resource)[-1] % WARC_FILES].append(resource)
    latest = max(resource.date for resource in resources)
    for number, part in enumerate(parts):
        about = f"software: sluice\r\nformat: WARC File Format 1.1\r\npart: {number + 1} of {WARC_FILES}\r\n"
        with (folder / f"crawl-{number:02}.warc.gz").open("wb") as warc:
            warc.write(_member(about.encode(), "warcinfo", latest, "Content-Type: application/warc-fields\r\n"))
            warc.writelines(map(record, part))


def build_crawl(folder: Path, apt: Apt) -> dict[str, Any]:
    """Fetch `PACKAGES` and write the crawl into `folder`; returns what it was made of."""
    resources: list[Resource] = []
    made, missing, total = [], [], 0
    for number, package in enumerate(PACKAGES, 1):
        deb = apt.fetch(package.name)
        if deb is None:
            missing.append(package.name)
            print(f"demo: {package.name} is not in this distribution; going on without it")
            continue
        taken = read(deb, package, min(package.pages, PAGES - total))
        pages = sum(resource.type in HTML for resource in taken)
        total += pages
        resources += taken
        version = subprocess.run(["dpkg-deb", "--field", deb, "Version"], capture_output=True, text=True, check=True)
        made.append({"name": package.name, "version": version.stdout.strip(), "sha256": _sha256(deb), "pages": pages})
        print(f"demo: {package.name} {made[-1]['version']}: {pages:,} pages ({number} of {len(PACKAGES)})", flush=True)
    if total < FEWEST_PAGES:
        raise DemoError(
            f"only {total:,} pages of at least {FEWEST_PAGES:,}; not in this distribution: {', '.join(missing)}. "
            "Use Debian 12, or the README's docker command"
        )
    write_crawl(folder, resources)
    return {"packages": made, "missing": missing, "pages": total, "records": len(resources)}


def build_modules(folder: Path, library: Path) -> dict[str, Any]:
    """Copy `MODULES` source files of the standard library, those whose path's digest is smallest."""
    files = [path.relative_to(library) for path in library.rglob("*.py") if path.is_file() and not path.is_symlink()]
    sources = [path for path in files if not {"site-packages", "dist-packages"} & set(path.parts)]
    chosen = sorted(sources, key=lambda path: hashlib.sha256(path.as_posix().encode()).digest())[:MODULES]
    for path in chosen:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes((library / path).read_bytes())
    return {"modules": len(chosen)}


def make(folder: Path, recipe: dict[str, str], build: Callable[[Path], dict[str, Any]]) -> None:
    """Let `build` fill `folder` unless it holds what this recipe wrote; files that others put there stay.

    It is built beside its place and renamed: a kill leaves the old folder, or none, and so a new build.
    """
    stamp = _stamp(folder)
    if stamp.get("recipe") == recipe and all(_sha256(folder / name) == known for name, known in stamp["files"].items()):
        return
    partial = _fresh(folder.with_name(f".{folder.name}.partial"))
    facts = build(partial)
    files = {name: _sha256(partial / name) for name in _names(partial)}
    (partial / STAMP).write_text(json.dumps({"recipe": recipe, **facts, "files": files}, indent=1) + "\n")
    for name in _names(folder) - set(files) - set(stamp.get("files", ())) - {STAMP}:
        (partial / name).parent.mkdir(parents=True, exist_ok=True)
        os.link(folder / name, partial / name)
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _stamp(folder: Path) -> dict[str, Any]:
    try:
        stamp: dict[str, Any] = json.loads((folder / STAMP).read_bytes())
    except (FileNotFoundError, ValueError):  # never made, or cut short by a power failure
        return {}
    return stamp


def _names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def _sha256(path: Path) -> str | None:
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fresh(path: Path) -> Path:
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


def main(root: Path = Path("demo")) -> None:
    """Make what is missing of `root`/crawl and `root`/python-stdlib. Raises DemoError."""
    root.mkdir(exist_ok=True)
    with (root / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        recipe = {"module": str(_sha256(Path(__file__)))}
        make(root / "crawl", recipe, lambda folder: build_crawl(folder, Apt(root)))
        library = Path(sysconfig.get_path("stdlib"))
        make(root / "python-stdlib", {**recipe, "python": sys.version}, lambda folder: build_modules(folder, library))
    print(f"demo: {root / 'crawl'} and {root / 'python-stdlib'} are complete")


if __name__ == "__main__":
    try:
        main()
    except DemoError as error:
        sys.exit(f"demo: {error}")
