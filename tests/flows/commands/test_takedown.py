"""Takedowns: documents leave the corpus, and every file of the store that holds them, for ever."""

from __future__ import annotations

import gzip
import json
import random
import shutil
import subprocess
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_specs import stages
from flows import artifacts, duplicates_page, embedded, prefect_ui, summary
from flows.commands import takedown
from flows.run import Run
from tasks.dedup import minhash
from tasks.engine.takedowns import PendingError, Takedowns
from tasks.filters.normalise import Normalise
from tasks.planning.trace import row_documents
from tasks.scoring.ensemble import EnsembleEstimator
from tasks.storage.pins import learned_digest
from tasks.storage.store import Store
from tests import generations, small, whole
from tests.commands import ask, told
from tests.holding import holding, holding_numbers
from tests.tasks.scoring.test_domain_quality import documents
from tests.whole import SHORT_TRAINING
from training import checkpoint, fit, log
from training.rows import PlanError

SECRET = "https://secret.example.net/page"
MIRROR = "https://mirror.example.com/page"
HOUSE = "https://www.house.example.org/"
WORDS = ("zanquibal", "vortexine", "plumbertz", "quixandra")
"""Words that no other document has."""


def secret(word: str, seed: int) -> str:
    """An English text with a word of its own in every line."""
    lines = small.english(random.Random(seed), 60).split("\n")
    return "\n".join(f"The {word} of the {line.lower()}" for line in lines)


def rows() -> list[dict[str, str]]:
    """A page, its near-copy and its copy elsewhere, two pages of one house, and one that is like none."""
    page = secret(WORDS[0], 1)
    return [
        {"text": page, "url": SECRET},
        {"text": page + "\nSeen on a mirror.", "url": MIRROR},
        {"text": page, "url": "https://copy.example.com/"},
        {"text": secret(WORDS[1], 2), "url": HOUSE + "one"},
        {"text": secret(WORDS[2], 3), "url": HOUSE + "two?x=1"},
        {"text": secret(WORDS[3], 4), "url": "https://alone.example.com/a"},
    ]


