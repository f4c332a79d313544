"""Checkpoints of a run: `runs/<run>/checkpoints/`, crash-safe and independent of world size and ZeRO stage.

`<step>.<rank>.safetensors` holds a rank's fragments (weights and the optimizer's state, float32), `<step>.<rank>.json`
its manifest, `<step>.json` the list. A rank hashes what it writes while writing and commits its manifest; rank 0
commits the list last, so a checkpoint without a list does not exist. Loading verifies every hash: the newest checkpoint
that verifies is taken, and finding none is an error.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import orjson

from data_specs.training import Training
from tasks.storage.store import Store
from training.channel_sums import Sums
from training.rows import Cursor

CHUNK = 16 * 2**20
"""Bytes hashed at once."""


class CheckpointError(RuntimeError):
    """A run cannot be resumed; the message says why and what to do."""


@dataclass(frozen=True)
class Checkpoint:
    """A list: the state of the run, and its shards as (file, bytes, sha256)."""

    path: str
    cursor: Cursor
    plan: str
    model: dict[str, Any]
    shards: tuple[tuple[str, int, str], ...]
    sums: Sums | None = None
    """Of the losses of all steps, per channel; earlier versions did not keep them."""
    updates: int | None = None
    """How often the optimizer has moved the weights, also before the training began with another's state; earlier
    versions did not write it."""


def folder(run: str) -> str:
    return f"runs/{run}/checkpoints"


def path_of(run: str, step: int) -> str:
    """The manifest of a checkpoint, which is committed last."""
    return f"{folder(run)}/{step:08d}.json"


def steps(store: Store, run: str) -> list[int]:
    """Steps of the run's checkpoints, newest first; whether they verify is not looked at."""
    names = (re.fullmatch(r"(\d{8})\.json", name) for name in store.list(folder(run)))
    return sorted((int(match[1]) for match in names if match), reverse=True)


def bytes_of_weight(training: Training) -> int:
    """Bytes that a checkpoint has of each weight, at most: itself, two moments, its average; Muon keeps one moment."""
    return 12 + (4 if training.average else 0)


def kept(training: Training, steps: int) -> int:
    """How many checkpoints there are after so many steps: the newest, and milestones before them."""
    settings = training.checkpoint
    saved = {steps, *_multiples(settings.every, steps), *_multiples(settings.milestones, steps)}
    newest = set(sorted(saved)[-settings.keep :])
    return len(newest.union(_multiples(settings.milestones, steps)))


def _multiples(every: int, steps: int) -> range:
    return range(every, steps + 1, every) if every else range(0)


def write_shard(
    store: Store, run: str, step: int, rank: int, state: Iterable[tuple[str, int, dict[str, np.ndarray]]]
) -> int:
    """Commit a rank's fragments (parameter, start in it, float32 arrays) as safetensors, then their manifest -> bytes
    written."""
    arrays: dict[str, np.ndarray] = {}
    starts: dict[str, int] = {}
    for name, start, tensors in state:
        starts[name] = start
        arrays |= {f"{kind}:{name}": np.ascontiguousarray(array, "<f4") for kind, array in tensors.items()}
    header: dict[str, Any] = {"__metadata__": {"starts": orjson.dumps(starts).decode()}}
    end = 0
    for key, array in arrays.items():
        header[key] = {"dtype": "F32", "shape": [len(array)], "data_offsets": [end, end + array.nbytes]}
        end += array.nbytes
    text = orjson.dumps(header)
    text += b" " * (-len(text) % 8)
    name, sha = f"{step:08d}.{rank:05d}", hashlib.sha256()
    parts: list[Any] = [len(text).to_bytes(8, "little"), text, *arrays.values()]
    with store.writer(f"{folder(run)}/{name}.safetensors") as file:
        for part in parts:
            sha.update(part)
            file.write(part)
    size = 8 + len(text) + end
    store.commit(f"{folder(run)}/{name}.json", orjson.dumps([f"{name}.safetensors", size, sha.hexdigest()]))
    return size


def commit(
    store: Store,
    run: str,
    cursor: Cursor,
    plan: str,
    model: dict[str, Any],
    world: int,
    keep: int,
    sums: Sums | None = None,
    milestones: int = 0,
    updates: int | None = None,
) -> str:
    """Once all `world` ranks have written: commit the list and remove all but the newest `keep` and those of each
    `milestones`-th step -> its path."""
    step = cursor.step
    shards = [orjson.loads(store.read(f"{folder(run)}/{step:08d}.{rank:05d}.json")) for rank in range(world)]
    content: dict[str, Any] = {"cursor": asdict(cursor), "plan": plan, "model": model, "shards": shards, "sums": sums}
    content |= {} if updates is None else {"updates": updates}
    path = path_of(run, step)
    store.commit(path, orjson.dumps(content | {"sha256": _sha256(content, path)}))
    for old in steps(store, run)[keep:]:
        if not (milestones and old % milestones == 0):
            remove(store, run, old, old)
    return path


