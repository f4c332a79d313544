"""How long a plan of many documents takes to say which of them a step read, and which steps read one of them:
`python -m benchmarks.lineage [--documents 1000000]`.

These are the questions below `sluice blame` and `sluice lineage`. Lengths of documents are drawn, a tenth of those of
web pages, and their tokens are zeros; each is used some times. The files are in the machine's cache.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.mixture import _inputs, _spec
from tasks.planning.run_plan import build, plan_folder
from tasks.planning.trace import row_documents, rows_of
from tasks.storage.store import Store

SHARD = 5000
KEY = "0" * 32


def shards(store: Store, documents: int) -> Iterator[tuple[str, pa.Table]]:
    """Token files, and what planning reads of their documents."""
    for number in range(-(-documents // SHARD)):
        lengths = np.random.default_rng(number).lognormal(np.log(60), 1.1, SHARD).clip(2, 2**16).astype(np.int32)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        tokens = pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.zeros(offsets[-1], np.uint16)))
        table, path = pa.table({"tokens": tokens}), f"tokens/many@0/{number:05d}.arrow"
        with store.writer(path) as file, pa.ipc.new_file(file, table.schema) as out:
            out.write_table(table)
        yield path, _inputs(lengths, number)


def timed(question: Any) -> tuple[pa.Table, float, float]:
    """Its answer, seconds by the clock and of CPU time."""
    began, busy = time.perf_counter(), time.process_time()
    answer = question()
    return answer, time.perf_counter() - began, time.process_time() - busy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        spec = _spec(options.documents * 110, 2048)
        made = build(spec, 32_768, KEY, shards(store, options.documents), store)
        plan, phase = plan_folder(spec, KEY), made["phases"][0]
        segments = sum(phase["rows"] for phase in made["phases"])
        print(f"{options.documents:,} documents, {segments:,} rows, {made['steps']:,} steps")
        first = phase["steps"] // 2 * phase["rows_per_step"]
        read, wall, busy = timed(lambda: row_documents(store, plan, 0, first, phase["rows_per_step"]))
        print(f"documents of a step: {read.num_rows:,} segments, {wall:.2f} s, {busy:.2f} s of CPU time")
        asked = {read["file"][0].as_py(): [read["position"][0].as_py()]}
        rows, wall, busy = timed(lambda: rows_of(store, plan, asked))
        print(f"steps of a document: {rows.num_rows:,} rows, {wall:.2f} s, {busy:.2f} s of CPU time")


if __name__ == "__main__":
    main()
