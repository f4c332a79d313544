"""The documents for readers, held against the code: columns and reasons, the house, and how a filter is added."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import textwrap
import unicodedata
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import get_args

import pytest
import yaml

from data_specs.load import load
from data_specs.reasons import OWN_REASONS
from data_specs.sources import Source
from data_specs.spec import Spec
from data_specs.stages import KINDS
from tasks import registry
from tasks.dedup import lsh_index
from tasks.engine import job
from tasks.engine.nodes import Node
from tasks.engine.reading import REFUSED
from tasks.engine.stage import DOCUMENTS
from tasks.sources.text import normalise
from tasks.storage.pins import Pins
from tasks.storage.store import Store
from tests import whole

ROOT = Path(__file__).parents[1]
COLUMNS = (ROOT / "docs" / "columns.md").read_text()
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
OWN, _, COMING = (ROOT / "docs" / "adding_a_filter.md").read_text().partition("## In the checkout")
SPEC = "name: docs\nsources: {web: {kind: jsonl, paths: none.jsonl}}\nchannels: {all: 'true'}\n"
ROW = re.compile(r"^\| `([^`]+)` \| ([^|]+) \| [^|]+ \|$", re.MULTILINE)
Columns = list[tuple[str, str]]


def described(text: str) -> dict[str, Columns]:
    """Section -> the first two cells of its table's rows."""
    _, *sections = re.split(r"^## ", text, flags=re.MULTILINE)
    return {section.partition("\n")[0]: ROW.findall(section) for section in sections}


def written(nodes: Sequence[Node]) -> dict[str, Columns]:
    """Stage -> the columns it writes and their types; those of the rules are one."""
    stages = {"documents": DOCUMENTS, "refused": REFUSED} | {node.name: node.schema for node in nodes if node.writes}
    return {
        stage: list(
            dict.fromkeys(
                (
                    re.sub(r"^listed_some", "listed_<list>", re.sub(r"^fails_.*", "fails_<rule>", field.name)),
                    str(field.type).replace("item: ", ""),
                )
                for field in writes
            )
        )
        for stage, writes in stages.items()
    }


