"""The specs, rules and the schema that come with Sluice; and specs that are spoilt."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from data_specs import schema
from data_specs.load import SpecError, load
from tasks import registry
from tasks.storage.pins import Pins
from tasks.storage.store import Store
from tests.data_specs.small_spec import SMALL, SPECS, changed


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
