"""Words: how a text is split, by language, and the words of many texts as numbers.

Every splitter works on runs of text without white space, so each distinct run of a batch is split once, however often
it occurs (230,000 runs of English prose were 24,000 distinct ones). A punctuation mark is a word of its own, as it is
to datatrove's tokenizers; white space is none.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import regex

from tasks.arrays.addresses import I64
from tasks.text.spacy_words import SpacyWords

Kind = Literal["jieba", "characters", "spaces", "datatrove"]

Split = Callable[[Sequence[str]], list[str]]
"""Runs without white space -> the words of each, none of them empty, with a space between two. As strings, which Arrow
parts again, and not as lists, over which Python's collector spent a tenth of the time of all signals."""

LONGEST = 1000
"""Characters that spaCy or jieba get at once without a natural break. Both are quadratic in what they cannot split:
measured on one core, 100,000 times the same ideograph took jieba 31 s, 4,000 opening brackets took spaCy 1.6 s."""

KNOWN = 1 << 18
"""Runs whose words by datatrove's tokenizer are kept from one batch to the next, some 30 MB a language. Of 1.06M runs
of 10,892 English web pages, 390,000 of them distinct, 473,000 are not known; of half as many 615,000."""

_WIDE_SPACE = re.compile("[\x1c-\x1f\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]")
"""White space to `str.split`, beyond that of ASCII."""
_WORD = regex.compile(r"(?w)([^\w\s])\1*|\S.*?\b")
_BLOCK = regex.compile(rf"[\u4E00-\u9FD5a-zA-Z0-9+#&._%\-]{{1,{LONGEST}}}|[^\u4E00-\u9FD5a-zA-Z0-9+#&._%\-]+")
_BLOCK_CHARACTER = regex.compile(r"[\u4E00-\u9FD5a-zA-Z0-9+#&._%\-]")
_UNMARKED = regex.compile(r"[\u4E00-\u9FD5a-zA-Z0-9]+")
_TOKENIZERS = {"ar": "arb_Arab", "az": "azj_Latn", "ms": "zsm_Latn", "tt": "tat_Cyrl", "zh": "cmn_Hani"}
"""Languages whose two-letter code leads datatrove 0.10 to the tokenizer of another script."""


@dataclass(frozen=True)
class Words:
    """The words of some texts, in order."""

    text: I64
    """[words] the text that each word is of, by number, ascending."""
    word: I64
    """[words] indices into `vocabulary`."""
    vocabulary: list[str]
    """Distinct words, in order of first use."""
    runs: dict[str, str]
    """Each distinct run between white space, and its words, as its splitter gave them."""


def tokenise(texts: Sequence[str], split: Split) -> Words:
    """The words of texts, each distinct run split once."""
    runs, run, parts = _runs(texts)
    split_runs = split(runs)
    pieces = pc.split_pattern(pa.array(split_runs, pa.string()), " ")
    sizes = pc.list_value_length(pieces).to_numpy().astype(np.int64)
    vocabulary, word = _numbered(pieces.flatten())
    counts = sizes[run]
    shift = (np.cumsum(sizes) - sizes)[run] - (np.cumsum(counts) - counts)
    place = np.arange(counts.sum()) + np.repeat(shift, counts)
    text = np.repeat(np.arange(len(texts)), parts)
    return Words(np.repeat(text, counts), word[place], vocabulary, dict(zip(runs, split_runs, strict=True)))


def _runs(texts: Sequence[str]) -> tuple[list[str], I64, I64]:
    """Distinct runs of text between white space, in order of first use; all runs in order, as indices into these; and
    how many each text has. As `str.split` would give them, by Arrow in a third of the time."""
    spaced = pc.ascii_trim_whitespace(pa.array([_WIDE_SPACE.sub(" ", text) for text in texts], pa.string()))
    lists = pc.ascii_split_whitespace(spaced)
    blank = pc.equal(spaced, "")
    parts = pc.if_else(blank, 0, pc.list_value_length(lists)).to_numpy(zero_copy_only=False).astype(np.int64)
    return *_numbered(lists.filter(pc.invert(blank)).flatten()), parts


def _numbered(strings: pa.StringArray) -> tuple[list[str], I64]:
    """Distinct strings, in order of first use; and all of them in order, as indices into these."""
    encoded = strings.dictionary_encode()
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy().astype(np.int64)


def splitter(kind: Kind, language: str | None) -> Split:
    """The splitter of a kind; `language` matters to datatrove's alone. Raises ValueError where there is none."""
    match kind:
        case "spaces":
            return spaces
        case "characters":
            return lambda runs: list(map(" ".join, runs))
        case "jieba":
            return _jieba()
        case "datatrove":
            return _datatrove(language)


