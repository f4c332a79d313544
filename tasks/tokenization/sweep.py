"""Tokenizers of several kinds and sizes, each learned from the same texts and measured on others.

Of each channel: characters, bytes and hanzi per token; fertility, which is tokens per word of scripts that have spaces;
and of the vocabulary the share of dead entries, which no text that was learned from or measured on has, and of dirty
ones, which hold a phrase of a list.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import regex
from tokenizers import Tokenizer as Encoder

from data_specs.amounts import plural
from data_specs.tokenizer import Tokenizer
from tasks.arrays.hashing import below, seeded_hash, words
from tasks.tokenization.extend import extended
from tasks.tokenization.kinds import learn
from tasks.tokenization.tokenizer import Loaded, TokenizerError, load, post_processors

MEASURED = 0.1
"""Share of the sample's documents that is measured on and not learned from."""
CLEAN = "-clean"
"""What is added to the name of one without its dirty entries."""
OFTEN, ALONE = 10, 0.95
"""How often, and for which share of its occurrences, an entry stands in dirty documents that is dirty itself."""
HANZI = regex.compile(r"\p{Han}")
WORD = regex.compile(r"(?V1)[\p{L}\p{M}--[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]]+")


@dataclass(frozen=True)
class Extension:
    """A tokenizer that is to have more entries."""

    data: bytes
    settings: Tokenizer
    """Its path, and which of its tokens end and pad."""
    count: int
    words: Sequence[str] = ()
    """What is to be one entry each, before others are learned."""


def sweep(
    rows: pa.Table,
    tried: Iterable[Tokenizer],
    seed: int,
    dirty: Sequence[str] = (),
    extension: Extension | None = None,
) -> list[tuple[dict[str, Any], bytes]]:
    """What each of some settings gives, and its `tokenizer.json`; of a BPE with dirty entries the same without these,
    too, and of an `extension` the tokenizer as it is and with more entries. `rows`: `id`, `text`, `channel`. Raises
    TokenizerError where there are too few, or where the tokenizer cannot be extended. Where rows have a column `dirty`,
    entries that stand in such documents alone, or nearly, are dirty, too."""
    measured = pa.array(below(seeded_hash(words(rows["id"]), seed, "sweep"), MEASURED))
    lessons = rows.filter(pc.invert(measured))
    known = pc.is_in(pc.utf8_lower(rows["text"]), pc.utf8_lower(lessons["text"]).unique())
    test = rows.filter(pc.and_(measured, pc.invert(known)))  # a copy of what is learned from tells nothing
    if not (len(lessons) and len(test)):
        raise TokenizerError(
            f"the sample has {plural(len(rows), 'document')}, too few to learn from some and measure on others"
        )
    texts = lessons["text"].to_pylist()
    found = []

    def add(kind: str, data: bytes, settings: Tokenizer | None = None) -> None:
        loaded = load(data, kind, settings)
        entries = dirty_entries(loaded, dirty)
        if "dirty" in rows.column_names and not kind.endswith(CLEAN):  # what is left spells those by parts
            entries |= entries_of(loaded, lessons)
        found.append(({"kind": kind, **measure(loaded, test, texts, entries)}, data))
        if entries and not kind.endswith(CLEAN) and json.loads(data)["model"]["type"] == "BPE":
            add(f"{kind}{CLEAN}", without(data, entries), settings)

    for settings in tried:
        add(settings.kind, learn(texts, settings))
    if extension is not None:
        add("as-it-is", extension.data, extension.settings)
        more = extended(extension.data, extension.count, texts, extension.words)
        add("extended", more, extension.settings)
    return found


def measure(loaded: Loaded, test: pa.Table, learned_from: Sequence[str], dirty: Sized = ()) -> dict[str, Any]:
    """{"size", "dead", "dirty": shares of the vocabulary, "channels": {channel: {"characters", "bytes", "hanzi" (all
    per token), "fertility"}}}; hanzi and words are counted on what they alone become."""
    used = np.zeros(loaded.size, bool)
    used[[loaded.end, loaded.pad]] = True
    used[np.concatenate([np.empty(0, np.uint32), *loaded.encode(learned_from)])] = True
    channels = {}
    for name in sorted(pc.unique(test["channel"]).drop_null().to_pylist()):
        texts = test["text"].filter(pc.equal(test["channel"], name)).to_pylist()
        ids = loaded.encode(texts)
        used[np.concatenate(ids)] = True
        channels[name] = _rates(loaded, texts, sum(map(len, ids)))
    special = {token.content for token in loaded.encoder.get_added_tokens_decoder().values()}
    entries = {text: number for text, number in loaded.encoder.get_vocab().items() if text not in special}
    dead = sum(not used[number] for number in entries.values())
    return {
        "size": loaded.size,
        "dead": dead / max(1, len(entries)),
        "dirty": len(dirty) / max(1, len(entries)),
        "channels": channels,
    }


