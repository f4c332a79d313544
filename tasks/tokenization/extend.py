"""New entries for a BPE tokenizer that leave what it had as it was.

Merges are added behind the old ones, so they join only what the old tokenizer made of a text: every text is encoded as
before but for where a new entry applies, and no old entry becomes unreachable. (A word that is added as a whole is
found before any merge: `中华人民` so added would take `中华人民共和国` apart, where that is one token.) Numbers of old
entries and added tokens stay, new ones follow on the highest.

A character that the old tokenizer spells by entries such as `<0xE4>` becomes an entry with the first merge that has it:
what is merged of such entries is no text to any decoder.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby, pairwise
from typing import Any

from tokenizers import Regex, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Encoder

from tasks.tokenization.kinds import BYTES, LONGEST, pieces
from tasks.tokenization.tokenizer import TokenizerError

FIRST = 0x20000
"""Old entries are given to the trainer as characters from this one on: beyond it there is room for 917,504."""
SEPARATOR = "\n"


def extended(data: bytes, count: int, texts: Sequence[str] = (), words: Sequence[str] = ()) -> bytes:
    """A `tokenizer.json` with `count` more entries: first what makes each of `words` one token, where it is one
    pre-token, then what is learned from `texts`; fewer where these have no more. Raises TokenizerError for one that is
    no BPE, or a word that its pre-tokenizer cuts or of which it does not know a character."""
    file = json.loads(data)
    model = file["model"]
    if model["type"] != "BPE":
        raise TokenizerError(f"a {model['type']} cannot be extended by merges: take one of the type BPE")
    encoder = Encoder.from_str(json.dumps(file))
    numbers = encoder.get_vocab(with_added_tokens=True)
    _keep(file, numbers)
    added = _Added(model, 1 + max(numbers.values()), count)
    for word in words:
        cut = _pieces(encoder, word)
        if len(cut) != 1:
            raise TokenizerError(f"{word} is cut before any merge, into {len(cut)} parts")
        parts = added.joined(added.spelled([token.value for token in encoder.model.tokenize(cut[0])]))
        if added.unknown in parts:
            raise TokenizerError(f"{word} has characters that the tokenizer has no entry for, and no bytes")
        while len(parts) > 1:
            if not added.merge(parts[0], parts[1]):
                break
            parts[:2] = ["".join(parts[:2])]
    model["merges"] = added.merges
    encoder = Encoder.from_str(json.dumps(file))
    _learn(encoder, added, texts)
    model["merges"] = added.merges
    return Encoder.from_str(json.dumps(file)).to_str(pretty=True).encode()


def _keep(file: dict[str, Any], numbers: Mapping[str, int]) -> None:
    """Make added tokens entries of the model, of the numbers that they have: the library numbers those that are none
    by how many entries there are, which new ones change. Raises TokenizerError where a text would then become a special
    one."""
    vocabulary = file["model"]["vocab"]
    moved = [token for token in file["added_tokens"] if token["content"] not in vocabulary]
    vocabulary |= {token["content"]: numbers[token["content"]] for token in moved}
    encoder = Encoder.from_str(json.dumps(file))
    special = [token["content"] for token in moved if token["special"]]
    for token in special:
        if any(part.value in special for piece in _pieces(encoder, token) for part in encoder.model.tokenize(piece)):
            raise TokenizerError(f"a text that spells {token} would be read as that token, as the model takes it whole")


class _Added:
    """Merges and entries as they are added to a model."""

    def __init__(self, model: dict[str, Any], first: int, count: int) -> None:
        self.vocabulary: dict[str, int] = model["vocab"]
        self.merges = [tuple(pair.split(" ")) if isinstance(pair, str) else tuple(pair) for pair in model["merges"]]
        self.known, self.next, self.left = set(self.merges), first, count
        self.rank: dict[tuple[str, str], int] = {}
        """Of merges that were added, in which order."""
        self.unknown = model.get("unk_token")
        self.bytes = frozenset(BYTES if model.get("byte_fallback") else ())
        """Entries that characters without one of their own are spelled by."""

    def spelled(self, tokens: Iterable[str]) -> list[str]:
        """Tokens, with characters in the place of the bytes that spell them."""
        found = list[str]()
        for by_bytes, each in groupby(tokens, self.bytes.__contains__):
            run = list(each)
            found += bytes(int(token[3:5], 16) for token in run).decode(errors="replace") if by_bytes else run
        return found

    def merge(self, left: str, right: str) -> bool:
        """Add a merge and what it makes; whether there is such a merge. What it would make may be an old entry that
        other merges make: then texts would be encoded otherwise without any new entry, and it is left out."""
        if (left, right) in self.known:
            return True
        made = left + right
        fresh = [each for each in dict.fromkeys((left, right)) if each not in self.vocabulary]
        if (
            len(fresh) >= self.left
            or made in self.vocabulary
            or not all(self.bytes and len(each) == 1 for each in fresh)
        ):
            return False
        for each in (*fresh, made):
            self.vocabulary[each] = self.next
            self.next, self.left = self.next + 1, self.left - 1
        self.merges.append((left, right))
        self.known.add((left, right))
        self.rank[left, right] = len(self.rank)
        return True

    def joined(self, parts: list[str]) -> list[str]:
        """What the old merges make of a word, after those that were added, which come behind all of them."""
        while True:
            pairs = [(self.rank[pair], place) for place, pair in enumerate(pairwise(parts)) if pair in self.rank]
            if not pairs:
                return parts
            _, place = min(pairs)
            parts = [*parts[:place], parts[place] + parts[place + 1], *parts[place + 2 :]]


def _pieces(encoder: Encoder, text: str) -> list[str]:
    """The pre-tokens of a text, in the letters of the model."""
    if encoder.normalizer:
        text = encoder.normalizer.normalize_str(text)
    if encoder.pre_tokenizer is None:
        return [text]
    return [piece for piece, _ in encoder.pre_tokenizer.pre_tokenize_str(text)]


def _learn(encoder: Encoder, added: _Added, texts: Sequence[str]) -> None:
    """Merges of what the encoder makes of texts, the most frequent pair first: its entries are the letters of another
    BPE."""
    counts = Counter(piece for text in texts for part in pieces(text) for piece in _pieces(encoder, part))
    entries: dict[int, str] = {}
    characters: dict[str, int] = {}

    def number(token: str) -> int:
        found = added.vocabulary.get(token)
        return characters.setdefault(token, added.next + len(characters)) if found is None else found

    def spelled() -> Iterable[str]:
        for piece, times in sorted(counts.items()):
            tokens = added.spelled(token.value for token in encoder.model.tokenize(piece))
            for unknown, run in groupby(tokens, lambda token: token == added.unknown):
                known = [] if unknown else list(run)
                entries.update((number(token), token) for token in known)
                if len(known) > 1:
                    yield from ["".join(chr(FIRST + number(token)) for token in known)] * times

    other = Encoder(models.BPE())
    other.pre_tokenizer = pre_tokenizers.Split(Regex(SEPARATOR), "removed")
    words = list(spelled())
    trainer = trainers.BpeTrainer(vocab_size=len(entries) + 2 * added.left, show_progress=False)
    other.train_from_iterator(words, trainer)
    for pair in json.loads(other.to_str())["model"]["merges"]:
        left, right = ("".join(entries[ord(letter) - FIRST] for letter in part) for part in pair)
        if len(left + right) <= LONGEST and not added.merge(left, right) and not added.left:
            return
