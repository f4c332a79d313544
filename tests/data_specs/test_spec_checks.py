"""What a spec says that cannot work, or is no column, is refused before anything runs."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from data_specs import schema
from data_specs.base import Settings
from data_specs.load import SpecError, check_columns, load, unmatched
from data_specs.spec import Spec
from tasks import registry
from tasks.engine.sql import mistaken
from tasks.storage.pins import Pins
from tasks.storage.store import Store
from tests.data_specs.small_spec import SMALL, SPECS, mistakes


@pytest.mark.parametrize(
    ("setting", "mistake"),
    [
        ("sources.pages.paths={a: b}", "sources.pages.paths is keys and values, but should be text or a list"),
        ('store="a\\0b"', "store: no path has a NUL byte"),
        ("mixture={tokens: 5000}", "mixture.tokens is 5,000, less than training.batch.tokens, a step's 8,192"),
        ("mixture.phases.0.until=0.1%", "mixture.phases.0 has none of the 195 steps"),
        ("training.objective=masked", "training.objective: masked trains a bert, but model.architecture is llama"),
        ("training.objective=mask", "training.objective"),
        ("training.objective={kind: masked, masks: 95%}", "training.objective: masks and random are shares"),
        ("mixture.phases.0.objective=permutation", "mixture.phases.0.objective: permutation trains a xlnet"),
        (
            "mixture.phases.1.objective={kind: causal, fill_in_the_middle: {}}",
            "mixture.phases.1.objective.fill_in_the_middle: documents are turned round the same way in all phases",
        ),
        (
            "training={objective: prefix, attention: flash_attention_2}",
            "training.attention: flash_attention_2 is told where documents end and nothing else, but rows of prefix",
        ),
        ("mixture.phases.1.batch=5000", "mixture.phases.1: a batch of 5,000 tokens is not a multiple of sequence x"),
        ("mixture.phases.1.sequence=384", "mixture.phases.1: a batch of 8,192 tokens is not a multiple of sequence x"),
        ("model={architecture: bert, kv_heads: 1}", "model: kv_heads is for a llama; bert has none"),
        ("training.steps=99999999999999999999", "is not YAML; put it in quotes (it has more than 62 bits)"),
        ("training.betas=[0.9, 1]", "training.betas.1 is `1`, but should be less than 1"),
        ("training.evaluate.held_out=100%", "training.evaluate.held_out is `100%`, but should be less than 1"),
        ("stages.duplicates.keep=[length, length]", "stages.duplicates.keep: a preference is named twice"),
        ("stages.domain.labels={code: 'true'}", "stages.domain.labels: a classifier needs two labels or more"),
        ("stages.domain.sample=1", "stages.domain.sample"),
        ("stages.quality.sample=0", "stages.quality.sample"),
        ("stages.signals.words={english: spaces}", "stages.signals.words.english"),
        ("tokenizer={kind: file, path: t.json, vocabulary: 500}", "tokenizer: vocabulary is for a tokenizer that is"),
        (
            "tokenizer={vocabulary: 300, reserved: 100}",
            "tokenizer: vocabulary is 300, but 256 bytes, 2 special tokens and",
        ),
        ("tokenizer.sample=2GiB", "tokenizer.sample"),
        ("model.heads=7", "model: hidden must be an even multiple of heads"),
        ("store=''", "store"),
        ("store=s3:/bucket/corpus", "store: s3:/bucket/corpus is neither a folder nor a URL, which has `://`"),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_read(spec: Path, setting: str, mistake: str) -> None:
    [found] = mistakes(spec, "training.steps=null", setting)
    assert mistake in found


def test_unknown_columns_are_named_where_they_are_read(including: Path) -> None:
    loaded = load(including, ["channels.en=langauge = 'en'"])
    columns = {"source": pa.string(), "domain": pa.string(), "language": pa.string(), "text": pa.string()}
    columns |= {"words": pa.uint32(), "quality": pa.float32()}
    with pytest.raises(SpecError) as caught:
        check_columns(loaded, lambda texts, _: mistaken(texts, pa.schema(columns)))
    assert caught.value.mistakes == (
        "rules/gopher.yaml:5: rule short_words: column `mean_word` is written by no stage",
        "--set channels.en: channels.en: column `langauge` is written by no stage; did you mean `language`?",
    )


@pytest.mark.parametrize(
    ("setting", "mistake"),
    [
        ("rules.foreign=words < 5 or 'eng' = language", "rule foreign: eng is no language that lid.176.ftz gives"),
        ("rules.foreign=language not in ('zh', 'deu')", "rule foreign: deu is no language that lid.176.ftz gives"),
        ("rules.foreign=words", "rule foreign: is int64, not true or false"),
        ("rules.foreign=words > 'many'", "rule foreign: `(words > 'many')` fails: Conversion Error"),
        ("rules.foreign=title + 1 > words", "rule foreign: `((title + 1) > words)` fails: Binder Error"),
        ("rules.low_quality.where='domain'", "rule low_quality where: is string, not true or false"),
        ("channels.en=length(text)", "channels.en: is int64, not true or false"),
        ("stages.quality.reference=url", "stages.quality.reference: is string, not true or false"),
        ("mixture.phases.0.where=1 + 1", "mixture.phases.0.where: is int32, not true or false"),
        ("rules.foreign=words < percentile(language, 20)", "rule foreign: percentile(language, 20) needs"),
    ],
)
def test_an_expression_that_is_neither_true_nor_false_is_named_before_anything_runs(
    spec: Path, tmp_path: Path, setting: str, mistake: str
) -> None:
    settings = ["stages.quality.reference=length(text) > 1500"]
    settings += ["stages.domain.labels={code: \"source = 'code'\", prose: 'true'}", setting]
    with pytest.raises(SpecError) as caught:
        registry.nodes(load(spec, settings), Pins(Store(str(tmp_path)), "small"))
    [found] = caught.value.mistakes
    assert found.startswith(f"--set {setting.partition('=')[0]}: {mistake}")


def test_every_place_for_an_expression_is_checked() -> None:
    """Independently of the walk: each expression of the demo is replaced in turn, and found."""
    values = load(SPECS / "demo.yaml").model_dump(mode="json")
    values["stages"]["quality"]["where"] = values["stages"]["domain"]["where"] = "true"
    values["stages"]["signals"]["where"] = values["stages"]["duplicates"]["where"] = "true"
    places = [("rules", 0, "drop"), ("rules", 0, "where"), ("channels", "zh"), ("mixture", "phases", 1, "where")]
    places += [("stages", "domain", "labels", "help"), ("stages", "quality", "reference")]
    places += [("stages", stage, "where") for stage in ("signals", "domain", "quality", "duplicates")]
    for place in places:
        changed = json.loads(json.dumps(values))
        inner = changed
        for part in place[:-1]:
            inner = inner[part]
        inner[place[-1]] = "nowhere = 1"
        found = [at for at, text in schema.expressions(Spec.model_validate(changed)) if text == "nowhere = 1"]
        assert found == [place]


def test_every_setting_that_the_schema_says_is_sql_is_found_in_a_spec() -> None:
    nodes = {"Spec": Spec.model_json_schema(), **Spec.model_json_schema()["$defs"]}
    said = {
        (model, name)
        for model, node in nodes.items()
        for name, setting in node.get("properties", {}).items()
        if '"format": "sql"' in json.dumps(setting)
    }
    known, classes = set(), [Settings]
    while classes:
        model = classes.pop()
        classes += model.__subclasses__()
        known |= {(model.__name__, name) for name, field in model.model_fields.items() if schema._of_sql(field)}
    assert said
    assert said <= known


REFUSING = """
lists:
  games: {domains: games.txt.gz}
