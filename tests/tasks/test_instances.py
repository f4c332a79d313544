"""Stages as a spec names them: several of a kind, texts that stages rewrite, ensembles, and what renaming costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from data_specs.load import SpecError, load
from tasks import registry
from tasks.engine import job
from tasks.engine.ledger import funnel
from tasks.filters.normalise import Normalise
from tasks.storage.pins import Pins
from tasks.storage.store import Store
from tests import small, whole
from tests.commands import told

STAGES = """
stages:
  clean: {kind: normalise, chinese: traditional}
  domain: {labels: {code: "source = 'code'", prose: "source = 'web'"}, dimensions: 8, epochs: 3}
  long: {kind: quality, reference: "length(text) > 1500", dimensions: 8, epochs: 3, where: "domain <> 'code'"}
  river: {kind: quality, reference: "contains(text, 'river')", dimensions: 8, epochs: 3, where: "domain <> 'code'"}
  score: {kind: ensemble, of: [long, river], take: max}
  fluent: {kind: perplexity}
  both: {kind: ensemble, of: [long, fluent]}
  grade: {kind: buckets, of: fluent, count: 4}
"""


def spec_with(folder: Path, stages: str) -> Path:
    """The small corpus and its spec with other stages."""
    spec = small.corpus(folder, files=2, documents=40)
    text = spec.read_text()
    begin, end = text.index("\nstages:"), text.index("\nrules:")
    text = text[:begin] + stages + text[end:]
    text = text.replace("quality < percentile(quality, 2)", "score < percentile(score, 2)")
    spec.write_text(text + "gates: {skipped: true}\n")
    return spec


def column(run: Any, name: str) -> list[Any]:
    """A column of the corpus, in order."""
    found = []
    for _, files in run.pipeline.files([name]):
        found += job.read(run.store, files, None)[name].to_pylist()
    return found


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run over two scorers of one kind, their ensemble, and a rewritten text that everything reads."""
    spec = spec_with(tmp_path_factory.mktemp("scored"), STAGES + "text: clean\n")
    return spec, whole.go(spec)


@pytest.mark.slow
def test_two_scorers_of_one_kind_have_columns_and_pins_of_their_names(scored: Any) -> None:
    _, run = scored
    long, river = column(run, "long"), column(run, "river")
    assert long != river
    assert [value is None for value in long] == [domain == "code" for domain in column(run, "domain")]
    assert {"long", "river", "score", "percentiles_score"} <= run.pipeline.pins.history.keys()
    assert len({run.pipeline.pins.get(name)["path"] for name in ("long", "river")}) == 2


def test_an_ensemble_is_the_highest_rank_of_its_scores(scored: Any) -> None:
    _, run = scored
    long, river, score = (column(run, name) for name in ("long", "river", "score"))
    language = column(run, "language")
    for row, value in enumerate(score):
        assert (value is None) == (long[row] is None and river[row] is None)
        if value is None:
            continue
        others = [n for n in range(len(score)) if score[n] is not None and language[n] == language[row]]
        if len(others) > 50:  # one rank of the sample, which is the corpus here but for what is held out
            ranks = [sum(c[n] < c[row] for n in others) / len(others) for c in (long, river)]
            assert value == pytest.approx(max(ranks), abs=0.15)


def test_of_what_is_more_fluent_the_grade_is_higher(scored: Any) -> None:
    _, run = scored
    fluent, grade, domain = (column(run, name) for name in ("fluent", "grade", "domain"))
    assert {name for value, name in zip(fluent, domain, strict=True) if value is not None} == {"prose"}
    assert {value for value in grade if value is not None} == {0, 1, 2, 3}
    bits = {part: [value for value, own in zip(fluent, grade, strict=True) if own == part] for part in range(4)}
    assert max(bits[3]) <= min(bits[0])
    models = run.pipeline.pins.get("both")["ingredients"]["models"]
    assert models == {name: run.pipeline.pins.get(name)["sha256"] for name in ("held_out", "long", "fluent")}


def test_later_stages_read_the_rewritten_text(scored: Any) -> None:
    _, run = scored
    raw, clean = column(run, "text"), column(run, "clean")
    assert any("汉" in text or "黄" in text for text in raw)
    assert not any("黄" in text for text in clean)
    assert [text.replace("黃", "黄") for text in clean] != clean
    lengths = [len(text) for text in clean]
    assert column(run, "characters") == lengths
    assert column(run, "text_length") == lengths


def test_renaming_a_stage_computes_nothing(scored: Any) -> None:
    spec, run = scored
    pins = run.store.walk("pins")
    text = spec.read_text()
    renamed = spec.with_name("renamed.yaml")
    renamed.write_text(text.replace("clean", "tidy"))
    again = whole.go(renamed, until="clusters")
    assert set(whole.states(again).values()) == {"cached"}
    assert run.store.walk("pins") == pins


