"""An LSH index of other documents, such as an older corpus or an evaluation set, on disk: which of them a text is alike
to, by the true Jaccard similarity of their shingle sets, found as `duplicates` finds pairs (tasks/dedup/minhash.py).

A folder of plain arrays that are mapped into memory, so that all workers of a machine share what they read of it, and
none holds it: 8 bytes a shingle and 12 for each band of a document, some 5 KB for a document of 600 words. While an
index is written, the keys of its bands are in memory, which is about 1 KB a document.
"""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from data_specs.document import SpecError
from tasks.arrays.addresses import U64
from tasks.arrays.groups import changes, numbers_within, runs
from tasks.dedup import minhash
from tasks.sources.digests import remembered
from tasks.text.units import Mask

FACTS = "index.json"
"""Written last: what the index is of, and of each file beside it the sha256, which names it, and the `content`
(BLAKE2b), which it is held against before it is used."""
ARRAYS = {"keys": np.uint64, "documents": np.uint32, "ends": np.int64, "shingles": np.uint64}
"""Keys of bands, ascending; the number of each one's document; where documents' shingles end; those, ascending."""
MOST = 64
"""Documents that are compared for one key of a band, at most: the first."""
CHUNK = 1000


Document = tuple[str, str] | tuple[str, str, bool]
"""Its name and its text; and whether symbols count in it, in an index that counts them."""


