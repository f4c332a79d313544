"""The run plan: which tokens each step of the training reads, in what order (docs/run_plan.md).

`plan_key` names a plan by what it is made from, before it is built; `build` writes it. It is a function of the spec's
mixture, batch and seed and of the documents' ids, channels and token counts: never of workers, world size or load. In
memory are the documents' numbers, 24 bytes a document (twice that while they are gathered) and one more per phase with
a `where`, plus 24 bytes per use of a document and about 50 per row of one phase; rows are cut and written one bounded
file at a time (3M documents, 2.9G tokens in 1.4M rows: 29 s on a busy core, 280 MB).
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from data_specs.spec import Spec
from tasks.arrays.groups import numbers_within
from tasks.arrays.hashing import seeded_hash
from tasks.engine.stage import digest
from tasks.planning import repeats, usage
from tasks.planning.allocation import allot
from tasks.planning.best_fit import ORDERED_WINDOW, WINDOW, pack
from tasks.planning.collect import collect
from tasks.planning.files import content_digest
from tasks.planning.mixture import PhaseRows, Stream, schedule
from tasks.planning.objectives import Noise, RowShape, added_tokens, row_shape, target_counts
from tasks.planning.packing import (
    ROWS,
    Documents,
    Segments,
    cut_into_rows,
    interleave_rows,
    packed_rows,
    row_table,
    training_order,
)
from tasks.planning.seen import Read, with_seen
from tasks.planning.usage import Held, held
from tasks.storage.store import Store

VERSION = 2  # evaluated are windows of many held-out documents, not whole ones
"""Raised when the same inputs give another plan."""
FILE_TOKENS = 2**25
"""Tokens that the rows of one row file name: bounds the memory of writing one, and of writing its rows out."""


def plan_key(spec: Spec, vocabulary: int, shards: Iterable[tuple[str, str]]) -> str:
    """32 hexadecimal digits that name the plan. `shards`: (token file, digest of all that its `collect.INPUT` table
    came from), in the order in which `build` will get them."""
    state = hashlib.blake2b(digest_size=16)
    for path, found in shards:
        state.update(f"{path}\0{found}\n".encode())
    mixture = spec.mixture.model_dump(mode="json", exclude={"shards", "tokens"})
    steps: Any = spec.steps
    if any(phase.batch for phase in spec.mixture.phases):  # one sum of steps then comes of several budgets
        steps = [shape.steps for shape in spec.shapes]
    batch = [spec.training.sequence, spec.training.rows, steps, spec.training.evaluate.tokens]
    objective = spec.training.model_dump(mode="json", include={"objective", "loss_by"})  # without what is not asked for
    model = spec.model.model_dump(mode="json", include={"vocabulary"})
    named = spec.tokenizer.model_dump(mode="json", include={"mask"})
    asked = [each for each in (objective, model, named) if each]
    return digest([VERSION, spec.seed, vocabulary, list(spec.mixed), mixture, batch, *asked, state.hexdigest()])


def plan_folder(spec: Spec, key: str) -> str:
    return f"plans/{spec.name}@{key[:16]}"


class Folder:
    """A plan's files as they are written, with the digest of each."""

    def __init__(self, store: Store, path: str) -> None:
        self.store, self.path = store, path
        self.content: dict[str, str] = {}

    def write(self, name: str, table: pa.Table) -> None:
        buffer = io.BytesIO()
        with pa.ipc.new_file(buffer, table.schema) as writer:
            writer.write_table(table.combine_chunks())
        data = buffer.getvalue()
        self.store.commit(f"{self.path}/{name}", data)
        self.content[name] = content_digest(data)