"""


def refusing(refuse: str) -> str:
    """The small spec with a source that refuses something, and without a quality that no stage writes."""
    text = SMALL.replace("kind: warc,", f"kind: warc, refuse: {refuse},").replace(', where: "quality > 0.5"', "")
    return text.replace("quality < percentile(quality, 20)", "words < 5")


@pytest.mark.parametrize(
    ("refuse", "lists", "mistake"),
    [
        ("{far: raw_langage = 'de'}", REFUSING, "spec.yaml:3: sources.pages.refuse.far: column `raw_langage` is no "
         "column of this source's records, nor a list; did you mean `raw_language`?"),
        ("{far: game}", REFUSING, "this source's records, nor a list; did you mean `games`?"),
        ("{far: language = 'de'}", "", "column `language` is no column of this source's records"),
        ("{far: url}", "lists: {url: {urls: a}}", "lists.url: records of pages have a column of this name"),
        ("{far: raw_length}", "", "is int64, not true or false"),
        ("{far: 'raw_length > percentile(raw_length, 5)'}", "", "sources.pages.refuse.far: percentile is for rules"),
        ("{far: 'true) from x'}", "", "is not one expression"),
        ("{no_text: url is null}", "", "sources.pages.refuse.no_text: no_text is a reason of Sluice's own"),
        ("{foreign: url is null}", "", "rules.0: foreign is what a source refuses, before there is a document"),
        ("{far: 'true'}", "lists: {games: {}}", "lists.games: a list has the path of one file, as `domains`"),
        ("{far: 'true'}", "lists: {games: {urls: a, words: b}}", "lists.games: a list has the path of one file"),
        ("{far: 'true'}", "lists: {games: {urls: null}}", "a list has the path of one file"),
        ("{far: 'true'}", "lists: {Games: {urls: a}}", "lists.Games: a name that columns have is at most 100"),
    ],
)  # fmt: skip
def test_a_mistake_in_what_is_refused_is_named(
    spec: Path, tmp_path: Path, refuse: str, lists: str, mistake: str
) -> None:
    spec.write_text(refusing(refuse) + lists)
    with pytest.raises(SpecError) as caught:
        registry.nodes(load(spec), Pins(Store(str(tmp_path)), "small"))
    assert mistake in str(caught.value), str(caught.value)


def test_what_is_refused_may_read_lists_and_all_that_is_known_of_a_record(spec: Path, tmp_path: Path) -> None:
    columns = "url host file offset length status media crawled payload declared_language raw_length raw_language"
    known = " or ".join(f'"{column}" is null' for column in columns.split())
    spec.write_text(refusing(f"{{far: 'games or {known} or raw_language_score < 0.5'}}") + REFUSING)
    loaded = load(spec)
    assert registry.nodes(loaded, Pins(Store(str(tmp_path)), "small"))
    assert loaded.refusals == {"far"}


def test_texts_that_a_column_never_is_in_a_spec_are_said_with_their_lines_and_are_no_mistakes(spec: Path) -> None:
    assert unmatched(load(spec)) == []
    found = unmatched(
        load(
            spec,
            [
                "rules.foreign=source in ('pagse', 'code') or channel <> 'de' or domain = 'cod'",
                "stages.domain={labels: {code: \"source = 'code'\", prose: \"source = 'books'\"}}",
            ],
        )
    )
    assert found == [
        "--set stages.domain: stages.domain.labels.prose: source is never 'books' in this spec",
        "--set rules.foreign: rule foreign: source is never 'pagse' in this spec; did you mean `pages`?",
        "--set rules.foreign: rule foreign: channel is never 'de' in this spec",
        "--set rules.foreign: rule foreign: domain is never 'cod' in this spec; did you mean `code`?",
    ]
    for name in ("demo", "full"):
        assert unmatched(load(SPECS / f"{name}.yaml")) == []
