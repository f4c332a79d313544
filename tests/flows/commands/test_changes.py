"""What `plan` says of a changed spec or source: which files are new and why, which setting, which pin's text."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from data_specs.tokenizer import Tokenizer
from flows.commands import changes
from flows.commands.forecast import forecast
from flows.run import Run
from tasks.tokenization.kinds import learn
from tests import small
from tests.whole import go


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spec with two scorers and a text that is rewritten, its corpus up to the held-out documents and scorers."""
    spec = small.corpus(tmp_path_factory.mktemp("changes"), documents=30)
    written = spec.read_text().replace(
        "stages:\n",
        "text: clean\nstages:\n  clean: {kind: normalise}\n"
        "  edu: {kind: quality, reference: \"url like '%/0/%'\"}\n"
        "  fluent: {kind: quality, reference: \"url like '%/1/%'\", sample: 5000}\n",
    )
    spec.write_text(written)
    go(spec, until="fluent")
    return spec


@pytest.fixture
def copied(computed: Path, tmp_path: Path) -> Path:
    shutil.copytree(computed.parent, tmp_path / "copy")
    spec = tmp_path / "copy" / computed.name
    spec.write_text(spec.read_text().replace(str(computed.parent), str(tmp_path / "copy")))
    return spec


def asked(spec: Path, *settings: str) -> dict[str, Any]:
    run = Run.of(str(spec), None, settings)
    run.resolve()
    return forecast(run)


def because(found: dict[str, Any], stage: str) -> str:
    return next(each for each in found["stages"] if each["name"] == stage).get("because", "")


def pins(found: dict[str, Any]) -> dict[str, str]:
    return {pin["name"]: pin.get("text_since_changed", "") for pin in found["pins"]}


def notes(run: Run) -> dict[str, str]:
    return {result.name: result.note for result in run.execution.results}


@pytest.mark.slow
def test_files_that_came_changed_or_moved_are_told_apart(copied: Path) -> None:
    assert because(asked(copied), "documents") == ""
    folder = next(copied.parent.rglob("web-00.jsonl.gz")).parent
    small.web(folder, 7, 20, 1)
    (folder / "web-01.jsonl.gz").rename(folder / "web-09.jsonl.gz")
    (folder / "web-02.jsonl.gz").write_bytes((folder / "web-00.jsonl.gz").read_bytes() * 2)
    found = asked(copied)
    assert because(found, "documents") == (
        "web: 1 new file (web-07.jsonl.gz), 1 changed file (web-02.jsonl.gz), "
        "1 moved file (web-09.jsonl.gz, was web-01.jsonl.gz)"
    )
    [documents] = [each for each in found["stages"] if each["name"] == "documents"]
    assert documents["files"]["web"]["moved"] == {"count": 1, "files": {"web-09.jsonl.gz": "web-01.jsonl.gz"}}


def test_of_two_stages_of_a_kind_each_is_compared_with_its_own_last_output(copied: Path) -> None:
    found = asked(copied, "stages.fluent.epochs=7")
    assert "settings.epochs" not in because(found, "edu") == ""
    changed = asked(copied, "stages.fluent.where=language = 'en'")
    assert because(changed, "edu") == ""
    assert "where" in because(changed, "fluent")
    assert "reference" not in because(changed, "fluent")


def test_a_pin_says_that_its_text_was_extracted_or_rewritten_otherwise(copied: Path) -> None:
    assert not any(pins(asked(copied)).values())
    rewritten = pins(asked(copied, "stages.clean.blank_lines=false"))
    assert "clean: settings.blank_lines" in rewritten["edu"]
    assert "--retrain edu" in rewritten["edu"]
    assert "clean: settings.blank_lines" in rewritten["fluent"]
    assert "left out since" in pins(asked(copied, "text=text"))["edu"]
    read = pins(asked(copied, "sources.web.text=title"))
    assert "web: settings.text: text -> title" in read["held_out"]


def test_a_pin_of_an_earlier_version_says_nothing_of_its_text(copied: Path) -> None:
    run = Run.of(str(copied))
    for history in run.pipeline.pins.history.values():
        for pin in history:
            pin.pop("texts", None)
    run.store.remove(*run.store.walk("pins"))
    run.store.commit_json(f"pins/{run.spec.name}.json", run.pipeline.pins.history)
    assert not any(pins(asked(copied, "stages.clean.blank_lines=false")).values())


