"""Files that are being written, and which of them a killed writer left.

A file is written beside its place, under a name that tells who writes it: `.<name>.<where>-<process>-<random>`. Its
writer is dead where that process is gone from here, or began long after the file was last written. Of a writer
elsewhere (another machine or container that shares the file system), and where the name does not tell, this is unknown:
what was not written for a day is taken for left.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import socket
import time
from functools import cache
from pathlib import Path

import psutil

_NAME = re.compile(r"\..+\.(?:(?P<where>[0-9a-f]{8})-)?(?P<process>[0-9]+)-[0-9a-f]{8}")
_FORGOTTEN = 86_400.0
"""Seconds after which a writer elsewhere is taken for dead."""
_SKEW = 3600.0
"""Seconds by which the clock of a file server may differ from ours."""


def temporary(target: Path) -> Path:
    """A name for a file that this process writes and then renames to `target`."""
    return target.with_name(f".{target.name}.{_here()}-{os.getpid()}-{secrets.token_hex(4)}")


def left(name: str, written: float) -> bool:
    """Whether a name is that of a temporary file, last written at that time, whose writer is dead."""
    match = _NAME.fullmatch(name)
    if match is None:
        return False
    if match["where"] != _here():
        return written < time.time() - _FORGOTTEN
    try:
        return psutil.Process(int(match["process"])).create_time() > written + _SKEW
    except psutil.NoSuchProcess:
        return True


@cache
def _here() -> str:
    """This machine's name and this container's processes, digested: process numbers are those of one such place."""
    try:
        processes = os.readlink("/proc/self/ns/pid")
    except OSError:
        processes = ""
    return hashlib.blake2b(f"{socket.gethostname()} {processes}".encode(), digest_size=4).hexdigest()
