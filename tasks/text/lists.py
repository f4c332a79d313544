"""Files with one entry a line that settings name: lists and tables of words."""

from __future__ import annotations

import gzip
import hashlib
import unicodedata
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_specs.document import SpecError


def digest_of(path: str, setting: str) -> str:
    """The sha256 of a file that a setting names. Raises SpecError where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise SpecError(
            f"{setting}: {path} cannot be read: {error.strerror}; correct the path, or the rights"
        ) from None


@contextmanager
def unchanged(path: str, sha256: str, setting: str) -> Iterator[None]:
    """Raises SpecError where a file that the block has read is not what the run began with, before what the block
    raises: it may be written to while it is read."""
    try:
        yield
    finally:
        if digest_of(path, setting) != sha256:
            raise SpecError(f"{setting}: {path} has changed since this run began; run again")


def lines_of(path: str, setting: str) -> Iterator[tuple[int, str]]:
    """Number and text, in Unicode NFC, of each line of a file, plain or .gz; without those that begin with #. Raises
    SpecError where it is no text."""
    data = Path(path).read_bytes()
    try:
        text = (gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise SpecError(f"{setting}: {path} is no text in UTF-8, plain or .gz: {error}") from None
    for number, line in enumerate(text.splitlines(), 1):
        if not line.startswith("#"):
            yield number, unicodedata.normalize("NFC", line)
