"""Language: labels and scores are fastText's own, on real paragraphs in 30 languages, and nothing else changes them."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import zipfile
from pathlib import Path

import fasttext
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from data_specs import stages
from data_specs.document import SpecError
from tasks.filters.language import Language
from tasks.text.identification import PACKAGED_SHA256, model_file
from tests.golden import check_golden

UDHR = {
    "eng": "en", "cmn_hans": "zh", "cmn_hant": "zh", "deu_1901": "de", "fra": "fr", "spa": "es", "por_PT": "pt",
    "ita": "it", "nld": "nl", "rus": "ru", "ukr": "uk", "pol": "pl", "ces": "cs", "hun": "hu", "ron": "ro",
    "bul": "bg", "ell_monotonic": "el", "tur": "tr", "arb": "ar", "heb": "he", "pes_1": "fa", "hin": "hi",
    "ben": "bn", "tam": "ta", "tha": "th", "jpn": "ja", "kor": "ko", "vie": "vi", "ind": "id", "fin": "fi",
    "swe": "sv",
}  # fmt: skip
"""Files of the Universal Declaration of Human Rights: 30 languages, Chinese in both scripts."""

OWN = (
    "The river carries sand and gravel past the old mill, and on summer mornings children wash it for gold.",
    "河水带着沙子和砾石流过老磨坊，夏天的早晨孩子们在那里淘金。",
    "Der Fluss trägt Sand und Kies an der alten Mühle vorbei.",
    "川は古い水車小屋のそばを砂と砂利を運んで流れていきます。",
    "La rivière emporte le sable et le gravier.\nLes enfants cherchent de l'or.",
    "نهر يحمل الرمل والحصى بجانب الطاحونة القديمة",
    "",
    " \n\t　",
)


@pytest.fixture(scope="module")
def language() -> Language:
    return ready(stages.Language())


def ready(settings: stages.Language) -> Language:
    stage = Language(settings)
    stage.setup()
    return stage


def table(texts: list[str]) -> pa.Table:
    return pa.table({"text": pa.array(texts, pa.string())})


def web_texts(shared: Path, count: int) -> list[str]:
    with gzip.open(shared / "labels" / "weborganizer_dclm_pages.jsonl.gz", "rt") as lines:
        english = [json.loads(line)["text"] for line, _ in zip(lines, range(count), strict=False)]
    with gzip.open(shared / "labels" / "chinesewebtext_cc2021-43_100.jsonl.gz", "rt") as lines:
        return english + [json.loads(line)["text"] for line in lines]


def test_names_the_language_of_98_in_100_paragraphs_of_30_languages(shared: Path, language: Language) -> None:
    archive = zipfile.ZipFile(shared / "language" / "udhr2.zip")
    paragraphs, expected = [], []
    for name, label in UDHR.items():
        lines = [line.strip() for line in archive.read(f"udhr2/{name}.txt").decode().split("\n")]
        paragraphs += [line for line in lines if len(line) >= 50]
        expected += [label] * (len(paragraphs) - len(expected))
    assert len(set(expected)) == 30
    assert len(paragraphs) > 1_500
    found = language(table(paragraphs))["language"]
    assert pc.mean(pc.equal(found, pa.chunked_array([expected])).cast(pa.int8())).as_py() >= 0.98


def test_gives_what_fasttext_gives_text_by_text(shared: Path, language: Language) -> None:
    texts = [text for text in web_texts(shared, 400) if text.strip()]
    found = language(table(texts)).to_pydict()
    model = fasttext.load_model(str(model_file(stages.Language())[0]))
    for text, label, score in zip(texts, found["language"], found["language_score"], strict=True):
        [wanted], [probability] = model.predict(text[:1000].replace("\n", " "))
        assert label == wanted.removeprefix("__label__")
        assert score == np.float32(min(probability, 1.0))


def test_a_text_is_judged_alone_whatever_its_batch(shared: Path, language: Language) -> None:
    texts = [*web_texts(shared, 60), *OWN]
    whole = language(table(texts))
    parts = [language(table(texts[at : at + 7])) for at in range(0, len(texts), 7)]
    assert pa.concat_tables(parts).combine_chunks() == whole.combine_chunks()


def test_a_text_without_a_visible_character_has_no_language(language: Language) -> None:
    found = language(table(["", "  ", "\n\n", "　", "word"])).to_pydict()
    assert found["language"][:4] == [None] * 4 == found["language_score"][:4]
    assert found["language"][4] is not None
    assert language(table([])).schema == Language.writes


def test_only_the_leading_characters_are_judged() -> None:
    stage = ready(stages.Language(characters=50))
    assert stage(table([OWN[0][:50] + OWN[1] * 50]))["language"].to_pylist() == ["en"]


def test_hostile_texts_give_scores_between_0_and_1(language: Language) -> None:
    texts = ["__label__zh " * 100, "</s>", "a" * 10**6, "\U0010ffff" * 500, "‮" * 50, "🀄" * 2000, "\x7f\x80\x85"]
    scores = language(table(texts))["language_score"]
    assert pc.all(pc.and_(pc.greater_equal(scores, 0), pc.less_equal(scores, 1))).as_py()


def test_a_model_by_path_is_the_same_stage_wherever_it_lies(tmp_path: Path, language: Language) -> None:
    for name in ("a.bin", "b.bin"):
        shutil.copy(model_file(stages.Language())[0], tmp_path / name)
    first, second = (
        ready(stages.Language(model=str(tmp_path / name), sha256=PACKAGED_SHA256)) for name in ("a.bin", "b.bin")
    )
    assert first.fingerprint == second.fingerprint == language.fingerprint
    assert first(table(list(OWN))) == language(table(list(OWN)))
    assert Language(stages.Language(characters=500)).fingerprint != language.fingerprint


def test_a_wrong_model_is_refused_saying_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    with pytest.raises(SpecError, match=r"stages\.language\.model: .*model\.bin is no file"):
        Language(stages.Language(model=str(path), sha256=PACKAGED_SHA256))
    path.write_bytes(b"no model")
    with pytest.raises(ValueError, match="needs its digest"):
        stages.Language(model=str(path))
    with pytest.raises(ValueError, match="expected 8f3472cf"):
        ready(stages.Language(model=str(path), sha256=PACKAGED_SHA256))
    with pytest.raises(ValueError, match="is not a fastText model"):
        ready(stages.Language(model=str(path), sha256=hashlib.sha256(b"no model").hexdigest()))


def test_values_change_only_with_the_version(language: Language) -> None:
    found = language(table(list(OWN)))
    rounded = found.set_column(1, "language_score", pc.round(found["language_score"].cast(pa.float64()), 3))
    check_golden("language", Language.version, rounded)
