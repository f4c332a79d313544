"""Specs: what is written is what is loaded, and every mistake is named by file, line, key and nearest name."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_specs.filters import Language, Signals
from data_specs.languages import PACKAGED
from data_specs.load import load
from tasks.text.fasttext_model import load as load_model
from tasks.text.identification import model_file
from tests.data_specs.small_spec import SMALL, changed, mistakes


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
