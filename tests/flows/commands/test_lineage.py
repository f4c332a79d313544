"""A training looked into: a step's documents and their losses, a document's steps, samples, exports of any step."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from flows import artifacts
from flows.commands import document as documents
from flows.commands import lineage, takedown, trainings
from flows.run import Run
from tasks.planning.trace import row_documents, rows_of
from tasks.storage.checksums import sealed_lines
from tasks.storage.store import Store
from tests import flips
from tests.commands import ask, told
from tests.whole import SHORT_TRAINING
from training import fit, log
from training.blame import blame
from training.launch import TrainingError

STEPS = 6


@pytest.fixture(scope="module")
def trained(computed: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Any], Run]:
    """What commands are given of a spec that was trained in this process, with checkpoints of steps 2, 4 and 6."""
    spec = computed[0]
    folder = tmp_path_factory.mktemp("trained")

    subprocess.run(["cp", "-r", f"{spec.parent}/store", folder], check=True)
    given = [spec, f"--store={folder}/store", *(f"--set={each}" for each in SHORT_TRAINING)]
    run = Run.of(str(spec), f"{folder}/store", SHORT_TRAINING)
    run.resolve()
    run.plan(lambda *_: None)
    tokenizer = run.pipeline.pins.get("tokenizer")
    fit.fit(run.spec, run.spec.store, run.record["plan"], run.training_name, tokenizer, resume=False)
    return given, run


@pytest.mark.parametrize(("step", "weights", "exact"), [(1, 0, True), (3, 2, True), (4, 2, False)])
def test_the_losses_of_a_steps_documents_make_up_the_loss_that_was_logged(
    trained: Any, step: int, weights: int, exact: bool
) -> None:
    given, run = trained
    found = told("blame", *given, "--step", step, "--top", 10_000)
    assert (found["weights_of_step"], found["exact"]) == (weights, exact)
    [record] = [record for record in log.read(run.store, run.training_name) if record["step"] == step]
    assert sum(row["tokens"] for row in found["shown"]) == record["tokens"]
    assert len(found["shown"]) == found["documents"]
    for name, (loss, tokens) in record["channels"].items():
        rows = [row for row in found["shown"] if row["channel"] == name]
        assert sum(row["tokens"] for row in rows) == tokens
        if exact and loss is not None:
            total = sum(row["loss"] * row["tokens"] for row in rows)
            assert total / tokens == pytest.approx(loss, rel=1e-5)
    assert found["loss"] == pytest.approx(record["loss"], rel=1e-5 if exact else 0.2)
    losses = [row["loss"] for row in found["shown"]]
    assert losses == sorted(losses, reverse=True)


def test_a_step_shows_the_documents_at_either_end_with_address_and_text(trained: Any) -> None:
    given, _ = trained
    every = told("blame", *given, "--step", 3, "--top", 10_000)["shown"]
    shown = told("blame", *given, "--step", 3, "--top", 2)["shown"]
    assert shown == [*every[:2], *every[-2:]]
    assert all(row["text"] and row["id"] for row in shown)
    printed = ask("blame", *given, "--step", 3, "--top", 2).output
    assert "those that the step read them with" in printed
    assert shown[0]["id"][:8] in printed.replace("\n", "")
    assert "norm of the gradient" not in printed
    printed = ask("blame", *given, "--step", 3, "--layers").output
    assert "norm of the gradient" in printed
    assert "model.layers.0" in printed


def test_a_step_that_was_not_taken_and_a_training_that_is_not_there_are_said(trained: Any) -> None:
    given, _ = trained
    assert "it took steps 1 to 6" in ask("blame", *given, "--step", 7, code=1).output
    assert "there is no training runs/other" in ask("blame", *given, "--step", 1, "--run", "other", code=1).output


@pytest.mark.parametrize(
    "asked",
    [
        ("plan",),
        ("versions",),
        ("lineage", "ID"),
        ("blame", "--step", 3),
        ("export-model", "OUT"),
        ("export", "OUT"),
        ("export-plan", "OUT"),
        ("takedown", "--id", "ID"),
    ],
    ids=lambda asked: asked[0],
)
def test_paths_in_answers_open_as_they_stand(
    trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: tuple[str, ...]
) -> None:
    given, run = trained
    [[kept]] = told("query", *given, "select min(id) from corpus where kept")["rows"]
    monkeypatch.chdir(tmp_path)
    command, *more = (str(each).replace("ID", kept).replace("OUT", f"{tmp_path}/out") for each in asked)
    found = [text for text in strings(told(command, *given, *more)) if "/" in text and len(text.encode()) < 256]
    assert [text for text in found if Path(run.spec.store, text).exists() and not Path(text).exists()] == []


def strings(value: Any) -> list[str]:
    """Every string in an answer."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [text for each in value for text in strings(each)]
    return [value] if isinstance(value, str) else []


