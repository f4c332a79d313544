"""Numbered files of a folder, `<folder>/000001.json` and on, of which none is written over.

Beside each its number is noted, as an empty file of the folder `noted`: where the newest ones are lost they leave no
gap, and what they hold would be made otherwise without a word. Earlier versions noted none.
"""

from __future__ import annotations

from typing import Any

from tasks.storage.checksums import sealed
from tasks.storage.store import Store


class Numbered:
    """The numbered files of one folder."""

    def __init__(self, store: Store, folder: str) -> None:
        self.store, self.folder = store, folder

    def path(self, number: int) -> str:
        """The path of a file."""
        return f"{self.folder}/{number:06d}.json"

    def note(self, number: int) -> str:
        """The path of the note that a file is there."""
        return f"{self.folder}/noted/{number:06d}"

    def numbers(self) -> tuple[list[int], list[int]]:
        """Numbers of the files that are there, in order, and of those that are gone."""
        noted = self._numbers(f"{self.folder}/noted")  # first: another process may add one meanwhile
        there = self._numbers(self.folder)
        return there, sorted({*range(1, max([0, *noted, *there]) + 1)} - {*there})

    def _numbers(self, folder: str) -> list[int]:
        names = (name.removesuffix(".json") for name in self.store.list(folder))
        return sorted(int(name) for name in names if name.isdecimal())

    def create(self, number: int, document: dict[str, Any]) -> bool:
        """Write a file where there is none of its number; whether this process did."""
        path = self.path(number)
        if not self.store.create(path, sealed(document, path)):
            return False
        self.store.create(self.note(number), b"")
        return True
