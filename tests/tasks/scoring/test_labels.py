"""Labels: from files, and from a model behind an endpoint, which a server on loopback stands for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_specs import stages
from data_specs.document import SpecError
from data_specs.filters import EvaluationSet
from tasks.dedup.contamination import Contamination
from tasks.engine import job
from tasks.engine.purge import ANSWERS
from tasks.engine.stage import digest
from tasks.scoring.labels import FORM, Judge, JudgeEstimator, Labels
from tasks.scoring.quality import QualityEstimator
from tasks.storage.manifest import Manifest
from tasks.storage.store import Store
from tasks.text import endpoint
from tasks.text.endpoint import EndpointError
from tests import whole
from tests.endpoints import KEY, KEY_FROM, Server
from tests.tasks.scoring.test_domain_quality import documents, fit, ready


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """It gives a text the number of its words, up to 5."""
    monkeypatch.setattr(endpoint, "FIRST_WAIT", 0.01)
    monkeypatch.setenv(KEY_FROM, KEY)
    made = Server(lambda text: f"Fine.\nscore: {min(len(text.split()), 5)}")
    yield made
    made.close()


def settings(server: Server, **more: Any) -> stages.Judge:
    given = {
        "endpoint": server.url,
        "model": "small",
        "rubric": "How long is it?",
        "key_from": KEY_FROM,
        "at_once": 1,
    }
    return stages.Judge(**given | more)


def judged(asked: stages.Judge, table: pa.Table, store: Store | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Numbers by text, and facts."""
    estimator = JudgeEstimator(asked, 7)
    data, facts = estimator.fit_in(store, estimator.sample(table.select(list(estimator.reads))))
    texts = dict(zip([name.hex() for name in table["id"].to_pylist()], table["text"].to_pylist(), strict=True))
    return {texts[name]: found["numbers"] for name, found in orjson.loads(data).items()}, facts


TABLE = documents({"text": text} for text in ("a", "a b", "a b c", "a b c d", " "))


def test_documents_are_asked_about_by_the_rubric_and_the_cost_is_counted(server: Server, tmp_path: Path) -> None:
    asked = settings(server, price={"prompt": 2, "answer": 10}, at_once=4)
    found, facts = judged(asked, TABLE)
    assert found == {"a": [1.0], "a b": [2.0], "a b c": [3.0], "a b c d": [4.0]}
    assert facts["tokens"] == {"prompt": 400, "answer": 40}
    assert facts["cost"] == pytest.approx((400 * 2 + 40 * 10) / 1e6)
    assert {question["messages"][0]["content"].splitlines()[0] for question in server.asked} == {"How long is it?"}
    assert set(server.keys) == {f"Bearer {KEY}"}
    data, _ = fit(JudgeEstimator(asked, 7), [TABLE])
    stage = ready(lambda files: Judge(asked, files), data, tmp_path)
    assert stage(TABLE.select(["id", "text"])).to_pydict() == {
        "judge": [1, 2, 3, 4, None],
        "judge_count": [1, 1, 1, 1, 0],
        "judge_spread": [0, 0, 0, 0, None],
    }
    other = pa.array(["a", "a b", "another text", "a b c d", ""], pa.string())
    changed = TABLE.select(["id"]).append_column("text", other)
    for characters in (100, 4000):
        later = ready(lambda files, n=characters: Judge(settings(server, characters=n), files), data, tmp_path)
        assert later(changed)["judge"].to_pylist() == [1, 2, None, 4, None]
    pinned = orjson.dumps({name: found["numbers"] for name, found in orjson.loads(data).items()})
    before = ready(lambda files: Judge(asked, files), pinned, tmp_path)  # by a version that did not know the texts
    assert before(changed)["judge"].to_pylist() == [1, 2, 3, 4, None]