def test_a_source_that_came_since_is_no_change_of_text(copied: Path) -> None:
    small.web(copied.parent / "other", 3, 5, 2)
    added = asked(copied, f"sources.other={{kind: jsonl, paths: '{copied.parent}/other/*.gz'}}")
    assert not any(pins(added).values())
    assert "other: never ran" in because(added, "documents")


def test_a_pin_says_that_a_column_it_was_learned_from_is_made_otherwise(copied: Path) -> None:
    rule = "rules.short=words < percentile(words, 5)"
    go(copied, [rule], until="learn_percentiles_words")
    assert "since" not in notes(go(copied, [rule], until="learn_percentiles_words"))["learn_percentiles_words"]
    otherwise = [rule, "stages.signals.words={en: spaces, zh: characters}"]
    [told] = [pin for pin in asked(copied, *otherwise)["pins"] if pin["name"] == "percentiles_words"]
    assert "words of signals: settings.words" in told["columns_since_changed"]
    assert "--retrain percentiles_words" in told["columns_since_changed"]
    said = notes(go(copied, otherwise, until="learn_percentiles_words"))["learn_percentiles_words"]
    assert said.endswith("learned from words, made otherwise since: --retrain percentiles_words follows")
    again = go(copied, otherwise, until="learn_percentiles_words", retrain=["percentiles_words"])
    assert "since" not in notes(again)["learn_percentiles_words"]
    assert not any("columns_since_changed" in pin for pin in asked(copied, *otherwise)["pins"])


def test_a_tokenizer_by_path_that_holds_another_one_now_is_said_and_does_not_take_the_place_of_the_pinned_one(
    copied: Path,
) -> None:
    file = copied.parent / "tokenizer.json"
    settings = ["tokenizer={kind: file, path: '" + str(file) + "'}"]
    first, second = (learn([text] * 3, Tokenizer(vocabulary=300)) for text in ("the river", "a garden in the valley"))
    file.write_bytes(first)
    go(copied, settings, until="learn_tokenizer")
    file.write_bytes(second)
    [told] = [pin for pin in asked(copied, *settings)["pins"] if pin["name"] == "tokenizer"]
    assert told["file_since_changed"].startswith(f"{file} is another tokenizer now than the pinned one")
    said = notes(go(copied, settings, until="learn_tokenizer"))["learn_tokenizer"]
    assert said.endswith(f"{file} is another tokenizer now than the pinned one: --retrain tokenizer takes it")
    again = go(copied, settings, until="learn_tokenizer", retrain=["tokenizer"])
    pinned = again.pipeline.pins.history["tokenizer"]
    assert [again.store.read(pin["path"]) for pin in pinned] == [first, second]
    assert "since" not in notes(go(copied, settings, until="learn_tokenizer"))["learn_tokenizer"]


def test_what_only_digests_tell_apart_is_said_in_words() -> None:
    before = {"version": 1, "files": ["9a2ad962"], "settings": {"a": 1}, "reads": ["text"], "libraries": {"jieba": "1"}}
    now = {"version": 2, "files": ["77"], "settings": {"a": 2}, "reads": ["text"], "libraries": {"jieba": "2"}}
    assert changes.in_words(before, now) == [
        "the files of its models or lists are others",
        "Sluice makes its values otherwise: version 1 -> 2",
        "libraries.jieba: 1 -> 2",
        "settings.a: 1 -> 2",
    ]
    assert changes.in_words(before, before | {"files": ["77"]}, own=True) == ["its module has changed"]
    taken = before | {"settings": {"a": 1, "taken_down": True}, "reads": ["text", "kind"]}
    assert changes.in_words(before, taken) == ["documents were taken down"]
    assert changes.in_words(before, before) == []


def test_settings_are_told_as_specs_write_them() -> None:
    before = {"settings": {"a": 1, "where": None, "on": True, "list": [1]}}
    now = {"settings": {"where": "words > 5", "on": False, "list": [1, None], "keep": {"b": 2, "c": {"d": "x"}}}}
    said = [
        "settings.a: 1 -> not set",
        "settings.keep.b: not set -> 2",
        "settings.keep.c.d: not set -> x",
        "settings.list: [1] -> [1,null]",
        "settings.on: true -> false",
        "settings.where: not set -> words > 5",
    ]
    assert changes.in_words(before, now) == said