def load(store: Store, run: str, step: int) -> Checkpoint:
    """The list of a checkpoint. Raises CheckpointError where it does not verify."""
    path = path_of(run, step)
    try:
        content = orjson.loads(store.read(path))
        stated = content.pop("sha256")
    except (FileNotFoundError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path}: the list is unreadable ({error})") from error
    if stated not in (_sha256(content, path), _sha256(content)):
        raise CheckpointError(f"{path}: the list is not what was written there (its sha256 differs)")
    cursor = content["cursor"] | {"skipped": tuple(map(tuple, content["cursor"]["skipped"]))}
    shards = tuple(map(tuple, content["shards"]))
    more = content.get("sums"), content.get("updates")
    return Checkpoint(path, Cursor(**cursor), content["plan"], content["model"], shards, *more)


def verify(store: Store, run: str, shards: Iterable[tuple[str, int, str]]) -> None:
    """Raises CheckpointError when a shard is missing, cut or altered."""
    for name, size, stated in shards:
        path, sha, read = f"{folder(run)}/{name}", hashlib.sha256(), 0
        try:
            with store.open(path) as file:
                while chunk := file.read(CHUNK):
                    sha.update(chunk)
                    read += len(chunk)
        except FileNotFoundError as error:
            raise CheckpointError(f"{path}: missing") from error
        if read != size or sha.hexdigest() != stated:
            raise CheckpointError(f"{path}: not what was written ({read} of {size} bytes, or its sha256 differs)")


def verified(store: Store, run: str, step: int) -> Reader:
    """The arrays of the checkpoint of a step. Raises CheckpointError where it does not verify."""
    found = load(store, run, step)
    verify(store, run, found.shards)
    return Reader(store, run, found)


def remove(store: Store, run: str, first: int, last: int) -> None:
    """Remove the checkpoints of steps first .. last, both included, and what was written of one; lists first."""
    names = [name for name in store.list(folder(run)) if f"{first:08d}" <= name[:8] <= f"{last:08d}"]
    for name in sorted(names, key=len):
        store.remove(f"{folder(run)}/{name}")


class Reader:
    """The arrays of a checkpoint by parameter and place, over all its shards; memory-mapped from a local store."""

    def __init__(self, store: Store, run: str, checkpoint: Checkpoint) -> None:
        self.checkpoint, self.path = checkpoint, checkpoint.path
        self.parts: dict[str, list[tuple[int, dict[str, np.ndarray]]]] = {}
        for name, _, _ in checkpoint.shards:
            path = f"{folder(run)}/{name}"
            local = store.local(path)
            data = np.memmap(local, np.uint8, "r") if local else np.frombuffer(store.read(path), np.uint8)
            length = int.from_bytes(data[:8].tobytes(), "little")
            header = orjson.loads(data[8 : 8 + length].tobytes())
            starts = orjson.loads(header.pop("__metadata__")["starts"])
            body = data[8 + length :]
            arrays: dict[str, dict[str, np.ndarray]] = {parameter: {} for parameter in starts}
            for key, entry in header.items():
                kind, parameter = key.split(":", 1)
                arrays[parameter][kind] = body[slice(*entry["data_offsets"])].view("<f4")
            for parameter, start in starts.items():
                self.parts.setdefault(parameter, []).append((start, arrays[parameter]))

    def read(self, parameter: str, start: int, numel: int) -> dict[str, np.ndarray]:
        """Elements start .. start+numel of a flattened parameter: `weight`, what the optimizer keeps of it, `average`
        where there is one; float32 [numel]. Raises CheckpointError where the checkpoint lacks some of them."""
        kinds = sorted({kind for _, arrays in self.parts.get(parameter, []) for kind in arrays})
        out = {kind: np.empty(numel, np.float32) for kind in kinds}
        filled = 0
        for at, arrays in self.parts.get(parameter, []):
            first, last = max(start, at), min(start + numel, at + len(arrays["weight"]))
            if first < last:
                filled += last - first
                for kind, array in arrays.items():
                    out[kind][first - start : last - start] = array[first - at : last - at]
        if filled != numel:
            raise CheckpointError(f"{self.path}: holds {filled} of {numel} elements of {parameter} from {start}")
        return out


def _sha256(content: dict[str, Any], path: str = "") -> str:
    """Of a list and of its place in the store; without it, as earlier versions wrote it."""
    return hashlib.sha256(path.encode() + orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()