def test_a_training_whose_first_weights_were_replaced_is_not_called_done(trained: Any, tmp_path: Path) -> None:
    given, run = trained
    path = f"runs/{run.training_name}/run.json"
    whole = run.store.read(path)
    begun = run.store.json(path)
    begun["spec"]["training"]["start"] = {"folder": str(tmp_path)}
    run.store.commit_json(path, begun | {"start": {"model.safetensors": "0" * 32}})
    try:
        assert run.trained()  # what it began with is gone, which does not matter any more
        (tmp_path / "model.safetensors").write_bytes(b"another")
        with pytest.raises(TrainingError, match=r"model\.safetensors has changed; bring it back, give the new weights"):
            run.trained()
        assert "began with other weights" in ask("plan", *given, code=1).output
    finally:
        run.store.commit(path, whole)
    assert run.trained()


def test_trainings_that_began_with_a_checkpoint_are_named_with_what_it_was_trained_on(trained: Any) -> None:
    given, run = trained
    begun, store = run.store.json(f"runs/{run.training_name}/run.json"), run.store
    weights = {"branch": {"run": f"{run.training_name}@2"}, "twig": {"run": "branch@9"}}
    weights |= {"exported": {"folder": f"{run.spec.store}/runs/{run.training_name}/export"}}
    for name, start in weights.items():
        begun["spec"]["training"]["start"] = start
        store.commit_json(f"runs/{name}/run.json", begun)
    first: dict[tuple[str, int], int] = {}
    for record in log.read(store, run.training_name):
        read = row_documents(store, run.record["plan"], record["phase"], record["row"], record["rows"]).to_pylist()
        for row in (each for each in read if each["length"] > 1):
            first.setdefault((row["file"], row["position"]), record["step"])
    early, late = (next(place for place, step in first.items() if test(step)) for test in ((2).__ge__, (2).__lt__))
    try:
        for (file, position), descendants in ((early, {"branch", "twig", "exported"}), (late, {"exported"})):
            [known] = documents.at(run.pipeline, [{"file": file, "position": position}]).values()
            uses = {use["run"]: use for use in told("lineage", *given, known["id"])["runs"]}
            assert {name for name, use in uses.items() if "began_with" in use} == descendants
            assert uses["exported"]["began_with"] == f"{run.training_name}@6"
            assert (
                f"began with {run.training_name}@6, which was trained on it"
                in ask("lineage", *given, known["id"]).output
            )
            of = {run.training_name: {"run": run.training_name, "steps": 1, "first_step": first[file, position]}}
            named = takedown._with_descendants(run, {file: [position]}, of | dict.fromkeys(weights))
            assert {each["run"] for each in named if "began_with" in each} == descendants
    finally:
        for name in weights:
            store.remove(f"runs/{name}/run.json")


def test_a_training_has_what_its_weights_saw_also_where_the_run_that_it_began_with_went_back_since(
    trained: Any,
) -> None:
    given, run = trained
    store, parent = run.store, "went_back"
    begun = store.json(f"runs/{run.training_name}/run.json")
    steps = log.read(store, run.training_name)
    read = [
        {
            (row["file"], row["position"])
            for row in row_documents(store, begun["plan"], step["phase"], step["row"], step["rows"]).to_pylist()
            if row["length"] > 1
        }
        for step in steps
    ]
    other = next(number for number in range(1, STEPS) if read[0] - read[number] and read[number] - read[0])
    for number, (time, step) in enumerate(((100.0, steps[0]), (300.0, steps[other])), 1):  # step 1, of these rows
        attempt = [{"kind": "start", "step": 0}, {**step, "step": 1}, {"kind": "checkpoint", "step": 1}]
        path = f"runs/{parent}/log/{number:04d}-000000.jsonl"
        lines = b"".join(orjson.dumps({**record, "time": time}) + b"\n" for record in attempt)
        store.commit(path, sealed_lines(lines, path))
    store.commit_json(f"runs/{parent}/run.json", begun)
    begun["spec"]["training"]["start"] = {"run": f"{parent}@1"}
    for name, time in (("before", 200.0), ("after", 400.0)):
        store.commit_json(f"runs/{name}/run.json", begun)
        path = f"runs/{name}/log/0001-000000.jsonl"
        store.commit(path, sealed_lines(orjson.dumps({"kind": "start", "step": 0, "time": time}) + b"\n", path))

    try:
        for place, child in ((min(read[0] - read[other]), "before"), (min(read[other] - read[0]), "after")):
            [known] = documents.at(run.pipeline, [{"file": place[0], "position": place[1]}]).values()
            uses = {use["run"]: use for use in told("lineage", *given, known["id"])["runs"]}
            assert {name for name, use in uses.items() if "began_with" in use} == {child}
            named = takedown._with_descendants(run, {place[0]: [place[1]]}, dict.fromkeys([parent, "before", "after"]))
            assert [(each["run"], each["began_with"]) for each in named] == [(child, f"{parent}@1")]
    finally:
        for path in (path for name in (parent, "before", "after") for path in store.walk(f"runs/{name}")):
            store.remove(path)


