"""Signals and the rule files over them, against datatrove's filters, brute force and hostile texts."""

from __future__ import annotations

import gzip
import json
import marshal
import os
import re
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jieba
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import yaml
from datatrove.data import Document
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.pipeline.filters.base_filter import BaseFilter, get_filter_result
from datatrove.pipeline.filters.gopher_repetition_filter import find_all_duplicate, find_top_duplicate, get_n_grams
from datatrove.utils.word_tokenizers import load_word_tokenizer
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data_specs import stages
from tasks.engine.sql import evaluate
from tasks.filters.lines import repeated
from tasks.filters.repetition import Grams, duplicate_characters, top_characters
from tasks.filters.signals import STOP_WORDS, Signals
from tasks.text.words import LONGEST, Words, spaces, splitter, tokenise
from tests.golden import check_golden

FOLDER = Path(__file__).parents[3] / "data_specs" / "rules"
PUBLISHED = [FOLDER / f"{name}.yaml" for name in ("c4", "fineweb", "gopher")]
"""Files of rules that datatrove's filters are the oracle of."""
RULES = [
    rule | {"where": rule.get("where", content.get("where", "true"))}
    for path in PUBLISHED
    for content in [yaml.safe_load(path.read_text())]
    for rule in content["rules"]
]
DROPS = {name: drop for rule in RULES for name, drop in rule.items() if name != "where"}
GUARDED = {name: f"({rule['where']}) and ({rule[name]})" for rule in RULES for name in rule if name != "where"}

LANGUAGES = {"en": "eng_Latn", "zh": "cmn_Hani"}
"""Ours -> datatrove's: `zh` alone leads it to a tokenizer that does not know Chinese."""

SPACES = [character for character in map(chr, range(sys.maxunicode + 1)) if character.isspace()]

REASONS: dict[type[BaseFilter], dict[str, tuple[str, str]]] = {
    GopherQualityFilter: {
        "gopher_short_doc": ("gopher_short", "min_doc_words"),
        "gopher_long_doc": ("gopher_long", "max_doc_words"),
        "gopher_below_avg_threshold": ("gopher_short_words", "min_avg_word_length"),
        "gopher_above_avg_threshold": ("gopher_long_words", "max_avg_word_length"),
        "gopher_too_many_hashes": ("gopher_hashes", "max_symbol_word_ratio"),
        "gopher_too_many_ellipsis": ("gopher_ellipses", "max_symbol_word_ratio"),
        "gopher_too_many_bullets": ("gopher_bullet_lines", "max_bullet_lines_ratio"),
        "gopher_too_many_end_ellipsis": ("gopher_ellipsis_lines", "max_ellipsis_lines_ratio"),
        "gopher_below_alpha_threshold": ("gopher_not_alphabetic", "max_non_alpha_words_ratio"),
        "gopher_enough_stop_words": ("gopher_stop_words", "min_stop_words"),
    },
    GopherRepetitionFilter: {
        "dup_para_frac": ("gopher_duplicate_paragraphs", "dup_para_frac"),
        "dup_para_char_frac": ("gopher_duplicate_paragraph_characters", "dup_para_char_frac"),
        "dup_line_frac": ("gopher_duplicate_lines", "dup_line_frac"),
        "dup_line_char_frac": ("gopher_duplicate_line_characters", "dup_line_char_frac"),
        **{f"top_{n}_gram": (f"gopher_top_{n}gram", f"top_n_grams {n}") for n in (2, 3, 4)},
        **{f"duplicated_{n}_n_grams": (f"gopher_duplicate_{n}grams", f"dup_n_grams {n}") for n in range(5, 11)},
    },
    FineWebQualityFilter: {
        "line_punct_ratio": ("fineweb_unpunctuated", "line_punct_thr"),
        "short_line_ratio": ("fineweb_short_lines", "short_line_thr"),
        "char_dup_ratio": ("fineweb_duplicates", "char_duplicates_ratio"),
        "list_ratio": ("fineweb_list", "new_line_ratio"),
    },
    C4QualityFilter: {
        "lorem_ipsum": ("c4_lorem_ipsum", "filter_lorem_ipsum"),
        "curly_bracket": ("c4_curly_bracket", "filter_curly_bracket"),
        "too_few_sentences": ("c4_few_sentences", "min_num_sentences"),
    },
}
"""datatrove's filters -> their reasons, in the order in which they are looked for -> our rule, and the setting."""

