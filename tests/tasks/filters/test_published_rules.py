"""Rule sets under the names of those who published them, against a second reading of what was published, on real
documents; FineWeb-2's against datatrove's filters, set up as its pipeline does."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from statistics import median

import pyarrow as pa
import pytest
from datatrove.data import Document
from datatrove.pipeline.filters import FineWebQualityFilter, GopherQualityFilter, GopherRepetitionFilter
from datatrove.pipeline.filters.base_filter import get_filter_result

from data_specs import stages
from data_specs.fineweb2 import Configuration, expressions, written
from data_specs.load import load
from data_specs.spec import Rule
from tasks.decision.verdict import failing
from tasks.engine.stage import Stage
from tasks.filters.dolma import Dolma
from tasks.filters.signals import STOP_WORDS, Signals
from tasks.filters.surface import Surface

RULES = Path(__file__).parents[3] / "data_specs" / "rules"
CHINESE = Configuration(
    language_score=0.692,
    dup_line_frac=0.287,
    top_n_grams=[(2, 0.256), (3, 0.201), (4, 0.171)],
    dup_n_grams=[(5, 0.198), (6, 0.182), (7, 0.167), (8, 0.154), (9, 0.14), (10, 0.127)],
    line_punct_thr=0.106,
    new_line_ratio=0.178,
    min_avg_word_length=1,
    max_avg_word_length=5,
    max_non_alpha_words_ratio=0.735,
    stopwords=list(STOP_WORDS["zh"]),
)


def texts(path: Path, count: int, longest: int = 20_000) -> list[str]:
    def of_file() -> Iterator[str]:
        with gzip.open(path, "rt") as lines:
            for line in lines:
                if 0 < len(text := json.loads(line)["text"]) <= longest:
                    yield text

    return list(islice(of_file(), count))


def rules(folder: Path, *files: Path) -> dict[str, Rule]:
    spec = folder / "spec.yaml"
    includes = "".join(f"  - include: {file}\n" for file in files)
    spec.write_text(
        f"name: x\nsources: {{a: {{kind: text, paths: a}}}}\nchannels: {{all: 'true'}}\n"
        "stages:\n  surface: {}\n  dolma: {}\n  script: {}\n  refinedweb: {kind: line_filter, like: refinedweb}\n"
        f"rules:\n{includes}"
    )
    return {rule.name: rule for rule in load(spec).rules}


def judged(stage: Stage, found: list[str], language: str, chosen: dict[str, Rule]) -> dict[str, list[bool]]:
    """What each rule drops of these texts."""
    table = pa.table({"text": pa.array(found, pa.string()), "language": [language] * len(found)})
    if "characters" not in stage.writes.names:
        table = table.append_column("characters", pa.array(list(map(len, found))))
    stage.setup()
    for field, column in zip(stage.writes, stage(table).columns, strict=True):
        table = table.append_column(field, column)
    return {name: drops.tolist() for name, drops in failing(list(chosen.values()), table).items()}


def test_fineweb2_drops_what_datatroves_filters_drop_that_are_set_up_as_its_pipeline(
    shared: Path, tmp_path: Path
) -> None:
    names = "tech_news_lctt exam_gaokao recipes wiki_cmrc2018 law algorithms_oiwiki classical_5M"
    found = [text for name in names.split() for text in texts(shared / "text" / f"zh_{name}.jsonl.gz", 40, 3000)]
    found += texts(shared / "labels" / "coldataset_dev.jsonl.gz", 40)
    found += ["...".join(found[0][:400]), "- " + "\n- ".join(found[1]), "# ".join(found[2][:300])]
    limits = CHINESE.model_dump()
    peers = [
        GopherRepetitionFilter(
            language="cmn_Hani", dup_para_frac=0, dup_line_char_frac=0, dup_para_char_frac=0,
            **{name: limits[name] for name in ("dup_line_frac", "top_n_grams", "dup_n_grams")},
        ),
        FineWebQualityFilter(
            language="cmn_Hani", short_line_thr=999, char_duplicates_ratio=0.1,
            line_punct_thr=CHINESE.line_punct_thr, new_line_ratio=CHINESE.new_line_ratio,
        ),
        GopherQualityFilter(
            language="cmn_Hani", stop_words=CHINESE.stopwords, min_stop_words=2,
            **{name: limits[name] for name in limits if name.endswith(("word_length", "words_ratio"))},
        ),
    ]  # fmt: skip
    theirs = [
        [get_filter_result(peer.filter(Document(text=text, id="0")))[0] is False for peer in peers] for text in found
    ]
    chosen = rules(tmp_path, RULES / "fineweb2.yaml")
    ours = judged(
        Signals(stages.Signals()), found, "zh", {name: chosen[name] for name in chosen if "foreign" not in name}
    )
    assert [any(row) for row in zip(*ours.values(), strict=True)] == [any(row) for row in theirs]
    assert all(any(column) for column in zip(*theirs, strict=True))
    assert any(ours["fineweb2_ellipses"])


def test_the_shipped_file_for_chinese_is_what_its_configuration_says(tmp_path: Path) -> None:
    shipped = {
        name.removeprefix("fineweb2_"): rule.drop for name, rule in rules(tmp_path, RULES / "fineweb2.yaml").items()
    }
    wanted = {name: drop for name, drop in expressions(CHINESE).items() if name != "short_words"}  # of one character
    assert shipped == wanted


def test_a_configuration_becomes_a_file_that_a_spec_includes(tmp_path: Path) -> None:
    file = tmp_path / "fineweb2_lzh.yaml"
    file.write_text(written(CHINESE, "lzh_Hani", "lzh_Hani"))
    found = rules(tmp_path, file, RULES / "fineweb2.yaml")
    assert found["fineweb2_list_lzh_hani"].drop == "newline_word_ratio > 0.178"
    assert found["fineweb2_list_lzh_hani"].where == "language = 'lzh_Hani'"
    assert len(found) == 2 * len(expressions(CHINESE)) - 1


def test_stop_words_of_a_language_are_those_that_the_settings_name() -> None:
    lists = {"de": ("und", "der"), "en": ("nobody",)}
    table = pa.table(
        {"text": ["Der Hund und der Igel und", "The dog and of", "我的书在这里"], "language": ["de", "en", "zh"]}
    )
    stage = Signals(stages.Signals(stop_words=lists))
    stage.setup()
    assert stage(table)["stop_words"].to_pylist() == [2, 0, 2]
    plain = Signals(stages.Signals())
    plain.setup()
    assert plain(table)["stop_words"].to_pylist() == [None, 2, 2]
    assert "stop_words" not in plain.hashed_settings()


def chinesewebtext(text: str) -> dict[str, bool]:
    """Section 3.2: fewer than 200 characters or 10 a line, 30 % Chinese characters, 13-grams that repeat."""
    bare = re.sub("[ \n\t]", "", text.strip().lower())
    grams = [bare[n : n + 13] for n in range(len(bare) - 13)] if len(bare) >= 13 else [bare]
    often = sum(count for count in Counter(grams).values() if count > 1)
    return {
        "short": len(text) <= 200,
        "short_lines": len(text) / len(text.split("\n")) < 10,
        "few_ideographs": len(re.findall("[\u4e00-\u9fa5]", text)) / len(text) < 0.3,
        "repetitive": bool(grams) and often / len(grams) > 0.5,
    }


def starcoder(text: str) -> dict[str, bool]:
    """Lines of 1,000 characters, 100 on average; a quarter of letters and digits; XML."""
    lines = text.splitlines()
    return {
        "long_line": max(map(len, lines)) > 1000,
        "long_lines": sum(map(len, lines)) / len(lines) > 100,
        "symbols": len([each for each in text if each.isalnum()]) / len(text) < 0.25,
        "xml": re.match(r"(?s).{0,86}<\?xml version=", text) is not None,
    }


def dolma(text: str) -> dict[str, bool]:
    """Attributes of the tagger, lists and tuples of words."""
    words = text.split()
    total = sum(map(len, words))
    lines = re.split(r"\n+", text)
    again = [line for line in lines if lines.count(line) > 1]
    found = {
        "short": len(words) < 50,
        "long": len(words) > 100_000,
        "short_words": median(map(len, words)) < 3,
        "long_words": median(map(len, words)) > 10,
        "symbols": len([word for word in words if "#" in word or "\u2026" in word]) > 0.1 * len(words),
        "not_alphabetic": len([word for word in words if re.search(r"[^\W\d_]", word)]) < 0.8 * len(words),
        "stop_words": len([word for word in words if word in "the be to of and that have with".split()]) < 2,
        "bullet_lines": len([line for line in lines if line[:1] in ("*", "-")]) > 0.9 * len(lines),
        "ellipsis_lines": len([line for line in lines if line[-1:] == "\u2026"]) > 0.3 * len(lines),
        "duplicate_lines": len(again) > 0.3 * len(lines),
        "duplicate_line_characters": len("".join(again)) > 0.3 * total,
    }
    for n, most in zip(range(2, 11), (0.2, 0.18, 0.16, 0.15, 0.14, 0.13, 0.12, 0.11, 0.1), strict=True):
        grams = Counter(tuple(words[start : start + n]) for start in range(len(words) - n + 1))
        sizes = {gram: count * len("".join(gram)) for gram, count in grams.items()}
        if n < 5:
            found[f"top_{n}gram"] = bool(grams) and sizes[grams.most_common(1)[0][0]] > most * total
        else:
            repeated = sum(size for gram, size in sizes.items() if grams[gram] > 1)
            found[f"duplicate_{n}grams"] = bool(grams) and repeated > most * sum(sizes.values())
    return found


def dolma_c4(text: str) -> dict[str, bool]:
    words = {"curly_brace": "{", "lorem_ipsum": "lorem ipsum", "javascript": "javascript"}
    return {name: word in text.lower() for name, word in words.items()}


CHINESE_SETS = (
    "labels/coldataset_dev",
    "labels/chinesewebtext_100",
    "text/zh_exam_gaokao",
    "text/zh_algorithms_oiwiki",
)
ENGLISH_SETS = ("labels/weborganizer_dclm_pages", "text/en_webtext", "text/en_tech_news_lctt_sources")


@pytest.mark.parametrize(
    ("name", "stage", "language", "sets", "reading", "unseen"),
    [
        ("chinesewebtext", Surface(stages.Surface()), "zh", CHINESE_SETS, chinesewebtext, set()),
        ("starcoder", Surface(stages.Surface()), "en", ENGLISH_SETS, starcoder, set()),
        ("dolma", Dolma(stages.Dolma()), "en", ENGLISH_SETS, dolma, {"long"}),
        ("dolma_c4", Dolma(stages.Dolma()), "en", ENGLISH_SETS, dolma_c4, set()),
    ],
)
def test_a_set_drops_what_a_second_reading_of_what_was_published_drops(
    name: str,
    stage: Stage,
    language: str,
    sets: tuple[str, ...],
    reading: Callable[[str], dict[str, bool]],
    unseen: set[str],
    shared: Path,
    tmp_path: Path,
) -> None:
    found = [text for file in sets if (path := shared / f"{file}.jsonl.gz").exists() for text in texts(path, 150, 6000)]
    found += [
        '<?xml version="1.0"?>\n<a>{}</a>',
        "#" * 90 + "\n",
        "x" * 1001,
        "Lorem ipsum dolor of the JavaScript\u2026",
    ]
    found += ["* one\n* two\n- three", "to be \u2026\nof the \u2026\nno end", "an end # of # the \u2026 x # y #"]
    found += ["\u4e2d\u6587\n" * 90, "1 2 3 4 5 6 7 the 8 of", "the same of it\n" * 30]
    chosen = {
        key: rule for key, rule in rules(tmp_path, RULES / f"{name}.yaml").items() if key != f"{name}_traditional"
    }
    ours = judged(stage, found, language, chosen)
    theirs = list(map(reading, found))
    assert {key.removeprefix(f"{name}_") for key in ours} == set(theirs[0])
    for key, drops in ours.items():
        wanted = [row[key.removeprefix(f"{name}_")] for row in theirs]
        assert drops == wanted, key
        assert any(wanted) or key.removeprefix(f"{name}_") in unseen, f"{key} drops nothing: too little to tell"


def test_encoded_data_is_found_and_prose_is_none() -> None:
    base64 = "aGVsbG8gd29ybGQhIGhlbGxvIHdvcmxkISBoZWxsbyB3b3JsZCEgaGVsbG8gd29ybGQhISEh" * 20
    found = Surface(stages.Surface())(
        pa.table({"text": [base64, "0x00, 0xff, 0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc", "A word of prose, 12 34 56.", ""]})
    )
    assert found["longest_encoded"].to_pylist()[0] == len(base64)
    assert found["encoded_share"].to_pylist()[0] == 1.0
    assert found["encoded_share"].to_pylist()[2:] == [0.0, None]


def test_the_files_name_columns_that_are_there(tmp_path: Path) -> None:
    names = ("chinesewebtext", "dolma", "dolma_c4", "refinedweb", "starcoder", "starcoder2", "gentle")
    found = rules(tmp_path, *(RULES / f"{name}.yaml" for name in names))
    assert len(found) == sum(len(re.findall("^  - ", (RULES / f"{name}.yaml").read_text(), re.M)) for name in names)
