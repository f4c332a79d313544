"""Scripts of texts, and languages of their parts."""

from __future__ import annotations

import gzip
import hashlib
import json
import zipfile
from pathlib import Path

import fasttext
import pyarrow as pa
import pytest

from data_specs import stages
from data_specs.load import load
from tasks.decision.verdict import failing
from tasks.engine.stage import Stage
from tasks.filters.language import Language, Languages
from tasks.filters.script import Script
from tasks.registry import nodes
from tasks.storage.pins import Pins
from tasks.storage.store import Store

ENGLISH = "The river carries sand and gravel past the old mill, and on summer mornings children wash it for gold."
GERMAN = "Der Fluss trägt Sand und Kies an der alten Mühle vorbei, und im Sommer waschen die Kinder dort Gold."
CHINESE = "河水带着沙子和砾石流过老磨坊，夏天的早晨孩子们在那里淘金，到了傍晚才回家吃饭。"


def scripts(*texts: str) -> list[tuple[str | None, float | None]]:
    found = Script(stages.Script())(pa.table({"text": list(texts)}))
    return list(zip(found["script"].to_pylist(), found["script_share"].to_pylist(), strict=True))


def language(*texts: str, **settings: str) -> list[str]:
    stage = Language(stages.Language(**settings))
    stage.setup()
    return stage(pa.table({"text": list(texts)}))["language"].to_pylist()


def languages(*texts: str, **settings: float) -> tuple[list[list[str]], list[float]]:
    stage = Languages(stages.Languages(**settings))
    stage.setup()
    found = stage(pa.table({"text": list(texts)}))
    return found["languages"].to_pylist(), found["languages_share"].to_pylist()


@pytest.mark.parametrize(
    ("text", "script", "share"),
    [
        (ENGLISH, "Latn", 1),
        ("河水带着沙子流过老磨坊，门开了", "Hans", 1),
        ("河水帶著沙子流過老磨坊，門開了", "Hant", 1),
        ("天下大同", "Hani", 1),
        ("山里有人，皇后在後面開門", "Hant", 1),
        ("川は古い水車小屋のそばを流れていきます。", "Jpan", 1),
        ("강은 낡은 물레방아를 지나 흐른다", "Kore", 1),
        ("Река несёт песок", "Cyrl", 1),
        ("नदी रेत बहाती है", "Deva", 1),
        ("ᚠᚢᚦ", "Zyyy", 0),
        ("abcabc жж", "Latn", 0.75),
        ("العَرَبِيَّةُ لُغَةٌ جَمِيلَةٌ", "Arab", 1),
        ("s\u0331a\u0301b\u0304", "Latn", 1),
        ("ラーメン、ｶﾚｰ", "Jpan", 1),
        ("पृष्ठ, abc १२३", "Deva", 0.625),
        ("ab १२३४५", "Latn", 1),
        ("ab ۱۲۳۴۵", "Latn", 1),
        ("१२३४५", None, None),
        ("\u0301 \u064b", None, None),
        ("1, 2, 3 …", None, None),
        ("", None, None),
    ],
)
def test_the_script_is_that_of_most_letters(text: str, script: str | None, share: float | None) -> None:
    assert scripts(text) == [(script, share)]


def test_a_paragraph_that_stands_three_times_counts_three_times() -> None:
    french = "La rivière traverse la vieille ville et emporte le sable vers la mer."
    one, three = languages(f"{ENGLISH}\n{french}", "\n".join([ENGLISH, *[french] * 3]), share=0.01)[1]
    sizes = [len(ENGLISH), len(french)]
    assert one == pytest.approx(max(sizes) / sum(sizes))
    assert three == pytest.approx(3 * sizes[1] / (sizes[0] + 3 * sizes[1]))


def test_chinese_of_books_and_encyclopedias_is_told_apart(shared: Path) -> None:
    for file, wanted in (("zh_hant_wiki_drcd", "Hant"), ("zh_wiki_cmrc2018", "Hans"), ("zh_law", "Hans")):
        with gzip.open(shared / "text" / f"{file}.jsonl.gz") as lines:
            texts = [json.loads(line)["text"] for line, _ in zip(lines, range(500), strict=False)]
        found = [script for script, _ in scripts(*texts)]
        assert found.count(wanted) >= 0.99 * len(texts), (file, {each: found.count(each) for each in set(found)})


