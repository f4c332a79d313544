"""What a night costs: one new shard beside 100, 1,000 and 10,000 old ones, or as many as are given (100,000: half an
hour). Wall and CPU seconds against the full time, jobs, bytes of manifests, of versions and of old text read, bytes of
state read and written.

The 100 are real: files of JSON lines, computed by a run. Of the others there are only manifests, made by asking the
pipeline for its keys, and state, of random keys beside those of the 100: a night reads nothing else of them, as no new
document shares a bucket with theirs. Their full time is that of the 100, multiplied. Jobs are done one after the other
in this process, without Ray and Prefect; of the real ones a last night is of `sluice run SPEC --until version`, with
both. The first night of a corpus makes its state, and is told apart. Limit: 2 % of the full time and 20 s.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import resource
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from flows.run import Run
from tasks import registry
from tasks.engine import corpus_work
from tasks.engine.job import Job
from tasks.engine.snapshot import present
from tasks.engine.versions import COUNTS, SHARDS, Facts, Versions
from tasks.storage import columns
from tasks.storage.manifest import Entry, Manifest
from tasks.storage.store import Store
from tests.whole import direct

REAL, DOCUMENTS, NIGHTS = 100, 50, 2
SPEC = """
name: refresh
store: {folder}/store
sources: {{web: {{kind: jsonl, paths: "{folder}/web/*.jsonl.gz", shard: 1}}}}
stages: {{language: {{}}, signals: {{}}, duplicates: {{}}}}
rules: [{{short: "words < 50"}}]
channels: {{all: "true"}}
tokenizer: {{vocabulary: 4096, sample: 2M}}
gates: {{removed_per_source: 100%}}
"""


def write(folder: Path, number: int) -> None:
    """A file: a tenth of its documents are copies or near copies of those of other files."""
    rng, rows = random.Random(number), []
    for place in range(DOCUMENTS):
        own = rng.randrange(200) if place % 10 == 0 else 1000 + number * DOCUMENTS + place
        words = random.Random(own).choices(WORDS, k=330)
        if place % 20 == 0:
            words[rng.randrange(330)] = rng.choice(WORDS)
        text = ". ".join(" ".join(words[at : at + 11]).capitalize() for at in range(0, 330, 11))
        rows.append(json.dumps({"text": text, "url": f"https://example.org/{number}/{place}"}))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"web-{number:06d}.jsonl.gz").write_bytes(gzip.compress("\n".join(rows).encode(), mtime=0))


WORDS = ["".join(random.Random(n).choices("abcdefghijklmnopqrstuvwxyz", k=2 + n % 9)) for n in range(20_000)]


class Measured:
    """What jobs read and wrote."""

    def __init__(self, old: int) -> None:
        self.jobs: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self.state_seconds = 0.0
        self.rows = (old - REAL) * DOCUMENTS
        """Documents of which there are only manifests."""

    def run(self, stage: Any, stage_key: str, jobs: Sequence[Job], *more: Any) -> int:
        self.jobs.update(job.kind for job in jobs)
        started = time.process_time()
        with self.padded(stage, jobs), self.watched():
            failed = direct(stage, stage_key, jobs, *more)
        if jobs[0].kind == "state":
            self.state_seconds += time.process_time() - started
            self.bytes["state written"] += sum(more[0].walk(f"columns/{stage_key}/state")[job.path] for job in jobs)
        return failed

    @contextmanager
    def padded(self, stage: Any, jobs: Sequence[Job]) -> Iterator[None]:
        """State of random keys in the place of maps that are not there."""
        real = corpus_work._each

        def each(job: Job, store: Any) -> Iterator[pa.RecordBatch]:
            there = [part for part in job.slices if store.exists(part[0])]
            batches = [*real(replace(job, slices=tuple(there)), store)]
            yield from batches
            if batches and len(there) < len(job.slices):
                yield from self.noise(pa.Table.from_batches(batches), len(job.slices) - len(there)).to_batches()

        if jobs[0].kind == "state" and self.rows:
            corpus_work._each = each
        try:
            yield
        finally:
            corpus_work._each = real

    def noise(self, rows: pa.Table, missing: int) -> pa.Table:
        """As many rows, of `missing` shards, as real ones have."""
        count = round(rows.num_rows * missing / REAL)
        rng = np.random.default_rng(1)
        made = []
        for field in rows.schema:
            if pa.types.is_integer(field.type):
                made.append(pa.array(rng.integers(0, 2**62, count, np.uint64)).cast(field.type, safe=False))
            else:
                made.append(rows[field.name].take(pa.array(rng.integers(0, max(1, rows.num_rows), count))))
        return pa.table(made, schema=rows.schema)

    @contextmanager
    def files_read(self) -> Iterator[None]:
        """Count bytes of manifests and of versions that are read while the block runs."""
        real, counted = Store.read, self.bytes

        def read(self: Store, path: str) -> bytes:
            data = real(self, path)
            kind = "manifests" if "/manifest/" in path else path.partition("/")[0]
            if kind in ("manifests", "versions"):
                counted[f"{kind} read"] += len(data)
            return data

        Store.read = read  # type: ignore[method-assign]
        try:
            yield
        finally:
            Store.read = real  # type: ignore[method-assign]

    @contextmanager
    def watched(self) -> Iterator[None]:
        slices, opened = columns.read_slices, columns.opened

        def read_slices(store: Any, path: str, wanted: Any) -> Any:
            found = [*slices(store, path, wanted)]
            if "/state/" in path:
                self.bytes["state read"] += sum(batch.nbytes for batch in found)
            return found

        @contextmanager
        def opening(store: Any, path: str, recorded: Any, may_lack: bool = False) -> Iterator[Any]:
            with opened(store, path, recorded, may_lack) as part:

                def counted(*asked: Any) -> pa.Table:
                    table = part(*asked)
                    if path.startswith("documents/"):
                        self.bytes["old text read"] += table.nbytes
                    return table

                yield counted

        columns.read_slices, columns.opened = read_slices, opening
        try:
            yield
        finally:
            columns.read_slices, columns.opened = slices, opened


def night(spec: Path, run_jobs: Callable[..., int]) -> Run:
    run = Run.of(str(spec))
    run.execution.run_jobs = run_jobs
    for name in run.corpus_stages():
        run.stage(name, lambda *_: None, False, False)
    run.version(lambda *_: None)
    run.save(ended=True)
    return run


def entry(job: Job, names: Sequence[str], slices: dict[str, str] | None) -> Entry:
    found = {"key": job.key, "shard": job.shard, "ids": job.ids, "rows": DOCUMENTS, "bytes": 10_000, "seconds": 1.0}
    made = {name: secrets.token_hex(16) for name in names}
    return found | {"run": "made", "columns": made} | ({} if slices is None else {"slices": slices})


def grown(spec: Path, old: int) -> None:
    """Add to the store, a version of REAL shards, the manifests of others, and a version of all."""
    run = Run.of(str(spec))
    store, versions = run.store, Versions(run.store, "refresh")
    facts = versions.read(1)
    [generation] = facts["generations"]
    real = versions.shards(generation["names"])
    rows = []
    for number in range(old - REAL):
        content = hashlib.blake2b(str(number).encode(), digest_size=16).hexdigest()
        part = {"key": f"old-{number:06d}.jsonl.gz", "start": 0, "end": 1, "digest": content}
        row = {"source": "web", "name": f"old-{number:06d}", "digest": content, "folder": real["folder"][0].as_py()}
        rows.append(row | {"parts": [part]})
    keys = [secrets.token_hex(16) for _ in rows]
    names = versions.put_shards(pa.concat_tables([real, pa.Table.from_pylist(rows, SHARDS)]))
    documents = versions.put_keys([*versions.keys(generation["keys"]["documents"]), *keys])
    listed = {"names": names, "shards": old, "rows": old * DOCUMENTS}
    other = facts | {"version": 2, "generations": [generation | listed | {"keys": {"documents": documents}}]}
    versions.create(other | {"stages": {"documents": facts["stages"]["documents"]}})

    pipeline = Run.of(str(spec)).pipeline
    read = {"in": DOCUMENTS, "dropped": {}, "quarantined": {}}
    made = [Job("read", key, "", row["name"], "made") for key, row in zip(keys, rows, strict=True)]
    found = [entry(job, pipeline.documents_schema.names, None) for job in made]
    found = [each | {"ids": each["columns"]["id"], "ledger": read} for each in found]
    Manifest(store, real["folder"][0].as_py()).append(found)
    pipeline.list_sources()
    pipeline.documents()
    uids = [str(uid) for uid in pipeline.uids()]
    for node in pipeline.nodes:
        while batches := pipeline.resolve(node).batches:
            fabricate(pipeline, batches, uids)
    counts = registry.counts(pipeline.spec)
    while batches := pipeline.counted(counts).batches:
        fabricate(pipeline, batches, uids)
    versions = Versions(store, "refresh")  # which has seen no other than the second
    at = present(pipeline, versions)
    [whole] = at.generations
    whole["keys"][COUNTS] = versions.put_keys(pipeline.counted(counts).index.keys)
    versions.put_totals(whole["keys"][COUNTS], versions.totals(generation["keys"][COUNTS]))
    final: Facts = facts | {"version": 3, "parent": 2, "digest": at.digest, "generations": at.generations}
    versions.create(final)


def fabricate(pipeline: Any, batches: Sequence[Any], uids: Sequence[str]) -> None:
    """Entries of jobs that are not done. A reduction says of real shards what it said when they were alone, so that
    what was scattered to them stands. A round says the same as the one before it, so that the second is the last."""
    for batch in batches:
        stage, kind = batch.stage, batch.jobs[0].kind
        folder = batch.jobs[0].path.rpartition("/")[0]
        before = {
            each["shard"]: each["slices"] for each in Manifest(pipeline.store, folder).entries() if kind == "reduce"
        }
        found = []
        for job in batch.jobs:
            slices = None
            if kind == "map":
                slices = {str(number): secrets.token_hex(8) for number in range(stage.partitions)}
            elif kind == "round":
                slices = {str(number): 16 * "0" for number in range(stage.partitions)}
            elif kind == "reduce":
                slices = {**before.get(job.shard, {}), **{uid: secrets.token_hex(8) for uid in uids[REAL::4]}}
            made = entry(job, stage.writes.names if kind in ("shard", "scatter", "count") else (), slices)
            if kind == "scatter" and stage.name == "verdict":
                made["ledger"] = {"web": {"kept": DOCUMENTS}}
            found.append(made)
        Manifest(pipeline.store, folder).append(found)


def main() -> None:
    sizes = [int(each) for each in sys.argv[1:]] or [100, 1_000, 10_000]
    with tempfile.TemporaryDirectory() as place:
        base = Path(place) / "base"
        for number in range(REAL):
            write(base / "web", number)
        (base / "refresh.yaml").write_text(SPEC.format(folder=base))
        started, cpu = time.perf_counter(), time.process_time()
        night(base / "refresh.yaml", direct)
        wall, cpu = time.perf_counter() - started, time.process_time() - cpu
        print(f"full: {REAL} shards of {DOCUMENTS} documents: {wall:.1f} s, CPU {cpu:.1f} s", flush=True)
        for old in sizes:
            folder = Path(place) / str(old)
            shutil.copytree(base, folder)
            spec = folder / "refresh.yaml"
            spec.write_text(SPEC.format(folder=folder))
            if old > REAL:
                grown(spec, old)
            for number in range(NIGHTS):
                write(folder / "web", REAL + number)
                told(f"{old:,} old shards, night {number + 1}", spec, old, cpu * old / REAL)
            if old == REAL:
                write(folder / "web", REAL + NIGHTS)
                command(f"{old:,} old shards, by the command", spec, (wall, cpu))
            shutil.rmtree(folder)


def command(what: str, spec: Path, full: tuple[float, float]) -> None:
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    line = [sys.executable, "-m", "flows", "run", str(spec), "--until", "version"]
    subprocess.run(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    print(
        f"{what}: {wall:.1f} s, limit {20 + 0.02 * full[0]:.1f} s of a full {full[0]:,.0f} s; CPU {cpu:.1f} s",
        flush=True,
    )


def told(what: str, spec: Path, old: int, full: float) -> None:
    measured = Measured(old)
    started, cpu = time.perf_counter(), time.process_time()
    with measured.files_read():
        night(spec, measured.run)
    wall, cpu = time.perf_counter() - started, time.process_time() - cpu
    size = ", ".join(f"{name} {count / 2**20:.2f} MiB" for name, count in sorted(measured.bytes.items()))
    made = f", of which making state {measured.state_seconds:.1f} s" if measured.jobs["state"] else ""
    jobs = ", ".join(f"{count} {kind}" for kind, count in measured.jobs.items())
    print(
        f"{what}: {wall:.1f} s, CPU {cpu:.1f} s{made}; {cpu / full:.2%} of the full {full:,.0f} s; {size}", flush=True
    )
    print(f"    {measured.jobs.total()} jobs: {jobs}", flush=True)


if __name__ == "__main__":
    main()
