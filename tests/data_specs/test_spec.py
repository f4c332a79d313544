"""Specs: what is written is what is loaded, and every mistake is named by file, line, key and nearest name."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import jsonschema
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from data_specs import schema
from data_specs.base import Settings, parse_count
from data_specs.filters import Language, Signals
from data_specs.languages import PACKAGED
from data_specs.load import SpecError, check_columns, load, unmatched
from data_specs.spec import Spec
from tasks import registry
from tasks.engine.sql import mistaken
from tasks.storage.pins import Pins
from tasks.storage.store import Store
from tasks.text.fasttext_model import load as load_model
from tasks.text.identification import model_file

SPECS = Path(__file__).parents[2] / "data_specs"

SMALL = """\
name: small
sources:
  pages: {kind: warc, paths: "crawl/*.warc.gz"}
  code: {kind: code, paths: ["a/**/*.py", "b/*.py"]}
stages:
  duplicates: {threshold: 0.7}
rules:
  - foreign: "language <> 'zh'"
  - low_quality: "quality < percentile(quality, 20)"
    where: "source = 'pages'"
channels:
  zh: "language = 'zh'"
  en: "language = 'en'"
mixture:
  tokens: 1.6M
  phases:
    - {until: 80%, weights: {zh: 1, en: 2}}
    - {until: 100%, weights: {zh: 1}, where: "quality > 0.5"}
training:
  steps: 10
  checkpoint: {every: 5 steps}
"""


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small spec, `spec.yaml`, in the working directory."""
    monkeypatch.chdir(tmp_path)
    Path("spec.yaml").write_text(SMALL)
    return Path("spec.yaml")


