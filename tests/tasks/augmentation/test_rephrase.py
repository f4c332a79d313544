"""Texts that a language model makes of documents: a server on loopback stands for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from data_specs import stages
from tasks.augmentation.rephrase import Rephrase, RephraseEstimator
from tasks.engine import purge
from tasks.storage.pinned_texts import without_texts
from tasks.storage.store import Store
from tasks.text import endpoint
from tasks.text.endpoint import EndpointError
from tests.endpoints import KEY, KEY_FROM, Server, answer
from tests.tasks.scoring.test_domain_quality import documents, ready

TEMPLATE = "Say it in other words:\n\n{text}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """It says each text in capitals."""
    monkeypatch.setattr(endpoint, "FIRST_WAIT", 0.01)
    monkeypatch.setenv(KEY_FROM, KEY)
    made = Server(lambda asked: asked.removeprefix("Say it in other words:\n\n").upper())
    yield made
    made.close()


def settings(server: Server, **more: Any) -> stages.Rephrase:
    given = {"endpoint": server.url, "model": "small", "template": TEMPLATE, "key_from": KEY_FROM, "at_once": 1}
    return stages.Rephrase(**given | more)


def table(texts: list[str], kept: bool = True) -> pa.Table:
    return documents({"text": text, "kept": kept} for text in texts)


def rephrased(asked: stages.Rephrase, batch: pa.Table, store: Store | None = None) -> tuple[bytes, dict[str, Any]]:
    estimator = RephraseEstimator(asked, 7)
    return estimator.fit_in(store, estimator.sample(batch.select(list(estimator.reads))))


def column(asked: stages.Rephrase, data: bytes, batch: pa.Table, folder: Path) -> dict[str, list[Any]]:
    stage = ready(lambda files: Rephrase(asked, 7, files), data, folder)
    return stage(batch.select(list(stage.reads))).to_pydict()


TEXTS = ["the first", "the second", "the third"]


def test_kept_documents_are_asked_about_by_the_template_and_the_cost_is_counted(server: Server, tmp_path: Path) -> None:
    asked = settings(server, price={"prompt": 2, "answer": 10}, answer_tokens=50)
    batch = pa.concat_tables([table(TEXTS), table(["not kept"], kept=False)])
    data, facts = rephrased(asked, batch)
    found = column(asked, data, batch, tmp_path)
    assert found["rephrase"] == ["THE FIRST", "THE SECOND", "THE THIRD", ""]
    assert [each is None for each in found["rephrase_id"]] == [False, False, False, True]
    assert (facts["documents"], facts["rephrased"], facts["asked"]) == (3, 3, 3)
    assert facts["tokens"] == {"prompt": 300, "answer": 30}
    assert facts["cost"] == pytest.approx((300 * 2 + 30 * 10) / 1e6)
    [question] = [each for each in server.asked if "second" in each["messages"][0]["content"]]
    assert question == {
        "model": "small",
        "messages": [{"role": "user", "content": TEMPLATE.replace("{text}", "the second")}],
        "temperature": 0,
        "max_tokens": 50,
    }
    assert set(server.keys) == {f"Bearer {KEY}"}


def test_a_document_that_is_no_longer_kept_loses_its_text(server: Server, tmp_path: Path) -> None:
    data, _ = rephrased(settings(server), table(TEXTS))
    assert column(settings(server), data, table(TEXTS, kept=False), tmp_path)["rephrase"] == [""] * 3


def test_another_text_in_a_documents_place_has_no_text_that_was_made_of_the_earlier_one(
    server: Server, tmp_path: Path
) -> None:
    data, _ = rephrased(settings(server), table(TEXTS))
    batch = table(TEXTS)
    changed = batch.set_column(
        batch.column_names.index("text"), "text", pa.array(["the first", "the second and more", "<NAME>"])
    )
    for characters in (100, 4000):
        found = column(settings(server, characters=characters), data, changed, tmp_path)
        assert found["rephrase"] == ["THE FIRST", "", ""]
        assert [each is None for each in found["rephrase_id"]] == [False, True, True]


def test_failures_are_counted_and_what_breaks_off_or_is_empty_is_no_text(server: Server, tmp_path: Path) -> None:
    server.behaviours = [(429, b"slow down"), (200, answer("half of", "length")), " \n", (400, b"too long")]
    asked = settings(server, failures=1)
    data, facts = rephrased(asked, table(TEXTS))
    assert facts["failures"] == {"status_400": 1, "unreadable": 2}
    assert (facts["retries"], facts["rephrased"]) == (1, 0)
    assert column(asked, data, table(TEXTS), tmp_path)["rephrase"] == [""] * 3
    server.behaviours = [(400, b"too long")] * 3
    with pytest.raises(EndpointError, match=r"stages\.rephrase: 3 of 3 questions failed \(3 status_400\)"):
        rephrased(settings(server), table(TEXTS))


def test_an_answer_whose_content_is_no_text_is_asked_for_again_and_counted(server: Server) -> None:
    parts: Any = [{"type": "text", "text": "THE FIRST"}]
    server.behaviours = [(200, answer(parts))]
    _, facts = rephrased(settings(server), table(TEXTS[:1]))
    assert (facts["retries"], facts["rephrased"]) == (1, 1)
    server.behaviours = [(200, answer(parts))] * 100
    _, facts = rephrased(settings(server, attempts=2, failures=1), table(TEXTS[:1]))
    assert facts["failures"] == {"not_json": 1}


def test_no_answer_is_asked_for_twice_and_the_pinned_bytes_are_the_same(server: Server, tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    data, _ = rephrased(settings(server, at_once=4), table(TEXTS), store)
    server.behaviours = [(500, b"")] * 100
    again, facts = rephrased(settings(server), table(TEXTS), store)
    assert (again, facts["answered_before"], facts["asked"]) == (data, 3, 0)
    server.behaviours = []
    _, facts = rephrased(settings(server), table([*TEXTS, "one more"]), store)
    assert (facts["answered_before"], facts["asked"]) == (3, 1)
    _, facts = rephrased(settings(server, template="Otherwise: {text}"), table(TEXTS), store)
    assert facts["answered_before"] == 0
    assert all(KEY.encode() not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_answers_are_sent_the_leading_characters_and_kept_as_texts_of_sources_are(
    server: Server, tmp_path: Path
) -> None:
    server.behaviours = ["\n cafe\u0301\u200b\r\nau lait \x07 "]
    asked = settings(server, characters=100)
    batch = table(["x" * 300])
    data, _ = rephrased(asked, batch)
    assert column(asked, data, batch, tmp_path)["rephrase"] == [" caf\u00e9\nau lait"]
    assert server.asked[0]["messages"][0]["content"] == TEMPLATE.replace("{text}", "x" * 100)


def test_as_many_are_asked_about_as_the_sample_says_however_shards_are_cut(server: Server) -> None:
    batch = table([f"text {number}" for number in range(60)])
    estimator = RephraseEstimator(settings(server, sample=9, share="50%"), 7)
    whole = estimator.sample(batch.select(list(estimator.reads)))
    parts = pa.concat_tables(
        [estimator.sample(batch.slice(at, 20).select(list(estimator.reads))) for at in (0, 20, 40)]
    )
    assert whole.num_rows == 9
    assert estimator.downsample(parts).sort_by("id").equals(whole.sort_by("id"))


def test_answers_of_documents_that_are_taken_down_are_forgotten_and_those_of_others_stay(
    server: Server, tmp_path: Path
) -> None:
    store = Store(str(tmp_path))
    batch = table(TEXTS)
    gone = {batch["id"][1].as_py()}
    data, _ = rephrased(settings(server), batch, store)
    purge.answers(store, gone)
    kept = b"".join(path.read_bytes() for path in (tmp_path / purge.ANSWERS).rglob("*") if path.is_file())
    assert b"THE SECOND" not in kept
    assert b"THE FIRST" in kept
    left = without_texts(data, gone)
    assert left is not None
    assert column(settings(server), left, batch, tmp_path)["rephrase"] == ["THE FIRST", "", "THE THIRD"]
    assert without_texts(left, gone) is None
    _, facts = rephrased(settings(server), batch.filter(pa.array([True, False, True])), store)
    assert (facts["answered_before"], facts["asked"]) == (2, 0)


def test_how_it_is_asked_is_no_part_of_the_fingerprint_and_what_is(server: Server) -> None:
    known = RephraseEstimator(settings(server), 7).fingerprint
    same = {"key_from": "OTHER", "timeout": 3, "attempts": 2, "at_once": 3, "failures": 0.5, "price": {"prompt": 1}}
    assert RephraseEstimator(settings(server, **same), 7).fingerprint == known
    for other in ({"template": "{text}?"}, {"model": "large"}, {"sample": 9}, {"share": 0.5}, {"answer_tokens": 9}):
        assert RephraseEstimator(settings(server, **other), 7).fingerprint != known


@pytest.mark.parametrize("template", ["no place for it", "{text} twice {text}"])
def test_a_template_has_one_place_for_the_document(server: Server, template: str) -> None:
    with pytest.raises(ValidationError, match=r"`\{text\}`, which stands for the document, has to be in it once"):
        settings(server, template=template)


def test_facts_are_json(server: Server) -> None:
    _, facts = rephrased(settings(server), table(TEXTS))
    assert json.loads(json.dumps(facts)) == facts


def test_answers_of_one_endpoint_are_not_taken_for_those_of_another(server: Server, tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    rephrased(settings(server), table(TEXTS), store)
    other = Server(lambda asked: asked.removeprefix("Say it in other words:\n\n")[::-1])
    data, facts = rephrased(settings(other), table(TEXTS), store)
    other.close()
    assert (facts["answered_before"], facts["asked"]) == (0, 3)
    assert column(settings(other), data, table(TEXTS), tmp_path)["rephrase"] == [text[::-1] for text in TEXTS]
    _, facts = rephrased(settings(server, endpoint=f"{server.url}/"), table(TEXTS), store)
    assert (facts["answered_before"], facts["asked"]) == (3, 0)
