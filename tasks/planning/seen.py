"""How often earlier trainings read the documents of a plan, by the usage tables of their plans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from tasks.planning.files import read_plan, read_rows
from tasks.planning.mixture import MixtureError
from tasks.planning.packing import Documents
from tasks.storage.store import Store

Known = dict[str, dict[str, int]]
"""Of each plan that is named, the `documents` that it read, and those `elsewhere`: in token files that are not among
those of the plan that is made, so that nothing is known of them."""


def with_seen(
    store: Store, plans: Sequence[str], train: Mapping[str, Documents], files: Sequence[str]
) -> tuple[dict[str, Documents], Known]:
    """The documents of each channel with the uses of all these plans. A document is known by its place in a token file,
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
        file, offset, uses, known[folder] = _usage(store, folder, number)
        here = _keys(file, offset)
        for name, own in keys.items():
            place = np.searchsorted(own, here, sorter=order[name])
            inside = place < len(own)
            row = order[name][place[inside]]
            same = own[row] == here[inside]
            counts[name][row[same]] += uses[inside][same]
    return {name: replace(found, seen=counts[name]) for name, found in train.items()}, known


def told(known: Known) -> str:
    """What to say of plans whose documents are not all known; "" where they are."""
    return "; ".join(
        f"mixture.seen: {each['elsewhere']:,} of the {each['documents']:,} documents that {folder} read count as not "
        "read: the token files that they stood in are not of this plan, as after other rules, texts or shards"
        for folder, each in known.items()
        if each["elsewhere"]
    )


def _usage(
    store: Store, folder: str, number: Mapping[str, int]
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
    known = np.array([number.get(path, -1) for path in plan["files"]] or [-1], np.int64)
    file, offset, uses = (table[name].to_numpy() for name in ("file", "offset", "uses"))
    mine = (known[file] >= 0) & (uses > 0)
    read = int((uses > 0).sum())
    if read and not mine.any():
        raise MixtureError(
            f"mixture.seen: nothing is known of the {read:,} documents that {folder} read: they stood in other token "
            "files, as those of another tokenizer do; leave it out, or take the tokenizer that it was made with"
        )
    counts = {"documents": read, "elsewhere": read - int(mine.sum())}
    return known[file][mine], offset[mine], uses[mine].astype(np.int32), counts


def _keys(file: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """A number for each place in a token file, which has fewer than 2**40 tokens."""
    return (file.astype(np.int64) << 40) | offset.astype(np.int64)
