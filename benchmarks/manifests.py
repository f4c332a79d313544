"""`plan` and `funnel` over 100,000 synthetic shards x 15 stages: seconds, peak memory, and that no column file is
opened.

The manifests are made by asking the pipeline for its keys, stage by stage, so they are what a real run would have
left; no column file exists, so opening one would fail. Limit: 20 s and 1 GiB. Then what a version of them costs, and
the next one with a new shard.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa

from data_specs.base import Settings
from data_specs.spec import Spec
from flows.commands.forecast import corpus
from tasks import registry
from tasks.engine import rotation
from tasks.engine.ledger import funnel
from tasks.engine.nodes import Node
from tasks.engine.pipeline import Pipeline
from tasks.engine.reading import Part
from tasks.engine.snapshot import present
from tasks.engine.stage import DOCUMENTS, CorpusStage, Stage
from tasks.engine.versions import Versions
from tasks.sources import InputShard
from tasks.storage.manifest import Manifest
from tasks.storage.pins import Pins
from tasks.storage.store import Store

SHARDS, STAGES, PARTITIONS = 100_000, 15, 16


class Synthetic(Stage):
    """Reads the column of the stage before it, writes one of its own."""

    def __init__(self, number: int) -> None:
        super().__init__(Settings())
        self.name = f"stage{number}"
        self.reads = ("text",) if number == 0 else (f"column{number - 1}", "text")
        self.writes = pa.schema([(f"column{number}", pa.int32())])

    def __call__(self, batch: pa.Table) -> pa.Table:
        raise AssertionError("nothing is computed here")


class Verdict(CorpusStage):
    """The last stage, a corpus stage with a ledger."""

    name = "verdict"
    partitions = PARTITIONS
    shuffled = pa.schema([("position", pa.uint32())])
    reduced = pa.schema([])

    def __init__(self) -> None:
        super().__init__(Settings())
        self.reads = self.scatters = (f"column{STAGES - 2}",)
        self.writes = pa.schema([("kept", pa.bool_()), ("reason", pa.string())])

    def map(self, batch: pa.Table) -> pa.Table:
        raise AssertionError("nothing is computed here")

    def reduce(self, rows: pa.Table) -> pa.Table:
        raise AssertionError("nothing is computed here")

    def scatter(self, batch: pa.Table, rows: pa.Table) -> pa.Table:
        raise AssertionError("nothing is computed here")


def catalog(spec: Spec, pins: Pins) -> list[Node]:
    stages = [Synthetic(number) for number in range(STAGES - 1)] + [Verdict()]
    return [Node(stage.name, stage) for stage in stages]


def pipeline(folder: str) -> Pipeline:
    spec = Spec.model_validate(
        {
            "name": "synthetic",
            "store": folder,
            "sources": {"web": {"kind": "text", "paths": "x"}},
            "channels": {"all": "true"},
        }
    )
    made = Pipeline(spec, Store(folder), "benchmark", catalog, registry.readers(spec))
    made.shards = [InputShard("web", f"web-{n:06d}", f"{n:032x}", ()) for n in range(SHARDS)]
    return made


def value(*parts: object) -> str:
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()


def entry(key: str | None, number: int, columns: list[str], **more: object) -> dict[str, object]:
    digests = {name: value(name, number) for name in columns}
    basics = {"key": key, "shard": f"web-{number:06d}", "ids": value("id", number), "rows": 1000, "bytes": 50_000}
    return basics | {"seconds": 60.0, "run": "benchmark", "columns": digests} | more


def write(folder: str) -> None:
    """The manifests that a run over all shards would have left."""
    made = pipeline(folder)
    keys = made.documents().index.keys
    read = {"in": 1200, "dropped": {"no_text": 200}, "quarantined": {}}
    entries = [entry(key, n, DOCUMENTS.names, ledger=read) for n, key in enumerate(keys)]
    Manifest(made.store, made.outputs["documents"].folders[0]).append(entries)
    made.documents()
    for node in made.nodes[:-1]:
        output = made.resolve(node)
        entries = [entry(key, n, list(node.writes)) for n, key in enumerate(output.index.keys)]
        Manifest(made.store, output.folders[0]).append(entries)
        made.resolve(node)
    verdict = made.nodes[-1]
    for kind in ("map", "reduce", "scatter"):
        output = made.resolve(verdict)
        [batch] = output.batches
        if kind == "map":
            slices = {str(p): f"{p:016x}" for p in range(PARTITIONS)}
            entries = [entry(job.key, n, [], slices=slices) for n, job in enumerate(batch.jobs)]
        elif kind == "reduce":
            slices = {str(uid): f"{uid:016x}" for uid in made.uids()[::4]}
            entries = [entry(job.key, n, [], slices=slices) for n, job in enumerate(batch.jobs)]
        else:
            judged = {"web": {"kept": 700, "duplicate": 300}}
            entries = [entry(job.key, n, list(verdict.writes), ledger=judged) for n, job in enumerate(batch.jobs)]
        Manifest(made.store, batch.jobs[0].path.rsplit("/", 1)[0]).append(entries)


def read(folder: str, new: int) -> None:
    """What `plan` and `funnel` do where `new` shards were added, in a process of its own."""
    started = time.perf_counter()
    made = pipeline(folder)
    made.shards += [InputShard("web", f"new-{n:06d}", f"{n:032x}", ()) for n in range(new)]
    made.documents()
    for node in made.nodes:
        made.resolve(node)
    states = {stage["state"] for stage in corpus(made)}
    assert states == ({"stale", "waiting"} if new else {"cached"}), states
    planned = time.perf_counter() - started
    counts = funnel(made)
    assert counts["kept"] + counts["pending"] >= 700 * SHARDS
    assert counts["in"] == 1200 * SHARDS
    seconds = time.perf_counter() - started
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    peak = int(line.split()[1]) / 2**20
    what = f"{new} new" if new else "cached"
    print(f"{what}: plan {planned:.1f} s, plan and funnel {seconds:.1f} s, peak memory {peak:.2f} GiB")


def version(folder: str) -> None:
    """What a version of all shards, and the next one with a new shard, cost, in a process of its own."""

    def taken(what: str, versions: Versions) -> None:
        files, started = versions.store.walk("versions"), time.perf_counter()
        found = present(made, versions)
        seconds = time.perf_counter() - started
        new = sum(size for path, size in versions.store.walk("versions").items() if path not in files)
        print(f"{what}: {seconds:.1f} s, {new / 2**20:.1f} MiB written, {len(found.generations)} generations")
        facts = {"version": 1, "state": "accepted", "generations": found.generations, "stages": found.stages}
        if not versions.numbers():
            versions.create(facts)

    made = pipeline(folder)
    listed = list(made.shards)
    made.documents()
    for node in made.nodes:
        made.resolve(node)
    taken("version of all", Versions(made.store, made.spec.name))
    listed.append(InputShard("web", "new-0", "0", (Part("", "new", 0, 1, "", "1"),)))
    versions, started = Versions(made.store, made.spec.name), time.perf_counter()
    found = rotation.arranged(listed, rotation.known(versions)["web"], lambda key: True, 2)
    print(f"which shards stand, which are new: {time.perf_counter() - started:.1f} s")
    made.shards = found.shards
    made.documents()
    for node in made.nodes:
        made.resolve(node)
    taken("version with a new shard", Versions(made.store, made.spec.name))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        write(folder)
        files = [path for path in Path(folder).rglob("*") if path.is_file()]
        print(
            f"{SHARDS:,} shards x {STAGES} stages: {sum(p.stat().st_size for p in files) / 2**20:,.0f} MiB of manifests"
        )
        for new in ("0", "1"):
            subprocess.run([sys.executable, "-m", "benchmarks.manifests", folder, new], check=True)
        subprocess.run([sys.executable, "-m", "benchmarks.manifests", folder, "version"], check=True)


if __name__ == "__main__":
    if sys.argv[2:] == ["version"]:
        version(sys.argv[1])
    elif len(sys.argv) > 1:
        read(sys.argv[1], int(sys.argv[2]))
    else:
        main()
