"""Domain and quality: classifiers learned from a sample that no sharding changes, to the byte, and what they give."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import fasttext
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from sklearn.metrics import roc_auc_score

from data_specs import stages
from tasks.arrays.sampling import smallest
from tasks.engine.stage import Estimator, Stage
from tasks.scoring.domain import Domain, DomainEstimator
from tasks.scoring.quality import Quality, QualityEstimator
from tasks.text.fasttext_model import features
from tests.golden import check_golden
from tests.small import ENGLISH, chinese, code, english

SEED = 20260101


def documents(rows: Iterable[dict[str, Any]]) -> pa.Table:
    """Documents with `text` and what else the rows have; ids follow from the texts."""
    rows = list(rows)
    ids = [hashlib.md5(f"{number}:{row['text']}".encode()).digest() for number, row in enumerate(rows)]
    table = pa.Table.from_pylist([{"kind": "text", "language": "en", **row} for row in rows])
    return table.append_column("id", pa.array(ids, pa.binary(16)))


def read(path: Path, count: int = 10**9) -> list[dict[str, Any]]:
    with gzip.open(path, "rt") as lines:
        return [json.loads(line) for line, _ in zip(lines, range(count), strict=False)]


def fit(learned: Estimator, shards: Iterable[pa.Table]) -> tuple[bytes, dict[str, Any]]:
    rows = pa.concat_tables([learned.sample(shard.select(list(learned.reads))) for shard in shards])
    return learned.fit(rows.sort_by("id"))


def ready(stage: Callable[[dict[str, str]], Stage], model: bytes, folder: Path) -> Stage:
    path = folder / f"{hashlib.sha256(model).hexdigest()[:8]}.bin"
    path.write_bytes(model)
    made = stage({str(path): hashlib.sha256(model).hexdigest()})
    made.setup()
    return made


def small() -> pa.Table:
    rng = random.Random(1)
    made = [{"text": english(rng, 20), "source": "web", "language": "en"} for _ in range(60)]
    made += [{"text": chinese(rng, 20), "source": "web", "language": "zh"} for _ in range(60)]
    made += [{"text": code(rng, 5), "source": "code", "language": "en"} for _ in range(60)]
    return documents(made)


DOMAIN = stages.Domain(labels={"code": "source = 'code'", "prose": "source = 'web'"}, dimensions=8, sample=90)
QUALITY = stages.Quality(reference="length(text) > 1400", dimensions=8, sample=90)
LEARNED = (DomainEstimator(DOMAIN, SEED), QualityEstimator(QUALITY, SEED))


@pytest.mark.parametrize("learned", LEARNED, ids=["domain", "quality"])
def test_the_same_documents_give_the_same_model_however_they_lie_in_shards(learned: Estimator) -> None:
    table = small()
    whole = fit(learned, [table])
    rng = np.random.default_rng(3)
    for shards in (2, 7):
        shuffled = table.take(rng.permutation(table.num_rows))
        size = -(-table.num_rows // shards)
        assert fit(learned, [shuffled.slice(at, size) for at in range(0, table.num_rows, size)]) == whole
    assert fit(type(learned)(learned.settings, SEED + 1), [table])[0] != whole[0]


def test_samples_are_the_smallest_hashes_of_each_group() -> None:
    table = small()
    taken = smallest(table, 20, ("source", "language"), SEED, "x")
    every = smallest(table, table.num_rows, (), SEED, "x").to_pylist()
    expected, counts = [], dict[Any, int]()
    for row in every:
        group = (row["source"], row["language"])
        counts[group] = counts.get(group, 0) + 1
        expected += [row] if counts[group] <= 20 else []
    assert taken.to_pylist() == expected
    assert taken.num_rows == 60
    parts = [smallest(table.slice(at, 50), 20, ("source", "language"), SEED, "x") for at in range(0, 180, 50)]
    assert smallest(pa.concat_tables(parts), 20, ("source", "language"), SEED, "x").to_pylist() == expected


def test_domain_learns_english_news_from_labels(shared: Path, tmp_path: Path) -> None:
    table = documents(read(shared / "labels" / "bbc_news_5class.jsonl.gz"))
    tested = np.random.default_rng(0).random(table.num_rows) < 0.2
    labels = {name: f"label = '{name}'" for name in table["label"].unique().to_pylist()}
    learned = DomainEstimator(stages.Domain(labels=labels), SEED)
    model, facts = fit(learned, [table.filter(~tested)])
    found = ready(lambda files: Domain(learned.settings, files), model, tmp_path)(table.filter(tested))
    right = pc.equal(found["domain"], table.filter(tested)["label"])
    assert pc.mean(right.cast(pa.int8())).as_py() > 0.93
    assert facts["validation"]["accuracy"] > 0.93
    assert pc.all(pc.and_(pc.greater(found["domain_score"], 0), pc.less_equal(found["domain_score"], 1))).as_py()


def test_accuracy_is_of_texts_that_have_no_copy_among_those_that_were_learned_from() -> None:
    rng = random.Random(5)
    texts = [
        (" ".join(rng.choices(ENGLISH, k=12)), "ab"[number % 2]) for number in range(60)
    ]  # labels that nothing tells
    rows = [{"text": copy, "label": label} for text, label in texts * 6 for copy in (text, f"{text.upper()} ")]
    labels = {name: f"label = '{name}'" for name in "ab"}
    _, facts = fit(DomainEstimator(stages.Domain(labels=labels, epochs=50), SEED), [documents(rows)])
    assert facts["validation"]["documents"] == 6
    assert facts["validation"]["accuracy"] < 0.9


def test_domain_tells_kinds_of_chinese_from_100_characters(shared: Path, tmp_path: Path) -> None:
    rows = []
    for name in ("law", "classical_5M", "exam_gaokao", "wiki_cmrc2018", "recipes", "algorithms_oiwiki", "poetry_30k"):
        for row in read(shared / "text" / f"zh_{name}.jsonl.gz", 380):
            middle = len(row["text"]) // 2
            rows.append({"text": row["text"][middle : middle + 100], "label": name.lower()})
    table = documents(rows)
    labels = {name: f"label = '{name}'" for name in table["label"].unique().to_pylist()}
    _, facts = fit(DomainEstimator(stages.Domain(labels=labels), SEED), [table])
    assert facts["validation"]["documents"] > 200
    assert facts["validation"]["accuracy"] > 0.9


def test_what_is_recognised_is_never_judged_by_the_classifier(tmp_path: Path) -> None:
    model, _ = fit(LEARNED[0], [small()])
    stage = ready(lambda files: Domain(DOMAIN, files), model, tmp_path)
    rng = random.Random(2)
    table = documents(
        [{"text": english(rng, 9)}, {"text": code(rng, 9)}, {"text": english(rng, 9), "kind": "latex"}, {"text": " \n"}]
    )
    found = stage(table.select(stage.reads)).to_pydict()
    assert found["domain"] == ["prose", "code", "latex", None]
    assert found["domain_score"][1:] == [1.0, 1.0, None]


def test_values_are_those_of_plain_fasttext_text_by_text(tmp_path: Path) -> None:
    table = small()
    domain, quality = (fit(learned, [table])[0] for learned in LEARNED)
    made = {
        "domain": ready(lambda files: Domain(DOMAIN, files), domain, tmp_path)(table).to_pydict(),
        "quality": ready(lambda files: Quality(QUALITY, files), quality, tmp_path)(table).to_pydict(),
    }
    models = {name: fasttext.load_model(str(tmp_path / f"{hashlib.sha256(data).hexdigest()[:8]}.bin"))
              for name, data in (("domain", domain), ("quality", quality))}  # fmt: skip
    for number, line in enumerate(features(table["text"]).to_pylist()):
        [label], [score] = models["domain"].predict(line)
        if number < 120:  # prose; what follows is recognised as code
            assert made["domain"]["domain"][number] == label.removeprefix("__label__")
            assert made["domain"]["domain_score"][number] == np.float32(min(score, 1))
        chances = dict(zip(*models["quality"].predict(line, k=2), strict=True))
        assert made["quality"]["quality"][number] == np.float32(min(chances["__label__reference"], 1))


def test_a_text_cannot_name_its_own_label() -> None:
    table = small()
    hostile = [{"text": f"__label__prose __label__{n}\n</s> __label__code", "source": "code"} for n in range(30)]
    model, facts = fit(LEARNED[0], [pa.concat_tables([table, documents(hostile)], promote_options="default")])
    assert set(facts["documents"]) == {"code", "prose"}
    assert b"__label__0" not in model


def test_the_first_label_that_is_true_wins_and_a_document_without_one_is_left_out() -> None:
    labels = {"english": "source = 'web' and language = 'en'", "web": "source = 'web'", "rare": "source = 'nowhere'"}
    _, facts = fit(DomainEstimator(stages.Domain(labels=labels, dimensions=4), SEED), [small()])
    assert facts["documents"] == {"english": 60, "web": 60}


def test_one_label_alone_cannot_be_learned() -> None:
    learned = DomainEstimator(stages.Domain(labels={"prose": "source = 'web'", "none": "source = 'x'"}), SEED)
    with pytest.raises(ValueError, match=r"stages\.domain\.labels: .* two labels or more, found prose"):
        fit(learned, [small()])


def test_quality_prefers_what_is_like_the_reference(shared: Path, tmp_path: Path) -> None:
    table = documents(read(shared / "labels" / "weborganizer_dclm_pages.jsonl.gz", 6000))
    formats = ("Academic Writing", "Knowledge Article", "Nonfiction Writing")
    settings = stages.Quality(reference=f"format in {formats}")
    tested = np.random.default_rng(0).random(table.num_rows) < 0.3
    model, facts = fit(QualityEstimator(settings, SEED), [table.filter(~tested)])
    found = ready(lambda files: Quality(settings, files), model, tmp_path)(table.filter(tested))["quality"]
    wanted = pc.is_in(table.filter(tested)["format"], pa.array(formats))
    assert roc_auc_score(wanted.to_pylist(), found.to_pylist()) > 0.78
    assert facts["pairs"]["en"] == facts["documents"]["reference"] == facts["documents"]["raw"]


def test_quality_takes_as_many_reference_as_raw_documents_of_each_language(tmp_path: Path) -> None:
    rng = random.Random(4)
    rows = [{"text": chinese(rng, 10), "language": "zh", "source": "book"} for _ in range(180)]
    rows += [{"text": chinese(rng, 10), "language": "zh", "source": "web"} for _ in range(20)]
    rows += [{"text": english(rng, 10), "language": "en", "source": "book"} for _ in range(20)]
    rows += [{"text": english(rng, 10), "language": "en", "source": "web"} for _ in range(180)]
    rows += [{"text": "Der Fluss", "language": "de", "source": "web"}] * 50
    table = documents(rows)
    settings = stages.Quality(reference="source = 'book'", dimensions=8, epochs=20)
    model, facts = fit(QualityEstimator(settings, SEED), [table])
    assert facts["pairs"] == {"en": 20, "zh": 20}
    found = ready(lambda files: Quality(settings, files), model, tmp_path)(table)["quality"].to_numpy()
    assert abs(found[:200].mean() - found[200:400].mean()) < 0.2  # books do not differ here, only languages do
    _, facts = fit(QualityEstimator(settings.model_copy(update={"sample": 20}), SEED), [table])
    assert facts["pairs"] == {"en": 5, "zh": 5}


def test_quality_says_which_language_it_was_not_learned_in(tmp_path: Path) -> None:
    rng = random.Random(5)
    rows = [{"text": english(rng, 10), "language": "en", "source": name} for name in ("book", "web") * 20]
    rows += [{"text": chinese(rng, 10), "language": "zh", "source": "web"} for _ in range(60)]
    rows += [{"text": "Der Fluss", "language": "de", "source": "book"}]
    learned = QualityEstimator(stages.Quality(reference="source = 'book'", dimensions=8), SEED)
    _, facts = fit(learned, [documents(rows)])
    assert facts["one_sided"] == {"de": [1, 0], "zh": [0, 60]}
    assert learned.caution(facts) == "learned in en; zh has raw documents alone, and is scored all the same"
    assert learned.caution({"pairs": {"en": 20}}) == ""


def test_lines_are_scored_by_themselves_where_that_is_asked_for(tmp_path: Path) -> None:
    rng = random.Random(6)
    good = [english(rng, 4).split("\n")[0] for _ in range(80)]
    bad = [" ".join(rng.choices("buy now cheap shoes cart sale".split(), k=30)) for _ in range(80)]
    rows = [{"text": line, "source": "book"} for line in good] + [{"text": line, "source": "web"} for line in bad]
    settings = stages.Quality(reference="source = 'book'", dimensions=8, epochs=20, lines=True)
    model, _ = fit(QualityEstimator(settings, SEED), [documents(rows)])
    texts = [good[0], bad[0], f"{good[1]}\n\n{bad[1]}", f"{good[1]}\n{good[2]}\n123", "1 2 3", ""]
    stage = ready(lambda files: Quality(settings, files), model, tmp_path)
    found = stage(pa.table({"text": texts}))["quality_line_share"].to_pylist()
    letters = [sum(map(str.isalpha, line)) for line in (good[1], bad[1])]
    assert found == [1.0, 0.0, pytest.approx(letters[0] / sum(letters)), 1.0, None, None]
    plain = Quality(settings.model_copy(update={"lines": False}), stage.files)
    plain.setup()
    assert plain(pa.table({"text": texts})).column_names == ["quality"]


def test_quality_needs_a_language_with_both_sides() -> None:
    learned = QualityEstimator(stages.Quality(reference="language = 'zh'"), SEED)
    with pytest.raises(ValueError, match=r"no language has both .*'en': \[0, 120\], 'zh': \[60, 0\]"):
        fit(learned, [small()])
    with pytest.raises(ValueError, match="reference is null"):
        QualityEstimator(stages.Quality(), SEED)


def test_a_stage_changes_with_its_model_alone_and_a_model_with_what_it_is_learned_from() -> None:
    def changed(**settings: Any) -> stages.Domain:
        return DOMAIN.model_copy(update=settings)

    assert Domain(DOMAIN, {"a": "1" * 64}).fingerprint == Domain(changed(epochs=3), {"b": "1" * 64}).fingerprint
    assert Domain(DOMAIN, {"a": "1" * 64}).fingerprint != Domain(DOMAIN, {"a": "2" * 64}).fingerprint
    assert (
        Domain(changed(where="language = 'zh'"), {"a": "1" * 64}).fingerprint
        != Domain(DOMAIN, {"a": "1" * 64}).fingerprint
    )
    known = DomainEstimator(DOMAIN, SEED).fingerprint
    reordered = dict(reversed(DOMAIN.labels.items()))
    for other in (changed(labels=reordered), changed(epochs=3), changed(sample=91), changed(where="language = 'zh'")):
        assert DomainEstimator(other, SEED).fingerprint != known
    assert DomainEstimator(DOMAIN, SEED + 1).fingerprint != known


def test_values_change_only_with_the_version(tmp_path: Path) -> None:
    """Labels and features to the letter; probabilities hang on the processor's last bit."""
    table = small()
    domain, quality = (fit(learned, [table])[0] for learned in LEARNED)
    labels = ready(lambda files: Domain(DOMAIN, files), domain, tmp_path)(table)["domain"]
    better = pc.greater(ready(lambda files: Quality(QUALITY, files), quality, tmp_path)(table)["quality"], 0.5)
    lines = features(table["text"])
    check_golden("domain", Domain.version, pa.table({"features": lines, "domain": labels}))
    check_golden("quality", Quality.version, pa.table({"features": lines, "better": better}))
