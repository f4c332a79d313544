"""What a local pattern does not choose, where its writer may have meant it to."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator

MAGIC = re.compile(r"[*?\[]")
"""What makes a pattern of a path."""


def remedy(pattern: str) -> str:
    """What to do about a pattern that chooses no file."""
    parts = pattern.split("/")
    for number, part in enumerate(parts):
        if "[" in part and os.path.exists(os.path.expanduser("/".join(parts[: number + 1]))):
            parts[number] = glob.escape(part)
    if (meant := "/".join(parts)) != pattern:
        return f"a path of this name is there: write {meant}"
    if re.search(r"\{[^{}]*,[^{}]*\}", pattern):
        return "braces choose nothing: write a list of patterns"
    return "correct `paths`"


def linked(folder: str, rest: str) -> Iterator[str]:
    """Links to folders, of which the wildcards of a pattern pass over what is in them; `folder` is what the pattern
    spells out of its path, with a slash at its end, `rest` what comes below."""
    parts = rest.split("/")
    for number, part in enumerate(parts):
        if "**" in part:
            for here, names, _ in os.walk(folder):
                yield from (path for name in names if os.path.islink(path := os.path.join(here, name)))
            return
        if number < len(parts) - 1 and MAGIC.search(part):
            below = "/".join(parts[: number + 1])
            yield from (path for path in glob.iglob(glob.escape(folder) + below) if _leads_on(path))


def _leads_on(path: str) -> bool:
    return os.path.islink(path) and os.path.isdir(path)
