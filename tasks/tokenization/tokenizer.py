"""The tokenizer of a spec: learned by channel weight (tasks/tokenization/kinds.py), or loaded.

Guarantees: a learned tokenizer encodes every text without loss; the same sample gives the same bytes; a text that
spells a special token, such as `<|endoftext|>`, is encoded as text (crawled pages would otherwise end documents at
will).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, pairwise, repeat
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Tokenizer as Encoder

from data_specs.document import SpecError
from data_specs.tokenizer import Tokenizer
from tasks.arrays.hashing import seeded_hash, words
from tasks.engine.stage import Estimator, digest
from tasks.tokenization.fast_encoder import Flat, faster, plain
from tasks.tokenization.kinds import END, PAD, learn, pieces

ENDS = (END, "<|end_of_text|>", "</s>", "<eos>", "<|eos|>")
"""What end-of-text tokens are called in tokenizers of others, in order of preference."""
JUDGED = 2**22
"""Bytes per channel on which compression is measured."""
REPEATS = 8
"""How often a document is learned from, at most: each time it counts as another document with the same phrases, so that
a channel of a few would fill the vocabulary with what only they say."""
BATCH = 2**19
"""Characters of text encoded at once: an encoding costs some 100 bytes a token until its ids are taken."""

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the fan-out has all cores busy; 4 times slower on busy ones


class TokenizerError(ValueError):
    """A tokenizer file that cannot be used; the message says why."""


@dataclass(frozen=True)
class Loaded:
    """A tokenizer in use. `size` counts every entry, special tokens included; ids are below it."""

    encoder: Encoder
    size: int
    end: int
    pad: int
    data: bytes
    """The file, and what it is called."""
    name: str

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Token ids (uint32) of each text and the end-of-text token."""
        ids, ends = self.encode_flat(texts)
        return [ids[first:end] for first, end in pairwise([0, *ends.tolist()])]

    def encode_flat(self, texts: Sequence[str], dtype: type[np.unsignedinteger] = np.uint32) -> Flat:
        """The same end to end, and where each text ends."""
        found, lengths = [np.empty(0, dtype)], [np.empty(0, np.int64)]
        start = size = 0
        for stop, text in enumerate(texts, 1):
            size += len(text)
            if size >= BATCH or stop == len(texts):
                parts = list(map(pieces, texts[start:stop]))
                ids, ends = self._encode([*chain(*parts)])
                bounds = np.concatenate([[0], ends])[np.cumsum([0, *map(len, parts)])]
                found.append(self._ended(ids, bounds, dtype))
                lengths.append(np.diff(bounds) + 1)
                start, size = stop, 0
        return np.concatenate(found), np.cumsum(np.concatenate(lengths))

    def _ended(self, ids: np.ndarray, bounds: np.ndarray, dtype: type[np.unsignedinteger]) -> np.ndarray:
        """Ids with the end-of-text token behind those of each text; `bounds`: where texts begin and end in them."""
        ended = np.full(len(ids) + len(bounds) - 1, self.end, dtype)
        for number, (first, end) in enumerate(pairwise(bounds.tolist())):
            ended[first + number : end + number] = ids[first:end]
        return ended

    def _encode(self, texts: Sequence[str]) -> Flat:
        """Ids of texts, by the faster encoder where there is one and it takes them."""
        fast = faster(self.data, self.name)
        if fast is not None:
            with suppress(ValueError):  # such as a run of white space that it would have to step back through
                return fast(texts)
        return plain(self.encoder, texts)


def load(data: bytes, name: str, settings: Tokenizer | None = None) -> Loaded:
    """A `tokenizer.json`; `settings` may say which of its tokens end a text and pad a row. Raises TokenizerError,
    naming it, when it is none or lacks one of these."""
    settings = settings or Tokenizer()
    try:
        encoder = Encoder.from_buffer(data)
    except ValueError as error:
        raise TokenizerError(f"{name} is no tokenizer.json that tokenizers can read: {error}") from error
    if dropout := getattr(encoder.model, "dropout", None):
        raise TokenizerError(
            f'{name} has a dropout of {dropout:.3g}, with which a text has other tokens each time; put `"dropout": '
            "null` there, under `model`"
        )
    encoder.no_padding()
    encoder.no_truncation()
    encoder.encode_special_tokens = True
    for key in ("end", "pad", "mask"):
        token = getattr(settings, key)
        if token is not None and encoder.token_to_id(token) is None:
            raise TokenizerError(f"{name} has no token {token}, which tokenizer.{key} names")
    ends = [encoder.token_to_id(token) for token in ([settings.end] if settings.end else ENDS)]
    end = next((found for found in ends if found is not None), None)
    if end is None:
        raise TokenizerError(
            f"{name} has no end-of-text token; one of {', '.join(ENDS)} must be in its vocabulary, or tokenizer.end "
            "say which it is"
        )
    pad = encoder.token_to_id(settings.pad or PAD)
    size = 1 + max(encoder.get_vocab(with_added_tokens=True).values())
    return Loaded(encoder, size, end, end if pad is None else pad, data, name)