def build(
    folder: Path,
    documents: Iterable[Document],
    floor: float,
    hashes: int = 128,
    words: int = 5,
    characters: int = 5,
    symbols: bool = False,
) -> dict[str, Any]:
    """Write the index of documents into a folder that is new, and return its facts. Pairs are found from a similarity
    of `floor` on. `symbols`: whether these count in some. Raises SpecError where there is an index already."""
    if (folder / FACTS).exists():
        raise SpecError(f"{folder} is an index already; remove it first, or name another")
    folder.mkdir(parents=True, exist_ok=True)
    bands, rows = minhash.bands_and_rows(floor, hashes)
    keys, names, ends = [np.empty((0, bands), np.uint64)], list[str](), [0]
    with open(folder / "shingles.bin", "wb") as file:
        stream = iter(documents)
        while chunk := list(islice(stream, CHUNK)):
            counted = np.array([symbols and each[-1] is True for each in chunk])
            found = list(sketches([each[1] for each in chunk], words, characters, bands, rows, counted))
            for number, _, shingles in found:
                file.write(shingles.tobytes())
                ends.append(ends[-1] + len(shingles))
                names.append(chunk[number][0])
            keys.append(np.array([own for _, own, _ in found], np.uint64).reshape(-1, bands))
    _write_groups(folder, np.concatenate(keys))
    _write_array(folder, "ends", np.array(ends[1:]))
    table = pa.table({"name": pa.array(names, pa.large_string())})
    with pa.OSFile(str(folder / "names.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    facts: dict[str, Any] = {
        "floor": floor,
        "hashes": hashes,
        "words": words,
        "characters": characters,
        "bands": bands,
        "rows": rows,
    }
    facts |= {"symbols": True} if symbols else {}
    facts |= {"signatures": minhash.VERSION, "unicode": unicodedata.unidata_version}
    facts |= {"indexed": len(names), "shingles": ends[-1]}
    facts["files"] = {name: _sha256(folder / name) for name in _files()}
    facts["content"] = _content(folder, _files())
    part = folder / f"{FACTS}.part"
    part.write_bytes(orjson.dumps(facts, option=orjson.OPT_INDENT_2))
    os.replace(part, folder / FACTS)
    return facts


def _write_groups(folder: Path, keys: np.ndarray) -> None:
    """Which documents are in the groups of each key, a row of `keys` a document: of each group the first `MOST`."""
    documents, bands = keys.shape
    key, document = keys.ravel(), np.arange(documents, dtype=np.uint32).repeat(bands)
    order = np.lexsort((document, key))
    order = order[changes(key[order], document[order])]
    starts, stops = runs(key[order])
    order = order[numbers_within(stops - starts) < MOST]
    _write_array(folder, "keys", key[order])
    _write_array(folder, "documents", document[order])


def _write_array(folder: Path, name: str, values: np.ndarray) -> None:
    (folder / f"{name}.bin").write_bytes(values.astype(ARRAYS[name]).tobytes())


def facts_of(folder: Path) -> dict[str, Any]:
    """What an index is. Raises SpecError where a folder is none, or one made with other tables of characters, or
    other signatures."""
    try:
        found: dict[str, Any] = orjson.loads((folder / FACTS).read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise SpecError(f"{folder} is no index that `sluice index` made: {FACTS} cannot be read: {error}") from None
    made, here = (found.get("unicode") if isinstance(found, dict) else None), unicodedata.unidata_version
    if made != here:
        raise SpecError(f"{folder} was made with Unicode {made}, here it is {here}; make it again")
    if found.get("signatures") != minhash.VERSION:
        raise SpecError(
            f"{folder} holds signatures of another version of Sluice, by which nothing is found; make it again"
        )
    return found


def _files() -> list[str]:
    return [*(f"{name}.bin" for name in ARRAYS), "names.arrow"]


def _content(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """The digests of some files, each read once as long as it stays as it is."""
    with remembered(f"{folder.resolve()}/") as digests:
        return {name: digests.of(name, str(folder / name))[1] for name in names}


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sketches(
    texts: list[str], words: int, characters: int, bands: int, rows: int, symbols: Mask | None = None
) -> Iterator[tuple[int, U64, U64]]:
    """(number, keys of its bands, its distinct shingles, ascending) of each text that has shingles."""
    number = 0
    for hashes, offsets in minhash.shingles(texts, words, characters, symbols):
        keys = minhash.band_keys(minhash.signatures(hashes, offsets, bands * rows), bands, rows)
        for place, (start, end) in enumerate(pairwise(offsets.tolist())):
            if end > start:
                yield number + place, keys[place], np.unique(hashes[start:end])
        number += len(offsets) - 1


class LshIndex:
    """An index that is there."""

    def __init__(self, folder: Path) -> None:
        """Raises SpecError where a folder is none."""
        self.facts = facts_of(folder)
        recorded = self.facts.get("content", {})  # an earlier version recorded none
        try:
            found = _content(folder, recorded)
        except OSError as error:
            raise SpecError(f"{error.filename} cannot be read: {error.strerror}; copy the folder again") from None
        if other := [name for name, content in recorded.items() if found[name] != content]:
            raise SpecError(f"{folder / other[0]} is not as it was written: copy the folder again, or make it again")
        self.keys, self.documents, self.ends, self.shingles = (
            _mapped(folder / f"{name}.bin", kind) for name, kind in ARRAYS.items()
        )
        self.names = pa.ipc.open_file(pa.memory_map(str(folder / "names.arrow"))).read_all()["name"]
        sizes = {"documents": len(self.keys), "ends": self.facts["indexed"], "shingles": self.facts["shingles"]}
        for name, size in sizes.items():
            if len(getattr(self, name)) != size:
                raise SpecError(
                    f"{folder / name}.bin is not as it was written: copy the folder again, or make it again"
                )

    def nearest(self, texts: list[str], symbols: Mask | None = None) -> Iterator[tuple[int, str, float]]:
        """(number of the text, name of the document that is most alike to it, their similarity) of each text that is
        alike to one; of two that are equally alike the one that came first. `symbols`: in which texts these count."""
        words, characters, bands, rows = (self.facts[name] for name in ("words", "characters", "bands", "rows"))
        for number, keys, shingles in sketches(texts, words, characters, bands, rows, symbols):
            starts, ends = (np.searchsorted(self.keys, np.unique(keys), side) for side in ("left", "right"))
            others = np.unique(np.concatenate([self.documents[a:b] for a, b in zip(starts, ends, strict=True)]))
            best = max(((self._similarity(shingles, int(other)), -int(other)) for other in others), default=(0.0, 0))
            if best[0] >= self.facts["floor"]:
                yield number, self.names[-best[1]].as_py(), best[0]

    def _similarity(self, shingles: U64, other: int) -> float:
        end = int(self.ends[other])
        theirs = self.shingles[int(self.ends[other - 1]) if other else 0 : end]
        place = np.minimum(np.searchsorted(theirs, shingles), len(theirs) - 1)
        shared = int((theirs[place] == shingles).sum())
        return shared / (len(shingles) + len(theirs) - shared)


def _mapped(path: Path, kind: Any) -> np.ndarray:
    return np.memmap(path, kind, "r") if path.stat().st_size else np.empty(0, kind)
