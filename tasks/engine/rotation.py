"""Which shards a source has, once its corpus has a version: those of the version stay as they are, what is new joins.

Files that were put into a shard stay in it, also where a new file would now be grouped with them, and those that have
left the listing stay in the corpus: their documents are in the store. What goes is what the source's settings no longer
choose, and a file that has changed is read anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tasks.engine.reading import InputShard
from tasks.engine.stage import digest
from tasks.engine.versions import Versions, shard_of


@dataclass
class Arranged:
    """The shards of one source."""

    shards: list[InputShard] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)
    """Keys of files that have left the listing and stay in the corpus."""
    lost: set[str] = field(default_factory=set)
    """Keys of files that have left and do not stay, as another file of their shard has changed."""


@dataclass
class Known:
    """The shards of one source as a version has them, in order."""

    names: list[tuple[str, str]] = field(default_factory=list)
    """Name and digest of each."""
    places: list[tuple[Any, int]] = field(default_factory=list)
    """Of each the list that it is in, and its row there."""
    keys: list[str | None] = field(default_factory=list)
    """Of each the key of its documents."""
    generations: list[int] = field(default_factory=list)
    """Of each the number of its generation."""

    def shard(self, number: int) -> tuple[InputShard, str]:
        """A shard, and the path of its documents; "" where there are none."""
        table, row = self.places[number]
        [found] = table.slice(row, 1).to_pylist()
        key = self.keys[number]
        return shard_of(found), f"{found['folder']}/{key}" if key else ""


def known(versions: Versions) -> dict[str, Known]:
    """The shards of the last accepted version, by source."""
    found: dict[str, Known] = {}
    for number, generation in enumerate(versions.accepted["generations"] if versions.accepted else ()):
        table = versions.shards(generation["names"])
        keys = versions.keys(generation["keys"]["documents"])
        columns = (table[name].to_pylist() for name in ("source", "name", "digest"))
        for row, (source, name, content) in enumerate(zip(*columns, strict=True)):
            known_here = found.setdefault(source, Known())
            known_here.names.append((name, content))
            known_here.places.append((table, row))
            known_here.keys.append(keys[row])
            known_here.generations.append(number)
    return found


def generations(before: Mapping[str, Known]) -> dict[tuple[str, str, str], int]:
    """Source, name and digest of each shard of a version -> the number of its generation."""
    return {
        (source, name, content): number
        for source, known in before.items()
        for (name, content), number in zip(known.names, known.generations, strict=True)
    }


def arranged(
    listed: Sequence[InputShard], before: Known | None, chooses: Callable[[str], bool], version: int
) -> Arranged:
    """The shards of a source, of which `before` were in the last version, and which lists these now. `chooses` says of
    the key of a file that has left whether settings would choose it; `version` is the next one's number."""
    if before is None:
        return Arranged(list(listed))
    found = Arranged()
    named = {(shard.name, shard.digest): shard for shard in listed}
    files = {part.key: part for shard in listed for part in shard.parts}
    covered: set[str] = set()
    for number, name in enumerate(before.names):
        shard = named.pop(name, None) or _standing(before, number, files, chooses, found)
        if shard:
            found.shards.append(shard)
            covered |= {part.key for part in shard.parts}
    found.lost -= covered
    found.shards += _new(named.values(), covered, version)
    return found


def _standing(
    before: Known, number: int, files: dict[str, Any], chooses: Callable[[str], bool], found: Arranged
) -> InputShard | None:
    """A shard of the last version that is listed otherwise now, as it stands; None where it does not."""
    shard, stored = before.shard(number)
    gone = {part.key for part in shard.parts if part.key not in files}
    if not all(map(chooses, gone)) or (gone and not stored):
        return None
    if any(part.key in files and files[part.key].digest != part.digest for part in shard.parts):
        found.lost |= gone
        return None
    found.gone |= gone
    parts = [
        replace(part, path=files[part.key].path, written=files[part.key].written) if part.key in files else part
        for part in shard.parts
    ]
    return replace(shard, parts=tuple(parts), stored=stored if gone else "")


def _new(listed: Iterable[InputShard], covered: set[str], version: int) -> list[InputShard]:
    """Listed shards without the files that stand in others."""
    shards = []
    for shard in listed:
        parts = tuple(part for part in shard.parts if part.key not in covered)
        if len(parts) == len(shard.parts):
            shards.append(shard)
        elif parts:
            content = digest([[part.key, part.digest] for part in parts])
            shards.append(InputShard(shard.source, f"{shard.name}-v{version}", content, parts))
    return shards