@pytest.mark.parametrize("text", ["clean", "masked"])
def test_a_text_that_rewriting_empties_is_dropped_for_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """Also by the first of two stages, of which the second then has nothing to empty."""

    def emptying(_: Normalise, texts: pa.ChunkedArray) -> pa.Array:
        return pa.array(["" if "river valley" in text else text for text in texts.to_pylist()])

    monkeypatch.setattr(Normalise, "rewritten", emptying)
    stages = f"{STAGES}  masked: {{kind: personal_data, text: clean}}\ntext: {text}\n"
    run = whole.go(spec_with(tmp_path, stages), until="verdict")
    emptied = ["river valley" in text for text in column(run, "text")]
    assert any(emptied)
    assert not all(emptied)
    assert column(run, "clean_emptied") == emptied
    assert [reason == "emptied" for reason in column(run, "reason")] == emptied
    assert funnel(run.pipeline)["dropped"]["emptied"] == sum(emptied)


def test_what_would_run_is_known_of_stages_that_read_what_others_have_yet_to_learn(tmp_path: Path) -> None:
    found = told("plan", spec_with(tmp_path, STAGES))
    states = {stage["name"]: stage["state"] for stage in found["stages"]}
    assert states["learn_score"] == "to learn"
    assert {states[name] for name in ("long", "river", "score")} == {"waiting"}


@pytest.mark.parametrize(
    ("stages", "mistake"),
    [
        ("  edu: {reference: 'true'}", "stages.edu.kind is missing"),
        ("  quality: {kind: language}", "stages.quality: quality is a kind, so a stage of this name is of it"),
        ("  refused: {kind: quality, reference: 'true'}", "stages.refused: refused is a stage or view of Sluice's own"),
        ("  counts: {kind: normalise}", "stages.counts: counts is a stage or view of Sluice's own"),  # as versions do
        ("  learn_edu: {kind: normalise}", "stages.learn_edu: learn_edu is a stage or view of Sluice's own"),
        ("  second: {kind: duplicates}", "stages.second: there is one stage of the kind duplicates; call it so"),
        ("  own: {kind: custom, code: 'nowhere:Own'}", "stages.own.code: No module named 'nowhere'; it has to be on"),
        ("  own: {kind: custom, code: 'json:loads'}", "stages.own.code: json:loads is no shard stage; see docs/"),
        ("  signals: {text: claen}\n  clean: {kind: normalise}", "did you mean clean?"),
        ("  all: {kind: ensemble, of: [all]}", "stages.all.of: a stage is not of its own column"),
        ("  all: {kind: buckets, of: all}", "stages.all.of: a stage is not of its own column"),
        ("  own: {kind: encoder}", "stages.own: name a `target`, a column of numbers to learn, or a `model`"),
        (
            "  ask: {kind: judge, endpoint: 'http://x', model: m, rubric: r, lowest: 5}",
            "lowest is 5, not below highest, 5",
        ),
        ("  one: {kind: normalise, text: two}\n  two: {kind: normalise, text: one}", "stages need each other"),
        ("  some: {kind: ensemble, of: [nothing]}", "learn_some needs nothing, which no stage writes"),
        ("  duplicates: {keep: [edu]}", "stages.duplicates.keep.0 is `edu`, but should be `quality`, `length`, `date`"),
    ],
)
def test_a_mistake_in_stages_is_named(tmp_path: Path, stages: str, mistake: str) -> None:
    from tasks import registry
    from tasks.storage.pins import Pins
    from tasks.storage.store import Store

    spec = tmp_path / "spec.yaml"
    channels = "channels: {all: 'true'}\n"
    spec.write_text(f"name: x\nsources: {{web: {{kind: jsonl, paths: x}}}}\n{channels}stages:\n{stages}\n")
    with pytest.raises(SpecError) as caught:
        registry.nodes(load(spec), Pins(Store(str(tmp_path)), "x"))
    assert mistake in str(caught.value)


def test_mistakes_of_stages_by_other_names_than_their_kinds_are_all_told_with_their_lines(tmp_path: Path) -> None:
    spec = spec_with(
        tmp_path,
        """
stages:
  vectors:
    kind: embedding
    model: nowhere/e5
  judged: {kind: encoder, model: nowhere/bert}
  topic:
    kind: classify
    model: nowhere/topics.bin
  bad: {kind: blocked_words, words: {en: nowhere/bad.txt}}
  polite: {kind: allowed, robots: "nowhere/*.warc.gz"}
""",
    )
    with pytest.raises(SpecError) as found:
        registry.nodes(load(spec), Pins(Store(str(tmp_path / "store")), "small"))
    text = spec.read_text().split("\n")
    names = {"vectors": "model: nowhere/e5", "judged": "judged:", "topic": "topic:", "bad": "bad:", "polite": "polite:"}
    lines = {name: 1 + next(n for n, line in enumerate(text) if part in line) for name, part in names.items()}
    assert [mistake.split(": ")[0] for mistake in found.value.mistakes] == [f"{spec}:{line}" for line in lines.values()]
    keys = [mistake.split(": ")[1] for mistake in found.value.mistakes]
    assert keys == [
        "stages.vectors.model",
        "stages.judged.model",
        "stages.topic",
        "stages.bad.words.en",
        "stages.polite.robots",
    ]
