"""Augmented texts in whole runs: weights of their own, where they never are, and what shows their origin."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_specs.load import SpecError, load
from flows.run import Run
from tasks import registry
from tasks.engine.ledger import funnel
from tasks.planning.files import read_tokens
from tasks.planning.trace import row_documents
from tasks.storage.pins import Pins
from tasks.storage.store import Store
from tasks.text import endpoint
from tests import small, whole
from tests.commands import ask, told
from tests.endpoints import Server
from tests.whole import SHORT_TRAINING
from training import fit, log

NAMES = ("mixed_up", "other_words", "told_again")
MARK = "In other words: "


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    made = Server(lambda asked: MARK + " ".join(reversed(asked.split())))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(endpoint, "FIRST_WAIT", 0.01)
        yield made
    made.close()


def spec_of(folder: Path, server: Server) -> Path:
    """The small corpus, of whose kept documents three stages make other texts."""
    spec = small.corpus(folder, files=2)
    (folder / "en.txt").write_text("river stream\nvalley dale\nwater rain\ngold silver\n")
    (folder / "zh.txt").write_text("河流 江河\n冬天 冬季\n")
    text = spec.read_text()
    text = text.replace(
        "stages:\n",
        f"""stages:
  mixed_up: {{kind: shuffle_sentences, where: "language = 'en' and domain <> 'code'", share: 80%}}
  other_words: {{kind: synonyms, tables: {{en: {folder}/en.txt, zh: {folder}/zh.txt}}, share: 80%, words: 0.9}}
  told_again: {{kind: rephrase, endpoint: '{server.url}', model: small, template: "{{text}}", sample: 12}}
