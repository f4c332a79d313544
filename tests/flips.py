"""Bits flipped in the files of a store, one at a time, and whether the reader that a run uses for them notices."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from flows.run import Run
from tasks.engine.counts import totals
from tasks.engine.next_version import tables
from tasks.engine.reading import REFUSED, refused_path
from tasks.engine.snapshot import Snapshot
from tasks.engine.takedowns import Takedowns
from tasks.engine.versions import COUNTS, Versions
from tasks.planning.files import read_json, read_tokens
from tasks.storage import checksums, columns
from tasks.storage.columns import Recorded
from tasks.storage.manifest import Manifest
from tasks.storage.pins import Pins, fetched
from tasks.storage.store import DamagedError, Store
from training import checkpoint, log
from training.checkpoint import CheckpointError
from training.rows import Plan, PlanError, Rows

Case = tuple[str, Callable[[], Any]]
"""A file's path in the store, and what reads it into values that can be compared."""
NOTICED, SAME, SILENT, WRONG = "noticed", "same values", "other values, silently", "another kind of error"
DAMAGE = (DamagedError, CheckpointError, PlanError)


def kinds(run: Run, training: str | None = None) -> dict[str, list[Case]]:
    """Every kind of file of the store of a run that made a plan, and trained as `runs/<training>`."""
    store, found = run.store, dict[str, list[Case]]()
    for name, output in run.pipeline.outputs.items():
        kind = name if name in ("documents", "tokens") else "columns"
        names = tuple(output.index.digests)
        for place in range(len(output.index.keys) if output.folders else 0):
            path = output.path(place)
            ids = run.pipeline.outputs["documents"].index.digests["id"][place].tobytes().hex()
            recorded = output.index.recorded(place, ids, names)
            found.setdefault(kind, []).append((path, partial(_table, store, path, names, recorded)))
            found.setdefault(f"{kind}, in parts", []).append((path, partial(_parts, store, path, names, recorded)))
    for folder in sorted({path.rpartition("/manifest/")[0] for path in store.walk() if "/manifest/" in path}):
        kind = "samples" if "/samples@" in folder else "shuffles"
        entries = {e["key"]: e for e in Manifest(store, folder).entries() if kind == "samples" or "slices" in e}
        for name in store.list(folder):
            if (entry := entries.get(name.partition(".")[0])) and not entry.get("removed"):
                read = _slices if "slices" in entry else _sample
                found.setdefault(kind, []).append((f"{folder}/{name}", partial(read, store, f"{folder}/{name}", entry)))
        for name in store.list(f"{folder}/manifest"):
            read = partial(_manifest, store, folder)
            found.setdefault("manifests", []).append((f"{folder}/manifest/{name}", read))
    pins = run.pipeline.pins.folder
    found["pins"] = [
        (path, lambda: Pins(store, run.spec.name).history) for path in store.walk(pins) if path.endswith(".json")
    ]
    for pin in [pin for pins in run.pipeline.pins.history.values() for pin in pins if "path" in pin]:
        read = partial(_pinned, store, pin["path"], pin["sha256"])
        found.setdefault("pinned files", []).append((pin["path"], read))
    found["refused records"] = refused(run)
    found["listings"] = [(path, partial(store.json, path)) for path in store.walk("listings")]
    found["takedowns"] = takedowns(store)
    found |= _versioned(Versions(store, run.spec.name))
    return found | _planned(run) | (_trained(store, training) if training else {}) | _documents(store)


def takedowns(store: Store) -> list[Case]:
    """Takedowns, by which readers refuse what they read."""
    return [(path, lambda: Takedowns(store).all) for path in store.walk("takedowns") if path.endswith(".json")]


def _versioned(versions: Versions) -> dict[str, list[Case]]:
    """The versions of a corpus: what each says, the lists of shards and keys that they share, and what was counted."""
    found: dict[str, list[Case]] = {}
    for facts in versions.all():
        snapshot, path = Snapshot(versions, facts), f"{versions.folder}/{facts['version']:06d}.json"
        found.setdefault("versions", []).append((path, partial(versions.read, facts["version"])))
        for generation in facts["generations"]:
            name, keys = generation["names"], generation["keys"]
            path = f"{versions.folder}/shards/{name}.parquet"
            found.setdefault("lists of shards", []).append((path, partial(_shards, versions, name)))
            for key in keys.values():
                path = f"{versions.folder}/keys/{key}.bin"
                found.setdefault("lists of keys", []).append((path, partial(versions.keys, key)))
            path = f"{versions.folder}/totals/{keys[COUNTS]}.json"
            found.setdefault("totals", []).append((path, partial(_totals, versions, snapshot, keys[COUNTS])))
        output = snapshot.outputs[COUNTS]
        found.setdefault("counts", []).extend(
            (output.path(place), partial(_counted, snapshot, place)) for place in range(len(snapshot.shards))
        )
    return found


def refused(run: Run) -> list[Case]:
    """Files of refused records."""
    output = run.pipeline.outputs["documents"]
    paths = {refused_path(output.path(place)): found for place, (_, found) in output.index.refused.items()}
    return [
        (path, partial(_parts, run.store, path, REFUSED.names, Recorded(None, found))) for path, found in paths.items()
    ]