def build(
    spec: Spec,
    vocabulary: int,
    key: str,
    shards: Iterable[tuple[str, pa.Table]],
    store: Store,
    checksums: Mapping[str, str] | None = None,
    own: Mapping[str, int] | None = None,
    trained: Mapping[str, Sequence[Read]] | None = None,
) -> dict[str, Any]:
    """Write the plan into `plan_folder(spec, key)`, plan.json last, and return what plan.json says.

    `shards`: (token file in the store, `collect.INPUT` table), in a fixed order; `checksums`, which may be filled while
    these are taken: of each token file's values; `own`: what the objectives need and the tokenizer has -> its number
    there; `trained`: of plans of `mixture.seen` on which no training came to its end, the rows that each read. Raises
    MixtureError, before anything is written, with one line for each thing that cannot be met."""
    found = collect(spec, shards)
    documents, seen = with_seen(store, spec.mixture.seen, found.train, found.files, trained or {})
    entries, origins = _entries(spec, documents)
    sizes = {name: int(each.length.sum(dtype=np.int64)) for name, each in entries.items()}
    phases = schedule(spec, sizes)
    usages, streams = allot(spec, phases, entries)
    folder = Folder(store, plan_folder(spec, key))
    counted = [_write_phase(folder, spec, n, phase, entries, streams[: n + 1]) for n, phase in enumerate(phases)]
    held_out = _write_held_out(folder, spec, found.held_out)
    uses = usage.uses_of_documents(documents, usages, [counts.held for counts in counted], origins)
    folder.write("usage.arrow", usage.table(documents, uses))
    plan = {
        **_settings_json(spec, vocabulary, key, own or {}, found.values),
        **_phases_json(spec, phases, counted),
        "usage": {
            name: usage.summary(of, uses[name], [counts.held[name] for counts in counted if name in counts.held])
            for name, of in usages.items()
        },
        **({"repetitive": found.repetitive} if found.repetitive else {}),
        **({"seen": seen} if seen else {}),
        "held_out": held_out,
        "files": found.files,
        "checksums": [(checksums or {}).get(path, "") for path in found.files],
        "content": folder.content,
    }
    store.commit_json(f"{folder.path}/plan.json", plan)
    return plan


def _entries(spec: Spec, documents: dict[str, Documents]) -> tuple[dict[str, Documents], dict[str, np.ndarray]]:
    """What rows are cut from, by channel: each document as often as the mixture says, and which document each entry is;
    of the latter {} where every document is one entry."""
    if not repeats.asked(spec):
        return documents, {}
    entries, origins = {}, {}
    for name, each in documents.items():
        entries[name], origins[name] = repeats.entries(each, spec)
    return entries, origins