def post_processors(file: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a `tokenizer.json` says of what is done to a text's tokens at the end, such as putting special ones around
    them."""
    given = file.get("post_processor")
    if given is None:
        return []
    found: list[dict[str, Any]] = given["processors"] if given["type"] == "Sequence" else [given]
    return found


class TokenizerEstimator(Estimator):
    """Learns the tokenizer from kept documents, so many bytes of each channel as its weight says, or reads the file.

    The bytes learned from are as many as there are in the channels with a weight, `settings.sample` at most. Of them a
    channel has its weight's share, to within a document: its documents first by hash, and where it has too few, from
    the first again, REPEATS times at most (what is then missing of its share goes to no other). Without weights every
    document is as likely.

    Facts: `size`, `end`, `pad`; `rows` and `bytes` learned from, each document once; per channel `channels`: {"bytes":
    kept, "learned": of those, repeats counted}; and per channel `compression`: {"characters", "bytes"} per token, on
    documents it was learned from, which flatters it. Of a file, from which nothing is learned, all this is said of the
    documents that would have been."""

    name = "tokenizer"
    version = 2  # what is learned from follows the weights where the corpus is smaller than the sample
    libraries = ("tokenizers",)
    reads: tuple[str, ...] = ("id", "text", "channel", "kept")
    suffix = ".json"
    settings: Tokenizer

    def __init__(
        self,
        settings: Tokenizer,
        seed: int,
        weights: Mapping[str, float],
        file: bytes | None = None,
        augmented: Sequence[str] = (),
    ) -> None:
        """`weights`: mixture weights averaged over the phases; empty: every channel by its size. `file`: the
        tokenizer.json to take instead of learning one. `augmented`: stages whose texts are learned from, too, each as a
        channel of its name."""
        super().__init__(settings, seed)
        self.file, self.augmented = file, tuple(augmented)
        self.reads = (*self.reads, *(column for name in augmented for column in (name, f"{name}_id")))
        total = sum(weights.values())
        self.weights = {name: weight / total for name, weight in weights.items() if weight}

    def hashed_settings(self) -> dict[str, Any]:
        return super().hashed_settings() | {"weights": self.weights}

    @property
    def fingerprint(self) -> str:
        """With what a file holds, so that another one at its path does not take the place of the pinned one."""
        of_file = [hashlib.sha256(self.file).hexdigest()] if self.file is not None else []
        return digest([self.fingerprint_fields(), of_file])[:16] if of_file else super().fingerprint

    def since(self, pin: Mapping[str, Any]) -> str:
        """Whether its path holds another tokenizer than the one that was pinned."""
        if self.settings.path is None:
            return ""
        try:
            found = hashlib.sha256(Path(self.settings.path).expanduser().read_bytes()).hexdigest()
        except OSError:  # what is pinned is in the store
            return ""
        return "" if found == pin["sha256"] else f"{self.settings.path} is another tokenizer now than the pinned one"

    def sample(self, batch: pa.Table) -> pa.Table:
        """Of each channel the documents first by hash, up to its share of the sample: choosing again from what several
        shards chose gives what choosing from all of them at once would have. A channel's first document is always
        chosen; its `cut` counts the bytes of the channel's documents that were not."""
        rows = batch.filter(batch["kept"]).select(["id", "text", "channel"])
        for name in self.augmented:
            made = batch.filter(pc.is_valid(batch[f"{name}_id"]))
            ids = pa.array(map(bytes.fromhex, made[f"{name}_id"].to_pylist()), pa.binary(16))
            texts = pa.table({"id": ids, "text": made[name], "channel": pa.array([name] * len(made), pa.string())})
            rows = pa.concat_tables([rows, texts])
        if self.weights:
            rows = rows.filter(pc.is_in(rows["channel"], pa.array(list(self.weights), pa.string())))
        return self.downsample(rows.append_column("cut", pa.array(np.zeros(rows.num_rows, np.int64))))

    def downsample(self, rows: pa.Table) -> pa.Table:
        rank, size = self._rank(rows), _bytes(rows["text"])
        chosen = np.zeros(rows.num_rows, bool)
        for members, share in self._groups(rows["channel"]):
            order = members[np.argsort(rank[members], kind="stable")]
            before = np.cumsum(size[order]) - size[order]
            chosen[order[before < share * self.settings.sample]] = True
        channel = rows["channel"].combine_chunks().dictionary_encode("encode").indices.to_numpy()
        order = np.lexsort((rank, channel))
        first = order[np.unique(channel[order], return_index=True)[1]]
        chosen[first] = True
        cut = np.zeros(rows.num_rows, np.int64)
        cut[first] = np.bincount(channel, rows["cut"].to_numpy() + np.where(chosen, 0, size))
        return rows.set_column(rows.column_names.index("cut"), "cut", pa.array(cut)).filter(pa.array(chosen))

    def _rank(self, rows: pa.Table) -> np.ndarray:
        return seeded_hash(words(rows["id"]), self.seed, self.name)

    def _groups(self, channel: pa.ChunkedArray) -> list[tuple[np.ndarray, float]]:
        """Which documents (positions) are sampled together, and their share of the sample."""
        if not self.weights:
            return [(np.arange(len(channel)), 1.0)]
        return [(np.flatnonzero(pc.equal(channel, name).to_numpy()), share) for name, share in self.weights.items()]

    def _repeats(self, rows: pa.Table) -> np.ndarray:
        """How often each document is learned from (int64 [n]), of rows in order of their hashes."""
        size = _bytes(rows["text"])
        total = min(self.settings.sample, int(size.sum() + rows["cut"].to_numpy().sum()))
        repeats = np.zeros(rows.num_rows, np.int64)
        for members, share in self._groups(rows["channel"]):
            sizes = size[members]
            left = share * total - (np.cumsum(sizes) - sizes)
            repeats[members] = np.ceil(left / max(1, sizes.sum())).clip(0, REPEATS)
        return repeats

    def fit(self, rows: pa.Table) -> tuple[bytes, dict[str, Any]]:
        """Raises TokenizerError where there is nothing to learn from, or the file cannot be used."""
        rows = self.downsample(rows)
        rows = rows.take(np.argsort(self._rank(rows), kind="stable"))
        repeats = self._repeats(rows)
        used = rows.filter(pa.array(repeats > 0))
        if self.file is not None:
            data = self.file
        elif used.num_rows:
            texts = used["text"].to_pylist()
            data = learn(list(chain.from_iterable(map(repeat, texts, repeats[repeats > 0].tolist()))), self.settings)
        else:
            raise TokenizerError("the tokenizer has no kept document to learn from; see the funnel for the reasons")
        loaded = load(data, self.settings.path or "the learned tokenizer", self.settings)
        size = _bytes(rows["text"])
        kept = size + rows["cut"].to_numpy()
        facts = {
            "rows": used.num_rows,
            "bytes": int(_bytes(used["text"]).sum()),
            "channels": {
                name: {"bytes": int(kept[mask].sum()), "learned": int((repeats * size)[mask].sum())}
                for name, mask in _masks(rows["channel"])
            },
            "size": loaded.size,
            "end": loaded.end,
            "pad": loaded.pad,
            **({"mask": loaded.encoder.token_to_id(mask)} if (mask := self.settings.mask) else {}),
            "compression": compression(loaded, used),
        }
        return data, facts


def provided(path: str, settings: Tokenizer | None = None) -> bytes:
    """What is in a tokenizer.json. Raises SpecError where it cannot be used, or a text could spell its end."""
    try:
        data = Path(path).expanduser().read_bytes()
        loaded = load(data, path, settings)
        mask = loaded.encoder.token_to_id(settings.mask) if settings and settings.mask else None
        for key, number in (("end", loaded.end), ("pad", loaded.pad), ("mask", mask)):
            if number is not None and _spelled(loaded, token := str(loaded.encoder.id_to_token(number)), number):
                raise TokenizerError(
                    f"a text that spells {token} would be read as the token that tokenizer.{key} is, as {path} does "
                    'not say that it is special; put `"special": true` to it there, under `added_tokens`'
                )
    except (OSError, TokenizerError) as error:
        raise SpecError(f"tokenizer.path: {error}") from None
    return data


def _spelled(loaded: Loaded, token: str, number: int) -> bool:
    """Whether a text that spells a token becomes it."""
    return any(number in ids[:-1] for ids in loaded.encode([token, f"a {token} b"]))


def compression(loaded: Loaded, rows: pa.Table) -> dict[str, dict[str, float]]:
    """Characters and bytes per token of each channel, on up to 4 MiB of it in the order given (end-of-text tokens
    count as tokens). `fit` gives the documents learned from, by seeded hash: what it says is in-sample."""
    result = {}
    for name, mask in _masks(rows["channel"]):
        texts = rows["text"].filter(pa.array(mask))
        texts = texts.slice(0, int(np.searchsorted(np.cumsum(_bytes(texts)), JUDGED)) + 1)
        tokens = sum(map(len, loaded.encode(texts.to_pylist())))
        characters = int(pc.sum(pc.utf8_length(texts)).as_py())
        spelled = int(_bytes(texts).sum())
        result[name] = {"characters": round(characters / tokens, 4), "bytes": round(spelled / tokens, 4)}
    return result


def _masks(channel: pa.ChunkedArray) -> list[tuple[str, np.ndarray]]:
    """Each channel, by name, and which rows are its (bool [n])."""
    names = sorted(pc.unique(channel).drop_null().to_pylist())
    return [(name, pc.fill_null(pc.equal(channel, name), False).to_numpy()) for name in names]


def _bytes(texts: pa.ChunkedArray) -> np.ndarray:
    return pc.binary_length(texts).to_numpy().astype(np.int64)
