"""`sluice export` beside `pyarrow.dataset.write_dataset` over the same columns: bytes of text a second, by CPU time.

Synthetic English documents of 100 to 800 words in column files as a run leaves them: documents, a language, a verdict
that keeps nine of ten. Both read the same column files of the store and write the same columns of the kept rows as
Parquet, zstd: ours through the view of the corpus, checksums verified, documents counted; theirs by reading each
shard's files with pyarrow, joining and filtering them in memory, as one would without Sluice. Rounds are interleaved;
medians, and the ratio is to be compared. Limit: 0.7 of write_dataset's rate.
"""

from __future__ import annotations

import random
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from tasks.engine import views
from tasks.engine.corpus import Corpus
from tasks.engine.export import Export, Question
from tasks.engine.outputs import Output
from tasks.engine.reading import InputShard
from tasks.engine.stage import DOCUMENTS
from tasks.storage import columns
from tasks.storage.manifest import Index
from tasks.storage.store import Store

SHARDS, DOCUMENTS_EACH, ROUNDS = 16, 4000, 5
WORDS = Path(__file__).read_text().split() + [f"{a}{b}" for a in "bcdfghjklmnp" for b in ("arn", "ell", "ock", "umber")]
COLUMNS = ("id", "text", "url", "source", "language")


def shard(number: int) -> dict[str, pa.Table]:
    """The column files of one shard, by stage."""
    rng, rows = random.Random(number), range(DOCUMENTS_EACH)
    texts = [" ".join(rng.choices(WORDS, k=rng.randint(100, 800))) for _ in rows]
    own = {
        "id": pa.array([rng.randbytes(16) for _ in rows], pa.binary(16)),
        "source": ["web"] * len(rows),
        "url": [f"https://example.org/{number}/{row}" for row in rows],
        "text": texts,
    }
    documents = pa.table(
        {field.name: own.get(field.name, pa.nulls(len(rows), field.type)) for field in DOCUMENTS}, DOCUMENTS
    )
    kept = pa.array([rng.random() < 0.9 for _ in rows])
    return {
        "documents": documents,
        "language": pa.table({"language": pa.array(["en"] * len(rows))}),
        "verdict": pa.table({"kept": kept}),
    }


class Written(Corpus):
    """A corpus of these outputs; every source has every column."""

    def __init__(self, store: Store, outputs: dict[str, Output], provider: dict[str, str]) -> None:
        self.store, self.outputs, self.provider = store, outputs, provider
        self.role = {name: name for name in provider}
        self.shards = [InputShard("web", f"web-{number}", "", ()) for number in range(SHARDS)]
        self.documents_schema = DOCUMENTS

    def lacks(self, name: str, place: int) -> bool:
        return False


def corpus(store: Store) -> Written:
    """A store of column files, and the corpus of them."""
    stages: dict[str, tuple[list[dict[str, Any]], pa.Schema]] = {}
    for number in range(SHARDS):
        found = shard(number)
        ids = columns.value_digest(found["documents"]["id"])
        for stage, table in found.items():
            key = f"{number:032x}"
            entry = {"key": key, "shard": f"web-{number}", "ids": ids, "rows": table.num_rows, "seconds": 0.0}
            entry["columns"] = columns.digests(table)
            if stage == "verdict":
                entry["ledger"] = {"web": {"kept": int(pc.sum(table["kept"]).as_py())}}
            entry |= columns.write(store, f"{stage}/{key}.parquet", table, entry)
            stages.setdefault(stage, ([], table.schema))[0].append(entry)
    outputs: dict[str, Output] = {}
    provider: dict[str, str] = {}
    for stage, (entries, schema) in stages.items():
        index = Index(entries, [entry["key"] for entry in entries], schema.names)
        outputs[stage] = Output([stage] * SHARDS, ".parquet", index)
        provider |= dict.fromkeys(schema.names, stage)
    return Written(store, outputs, provider)


def theirs(folder: Path, pipeline: Written, to: Path) -> None:
    """The same rows by pyarrow alone."""

    def batches() -> Iterator[pa.RecordBatch]:
        for place in range(SHARDS):
            tables = {
                stage: pq.read_table(
                    folder / output.path(place),
                    columns=[n for n in (*COLUMNS, "kept") if pipeline.provider[n] == stage],
                )
                for stage, output in pipeline.outputs.items()
            }
            joined = {name: tables[pipeline.provider[name]][name] for name in COLUMNS}
            joined["id"] = views.hexadecimal(joined["id"].combine_chunks())
            yield from pa.table(joined).filter(tables["verdict"]["kept"]).to_batches()

    schema = pa.schema([(name, pa.string()) for name in COLUMNS])
    options = ds.ParquetFileFormat().make_write_options(compression="zstd")
    ds.write_dataset(batches(), to, schema=schema, format="parquet", file_options=options)


def cost(work: Callable[[], object]) -> tuple[float, float]:
    """CPU seconds and seconds by the clock."""
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    work()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, time.perf_counter() - started


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pipeline = corpus(Store(str(folder / "store")))
        kinds = {"kept": pa.bool_(), "id": pa.string()}
        schema = pa.schema([(column, kinds.get(column, pa.string())) for column in (*COLUMNS, "kept")])
        view = views.View(pipeline, schema, range(SHARDS))
        size = sum(int(index.bytes.sum()) for index in [pipeline.outputs["documents"].index])
        ours_cost, theirs_cost = [], []
        for number in range(ROUNDS):
            target = Store(str(folder / f"ours-{number}"))
            made = Export(view, Question("parquet", ("url", "source", "language"), size=size // 4), target)
            ours_cost.append(cost(made.run))
            theirs_cost.append(cost(partial(theirs, folder / "store", pipeline, folder / f"theirs-{number}")))
        rows = sum(pq.read_metadata(path).num_rows for path in (folder / "ours-0" / "data").iterdir())
        other = sum(pq.read_metadata(path).num_rows for path in (folder / "theirs-0").iterdir())
        assert rows == other, (rows, other)
        for which, unit in ((0, "CPU"), (1, "by the clock")):
            ours, them = (median(each[which] for each in found) for found in (ours_cost, theirs_cost))
            print(
                f"{rows:,} documents, {unit}: export {rows / ours:,.0f} documents/s, write_dataset {rows / them:,.0f}, "
                f"ratio {them / ours:.2f}"
            )


if __name__ == "__main__":
    main()