def rows_per_file(sequence: int) -> int:
    return max(1, FILE_TOKENS // (sequence + 1))


@dataclass(frozen=True)
class _Counts:
    """Tokens of a phase, by channel: targets; and of rows packed by best fit, what they leave empty, and what no row
    holds. Where any phase packs so, also what rows hold of each stream."""

    supervised: dict[str, int]
    padding: dict[str, int]
    discarded: dict[str, int]
    held: dict[str, Held]


def _write_phase(
    folder: Folder,
    spec: Spec,
    number: int,
    phase: PhaseRows,
    train: dict[str, Documents],
    so_far: Sequence[dict[str, Stream]],
) -> _Counts:
    """The row files of a phase. `so_far`: the streams of the phases up to this one."""
    *earlier, streams = so_far
    channels = list(spec.mixed)
    channel, row = training_order(phase, channels, number, spec.seed)
    size, noise = rows_per_file(phase.shape.sequence), Noise(spec.seed, number)
    supervised = dict.fromkeys(phase.rows, 0)
    packed = {}
    if phase.shape.packing == "best_fit":
        window = ORDERED_WINDOW if phase.shape.order else WINDOW
        packed = {
            name: pack(stream, phase.rows[name], phase.cut, window, train[name].cuts.get(number))
            for name, stream in streams.items()
        }

    def cut_rows(name: str, wanted: np.ndarray) -> Segments:
        if name in packed:
            return packed_rows(packed[name], streams[name], train[name], wanted)
        return cut_into_rows(streams[name], train[name], wanted, phase.cut)

    for place, start in enumerate(range(0, len(channel), size)):
        whose, rows = channel[start : start + size], row[start : start + size]
        present = np.unique(whose)
        parts = [cut_rows(channels[k], rows[whose == k]) for k in present]
        cut = interleave_rows(np.searchsorted(present, whose), parts)
        counts = target_counts(phase.shape.objective, cut.columns["length"], cut.count, start, noise)
        table = row_table(whose, cut, counts)
        folder.write(f"rows-{number}-{place:05d}.arrow", table)
        targets = table["supervised"].to_numpy()
        for k in present:
            supervised[channels[k]] += int(targets[whose == k].sum())
    none = dict.fromkeys(phase.rows, 0) if packed else {}  # of channels without a row
    padding = none | {name: each.padding for name, each in packed.items()}
    discarded = none | {name: each.discarded for name, each in packed.items()}
    kept = {}
    if "best_fit" in {shape.packing for shape in spec.shapes}:
        for name, stream in streams.items():
            before = [each[name] for each in earlier if name in each]
            kept[name] = held(stream, packed.get(name), train[name].length, before)
    return _Counts(supervised, padding, discarded, kept)


def _write_held_out(folder: Folder, spec: Spec, held_out: dict[str, Documents]) -> dict[str, dict[str, int]]:
    """`held_out.arrow`: windows of each channel's documents, up to `training.evaluate.tokens`."""
    objective = spec.training.objective
    shape, noise = row_shape(objective, spec.training.sequence), Noise(spec.seed, None)
    most = max(1, spec.training.evaluate.tokens // spec.training.sequence)
    found = {kind: dict.fromkeys(held_out, 0) for kind in ("documents", "rows", "supervised")}
    tables: list[pa.Table] = []
    for index, (name, documents) in enumerate(held_out.items()):
        if not len(documents.length):
            continue
        stream = windows(documents, shape)
        ends = np.cumsum(stream.length)
        rows = np.arange(min(most, -(-int(ends[-1] - shape.overlap) // shape.stride)))
        cut, first = cut_into_rows(stream, documents, rows, shape), sum(map(len, tables))
        counts = target_counts(objective, cut.columns["length"], cut.count, first, noise)
        table = row_table(np.full(len(rows), index), cut, counts)
        tables.append(table)
        # Where rows overlap, the last row's last token may begin one more document: no target.
        read = ends - stream.length < len(rows) * shape.stride
        found["documents"][name] = len(np.unique(stream.document[read]))
        found["rows"][name] = len(rows)
        found["supervised"][name] = int(table["supervised"].to_numpy().sum())
    folder.write("held_out.arrow", pa.concat_tables(tables) if tables else ROWS.empty_table())
    return found


def windows(documents: Documents, shape: RowShape) -> Stream:
    """The documents cut into the fewest even windows of at most a row's tokens, in turns: each document's first window,
    then the second one of those that have it, and so on. The hash of an id says where its document stands in every
    turn, and which of its windows is its first; the ones behind it follow, around the document's end.

    Beside the steps: rows of 4 tokens; documents of 10 tokens, which have three windows, and of 3; by the hash the
    second stands before the first, whose first window is its last one."""
    order = np.argsort(seeded_hash(documents.hash, "held_out"), kind="stable")  # 1 0
    count = -(-documents.length[order].astype(np.int64) // shape.width)  # 1 3
    turn = numbers_within(count)  # 0, 0 1 2
    by_turn = np.argsort(turn, kind="stable")
    document, count, turn = (values[by_turn] for values in (np.repeat(order, count), np.repeat(count, count), turn))
    first = (seeded_hash(documents.hash, "window")[document] % count.astype(np.uint64)).astype(np.int64)  # 0, 2 2 2
    place, length = (first + turn) % count, documents.length[document].astype(np.int64)  # 0, 2 0 1
    start = place * length // count  # 0, 6 0 3
    return Stream(document, start, (place + 1) * length // count - start, turn + 1)


def _settings_json(
    spec: Spec, vocabulary: int, key: str, own: Mapping[str, int], values: dict[str, list[str]]
) -> dict[str, Any]:
    """What plan.json says of the spec, the tokenizer's vocabulary and `training.loss_by`."""
    special = added_tokens(spec, vocabulary)
    return {
        "digest": key,
        "spec": spec.name,
        "seed": spec.seed,
        "vocabulary": vocabulary + len(special),
        "special": list(special),
        **({"own": dict(own)} if own else {}),
        "sequence": spec.training.sequence,
        "objective": spec.training.objective.model_dump(mode="json"),
        "loss_by": values,
        "channels": list(spec.mixed),
        **({"augmented": spec.augmentations} if spec.augmentations else {}),
    }


def _phases_json(spec: Spec, phases: Sequence[PhaseRows], counted: Sequence[_Counts]) -> dict[str, Any]:
    """What plan.json says of steps, rows and targets."""
    return {
        "steps": sum(phase.steps for phase in phases),
        "rows_per_step": spec.training.rows,
        "rows_per_file": rows_per_file(spec.training.sequence),
        "phases": [_phase_json(n, phase, counted[n]) for n, phase in enumerate(phases)],
        "supervised": sum(sum(counts.supervised.values()) for counts in counted),
        "channel_tokens": {name: sum(counts.supervised.get(name, 0) for counts in counted) for name in spec.mixed},
    }


def _phase_json(number: int, phase: PhaseRows, counts: _Counts) -> dict[str, Any]:
    rows, shape = sum(phase.rows.values()), phase.shape
    return {
        "name": str(number + 1),
        "where": phase.where,
        "first_step": phase.first_step,
        "steps": phase.steps,
        "rows": rows,
        "rows_per_step": shape.rows,
        "rows_per_file": rows_per_file(shape.sequence),
        "sequence": shape.sequence,
        "objective": shape.objective.model_dump(mode="json"),
        "rope_theta": shape.rope_theta,
        "weights": phase.weights,
        "channels": {
            name: {
                "target": phase.weights[name],
                "share": count / rows,
                "rows": count,
                "supervised": counts.supervised[name],
                **({"padding": counts.padding[name], "discarded": counts.discarded[name]} if counts.padding else {}),
            }
            for name, count in phase.rows.items()
        },
    }
