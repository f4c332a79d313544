"""Stages of one's own: one that fails on an empty text, as a takedown leaves it, is found before the first job."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from data_specs.load import SpecError
from flows.corpus_run import CorpusRun
from tasks.engine import contract
from tasks.engine.contract import BugError, ContractError
from tasks.engine.gates import GateError
from tests import small, whole
from tests.commands import ask, told

STAGE = """
import pyarrow as pa

from tasks.engine.stage import Stage


class Share(Stage):
    name, version = "share", 1
    reads = {reads}
    writes = pa.schema([("share", pa.float32())])
{setup}
    def __call__(self, batch):
        texts = batch["text"].to_pylist()
        return pa.table({{"share": [{share} for text in texts]}}, self.writes)
"""
DIVIDES = "text.count('e') / len(text)"
NAN, SOUND = "text.count('e') / len(text) if text else float('nan')", "text.count('e') / len(text) if text else None"


def spec_with(folder: Path, share: str, reads: str = '("text", "kind")', setup: str = "", where: str = "") -> Path:
    """A small corpus and its spec with a stage of one's own; its module has the name of the folder."""
    module = folder / f"own_{folder.name}.py"
    module.write_text(STAGE.format(share=share, reads=reads, setup=setup))
    spec = small.corpus(folder, files=1, documents=20)
    stage = f"  share: {{kind: custom, code: '{module.stem}:Share'{where}}}"
    spec.write_text(spec.read_text().replace("stages:\n", f"stages:\n{stage}\n") + "gates: {skipped: true}\n")
    return spec


def line_of(spec: Path, text: str) -> str:
    [module] = spec.parent.glob("own_*.py")
    lines = module.read_text().splitlines()
    return f"{module}:{1 + next(number for number, line in enumerate(lines) if text in line)}"


@pytest.mark.parametrize(
    ("share", "line", "why"),
    [
        (DIVIDES, "len(text)", "ZeroDivisionError: division by zero"),
        (NAN, "class Share", "ContractError: share wrote NaN into share"),
    ],
)
def test_a_stage_that_fails_on_an_empty_text_stops_a_run_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: str, line: str, why: str
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    spec = spec_with(tmp_path, share)
    with pytest.raises(SpecError) as caught:
        whole.go(spec)
    said = str(caught.value)
    assert said.startswith(f"{line_of(spec, line)}: stages.share fails on an empty text ({why}")
    assert "as a takedown leaves it; give null" in said
    assert not CorpusRun.of(str(spec)).store.folders("documents")
    assert CorpusRun.of(str(spec)).corpus_stages(until="documents") == ["documents"]


def test_one_that_is_set_up_is_tried_behind_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    spec = spec_with(tmp_path, DIVIDES.replace("'e'", "self.letter"), setup="    def setup(self): self.letter = 'e'\n")
    with pytest.raises(SpecError, match=r"own_.*\.py:\d+: stages\.share fails on an empty text"):
        whole.go(spec, until="share")


@pytest.mark.parametrize(
    "more",
    [
        {"share": SOUND},
        {"share": DIVIDES, "where": ", where: \"text <> ''\""},
        {"share": DIVIDES, "reads": '("text", "language")'},
    ],
)
def test_one_that_does_not_or_is_not_given_any_or_reads_other_columns_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, str]
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    spec = spec_with(tmp_path, **more)
    whole.go(spec, until="share")
    assert told("query", spec, "select count(share) from corpus")["rows"][0][0] > 20


def test_it_stands_in_no_way_of_a_query_or_a_takedown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    spec = spec_with(tmp_path, DIVIDES)
    whole.go(spec, until="documents")
    assert told("query", spec, "select count(*) from corpus")["rows"][0][0] > 20
    assert told("takedown", spec, "--url", "https://example.org/0/0", "--only", "--yes")["count"] == 1
    assert "fails on an empty text" in ask("run", spec, code=2).output


COUNTS = """
import pyarrow as pa

from data_specs.base import Settings
from tasks.engine.stage import Stage


class Weights(Settings):
    heavy: float = 1.0


class Digits(Stage):
    name, version = "digits", 1
    reads = ("text",)
    writes = pa.schema([("digits", pa.int64())])

    class Options(Settings):
        counted: str
        weights: Weights = Weights()

    settings: Options

    def __call__(self, batch):
        return pa.table({"digits": [len(text) for text in batch["text"].to_pylist()]}, self.writes)
"""


