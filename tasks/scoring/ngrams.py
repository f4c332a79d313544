"""n-gram models with interpolated modified Kneser-Ney smoothing (Chen & Goodman 1998), learned and asked in numpy.

A model says how many bits a symbol costs after those before it; the probabilities of all that may follow sum to one,
also where n-grams were left out. It is a trie: the node of an n-gram is found by the node of its first n - 1 symbols
and its last one, and holds what the last one costs and what backing off from the n-gram costs, as in an ARPA file: an
n-gram that has no node costs the back-off of its first n - 1 symbols, and what its last n - 1 symbols cost.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]

START = 0
"""The symbol that begins a sequence; it is given, never predicted."""
UNKNOWN = 1
"""The symbol for all that have none of their own."""
NODES = pa.schema([("order", pa.int32()), ("key", pa.uint64()), ("bits", pa.float32()), ("back_off", pa.float32())])
"""Nodes by order, then by key: node of the n-gram's first n - 1 symbols times the number of symbols, plus the last one;
those of order 1 are the symbols."""
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FREE = np.uint64(2**64 - 1)


@dataclass(frozen=True)
class _Grams:
    """The distinct n-grams of one order, numbered."""

    number: I64
    """Of each place in the text, the n-gram that ends there; -1 where its sequence has not so many symbols yet."""
    first: I64
    """A place of each."""
    count: I64
    kept: I64
    """Those that become nodes, in this order."""

    def __len__(self) -> int:
        return len(self.count)


def learned(symbols: I64, size: int, order: int) -> pa.Table:
    """The nodes of a model of sequences, one after the other, each begun by `START`; symbols are below `size`.

    n-grams of two symbols or more become nodes where two sequences have them: what one alone says would make that one
    more fluent than others that were not learned from. 1M symbols a second for order 3."""
    grams = [_symbols(symbols, size)]
    while len(grams) < order:
        grams.append(_longer(grams[-1], symbols, size))
    keys, probabilities, rests = [np.arange(size)], list[F64](), list[F64]()
    for place, each in enumerate(grams):
        weight = _weights(grams, place, symbols)
        share: F64 = weight - _discounts(weight)[np.minimum(weight, 3)]
        if place == 0:
            share /= max(weight.sum(), 1)
            probabilities.append(np.asarray(share + (1 - share.sum()) / (size - 1), np.float64))
            probabilities[0][START] = 1
            continue
        shorter, kept = grams[place - 1], each.kept
        parent = shorter.number[each.first - 1]
        share /= np.maximum(np.bincount(parent, weight, len(shorter)), 1)[parent]
        rest = 1 - np.bincount(parent[kept], share[kept], len(shorter)).astype(np.float64)
        rests.append(rest[shorter.kept])
        node = np.full(len(shorter), -1)
        node[shorter.kept] = np.arange(len(shorter.kept))
        keys.append(node[parent[kept]] * size + symbols[each.first[kept]])
        below = probabilities[-1][node[shorter.number[each.first[kept]]]]
        probabilities.append(np.asarray(share[kept] + rest[parent[kept]] * below, np.float64))
    rests.append(np.ones(len(keys[-1])))
    orders = enumerate(zip(keys, probabilities, rests, strict=True), 1)
    return pa.concat_tables(_nodes(order, *each) for order, each in orders)


def _symbols(symbols: I64, size: int) -> _Grams:
    first = np.zeros(size, np.int64)
    first[symbols[::-1]] = np.arange(len(symbols))[::-1]
    return _Grams(symbols, first, np.bincount(symbols, minlength=size), np.arange(size))


def _longer(grams: _Grams, symbols: I64, size: int) -> _Grams:
    """The n-grams of one symbol more."""
    before = np.concatenate([[-1], grams.number[:-1]])
    places = np.flatnonzero((before >= 0) & (symbols != START))
    keys = before[places] * size + symbols[places]
    distinct, first, number, count = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
    sequence = np.cumsum(symbols == START)[places]
    last = np.zeros(len(distinct), np.int64)
    last[number] = sequence  # the last of them stays
    numbers = np.full(len(symbols), -1)
    numbers[places] = number
    return _Grams(numbers, places[first], count, np.flatnonzero(sequence[first] != last))


def _weights(grams: list[_Grams], place: int, symbols: I64) -> I64:
    """What n-grams of one order count: the longest ones, and those that begin a sequence, how often they are there; the
    others, before how many different symbols."""
    each = grams[place]
    if place == 0 and len(grams) == 1:
        weight = each.count.copy()
    elif place + 1 == len(grams):
        return each.count
    else:
        weight = np.bincount(each.number[grams[place + 1].first], minlength=len(each))
        if place:
            begins = symbols[each.first - place] == START
            weight[begins] = each.count[begins]
    if place == 0:
        weight[START] = 0
    return weight


def _discounts(weight: I64) -> F64:
    """What is taken from n-grams that count 0, 1, 2, and 3 or more."""
    counts = np.bincount(np.minimum(weight, 5), minlength=6)
    if not counts[1:5].all():
        return np.array([0, 0.5, 1, 1.5])  # too few to tell
    y = counts[1] / (counts[1] + 2 * counts[2])
    found = [n - (n + 1) * y * counts[n + 1] / counts[n] for n in (1, 2, 3)]
    return np.array([0, *np.clip(found, 0.01, [0.99, 1.99, 2.99])])


def _nodes(order: int, key: I64, probability: F64, rest: F64) -> pa.Table:
    columns = [np.full(len(key), order), key, -np.log2(probability), -np.log2(np.maximum(rest, 1e-9))]
    return pa.table([pa.array(each).cast(field.type) for each, field in zip(columns, NODES, strict=True)], NODES)


class Model:
    """A model, to be asked what symbols cost."""

    def __init__(self, nodes: pa.Table) -> None:
        orders = nodes["order"].to_numpy()
        parts = [nodes.filter(pa.array(orders == order)) for order in np.unique(orders).tolist()]
        self._bits = [part["bits"].to_numpy() for part in parts]
        self._back_off = [part["back_off"].to_numpy() for part in parts]
        self._found = [_Found(part["key"].to_numpy()) for part in parts[1:]]
        self.size = len(self._bits[0])

    def bits(self, symbols: I64) -> NDArray[np.float32]:
        """What each symbol of some sequences costs; nothing where one begins. 5M symbols a second for order 3."""
        cost = self._bits[0][symbols]
        cost[symbols == START] = 0
        node, places = symbols, np.flatnonzero(symbols != START)
        for shorter, bits in enumerate(self._bits[1:]):
            before = node[places - 1]
            places, before = places[before >= 0], before[before >= 0]  # the others have nothing to back off from
            found = self._found[shorter].find((before * self.size + symbols[places]).astype(np.uint64))
            hit = found >= 0
            cost[places] = np.where(hit, bits[found], cost[places] + self._back_off[shorter][before])
            node = np.full(len(symbols), -1)
            node[places] = found
        return cost


class _Found:
    """A table of hashes: where each of some distinct keys stands."""

    def __init__(self, keys: NDArray[np.uint64]) -> None:
        power = max(int(2 * len(keys)).bit_length(), 4)
        self._shift, self._mask = np.uint64(64 - power), 2**power - 1
        self._keys, self._place = np.full(2**power, _FREE), np.full(2**power, -1, np.int32)
        waiting, slot = np.arange(len(keys)), self._slot(keys)
        while len(waiting):
            free = self._keys[slot] == _FREE
            self._keys[slot[free]] = keys[waiting[free]]
            mine = self._keys[slot] == keys[waiting]
            self._place[slot[mine]] = waiting[mine]
            waiting, slot = waiting[~mine], (slot[~mine] + 1) & self._mask

    def _slot(self, keys: NDArray[np.uint64]) -> I64:
        return ((keys * _GOLDEN) >> self._shift).astype(np.int64)

    def find(self, keys: NDArray[np.uint64]) -> NDArray[np.int32]:
        """The place of each key; -1 of one that is not there."""
        slot = self._slot(keys)
        there = self._keys[slot]
        found = np.where(there == keys, self._place[slot], -1).astype(np.int32)
        waiting = np.flatnonzero((there != keys) & (there != _FREE))
        slot = slot[waiting]
        while len(waiting):
            slot = (slot + 1) & self._mask
            there = self._keys[slot]
            hit = there == keys[waiting]
            found[waiting[hit]] = self._place[slot[hit]]
            go = ~hit & (there != _FREE)
            waiting, slot = waiting[go], slot[go]
        return found