def mistakes(path: Path | str, *overrides: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        load(path, overrides)
    assert str(caught.value) == "\n".join(caught.value.mistakes)
    return list(caught.value.mistakes)


def changed(path: Path, old: str, new: str) -> list[str]:
    """Mistakes of the small spec with one text changed."""
    assert old in SMALL
    path.write_text(SMALL.replace(old, new, 1))
    return mistakes(path)


@pytest.mark.parametrize(
    ("stage", "setting"),
    [
        ("signals: {words: {eng: spaces}}", "signals.words.eng"),
        ("signals: {stop_words: {eng: [the]}}", "signals.stop_words.eng"),
        ("blocked_words: {words: {eng: list}}", "blocked_words.words.eng"),
        ("synonyms: {tables: {eng: table}}", "synonyms.tables.eng"),
    ],
)
def test_a_language_that_identification_never_gives_is_refused_in_every_setting_by_language(
    spec: Path, stage: str, setting: str
) -> None:
    said = "eng is no language that lid.176.ftz gives (ISO 639-1, else 639-3); did you mean `en`?"
    assert changed(spec, "duplicates: {", f"{stage}\n  duplicates: {{") == [f"spec.yaml:6: stages.{setting}: {said}"]
    for other, refused in (("zh", False), ("war", False), ("jpn_Jpan", True), ("xyz", True)):
        spec.write_text(
            SMALL.replace("  duplicates: {", f"  signals: {{stop_words: {{{other}: [the]}}}}\n  duplicates: {{")
        )
        if refused:
            assert f"{other} is no language" in mistakes(spec)[0]
        else:
            load(spec)


def test_codes_of_another_model_or_column_are_taken_as_they_are(spec: Path) -> None:
    for stages in (
        "language: {model: glot.bin, sha256: ab}\n  signals: {stop_words: {jpn_Jpan: [the]}}",
        "second: {kind: language, model: glot.bin, sha256: ab}\n"
        "  signals: {stop_words: {jpn_Jpan: [the]}, reads: {language: second}}",
    ):
        spec.write_text(SMALL.replace("  duplicates: {", f"  {stages}\n  duplicates: {{"))
        signals = load(spec).stages["signals"]
        assert isinstance(signals, Signals)
        assert signals.stop_words == {"jpn_Jpan": ("the",)}


def test_every_language_that_a_setting_may_name_is_one_of_the_models_labels() -> None:
    [path, sha256] = model_file(Language())
    labels = {label.removeprefix("__label__") for label in load_model(path, sha256).get_labels()}
    assert labels == PACKAGED


def test_what_is_written_is_loaded(spec: Path) -> None:
    loaded = load(spec)
    assert loaded.name == "small"
    assert loaded.sources["code"].patterns == ("a/**/*.py", "b/*.py")
    assert loaded.stages["duplicates"].threshold == 0.7
    assert loaded.mixture.tokens == 1_600_000
    assert [phase.until for phase in loaded.mixture.phases] == [0.8, 1]
    assert loaded.training.checkpoint.every == 5
    assert [(rule.name, rule.drop, rule.where, rule.origin) for rule in loaded.rules] == [
        ("foreign", "language <> 'zh'", None, "spec.yaml:8"),
        ("low_quality", "quality < percentile(quality, 20)", "source = 'pages'", "spec.yaml:9"),
    ]


@pytest.mark.parametrize(
    ("old", "new", "mistake"),
    [
        ("training:", "trainng:", "spec.yaml:19: trainng is unknown; did you mean training?"),
        ("steps: 10", "stepz: 10", "spec.yaml:20: training.stepz is unknown; did you mean steps?"),
        ("steps: 10", "xyzzy: 10", "spec.yaml:20: training.xyzzy is unknown"),
        ("{threshold:", "{treshold:", "spec.yaml:6: stages.duplicates.treshold is unknown; did you mean threshold?"),
        ('paths: "crawl', 'path: "crawl', "spec.yaml:3: sources.pages.path is unknown; did you mean paths?"),
        (
            "kind: warc",
            "kind: wikipedia",
            "spec.yaml:3: sources.pages.kind is `wikipedia`, but should be one of warc, arc, cdx, wet, jsonl, csv, "
            "parquet, arrow, html, text, code, repository, mediawiki, stackexchange, books, arxiv, pdf; did you "
            "mean `mediawiki`?",
        ),
        ("kind: warc, ", "", "spec.yaml:3: sources.pages.kind is missing"),
        ("kind: warc, ", "kind: warc, shrad: 1, ", "spec.yaml:3: sources.pages.shrad is unknown; did you mean shard?"),
        (
            "kind: warc",
            "kind: wrac",
            "spec.yaml:3: sources.pages.kind is `wrac`, but should be one of warc, arc, cdx, wet, jsonl, "
            "csv, parquet, arrow, html, text, code, repository, mediawiki, stackexchange, books, arxiv, pdf; "
            "did you mean `warc`?",
        ),
        (
            "pages:",
            "Pages:",
            "spec.yaml:3: sources.Pages: a name is at most 100 lower-case letters, digits, hyphens and underscores, "
            "a letter first",
        ),
        (
            "name: small",
            f"name: {'a' * 101}",
            "spec.yaml:1: name: a name is at most 100 lower-case letters, digits, hyphens and underscores, a "
            "letter first",
        ),
        (
            "pages:",
            f"{'a' * 101}:",
            f"spec.yaml:3: sources.{'a' * 49}...: a name is at most 100 lower-case letters, digits, hyphens and "
            "underscores, a letter first",
        ),
        (
            "channels:\n",
            "channels:\n  default: source = 'pages'\n",
            "spec.yaml:12: channels.default: default is what mixture.epochs says of all others; name the channel "
            "otherwise",
        ),
        ("name: small\n", "", "spec.yaml:1: name is missing"),
        ("0.7", "1.7", "spec.yaml:6: stages.duplicates.threshold is `1.7`, but should be less than 1"),
        ("0.7", ".nan", "spec.yaml:6: stages.duplicates.threshold is `nan`, but should be a finite number"),
        ("0.7", "high", "spec.yaml:6: stages.duplicates.threshold is `high`, but should be a number"),
        ("0.7", "true", "spec.yaml:6: stages.duplicates.threshold is `true`, but should be a number"),
        ("{threshold: 0.7}", "", "spec.yaml:6: stages.duplicates is empty, but should be keys and values"),
        ("{threshold: 0.7}", "[0.7]", "spec.yaml:6: stages.duplicates is a list, but should be keys and values"),
        (
            "{threshold: 0.7}",
            "{keep: [length, qualty]}",
            "spec.yaml:6: stages.duplicates.keep.1 is `qualty`, but should be `quality`, `length`, `date`, `source` or "
            "`url`; did you mean `quality`?",
        ),
        ("steps: 10", "steps: 1.5", "spec.yaml:20: training.steps is `1.5`, but should be a whole number"),
        ("steps: 10", "workers: 0", "spec.yaml:20: training.workers is `0`, but should be greater than or equal to 1"),
        (
            "1.6M",
            "1.6Q",
            "spec.yaml:15: mixture.tokens: '1.6Q' is not a number with an optional unit "
            "(K, M, G, B, T, KiB, MiB, GiB, TiB), such as 1.6M or 1,600,000",
        ),
        (
            "tokens: 1.6M",
            'tokens: "1,6M"',
            "spec.yaml:15: mixture.tokens: '1,6M' is not a number with an optional unit",
        ),
        (
            "5 steps",
            "5 minutes",
            "spec.yaml:21: training.checkpoint.every: '5 minutes' is not a number of steps such as `20 steps`",
        ),
        ("80%", "180%", "spec.yaml:17: mixture.phases.0.until is `180%`, but should be less than or equal to 1"),
        ("80%", "100%", "spec.yaml:18: mixture.phases.1.until is 1, not after the phase before it"),
        ("100%", "99%", "spec.yaml:18: mixture.phases.1.until is 0.99, but the last phase ends at 100%"),
        ("en: 2", "eng: 2", "spec.yaml:17: mixture.phases.0.weights.eng is no channel; did you mean en?"),
        ("{zh: 1}", "{zh: 0}", "spec.yaml:18: mixture.phases.1.weights: no channel has a weight above 0"),
        ("tokens: 1.6M", "epochs: {zhh: 3}", "spec.yaml:15: mixture.epochs.zhh is no channel; did you mean zh?"),
        ("low_quality:", "foreign:", "spec.yaml:9: rules.1: foreign is defined twice"),
        (
            "low_quality:",
            "held_out:",
            "spec.yaml:9: rules.1: held_out is a reason of Sluice's own; name the rule otherwise",
        ),
        (
            "checkpoint: {every: 5 steps}",
            "batch: {tokens: 1000}",
            "spec.yaml:19: training: batch.tokens is 1,000, not a multiple of sequence x micro x workers = 4,096",
        ),
        (
            "language <> 'zh'",
            "lenght(text) > 1",
            "spec.yaml:8: rule foreign: function `lenght` is not allowed; did you mean `length`?",
        ),
        (
            "source = 'pages'",
            "1) or (1",
            'spec.yaml:10: where: `1) or (1` is not one expression: syntax error at or near ")"',
        ),
        (
            "language = 'en'",
            "language = ",
            'spec.yaml:13: channels.en: `language = ` is not one expression: syntax error at or near ")"',
        ),
        ("quality > 0.5", "random() > 0.5", "spec.yaml:18: mixture.phases.1.where: function `random` is not allowed"),
        (
            "\"language = 'en'\"",
            "5",
            "spec.yaml:13: channels.en is `5`, but should be text, in quotes",
        ),
        (
            "  - foreign: \"language <> 'zh'\"\n",
            "  - foreign\n",
            "spec.yaml:8: rules.0 is `foreign`, but should be "
            "`- name: expression` or `- include: file`, with a `where` if need be",
        ),
        (
            '    where: "source',
            '    wher: "source',
            "spec.yaml:9: rules.1 has the keys low_quality, wher, but should be "
            "`- name: expression` or `- include: file`, with a `where` if need be",
        ),
        (
            "  - foreign:",
            "  - Foreign:",
            "spec.yaml:8: rule Foreign: a name that columns have is at most 100 lower-case letters, digits and "
            "underscores, a letter first",
        ),
        (
            "rules:\n",
            "rules: {}\nseed: 1\nstore: x\ncluster:\n",
            "spec.yaml:7: rules is keys and values, but should be a list of rules",
        ),
        ("name: small", "name: small\nname: large", "spec.yaml:2: name is given twice, first at spec.yaml:1"),
        (
            "steps: 10",
            "\tsteps: 10",
            "spec.yaml:20: is not YAML: found character '\\t' that cannot start any token; "
            "indent with spaces, not tabs",
        ),
        ('["a/**/*.py"', '{"a/**/*.py"', "spec.yaml:4: is not YAML: expected ',' or '}', but got ']'"),
        ("steps: 10", "steps: !!python/name:os.system x", "spec.yaml:20: the tag python/name:os.system is not allowed"),
        (
            "zh: \"language = 'zh'\"",
            'zh: "url != null"',
            "spec.yaml:12: channels.zh: a comparison with null is never true; write `is null` or `is not null`",
        ),
        (
            "zh: \"language = 'zh'\"",
            "zh: \"language not in ('de', null)\"",
            "spec.yaml:12: channels.zh: `not in` a list with null is never true; leave null out, and write "
            "`is not null`",
        ),
        ("name: small", 'name: "\\ud800"', "spec.yaml:1: a word has half of a surrogate pair, which is no character"),
        ("steps: 10", "1.5: 10", "spec.yaml:20: a key is neither a word nor a whole number"),
        ("steps: 10", "steps: &x [*x]", "spec.yaml:20: an alias contains itself"),
        (
            "steps: 10",
            "steps: *x",
            "spec.yaml:20: is not YAML: found undefined alias 'x'; put what begins with * in quotes",
        ),
        ("steps: 10", "steps: 10\n---\na: b", "spec.yaml:21: is not YAML: but found another document"),
        ("steps: 10", "steps: \x07", "spec.yaml:20: has a character that YAML does not allow: U+0007"),
        (
            "steps: 10",
            f"steps: {'9' * 5000}",
            "spec.yaml:20: `9999999999999999999999999999999999999999` is not a number",
        ),
    ],
)
def test_a_mistake_is_named_by_file_line_key_and_nearest_name(spec: Path, old: str, new: str, mistake: str) -> None:
    found = changed(spec, old, new)
    assert mistake in found or (found[0].startswith(mistake) and "not a number" in mistake)


def test_sizes_of_clusters_are_keys_as_the_page_on_the_mixture_writes_them(spec: Path) -> None:
    found = load(spec, ["mixture.rehydration={2: 2, 0x3: 3, 100: 1}"])
    assert found.mixture.cluster_times == {2: 2, 3: 3, 100: 1}
    assert "is given twice" in mistakes(spec, "mixture.rehydration={2: 2, 0x2: 3}")[0]


def test_all_mistakes_are_told_at_once_in_the_order_of_lines(spec: Path) -> None:
    spec.write_text(SMALL.replace("0.7", "7").replace("language <> 'zh'", "a +").replace("steps: 10", "stepz: 1"))
    assert [line.split(":")[1] for line in mistakes(spec, "store=5")] == [
        " store is `5`, but should be text, in quotes",
        "6",
        "8",
        "20",
    ]


def test_a_wrong_name_is_one_mistake_however_often_it_is_used_and_hides_no_other(spec: Path) -> None:
    spec.write_text(
        SMALL.replace('  en: "', '  En Web: "')
        .replace("en: 2", "En Web: 2")
        .replace("100%", "99%")
        .replace("steps: 10", "stepz: 1")
        .replace("low_quality", "low-quality")
        .replace("tokens: 1.6M", "epochs: {zzz: 3}")
    )
    assert mistakes(spec) == [
        "spec.yaml:9: rule low-quality: a name that columns have is at most 100 lower-case letters, digits and "
        "underscores, a letter first",
        "spec.yaml:13: channels.En Web: a name is at most 100 lower-case letters, digits, hyphens and underscores, a "
        "letter first",
        "spec.yaml:15: mixture.epochs.zzz is no channel",
        "spec.yaml:18: mixture.phases.1.until is 0.99, but the last phase ends at 100%",
        "spec.yaml:20: training.stepz is unknown; did you mean steps?",
    ]


def test_names_that_are_values_may_have_hyphens(spec: Path) -> None:
    spec.write_text(
        SMALL.replace("name: small", "name: small-web")
        .replace("  pages:", "  pages-2026:")
        .replace('  en: "', '  en-web: "')
        .replace("en: 2", "en-web: 2")
    )
    loaded = load(spec, ["sources.pages-2026.shard=1MiB", "mixture.epochs.en-web=3"])
    assert list(loaded.sources) == ["pages-2026", "code"]
    assert loaded.mixture.cap("en-web") == 3
    assert loaded.mixture.phases[0].weights["en-web"] == 2


@pytest.mark.parametrize(
    ("content", "mistake"),
    [
        (b"", "spec.yaml: is empty, but should be keys and values such as `name: demo`"),
        (b"# nothing\n", "spec.yaml: is empty, but should be keys and values such as `name: demo`"),
        (b"- a\n- b\n", "spec.yaml:1: is a list, but should be keys and values such as `name: demo`"),
        (b"hello", "spec.yaml:1: is `hello`, but should be keys and values such as `name: demo`"),
        (b"a: b\nc: \xff\xfe", "spec.yaml:2: is not UTF-8 text; is this a spec?"),
        (b"a: b\n\x00", "spec.yaml:2: has a character that YAML does not allow: U+0000"),
        (b"# " + b"x" * 2**20, "spec.yaml: is larger than 1,048,576 bytes; is this a spec?"),
        (b"a: " + b"[" * 5000, "spec.yaml: is nested too deep"),
    ],
)
def test_a_file_that_is_no_spec_says_so(spec: Path, content: bytes, mistake: str) -> None:
    spec.write_bytes(content)
    assert mistakes(spec) == [mistake]


def test_aliases_that_multiply_are_refused(spec: Path) -> None:
    bomb = ["a0: &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9]"]
    bomb += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    spec.write_text("\n".join(bomb))
    assert "the file has more than 50,000 values, aliases counted" in mistakes(spec)[0]


def test_an_alias_is_its_value(spec: Path) -> None:
    spec.write_text(SMALL.replace("{zh: 1, en: 2}", "&w {zh: 1, en: 2}").replace("{zh: 1}", "*w"))
    assert load(spec).mixture.phases[1].weights == {"zh": 1, "en": 2}


def test_a_missing_file_and_a_folder_say_so(spec: Path) -> None:
    assert mistakes("nope.yaml") == ["nope.yaml: there is no such file"]
    Path("folder").mkdir()
    assert mistakes("folder") == ["folder: cannot be read: is a directory"]


# -- included rules ----------------------------------------------------------------------------------------------------

GOPHER = """\
origin: Rae et al. 2021
where: "domain <> 'code'"
rules:
  - few_words: "words < 50"
  - short_words: "mean_word < 3"
    where: "language = 'en'"
"""


@pytest.fixture
def including(spec: Path) -> Path:
    Path("rules").mkdir()
    Path("rules/gopher.yaml").write_text(GOPHER)
    spec.write_text(
        SMALL.replace("rules:\n", "rules:\n  - include: rules/gopher.yaml\n    where: \"source = 'pages'\"\n")
    )
    return spec


def test_included_rules_stand_in_their_place_with_every_where_and_their_origin(including: Path) -> None:
    rules = load(including).rules
    assert [rule.name for rule in rules] == ["few_words", "short_words", "foreign", "low_quality"]
    assert rules[0].where == "(source = 'pages') and (domain <> 'code')"
    assert rules[1].where == "(source = 'pages') and (domain <> 'code') and (language = 'en')"
    assert rules[1].origin == "Rae et al. 2021 (rules/gopher.yaml:5)"
    assert rules[2].where is None


def test_a_spec_in_another_folder_finds_its_rules(including: Path, tmp_path: Path) -> None:
    Path("specs").mkdir()
    shutil.move("rules", "specs/rules")
    shutil.move("spec.yaml", "specs/spec.yaml")
    assert load("specs/spec.yaml").rules[0].origin == "Rae et al. 2021 (specs/rules/gopher.yaml:4)"


@pytest.mark.parametrize(
    ("old", "new", "mistake"),
    [
        (
            "words < 50",
            "words <",
            'rules/gopher.yaml:4: rule few_words: `words <` is not one expression: syntax error at or near ")"',
        ),
        (
            "domain <> 'code'",
            "domain = ) or (1",
            "rules/gopher.yaml:2: where: `domain = ) or (1` is not one expression",
        ),
        (
            "origin: Rae et al. 2021\n",
            "",
            "rules/gopher.yaml:1: is no file of rules: it has `rules`, and `origin`, the paper they are from",
        ),
        ('where: "domain', 'were: "domain', "rules/gopher.yaml:2: were is unknown; did you mean where?"),
        (
            'few_words: "words < 50"',
            "include: other.yaml",
            "rules/gopher.yaml:4: an included file includes no other; include both in the spec",
        ),
        ("few_words", "foreign", "spec.yaml:10: rules.2: foreign is defined twice"),
        (
            'few_words: "words < 50"',
            "few_words: [1]",
            "rules/gopher.yaml:4: rule few_words is a list, but should be text, in quotes",
        ),
    ],
)
def test_a_mistake_in_an_included_file_is_named_there(including: Path, old: str, new: str, mistake: str) -> None:
    assert old in GOPHER
    Path("rules/gopher.yaml").write_text(GOPHER.replace(old, new, 1))
    assert mistakes(including)[0].startswith(mistake)


def test_a_missing_include_is_named_where_it_is_asked_for(including: Path) -> None:
    shutil.move("rules/gopher.yaml", "rules/mine.yaml")
    including.write_text(including.read_text().replace("rules/gopher.yaml", "rules/min.yaml"))
    assert mistakes(including) == ["spec.yaml:8: include: rules/min.yaml: there is no such file"]


@pytest.mark.parametrize("name", ["gopher", "gopher.yaml", "rules/gopher.yaml"])
def test_a_missing_include_that_is_called_as_a_file_of_sluice_is_told_where_that_one_is(spec: Path, name: str) -> None:
    spec.write_text(SMALL.replace("rules:\n", f"rules:\n  - include: {name}\n"))
    own = SPECS / "rules" / "gopher.yaml"
    expected = f"spec.yaml:8: include: {name}: there is no such file; the one that comes with Sluice is {own}"
    assert mistakes(spec) == [expected]
    spec.write_text(spec.read_text().replace(f"include: {name}", f"include: {own}"))
    assert str(own) in load(spec).rules[0].origin


# -- overrides ---------------------------------------------------------------------------------------------------------


def test_a_value_is_changed_by_its_key(spec: Path) -> None:
    overrides = (
        "training.steps=20",
        "stages.duplicates.threshold=0.75",
        "stages.extract.memory=2GiB",
        "sources.pages.paths=[x/*.gz, y/*.gz]",
        "mixture.phases.0.until=50%",
        "rules.foreign=language not in ('zh', 'en')",
        "rules.foreign.where=source = 'pages'",
        "store=s3://bucket/sluice",
        "cluster.cpus=2",
    )
    loaded = load(spec, overrides)
    assert (loaded.training.steps, loaded.stages["duplicates"].threshold, loaded.cluster.cpus) == (20, 0.75, 2)
    assert loaded.extract.memory == 2 * 2**30
    assert loaded.sources["pages"].patterns == ("x/*.gz", "y/*.gz")
    assert loaded.mixture.phases[0].until == 0.5
    assert loaded.store == "s3://bucket/sluice"
    assert (loaded.rules[0].drop, loaded.rules[0].where) == ("language not in ('zh', 'en')", "source = 'pages'")
    assert loaded.rules[1] == load(spec).rules[1]


@pytest.mark.parametrize(
    ("override", "mistake"),
    [
        ("training.stepz=20", "--set training.stepz: training.stepz is unknown; did you mean steps?"),
        ("trainng.steps=20", "--set trainng.steps: trainng is unknown; did you mean training?"),
        ("rules.shouting=true", "--set rules.shouting: rules.shouting is unknown; a new rule is written in the spec"),
        ("rules.low_qualty=true", "--set rules.low_qualty: rules.low_qualty is unknown; did you mean low_quality?"),
        ("rules.foreign.were=true", "--set rules.foreign.were: rules.foreign.were is unknown; did you mean foreign?"),
        ("rules=[]", "--set rules: rules are changed one by one, by name, such as rules.foreign"),
        (
            "rules.foreign=lenght(text)",
            "--set rules.foreign: rule foreign: function `lenght` is not allowed; did you mean `length`?",
        ),
        ("training.steps=many", "--set training.steps: training.steps is `many`, but should be a whole number"),
        ("training.steps", "--set training.steps: is not `key=value`, such as training.steps=20"),
        ("=5", "--set =5: is not `key=value`, such as training.steps=20"),
        ("training.steps=[1", "--set training.steps: the value `[1` is not YAML; put it in quotes"),
        ("name.x=1", "--set name.x: name is `small` and has no keys"),
        (
            "mixture.phases.7.until=1",
            "--set mixture.phases.7.until: mixture.phases is a list of 2, and 7 is no position in it",
        ),
        ("mixture.phases.x=1", "--set mixture.phases.x: mixture.phases is a list of 2, and x is no position in it"),
    ],
)
def test_a_wrong_override_is_named(spec: Path, override: str, mistake: str) -> None:
    assert mistakes(spec, override)[0].startswith(mistake)


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


# -- columns -----------------------------------------------------------------------------------------------------------


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


# -- the specs that come with it ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["demo", "full"])
def test_the_specs_that_come_with_it_load_and_fit_the_schema(name: str, tmp_path: Path) -> None:
    loaded = load(SPECS / f"{name}.yaml")
    assert loaded.name == name
    first, *_ = (SPECS / f"{name}.yaml").read_text().splitlines()
    assert first == "# yaml-language-server: $schema=schema.json"
    jsonschema.validate(YAML(typ="safe").load(SPECS / f"{name}.yaml"), json.loads(schema.FILE.read_text()))
    assert registry.nodes(loaded, Pins(Store(str(tmp_path)), name))


FORMATS = ["Spam / Ads", "Structured Data", "Truncated", "Academic Writing", "Knowledge Article", "News Article"]
FORMATS += ["Nonfiction Writing", "Tutorial"]


@pytest.mark.parametrize("file", sorted((SPECS / "rules").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_file_of_rules_is_of_columns_that_a_spec_has_without_naming_a_stage_but_that_which_it_asks_for(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("formats.bin").touch()
    Path("formats.json").write_text(json.dumps({"labels": FORMATS, "url": True, "sha256": "0" * 64}))
    spec = tmp_path / "spec.yaml"
    named = re.search(r"^# With a stage `(.*?)`", file.read_text())
    spec.write_text(
        "name: rules\nsources: {web: {kind: jsonl, paths: none}}\nchannels: {all: 'true'}\n"
        f"rules:\n  - include: {file}\n" + (f"stages:\n  {named[1]}\n" if named else "")
    )
    loaded = load(spec)
    assert loaded.rules
    assert all(str(file) in rule.origin for rule in loaded.rules)
    assert registry.nodes(loaded, Pins(Store(str(tmp_path)), "rules"))


def test_the_committed_schema_is_current() -> None:
    assert json.loads(schema.FILE.read_text()) == schema.written(), "run python -m data_specs.schema"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("training:", "trainng:"),
        ("threshold:", "treshold:"),
        ("kind: warc", "kind: wrac"),
        ("0.7", "high"),
        ("pages:", "Pages:"),
        ("    where:", "    also: x\n    where:"),
        ("\"language = 'en'\"", "5"),
    ],
)
def test_the_schema_refuses_what_loading_refuses(spec: Path, old: str, new: str) -> None:
    written = json.loads(schema.FILE.read_text())
    jsonschema.validate(YAML(typ="safe").load(SMALL), written)
    assert changed(spec, old, new)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(YAML(typ="safe").load(spec.read_text()), written)


@settings(max_examples=400, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, len(SMALL)),
            st.integers(0, 12),
            st.one_of(
                st.sampled_from(
                    ["&a ", "*a", "- ", ": ", "{", "}", "[", "\n", "  ", "!!set ", "|", ">", "'", '"', "%", "null"]
                ),
                st.text(max_size=4),
            ),
        ),
        min_size=1,
        max_size=3,
    )
)
def test_a_spoilt_spec_loads_or_names_its_mistakes(tmp_path_factory: pytest.TempPathFactory, cuts: list) -> None:
    text = SMALL
    for start, length, new in cuts:
        text = text[:start] + new + text[start + length :]
    path = tmp_path_factory.getbasetemp() / "spoilt.yaml"
    path.write_text(text, errors="replace")
    found: tuple[str, ...] = ()
    try:
        load(path)
    except SpecError as error:
        found = error.mistakes
        if not found:
            raise
    assert all(mistake.startswith(f"{path}:") for mistake in found)


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


@pytest.mark.parametrize(
    ("text", "number"),
    [("1,600,000", 1_600_000), ("1_600_000", 1_600_000), ("1,600.5K", 1_600_500), ("9007199254740993", 2**53 + 1)],
)
def test_a_number_with_separators_is_read_to_its_last_digit(text: str, number: int) -> None:
    assert parse_count(text) == number


@pytest.mark.parametrize("text", ["1,6M", "8,5G", "10,00", "1600,000", "1,,000", "1_,000", ",5", "0.1234567K"])
def test_a_comma_that_is_no_separator_of_thousands_is_not_left_out(text: str) -> None:
    with pytest.raises(ValueError, match="is not a"):
        parse_count(text)


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
