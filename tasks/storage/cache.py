"""Folders of one's own on this machine, for what costs time to have again and may be lost at any moment.

They lie in the user's cache folder (XDG Base Directory Specification), never in the temporary folder, where anybody can
put a file under the name that is looked for. Whoever reads such a file holds it against a digest all the same.
"""

from __future__ import annotations

import os
import stat
from functools import cache as once
from pathlib import Path
from tempfile import TemporaryDirectory

from tasks.storage.store import StoreError


def place(name: str) -> Path | None:
    """Where a folder of that name belongs: `sluice/NAME` in $XDG_CACHE_HOME or ~/.cache; None where there is
    neither."""
    homes = (os.environ.get("XDG_CACHE_HOME", ""), os.path.expanduser("~/.cache"))
    found = next(filter(os.path.isabs, homes), None)
    return Path(found) / "sluice" / name if found else None


def folder(name: str) -> Path:
    """The folder, for its owner alone; where it cannot be made, a temporary one of this process. Raises StoreError
    where it is a link or another user's."""
    found = place(name)
    if found is None:
        return _temporary(name)
    for part in (found.parent, found):
        try:
            part.mkdir(mode=0o700, parents=True, exist_ok=True)
        except FileExistsError:
            pass  # a link or a file, which is refused
        except OSError:
            return _temporary(name)
        facts = part.lstat()
        if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid():
            raise StoreError(f"{part} is a link, or not yours; remove it, or set XDG_CACHE_HOME to another place")
        if facts.st_mode & 0o077:
            part.chmod(0o700)
    return found


def _temporary(name: str) -> Path:
    made = Path(_process_folder().name) / name
    made.mkdir(mode=0o700, exist_ok=True)
    return made


@once
def _process_folder() -> TemporaryDirectory[str]:
    """Gone when the process ends."""
    return TemporaryDirectory(prefix="sluice-")