OFF: dict[type[BaseFilter], dict[str, Any]] = {
    GopherQualityFilter: dict.fromkeys(setting for _, setting in REASONS[GopherQualityFilter].values()),
    GopherRepetitionFilter: {
        **dict.fromkeys(("dup_para_frac", "dup_para_char_frac", "dup_line_frac", "dup_line_char_frac")),
        "top_n_grams": (),
        "dup_n_grams": (),
    },
    FineWebQualityFilter: {
        "line_punct_thr": -1,
        "short_line_thr": 9,
        "char_duplicates_ratio": 9,
        "new_line_ratio": 1e9,
    },
    C4QualityFilter: {"min_num_sentences": -1, "filter_lorem_ipsum": False, "filter_curly_bracket": False},
}


def _texts(path: Path, longest: int = 2000) -> Iterator[str]:
    with gzip.open(path, "rt") as lines:
        yield from (text for line in lines if len(text := json.loads(line)["text"]) <= longest and text.strip())


def _some(texts: Iterator[str], count: int) -> list[str]:
    return [text for _, text in zip(range(count), texts, strict=False)]


@pytest.fixture(scope="module")
def real(shared: Path) -> pa.Table:
    """2,000 real documents, half English, half Chinese, some given what C4 looks for; and their signals."""
    labels, text = shared / "labels", shared / "text"
    english = _some(_texts(text / "en_brown_15genres.jsonl.gz", 20_000), 20)
    english += _some(_texts(text / "en_wikitext2_valid_test.jsonl.gz", 6000), 60)
    english += _some(_texts(labels / "weborganizer_dclm_pages.jsonl.gz"), 1000 - len(english))
    names = (
        "law tech_news_lctt algorithms_oiwiki exam_gaokao recipes hant_wiki_drcd wiki_cmrc2018 classical_5M poetry_30k"
    )
    chinese = [each for name in names.split() for each in _some(_texts(text / f"zh_{name}.jsonl.gz"), 120)][:1000]
    assert (len(english), len(chinese)) == (1000, 1000)
    english[::9] = [f"{text}\nThe words lorem ipsum dolor stand here.\n" for text in english[::9]]
    english[::11] = [f"In javascript we say {{ and go.\nOr so {{ we say [12][edit].\n{text}" for text in english[::11]]
    table = pa.table({"text": english + chinese, "language": ["en"] * len(english) + ["zh"] * len(chinese)})
    stage = Signals(stages.Signals(words={"en": "datatrove", "zh": "jieba"}))
    stage.setup()
    for field, column in zip(stage.writes, stage(table).columns, strict=True):
        table = table.append_column(field, column)
    return table


def _filter(kind: type[BaseFilter], language: str, values: Mapping[str, Any]) -> BaseFilter:
    """A filter with these settings, each by the name it has in REASONS."""
    chosen = dict(OFF[kind])
    for setting, value in values.items():
        name, _, n = setting.partition(" ")
        chosen[name] = ((int(n), value),) if n else value
    if kind is GopherQualityFilter:
        chosen["stop_words"] = list(STOP_WORDS[language])
    return kind(**chosen, language=LANGUAGES[language])


def _reasons(filters: list[BaseFilter], texts: list[str]) -> list[list[str | None]]:
    """Filter -> text -> its reason to drop. Text by text, so that datatrove splits each once."""
    found = [[get_filter_result(each.filter(Document(text=text, id="0")))[1] for each in filters] for text in texts]
    return [list(column) for column in zip(*found, strict=True)]


