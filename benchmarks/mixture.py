"""Encoding beside the library tokenizers, ids held against each other; tokenising and packing beside the encoder alone;
a plan of many documents, and what other rules would keep of many.

`python -m benchmarks.mixture DATA [encoding|stages|plan|whatif] [--documents 10M]`. DATA holds `text/*.jsonl.gz` and,
where there is such a file, web pages in `labels/weborganizer_dclm_pages.jsonl.gz`; code is that of the installed
packages. Seconds are CPU seconds, since the encoders are compared in turn on a machine that may be busy; the plan is
made in a process of its own, whose peak of memory is counted.
"""

from __future__ import annotations

import gzip
import json
import multiprocessing
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data_specs.base import parse_count
from data_specs.spec import Spec
from data_specs.tokenizer import Tokenizer
from flows.corpus_run import CorpusRun
from tasks.filters.signals import Signals
from tasks.planning.run_plan import build
from tasks.storage.store import Store
from tasks.tokenization import fast_encoder
from tasks.tokenization.kinds import learn
from tasks.tokenization.tokenizer import load
from tasks.tokenization.tokens import Tokens
from tests.whole import direct

CODE = 40_000_000
"""Bytes of code, at most."""
TOGETHER = 2**22
"""Characters that are encoded by each in turn."""
LEARNED_FROM = 12_000_000
SHARD = 20_000
PIECES = (60, 47, 37)
"""Words of the pieces of texts whose rules are asked about."""
COUNTED = 160_000
"""Of them those whose signals are counted, which takes a millisecond each; others have those of some of these."""
PHASES = [
    {"until": 0.8, "weights": {"zh": 0.4, "en": 0.4, "code": 0.2}},
    {"until": 1.0, "weights": {"zh": 0.5, "en": 0.3, "code": 0.2}},
]


def texts(data: Path) -> Iterator[tuple[str, str]]:
    """(kind, text)."""
    pages = data / "labels" / "weborganizer_dclm_pages.jsonl.gz"
    for path in [*sorted((data / "text").glob("*.jsonl.gz")), *([pages] if pages.exists() else [])]:
        kind = "web" if path == pages else path.name.split("_")[0]
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            yield from ((kind, text) for line in lines if (text := json.loads(line)["text"]))
    size = 0
    for path in sorted(Path(sysconfig.get_paths()["purelib"]).glob("**/*.py")):
        text = path.read_bytes().decode(errors="replace")
        size += len(text)
        if size > CODE:
            return
        yield "code", text


def learned(data: Path) -> bytes:
    """A tokenizer of 32,768 entries, of as much of each kind."""
    sizes: dict[str, int] = {}
    chosen = []
    for kind, text in texts(data):
        if sizes.get(kind, 0) < LEARNED_FROM // 4:
            sizes[kind] = sizes.get(kind, 0) + len(text.encode())
            chosen.append(text)
    return learn(chosen, Tokenizer(vocabulary=32_768))


def parts(data: Path) -> Iterator[tuple[str, list[str]]]:
    """Texts of one kind, TOGETHER characters at a time."""
    held: dict[str, list[str]] = {}
    for kind, text in texts(data):
        held.setdefault(kind, []).append(text)
        if sum(map(len, held[kind][-1:])) and sum(map(len, held[kind])) >= TOGETHER:
            yield kind, held.pop(kind)
    yield from held.items()


def encoding(data: Path) -> None:
    """Ids and rates of both encoders, in turn."""
    file = learned(data)
    loaded, fast = load(file, "learned"), fast_encoder.faster(file, "learned")
    if fast is None:
        sys.exit("the faster encoder is not taken: see the line above")
    seconds: dict[str, list[float]] = {}
    counts: dict[str, list[int]] = {}
    for kind, group in parts(data):
        begun = time.process_time()
        old, old_ends = fast_encoder.plain(loaded.encoder, group)
        between = time.process_time()
        new, new_ends = fast(group)
        spent = between - begun, time.process_time() - between
        wrong = int(not (np.array_equal(old, new) and np.array_equal(old_ends, new_ends)))
        seconds[kind] = [a + b for a, b in zip(seconds.get(kind, [0.0, 0.0]), spent, strict=True)]
        found = [sum(len(text.encode()) for text in group), len(group), len(old), wrong]
        counts[kind] = [a + b for a, b in zip(counts.get(kind, [0] * 4), found, strict=True)]
    counts["all"] = [sum(column) for column in zip(*counts.values(), strict=True)]
    seconds["all"] = [sum(column) for column in zip(*seconds.values(), strict=True)]
    for kind, (size, documents, tokens, wrong) in counts.items():
        before, after = seconds[kind]
        print(
            f"{kind:5} {size / 1e6:6.1f} MB, {documents:,} texts, {tokens:,} tokens; tokenizers "
            f"{tokens / before / 1e6:.2f}, faster {tokens / after / 1e6:.2f} million tokens/s, "
            f"{before / after:.2f} x; groups of texts with other ids: {wrong}"
        )
        if wrong:
            sys.exit("ids differ")


