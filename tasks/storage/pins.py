"""Pins: what was learned from the corpus, held fast.

`pins/<lineage>/000001.json` and on pin one learned thing each (a classifier, the tokenizer, thresholds, the held-out
table, the number of groups of a folder source) to a file in the store and its digest. None is written over: of drivers
that learn at once each one's stays. Earlier versions wrote all of them into `pins/<lineage>.json`. A run learns only
what has no pin, so a night's new pages never change a model, and with it everything below; only an explicit retrain
moves a pin, and with it those that were learned from its values (thresholds of a scorer's scores, and of a held-out
table all that must not have seen its documents), in whichever run comes to them. Older pins are kept.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Collection, Mapping
from contextlib import suppress
from copy import copy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from data_specs.amounts import plural
from tasks.storage import cache
from tasks.storage.numbered import Numbered
from tasks.storage.store import DamagedError, Store

Pin = dict[str, Any]
"""{"path", "sha256", "facts", "run", "time", "ingredients"}; for a number instead of a file: {"value", ...}; `was`: the
sha256 before texts were taken down from the file, where any were."""


class Pins:
    """The pins of one lineage (the spec's name)."""

    def __init__(self, store: Store, lineage: str, retrain: Collection[str] = ()) -> None:
        """`retrain`: what is to be learned anew; without a pin until then."""
        self.store = store
        self.retrain = set(retrain)
        self.folder, self._earlier = f"pins/{lineage}", f"pins/{lineage}.json"
        self.history: dict[str, list[Pin]] = {}
        self._files = Numbered(store, self.folder)
        numbers, gone = self._files.numbers()
        self._count = len(numbers)
        if gone:
            raise self._lost(self._files.path(gone[0]), "gone")
        try:
            with suppress(FileNotFoundError):
                self.history = store.json(self._earlier)
            for found in store.json_each([*map(self._files.path, numbers)]):
                self.history.setdefault(found["name"], []).append(found["pin"])
        except DamagedError as error:
            raise self._lost(error.paths[0], "damaged") from error

    def _lost(self, path: str, how: str) -> DamagedError:
        return DamagedError(
            f"{path} is {how}: bring it back from a copy. What it pins is not learned anew unasked: once all of "
            f"{self.folder} and {self._earlier} is removed, the next run learns all of it again, and computes what "
            "depends on it",
            path,
        )

    def get(self, name: str) -> Pin | None:
        """The newest pin of a name; None where there is none, or it is to be learned anew."""
        found = self.history.get(name)
        return found[-1] if found and name not in self.retrain and not self.moved(name) else None

    def moved(self, name: str) -> list[str]:
        """The pins whose values the newest pin of a name was learned from (`ingredients.models`) and that are others
        now, so that it is to be learned anew."""
        found = self.history.get(name)
        models = found[-1].get("ingredients", {}).get("models", {}) if found else {}
        now = {model: self.get(model) for model in models}
        return [model for model, pin in now.items() if pin is None or learned_digest(pin) != models[model]]

    def set(self, name: str, pin: Pin) -> None:
        """Commit a new pin; what another run pinned meanwhile stays, and this run goes on with its own."""
        pin = pin | {"time": datetime.now(UTC).isoformat(timespec="seconds")}
        self.retrain.discard(name)
        self.history.setdefault(name, []).append(pin)
        while True:
            self._count += 1
            if self._files.create(self._count, {"name": name, "pin": pin}):
                return

    @staticmethod
    def lineages(store: Store) -> list[str]:
        """Every lineage that has pins."""
        return sorted({*store.folders("pins"), *(name.removesuffix(".json") for name in store.list("pins"))})

    def of(self, digests: Mapping[str, str | None]) -> Pins:
        """The pins as they were when the newest ones had these digests, to be read; without those that had another one
        and are not there."""
        found = copy(self)
        found.retrain, found.history = set(), {}
        for name, history in self.history.items():
            known = [pin.get("sha256") for pin in history]
            if name in digests and digests[name] in known:
                found.history[name] = history[: len(known) - known[::-1].index(digests[name])]
        return found

    def files(self, name: str) -> dict[str, str]:
        """{path in the store: sha256} of a pinned file; {} without a pin."""
        pin = self.get(name)
        return {pin["path"]: pin["sha256"]} if pin else {}


def learned_digest(pin: Pin) -> str:
    """The sha256 of what was learned, whatever was taken down from it since: what is learned from a pin's values does
    not move with that."""
    return str(pin.get("was", pin["sha256"]))


def joins(source: str) -> str:
    """The pin of the share of a source's documents that are held out, where the source came after these were frozen."""
    return f"held_out_of_{source}"


def without(pin: Pin) -> str:
    """The shards that a pin was not learned from, as they were quarantined then; "" where there were none."""
    left_out = pin["facts"].get("without") if "facts" in pin else None
    if not left_out:
        return ""
    more = ", ..." if left_out["count"] > len(left_out["shards"]) else ""
    return f"learned without {plural(left_out['count'], 'shard')} ({', '.join(left_out['shards'])}{more})"


def fetched(store: Store, path: str, sha256: str) -> Path:
    """A pinned file on this machine, its digest verified; files of an object store are copied once to a folder of one's
    own. Raises DamagedError where the file is missing or is not what was pinned."""
    local = store.local(path)
    try:
        if local is None:
            local = _copy(path, sha256)
            if not local.exists() or _digest(local) != sha256:
                part = local.with_suffix(f".{secrets.token_hex(4)}")
                try:
                    part.write_bytes(store.read(path))
                    os.replace(part, local)
                finally:
                    part.unlink(missing_ok=True)
        found = _digest(local)
    except FileNotFoundError:
        why = f"{path} is pinned but gone from the store; bring it back, or learn it anew with --retrain"
        raise DamagedError(why, path) from None
    if found != sha256:
        why = f"{path} has sha256 {found[:16]}..., pinned was {sha256[:16]}...; bring it back, or learn it anew"
        raise DamagedError(f"{why} with --retrain", path)
    return local


def _copy(path: str, sha256: str) -> Path:
    """Where this machine keeps its copy of a pinned file of an object store."""
    return cache.folder("models") / f"{sha256}{Path(path).suffix}"


def forget_copy(path: str, sha256: str) -> None:
    """Remove the copy that this machine may have of a file that was pinned."""
    _copy(path, sha256).unlink(missing_ok=True)


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