def _truths(expressions: Mapping[str, str], documents: pa.Table) -> dict[str, list[bool]]:
    found = evaluate(expressions, documents)
    return {name: found[name].combine_chunks().fill_null(False).to_pylist() for name in found.column_names}


PARTS = st.one_of(
    st.sampled_from(
        [*"+#&._%-，。“()·", "7.3km", "C++", "１２", "abc", "2024", "年", "的", "了", "北京", "清华大学", "语言模型"]
    ),
    st.text(st.characters(min_codepoint=0x4E00, max_codepoint=0x9FEF), min_size=1, max_size=4),
)
"""Of runs without white space: marks that jieba's blocks may hold or not, words, and ideographs as they come."""


@dataclass(frozen=True)
class Case:
    """One rule alone, at one threshold."""

    kind: type[BaseFilter]
    reason: str
    drop: str
    setting: str
    threshold: Any
    strict: bool


def _cases(documents: pa.Table, kinds: Collection[type[BaseFilter]]) -> Iterator[Case]:
    """Each rule as in its file, and at a threshold that about half of the documents fail whose signal is not 0."""
    for kind in kinds:
        for reason, (rule, setting) in REASONS[kind].items():
            column, sign, threshold = DROPS[rule].split()
            if setting in ("filter_lorem_ipsum", "filter_curly_bracket"):
                yield Case(kind, reason, DROPS[rule], setting, True, strict=True)
                continue
            yield Case(kind, reason, DROPS[rule], setting, float(threshold), strict=False)
            values = documents[column].drop_null()
            median = np.quantile(values.filter(pc.greater(values, 0)), 0.5, method="higher")
            strict = int(median) + 1 if pa.types.is_integer(values.type) else float(f"{median:.3g}")
            yield Case(kind, reason, f"{column} {sign} {strict}", setting, strict, strict=True)


AS_SHIPPED: dict[str, dict[type[BaseFilter], dict[str, Any]]] = {
    "en": {kind: {} for kind in REASONS},
    "zh": {
        GopherQualityFilter: {
            "min_avg_word_length": 1,
            "max_avg_word_length": 5,
            "max_non_alpha_words_ratio": 0.735,
            "stop_words": list(STOP_WORDS["zh"]),
        },
        GopherRepetitionFilter: {},
        FineWebQualityFilter: {"short_line_thr": 999, "char_duplicates_ratio": 0.1, "new_line_ratio": 0.178},
    },
}
"""What our files stand for: datatrove's defaults for English; what they take from FineWeb-2's cmn_Hani for Chinese."""


@dataclass(frozen=True)
class Judged:
    """Documents of one language, and datatrove's reasons to drop each."""

    language: str
    documents: pa.Table
    alone: list[tuple[Case, list[str | None]]]
    shipped: list[tuple[type[BaseFilter], list[str | None]]]


@pytest.fixture(scope="module", params=LANGUAGES)
def judged(request: pytest.FixtureRequest, real: pa.Table) -> Judged:
    language = request.param
    documents = real.filter(pc.equal(real["language"], language))
    shipped = AS_SHIPPED[language]
    cases = list(_cases(documents, shipped))
    filters = [_filter(case.kind, language, {case.setting: case.threshold}) for case in cases]
    filters += [kind(**values, language=LANGUAGES[language]) for kind, values in shipped.items()]
    reasons = _reasons(filters, documents["text"].to_pylist())
    return Judged(
        language,
        documents,
        list(zip(cases, reasons[: len(cases)], strict=True)),
        list(zip(shipped, reasons[len(cases) :], strict=True)),
    )


def test_each_rule_alone_drops_what_datatrove_drops(judged: Judged) -> None:
    ours = _truths({f"case_{number}": case.drop for number, (case, _) in enumerate(judged.alone)}, judged.documents)
    for (case, reasons), mine in zip(judged.alone, ours.values(), strict=True):
        drops = [reason == case.reason for reason in reasons]
        if case.reason == "gopher_too_many_ellipsis":  # shares its setting with the hashes, which come first
            mine = [drop and reason != "gopher_too_many_hashes" for drop, reason in zip(mine, reasons, strict=True)]
        assert mine == drops, f"{case}: {sum(mine)} of ours, {sum(drops)} of theirs"
        assert sum(drops) >= 5 or not case.strict, f"{case} drops {sum(drops)} documents: too few to tell"


