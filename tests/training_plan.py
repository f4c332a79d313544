"""Makes run plans out of seeded random documents, in the format of docs/run_plan.md, and the specs that train them."""

from __future__ import annotations

import hashlib
import itertools
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from data_specs.spec import Spec
from tasks.storage.pins import Pin
from tasks.storage.store import Store

CHANNELS = ("zh", "en", "code")
PLAN, SHORT = "plans/tiny@0", "plans/short@0"
_TOKENIZER = "models/tokenizer.json"


def spec(
    workers: int = 1,
    micro: int = 2,
    rows: int = 8,
    sequence: int = 16,
    mixture: dict[str, Any] | None = None,
    **training: Any,
) -> Spec:
    """A tiny model; `rows` a step."""
    return Spec.model_validate(
        {
            "name": "tiny",
            "seed": 7,
            "sources": {"text": {"kind": "text", "paths": "*.txt"}},
            "channels": dict.fromkeys(CHANNELS, "true"),
            "mixture": mixture or {},
            "model": {"hidden": 16, "layers": 1, "heads": 2, "kv_heads": 1, "intermediate": 24},
            "training": {
                "workers": workers,
                "sequence": sequence,
                "batch": {"tokens": rows * sequence, "micro": micro},
                "precision": "fp32",
                "learning_rate": {"peak": 1e-3, "warmup": 5},
                "checkpoint": {"every": 0},
                "evaluate": {"every": 0, "tokens": 64},
                **training,
            },
        }
    )


def write(
    store: Store,
    phases: tuple[int, ...] = (100,),
    rows: int = 8,
    sequence: int = 16,
    vocabulary: int = 320,
    path: str = PLAN,
    longest: int = 40,
    garbage: range = range(0),
    repeated: range = range(0),
) -> None:
    """A plan of `phases` steps of `rows` rows, its token files, a tokenizer, and its rows written out. Rows `garbage`
    and `repeated` of the first phase are each of a file of their own, whose tokens are no language, or one token over
    and over."""
    rng = np.random.default_rng(3)
    files = []
    for number, channel in enumerate(CHANNELS):
        lengths = rng.integers(1, longest, size=200)
        documents = [rng.zipf(1.3, size=n) % (vocabulary - 2 - number) + 2 + number for n in lengths]
        column = pa.array([None, *documents], type=pa.list_(pa.uint16()))
        files.append(f"tokens/tiny@0/{channel}.arrow")
        _arrow(store, files[-1], pa.table({"tokens": column}))
    noise = rng.integers(vocabulary // 2, vocabulary, size=sequence + 1)
    odd: dict[int, dict[str, Any]] = {}
    for name, chosen, tokens in (("garbage", garbage, noise), ("repeated", repeated, np.full(sequence + 1, 3))):
        if chosen:
            row = {"file": [len(files)], "offset": [0], "length": [sequence + 1], "supervised": sequence}
            odd |= dict.fromkeys(chosen, row)
            files.append(f"tokens/tiny@0/{name}.arrow")
            _arrow(store, files[-1], pa.table({"tokens": pa.array([tokens], type=pa.list_(pa.uint16()))}))
    streams = [_Stream(store, files, k, sequence) for k in range(len(CHANNELS))]
    totals, first = [], 0
    for phase, steps in enumerate(phases):
        records = [streams[row % len(CHANNELS)].row() for row in range(steps * rows + 1)]
        for row, of in odd.items() if first == 0 else ():
            records[row] |= of
        per_file = 37
        for start in range(0, len(records), per_file):
            _write_rows(store, path, records[start : start + per_file], phase, start // per_file, streams)
        totals.append(
            {"name": f"phase {phase}", "rows": len(records), "first_step": first, "steps": steps, "rows_per_step": rows}
        )
        first += steps
    held = [streams[k].row(sequence + 1 if i < 2 else 5) for k in range(len(CHANNELS)) for i in range(3)]
    _arrow(store, f"{path}/held_out.arrow", _rows_table(held))
    plan = {
        "digest": path, "spec": "tiny", "seed": 7, "vocabulary": vocabulary, "sequence": sequence,
        "channels": CHANNELS, "files": files, "steps": first, "rows_per_step": rows, "rows_per_file": 37,
        "phases": totals, "held_out": {"rows": dict.fromkeys(CHANNELS, 3)},
    }  # fmt: skip
    store.commit(f"{path}/tokens.json", b"{}")
    store.commit(f"{path}/plan.json", orjson.dumps(plan))
    store.commit(_TOKENIZER, _tokenizer(vocabulary).to_str().encode())


def pin(store: Store) -> Pin:
    """The pin of the tokenizer that `write` wrote."""
    return {"path": _TOKENIZER, "sha256": hashlib.sha256(store.read(_TOKENIZER)).hexdigest()}


class _Stream:
    """One channel's documents end to end, cut into rows that overlap by a token."""

    def __init__(self, store: Store, files: list[str], channel: int, sequence: int) -> None:
        self.channel, self.width = channel, sequence + 1
        column = pa.ipc.open_file(pa.BufferReader(store.read(files[channel]))).read_all()["tokens"].chunk(0)
        self.values = column.values.to_numpy()
        bounds = column.offsets.to_numpy()
        self.documents = [(int(a), int(b)) for a, b in itertools.pairwise(bounds) if b > a]
        self.document, self.at = 0, self.documents[0][0]

    def row(self, width: int | None = None) -> dict[str, Any]:
        left, offset, length = width or self.width, [], []
        while left:
            take = min(left, self.documents[self.document][1] - self.at)
            offset.append(self.at)
            length.append(take)
            self.at, left = self.at + take, left - take
            if left:
                self.document = (self.document + 1) % len(self.documents)
                self.at = self.documents[self.document][0]
        self.at -= 1
        targets = sum(length) - len(length)
        return {"channel": self.channel, "file": [self.channel] * len(offset), "offset": offset, "length": length,
                "supervised": targets}  # fmt: skip


def _rows_table(records: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(
        records,
        pa.schema(
            [("channel", pa.int16()), ("file", pa.list_(pa.int32())), ("offset", pa.list_(pa.int64())),
             ("length", pa.list_(pa.int32())), ("supervised", pa.int32())]
        ),
    )  # fmt: skip


def _write_rows(
    store: Store, path: str, records: list[dict[str, Any]], phase: int, number: int, streams: list[_Stream]
) -> None:
    table = _rows_table(records)
    _arrow(store, f"{path}/rows-{phase}-{number:05d}.arrow", table)
    tokens = [
        np.concatenate([streams[r["channel"]].values[o : o + n] for o, n in zip(r["offset"], r["length"], strict=True)])
        for r in records
    ]
    column = pa.array(tokens, type=pa.list_(pa.uint16(), len(tokens[0])))
    written = table.select(["channel", "length", "supervised"]).append_column("tokens", column)
    _arrow(store, f"{path}/tokens-{phase}-{number:05d}.arrow", written)


def _arrow(store: Store, path: str, table: pa.Table) -> None:
    with store.writer(path) as file, pa.ipc.new_file(file, table.schema) as out:
        out.write_table(table.combine_chunks())


def _tokenizer(vocabulary: int) -> Tokenizer:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<|endoftext|>", "<|pad|>"]
    words = [*special, *letters, *(f"<{n}>" for n in range(vocabulary - len(letters) - 2))]
    tokenizer = Tokenizer(models.BPE({word: number for number, word in enumerate(words)}, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    return tokenizer
