"""Names of files that outlive how patterns are written.

A file's key is its path below the folder that a source's patterns share. Were that all, another pattern, or a wider
one, would rename every file, and all would be read anew. So a run notes the folder, and a later one keeps it where
files still bear the keys that they had: `/crawl/` for `/crawl/*.warc.gz`, also once the patterns are `/crawl/*.warc.gz`
and `/more/*.warc.gz`, which share `/` alone. What lies outside it has a key that leads out: `../more/a.warc.gz`. Where
the data moved, keys below the new folder are the old ones, and it is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Self


def below(root: str, key: str) -> str:
    """The path of a key: `/data/b/x` of `../b/x` below `/data/a/`. A name such as `..//80` leads nowhere: `//` is how a
    byte is written that is no UTF-8."""
    while key.startswith("../") and not key.startswith("..//"):
        root, key = root[:-1].rpartition("/")[0] + "/", key[3:]
    return root + key


def relative(path: str, root: str) -> str | None:
    """The key of a path below a folder, or beside it: `../b/x` of `/data/b/x` below `/data/a/`; None where
    they are of two file systems."""
    if path.startswith(root):
        return path.removeprefix(root)
    folders, parts = root.split("/")[:-1], path.split("/")
    shared = next((n for n, (one, other) in enumerate(zip(folders, parts, strict=False)) if one != other), len(folders))
    if shared < (2 if "://" in root else 1):  # the scheme, or the `/` that local paths begin with
        return None
    return "../" * (len(folders) - shared) + "/".join(parts[shared:])


@dataclass(frozen=True)
class Noted:
    """What the last run noted of a source's files."""

    patterns: str
    """A digest of the patterns, as they were written."""
    root: str
    """The folder that keys were relative to; "" where it is not noted."""
    offset: str
    """That folder from the one that the patterns shared: "" where it was the same, `a/`, or `../`."""
    keys: frozenset[str]

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Self | None:
        """What the entry of a source in a listing says; None where an earlier version wrote it."""
        names = entry.get("names")
        return cls(**names, keys=frozenset(entry["files"])) if names else None

    def folder(self, shared: str, patterns: str, keys: Callable[[str], Collection[str] | None]) -> str:
        """The folder that keys are relative to now, where the patterns share `shared`. `keys` gives the keys of the
        files below a folder, None where they cannot be said of it."""
        kept = below(shared, self.offset)
        if patterns == self.patterns:
            return kept
        folders = [folder for folder in dict.fromkeys((self.root, kept, shared)) if folder]
        known = {folder: len(self.keys & set(keys(folder) or ())) for folder in folders}
        best = max(folders, key=known.__getitem__, default=shared)
        return best if known.get(best) else shared