def blocks(text: str) -> list[tuple[str, str]]:
    """Language and text of each block of code."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def nodes(module: ModuleType, spec: Path, folder: Path) -> list[Node]:
    return module.nodes(load(spec), Pins(Store(str(folder / "store")), "docs"))


def test_every_column_that_is_written_is_described_and_no_other(tmp_path: Path) -> None:
    found = described(COLUMNS)
    del found["Reasons"]
    demo, full = (written(nodes(registry, ROOT / "data_specs" / f"{name}.yaml", tmp_path)) for name in ("demo", "full"))
    (tmp_path / "exam.jsonl").write_text('{"question": "?"}')
    optional = {kind: "{}" for kind in KINDS if kind not in {*full, "extract", "duplicates", "custom"}}
    (tmp_path / "list.txt").write_text("example.org\n")
    optional["allowed"] = optional["listed"] = "{lists: [some]}"
    optional["blocked_words"] = f"{{words: {{en: {tmp_path}/list.txt}}}}"
    optional |= {"encoder": "{target: perplexity}", "labels": f"{{path: {tmp_path}/exam.jsonl}}"}
    optional["judge"] = "{endpoint: 'http://127.0.0.1', model: none, rubric: none}"
    optional |= {"ensemble": "{of: [perplexity]}", "buckets": "{of: perplexity}"}
    (tmp_path / "model.bin").write_bytes(b"")
    (tmp_path / "model.json").write_text('{"labels": ["some"], "url": false, "sha256": ""}')
    optional["classify"] = f"{{model: {tmp_path}/model.bin}}"
    lsh_index.build(tmp_path / "index", [("a", "some text")], 0.7)
    optional["duplicates_of"] = f"{{index: {tmp_path}/index}}"
    (tmp_path / "config.json").write_text('{"hidden_size": 384}')
    optional |= {"embedding": f"{{model: {tmp_path}}}", "semantic": "{}", "neighbours": "{}"}
    (tmp_path / "synonyms.txt").write_text("river stream\n")
    optional["synonyms"] = f"{{tables: {{en: {tmp_path}/synonyms.txt}}}}"
    optional["rephrase"] = "{endpoint: 'http://127.0.0.1', model: none, template: '{text}'}"
    optional["contamination"] = f"{{sets: {{exam: {{path: {tmp_path}/exam.jsonl}}}}}}"
    stages = ", ".join(f"{name}: {settings}" for name, settings in optional.items())
    (tmp_path / "more.yaml").write_text(
        f"{SPEC}lists: {{some: {{domains: {tmp_path}/list.txt}}}}\nstages: {{{stages}, duplicates: {{floor: 0.8}}}}\n"
        "mixture: {rehydration: fineweb2, repetitions: 32}\ntext: repeated_lines\n"
    )
    more = written(nodes(registry, tmp_path / "more.yaml", tmp_path))
    more["listed"] = [(name.replace("_some", "_<list>"), kind) for name, kind in more["listed"]]
    more["classify"] = [
        (name.replace("_some", "_<label>"), kind) for name, kind in more["classify"] if "other" not in name
    ]
    assert full["alike"] == [each for each in more["alike"] if each not in full["pairs"]]
    assert demo.items() <= full.items()
    full |= {"alike": more["alike"]}
    assert found == full | {name: more[name] for name in (*optional, "cluster_size", "outcome", "repeated_tokens")}


def test_every_part_of_a_spec_is_described() -> None:
    parts = re.findall(
        r"^\| (`[^|]+) \| [^|]+ \|$", (ROOT / "docs" / "spec.md").read_text().partition("\n## ")[0], re.MULTILINE
    )
    assert {name for part in parts for name in re.findall(r"`(\w+)`", part)} == set(Spec.model_fields)


def test_every_reason_is_described() -> None:
    assert {reason for reason, _ in described(COLUMNS)["Reasons"]} >= OWN_REASONS


def test_every_function_on_the_walk_of_a_page_exists() -> None:
    named = re.findall(r"`([\w/]+)\.py:([\w.]+)`", ARCHITECTURE)
    assert len(named) > 30
    for file, name in named:
        assert callable(attrgetter(name)(importlib.import_module(file.replace("/", ".")))), f"{file}.py:{name}"


def test_every_room_is_on_the_plan_of_the_house() -> None:
    found = {path.name for path in (ROOT / "tasks").iterdir() if (path / "__init__.py").exists()}
    assert (
        set(re.findall(r"^\| `(\w+)/` \| [^|]+ \|$", ARCHITECTURE.partition("room of `tasks/`")[2], re.MULTILINE))
        == found
    )


def imported(name: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A file as the module of this name, for the rest of the test."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


def test_containers_are_given_the_time_that_a_run_needs_to_end() -> None:
    compose = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())
    assert compose["services"]["worker"]["stop_grace_period"] == "30s"
    commands = re.findall(r"docker run .*sluice (?:make|sluice) run.*", (ROOT / "README.md").read_text())
    assert commands
    assert all(" --init --stop-timeout 30 " in command for command in commands)


def test_every_source_on_the_page_of_sources_is_read_by_a_reader_of_its_kind(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "sources.md").read_text()
    kinds = set()
    for number, text in enumerate(re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)):
        spec = tmp_path / f"{number}.yaml"
        spec.write_text(f"name: docs\nsources:\n{textwrap.indent(text, '  ')}channels: {{all: 'true'}}\n")
        found = load(spec)
        registry.readers(found)
        nodes(registry, spec, tmp_path)
        kinds |= {getattr(each, "kind", "") for each in found.sources.values()}
    known = get_args(get_args(Source)[0])
    assert kinds == {kind for each in known for kind in get_args(each.model_fields["kind"].annotation)}


def test_characters_become_what_the_page_of_sources_says() -> None:
    page = (ROOT / "docs" / "sources.md").read_text().partition("## Characters\n")[2].partition("\n## ")[0]
    told = {chr(code): "same" for code in range(sys.maxunicode + 1)}
    becomes = {"a line end, `\\n`": "\n", "a space": " ", "nothing": ""}
    for source, text in re.findall(r"^\| (.*) \| (.*) \|$", page, re.MULTILINE):
        for first, last in re.findall(r"U\+([0-9A-F]+)(?: to U\+([0-9A-F]+))?", source):
            told |= {chr(code): becomes.get(text, "same") for code in range(int(first, 16), int(last or first, 16) + 1)}
    assert normalise("a\r\nb") == "a\nb"
    assert normalise(" \n\t\n  a\u3000\n ") == "  a"
    for character, said in told.items():
        found = normalise(f"a{character}b")
        alone = "" if character in "\u200c\u200d" else character if said == "same" else said
        assert found == unicodedata.normalize("NFC", f"a{alone}b"), hex(ord(character))


@pytest.mark.parametrize("page", ["docs/spec.md", "docs/corpus.md", "docs/rewriting_text.md"])
def test_stages_on_pages_are_as_a_spec_takes_them(page: str, tmp_path: Path) -> None:
    parts = [text for language, text in blocks((ROOT / page).read_text()) if language == "yaml"]
    parts = [text for text in parts if "stages:\n" in text and "sources:" not in text]
    assert parts
    for text in parts:
        (tmp_path / "page.yaml").write_text(SPEC + text)
        load(tmp_path / "page.yaml")


def edited(path: Path, *places: tuple[str, str]) -> None:
    """Each text put right above its place, which must be there once."""
    text = path.read_text()
    for place, new in places:
        assert text.count(place) == 1, place
        text = text.replace(place, new + place)
    path.write_text(text)


BUILT = """
import sys
from data_specs.load import load
from tasks import registry
from tasks.storage.pins import Pins
from tasks.storage.store import Store
pins = Pins(Store(sys.argv[1]), "docs")
for path in sys.argv[2:]:
    [stage] = [node.stage for node in registry.nodes(load(path), pins) if node.name == "capitals"]
    print(stage.settings.characters, stage.fingerprint, *stage.writes.names)