def test_the_rule_files_drop_what_datatrove_drops(judged: Judged) -> None:
    ours = _truths(GUARDED, judged.documents)
    for kind, reasons in judged.shipped:
        rules = {rule: reason for reason, (rule, _) in REASONS[kind].items()}
        rules |= {rule: rules[name] for rule in ours if (name := re.sub("_(zh|other)$", "", rule)) in rules}
        order = list(REASONS[kind])
        for row, reason in enumerate(reasons):
            failing = sorted({rules[rule] for rule in rules if ours[rule][row]}, key=order.index)
            if kind is C4QualityFilter and failing:  # line by line: any of its reasons may come first
                assert reason in failing
            else:
                assert reason == next(iter(failing), None), judged.documents["text"][row]
        assert any(reasons)


class TestWords:
    def test_unicode_boundaries(self) -> None:
        runs = ["don't", "(3.14),", "-----", "foo_bar", "我来到", "カタカナの", "हिन्दी", "a.b...", "l’été", "“x”"]
        assert spaces(runs) == [
            "don't", "( 3.14 ) ,", "-----", "foo_bar", "我 来 到", "カタカナ の", "हिन्दी", "a.b ...", "l’été", "“ x ”",
        ]  # fmt: skip

    @settings(deadline=None)
    @given(st.lists(st.text(), max_size=5))
    def test_no_splitter_loses_or_adds_a_character(self, texts: list[str]) -> None:
        for kind in ("spaces", "characters", "jieba"):
            words = tokenise(texts, splitter(kind, None))
            for number, text in enumerate(texts):
                found = [words.vocabulary[word] for word in words.word[words.text == number]]
                assert "".join(found) == "".join(text.split())
                assert "" not in found

    @settings(max_examples=300, deadline=None, derandomize=True)
    @given(st.lists(st.lists(PARTS, min_size=1, max_size=12).map("".join), min_size=1, max_size=20))
    def test_chinese_words_are_jiebas(self, runs: list[str]) -> None:
        runs = [run for run in runs if run.strip() == run]
        assert splitter("jieba", None)(runs) == [" ".join(jieba.lcut(run)) for run in runs]

    @pytest.mark.parametrize("file", ["zh_law", "zh_tech_news_lctt", "zh_classical_5M", "zh_hant_wiki_drcd"])
    def test_chinese_words_of_real_texts_are_jiebas(self, shared: Path, file: str) -> None:
        with gzip.open(shared / "text" / f"{file}.jsonl.gz", "rt") as lines:
            texts = [json.loads(line)["text"][:5000] for _, line in zip(range(30), lines, strict=False)]
        runs = list(dict.fromkeys(run for text in texts for run in text.split() if len(run) < 1000))
        assert splitter("jieba", None)(runs) == [" ".join(jieba.lcut(run)) for run in runs]

    def test_english_words_need_no_torch_and_no_command_line(self) -> None:
        program = "import sys; from tasks.text import words; words.splitter('datatrove', 'en'); print(*sys.modules)"
        found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        modules = found.stdout.split()
        assert "spacy" in modules
        assert not {"torch", "spacy.cli", "spacy.cli.info", "typer"} & set(modules)

    @pytest.mark.parametrize("language", ["en", "de", "ar", "zh"])
    def test_datatroves_words_do_not_depend_on_their_surroundings(self, language: str) -> None:
        text = "He said: \"U.S. don't!\"\n\n  (Wait...)  3.5km/h ¿Qué? 我来到北京清华大学。 مرحبا، l'homme\tEs war's."
        code = {"ar": "arb_Arab", "zh": "cmn_Hani"}.get(language, language)
        words = tokenise([text], splitter("datatrove", language))
        assert [words.vocabulary[word] for word in words.word] == load_word_tokenizer(code).word_tokenize(text)

    def test_words_are_the_same_once_more_are_known_than_are_kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("tasks.text.words.KNOWN", 3)
        split = splitter("datatrove", "de")
        runs = ["Haus,", "(ein", "Haus,", "z.B.", "war's", "(ein", "a," * LONGEST]
        once = split(runs)
        assert once[:6] == ["Haus ,", "( ein", "Haus ,", "z.B.", "war's", "( ein"]
        assert split(runs[::-1])[::-1] == once
        assert once[6].replace(" ", "") == runs[6]

    @pytest.mark.parametrize("language", ["ja", "th", "xyz", None])
    def test_a_language_that_datatrove_cannot_split_is_an_error(self, language: str | None) -> None:
        with pytest.raises(ValueError, match=f"words.{language}: datatrove has no word tokenizer"):
            splitter("datatrove", language)