def packed(path: Path, found: list[dict[str, str]]) -> None:
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in found).encode(), mtime=0))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus with these pages, with a text that is rewritten, and its store: two versions, documents as another
    setting reads them, a training with checkpoints of steps 2, 4 and 6, exports in the store and beside it."""
    folder = tmp_path_factory.mktemp("made")
    small.corpus(folder, files=2)
    packed(folder / "web" / "web-50.jsonl.gz", rows())
    spec = _spec(folder)
    whole.go(spec, ["sources.web.longest=4MiB"])
    run = whole.go(spec, SHORT_TRAINING)
    tokenizer = run.pipeline.pins.get("tokenizer")
    run.keep("run.json", orjson.dumps(run.record))
    fit.fit(run.spec, run.spec.store, run.record["plan"], run.training_name, tokenizer, resume=False)
    told("export", spec, folder / "store" / "inside")
    told("export", spec, folder / "outside", "--format", "jsonl")
    return spec


def _spec(folder: Path) -> Path:
    spec = folder / "small.yaml"
    text = small.SPEC.format(folder=folder).replace("stages:", "stages:\n  clean: {kind: normalise}")
    spec.write_text(text + "text: clean\n")
    return spec


@pytest.fixture
def here(made: Path, tmp_path: Path) -> Path:
    """The same to be changed."""
    subprocess.run(["cp", "-r", f"{made.parent}/.", tmp_path], check=True)
    return _spec(tmp_path)


def tokens_of(run: Run, url: str) -> np.ndarray:
    """The tokens of a document."""
    [row] = told_rows(run, f"select tokens from corpus where url = '{url}'")
    return np.array(row[0], np.uint16)


def told_rows(run: Run, sql: str) -> list[list[Any]]:
    spec = Path(run.spec.store).parent / "small.yaml"
    return told("query", spec, sql)["rows"]


def corpus(spec: Path, columns: str = "id, kind, reason, kept", order: str = "source, id") -> list[list[Any]]:
    return told("query", spec, f"select {columns} from corpus order by {order}")["rows"]


# -- asking ------------------------------------------------------------------------------------------------------------


def test_without_yes_what_would_go_is_said_and_nothing_is_changed(here: Path) -> None:
    store = here.parent / "store"
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file() and path.name != ".lock"}
    found = told("takedown", here, "--url", SECRET)
    assert found["state"] == "found"
    assert {(row["url"], row["why"]) for row in found["documents"]} == {
        (SECRET, "asked"),
        (MIRROR, "near-copy"),
        ("https://copy.example.com/", "near-copy"),
    }
    assert found["named"]["versions"] == {"small": [1, 2]}
    assert {Path(each["to"]).name for each in found["named"]["exports"]} == {"inside", "outside"}
    assert found["named"]["pins"]["tokenizer"] >= 1
    [training] = found["named"]["trainings"]
    run = Run.of(str(here), None, SHORT_TRAINING)
    steps = [
        record["step"]
        for record in log.read(run.store, training["run"])
        if MIRROR in urls_of_step(run, training["run"], record) or SECRET in urls_of_step(run, training["run"], record)
    ]
    assert training["steps"] == len(steps) > 0
    saved = [step for step in (2, 4, 6) if step >= steps[0]]
    paths = [checkpoint.path_of(training["run"], step) for step in saved]
    assert training["checkpoints"] == [summary.place(run.store, path) for path in paths]
    after = {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file() and path.name != ".lock"}
    assert after == before
    said = " ".join(ask("takedown", here, "--domain", "house.example.org", "--only").output.split())
    assert "2 documents would be purged" in said
    assert "nothing is changed" in said


def urls_of_step(run: Run, name: str, record: dict[str, Any]) -> set[str]:
    """Addresses that a step of a training read."""
    plan = run.store.json(f"runs/{name}/run.json")["plan"] if run.store.exists(f"runs/{name}/run.json") else ""
    read = row_documents(run.store, plan, record["phase"], record["row"], record["rows"])
    run.resolve()
    tokens = run.pipeline.outputs["tokens"]
    places = {tokens.path(place): place for place in range(len(run.pipeline.shards))}
    found = set()
    for row in read.to_pylist():
        path = run.pipeline.outputs["documents"].path(places[row["file"]])
        if row["length"] > 1:
            found.add(pq.read_table(run.store.local(path), columns=["url"])["url"][row["position"]].as_py())
    return found


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "name what goes"),
        (["--id", "3fa9"], "32 hexadecimal digits"),
        (["--domain", "com"], "no domain"),
        (["--domain", "example.org/page"], "taken by --url"),
        (["--list", "/nowhere"], "cannot be read"),
        (["--domain", "example.org # as they asked"], "no domain"),
        (["--domain", "someone@example.org"], "no domain"),
        (["--url", "https://example.org/x # as they asked"], "no address"),
        (["--where", "not alowed"], "alowed"),
        (["--where", "true) or (select 1"], "--where"),
    ],
)
def test_a_mistake_is_said(made: Path, given: list[str], message: str) -> None:
    assert message in ask("takedown", made, *given, code=2).output


def test_a_mistake_in_a_list_is_said_with_its_line(made: Path, tmp_path: Path) -> None:
    listed = tmp_path / "requests.txt"
    listed.write_text("# of May\nhttps://house.example.org/\n\n3fa9\n")
    assert f"--list {listed}:4: '3fa9' is no domain" in ask("takedown", made, "--list", listed, code=2).output


def test_plans_and_models_that_were_written_elsewhere_are_named(here: Path, tmp_path: Path) -> None:
    before = told("takedown", here, "--url", SECRET)["named"]
    [training] = before["trainings"]
    first = int(Path(training["checkpoints"][0]).stem)
    given = [here, *(f"--set={each}" for each in SHORT_TRAINING)]
    told("export-plan", *given, tmp_path / "plan")
    told("export-model", *given, tmp_path / "model", "--step", first)
    told("export-model", *given, here.parent / "store" / "kept", "--step", first)
    found = told("takedown", *given, "--url", SECRET)["named"]["exports"]
    fresh = {Path(each["to"]).name: each for each in found if each not in before["exports"]}
    assert fresh.keys() == {"plan", "model", "kept"}
    store = Store(str(here.parent / "store"))
    plan = summary.place(store, store.json(f"runs/{training['run']}/run.json")["plan"])
    assert (fresh["plan"]["plan"], fresh["plan"]["version"]) == (plan, None)
    assert (fresh["model"]["run"], fresh["model"]["step"]) == (training["run"], first)
    said = ask("takedown", *given, "--url", SECRET, "--yes").output
    assert f"export {tmp_path / 'model'}, of runs/{training['run']} at step {first}: trained on them" in said
    assert f"export {tmp_path / 'plan'}, of {plan}: may hold them" in said
    assert any((here.parent / "store" / "kept").iterdir())  # a model is its owner's to decide about
    later = told("takedown", here, "--url", "https://nowhere.example/x")["named"]["exports"]
    assert later == []


def test_indexes_and_pages_of_duplicates_that_were_written_elsewhere_are_named(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "server", nullcontext)
    monkeypatch.setattr(duplicates_page, "publish", lambda _, page, path: Path(path).write_text(page))
    inside = here.parent / "store" / "pages.md"
    told("index", tmp_path / "index", "--spec", here)
    told("duplicates", here, "--page", tmp_path / "page.md")
    told("duplicates", here, "--page", inside)
    told("duplicates", here, "--matches", tmp_path / "matches.parquet")
    assert "Pairs nearest to" in inside.read_text()
    found = told("takedown", here, "--url", SECRET)["named"]["exports"]
    what = {Path(each["to"]).name: each["what"] for each in found if each["what"]}
    assert what == {"index": "index", "page.md": "page", "pages.md": "page", "matches.parquet": "matches"}
    said = ask("takedown", here, "--url", SECRET, "--yes").output
    assert f"index {tmp_path / 'index'}, of version 2: may hold them; make it again, and remove the old one" in said
    assert f"page {tmp_path / 'page.md'}, of the corpus: may hold them" in said
    assert not inside.exists()


def test_a_model_that_was_uploaded_is_named(here: Path, tmp_path: Path) -> None:
    [training] = told("takedown", here, "--url", SECRET)["named"]["trainings"]
    assert training["uploaded"] is None
    run = Run.of(str(here), None, [*SHORT_TRAINING, f"training.checkpoint.upload={tmp_path / 'hub'}"])
    plan = run.store.json(f"runs/{training['run']}/run.json")["plan"]
    tokenizer = run.pipeline.pins.get("tokenizer")
    fit.fit(run.spec, run.spec.store, plan, training["run"], tokenizer, resume=True)
    [training] = told("takedown", here, "--url", SECRET)["named"]["trainings"]
    assert any(Path(training["uploaded"]).glob("*.safetensors"))
    said = ask("takedown", here, "--url", SECRET).output
    assert f"exported as {training['exported']} and {training['uploaded']}" in said


def test_what_was_asked_for_and_names_no_document_is_said(here: Path) -> None:
    alone, typo = "https://alone.example.com/a", "https://alone.exampel.com/a"
    given = ("--url", alone, "--url", typo, "--domain", "nowhere.example", "--domain", "house.example.org")
    found = told("takedown", here, *given, "--id", "0" * 32)
    assert found["unmet"] == [typo, "nowhere.example", "0" * 32]
    said = ask("takedown", here, *given).output
    assert f"names no document: {typo}, nowhere.example; with `--yes` what comes of it is refused" in said
    done = ask("takedown", here, *given, "--yes").output
    assert f"names no document: {typo}, nowhere.example; what comes of it is refused" in done
    again = ask("takedown", here, "--url", typo + "/b", "--url", "http://ALONE.example.com/a/", "--yes").output
    assert "takedown 2: 0 documents purged" in again
    assert f"names no document: {typo}/b; " in again
    assert "makes a version without" not in again


def test_a_document_without_an_address_is_shown_by_its_file(here: Path) -> None:
    packed(here.parent / "web" / "web-60.jsonl.gz", [{"text": secret("nameless", 7)}])
    whole.go(here, until="documents")
    [[name]] = told("query", here, "select id from corpus where text like '%nameless%'")["rows"]
    assert f"{name}  asked  web  web-60.jsonl.gz" in ask("takedown", here, "--id", name, "--only").output
    assert "1 document would be purged (asked: " in ask("takedown", here, "--id", name, "--only").output


def test_what_opted_out_later_leaves_earlier_versions_by_an_expression(here: Path) -> None:
    assert told("takedown", here, "--where", "url like 'https://nowhere.example/%'", "--yes")["count"] == 0
    (here.parent / "out.txt").write_text("house.example.org\n")
    text = here.read_text().replace("stages:", "lists: {out: {domains: %s}}\nstages:\n  allowed: {lists: [out]}")
    here.write_text(text.replace("%s", str(here.parent / "out.txt")).replace("rules:", "rules:\n  - out: not allowed"))
    run = whole.go(here, until="verdict")
    assert told_rows(run, "select reason, count(*) from corpus where not allowed group by 1") == [["out", 2]]
    assert holding(here.parent / "store", [*WORDS[1:3]])  # for versions 1 and 2
    found = told("takedown", here, "--where", "not allowed", "--yes")
    assert {row["url"] for row in found["documents"]} == {HOUSE + "one", HOUSE + "two?x=1"}
    pins = ("models/domain/", "models/quality/", "models/tokenizer/")  # which are named, and yours to decide about
    assert not holding(here.parent / "store", [*WORDS[1:3]], skip=pins)
    assert "allowed is not computed for 1 of " in ask("takedown", here, "--where", "not allowed", code=1).output
    whole.go(here, until="verdict")
    assert told("takedown", here, "--where", "not allowed", "--yes")["count"] == 0


def test_an_expression_takes_down_what_it_would_drop_as_a_rule(made: Path) -> None:
    """Divided by 0 a number is null in rules, and infinite in DuckDB."""
    [[some]] = told("query", made, "select count(*) from corpus where words > 5")["rows"]
    assert some == told("takedown", made, "--only", "--where", "words > 5")["count"]
    assert told("takedown", made, "--where", "words / (lines - lines) > 5")["count"] == 0
    assert told("takedown", made, "--only", "--where", "words - 1e9 < 0 and words > 5")["count"] == some


def test_what_an_expression_cannot_say_of_new_documents_yet_is_no_reason_to_leave_them(here: Path) -> None:
    packed(here.parent / "web" / "web-60.jsonl.gz", [{"text": secret("nameless", 7)}])
    whole.go(here, until="documents")
    told_of = ask("takedown", here, "--where", "words > 5", "--yes", code=1).output
    assert "words is not computed for 1 of " in told_of
    assert "`sluice run SPEC --until signals` computes it" in told_of
    assert told("takedown", here, "--where", "text like '%nameless%'", "--only")["count"] == 1


# -- what is gone ------------------------------------------------------------------------------------------------------


def spike_page(spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a run show pages of the house as documents of a step that diverged."""
    run = Run.of(str(spec), None, SHORT_TRAINING)
    run.resolve(anew=False)
    run.plan(lambda *_: None)
    shown_rows = told_rows(run, "select position from corpus where url like 'https://www.house%' and kept")
    files = map(run.pipeline.outputs["tokens"].path, range(len(run.pipeline.shards)))  # in one of which they stand
    found = [
        {"file": file, "position": position, "channel": "en", "tokens": 9, "loss": 9.0}
        for file in files
        for [position] in shown_rows
    ]
    event = {"kind": "left_out", "step": 6, "reason": "the loss is 9", "documents": found}
    with monkeypatch.context() as patched:
        patched.setattr(prefect_ui, "artifact", lambda *_: None)  # Prefect's
        patched.setattr(log, "records", lambda *_: [event])
        artifacts.spikes(run)


