"""Lists of addresses that people and projects publish: domains, whole addresses, words in addresses.

A list of millions of lines is kept as sorted 64-bit hashes, 8 bytes each; an address is looked up in microseconds,
whatever it holds: of it the first `LONGEST` characters count.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import IO, Any
from urllib.parse import unquote

import numpy as np
import regex
import xxhash

from data_specs.sources import UrlList
from tasks.engine.hosts import LONGEST, split
from tasks.engine.reading import SourceError
from tasks.sources.compression import compression_of
from tasks.sources.files import absolute, opened

_LABELS = 128
"""Parts of a host name, at most (RFC 1035 allows 127)."""
_PHRASE = 8
"""Words of a line in a list of words, at most."""
_BATCH = 2**16
_WORD = re.compile(r"[^\W_]+")
_MARKED_WORD = regex.compile(r"[\p{L}\p{M}\p{N}]+")
"""The same with marks, as vowels of Indic scripts are."""
_HOST = re.compile(r"[a-z0-9._\x80-\U0010ffff-]+|\[[0-9a-f:.]+\]")
"""What a host name is, of letters of ASCII or of others that no rule could turn into them, or an address of IPv6."""
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def address(url: str) -> str:
    """An address as addresses are compared."""
    host, rest = split(url)
    return host + rest.rstrip("/")


def words(url: str) -> str:
    """The words of an address, lower case, with spaces between them."""
    plain = unquote(url[:LONGEST]).lower()
    if plain.isascii():
        return " ".join(_WORD.findall(plain))
    return " ".join(_MARKED_WORD.findall(unicodedata.normalize("NFC", plain)))[:LONGEST]


def _hashed(texts: Sequence[str]) -> np.ndarray:
    return np.array([xxhash.xxh3_64_intdigest(text.encode(errors="surrogatepass")) for text in texts], np.uint64)


class Listed:
    """A list, read."""

    def __init__(self, name: str, settings: UrlList) -> None:
        """Raises SourceError where the file cannot be read, or a line is none of its kind."""
        self.name, self.settings = name, settings
        self.phrases: set[int] = set()
        """Numbers of words that lines of a list of words have."""
        self._keys: Callable[[str], list[str]] = {
            "domains": domains,
            "urls": lambda url: [address(url)],
            "words": self._runs,
        }[settings.kind]
        with opened(absolute(settings.path)) as file:
            entries = self._entries(file)
            parts = [np.empty(0, np.uint64)]
            while batch := list(islice(entries, _BATCH)):
                parts.append(_hashed(batch))
        self.hashes = np.unique(np.concatenate(parts))

    def __len__(self) -> int:
        return len(self.hashes)

    def matches(self, urls: Sequence[str | None]) -> list[bool]:
        """Which addresses are listed."""
        keys = [self._keys(url) if url else [] for url in urls]
        if not len(self.hashes):
            return [False] * len(urls)
        hashes = _hashed([key for each in keys for key in each])
        places = np.minimum(self.hashes.searchsorted(hashes), len(self.hashes) - 1)
        found = self.hashes[places] == hashes
        ends = np.cumsum([len(each) for each in keys]).tolist()
        return [bool(found[end - len(each) : end].any()) for each, end in zip(keys, ends, strict=True)]

    def _entries(self, file: IO[bytes]) -> Iterator[str]:
        """What the lines of a file stand for."""
        head = file.read(2)
        file.seek(0)
        stream: Any = gzip.GzipFile(fileobj=file) if head == b"\x1f\x8b" else file
        try:
            for number, line in enumerate(stream, 1):
                text = line.decode("utf-8-sig" if number == 1 else "utf-8", "replace").strip()
                if _CONTROL.search(text) or (number == 1 and compression_of(line)):
                    raise self._wrong(number, "no text; lists are plain or .gz, in UTF-8", text)
                if text and not text.startswith("#") and (entry := self._entry(text, number)):
                    yield entry
        except (EOFError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise SourceError(f"lists.{self.name}: {self.settings.path} is damaged: {error}; fetch it again") from None

    def _entry(self, text: str, number: int) -> str:
        """What a line stands for; empty where it is no word, as a symbol alone."""
        if self.settings.kind == "words":
            entry = words(text)
            count = len(entry.split())
            if count > _PHRASE:
                raise self._wrong(number, f"more than {_PHRASE} words", text)
            self.phrases |= {count} - {0}
            return entry
        urls = self.settings.kind == "urls"
        host, rest = split(text if urls else text.removeprefix("*.").removeprefix("."))
        if not _HOST.fullmatch(host) or not (urls or not rest.strip("/")):
            raise self._wrong(number, "no address" if urls else "no domain", text)
        return address(text) if urls else host

    def _wrong(self, number: int, what: str, text: str) -> SourceError:
        return SourceError(f"lists.{self.name}: line {number} of {self.settings.path} is {what}: {text[:80]}")

    def _runs(self, url: str) -> list[str]:
        """Words in a row, as many as the lines of the list have."""
        found = words(url).split()
        return [
            " ".join(found[start : start + count])
            for count in sorted(self.phrases)
            for start in range(len(found) - count + 1)
        ]


def domains(url: str) -> list[str]:
    """A host and the domains above it."""
    labels = split(url)[0].split(".")[-_LABELS:]
    return [".".join(labels[start:]) for start in range(len(labels))]


def list_digest(name: str, settings: UrlList) -> str:
    """The sha256 of a list's file; with what international names are read by, where it may hold some. Raises
    SourceError where it cannot be read."""
    try:
        with opened(absolute(settings.path)) as file:
            state, plain = hashlib.sha256(), True
            while block := file.read(2**20):
                state.update(block)
                plain = plain and block.isascii()
            state.update(b"" if plain else b"UTS 46" + b", marks in words" * (settings.kind == "words"))
            return state.hexdigest()
    except OSError as error:
        what = f"lists.{name}.{settings.kind}: {settings.path} cannot be read"
        raise SourceError(
            f"{what}: {error.strerror or error}; correct the path, or the rights; every node reads it"
        ) from error


def same(name: str, settings: UrlList, expected: str) -> Listed:
    """A list whose file has the digest that was expected: by `list_digest` once it is read, as one far away may change
    between two of its blocks. Raises SourceError where it has another, or cannot be read."""
    found = Listed(name, settings)
    if list_digest(name, settings) != expected:
        raise SourceError(f"lists.{name}: {settings.path} has changed since this run began; run again")
    return found