def spaces(runs: Sequence[str]) -> list[str]:
    """Unicode's word boundaries (UAX #29): letters with marks, apostrophes and points inside, numbers with theirs; an
    ideograph or a Thai letter is a word by itself, and so is a run of one symbol, such as a rule of dashes. On 1,500
    English web pages the verdict of all rules was as with datatrove's tokenizer, to which `don't` is two words, for
    97.3 %."""
    return [" ".join([match[0] for match in _WORD.finditer(run)]) for run in runs]


def _jieba() -> Split:
    """jieba with its hidden Markov model for unknown words, as spaCy and so datatrove use it for Chinese. Blocks of
    ideographs, letters and digits alone are split by rjieba, which is the same in Rust, and 14 times as fast. Blocks
    with other marks, such as `7.3km`, it splits otherwise than jieba, whose dictionary is built when one comes."""
    import jieba
    import rjieba

    def words(run: str) -> str:
        if len(run) <= LONGEST and _UNMARKED.fullmatch(run):
            return " ".join(rjieba.cut(run))
        found: list[str] = []
        for block in _BLOCK.findall(run):
            if _UNMARKED.fullmatch(block):
                found += rjieba.cut(block)
            elif _BLOCK_CHARACTER.match(block):
                _build_dictionary()
                found += jieba.lcut(block)
            else:
                found += block
        return " ".join(found)

    return lambda runs: [words(run) for run in runs]


def _build_dictionary() -> None:
    """Build the dictionary of jieba, also as spaCy uses it, from the package's own file: .65 s once a process. jieba
    itself would load it in .3 s from a file in the temporary folder, whoever put that there."""
    import jieba

    default = jieba.dt
    if not default.initialized:
        default.FREQ, default.total = default.gen_pfdict(default.get_dict_file())
        default.initialized = True


def _datatrove(language: str | None) -> Split:
    """datatrove's word tokenizer for a language where it works without further packages or data: those by spaCy. A run
    of more than LONGEST characters is split in pieces of that many first."""
    nlp = _spacy(language)
    tokenizer = nlp.tokenizer

    def by_spacy(run: str) -> str:
        return " ".join([token.text for token in tokenizer(run)])

    # Of English alone: Italian's `12°` and Portuguese's `_US$` were found to be other words to spaCy itself.
    known = _Known(SpacyWords(tokenizer) if language == "en" else by_spacy)

    def split(runs: Sequence[str]) -> list[str]:
        with nlp.memory_zone():
            return list(map(known.__getitem__, runs))

    return split


class _Known(dict[str, str]):
    """Run -> its words, of the runs of LONGEST characters at most that came last. It begins anew when it is full: to
    note which were asked for takes more time than to split those few again."""

    def __init__(self, of_run: Callable[[str], str]) -> None:
        self._of_run = of_run

    def __missing__(self, run: str) -> str:
        if len(run) > LONGEST:
            return " ".join([self._of_run(run[at : at + LONGEST]) for at in range(0, len(run), LONGEST)])
        if len(self) >= KNOWN:
            self.clear()
        self[run] = words = self._of_run(run)
        return words


@contextmanager
def _spacy_alone() -> Iterator[None]:
    """spaCy imports torch where it is there, for models that are not used here (1 to 2.5 s and 180 MiB a worker), and
    its command line, with all that this downloads models by (.2 s)."""
    command, info = ModuleType("spacy.cli"), ModuleType("spacy.cli.info")
    setattr(info, "info", None)  # noqa: B010 (which no module declares)
    instead = {"torch": None, command.__name__: command, info.__name__: info}
    hidden = {name: module for name, module in instead.items() if name not in sys.modules}
    sys.modules.update(hidden)  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


def _spacy(language: str | None) -> Any:
    from datatrove.utils.word_tokenizers import SpaCyTokenizer, WhitespaceTokenizer, load_word_tokenizer

    code = _TOKENIZERS.get(language or "", language or "")
    try:
        with _spacy_alone():
            import spacy  # noqa: F401
        tokenizer = load_word_tokenizer(code)
        if isinstance(tokenizer, WhitespaceTokenizer):
            tokenizer = SpaCyTokenizer("xx")
        if not isinstance(tokenizer, SpaCyTokenizer):
            raise ValueError(f"{type(tokenizer).__name__} is not by spaCy")
        if tokenizer.language == "zh":
            _build_dictionary()
        return tokenizer.tokenizer
    except UnicodeDecodeError as error:
        raise ValueError(
            f"Python reads files as {error.encoding}, as its locale says, and the files of datatrove are in UTF-8; "
            "set PYTHONUTF8=1 in the environment of every process, or a locale in UTF-8 (LC_ALL=C.UTF-8)"
        ) from None
    except (ImportError, ValueError) as error:
        raise ValueError(
            f"stages.signals.words.{language}: datatrove has no word tokenizer for it that works here ({error}); "
            "use `spaces`, or `characters` for a script without spaces"
        ) from None