def stages(data: Path) -> None:
    """The tokens stage and a plan of what it gives, beside the encoder alone."""
    file = learned(data)
    documents = [text for kind, text in texts(data) if kind in ("en", "web")]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        path.write_bytes(file)
        stage = Tokens(Tokenizer(vocabulary=32_768), {str(path): "0" * 64})
        stage.setup()
        fast = fast_encoder.faster(file, str(path))
        if fast is None:
            sys.exit("the faster encoder is not taken: see the line above")
        alone = whole = 0.0
        tokens = 0
        shards = []
        for number, group in enumerate(batched_texts(documents)):
            batch = pa.table({"text": group, "kept": [True] * len(group), "evaluated": [False] * len(group)})
            stage(batch)  # so that both find the caches of the processor as the other does
            fresh = batch["text"].to_pylist()  # a string keeps its bytes once they were asked for
            begun = time.process_time()
            found = stage(batch)
            between = time.process_time()
            for some in range(0, len(fresh), 64):
                fast(fresh[some : some + 64])
            whole, alone = whole + between - begun, alone + time.process_time() - between
            lengths = np.diff(found["tokens"].chunk(0).offsets.to_numpy())
            tokens += int(lengths.sum())
            shards.append((f"{number}.arrow", _inputs(lengths.astype(np.int32), number)))
        begun = time.process_time()
        build(_spec(tokens, 2048), 32_768, "0" * 32, shards, Store(folder))
        plan = time.process_time() - begun
    print(
        f"{tokens:,} tokens: the encoder alone {alone:.2f} s of CPU time, the stage {whole:.2f} s, packing and plan "
        f"{plan:.2f} s: {alone / (whole + plan):.0%} of the encoder alone"
    )


def batched_texts(documents: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(documents), 2000):
        yield documents[start : start + 2000]


def _inputs(lengths: np.ndarray, number: int) -> pa.Table:
    rng = np.random.default_rng(number)
    bits = rng.integers(0, 2**63, (len(lengths), 2)).tobytes()
    ids = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(lengths), [None, pa.py_buffer(bits)])
    channel = pa.array(["zh", "en", "code"]).take(pa.array(rng.choice(3, len(lengths), p=[0.45, 0.4, 0.15])))
    held = rng.random(len(lengths)) < 0.001
    return pa.table({"id": ids, "channel": channel, "length": lengths, "held_out": held})


def _spec(tokens: int, sequence: int, **phase: Any) -> Spec:
    return Spec.model_validate(
        {
            "name": "many",
            "sources": {"pages": {"kind": "jsonl", "paths": "*.jsonl"}},
            "channels": dict.fromkeys(("zh", "en", "code"), "true"),
            "mixture": {"tokens": tokens, "phases": [each | phase for each in PHASES]},
            "training": {"sequence": sequence, "batch": {"tokens": sequence * 256, "micro": 8}},
        }
    )