""",
    )
    own = "mixed_up: 0.25, other_words: 0.15, told_again: 0.1"
    halves = {
        "zh: 0.4, en: 0.4, code: 0.2": "zh: 0.2, en: 0.2, code: 0.1",
        "zh: 0.3, en: 0.3, code: 0.4": "zh: 0.15, en: 0.15, code: 0.2",
    }
    for weights, half in halves.items():
        assert weights in text
        text = text.replace(f"{{{weights}}}", f"{{{half}, {own}}}")
    spec.write_text(text)
    return spec


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, server: Server) -> tuple[Path, Run]:
    """The spec and a run up to its plan."""
    spec = spec_of(tmp_path_factory.mktemp("augmented"), server)
    return spec, whole.go(spec)


@pytest.fixture(scope="module")
def trained(made: tuple[Path, Run], tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Any], Run]:
    """What commands are given of the spec, trained in this process."""
    spec, _ = made
    store = tmp_path_factory.mktemp("trained") / "store"
    shutil.copytree(spec.parent / "store", store)
    settings = [each.replace("evaluate.every=0", "evaluate.every=3") for each in SHORT_TRAINING]
    run = Run.of(str(spec), str(store), settings)
    run.resolve()
    run.plan(lambda *_: None)
    tokenizer = run.pipeline.pins.get("tokenizer")
    fit.fit(run.spec, run.spec.store, run.record["plan"], run.training_name, tokenizer, resume=False)
    return [spec, f"--store={store}", *(f"--set={each}" for each in settings)], run


def corpus(spec: Path) -> list[dict[str, Any]]:
    columns = [column for name in NAMES for column in (name, f"{name}_id", f"len({name}_tokens) as {name}_length")]
    found = told("query", spec, f"select id, text, kept, held_out, evaluated, reason, {', '.join(columns)} from corpus")
    return [dict(zip(found["columns"], row, strict=True)) for row in found["rows"]]


def test_only_kept_documents_have_other_texts_and_none_that_is_held_out_or_evaluated_on(made: Any) -> None:
    spec, run = made
    rows = corpus(spec)
    for name in NAMES:
        have = [row for row in rows if row[name]]
        assert len(have) > 5
        assert all(row["kept"] and not row["held_out"] and not row["evaluated"] for row in have)
        assert all(row[name] != row["text"] and row[f"{name}_length"] > 1 for row in have)
        without = [row for row in rows if not row[name]]
        assert all(row[f"{name}_id"] is None and row[f"{name}_length"] is None for row in without)
    assert sum(bool(row["told_again"]) for row in rows) == 12
    assert all(row["told_again"].startswith(MARK) for row in rows if row["told_again"])
    counted = funnel(run.pipeline)
    assert counted["in"] == counted["kept"] + sum(counted["dropped"].values())
    assert counted["kept"] == sum(row["kept"] for row in rows)


def files_of(run: Run) -> dict[str, str]:
    """Token file -> the stage that made what it holds; "" for documents."""
    found = {}
    for name in ("", *NAMES):
        output = run.pipeline.outputs[f"{name}_tokens" if name else "tokens"]
        found |= {output.path(place): name for place in np.flatnonzero(output.index.done).tolist()}
    return found


def test_each_stages_texts_have_their_own_weight_and_are_read_from_their_own_tokens(made: Any) -> None:
    _, run = made
    plan, of = run.plan_facts, files_of(run)
    assert plan["augmented"] == list(NAMES)
    for number, phase in enumerate(plan["phases"]):
        shares = {name: each["share"] for name, each in phase["channels"].items()}
        for name, weight in (("mixed_up", 0.25), ("other_words", 0.15), ("told_again", 0.1)):
            assert abs(shares[name] - weight) * phase["rows"] < 1
        rows = row_documents(run.store, run.record["plan"], number, 0, phase["rows"])
        for channel, file in zip(rows["channel"].to_pylist(), rows["file"].to_pylist(), strict=True):
            assert of[file] == (channel if channel in NAMES else "")


def test_conditions_of_a_phase_go_by_the_documents_columns(made: Any) -> None:
    spec, run = made
    inputs = run.plan_inputs()
    asked = dataclasses.replace(inputs, wheres={"where_0": "channel = 'zh'"}, loss_by=("channel",))
    found = {of: pa.concat_tables(table for _, table in asked._tables(of, None)) for of in ("", *NAMES)}
    of_documents = found[""]["by_channel"].to_pylist()
    for name in NAMES:
        assert found[name]["by_channel"].to_pylist() == of_documents
        assert found[name]["where_0"].to_pylist() == [channel == "zh" for channel in of_documents]
        assert set(found[name]["channel"].to_pylist()) == {name}
        ids = [each.hex() for each in found[name]["id"].to_pylist() if any(each)]
        assert sorted(ids) == sorted(row[f"{name}_id"] for row in corpus(spec) if row[name])


def test_repetitions_are_counted_in_the_tokens_of_the_text_itself(tmp_path: Path) -> None:
    """As a language model may say the same again and again of a document that does not."""
    looping = Server(lambda asked: "again and again " * 200)
    spec = spec_of(tmp_path, looping)
    run = whole.go(spec, ["mixture.repetitions=32", "mixture.phases=[]", "mixture.epochs.default=40"])
    looping.close()
    repeated = {of: found["documents"] for of, found in run.plan_facts["repetitive"].items()}
    assert repeated == dict.fromkeys(run.plan_facts["channels"], 0) | {"told_again": 12}
    assert run.plan_facts["channel_tokens"]["told_again"] == 0


def test_none_is_in_the_rows_that_are_evaluated_on(made: Any) -> None:
    _, run = made
    plan = run.plan_facts
    assert all(plan["held_out"]["rows"].get(name, 0) == 0 for name in NAMES)
    assert sum(plan["held_out"]["rows"].values()) > 0


def test_the_tokenizer_is_learned_without_them_unless_they_are_asked_for(made: Any, tmp_path: Path) -> None:
    spec, run = made
    pin = run.pipeline.pins.get("tokenizer")
    assert not set(pin["facts"]["channels"]) & {*NAMES}
    bare = small.corpus(tmp_path, files=2)
    assert whole.go(bare, until="learn_tokenizer").pipeline.pins.get("tokenizer")["sha256"] == pin["sha256"]
    asked = whole.go(spec, ["tokenizer.augmented=true", f"store={tmp_path}/asked"], until="learn_tokenizer")
    assert {*NAMES} < set(asked.pipeline.pins.get("tokenizer")["facts"]["channels"])


def test_another_store_has_the_same_texts_tokens_and_plan_to_the_byte(made: Any, tmp_path: Path) -> None:
    spec, run = made
    again = whole.go(spec, [f"store={tmp_path}/again"])
    assert whole.content(again) == whole.content(run)
    assert set(whole.states(whole.go(spec)).values()) == {"cached"}


def test_the_bytes_of_documents_and_their_tokens_are_as_without_them(made: Any, tmp_path: Path) -> None:
    _, run = made
    bare = whole.go(small.corpus(tmp_path, files=2), until="tokens")
    for name in ("verdict", "tokens"):
        one, other = (each.pipeline.outputs[name].index for each in (run, bare))
        assert all((one.digests[column] == other.digests[column]).all() for column in one.digests)


def test_inspect_finds_a_document_by_the_id_of_its_text_and_shows_both(made: Any) -> None:
    spec, _ = made
    row = next(row for row in corpus(spec) if row["told_again"])
    for asked in (row["id"], row["told_again_id"], row["told_again_id"][:16]):
        found = told("inspect", spec, asked)
        assert found["id"] == row["id"]
        assert found["augmented"]["told_again"] == row["told_again_id"]
    shown = ask("inspect", spec, row["told_again_id"]).stdout
    assert "text `told_again`, which was made of it and has the id" in shown
    assert shown.count(MARK) == 1


def test_an_export_has_them_marked_with_their_origin_where_asked(made: Any, tmp_path: Path) -> None:
    spec, _ = made
    rows = corpus(spec)
    plain = told("export", spec, tmp_path / "plain")
    assert plain["documents"] == sum(row["kept"] for row in rows)
    assert "origin" not in plain["columns"]
    found = told("export", spec, tmp_path / "all", "--augmented", "--columns", "url")
    tables = [pq.read_table(path) for path in sorted((tmp_path / "all/data").iterdir())]
    exported = [row for table in tables for row in table.to_pylist()]
    assert [*exported[0]] == ["id", "text", "url", "origin", "augmented"]
    assert found["documents"] == len(exported)
    wanted = {(row["id"], row["text"], None, None) for row in rows if row["kept"]}
    wanted |= {(row[f"{n}_id"], row[n], row["id"], n) for row in rows for n in NAMES if row[n]}
    assert {(row["id"], row["text"], row["origin"], row["augmented"]) for row in exported} == wanted
    assert len(exported) == len(wanted)
    assert "`origin` is the document's id" in (tmp_path / "all/README.md").read_text()


def test_an_export_of_what_makes_no_other_texts_cannot_have_them(computed: Any, tmp_path: Path) -> None:
    ended = ask("export", computed[0], tmp_path / "out", "--augmented", code=2)
    assert "--augmented: no stage makes other texts of these documents" in ended.stderr


def test_blame_and_lineage_name_the_document_that_a_text_was_made_of(trained: Any) -> None:
    given, _ = trained
    rows = {row["id"]: row for row in corpus_of(given)}
    seen: dict[str, set[str]] = {name: set() for name in NAMES}
    for step in range(1, 7):
        for row in told("blame", *given, "--step", step, "--top", 10_000)["shown"]:
            assert row.get("augmented") == (row["channel"] if row["channel"] in NAMES else None)
            if row["channel"] in NAMES:
                seen[row["channel"]].add(row["id"])
                assert " ".join(rows[row["id"]][row["channel"]].split()).startswith(row["text"][:40])
    assert all(seen.values())
    origin = min(seen["told_again"])
    [use] = told("lineage", *given, origin)["runs"]
    assert use["augmented"]["told_again"] > 0
    assert use["tokens"] >= sum(use["augmented"].values())
    assert "of them as told_again" in ask("lineage", *given, rows[origin]["told_again_id"]).stdout
    shown = ask("blame", *given, "--step", 1, "--top", 10_000).stdout
    assert "its text as mixed_up" in shown


def corpus_of(given: list[Any]) -> list[dict[str, Any]]:
    found = told("query", *given, f"select id, {', '.join(NAMES)}, told_again_id from corpus")
    return [dict(zip(found["columns"], row, strict=True)) for row in found["rows"]]


def test_losses_are_told_by_their_channel_and_evaluated_is_on_documents_alone(trained: Any) -> None:
    _, run = trained
    records = [*log.records(run.store, run.training_name)]
    steps, evaluations = ([each for each in records if each["kind"] == kind] for kind in ("step", "held_out"))
    for name in NAMES:
        assert any(found["channels"][name][1] for found in steps)
        assert evaluations
        assert all(found["losses"].get(name) is None for found in evaluations)
    assert all(found["losses"]["en"] is not None for found in evaluations)


def test_what_is_to_be_made_is_planned_and_nothing_of_it_is_garbage(made: Any, tmp_path: Path) -> None:
    spec, _ = made
    stages = {each["name"]: each["state"] for each in told("plan", spec, f"--store={tmp_path}/new")["stages"]}
    assert stages["learn_told_again"] == "to learn"
    assert {f"{name}_tokens" for name in NAMES} < stages.keys()
    stages = {each["name"]: each["state"] for each in told("plan", spec)["stages"]}
    assert {stages[f"{name}_tokens"] for name in NAMES} == {"cached"}
    assert not [path for path in told("gc", spec)["files"] if path.startswith(("tokens/", "columns/"))]


def test_a_takedown_of_a_document_takes_the_texts_made_of_it(made: Any, server: Server, tmp_path: Path) -> None:
    spec, _ = made
    shutil.copytree(spec.parent, tmp_path, dirs_exist_ok=True)
    copied = tmp_path / spec.name
    copied.write_text(spec.read_text().replace(f"store: {spec.parent}", f"store: {tmp_path}"))
    rows = corpus(copied)
    gone = next(row for row in rows if row["told_again"] and row["other_words"])
    before = files_of(whole.go(copied))
    found = told("takedown", copied, "--id", gone["id"], "--only", "--yes")
    assert "told_again" in found["named"]["pins"]

    store = Store(str(tmp_path / "store"))
    texts = [gone[name] for name in NAMES if gone[name]]
    for path in (tmp_path / "store").rglob("*"):
        if path.is_file() and path.suffix in (".jsonl", ".json"):
            assert not any(text.encode() in path.read_bytes() for text in texts)
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            for column in table.column_names:
                if str(table.schema.field(column).type) == "string":
                    assert not {*texts} & {*table[column].to_pylist()}, path
    zeroed = 0
    for path, name in before.items():
        if name and store.exists(path):
            zeroed += sum(
                bool(len(each)) and not any(each) for each in read_tokens(store, path, "").to_pylist() if each
            )
    assert zeroed == len(texts)

    asked = len(server.asked)
    run = whole.go(copied)
    assert len(server.asked) == asked
    after = {row["id"]: row for row in corpus(copied)}
    assert [after[gone["id"]][name] for name in NAMES] == [""] * 3
    others = [row["id"] for row in rows if row["told_again"] and row["id"] != gone["id"]]
    assert [after[each]["told_again"] for each in others] == [
        row["told_again"] for row in rows if row["told_again"] and row["id"] != gone["id"]
    ]
    assert run.pipeline.pins.get("told_again")["facts"]["rephrased"] == 12


@pytest.mark.parametrize(
    ("stages", "more", "mistake"),
    [
        ("en: {kind: shuffle_sentences}", "", "stages.en: the mixture has a en, which its texts would be called"),
        ("x: {kind: shuffle_sentences}, x_tokens: {kind: normalise}", "", "the tokens of x are called so"),
        ("x: {kind: shuffle_sentences}", "text: x\n", "text is x, which is no text"),
        ("x: {kind: synonyms, tables: {english: y}}", "", "stages.x.tables.english"),
        ("x: {kind: synonyms, tables: {eng: y}}", "", "stages.x.tables.eng: eng is no language"),
        ("x: {kind: rephrase, endpoint: 'http://y', model: z}", "", "stages.x.template is missing"),
        (
            "x: {kind: shuffle_sentences}",
            "mixture: {phases: [{until: 100%, weights: {y: 1}}]}\n",
            "mixture.phases.0.weights.y is no channel",
        ),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, stages: str, more: str, mistake: str) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(
        f"name: x\nstore: {tmp_path}\nsources: {{web: {{kind: jsonl, paths: x}}}}\nchannels: {{en: 'true'}}\n"
        f"stages: {{{stages}}}\n{more}"
    )
    with pytest.raises(SpecError) as caught:
        registry.nodes(load(spec), Pins(Store(str(tmp_path)), "x"))
    assert mistake in str(caught.value)