def _planned(run: Run) -> dict[str, list[Case]]:
    store, folder = run.store, run.record["plan"]
    plan = Plan.read(store, folder)
    rows = [(None, "held_out.arrow"), *((n, f"rows-{n}-00000.arrow") for n in range(len(plan.phases)))]
    tokens = [
        (path, partial(lambda *given: read_tokens(*given).to_pylist(), store, path, checksum))
        for path, checksum in zip(plan.files, plan.checksums or [""] * len(plan.files), strict=True)
    ]
    return {
        "plan rows": [(f"{folder}/{name}", partial(_rows, store, folder, phase)) for phase, name in rows],
        "plan.json": [(f"{folder}/plan.json", partial(read_json, store, f"{folder}/plan.json"))],
        "tokens, in training": tokens,
    }


def _trained(store: Store, training: str) -> dict[str, list[Case]]:
    logs = [f"runs/{training}/log/{name}" for name in store.list(f"runs/{training}/log")]
    folder, step = checkpoint.folder(training), checkpoint.steps(store, training)[0]
    names = [name for name in store.list(folder) if name.startswith(f"{step:08d}") and ".00000.json" not in name]
    return {
        "log": [(path, partial(log.segment, store, path)) for path in logs],
        "checkpoints": [(f"{folder}/{name}", partial(_checkpoint, store, training, step)) for name in names],
    }


def _documents(store: Store) -> dict[str, list[Case]]:
    """Other documents of JSON."""
    names = ("recipe.json", "run.json", "summary.json")
    return {name: [(p, partial(store.json, p)) for p in store.walk() if p.endswith(f"/{name}")] for name in names}


def _table(store: Store, path: str, names: Sequence[str], recorded: Recorded) -> Any:
    return columns.digests(columns.read(store, path, names, recorded))


def _parts(store: Store, path: str, names: Sequence[str], recorded: Recorded) -> Any:
    with columns.opened(store, path, recorded) as part:
        return columns.digests(part(names, 0, 10_000))


def _sample(store: Store, path: str, entry: dict[str, Any]) -> Any:
    return columns.digests(columns.read(store, path, (), Recorded(None, entry.get("checksum", ""), entry["columns"])))


def _slices(store: Store, path: str, entry: dict[str, Any]) -> Any:
    batches = columns.read_slices(store, path, dict(enumerate(entry["slices"].values())))
    return [pa.Table.from_batches([batch]).to_pylist() for batch in batches]


def _shards(versions: Versions, name: str) -> Any:
    return columns.digests(versions.shards(name))


def _totals(versions: Versions, snapshot: Snapshot, name: str) -> Any:
    """As a run has them: where they are damaged, they are summed again."""
    places = range(len(snapshot.shards))
    return versions.totals(name) or totals(tables(snapshot, snapshot.outputs[COUNTS], places))


def _counted(snapshot: Snapshot, place: int) -> Any:
    return [columns.digests(table) for _, table in tables(snapshot, snapshot.outputs[COUNTS], [place])]


def _manifest(store: Store, folder: str) -> Any:
    return list(Manifest(store, folder).entries())


def _pinned(store: Store, path: str, sha256: str) -> bytes:
    return fetched(store, path, sha256).read_bytes()


def _rows(store: Store, folder: str, phase: int | None) -> Any:
    rows = Rows(store, Plan.read(store, folder), phase)
    return columns.digests(rows.columns(0, len(rows)))


def _checkpoint(store: Store, training: str, step: int) -> Any:
    found = checkpoint.load(store, training, step)
    checkpoint.verify(store, training, found.shards)
    return found


def flipped(store: Store, path: str, rng: random.Random) -> bytes:
    """Flip one bit of a file, as another file of the same name; what was there before."""
    whole = store.read(path)
    data = bytearray(whole)
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    put(store, path, bytes(data))
    return whole


def put(store: Store, path: str, data: bytes) -> None:
    """Other bytes for a file: what has mapped the old ones keeps those."""
    local = Path(str(store.local(path)))
    beside = local.with_name(f".{local.name}")
    beside.write_bytes(data)
    os.replace(beside, local)
    checksums._of_file.cache_clear()  # within one tick of the clock, both are of one time and one size


def outcomes(store: Store, cases: Sequence[Case], count: int, seed: int) -> Iterator[tuple[str, str]]:
    """(outcome, path and error) of each of so many flips, in files chosen by their size."""
    rng, sizes = random.Random(seed), [len(store.read(path)) for path, _ in cases]
    truths: dict[int, Any] = {}
    for number in rng.choices(range(len(cases)), sizes, k=count):
        path, read = cases[number]
        if number not in truths:
            truths[number] = read()
        whole = flipped(store, path, rng)
        try:
            yield (SAME if read() == truths[number] else SILENT), path
        except DAMAGE as error:
            yield NOTICED, f"{path}: {error}"
        except Exception as error:
            yield WRONG, f"{path}: {type(error).__name__}: {error}"
        finally:
            put(store, path, whole)


def counted(store: Store, cases: Sequence[Case], count: int, seed: int) -> tuple[Counter[str], list[str]]:
    """How often each outcome came, and what was not noticed."""
    found = list(outcomes(store, cases, count, seed))
    return Counter(kind for kind, _ in found), [f"{kind}: {what}" for kind, what in found if kind in (SILENT, WRONG)]
