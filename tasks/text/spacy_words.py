"""The words of spaCy's tokenizer for a run of text without white space, found without its objects: a lexeme for every
word is what most of its time goes into.

The steps are spaCy's own (marks off both ends, then a split inside, special cases as they are met), with its own
patterns; these are asked only where the character at an end does not say what they would answer. Runs in which a
special case shows only after the split ("ex-Mrs.") are left to the tokenizer.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise
from typing import Any

_LETTERS = "A-Za-zÀ-ÖØ-öø-ÿĀ-ſА-яёЁ"
_WORD = re.compile(rf"[{_LETTERS}\u0621-\u064a]+|[0-9]+")
_FRAMED = re.compile(rf"([(\[\"“]?)([{_LETTERS}]{{2,}})([,.:;?!)\]\"”]{{0,3}})")
"""A word with marks before and behind it, as nine in ten runs are."""
_NO_INFIX = re.compile(rf"[{_LETTERS}0-9_]+")
_NAME = re.compile(r"[A-Za-z](?:[A-Za-z_]*[A-Za-z]|\w*[0-9])", re.ASCII)
"""A name of a program, whose end is no unit after a number, and so one word."""
_CORE = re.compile(rf"[{_LETTERS}]+")
_DIGITS = frozenset(string.digits)
_LETTER = frozenset(re.findall(f"[{_LETTERS}]", "".join(map(chr, range(0x0452)))))
_ASCII_INFIX = re.compile(
    r"\.\.+|[+\-*^](?<=[0-9].)(?=[0-9-])|\.(?<=[a-z'\"`,].)(?=[A-Z'\"`,])|,(?<=[A-Za-z].)(?=[A-Za-z])"
    r"|-(?<=[A-Za-z0-9].)-{0,2}?(?=[A-Za-z])|[:<>=/~](?<=[A-Za-z0-9].)(?=[A-Za-z])"
)
"""What parts a run of ASCII inside: as the tokenizer's own pattern of English, but that each branch begins with what it
finds, so that few places of a run are looked at; it takes a quarter of the time."""
_MARKS = string.punctuation + "“”‘’«»…–—¿¡"
_STEMS = ("word", "WORD", "12", "(x)", "x)", "é", "слово", "a.b", 'q"', "x_", "7-")
_OPTIONAL_LETTERS = re.compile(r"['’][sS]$|[0-9²³°µ]\D{1,8}$|/\w$")
"""Ends in a letter that may be a suffix all the same: a genitive, or a unit after a number."""
Length = Callable[[str], int]


class SpacyWords:
    """Words of runs, as `tokenizer(run)` would give them, with a space between two."""

    def __init__(self, tokenizer: Any) -> None:
        """`tokenizer`: spaCy's, of a language."""
        self._tokenizer = tokenizer
        self._special = {run: [part[65] for part in parts] for run, parts in tokenizer.rules.items()}  # 65: ORTH
        self._cores = {core for run in self._special for core in _CORE.findall(run)}
        self._match, self._url = tokenizer.token_match, tokenizer.url_match
        self._ask_prefix, self._ask_suffix = _length(tokenizer.prefix_search), _length(tokenizer.suffix_search)
        self._all_words = lru_cache(1 << 14)(self._each_a_word)
        self._suffix_of_dot = lru_cache(4096)(self._ask_suffix)
        self._prefixes = {m for m in _MARKS if all(self._ask_prefix(m + stem) == 1 for stem in _STEMS)} - {"+"}
        self._suffixes = {m for m in _MARKS if all(self._ask_suffix(stem + m) == 1 for stem in _STEMS)}
        self._late: dict[tuple[str, str], list[list[str]]] = {}
        """Words that are a special case when they come together, by the first two."""
        for run in self._special:
            words = self._split(run, {})
            if len(words) > 1:
                self._late.setdefault((words[0], words[1]), []).append(words)
        self._begins_late = {first for first, _ in self._late}

    def __call__(self, run: str) -> str:
        if run in self._special:
            return " ".join(self._special[run])
        if run.isascii():  # of nine in ten runs its methods tell faster than patterns
            if run.isalpha() or run.isdecimal() or _NAME.fullmatch(run):
                return run
            word, mark = run[:-1], run[-1]
            plain = word.isalpha() and len(word) > 1 and word not in self._cores and self._match is None
            if plain and (self._suffix_of_dot(run[-4:]) == 1 if mark == "." else mark in self._suffixes):
                return f"{word} {mark}"
        elif _WORD.fullmatch(run):
            return run
        if framed := _FRAMED.fullmatch(run):
            before, word, after = framed.groups()
            # A word of no special case takes part in none, whatever marks are beside it.
            if word not in self._cores and self._all_words(before, word[-3:], after):
                words = [before, word, *after] if before else [word, *after]
            else:
                words = self._split(run, self._special)
        else:
            words = self._split(run, self._special)
        if not self._begins_late.isdisjoint(words):
            for place, pair in enumerate(pairwise(words)):
                if any(words[place : place + len(late)] == late for late in self._late.get(pair, ())):
                    return " ".join([token.text for token in self._tokenizer(run)])
        return " ".join(words)

    def _each_a_word(self, before: str, end: str, after: str) -> bool:
        """Whether `_split` makes a word of each mark before and behind a word that ends so; False where it may not."""
        if self._match is not None or (before and before not in self._prefixes):
            return False
        rest = end + after
        while rest != end:
            last, other = rest[-1], rest[-2]
            if last == ".":
                if other == "." or self._ask_suffix(rest[-4:]) != 1:
                    return False
            elif last == other or last not in self._suffixes:
                return False
            rest = rest[:-1]
        return True

    def _split(self, run: str, special: dict[str, list[str]]) -> list[str]:
        before: list[str] = []
        after: list[str] = []
        size = 0
        while run and len(run) != size:
            if run in special or (self._match is not None and self._match(run)):
                break
            size = len(run)
            prefix = self._prefix(run)
            if prefix and run[prefix:] in special:
                before.append(run[:prefix])
                run = run[prefix:]
                break
            rest = run[prefix:]
            suffix = self._suffix(rest) if rest else 0
            if suffix and run[:-suffix] in special:
                after.append(run[-suffix:])
                run = run[:-suffix]
                break
            if prefix:
                before.append(run[:prefix])
            if suffix and prefix + suffix <= len(run):
                after.append(run[-suffix:])
                run = run[prefix:-suffix]
            else:
                run = rest
        if run in special:
            middle = special[run]
        elif not run:
            middle = []
        elif _NO_INFIX.fullmatch(run) or (self._match and self._match(run)) or (self._url and self._url(run)):
            middle = [run]
        else:
            middle = self._between(run)
        return [*before, *middle, *reversed(after)]

    def _prefix(self, run: str) -> int:
        first = run[0]
        if first in _LETTER or first in _DIGITS:
            return self._ask_prefix(run) if "$" in run[:4] else 0
        return 1 if first in self._prefixes and run[1:2] != first else self._ask_prefix(run)

    def _suffix(self, run: str) -> int:
        last = run[-1]
        if last in _DIGITS:
            return 0
        if last in _LETTER:
            return self._ask_suffix(run) if _OPTIONAL_LETTERS.search(run[-10:]) else 0
        if last == "." and run[-2:-1] not in ("", "."):
            return self._suffix_of_dot(run[-4:])
        return 1 if last in self._suffixes and run[-2:-1] != last else self._ask_suffix(run)

    def _between(self, run: str) -> list[str]:
        words, start = [], 0
        for found in _ASCII_INFIX.finditer(run) if run.isascii() else self._tokenizer.infix_finditer(run):
            begin, end = found.span()
            if begin == 0:
                continue
            words += [part for part in (run[start:begin], run[begin:end]) if part]
            start = end
        return [*words, run[start:]] if run[start:] else words


def _length(search: Callable[[str], re.Match[str] | None]) -> Length:
    def length(run: str) -> int:
        found = search(run)
        return found.end() - found.start() if found else 0

    return length
