"""Checksums: what is read from a store is held against what its writer recorded, before it is used.

A checksum is XXH3-64, hexadecimal, as fast as memory. That of a column file stands in its manifest entry; a JSON
document and a segment of JSON lines carry their own, over their path in the store and their content: a file that was
put in another's place is none of what belongs there, however whole it is. What earlier versions wrote has none, or one
over the content alone, and is read by that.
"""

from __future__ import annotations

import io
import os
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import orjson
import xxhash

_CHUNK = 2**20
_MARK = "xxh3:"
"""What a checksum inside of a document begins with: a damaged name of its key does not hide it."""
_LINE = len(orjson.dumps({"checksum": _MARK + 16 * "0"}, option=orjson.OPT_APPEND_NEWLINE))
"""Bytes of the line of a checksum; every other one is longer."""


def checksum(data: Any) -> str:
    """Of bytes, or anything that has them as a buffer."""
    return xxhash.xxh3_64_hexdigest(data)


class Summed:
    """A file to write to, and the checksum of what was written."""

    closed = False

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self._state = file, xxhash.xxh3_64()
        self.size = 0

    def write(self, data: Any) -> int:
        self._state.update(data)
        self.size += len(data)
        return self.file.write(data)

    def tell(self) -> int:
        return self.file.tell()

    def flush(self) -> None:
        self.file.flush()

    @property
    def checksum(self) -> str:
        return self._state.hexdigest()


def of_file(path: Path) -> str:
    """The checksum of a file of this machine; computed once a process, as long as the file stays the same one."""
    found = os.stat(path)
    return _of_file(path, found.st_size, found.st_mtime_ns, found.st_ino)


@lru_cache(maxsize=2**14)
def _of_file(path: Path, *_: int) -> str:
    state, buffer = xxhash.xxh3_64(), memoryview(bytearray(_CHUNK))
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            state.update(buffer[:count])
    return state.hexdigest()


def sealed(document: dict[str, Any], path: str) -> bytes:
    """A JSON document with a checksum over the rest of it, to be written at a path of a store."""
    plain = orjson.loads(orjson.dumps(document))
    return orjson.dumps(plain | {"checksum": _of(path, _plainly(plain))}, option=orjson.OPT_INDENT_2)


def unsealed(data: bytes, path: str, always: bool = False) -> Any:
    """A JSON document without its checksum, which it has `always`, or not where an earlier version wrote it. Raises
    ValueError where it is none, or not what was written there."""
    document = orjson.loads(data)
    if isinstance(document, dict):
        stated = document.pop("checksum", "" if always else None)
        if any(isinstance(value, str) and value.startswith(_MARK) for value in document.values()):
            raise ValueError("its checksum is another")
        if stated is not None:
            _hold(stated, path, _plainly(document))
    elif always:
        raise ValueError("it has no checksum")
    return document


def _plainly(document: dict[str, Any]) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)


def sealed_lines(lines: bytes, path: str) -> bytes:
    """JSON lines behind one with their checksum, to be written at a path of a store."""
    return orjson.dumps({"checksum": _of(path, lines)}, option=orjson.OPT_APPEND_NEWLINE) + lines


def unsealed_lines(data: bytes, path: str) -> tuple[io.BytesIO, bool]:
    """JSON lines without that of the checksum, and whether there was one. Raises ValueError where they are not what was
    written there; there are some."""
    if not data:
        raise ValueError("it is empty")
    lines, sealed = io.BytesIO(data), data.find(b"\n", 0, _LINE) == _LINE - 1
    if sealed:
        first = orjson.loads(lines.read(_LINE))
        _hold(first.get("checksum") if isinstance(first, dict) else None, path, memoryview(data)[_LINE:])
    return lines, sealed


def _of(path: str, content: Any) -> str:
    """The checksum of what is written at a path; without one, as earlier versions wrote it."""
    state = xxhash.xxh3_64(path.encode(errors="surrogateescape"))
    state.update(content)
    return _MARK + state.hexdigest()


def _hold(stated: Any, path: str, content: Any) -> None:
    """Raise ValueError where content at a path has another checksum than is stated."""
    if stated not in (_of(path, content), _of("", content)):
        raise ValueError("its checksum is another, or it belongs in another place")