@pytest.mark.parametrize(
    ("settings", "changed", "mistakes"),
    [
        (
            "{counted: x, count: 1}",
            [],
            ["{spec}:13: stages.digits.settings.count is unknown; did you mean counted?"],
        ),
        (
            "{counted: 5}",
            [],
            ["{spec}:13: stages.digits.settings.counted is `5`, but should be text, in quotes"],
        ),
        ("{}", [], ["{spec}:12: stages.digits.settings.counted is missing"]),
        (
            "{counted: x, weights: {heavier: 2, heavy: much}}",
            [],
            [
                "{spec}:13: stages.digits.settings.weights.heavier is unknown; did you mean heavy?",
                "{spec}:13: stages.digits.settings.weights.heavy is `much`, but should be a number",
            ],
        ),
        (
            "{counted: x}",
            ["stages.digits.settings.counts=1"],
            ["--set stages.digits.settings.counts: stages.digits.settings.counts is unknown; did you mean counted?"],
        ),
        (
            "{counted: x}",
            ["stages.digits.settings.counted=[1]"],
            [
                "--set stages.digits.settings.counted: stages.digits.settings.counted is a list, but should be text, "
                "in quotes"
            ],
        ),
    ],
)
def test_settings_of_ones_own_stage_that_its_class_does_not_take_are_named_by_line_and_the_nearest_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: str, changed: list[str], mistakes: list[str]
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    module = f"digits_{tmp_path.name}"
    (tmp_path / f"{module}.py").write_text(COUNTS)
    spec = small.corpus(tmp_path, files=1, documents=4)
    written = f"  digits:\n    kind: custom\n    code: '{module}:Digits'\n    settings:\n      {settings}\n"
    spec.write_text(spec.read_text().replace("stages:\n", f"stages:\n{written}"))
    with pytest.raises(SpecError) as caught:
        CorpusRun.of(str(spec), None, changed)
    assert caught.value.mistakes == tuple(mistake.format(spec=spec) for mistake in mistakes)


@pytest.mark.parametrize(
    ("stage", "mistake"),
    [
        (
            "  digits: {kind: custom, code: 'a:B', counted: x}",
            "stages.digits.counted is unknown; what the class of a stage of one's own takes stands under `settings`",
        ),
        ("  digits: {kind: custom, coed: 'a:B'}", "stages.digits.coed is unknown; did you mean code?"),
        (
            "  style: {kind: custom, code: 'a:B'}",
            "stages.style: style is a kind, so a stage of this name is of it; name this one otherwise",
        ),
        ("  digits: {kind: custom, code: 'nowhere:B'}", "stages.digits.code: No module named 'nowhere'; it has to"),
        (f"  language: {{model: nowhere.ftz, sha256: {'a' * 64}}}", "stages.language.model: "),
    ],
)
def test_a_mistake_about_a_stage_is_said_with_its_line_and_a_remedy(tmp_path: Path, stage: str, mistake: str) -> None:
    spec = small.corpus(tmp_path, files=1, documents=4)
    spec.write_text(spec.read_text().replace("stages:\n", f"stages:\n{stage}\n"))
    with pytest.raises(SpecError) as caught:
        CorpusRun.of(str(spec))
    assert any(told.startswith(f"{spec}:9: {mistake}") for told in caught.value.mistakes), caught.value.mistakes


@pytest.mark.parametrize(
    ("share", "said"),
    [
        ("'x'", "stages.share fails (ArrowInvalid: Could not convert 'x' with type str"),
        ("text.isspce()", "stages.share fails (AttributeError: 'str' object has no attribute 'isspce'"),
    ],
)
def test_what_fails_on_every_text_is_not_blamed_on_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: str, said: str
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    spec = spec_with(tmp_path, share)
    with pytest.raises(SpecError) as caught:
        whole.go(spec)
    assert str(caught.value).startswith(f"{line_of(spec, 'return pa.table')}: {said}")
    assert "empty" not in str(caught.value)


@pytest.mark.parametrize(
    ("share", "line", "why"),
    [
        (
            "text.isspce() if text else None",
            "return pa.table",
            "AttributeError: 'str' object has no attribute 'isspce'",
        ),
        ("'x' if text else None", "return pa.table", "ArrowInvalid: Could not convert 'x' with type str"),
        ("float('nan') if text else None", "class Share", "ContractError: share wrote NaN into share"),
    ],
)
def test_a_bug_in_a_stage_of_ones_own_is_told_with_its_file_and_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: str, line: str, why: str
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    spec = spec_with(tmp_path, share)
    with pytest.raises(GateError) as caught:
        whole.go(spec, until="share")
    assert f"more than gates.quarantined = 1%: {line_of(spec, line)}: {why}" in str(caught.value)


def test_one_whose_setup_fails_is_told_with_its_file_and_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    spec = spec_with(tmp_path, SOUND, setup="    def setup(self): self.letter = undefined\n")
    with pytest.raises(BugError) as caught:
        whole.go(spec, until="share")
    assert str(caught.value) == f"{line_of(spec, 'undefined')}: NameError: name 'undefined' is not defined"


def test_what_is_returned_of_another_type_is_named_by_its_column() -> None:
    declared = pa.schema([("share", pa.float32())])
    with pytest.raises(ContractError, match="digits returned share as string, declared float: Failed to parse"):
        contract.checked(pa.table({"share": ["x"]}), declared, 1, "digits")
    with pytest.raises(ContractError, match="digits returned NoneType, not a table"):
        contract.checked(None, declared, 1, "digits")  # type: ignore[arg-type]
