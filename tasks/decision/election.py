"""The election among duplicates: who survives, and who survives in the place of each other one.

Documents are asked in the order of preference. One whose text no survivor is alike to survives, and removes what comes
later of its own text and of those that it is alike to. Where a is alike to b, and b to c, in this order: a survives and
removes b, and c survives. Whole clusters are elected at once, and a cluster may be most of a corpus: so nothing that
grows with one is held. Documents come block by block, what has to be known of each lies sorted in files where it is
more than memory should hold (tasks/arrays/external.py), and pairs are gone through in the order of the later of both:
once it is its turn, all that come before it are decided.

An example: texts a, b and c are asked in this order, so they are 0, 1 and 2. b lists a, and c lists b: as pairs (later,
earlier) these are (1, 0) and (2, 1), and are read in this order. (1, 0): nothing is gone, so 1 is, by 0. (2, 1): 1 is
gone, and takes nobody down. So a and c survive, and a in the place of b.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.arrays import external
from tasks.arrays.addresses import U64, arrays, true
from tasks.arrays.external import Sorted, flags, folded, joined
from tasks.arrays.groups import runs

Chosen = Callable[[pa.Table], NDArray[np.bool_]]
"""Which of some documents (`cluster`, `older`, `held_out`, `passes`) may survive."""

_NOT_OLDER, _NOT_HUB, _LAST = np.uint64(2**63), np.uint64(2**62), np.uint64(2**64 - 1)
_LATER, _EARLIER = np.uint64(32), np.uint64(2**32 - 1)
"""A pair is one number: that of the later text in the higher bits, that of the earlier one in the lower."""


class Election:
    """Documents of whole clusters, and which texts are alike. A text is what copies have in common."""

    def __init__(self, preferred: Sequence[tuple[str, str]]) -> None:
        """The columns that say who is preferred, and how they are sorted. Older documents, which have no `id`, come
        first; others by `id` at last."""
        self.preferred = [name for name, _ in preferred]
        self.documents = Sorted(("older", "descending"), *preferred, ("id", "ascending"))
        self.pairs = Sorted(("text", "ascending"))
        """Each text with those that its documents list."""
        self.shards: dict[int, int] = {}
        """Numbers of shards, in which documents are."""
        self.count = 0
        self.older = self.evaluated = False
        """Whether there are documents that survived before, and newer ones that are held out."""

    def add(self, batch: pa.RecordBatch) -> None:
        """Documents, which are called by their addresses."""
        for start in range(0, batch.num_rows, external.BLOCK):
            self._add(batch.slice(start, external.BLOCK))

    def _add(self, rows: pa.RecordBatch) -> None:
        address = self._keys(rows["shard"], rows["position"])
        copy = rows["copy_of"].is_valid().to_numpy(zero_copy_only=False)
        text = address.copy()
        text[copy] = self._keys(*rows["copy_of"].filter(pa.array(copy)).flatten())
        older = rows["id"].is_null()
        held_out = pc.fill_null(rows["held_out"], False)
        documents = {
            "number": np.arange(self.count, self.count + rows.num_rows, dtype=np.uint64),
            "address": address,
            "text": text,
            "cluster": rows["cluster"],
            "older": older,
            "hub": pc.fill_null(rows["hub"], False),
            "held_out": held_out,
            "passes": rows["passes"],
            "id": rows["id"],
        }
        self.count += rows.num_rows
        self.older |= pc.any(older).as_py()
        self.evaluated |= pc.any(pc.and_not(held_out, older)).as_py()
        matters = pc.or_(pc.or_(documents["hub"], held_out), rows["passes"])
        self.documents.add(pa.table(documents | {name: rows[name] for name in self.preferred}).filter(matters))
        row, partners = pc.list_parent_indices(rows["alike"]), pc.list_flatten(rows["alike"])
        for start in range(0, len(row), external.BLOCK):
            shard, position, similarity = partners.slice(start, external.BLOCK).flatten()
            lists = text[row.slice(start, external.BLOCK).to_numpy()]
            self.pairs.add(pa.table({"text": lists, "other": self._keys(shard, position), "similarity": similarity}))

    def _keys(self, shard: pa.Array, position: pa.Array) -> U64:
        """Addresses as one number each."""
        uids, place = np.unique(shard.to_numpy(), return_inverse=True)
        numbers = np.array([self.shards.setdefault(uid, len(self.shards)) for uid in uids.tolist()], np.uint64)
        return numbers[place] << np.uint64(32) | position.to_numpy()

    def duplicates(self, eligible: Chosen) -> Iterator[pa.Table]:
        """Block by block the newer documents that are removed of those that may survive: the `number` and `address` of
        each, the address of its `survivor`, and their `similarity`."""
        return _elected(self._ordered(eligible), self.pairs, self.older)

    def _ordered(self, eligible: Chosen) -> Iterator[pa.Table]:
        for rows in self.documents:
            may = eligible(rows)
            yield _asked(rows, true(rows["hub"]), may, may & ~true(rows["older"]))

    def seen(self) -> Iterator[pa.Table]:
        """The same of new held-out documents of the same text as an older one that was kept, or alike to it."""
        if not (self.older and self.evaluated):
            return iter(())
        return _elected(self._as_given(), self.pairs, one_sided=True)

    def _as_given(self) -> Iterator[pa.Table]:
        documents = Sorted(("number", "ascending"))
        for rows in self.documents:
            older, passes, held_out = (true(rows[name]) for name in ("older", "passes", "held_out"))
            documents.add(_asked(rows, np.zeros(len(rows), bool), older & passes, held_out & ~older))
        return iter(documents)

    def addresses(self, documents: U64) -> tuple[U64, NDArray[np.uint32]]:
        """Shards and positions of documents."""
        shards = np.array([*self.shards], np.uint64)
        return shards[documents >> np.uint64(32)], documents.astype(np.uint32)


def _asked(rows: pa.Table, hub: NDArray[np.bool_], may: NDArray[np.bool_], asks: NDArray[np.bool_]) -> pa.Table:
    """Documents, which of them may survive, and of which it is asked whether they do."""
    known = {name: rows[name] for name in ("number", "address", "text", "older")}
    return pa.table(known | {"hub": hub, "may": may, "asks": asks}).filter(pa.array(hub | may | asks))


def _elected(documents: Iterable[pa.Table], pairs: Sorted, one_sided: bool) -> Iterator[pa.Table]:
    """Documents in the order in which they are asked, and pairs -> those that ask and are removed. Where pairs are
    `one_sided`, only one of both lists the other: older documents have survived, and what they are alike to does not
    list them, but is listed."""
    members = Sorted(("text", "ascending"))
    texts = _Texts(documents, members)
    survivors = Sorted(("text", "ascending"))
    texts.settle(texts.directed(pairs, one_sided), survivors)
    asking = (rows.filter(rows["asks"]).select(["text", "number", "address"]) for rows in members)
    for rows in joined(asking, survivors, "text"):
        yield rows.filter(pc.not_equal(rows["address"], rows["survivor"]))


class _Texts:
    """Texts, numbered in the order in which their first documents are asked."""

    def __init__(self, documents: Iterable[pa.Table], members: Sorted) -> None:
        """`members`: where documents are put by their text."""
        asked = 0
        for rows in documents:
            members.add(rows.append_column("place", pa.array(np.arange(asked, asked + len(rows), dtype=np.uint64))))
            asked += len(rows)
        ordered = Sorted(("order", "ascending"))
        for rows in folded(map(_alone, members), _text):
            ordered.add(_in_order(rows.filter(pc.or_(rows["may"], rows["asks"]))))
        self.known, self.numbers = Sorted(), Sorted(("text", "ascending"))
        self.count = self.older = self.may = 0
        for rows in ordered:
            order, may = arrays(rows, "order", "may")
            number = np.arange(self.count, self.count + len(rows), dtype=np.uint64)
            self.known.add(rows.select(["text", "first", "last"]).append_column("rank", pa.array(number)))
            self.numbers.add(pa.table({"text": rows["text"], "rank": number}))
            self.count += len(rows)
            self.may += int(may.sum())
            self.older += int((order < _NOT_OLDER).sum())

    def directed(self, pairs: Sorted, one_sided: bool) -> Sorted:
        """Pairs of which the earlier one may remove the later, by the later one."""
        halves, found = Sorted(("text", "ascending")), Sorted(("pair", "ascending"))
        for rows in joined(pairs, self.numbers, "text"):
            halves.add(pa.table({"text": rows["other"], "one": rows["rank"], "similarity": rows["similarity"]}))
        for rows in joined(halves, self.numbers, "text"):
            one, other, similarity = arrays(rows, "one", "rank", "similarity")
            earlier, later = (np.minimum(one, other), np.maximum(one, other)) if one_sided else (one, other)
            here = (earlier < later) & (earlier < self.may) & (later >= self.older)
            pair = later[here] << _LATER | earlier[here]
            found.add(pa.table({"pair": pair, "similarity": similarity[here]}))
        return found

    def settle(self, pairs: Sorted, survivors: Sorted) -> None:
        """Find of each text the document that survives in its place: one of its own, or of the first one before it
        that survives and that it is alike to."""
        gone = flags(self.count)
        removed, claims = Sorted(), Sorted(("rank", "ascending"))
        for rows in pairs:
            pair, similarity = arrays(rows, "pair", "similarity")
            found = _decide(gone, pair >> _LATER, pair & _EARLIER)
            later = {"rank": pair[found] >> _LATER, "by": pair[found] & _EARLIER, "similarity": similarity[found]}
            removed.add(pa.table(later))
        for rows in joined(removed, self.known, "rank"):
            claims.add(pa.table({"rank": rows["by"], "of": rows["text"], "similarity": rows["similarity"]}))
        for rows in joined(claims, self.known, "rank"):
            survivors.add(_survivors(rows["of"], rows["first"], rows["similarity"]))
        for rows in self.known:
            rank = rows["rank"].to_numpy()
            surviving = rows.filter(pa.array((gone[rank.astype(np.int64)] == 0) & (rank < self.may)))
            survivors.add(_survivors(surviving["text"], surviving["last"], np.ones(len(surviving), np.float32)))


def _survivors(text: pa.ChunkedArray, survivor: pa.ChunkedArray, similarity: object) -> pa.Table:
    return pa.table({"text": text, "survivor": survivor, "similarity": similarity})


def _decide(gone: NDArray[np.uint8], later: U64, earlier: U64) -> NDArray[np.int64]:
    """Go through pairs, and take down who is gone -> the pairs by which it is."""
    open_pairs = np.flatnonzero((gone[later.astype(np.int64)] | gone[earlier.astype(np.int64)]) == 0)
    is_gone, found = gone.data, []
    for number, one, other in zip(
        open_pairs.tolist(), later[open_pairs].tolist(), earlier[open_pairs].tolist(), strict=True
    ):
        if not (is_gone[other] or is_gone[one]):
            is_gone[one] = 1
            found.append(number)
    return np.array(found, np.int64)


def _alone(rows: pa.Table) -> pa.Table:
    """Documents as texts of which there is no other one."""
    known = {name: rows[name] for name in ("text", "place", "older", "hub", "may", "asks")}
    return pa.table(known | {"first": rows["address"], "last": rows["address"]})


def _text(rows: pa.Table) -> pa.Table:
    """Documents by text, those of a text in the order in which they are asked -> the texts: the place of the first that
    may survive, and which one that is; whether it is older; the last of the older ones, which survive in any case, else
    the first."""
    text, may, older, hub, asks = arrays(rows, "text", "may", "older", "hub", "asks")
    starts, ends = runs(text)
    group = np.repeat(np.arange(len(starts)), ends - starts)
    able = np.flatnonzero(may)
    first = starts.copy()
    those, at = np.unique(group[able], return_index=True)
    first[those] = able[at]
    last, again = first.copy(), able[older[able]]
    last[group[again]] = again
    known = {name: rows[name].take(first) for name in ("text", "place", "first", "older")}
    known |= {"last": rows["last"].take(last)}
    known |= {
        name: np.logical_or.reduceat(values, starts) for name, values in (("may", may), ("hub", hub), ("asks", asks))
    }
    return pa.table(known).select(rows.column_names)


def _in_order(texts: pa.Table) -> pa.Table:
    """Texts with the number by which they are sorted: older ones first, then hubs, then by their documents; those of
    which no document may survive at last."""
    place, older, hub, may = arrays(texts, "place", "older", "hub", "may")
    order = place + np.where(older, np.uint64(0), _NOT_OLDER) + np.where(hub, np.uint64(0), _NOT_HUB)
    known = {"order": np.where(may, order, _LAST), "text": texts["text"], "may": may}
    return pa.table(known | {"first": texts["first"], "last": texts["last"]})
