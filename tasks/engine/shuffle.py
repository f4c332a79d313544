"""What is shuffled between the steps of a corpus stage: outputs in slices, one for each partition or shard.

A step's key is made of the digests of the slices that it reads, which stand in manifests. So what would be read again
as it was is not done again, and rounds are at an end where one has the keys of the one before.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tasks.storage.manifest import Index

Slice = tuple[str, int, str]
"""A file, the number of a slice in it, and the slice's digest."""


class SliceGroup:
    """The slices that one reduction, recall or scatter reads: a key made of their digests, and where they lie."""

    def __init__(self, name: str) -> None:
        self.state = hashlib.blake2b(name.encode(), digest_size=16)
        self.places, self.numbers = array("q"), array("q")
        self.starts: list[tuple[int, Shuffle]] = []
        """The shuffles that slices are of, and where those of each begin."""

    @property
    def key(self) -> str:
        return self.state.hexdigest()

    def slices(self) -> Iterator[Slice]:
        ends = [start for start, _ in self.starts[1:]] + [len(self.places)]
        for (start, shuffle), end in zip(self.starts, ends, strict=True):
            for place, number in zip(self.places[start:end], self.numbers[start:end], strict=True):
                yield shuffle.path(place), number, shuffle.index.slice_digest(place, number)


@dataclass(frozen=True)
class Shuffle:
    """Outputs in slices, and the order in which they are read."""

    folder: str
    index: Index
    order: Sequence[int]
    uids: Sequence[int]
    """What each output is called in the keys of what reads it."""

    def path(self, place: int) -> str:
        return f"{self.folder}/{self.index.keys[place]}.arrow"


def grouped(shuffles: Sequence[Shuffle], name: str, into: Mapping[str, str] | None = None) -> dict[str, SliceGroup]:
    """All slices by the partition or shard that they are for, or by what that goes `into`."""
    result: dict[str, SliceGroup] = {}
    for shuffle in shuffles:
        for place in shuffle.order:
            for number, (target, found) in enumerate(shuffle.index.sliced(place)):
                reader = into[target] if into else target
                if reader not in result:
                    result[reader] = SliceGroup(f"{name}:{reader}")
                group = result[reader]
                if not group.starts or group.starts[-1][1] is not shuffle:
                    group.starts.append((len(group.places), shuffle))
                group.state.update(f"{shuffle.uids[place]}:{found};".encode())
                group.places.append(place)
                group.numbers.append(number)
    return result