def plan(documents: int, **phase: Any) -> None:
    """Of lengths drawn as those of web pages are: the median 600 tokens, the mean 1,100."""
    read, write = multiprocessing.Pipe()
    if (child := os.fork()) == 0:
        with tempfile.TemporaryDirectory() as folder:
            made = time.perf_counter(), time.process_time()
            inside = 0.0

            def shards() -> Iterator[tuple[str, pa.Table]]:
                nonlocal inside
                for number in range(-(-documents // SHARD)):
                    begun = time.process_time()
                    lengths = np.random.default_rng(number).lognormal(np.log(600), 1.1, SHARD).clip(2, 2**20)
                    table = _inputs(lengths.astype(np.int32), number)
                    inside += time.process_time() - begun
                    yield f"{number}.arrow", table

            found = build(_spec(documents * 1000, 2048, **phase), 32_768, "0" * 32, shards(), Store(folder))
            seconds = time.process_time() - made[1] - inside
            rows = sum(each["rows"] for each in found["phases"])
            write.send((found["channel_tokens"], rows, time.perf_counter() - made[0], seconds))
        os._exit(0)
    tokens, rows, wall, seconds = read.recv()
    _, _, usage = os.wait4(child, 0)
    print(
        f"{documents:,} documents, {sum(tokens.values()):,} tokens in {rows:,} rows: {wall:.0f} s with what is drawn, "
        f"{seconds:.0f} s of CPU time without; at most {usage.ru_maxrss / 2**20:.2f} GiB"
    )


def pieces(data: Path, count: int) -> Iterator[str]:
    """Pieces of real texts of 60 words, then of 47 and of 37, and over again: a million are of other words each, but
    for texts that are shorter, and some are near copies of longer ones."""
    for size in cycle(PIECES):
        for _, text in texts(data):
            words = text.split()
            for start in range(0, min(len(words), 6000), size):
                yield " ".join(words[start : start + size])
                count -= 1
                if not count:
                    return


def drawn(call: Callable[[Any, pa.Table], pa.Table]) -> Callable[[Any, pa.Table], pa.Table]:
    """What a stage finds of the first COUNTED rows, and of any after those the values of some of them, by chance."""
    known: list[pa.Table] = []
    rng = np.random.default_rng(0)

    def found(stage: Any, batch: pa.Table) -> pa.Table:
        if sum(map(len, known)) < COUNTED:
            known.append(call(stage, batch))
            return known[-1]
        known[:] = [pa.concat_tables(known).combine_chunks()]
        return known[0].take(rng.integers(0, len(known[0]), len(batch)))

    return found


def what_if(data: Path, documents: int) -> None:
    """Of a corpus of pieces of real texts, judged by 40 rules: one rule more strict, and another threshold of
    duplicates, asked by the command."""
    Signals.__call__ = drawn(Signals.__call__)  # type: ignore[method-assign, assignment]
    with tempfile.TemporaryDirectory() as folder:
        rows = pieces(data, documents)
        for number in range(-(-documents // SHARD)):
            lines = (json.dumps({"text": text, "url": f"http://e{number}.org"}) for text in islice(rows, SHARD))
            Path(folder, f"{number}.jsonl").write_text("\n".join(lines))
        rules = [f'  - r{number}: "words < {number % 20} or lines > {1000 + number}"' for number in range(40)]
        spec = Path(folder, "spec.yaml")
        spec.write_text(
            f"name: many\nstore: {folder}/store\nsources: {{a: {{kind: jsonl, paths: '{folder}/*.jsonl'}}}}\n"
            "channels: {all: 'true'}\ngates: {removed_per_source: 100%}\nstages: {duplicates: {floor: 0.7}}\n"
            "tokenizer: {vocabulary: 2000, sample: 1M}\nrules:\n" + "\n".join(rules)
        )
        run = CorpusRun.of(str(spec))
        run.execution.run_jobs = direct
        for name in run.corpus_stages():
            run.stage(name, lambda *_: None, False, False)
        run.version(lambda *_: None)
        for asked in ("rules.r0=words < 30", "stages.duplicates.threshold=0.75"):
            command = [sys.executable, "-m", "flows.cli", "whatif", str(spec), "--set", asked, "--json"]
            begun = time.perf_counter()
            with subprocess.Popen(command, stdout=subprocess.DEVNULL) as child:
                _, status, usage = os.wait4(child.pid, 0)
                child.returncode = os.waitstatus_to_exitcode(status)
            print(
                f"what if {asked}, of {documents:,} documents and 40 rules: {time.perf_counter() - begun:.1f} s, "
                f"{usage.ru_utime + usage.ru_stime:.1f} s of CPU time, at most {usage.ru_maxrss / 2**20:.2f} GiB, "
                f"exit code {child.returncode}"
            )


def main() -> None:
    asked = [each for each in sys.argv[1:] if not each.startswith("--")]
    data, which = Path(asked[0]), asked[1:] or ["encoding", "stages", "plan"]
    many = sys.argv[sys.argv.index("--documents") + 1] if "--documents" in sys.argv else "10M"
    which = [each for each in which if each != many]
    if "encoding" in which:
        encoding(data)
    if "stages" in which:
        stages(data)
    if "whatif" in which:
        what_if(data, int(parse_count(many)))
    if "plan" in which:
        plan(int(parse_count(many)))


if __name__ == "__main__":
    main()