def test_declarations_in_thirty_languages_have_their_script(shared: Path) -> None:
    wanted = {"eng": "Latn", "rus": "Cyrl", "ell_monotonic": "Grek", "arb": "Arab", "heb": "Hebr", "hin": "Deva"}
    wanted |= {"tha": "Thai", "jpn": "Jpan", "kor": "Kore", "cmn_hans": "Hans", "cmn_hant": "Hant", "tam": "Taml"}
    with zipfile.ZipFile(shared / "language" / "udhr2.zip") as archive:
        for name, script in wanted.items():
            text = archive.read(f"udhr2/{name}.txt").decode()
            assert scripts(text[200:1200])[0][0] == script, name


def test_capitals_are_identified_as_their_lower_case_is_where_the_spec_asks_for_it() -> None:
    shouted = [text.upper() for text in (ENGLISH, GERMAN, "BUY CHEAP TICKETS NOW AND SAVE MONEY ON YOUR NEXT FLIGHT")]
    assert language(*shouted, capitals="lower") == language(*(text.lower() for text in shouted))
    assert language(*shouted, capitals="lower") == ["en", "de", "en"]
    assert language(ENGLISH, CHINESE, "", capitals="lower") == language(ENGLISH, CHINESE, "")


def test_a_setting_that_is_not_made_leaves_the_fingerprint_as_it_was() -> None:
    plain = Language(stages.Language())
    assert "capitals" not in plain.hashed_settings()
    assert Language(stages.Language(capitals="lower")).fingerprint != plain.fingerprint


def test_a_text_is_judged_behind_a_word_that_ends_a_line_to_fasttext() -> None:
    both = f"{CHINESE} </s> {GERMAN * 3}"
    assert language(f"</s> {CHINESE}", f"</s>\n{GERMAN}", f"[INST] hi </s> {CHINESE * 3}") == ["zh", "de", "zh"]
    assert language(both) == language(both.replace("</s>", "")) == ["de"]
    assert languages(f"</s> {CHINESE}\n</s> {GERMAN}")[0] == [["zh", "de"]]
    assert language("<s>durchgestrichen</s>", ENGLISH) == ["de", "en"]


def test_each_paragraph_is_judged_and_most_come_first() -> None:
    both = f"{ENGLISH}\n{GERMAN}\n{GERMAN} {GERMAN}"
    found, shares = languages(both, ENGLISH.upper(), f"{CHINESE}\n{ENGLISH}", "short", "", f"{ENGLISH * 20}\n{GERMAN}")
    assert found == [["de", "en"], ["en"], ["zh", "en"], None, None, ["en"]]
    assert shares[0] == pytest.approx(len(GERMAN) * 3 / (len(GERMAN) * 3 + len(ENGLISH)), abs=0.01)
    assert shares[1] == 1
    assert languages(both, share=0.4)[0] == [["de"]]


def test_rules_hold_a_second_identifier_against_the_first(tmp_path: Path) -> None:
    """A model with GlotLID's labels beside lid.176, in one spec: what they disagree on falls."""
    lessons = tmp_path / "lessons.txt"
    texts = {ENGLISH: "eng_Latn", " ".join(CHINESE): "cmn_Hani", GERMAN: "eng_Latn"}
    lessons.write_text("".join(f"__label__{label} {text}\n" for text, label in texts.items()) * 20)
    model = tmp_path / "second.bin"
    fasttext.train_supervised(str(lessons), thread=1, epoch=20, verbose=0).save_model(str(model))
    spec = tmp_path / "spec.yaml"
    spec.write_text(
        f"name: two\nstore: {tmp_path}/store\nsources: {{a: {{kind: text, paths: a}}}}\nchannels: {{all: 'true'}}\n"
        f"stages:\n  second: {{kind: language, model: {model}, "
        f"sha256: {hashlib.sha256(model.read_bytes()).hexdigest()}}}\n"
        "rules:\n  - disagreement: \"language in ('en', 'de') and language <> left(second, 2)\"\n"
    )
    loaded = load(spec)
    found = {node.name: node.stage for node in nodes(loaded, Pins(Store(str(tmp_path / "store")), "two"))}
    table = pa.table({"text": [ENGLISH, GERMAN, " ".join(CHINESE)]})
    for name in ("language", "second"):
        stage = found[name]
        assert isinstance(stage, Stage)
        stage.setup()
        for field, column in zip(stage.writes, stage(table).columns, strict=True):
            table = table.append_column(stage.written_as(field.name), column)
    assert table["second"].to_pylist() == ["eng_Latn", "eng_Latn", "cmn_Hani"]
    assert failing(loaded.rules, table)["disagreement"].tolist() == [False, True, False]