class TestRepetition:
    words = st.lists(st.sampled_from(["a", "aa", "b", "ba", "a b", "b a", "的", "𝒳"]), max_size=40)

    @settings(deadline=None)
    @given(st.lists(words, min_size=1, max_size=4))
    @example([["a", "aa"] * 12, [], ["aa", "a"] * 12])
    def test_equals_brute_force(self, documents: list[list[str]]) -> None:
        vocabulary = sorted({word for words in documents for word in words})
        words = Words(
            text=np.repeat(np.arange(len(documents)), [len(words) for words in documents]),
            word=np.array([vocabulary.index(word) for words in documents for word in words], np.int64),
            vocabulary=vocabulary,
            runs={},
        )
        spaced, joined = Grams(words, " "), Grams(words, "")
        for n in range(1, 6):
            top = [find_top_duplicate(grams) if (grams := get_n_grams(each, n)) else np.nan for each in documents]
            np.testing.assert_array_equal(top_characters(spaced, n, len(documents)), top)
            duplicate = [find_all_duplicate(each, n) for each in documents]
            np.testing.assert_array_equal(duplicate_characters(joined, n, len(documents)), duplicate)

    def test_keys_that_differ_in_their_lowest_bits_alone_are_of_different_grams(self) -> None:
        words = Words(np.zeros(7, np.int64), np.arange(7), [*"abcdefg"], {})
        grams = Grams(words, "")
        keys = np.array([8, 9, 2**60, 8, 9, 9, 10], np.uint64)
        grams._prefix = np.concatenate([np.zeros(1, np.uint64), np.cumsum(keys)])
        grams._shrink[:], grams._salt[:] = 1, 0
        position, counts = grams.repeated(1)
        assert (position.tolist(), counts.tolist()) == ([0, 3, 1, 4, 5], [2, 3])


@settings(deadline=None)
@given(st.text("ab \t\n", max_size=30))
def test_paragraphs_and_lines_are_what_lies_between_line_ends(text: str) -> None:
    def shares(parts: list[str]) -> list[float]:
        distinct = set(parts)
        return [1 - len(distinct) / len(parts), (sum(map(len, parts)) - sum(map(len, distinct))) / len(text)]

    if text:
        assert [*repeated(text)] == shares(re.split(r"\n{2,}", text.strip())) + shares(re.split(r"\n+", text))


HOSTILE = [
    *("", "\n", "\n\n\n", " \t\x0b\x85\u2028", "\0", "\x1c\x1d", "...", "…", "#", "{", "•", "- \n- ", "[1]"),
    *("𝒳" * 50, "👨\u200d👩\u200d👧 " * 9, "a\u0301" * 20),
    *("x" * 1_000_000, "中" * 5000, "。" * 3000, "( ." * 3000),
]