def test_nothing_is_asked_twice_also_where_a_run_was_refused_in_between(server: Server, tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    server.behaviours = ["score: 1", "score: 2", (401, f"wrong key {KEY}".encode())]
    with pytest.raises(EndpointError, match="answers 401") as caught:
        judged(settings(server), TABLE, store)
    assert KEY not in str(caught.value)
    asked = len(server.asked)
    assert judged(settings(server), TABLE, store)[1]["answered_before"] == 2
    assert len(server.asked) == asked + 2
    more = pa.concat_tables([TABLE, documents([{"text": "one more"}])])
    found, facts = judged(settings(server, timeout=9, price={"prompt": 1}), more, store)
    assert (facts["asked"], facts["answered_before"]) == (1, 4)
    assert found["one more"] == [2.0]
    assert judged(settings(server, rubric="How short?"), TABLE, store)[1]["answered_before"] == 0
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert KEY.encode() not in kept
    assert b"one more" not in kept


def test_what_is_busy_or_broken_is_asked_again_and_failures_are_counted_by_kind(server: Server) -> None:
    server.behaviours = [(429, b"slow down"), (503, b""), (200, b"<html>"), "score: 1"]
    found, facts = judged(settings(server), documents([{"text": "a b"}]))
    assert (found, facts["retries"], facts["failures"]) == ({"a b": [1.0]}, 3, {})
    server.behaviours = [(400, b"too long"), "no idea", "score: 9", (302, b""), *[(500, b"")] * 3]
    five = documents({"text": text} for text in "abcde")
    try:
        judged(settings(server, attempts=3), five)
    except EndpointError as error:
        assert "answers 302" in str(error)  # noqa: PT017 (the key follows no redirection)
    server.behaviours = [(400, b"too long"), "no idea", "score: 9", *[(500, b"")] * 3]
    found, facts = judged(settings(server, attempts=3, failures=1), five)
    assert facts["failures"] == {"status_400": 1, "status_500": 1, "unreadable": 2}
    assert len(found) == facts["labelled"] == 1
    with pytest.raises(EndpointError, match=r"stages\.judge: 5 of 5 questions failed \(5 unreachable\)"):
        judged(settings(server, endpoint="http://127.0.0.1:9", attempts=1, failures=0.5), five)


@pytest.mark.parametrize(
    ("said", "number"),
    [
        ("score: -3", -3.0),
        ("**Score**: **\u22122.5**", -2.5),
        ("Score - 3", 3.0),
        ("score: .5", 0.5),
        ("Score (0-5): 4", 4.0),
        ("Score (4/5)", 4.0),
        ("score = 4/5.", 4.0),
        ("score: 4\u5206", 4.0),
        ("First score: 2, final score: 3.", 3.0),
        ("-1.5 .", -1.5),
        ("score: 3,5", None),
        ("score: 3-4", None),
        ("score: 3 to 4", None),
        ("First score: 2. Final score: 3,5", None),
        ("score: 1e1", None),
        ("score: 80%", None),
        ("score: -6", None),
        ("3,5", None),
    ],
)
def test_a_number_is_read_as_it_is_written_or_not_at_all(server: Server, said: str, number: float | None) -> None:
    server.behaviours = [said]
    found, facts = judged(settings(server, lowest=-5, failures=1), documents([{"text": "x"}]))
    assert found == ({} if number is None else {"x": [number]})
    assert facts["failures"] == ({"unreadable": 1} if number is None else {})


def test_answers_that_an_earlier_version_kept_of_an_endpoint_it_did_not_note_are_asked_for_again(
    server: Server, tmp_path: Path
) -> None:
    store, asked = Store(str(tmp_path)), settings(server)
    system = f"How long is it?\n\n{FORM.format(lowest=0, highest=5)}"
    folder = digest({"model": "small", "system": system, "temperature": 0.0})[:16]  # as an earlier version named it
    key = hashlib.sha256(b"a b").hexdigest()[:32]
    Manifest(store, f"{ANSWERS}/{folder}").append([{"key": f"{key}-0", "number": 3.0}])
    found, facts = judged(asked, documents([{"text": "a b"}]), store)
    assert (found, facts["asked"], facts["answered_before"]) == ({"a b": [2.0]}, 1, 0)


def test_numbers_of_one_endpoint_are_not_taken_for_those_of_another(server: Server, tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    judged(settings(server), documents([{"text": "a b"}]), store)
    other = Server(lambda _: "score: 4")
    found, facts = judged(settings(other), documents([{"text": "a b"}]), store)
    other.close()
    assert (found, facts["asked"], facts["answered_before"]) == ({"a b": [4.0]}, 1, 0)


def test_of_several_votes_the_share_that_differs_is_told(server: Server) -> None:
    server.behaviours = ["score: 1", "score: 3", "2", "**Score:** 2.0"]
    found, facts = judged(settings(server, votes=2, temperature=0.7), documents([{"text": "x"}, {"text": "y"}]))
    assert sorted(found.values()) == [[1.0, 3.0], [2.0, 2.0]]
    assert (facts["disagreements"], facts["spread"]) == (0.5, 1.0)
    assert facts["asked"] == 4


def test_how_it_is_asked_is_no_part_of_the_fingerprint_and_what_is(server: Server) -> None:
    known = JudgeEstimator(settings(server), 7).fingerprint
    same = {"key_from": "OTHER", "timeout": 3, "attempts": 2, "at_once": 3, "failures": 0.5, "price": {"prompt": 1}}
    assert JudgeEstimator(settings(server, **same), 7).fingerprint == known
    for other in ({"rubric": "Why?"}, {"model": "large"}, {"votes": 2}, {"sample": 9}, {"highest": 3}):
        assert JudgeEstimator(settings(server, **other), 7).fingerprint != known


def test_a_run_asks_once_and_keeps_no_key(server: Server, tmp_path: Path) -> None:
    texts = [f"The river carries {number} boats to the town and back." for number in range(8)]
    (tmp_path / "web.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    spec = tmp_path / "spec.yaml"
    asked = f"{{endpoint: '{server.url}', model: small, rubric: How long is it?, key_from: {KEY_FROM}}}"
    spec.write_text(
        f"name: asked\nstore: {tmp_path}/store\nsources: {{web: {{kind: jsonl, paths: {tmp_path}/web.jsonl}}}}\n"
        f"channels: {{all: 'true'}}\nstages: {{judge: {asked}}}\ntraining: {{evaluate: {{held_out: 0}}}}\n"
    )
    run = whole.go(spec, until="judge")
    [(_, files)] = run.pipeline.files(["judge"])
    assert job.read(run.store, files, None)["judge"].to_pylist() == [5.0] * 8
    assert len(server.asked) == 8
    again = whole.go(spec, until="judge", retrain=["judge"])
    assert again.pipeline.pins.get("judge")["facts"]["answered_before"] == 8
    assert len(server.asked) == 8
    assert all(KEY.encode() not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_a_file_that_changes_in_its_place_has_no_number_of_the_text_before(server: Server, tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"m{number}.py").write_text(f"def river_{number}(boats):\n    return boats + {number}\n" * 9)
    spec = tmp_path / "spec.yaml"
    asked = f"{{endpoint: '{server.url}', model: small, rubric: How long is it?, key_from: JUDGE_KEY}}"
    spec.write_text(
        f"name: asked\nstore: {tmp_path}/store\nsources: {{code: {{kind: code, paths: '{tmp_path}/*.py'}}}}\n"
        f"channels: {{all: 'true'}}\nstages: {{judge: {asked}}}\ntraining: {{evaluate: {{held_out: 0}}}}\n"
    )

    def numbers(*again: str) -> list[float | None]:
        run = whole.go(spec, until="judge", retrain=again)
        tables = [job.read(run.store, files, None) for _, files in run.pipeline.files(["judge"])]
        return [number for table in tables for number in table["judge"].to_pylist()]

    assert numbers() == [5.0] * 4
    (tmp_path / "m2.py").write_text("town = 'of the gold miners'\n" * 9)
    assert sorted(numbers(), key=str) == [5.0, 5.0, 5.0, None]
    assert len(server.asked) == 4
    assert numbers("judge") == [5.0] * 4
    assert len(server.asked) == 5


def test_a_working_directory_that_is_called_as_a_pattern_stands_for_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, points in (("[ab]", 1), ("a", 2)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "labels-0.jsonl").write_text(json.dumps({"url": "http://x", "label": points}))
        (tmp_path / folder / "items.jsonl").write_text(json.dumps({"question": f"{points} " * 20}))
    monkeypatch.chdir(tmp_path / "[ab]")
    for path in ("labels-0.jsonl", "labels-*.jsonl"):
        stage = Labels(stages.Labels(path=path))
        stage.setup()
        assert stage.known == {"http://x": [1.0]}
    sealed = Contamination(stages.Contamination(sets={"exam": EvaluationSet(path="items.jsonl")}))
    assert [Path(path).parent.name for path in sealed.files] == ["[ab]"]


def test_labels_of_files_are_joined_by_address_id_or_text(tmp_path: Path) -> None:
    table = documents([{"text": "x", "url": "http://x"}, {"text": "y", "url": "http://y"}, {"text": "z", "url": None}])
    lines = [{"url": "http://x", "points": 2}, {"url": "http://x", "points": 5}, {"url": "http://y", "points": None}]
    (tmp_path / "labels.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "labels.csv").write_text("text,points\nz,1.5\n")
    pq.write_table(pa.table({"text": [b"z"], "points": [1.5]}), tmp_path / "bytes.parquet")
    ids = [{"id": table["id"][1].as_py().hex(), "points": 4}]
    (tmp_path / "ids.jsonl").write_text("\n".join(map(json.dumps, ids)))
    for path, by, expected in (
        ("labels.jsonl", "url", [(3.5, 2, 3.0), (None, 0, None), (None, 0, None)]),
        ("labels.csv", "text", [(None, 0, None), (None, 0, None), (1.5, 1, 0.0)]),
        ("bytes.parquet", "text", [(None, 0, None), (None, 0, None), (1.5, 1, 0.0)]),
        ("ids.jsonl", "id", [(None, 0, None), (4.0, 1, 0.0), (None, 0, None)]),
    ):
        stage = Labels(stages.Labels(path=str(tmp_path / path), by=by, value="points"))  # type: ignore[arg-type]
        stage.setup()
        found = stage(table.select(list(stage.reads)))
        assert [tuple(row.values()) for row in found.to_pylist()] == expected
    (tmp_path / "ids.jsonl").write_text('{"id": "00", "points": "many"}')
    with pytest.raises(SpecError, match="changed since this run began"):
        stage.setup()
    with pytest.raises(SpecError, match=r"row 0 of .*ids\.jsonl has 'many', which is no number"):
        Labels(stages.Labels(path=str(tmp_path / "ids.jsonl"), by="id", value="points")).setup()
    with pytest.raises(SpecError, match="is no file"):
        Labels(stages.Labels(path=str(tmp_path / "none")))


def test_labels_without_an_address_are_those_of_no_document(tmp_path: Path) -> None:
    table = documents([{"text": "x", "url": ""}, {"text": "y", "url": "http://y"}])
    lines = [{"url": "", "label": 1}, {"url": None, "label": 2}, {"url": "http://y", "label": 3}]
    (tmp_path / "labels.jsonl").write_text("\n".join(map(json.dumps, lines)))
    stage = Labels(stages.Labels(path=str(tmp_path / "labels.jsonl")))
    stage.setup()
    assert stage(table.select(["url"]))["labels"].to_pylist() == [None, 3]


def test_labels_that_are_no_numbers_or_of_other_fields_are_refused_by_name(tmp_path: Path) -> None:
    table = documents([{"text": "x", "url": "http://x"}])
    path = tmp_path / "labels.jsonl"
    for line, said in (
        ('{"url": "http://x", "score": 3}', r"no row of .*labels\.jsonl has both url and points: url, score"),
        ('{"address": "http://x", "points": 3}', "has both url and points: address, points"),
        ("[3]", "has both url and points: nothing"),
        ('{"url": "http://x", "points": "nan"}', "row 0 of .* has 'nan', which is no number"),
        ('{"url": "http://x", "points": "-Infinity"}', "has '-Infinity', which is no number"),
    ):
        path.write_text(line)
        with pytest.raises(SpecError, match=said):
            Labels(stages.Labels(path=str(path), value="points")).setup()
    pq.write_table(pa.table({"id": table["id"], "points": [4]}), tmp_path / "ids.parquet")  # as they lie in the store
    stage = Labels(stages.Labels(path=str(tmp_path / "ids.parquet"), by="id", value="points"))
    stage.setup()
    assert stage(table.select(["id"]))["labels"].to_pylist() == [4]


def test_labels_keep_every_whole_number_and_those_too_large_for_that_are_refused(tmp_path: Path) -> None:
    table = documents([{"text": "x", "url": "http://x"}, {"text": "y", "url": "http://y"}])
    path = tmp_path / "labels.jsonl"
    path.write_text('{"url": "http://x", "label": 16777217}\n{"url": "http://y", "label": 1732788001}\n')
    stage = Labels(stages.Labels(path=str(path)))
    stage.setup()
    assert stage(table.select(["url"]))["labels"].to_pylist() == [16777217, 1732788001]
    path.write_text('{"url": "http://x", "label": 9007199254740993}\n')
    with pytest.raises(SpecError, match=r"row 0 of .* has 9007199254740993, 2\^53 or more.*divide"):
        Labels(stages.Labels(path=str(path))).setup()
    with pytest.raises(ValueError, match="less than or equal to 16777216"):
        stages.Judge(endpoint="http://x", model="m", rubric="r", highest=2**25)


def test_a_run_says_where_no_document_has_a_label(tmp_path: Path) -> None:
    texts = [f"The river carries {number} boats to the town and back." for number in range(8)]
    lines = [{"text": text, "url": f"https://river.example/{number}/"} for number, text in enumerate(texts)]
    (tmp_path / "web.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "points.csv").write_text("url,label\nhttps://river.example/3,5\n")  # without the slash
    spec = tmp_path / "spec.yaml"
    spec.write_text(
        f"name: labelled\nstore: {tmp_path}/store\nsources: {{web: {{kind: jsonl, paths: {tmp_path}/web.jsonl}}}}\n"
        f"channels: {{all: 'true'}}\nstages: {{points: {{kind: labels, path: {tmp_path}/points.csv}}}}\n"
        "training: {evaluate: {held_out: 0}}\n"
    )
    run = whole.go(spec, until="points")
    assert "no document has a label: see whether the files name documents by url" in run.execution.results[-1].note
    (tmp_path / "points.csv").write_text("url,label\nhttps://river.example/3/,5\n")
    assert whole.go(spec, until="points").execution.results[-1].note == ""


def test_a_quality_reference_is_made_of_labels_and_what_has_none_is_left_out() -> None:
    rows = [{"text": f"river valley {number}", "judge": 5.0} for number in range(30)]
    rows += [{"text": f"buy now {number}", "judge": 1.0} for number in range(30)]
    rows += [{"text": f"nobody knows {number}", "judge": None} for number in range(30)]
    learned = stages.Quality(reference="judge >= 3", raw="judge < 3", dimensions=4)
    _, facts = fit(QualityEstimator(learned, 7), [documents(rows)])
    assert facts["documents"] == {"raw": 30, "reference": 30}
    _, facts = fit(QualityEstimator(stages.Quality(reference="judge >= 3", dimensions=4), 7), [documents(rows)])
    assert facts["documents"] == {"raw": 30, "reference": 30}  # as many as of the reference, of sixty others