def test_a_documents_steps_are_those_whose_rows_read_it(trained: Any) -> None:
    given, run = trained
    expected: dict[tuple[str, int], dict[int, int]] = {}
    for record in log.read(run.store, run.training_name):
        read = row_documents(run.store, run.record["plan"], record["phase"], record["row"], record["rows"])
        for row in read.to_pylist():
            of = expected.setdefault((row["file"], row["position"]), {})
            of[record["step"]] = of.get(record["step"], 0) + row["length"] - 1
    several = max(expected, key=lambda document: len(expected[document]))
    few = min(expected, key=lambda document: sum(expected[document].values()) or STEPS**9)
    for file, position in (several, few):
        row = {"file": file, "position": position}
        [known] = documents.at(run.pipeline, [row]).values()
        found = told("lineage", *given, known["id"])
        assert found["kept"]
        [use] = found["runs"]
        wanted = {step: tokens for step, tokens in expected[file, position].items() if tokens}
        assert {each["step"]: each["tokens"] for each in use["steps"]} == wanted
        assert use["to_come"] == 0
        assert f"trained on at steps {min(wanted)}" in ask("lineage", *given, known["id"]).output


def test_of_a_training_whose_log_lost_a_segment_nothing_is_guessed(trained: Any) -> None:
    given, run = trained
    [row, *_] = told("query", *given, "select id from corpus where kept order by id")["rows"]
    segments = [path for path in run.store.walk(f"runs/{run.training_name}/log") if path.endswith(".jsonl")]
    last = [path for path in segments if any(r["kind"] == "step" for r in log.segment(run.store, path))][-1]
    data = run.store.read(last)
    run.store.remove(last)
    assert "has no record of step" in ask("lineage", *given, row[0], code=1).output
    run.store.commit(last, data)
    assert told("lineage", *given, row[0])["kept"]


def test_a_document_that_was_dropped_has_its_reason_and_one_held_out_is_said_to_be(trained: Any) -> None:
    given, _ = trained
    rows = told("query", *given, "select id, kept, evaluated, reason from corpus")["rows"]
    dropped = next(row for row in rows if not row[1] and not row[2])
    found = told("lineage", *given, dropped[0])
    assert (found["reason"], found["runs"]) == (dropped[3], [])
    assert "no training's plan reads it" in ask("lineage", *given, dropped[0]).output
    held_out = [told("lineage", *given, row[0])["runs"] for row in rows if row[2]]
    assert any(use["held_out"] and not use["steps"] for [use] in filter(None, held_out))


def test_what_a_training_has_not_come_to_yet_is_to_come() -> None:
    plan = type("Plan", (), {"phases": (1, 2)})
    rows = pa.table({"phase": pa.array([0, 0, 0, 1, -1], pa.int16()), "row": [0, 9, 20, 3, 0], "targets": [1] * 5})
    records = [{"phase": 0, "row": 0, "rows": 8, "step": 1}, {"phase": 0, "row": 16, "rows": 8, "step": 2}]
    assert lineage._steps(records, plan, rows).tolist() == [1, 0, 2, 0, 0]