class TestSignals:
    stage = Signals(stages.Signals())

    def of(self, texts: list[str | None], language: str | None = None) -> pa.Table:
        return self.stage(pa.table({"text": texts, "language": pa.array([language] * len(texts), pa.string())}))

    @pytest.mark.parametrize("language", ["en", "zh", None])
    def test_hostile_texts_give_numbers_or_null(self, language: str | None) -> None:
        found = self.of(HOSTILE, language)
        assert found.schema == self.stage.writes
        for column in found.columns:
            assert not pc.any(pc.is_nan(column)).as_py()
        assert found["characters"].to_pylist() == [len(text) for text in HOSTILE]
        shares = [name for name in found.column_names if name.endswith("_share") and not name.startswith("top_")]
        for name in shares:
            assert all(value is None or 0 <= value <= 1 for value in found[name].to_pylist()), name

    def test_what_is_undefined_is_null(self) -> None:
        empty, blank, one = self.of(["", "\n \n", "word"]).to_pylist()
        undefined = {name for name, value in empty.items() if value is None}
        assert undefined == set(empty) - {"characters", "words", "lines", *(n for n in empty if n.startswith("c4_"))}
        assert (blank["lines"], blank["mean_word_length"], blank["duplicate_5gram_share"]) == (0, None, 0)
        assert (one["top_2gram_share"], one["mean_word_length"], one["stop_words"]) == (None, 4, None)

    def test_a_text_that_is_gone_has_no_signals(self) -> None:
        row, other = self.of([None, "word"]).to_pylist()
        assert set(row.values()) == {None}
        assert other["words"] == 1

    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.text(alphabet="ab .\n#•…!?。中[1]\t", max_size=60), min_size=2, max_size=6))
    def test_a_documents_signals_depend_on_it_alone(self, texts: list[str]) -> None:
        together = self.of(texts, "en")
        assert together.slice(1, 1).equals(self.of(texts[1:2], "en"))
        assert together.equals(pa.concat_tables([self.of([text], "en") for text in texts]).combine_chunks())

    def test_a_given_splitter_is_used(self) -> None:
        stage = Signals(stages.Signals(), split=lambda runs: [" ".join(run) for run in runs])
        found = stage(pa.table({"text": ["ab cd", "ab"], "language": ["en", "zh"]}))
        assert found["words"].to_pylist() == [4, 2]

    def test_only_what_changes_the_values_is_in_the_fingerprint(self) -> None:
        assert Signals(stages.Signals()).fingerprint == Signals(stages.Signals(words={"zh": "jieba"})).fingerprint
        assert Signals(stages.Signals(words={"zh": "characters"})).fingerprint != Signals(stages.Signals()).fingerprint

    def test_golden_values(self) -> None:
        own = "The river carries sand to the sea, and the miners wash it. "
        texts = [
            own * 3 + "\n\n" + own + "\n" + "Have you seen that? Be careful... it said.\n- one\n• two...\n# three {x}.",
            "Short lines.\nShort lines.\n\nShort lines.\nWe use cookies, as you know.\nJavascript is needed here.",
            "河水把沙子带到海里，矿工们洗沙子。\n河水把沙子带到海里，矿工们洗沙子。\n他是在那里的人，也有金子！",
            "Der Fluß trägt den Sand [1] ins Meer... Das ist so.\tWirklich? Ja!",
            "",
        ]
        languages = ["en", "en", "zh", "de", None]
        check_golden("signals", Signals.version, self.stage(pa.table({"text": texts, "language": languages})))


@pytest.mark.parametrize("kind", ["jieba", "datatrove"])
def test_words_do_not_come_from_a_dictionary_that_lies_in_the_temporary_folder(tmp_path: Path, kind: str) -> None:
    text = "我们在河流的石头上学习语言模型C++"
    (tmp_path / "jieba.cache").write_bytes(marshal.dumps(({text[:each]: 1 for each in range(1, 16)}, 16)))
    program = f"from tasks.text.words import splitter; print(splitter({kind!r}, 'zh')([{text!r}])[0].replace(' ', '|'))"
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    found = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "我们|在|河流|的|石头|上|学习|语言|模型|C++"
    assert [file.name for file in tmp_path.iterdir()] == ["jieba.cache"]
