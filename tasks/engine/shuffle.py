"""What is shuffled between the steps of a corpus stage: outputs in slices, one for each partition or shard.

A step's key is made of the digests of the slices that it reads, which stand in manifests. So what would be read again
as it was is not done again, and rounds are at an end where one has the keys of the one before.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tasks.storage.manifest import Index


class SliceGroup:
    """The slices that one reduction or scatter reads: a key made of their digests, and where they lie."""

    def __init__(self, name: str) -> None:
        self.state = hashlib.blake2b(name.encode(), digest_size=16)
        self.places, self.numbers = array("q"), array("q")

    @property
    def key(self) -> str:
        return self.state.hexdigest()


@dataclass(frozen=True)
class Shuffle:
    """Outputs in slices, and the order in which they are read."""

    folder: str
    index: Index
    order: Sequence[int]
    uids: Sequence[int]
    """What each output is called in the keys of what reads it."""

    def grouped(self, name: str, into: Mapping[str, str] | None = None) -> dict[str, SliceGroup]:
        """All slices by the partition or shard that they are for, or by what that goes `into`."""
        result: dict[str, SliceGroup] = {}
        for place in self.order:
            for number, (target, found) in enumerate(self.index.sliced(place)):
                reader = into[target] if into else target
                if reader not in result:
                    result[reader] = SliceGroup(f"{name}:{reader}")
                group = result[reader]
                group.state.update(f"{self.uids[place]}:{found};".encode())
                group.places.append(place)
                group.numbers.append(number)
        return result

    def slices(self, group: SliceGroup) -> tuple[tuple[str, int, str], ...]:
        """(file, number of the slice in it, its digest)."""
        parts = zip(group.places, group.numbers, strict=True)
        return tuple(
            (f"{self.folder}/{self.index.keys[place]}.arrow", number, self.index.slice_digest(place, number))
            for place, number in parts
        )