def test_rows_are_found_in_every_file_of_a_plan_as_they_are_read(trained: Any) -> None:
    _, run = trained
    phase = run.plan_facts["phases"][0]
    read = row_documents(run.store, run.record["plan"], 0, 0, phase["rows"]).to_pylist()
    some = read[len(read) // 2]
    expected = [
        (row["row"], row["length"] - 1)
        for row in read
        if (row["file"], row["position"]) == (some["file"], some["position"]) and row["length"] > 1
    ]
    found = rows_of(run.store, run.record["plan"], {some["file"]: [some["position"]]}).to_pylist()
    assert [(row["row"], row["targets"]) for row in found if row["phase"] == 0] == expected


def test_the_page_of_spikes_names_documents_with_their_losses(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    given, run = trained
    published: list[Any] = []
    monkeypatch.setattr(artifacts, "_publish", lambda *found: published.append(found))
    artifacts.spikes(run)
    assert not published  # there was none
    shown = told("blame", *given, "--step", 3, "--top", 1)["shown"]
    of = trainings.training(run)
    rows = blame(run.store, of.spec, of.plan, of.name, 3).documents.to_pylist()
    rows[-1] = rows[-1] | {"loss": None}  # as one that is not finite is in the log
    event = {"kind": "left_out", "step": 3, "reason": "the loss | is 9", "documents": rows}
    with monkeypatch.context() as patched:
        patched.setattr(log, "records", lambda *_: [event, event | {"kind": "spike", "step": 5, "documents": rows[:1]}])
        artifacts.spikes(run)
    [(_, name, _, _, page)] = published
    assert name == "spikes"
    assert "## Step 3: the loss | is 9; its update was left out" in page
    assert "## Step 5: the loss | is 9; its rows are not read again" in page
    lines = [each for each in page.splitlines() if each.startswith("| ") and "| targets |" not in each]
    lines = [each for each in lines if "| --- |" not in each]
    assert len(lines) == min(len(rows), 2 * artifacts.ENDS) + 1
    assert lines[0] == lines[-1]
    assert lines[0].startswith(f"| {shown[0]['loss']:.3f} | {shown[0]['tokens']} | {shown[0]['channel']} | ")
    assert " ".join(shown[0]["text"].split())[:40] in lines[0]
    assert lines[-2].startswith("| not finite | ")


def test_rows_that_a_training_skips_as_it_diverged_there_are_not_to_come() -> None:
    rows = pa.table({"phase": pa.array([-1, 0, 0, 0, 0, 1], pa.int16()), "row": pa.array([0, 0, 8, 16, 39, 3])})
    steps = [{"phase": 0, "row": first, "rows": 8} for first in (0, 16)]
    skipped = [{"phase": 0, "row": first, "rows": 8} for first in (8, 32)]
    assert lineage.to_come([], [], rows).tolist() == [False, True, True, True, True, True]
    assert lineage.to_come(steps, skipped, rows).tolist() == [False, False, False, False, False, True]
    assert lineage.to_come(steps, [], rows).tolist() == [False, False, False, False, True, True]


def test_a_document_without_an_address_is_told_by_its_file(computed: Any) -> None:
    sql = "select id, file from corpus where source = 'code' order by id limit 1"
    [[name, file]] = told("query", computed[0], sql)["rows"]
    assert f"{name}  code  {file}\n" in ask("lineage", computed[0], name).output


def test_a_checkpoint_goes_on_with_a_prompt_the_same_for_the_same_seed(trained: Any) -> None:
    given, _ = trained
    asked = ("sample", *given, "The river", "--tokens", 8, "--count", 3)
    found = told(*asked)
    assert found["step"] == STEPS
    assert len(found["texts"]) == 3
    assert told(*asked) == found
    assert told(*asked, "--seed", 1)["texts"] != found["texts"]
    assert told(*asked, "--step", 5)["step"] == 4
    assert "step 4, the newest up to 5\n" in ask(*asked, "--step", 5).output
    assert "step 4\n" in ask(*asked, "--step", 4).output
    assert "The river" in ask(*asked, "--temperature", 0).output


def test_any_step_is_exported_as_a_folder_that_transformers_loads(
    trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, run = trained
    told("export-model", *given, tmp_path / "out", "--step", 2)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert AutoTokenizer.from_pretrained(tmp_path / "out")("The river")["input_ids"]
    told("export-model", *given, tmp_path / "last")
    exported = run.store.local(f"runs/{run.training_name}/export/model.safetensors")
    assert (tmp_path / "last" / "model.safetensors").read_bytes() == Path(str(exported)).read_bytes()
    last = AutoModelForCausalLM.from_pretrained(tmp_path / "last")
    assert not model.lm_head.weight.equal(last.lm_head.weight)
    assert "holds files" in ask("export-model", *given, tmp_path / "out", code=2).output
    listed = Store.list
    # As both of two that begin at once see the folder.
    monkeypatch.setattr(Store, "list", lambda store, folder: listed(store, folder) if folder else {})
    assert "another model is being written" in ask("export-model", *given, tmp_path / "out", code=1).output
    assert model.lm_head.weight.equal(AutoModelForCausalLM.from_pretrained(tmp_path / "out").lm_head.weight)


def test_a_tokenizer_that_is_not_what_was_pinned_is_neither_exported_nor_sampled_with(
    trained: Any, tmp_path: Path
) -> None:
    given, run = trained
    tokenizer = trainings.tokenizer(run, trainings.training(run))["path"]
    whole = run.store.read(tokenizer)
    flips.put(run.store, tokenizer, whole.replace(b'"the"', b'"teh"').replace(b'"r"', b'"q"'))
    try:
        for asked in (("export-model", *given, tmp_path / "out"), ("sample", *given, "The river")):
            assert "bring it back" in ask(*asked, code=1).output
    finally:
        flips.put(run.store, tokenizer, whole)
    assert not (tmp_path / "out").exists()


def test_an_export_follows_the_spec_of_its_training_and_is_made_again_where_that_says_otherwise(
    computed: Any, tmp_path: Path
) -> None:
    spec = computed[0]
    subprocess.run(["cp", "-r", f"{spec.parent}/store", tmp_path], check=True)
    store, averaged = f"{tmp_path}/store", [*SHORT_TRAINING, "training.average={decay: 0.9}"]
    run = ready(spec, store, averaged)
    tokenizer = run.pipeline.pins.get("tokenizer")
    fit.fit(run.spec, run.spec.store, run.record["plan"], run.training_name, tokenizer, resume=False)
    assert run.trained()
    other = [*averaged, "training.average.export=false"]
    weights = {}
    for name, settings, more in (
        ("average", averaged, ()),
        ("plain", other, ()),
        ("of the training", other, ("--run", run.training_name)),
        ("of the training, asked by a spec without", [*SHORT_TRAINING], ("--run", run.training_name)),
    ):
        given = [spec, f"--store={store}", *(f"--set={each}" for each in settings)]
        told("export-model", *given, tmp_path / name, *more)
        weights[name] = (tmp_path / name / "model.safetensors").read_bytes()
    exported = (tmp_path / "store" / "runs" / run.training_name / "export" / "model.safetensors").read_bytes()
    assert weights.pop("plain") != exported
    assert set(weights.values()) == {exported}
    now = ready(spec, store, other)
    assert now.training_name == run.training_name
    assert not now.trained()  # its export is the average, which the spec does not want any more
    fit.fit(now.spec, now.spec.store, now.record["plan"], now.training_name, tokenizer, resume=True)
    assert now.trained()
    assert not run.trained()
    assert not ready(spec, store, [*other, f"training.checkpoint.upload={tmp_path}/up"]).trained()


def test_an_export_is_of_the_training_that_was_named_whichever_spec_asks_or_is_refused(
    trained: Any, tmp_path: Path
) -> None:
    given, run = trained
    other = tmp_path / "other.yaml"
    other.write_text(given[0].read_text().replace("name: small", "name: other"))
    assert other.read_text() != given[0].read_text()
    asked = [other, *given[1:], "--set=model.layers=1", "--set=model.hidden=16", "--set=seed=9"]
    found = told("export-model", *asked, tmp_path / "named", "--run", run.training_name)
    assert (found["run"], found["step"]) == (run.training_name, STEPS)
    exported = run.store.local(f"runs/{run.training_name}/export")
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (tmp_path / "named" / name).read_bytes() == Path(str(exported), name).read_bytes()
    said = ask("export-model", *asked, tmp_path / "none", "--run", "small-0", code=1).output
    assert f"there is no training runs/small-0 in the store; there are: {run.training_name}" in said
    said = ask("export-model", *asked, tmp_path / "none", code=1).output
    assert "so no training" in said
    assert f"--run NAME takes one that is there, of other settings: {run.training_name}" in said
    assert not (tmp_path / "none").exists()


def ready(spec: Path, store: str, settings: Any) -> Run:
    """A run whose plan is written."""
    run = Run.of(str(spec), store, settings)
    run.resolve()
    run.plan(lambda *_: None)
    return run


def test_a_training_that_is_done_says_that_it_was_evaluated_on_other_sets(trained: Any, tmp_path: Path) -> None:
    given, run = trained
    assert run._evaluated_otherwise() == ""
    file = tmp_path / "set.jsonl"
    file.write_text('{"text": "the river"}')
    asked_for = [*SHORT_TRAINING, "training.evaluate.sets={river: {path: '" + str(file) + "'}}"]
    other = ready(given[0], run.spec.store, asked_for)
    assert other.training_name == run.training_name
    assert "other training.evaluate.sets" in other._evaluated_otherwise()
