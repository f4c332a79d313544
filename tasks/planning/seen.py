"""How often earlier trainings read the documents of a plan, by the usage tables of their plans, and by the rows that
they were trained on where these are not all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data_specs.amounts import plural
from tasks.planning.files import place_of, read_plan, read_rows
from tasks.planning.mixture import MixtureError
from tasks.planning.packing import Documents
from tasks.storage.store import Store

Known = dict[str, dict[str, int]]
"""Of each plan that is named, the `documents` that it read, and those `elsewhere`: in token files that are not among
those of the plan that is made, so that nothing is known of them. Where no training on it came to its end, `rows` that
the one which came farthest had read."""
Read = list[tuple[int, int, int]]
"""Phase, first row and number of rows of the steps that a training was trained on."""


def with_seen(
    store: Store,
    plans: Sequence[str],
    train: Mapping[str, Documents],
    files: Sequence[str],
    trained: Mapping[str, Sequence[Read]],
) -> tuple[dict[str, Documents], Known]:
    """The documents of each channel with the uses of all these plans; of one that was `trained` on in parts those of
    these parts, where several trainings read a document the most. A document is known by its place in a token file,
    so plans of another tokenizer say nothing of it. Raises MixtureError where there is no such plan, or it says nothing
    of any document here."""
    known: Known = {}
    if not plans:
        return dict(train), known
    counts = {name: np.zeros(len(found.length), np.int32) for name, found in train.items()}
    number = {path: index for index, path in enumerate(files)}
    keys = {name: _keys(found.file, found.offset) for name, found in train.items()}
    order = {name: np.argsort(each) for name, each in keys.items()}
    for folder in dict.fromkeys(plans):  # one that is named twice was read once
        file, offset, uses, known[folder] = _usage(store, folder, number, trained.get(folder))
        here = _keys(file, offset)
        for name, mine in keys.items():
            place = np.searchsorted(mine, here, sorter=order[name])
            inside = place < len(mine)
            row = order[name][place[inside]]
            same = mine[row] == here[inside]
            counts[name][row[same]] += uses[inside][same]
    return {name: replace(found, seen=counts[name]) for name, found in train.items()}, known


def rows_of(trained: Sequence[Read]) -> int:
    """Rows that the training which came farthest had read."""
    return max((sum(count for _, _, count in read) for read in trained), default=0)


def elsewhere_in_words(known: Known) -> str:
    """What to say of plans whose documents are not all known; "" where they are."""
    return "; ".join(
        f"mixture.seen: of the {plural(each['documents'], 'document')} that {folder} read "
        f"{plural(each['elsewhere'], 'counts', 'count')} as not read: the token files that they stood in are not of "
        "this plan, as after other rules, texts or shards"
        for folder, each in known.items()
        if each["elsewhere"]
    )


def _usage(
    store: Store, folder: str, number: Mapping[str, int], trained: Sequence[Read] | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, int]]:
    """File, offset and uses of the documents that a plan read and that stand in token files which are known here; and
    how many stand there, and elsewhere."""
    try:
        plan = read_plan(store, folder)
    except FileNotFoundError:
        raise MixtureError(f"mixture.seen: there is no plan {folder} in {store.url}") from None
    if (digest := plan["content"].get("usage.arrow")) is None:
        raise MixtureError(f"mixture.seen: {folder} is a plan by an earlier version, which kept no usage of documents")
    table = read_rows(store, f"{folder}/usage.arrow", digest)
    rows = {}
    if trained is not None:
        table = table.set_column(4, "uses", pa.array(_begun(store, folder, plan, table, trained)))
        rows = {"rows": rows_of(trained)}
    known = np.array([number.get(path, -1) for path in plan["files"]] or [-1], np.int64)
    file, offset, uses = (table[name].to_numpy() for name in ("file", "offset", "uses"))
    mine = (known[file] >= 0) & (uses > 0)
    read = int((uses > 0).sum())
    if read and not mine.any():
        raise MixtureError(
            f"mixture.seen: nothing is known of the {plural(read, 'document')} that {folder} read: they stood in other "
            "token files, as those of another tokenizer do; leave it out, or take the tokenizer that it was made with"
        )
    counts = {"documents": read, "elsewhere": read - int(mine.sum()), **rows}
    return known[file][mine], offset[mine], uses[mine].astype(np.int32), counts


def _begun(
    store: Store, folder: str, plan: Mapping[str, Any], table: pa.Table, trained: Sequence[Read]
) -> NDArray[np.int32]:
    """How often the rows that a training read begin each document of a plan's usage; of several trainings the most."""
    wanted = _keys(table["file"].to_numpy(), table["offset"].to_numpy())
    order = np.argsort(wanted)
    found = np.zeros((max(1, len(trained)), len(wanted)), np.int32)
    for name in (name for name in plan["content"] if name.startswith("rows-")):
        phase, first = place_of(name, dict(plan))
        rows = read_rows(store, f"{folder}/{name}", plan["content"][name])
        segments = pc.list_value_length(rows["length"]).to_numpy()
        begins = _begins(rows, plan["phases"][phase])
        row = np.repeat(np.arange(first, first + len(rows)), segments)[begins]
        keys = _keys(*(pc.list_flatten(rows[column]).to_numpy()[begins] for column in ("file", "offset")))
        for read, uses in zip(trained, found, strict=False):
            inside = np.zeros(len(rows) + 1, np.int64)
            for _, begin, count in (each for each in read if each[0] == phase):
                inside[np.clip(begin - first, 0, len(rows))] += 1
                inside[np.clip(begin + count - first, 0, len(rows))] -= 1
            mine = keys[np.cumsum(inside)[row - first] > 0]
            at = np.minimum(np.searchsorted(wanted, mine, sorter=order), len(wanted) - 1)
            np.add.at(uses, order[at[wanted[order[at]] == mine]], 1)
    return np.minimum(found.max(axis=0), table["uses"].to_numpy())


def _begins(rows: pa.Table, phase: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Which segments of rows may be the beginning of a use of their document. Where rows overlap, a first token that
    ends a row begins the next one, too, and counts there; of a document that is turned round all segments have the
    offset of its first token, and their own `start`."""
    found = np.ones(len(pc.list_flatten(rows["length"])), bool)
    if phase.get("objective", {"kind": "causal"})["kind"] in ("causal", "prefix"):
        found &= pc.list_flatten(rows["length"]).to_numpy() > 1
    if "start" in rows.column_names:
        found &= pc.list_flatten(rows["start"]).to_numpy() == 0
    return found


def _keys(file: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """A number for each place in a token file, which has fewer than 2**40 tokens."""
    return (file.astype(np.int64) << 40) | offset.astype(np.int64)