def _rates(loaded: Loaded, texts: Sequence[str], tokens: int) -> dict[str, float | None]:
    hanzi = ["".join(HANZI.findall(text)) for text in texts]
    spaced = [f" {word}" for text in texts for word in WORD.findall(text)]

    def counted(each: Sequence[str]) -> int:
        return sum(len(ids) - 1 for ids in loaded.encode(each))

    return {
        "characters": sum(map(len, texts)) / tokens,
        "bytes": sum(len(text.encode()) for text in texts) / tokens,
        "hanzi": sum(map(len, hanzi)) / max(1, counted(hanzi)) if any(hanzi) else None,
        "fertility": counted(spaced) / len(spaced) if spaced else None,
    }


def dirty_entries(loaded: Loaded, phrases: Sequence[str]) -> dict[int, str]:
    """Number -> text of the entries that hold one of some phrases; of words of scripts with spaces as whole words."""
    if not phrases:
        return {}
    plain = [re.escape(phrase.strip().casefold()) for phrase in phrases if phrase.strip()]
    whole = regex.compile("|".join(rf"(?<![^\W_]){each}(?![^\W_])" if each.isascii() else each for each in plain))
    spelled = ((number, loaded.encoder.decode([number])) for number in range(loaded.size))
    return {number: text for number, text in spelled if whole.search(text.casefold())}


def entries_of(loaded: Loaded, rows: pa.Table) -> dict[int, str]:
    """Number -> text of the entries of two characters or more that stand `OFTEN` times in the documents of which
    `dirty` is true, and hardly in others: of what a classifier takes for spam, what only spam says."""
    counts = []
    for flag in (True, False):
        texts = rows["text"].filter(pc.equal(rows["dirty"], flag)).to_pylist()
        ids = np.concatenate([np.empty(0, np.uint32), *loaded.encode(texts)])
        counts.append(np.bincount(ids, minlength=loaded.size))
    inside, outside = counts
    chosen = np.flatnonzero((inside >= OFTEN) & (inside >= ALONE * (inside + outside)))
    spelled = {number: loaded.encoder.decode([number]) for number in chosen.tolist()}
    return {number: text for number, text in spelled.items() if len(text.strip()) > 1}


def without(data: bytes, dropped: Mapping[int, str] | Sequence[int]) -> bytes:
    """A BPE without some entries and whatever is merged from them; the numbers of the others stay dense and in order.
    Texts that had such a token are spelled by its parts. Raises TokenizerError for one that is no BPE."""
    file = json.loads(data)
    model = file["model"]
    if model["type"] != "BPE":
        raise TokenizerError(f"entries can be removed from a BPE; this is a {model['type']}")
    names = {number: token for token, number in model["vocab"].items()}
    pairs = [tuple(pair.split(" ")) if isinstance(pair, str) else tuple(pair) for pair in model["merges"]]
    made = {"".join(pair) for pair in pairs}
    added = {token["content"] for token in file["added_tokens"]}
    gone = {names[number] for number in dropped if number in names} & made - added
    while more := {"".join(pair) for pair in pairs if gone & set(pair)} - gone:
        ways = {token: [pair for pair in pairs if "".join(pair) == token] for token in more}
        more = {token for token, each in ways.items() if all(gone & set(pair) for pair in each)}
        if not more:
            break
        gone |= more
    kept = [token for token, _ in sorted(model["vocab"].items(), key=lambda each: each[1]) if token not in gone]
    inside = {token: number for number, token in enumerate(kept)}
    model["vocab"] = inside
    model["merges"] = [pair for pair in pairs if not gone & {*pair, "".join(pair)}]
    free = len(kept)
    for token in sorted(file["added_tokens"], key=lambda each: int(each["id"])):
        if token["content"] in inside:
            token["id"] = inside[token["content"]]
        else:
            token["id"], free = free, free + 1
    _renumber_processors(file, inside | {token["content"]: token["id"] for token in file["added_tokens"]})
    return Encoder.from_str(json.dumps(file)).to_str(pretty=True).encode()


def _renumber_processors(file: Mapping[str, Any], numbers: Mapping[str, int]) -> None:
    """Give what puts special tokens around a text the numbers that these have now."""
    for each in post_processors(file):
        for special in (each.get("special_tokens") or {}).values():  # of a template
            special["ids"] = [numbers[token] for token in special["tokens"]]
        for key in ("sep", "cls"):  # of BERT's and RoBERTa's: a token and its number
            if key in each:
                each[key][1] = numbers[each[key][0]]