"""


def passes_alone(command: str, house: Path, environment: dict[str, str]) -> None:
    """The command by which a page has its one test run, in a copy of the house."""
    program, *arguments = command.removeprefix("$ ").split()
    assert program == ".venv/bin/pytest"
    alone = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    ended = subprocess.run(alone, cwd=house, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout
    assert "1 passed" in ended.stdout


def test_a_filter_of_ones_own_is_added_to_the_letter_of_its_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, test = [text for language, text in blocks(OWN) if language == "python"]
    known, own = [text for language, text in blocks(OWN) if language == "yaml"]
    [commands] = [text for language, text in blocks(OWN) if language == "console"]
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "capitals.py").write_text(module)
    (mine / "test_capitals.py").write_text(test)
    tried, run = [line.partition("PYTHONPATH=mine ")[2] for line in commands.splitlines()]
    passes_alone(tried, tmp_path, os.environ | {"PYTHONPATH": f"{mine}:{ROOT}"})
    assert run == ".venv/bin/sluice run mine/spec.yaml --until version"

    (mine / "pages.jsonl").write_text('{"text": "A PAGE THAT SHOUTS."}\n{"text": "One that does not."}\n')
    start = f"name: docs\nstore: {tmp_path}/store\nsources: {{web: {{kind: jsonl, paths: {mine}/pages.jsonl}}}}\n"
    (mine / "known.yaml").write_text(SPEC + known)
    (mine / "spec.yaml").write_text(f"{start}channels: {{all: 'true'}}\n{own}")
    nodes(registry, mine / "known.yaml", tmp_path)
    monkeypatch.syspath_prepend(str(mine))
    imported("capitals", mine / "capitals.py", monkeypatch)
    (mine / "other.yaml").write_text(SPEC + own.replace("1000", "999"))
    made = [nodes(registry, mine / f"{name}.yaml", tmp_path) for name in ("spec", "other")]
    stages = [node.stage for found in made for node in found if node.name == "capitals"]
    assert [each.settings.characters for each in stages] == [1000, 999]
    assert stages[0].fingerprint != stages[1].fingerprint
    done = whole.go(mine / "spec.yaml", until="verdict")
    [(_, files)] = done.pipeline.files(("upper_share", "reason"))
    assert job.read(done.store, files, None)["reason"].to_pylist()[0] == "shouting"


def test_a_filter_comes_with_sluice_to_the_letter_of_its_page(tmp_path: Path) -> None:
    if (ROOT / "tasks" / "filters" / "capitals.py").exists():
        pytest.skip("the page's filter was added here")
    house = tmp_path / "house"
    for name in ("data_specs", "tasks"):
        shutil.copytree(ROOT / name, house / name)
    stage, test = [text for language, text in blocks(OWN) if language == "python"]
    settings, instead, attribute, imports, case = [text for language, text in blocks(COMING) if language == "python"]
    [asked] = [text for language, text in blocks(COMING) if language == "yaml"]
    [table] = [text for language, text in blocks(COMING) if language == "markdown"]
    [command] = [text for language, text in blocks(COMING) if language == "console"]

    module, tested = house / "tasks/filters/capitals.py", house / "tests/tasks/filters/test_capitals.py"
    tested.parent.mkdir(parents=True)
    stage, count = re.subn(r"    class Options.*settings: Options\n", attribute, stage, flags=re.DOTALL)
    assert count == 1
    for line in ("from typing import Annotated\n", "from pydantic import Field\n"):
        assert line in stage
        stage = stage.replace(line, "")
    module.write_text(stage.replace("from data_specs.base import Settings\n", instead))
    tested.write_text(
        test.replace("Capitals.Options()", "stages.Capitals()").replace(
            "from capitals import", "from data_specs import stages\nfrom tasks.filters.capitals import"
        )
    )
    edited(
        house / "tasks/registry.py",
        ("from data_specs.expressions", imports),
        ("    stages.Language: Language,", case),
    )
    kinds = house / "data_specs/stages.py"
    edited(kinds, ("Kind = Annotated[", settings + "\n\n"))
    kinds.write_text(kinds.read_text().replace("Kind = Annotated[", "Kind = Annotated[Capitals | "))

    environment = os.environ | {"PYTHONPATH": str(house)}
    passes_alone(command, house, environment)

    assert "1000" in asked
    specs = [tmp_path / name for name in ("asked.yaml", "other.yaml")]
    for path, text in zip(specs, (asked, asked.replace("1000", "999")), strict=True):
        path.write_text(SPEC + text)
    build = [sys.executable, "-c", BUILT, str(tmp_path / "store"), *map(str, specs)]
    built = subprocess.run(build, cwd=house, env=environment, capture_output=True, text=True, check=True).stdout
    (characters, fingerprint, *columns), (others, other, *_) = map(str.split, built.splitlines())
    assert (characters, others) == ("1000", "999")
    assert fingerprint != other
    assert columns == [name for name, _ in described(table)["capitals"]]


def test_a_kind_of_source_is_added_to_the_letter_of_its_page(tmp_path: Path) -> None:
    if (ROOT / "tasks" / "sources" / "mbox.py").exists():
        pytest.skip("the page's source was added here")
    page = (ROOT / "docs" / "adding_a_source.md").read_text()
    settings, module, imports, case, test = [text for language, text in blocks(page) if language == "python"]
    [asked] = [text for language, text in blocks(page) if language == "yaml"]
    [command] = [text for language, text in blocks(page) if language == "console"]
    house = tmp_path / "house"
    for name in ("data_specs", "tasks"):
        shutil.copytree(ROOT / name, house / name)
    (house / "tasks/sources/mbox.py").write_text(module)
    tested = house / "tests/tasks/sources/test_mbox.py"
    tested.parent.mkdir(parents=True)
    tested.write_text(test)
    kinds = house / "data_specs/sources.py"
    edited(kinds, ("Source = Annotated[", settings + "\n\n"))
    kinds.write_text(kinds.read_text().replace("Source = Annotated[", "Source = Annotated[MboxSource | "))
    edited(
        house / "tasks/sources/__init__.py",
        ("from data_specs.sources", imports),
        ('    JsonlSource: ("jsonl", "JsonlReader"),', case),
    )

    environment = os.environ | {"PYTHONPATH": str(house)}
    passes_alone(command, house, environment)

    (tmp_path / "asked.yaml").write_text(f"name: docs\n{asked}channels: {{all: 'true'}}\n")
    build = "import sys; from data_specs.load import load; from tasks import registry; from data_specs.schema import "
    build += "written; print(registry.readers(load(sys.argv[1])), 'MboxSource' in str(written()))"
    made = [sys.executable, "-c", build, str(tmp_path / "asked.yaml")]
    said = subprocess.run(made, cwd=house, env=environment, capture_output=True, text=True, check=True).stdout
    assert "MboxReader" in said
    assert said.endswith("True\n")


def test_text_is_rewritten_to_the_letter_of_its_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "rewriting_text.md").read_text()
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    module, test = [text for language, text in blocks if language == "python"]
    for name, text in (("unquoted", module), ("test_unquoted", test)):
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    tried = imported("test_unquoted", tmp_path / "test_unquoted.py", monkeypatch)
    tried.test_quoted_lines_go_and_a_mail_of_nothing_else_is_emptied()

    mails = tmp_path / "mails.jsonl"
    mails.write_text('{"text": "> why?\\n\\nBecause."}\n{"text": "> why?"}\n')
    sources = f"sources: {{mails: {{kind: jsonl, paths: {mails}}}}}\n"
    for number, stages in enumerate([text for language, text in blocks if language == "yaml"]):
        spec = tmp_path / f"{number}.yaml"
        spec.write_text(f"name: docs\nstore: {tmp_path}/store\n{sources}channels: {{all: 'true'}}\n{stages}")
        found = nodes(registry, spec, tmp_path)
        chosen = load(spec).judged_text
        assert [each.stage.read_from("text") for each in found if each.name == "signals"] == [chosen]
        if chosen == "unquoted":
            run = whole.go(spec, until="verdict")
            [(_, files)] = run.pipeline.files(("unquoted", "reason"))
            texts = job.read(run.store, files, None)
            assert texts["unquoted"].to_pylist() == ["Because.", ""]
            assert texts["reason"].to_pylist()[1] == "emptied"
    monkeypatch.delitem(sys.modules, "unquoted")