def test_text_tokens_and_address_leave_every_file_of_the_store(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run.of(str(here), None, SHORT_TRAINING)
    run.resolve()
    house = secret(WORDS[1], 2)
    tokens = tokens_of(run, HOUSE + "one")
    [(hashes, offsets)] = minhash.shingles(iter([house]), run.spec.duplicates.words, run.spec.duplicates.characters)
    shingles = np.unique(hashes[offsets[0] : offsets[1]])
    needles = [WORDS[1], WORDS[2], "house.example.org"]
    spike_page(here, monkeypatch)
    before = holding(here.parent / "store", needles[:2])
    assert {name.rpartition("/")[2] for name in before if name.startswith("runs/")} == {"spikes.md"}
    assert {name.split("/")[0] for name in before} >= {"documents", "columns", "inside", "models"}
    assert any("/samples@" in name for name in before)
    assert {name.split("/")[0] for name in holding_numbers(here.parent / "store", tokens)} == {"tokens"}
    held_out = [row[0] for row in corpus(here, "id, held_out") if row[1]]

    found = told("takedown", here, "--domain", "house.example.org", "--id", held_out[0], "--yes")
    assert (found["state"], found["takedown"], found["count"]) == ("ended", 1, 3)
    pins = {run.pipeline.pins.history[name][-1]["path"] for name in found["named"]["pins"]}  # named, not learned anew
    assert holding(here.parent / "store", needles, skip=("takedowns/", "counts/")) <= pins
    assert holding_numbers(here.parent / "store", tokens) == holding_numbers(here.parent / "store", shingles) == set()
    assert not (here.parent / "store" / "again").exists()

    after = whole.go(here, SHORT_TRAINING)
    assert holding(here.parent / "store", needles, skip=("takedowns/", "counts/")) <= pins
    assert after.record["funnel"]["dropped"]["takedown"] == 3
    assert after.record["version"] == {"version": 3, "parent": 2, "state": "accepted", "why": [], "new": 0}
    assert {row[1:] for row in map(tuple, corpus(here)) if row[1] == "taken_down"} == {
        ("taken_down", "takedown", False)
    }


def pinned(run: Run) -> dict[str, str]:
    return {name: learned_digest(pins[-1]) for name, pins in run.pipeline.pins.history.items() if "path" in pins[-1]}


def learned(run: Run) -> set[str]:
    """What a run learned anew."""
    return {name for name, state in whole.states(run).items() if name.startswith("learn_") and state != "cached"}


def test_what_is_left_verifies_and_nothing_else_moves(here: Path) -> None:
    columns = "id, shard, position, text, language, words, quality, kept, reason, copy_of, tokens"
    before = corpus(here, columns)
    pins = {
        name: pins[-1]["sha256"]
        for name, pins in Run.of(str(here)).pipeline.pins.history.items()
        if "sha256" in pins[-1]
    }
    alone = "http://ALONE.example.com/a/"
    told("takedown", here, "--url", alone, "--yes")
    run = whole.go(here, SHORT_TRAINING)
    assert learned(run) == set()
    after = corpus(here, columns)
    changed = [(one, other) for one, other in zip(before, after, strict=True) if one != other]
    [(one, other)] = changed
    assert WORDS[3] in one[3]
    assert other[:4] == [*one[:3], ""]
    assert pinned(run) == pins
    again = whole.go(here, SHORT_TRAINING)
    assert {*whole.states(again).values()} == {"cached"}
    read = whole.go(here, SHORT_TRAINING, start="documents")
    assert read.record["stages"][0]["note"].startswith("recomputed: same values")


def test_earlier_pins_and_those_of_other_lineages_are_named_too(here: Path) -> None:
    first = Run.of(str(here)).pipeline.pins.get("tokenizer")
    settings = (*SHORT_TRAINING, "tokenizer.vocabulary=300")
    whole.go(here, settings, retrain=["tokenizer"], until="version")
    other = here.with_name("other.yaml")
    other.write_text(here.read_text().replace("name: small", "name: other"))
    whole.go(other, ["tokenizer.vocabulary=310"], until="learn_tokenizer")  # makes no version
    third = Run.of(str(other)).pipeline.pins.get("tokenizer")
    found = told("takedown", here, "--url", SECRET)["named"]
    assert found["pins"]["tokenizer"] >= 1
    pins = {(each["lineage"], each["pin"], each["path"]): each["had"] for each in found["other_pins"]}
    assert first is not None and third is not None  # noqa: PT018
    assert pins["small", "tokenizer", first["path"]] is True
    assert pins["other", "tokenizer", third["path"]] is None
    assert {path for lineage, _, path in pins if lineage == "small"} == {first["path"]}
    said = ask("takedown", here, "--url", SECRET).output
    assert f"pin tokenizer of small, {first['path']}: learned by a run that had them" in said
    assert f"pin tokenizer of other, {third['path']}: it is not known whether the run" in said
    alone = told("takedown", here, "--url", "https://none.example.com/nothing")["named"]
    assert alone["other_pins"] == []


def test_a_held_out_documents_text_goes_and_what_was_learned_stays(here: Path) -> None:
    run = Run.of(str(here))
    before = run.pipeline.pins.get("held_out")
    held_out = [row[0] for row in corpus(here, "id, held_out") if row[1]]
    [[text]] = told("query", here, f"select text from corpus where id = '{held_out[0]}'")["rows"]
    line = max(text.split("\n"), key=len)[:60]
    assert before["path"] in holding(here.parent / "store", [line])
    told("takedown", here, "--id", held_out[0], "--only", "--yes")
    assert holding(here.parent / "store", [line]) == set()
    run = whole.go(here, SHORT_TRAINING)
    pin = run.pipeline.pins.get("held_out")
    assert (pin["was"], pin["run"]) == (before["sha256"], "takedown 1")
    assert {
        name for name, state in whole.states(run).items() if name.startswith("learn_") and state != "cached"
    } == set()
    assert [row[0] for row in corpus(here, "id, held_out") if row[1]] == held_out


# -- what comes later --------------------------------------------------------------------------------------------------


def test_later_crawls_do_not_bring_them_back(here: Path) -> None:
    told("takedown", here, "--domain", "house.example.org", "--url", SECRET, "--yes")
    page = secret(WORDS[0], 1)
    fresh = [secret(f"fresh{number}", 10 + number) for number in range(6)]
    urls = [SECRET, MIRROR, "https://elsewhere.example.org/", HOUSE + "three", "https://sub.house.example.org/"]
    urls += ["https://loud.example.org/", "https://near.example.org/", None]
    texts = [fresh[0], fresh[1], page, fresh[3], fresh[4]]
    texts += [page.upper().replace(".", " !"), page + "\nSeen on another mirror.", fresh[5]]
    later = [{"text": text, **({"url": url} if url else {})} for text, url in zip(texts, urls, strict=True)]
    packed(here.parent / "web" / "web-60.jsonl.gz", later)
    run = whole.go(here, SHORT_TRAINING)
    assert run.record["funnel"]["dropped"]["takedown"] == 5 + 6
    refused = told("query", here, "select url, reason from refused where reason = 'takedown' order by \"offset\"")
    assert refused["rows"] == [[url, "takedown"] for url in urls[:6]]
    assert told("query", here, "select count(*) from corpus where text like '%fresh5%'")["rows"] == [[1]]
    [[near]] = told("query", here, f"select url from corpus where text like '%{WORDS[0]}%'")["rows"]
    assert near == urls[6]  # what is only near to what went is no longer known to be: docs/corpus_versions.md
    found = told("inspect", here, HOUSE + "three")
    assert (found["taken_down"]["takedown"], found["refused"][0]["reason"]) == (1, "takedown")
    assert "takedown 1 of this store" in ask("inspect", here, SECRET).output
    known = told("takedown", here, "--url", SECRET, "--yes")
    assert (known["state"], known["documents"]) == ("known", [])


@pytest.mark.parametrize("addresses", [True, False])
def test_a_page_that_moves_to_the_place_of_one_that_is_removed_stays(tmp_path: Path, addresses: bool) -> None:
    pages = [{"text": secret(f"page{number}", number), "url": f"a.org/{number}"} for number in range(9)]
    rows = [page if addresses else {"text": page["text"]} for page in pages]
    generations.write(tmp_path, "web-0", rows)
    path = generations.spec(tmp_path)
    generations.night(path)
    asked = "select id, text from corpus where kind <> 'taken_down' order by \"offset\""
    gone, text = told("query", path, asked)["rows"][3]
    told("takedown", path, "--id", gone, "--yes")
    assert text == rows.pop(3)["text"]
    for found in (rows, [*rows[:3], {"text": text}, *rows[3:]], rows):
        generations.write(tmp_path, "web-0", found)
        generations.night(path)
        assert [row[1] for row in told("query", path, asked)["rows"]] == [row["text"] for row in rows]


def test_a_run_that_waited_for_its_end_knows_of_it(here: Path) -> None:
    run = Run.of(str(here), None, SHORT_TRAINING)
    run.pipeline.rebasing = True
    told("takedown", here, "--url", SECRET, "--only", "--yes")
    with run.working():
        assert run.pipeline.readers["web"].taken_down.names(SECRET)
        assert "kind" in run.pipeline.node("verdict").stage.reads
        assert run.pipeline.rebasing


def test_what_was_never_crawled_is_refused_when_it_comes(here: Path) -> None:
    found = told("takedown", here, "--url", "https://new.example.org/x", "--yes")
    assert (found["state"], found["count"], found["named"]["versions"]) == ("ended", 0, {})
    assert {*whole.states(whole.go(here, SHORT_TRAINING)).values()} == {"cached"}
    packed(here.parent / "web" / "web-60.jsonl.gz", [{"text": secret("fresh", 9), "url": "https://new.example.org/x"}])
    assert whole.go(here, SHORT_TRAINING).record["funnel"]["dropped"]["takedown"] == 1


def test_a_document_asked_for_by_id_that_is_not_there_leaves_what_was_learned_from_and_a_row_when_it_comes(
    here: Path,
) -> None:
    held_out = told("query", here, "select id, text from corpus where held_out limit 1")["rows"][0]
    kept = told("query", here, "select id, text from corpus where kept and language = 'en' limit 1")["rows"][0]
    needles, ids = [held_out[1][:60], kept[1][:60]], [held_out[0], kept[0]]
    store = Store(str(here.parent / "store"))
    store.remove(*store.walk("documents"), *store.walk("columns"))
    assert {path.split("/")[1] for path in holding(here.parent / "store", needles, ("inside",))} >= {
        "held_out",
        "tokenizer",
    }
    found = told("takedown", here, "--id", ids[0], "--id", ids[1], "--only", "--yes")
    assert (found["state"], found["count"]) == ("ended", 0)
    assert not holding(here.parent / "store", needles, ("inside",))
    assert whole.go(here, SHORT_TRAINING).record["funnel"]["dropped"]["takedown"] == 2
    left = told("query", here, f"select text from corpus where id in ('{ids[0]}', '{ids[1]}')")["rows"]
    assert {text for [text] in left} <= {""}


def test_near_copies_of_documents_whose_entries_are_lost_are_not_passed_over(here: Path) -> None:
    for manifest in (here.parent / "store" / "documents").glob("web@*/manifest"):
        shutil.rmtree(manifest)
    assert "near-copies are not known before" in ask("takedown", here, "--url", SECRET, "--yes", code=1).output
    assert not Takedowns(Store(str(here.parent / "store")))
    whole.go(here, until="clusters")
    found = told("takedown", here, "--url", SECRET, "--yes")
    assert {row["url"] for row in found["documents"]} == {SECRET, MIRROR, "https://copy.example.com/"}
    pins = ("models/domain/", "models/quality/", "models/tokenizer/")
    assert not holding(here.parent / "store", [*WORDS[:1]], skip=pins)


def test_a_page_whose_entry_is_lost_is_taken_down_alone(here: Path) -> None:
    for manifest in (here.parent / "store" / "documents").glob("web@*/manifest"):
        shutil.rmtree(manifest)
    found = told("takedown", here, "--url", "https://alone.example.com/a", "--only", "--yes")
    assert found["count"] == 1
    pins = ("models/domain/", "models/quality/", "models/tokenizer/")
    assert not holding(here.parent / "store", [WORDS[3]], skip=pins)
    whole.go(here, until="verdict")
    assert told("inspect", here, found["documents"][0]["id"])["kind"] == "taken_down"


def test_a_takedown_that_is_gone_stops_what_would_bring_documents_back(here: Path) -> None:
    for number in range(2):
        told("takedown", here, "--url", f"https://new.example.org/{number}", "--yes")
    for name in ("000001.json", "000002.json"):  # the newest leaves no gap
        path = here.parent / "store" / "takedowns" / name
        kept = path.read_bytes()
        path.unlink()
        assert f"takedowns/{name} is gone" in ask("plan", here, code=1).output
        path.write_bytes(kept)
    assert len(Takedowns(Store(str(here.parent / "store"))).all) == 2


def test_documents_whose_files_have_left_are_purged_and_stay_purged(here: Path) -> None:
    (here.parent / "web" / "web-50.jsonl.gz").unlink()
    told("takedown", here, "--domain", "house.example.org", "--yes")
    run = whole.go(here, SHORT_TRAINING)
    assert run.record["funnel"]["dropped"]["takedown"] == 2
    assert told("query", here, f"select count(*) from corpus where url = '{SECRET}'")["rows"] == [[1]]


def test_sources_that_are_away_are_not_needed(here: Path) -> None:
    (here.parent / "web").rename(here.parent / "away")
    found = told("takedown", here, "--url", SECRET, "--yes")
    assert (found["state"], found["count"], found["named"]["pins"]["tokenizer"]) == ("ended", 3, None)
    (here.parent / "away").rename(here.parent / "web")
    assert whole.go(here, SHORT_TRAINING).record["funnel"]["dropped"]["takedown"] == 3


def test_near_copies_that_are_not_known_stop_it_unless_they_may_stay(here: Path) -> None:
    told("takedown", here, "--domain", "house.example.org", "--yes")
    assert (
        "near-copies are not known before duplicates are computed"
        in ask("takedown", here, "--url", SECRET, "--yes", code=1).output
    )
    assert told("takedown", here, "--url", SECRET, "--only", "--yes")["count"] == 1
    assert whole.go(here, SHORT_TRAINING).record["funnel"]["dropped"]["takedown"] == 3


def test_shards_whose_near_copies_cannot_be_sought_are_named_and_stop_nothing(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole_text = Normalise.__call__

    def broken(self: Normalise, batch: pa.Table) -> pa.Table:
        if any("Seen on a mirror" in text for text in batch["text"].to_pylist()):
            raise RuntimeError("a bug")
        return whole_text(self, batch)

    told("invalidate", here, "clean")
    with monkeypatch.context() as patched:
        patched.setattr(Normalise, "__call__", broken)
        run = whole.go(here, [*SHORT_TRAINING, "gates.quarantined=90%"], until="clusters")
    shards = told("query", here, f"select distinct file from documents where url = '{SECRET}'")["rows"]
    found = told("takedown", here, "--url", SECRET)
    assert len(found["named"]["unsought"]) == len(shards) == found["count"] == 1
    assert found["named"]["unsought"][0] in {shard.name for shard in run.pipeline.shards}
    assert "near-copies are not sought in 1 shard " in ask("takedown", here, "--url", SECRET).output
    whole.go(here, SHORT_TRAINING, until="clusters")
    found = told("takedown", here, "--url", SECRET)
    assert (found["named"]["unsought"], found["count"]) == ([], 3)


def test_only_the_page_goes_and_its_cluster_elects_again(here: Path) -> None:
    asked = f"select url, reason from corpus where url in ('{SECRET}', '{MIRROR}', 'https://copy.example.com/')"
    before = dict(told("query", here, asked)["rows"])
    [kept] = [url for url, reason in before.items() if reason is None]
    assert sorted(map(str, before.values())) == ["None", "duplicate", "duplicate"]
    assert told("takedown", here, "--url", kept, "--only", "--yes")["count"] == 1
    whole.go(here, SHORT_TRAINING)
    after = dict(told("query", here, asked)["rows"])
    assert sorted(map(str, after.values())) == ["None", "duplicate"]
    assert kept not in after


def test_a_store_made_anew_with_the_same_takedowns_has_the_same_content(here: Path) -> None:
    told("takedown", here, "--url", SECRET, "--domain", "house.example.org", "--yes")
    after = whole.go(here, SHORT_TRAINING)
    fresh, store = Store(str(here.parent / "fresh")), after.store
    for path in (path for folder in ("takedowns", "pins", "models") for path in store.walk(folder)):
        fresh.commit(path, store.read(path))
    again = whole.go(here, [*SHORT_TRAINING, f"store={fresh.url}"])
    assert set(whole.states(again).values()) == {"computed", "cached"}  # cached is what is learned
    found, wanted = whole.content(again), whole.content(after)
    assert {name for name in wanted if found[name] != wanted[name]} == set()


def test_after_a_takedown_a_rebase_equals_a_run_over_all_files_at_once(here: Path) -> None:
    later = [{"text": secret(WORDS[0], 1), "url": "https://later.example.com/"}]
    packed(here.parent / "web" / "web-60.jsonl.gz", later + [{"text": secret(f"new{n}", n)} for n in range(20, 30)])
    whole.go(here, SHORT_TRAINING)
    told("takedown", here, "--url", MIRROR, "--only", "--domain", "house.example.org", "--yes")
    whole.go(here, SHORT_TRAINING)
    after = generations.night(here, SHORT_TRAINING, rebase=True)
    fresh = Store(str(here.parent / "fresh"))
    for path in (path for folder in ("takedowns", "pins", "models") for path in after.store.walk(folder)):
        fresh.commit(path, after.store.read(path))
    again = generations.night(here, [*SHORT_TRAINING, f"store={fresh.url}"])
    for name in ("documents", "clusters", "verdict", "tokens"):
        found, wanted = (run.pipeline.outputs[name].index.digests for run in (again, after))
        assert {column: sorted(map(bytes, each)) for column, each in found.items()} == {
            column: sorted(map(bytes, each)) for column, each in wanted.items()
        }


def test_a_document_that_two_scores_are_learned_from_counts_once() -> None:
    learned = EnsembleEstimator(stages.Ensemble(of=("edu", "fluent")), 1)
    table = documents([{"text": f"{n}", "language": "en", "edu": n / 9, "fluent": n / 9} for n in range(9)])
    assert takedown.documents_of(learned, table) == 9


def test_nothing_is_said_to_be_learned_from_documents_that_came_later(here: Path) -> None:
    url = "https://later.example.com/"
    before = told("takedown", here, "--url", SECRET, "--only")["named"]["pins"]
    assert before
    packed(here.parent / "web" / "web-60.jsonl.gz", [{"text": secret("new1", 40), "url": url}])
    whole.go(here, SHORT_TRAINING)
    assert told("takedown", here, "--url", url, "--only")["named"]["pins"] == {}
    assert told("takedown", here, "--url", url, "--url", SECRET, "--only")["named"]["pins"] == before


def test_of_later_generations_what_it_leaves_is_elected_anew(here: Path) -> None:
    later = [
        {"text": secret(WORDS[0], 1), "url": "https://later.example.com/"},
        *({"text": secret(f"new{n}", n)} for n in range(20, 30)),
    ]
    packed(here.parent / "web" / "web-60.jsonl.gz", later)
    whole.go(here, SHORT_TRAINING)
    asked = "select url, reason from corpus where url in ('https://later.example.com/', '{}') order by url"
    copies = [row["url"] for row in told("takedown", here, "--url", SECRET)["documents"]]
    assert set(copies) == {SECRET, MIRROR, "https://copy.example.com/", "https://later.example.com/"}
    assert told("query", here, asked.format(SECRET))["rows"][0] == ["https://later.example.com/", "duplicate"]
    given = [f"--url={url}" for url in copies if "later" not in url]
    assert told("takedown", here, *given, "--only", "--yes")["count"] == 3
    run = whole.go(here, SHORT_TRAINING)
    assert told("query", here, asked.format(SECRET))["rows"] == [["https://later.example.com/", None]]
    assert run.record["funnel"]["dropped"]["takedown"] == 3


# -- what was made with them -------------------------------------------------------------------------------------------


def test_a_training_on_the_old_version_stops_and_says_what_to_do(here: Path) -> None:
    run = Run.of(str(here), None, SHORT_TRAINING)
    run.resolve()
    plan, name = run.planned(), run.training_name
    [training] = told("takedown", here, "--url", SECRET, "--yes")["named"]["trainings"]
    assert training["run"] == name
    tokenizer = run.pipeline.pins.get("tokenizer")
    with pytest.raises(PlanError, match=r"taken down \(takedown 1\).*`sluice run` makes a version without them"):
        fit.fit(run.spec, run.spec.store, plan, name, tokenizer, resume=True)
    assert "taken down" in ask("blame", here, "--run", name, "--step", training["first_step"], code=1).output
    after = whole.go(here, SHORT_TRAINING)
    assert after.record["plan"] != plan
    # Rows of the old plan are still traced to their documents, also to those that are gone.
    rows = told("query", here, "select id from corpus where kind = 'taken_down'")["rows"]
    uses = [use for [each] in rows for use in told("lineage", here, each)["runs"]]
    assert sum(len(use["steps"]) for use in uses) == training["steps"]
    assert told("lineage", here, rows[0][0])["taken_down"]["takedown"] == 1


def test_old_versions_say_that_they_are_purged_and_compare_as_before(here: Path, tmp_path: Path) -> None:
    told("takedown", here, "--domain", "house.example.org", "--yes")
    said = ask("export", here, tmp_path / "new", code=2).output
    assert "documents of version 2 were taken down (takedown 1); `sluice run SPEC --until version` makes one" in said
    assert not (here.parent / "store" / "inside").exists() or not any((here.parent / "store" / "inside").rglob("*.*"))
    whole.go(here, SHORT_TRAINING)
    found = told("export", here, tmp_path / "new")
    assert found["version"] == 3
    texts = " ".join(pq.read_table(tmp_path / "new" / "data", columns=["text"])["text"].to_pylist())
    assert WORDS[0] in texts
    assert not {WORDS[1], WORDS[2]} & {*texts.split()}
    assert "version 3 is without them" in ask("export", here, tmp_path / "old", "--version", 1, code=2).output
    shown = {row["version"]: row["purged"] for row in told("versions", here)["versions"]}
    assert shown == {1: [1], 2: [1], 3: []}
    difference = told("diff", here, 2, 3)
    assert difference["dropped"]["takedown"] == [0, 2]
    assert difference["hosts"]["lost"] == {"house.example.org": 2}
    told("gc", here, "--yes")
    assert {row["version"]: row["purged"] for row in told("versions", here)["versions"]} == shown


# -- being stopped -----------------------------------------------------------------------------------------------------


def test_documents_that_are_damaged_meanwhile_are_read_anew_without_them(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as stopped:
        stopped.setattr(takedown, "finish", lambda *_: None)
        told("takedown", here, "--domain", "house.example.org", "--yes")
    store = Store(str(here.parent / "store"))
    for path in Takedowns(store).all[0]["documents"]:
        whole_file = bytearray(store.read(path))
        whole_file[len(whole_file) // 2] ^= 1
        store.commit(path, bytes(whole_file))
    assert told("takedown", here, "--yes")["state"] == "ended"
    run = whole.go(here, SHORT_TRAINING)
    assert run.record["funnel"]["dropped"]["takedown"] == 2
    pins = {pins[-1].get("path") for pins in run.pipeline.pins.history.values()}
    assert holding(here.parent / "store", [WORDS[1], WORDS[2]]) <= pins


def test_documents_whose_writer_was_killed_before_any_entry_spoke_of_them_go_too(tmp_path: Path) -> None:
    small.corpus(tmp_path, files=1)
    packed(tmp_path / "web" / "web-50.jsonl.gz", rows())
    spec = _spec(tmp_path)
    store = whole.go(spec, until="documents").store
    store.remove(*(path for path in store.walk("documents") if "/manifest/" in path))
    assert holding(spec.parent / "store", [WORDS[1], WORDS[2]])
    assert told("takedown", spec, "--domain", "house.example.org", "--only", "--yes")["count"] == 2
    assert not holding(spec.parent / "store", [WORDS[1], WORDS[2]])
    assert whole.go(spec, until="documents").record["stages"][0]["state"] == "cached"
    whole.go(spec)
    assert told("query", spec, "select count(*) from corpus where url like '%house%'")["rows"] == [[0]]


def files_of(spec: Path) -> dict[str, bytes]:
    """What a store holds, but for what tells the time: segments of manifests by what they say."""
    root = spec.parent / "store"
    found: dict[str, bytes] = {}
    for path in sorted(filter(Path.is_file, root.rglob("*"))):
        name = path.relative_to(root).as_posix()
        if "/manifest/" in name:
            lines = [orjson.loads(line) for line in path.read_bytes().splitlines()]
            latest = json.loads(found.get(name.partition("/manifest/")[0] + "/manifest", b"{}"))
            latest |= {line["key"]: line for line in lines if "key" in line}
            found[name.partition("/manifest/")[0] + "/manifest"] = json.dumps(latest, sort_keys=True).encode()
        elif not name.startswith(("takedowns/", "runs/records/", "pins/")) and path.name != ".lock":
            found[name] = path.read_bytes()
    return found


def test_a_takedown_that_is_killed_anywhere_goes_on_to_the_same_end(
    here: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_out = [row[0] for row in corpus(here, "id, held_out") if row[1]]
    given = ("--domain", "house.example.org", "--id", held_out[0], "--only", "--yes")
    aim = tmp_path_factory.mktemp("aim")
    subprocess.run(["cp", "-r", f"{here.parent}/.", aim], check=True)
    told("takedown", _spec(aim), *given)
    wanted = files_of(_spec(aim))
    real = {name: getattr(Store, name) for name in ("create", "writer", "remove")}
    calls, limit, kills = 0, 1, 0

    class KilledError(BaseException):
        pass

    def counted(name: str) -> Any:
        def call(self: Store, *args: Any, **more: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls > limit:
                raise KilledError
            return real[name](self, *args, **more)

        return call

    store = Store(str(here.parent / "store"))
    for name in real:
        monkeypatch.setattr(Store, name, counted(name))
    with pytest.raises(KilledError):
        told("takedown", here, *given)
    while pending := Takedowns(store).pending:
        limit, calls, kills = limit + 5, 0, kills + 1
        with pytest.raises(PendingError, match="goes on with it"):
            Takedowns(store).settled()
        with suppress(KilledError):
            takedown.finish(store, pending)
    monkeypatch.undo()
    assert kills > 10
    assert told("takedown", here, *given)["state"] == "known"
    assert files_of(here) == wanted
