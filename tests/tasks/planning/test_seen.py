"""What earlier trainings read, temperature, tokens as weights, and budgets at the end of an epoch."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from data_specs.objectives import Causal
from tasks.planning.files import read_rows
from tasks.planning.mixture import MixtureError
from tasks.planning.run_plan import build, plan_folder
from tasks.planning.seen import _usage, elsewhere_in_words
from tasks.planning.trace import row_documents, usage
from tests.tasks.planning.test_run_plan import ROWS, SEQUENCE, VOCABULARY, Corpus, make_spec

STEP = SEQUENCE * ROWS


def made(corpus: Corpus, key: str, **mixture: Any) -> tuple[str, dict[str, Any]]:
    spec = make_spec(("a", "b"), mixture.pop("tokens"), **mixture)
    return plan_folder(spec, key * 32), build(spec, VOCABULARY, key * 32, corpus.shards, corpus.store)


def uses(corpus: Corpus, folder: str) -> Counter[tuple[str, int]]:
    table = usage(corpus.store, folder)
    return Counter({(row["file"], row["offset"]): row["uses"] for row in table.to_pylist()})


def test_documents_that_an_earlier_plan_read_come_after_those_that_it_did_not() -> None:
    corpus = Corpus([[("ab"[number % 2], 10, False) for number in range(each)] for each in (120, 80)])
    first, _ = made(corpus, "0", tokens=STEP * 25)
    second, plan = made(corpus, "1", tokens=STEP * 25, seen=[first])
    alone, _ = made(corpus, "2", tokens=STEP * 25)
    before, after = uses(corpus, first), uses(corpus, second)
    assert uses(corpus, alone) == before
    both = [place for place in before if before[place] and after[place]]
    assert sum(map(bool, before.values())) > 70
    assert len(both) <= 2  # one of each channel at most, where both ended
    assert sum(each["used"] for each in plan["usage"].values()) <= STEP * 25 + 2
    assert all(int(count) <= 1 for each in plan["usage"].values() for count in each["counts"])


def test_earlier_uses_count_towards_the_epochs() -> None:
    corpus = Corpus([[("a", 10, False)] * 100 + [("b", 10, False)] * 100])
    first, _ = made(corpus, "0", tokens=STEP * 40, epochs={"default": 1})
    made(corpus, "1", tokens=STEP * 20, epochs={"default": 1}, seen=[first])
    made(corpus, "4", tokens=STEP * 20, epochs={"default": 1}, seen=[first, first])  # named twice, read once
    with pytest.raises(MixtureError, match=r"needs .* tokens"):
        made(corpus, "2", tokens=STEP * 40, epochs={"default": 1}, seen=[first])
    with pytest.raises(MixtureError, match=r"mixture\.seen: there is no plan plans/other@0000"):
        made(corpus, "3", tokens=STEP * 40, seen=["plans/other@0000"])


def test_of_a_plan_that_was_trained_on_in_part_the_rows_of_that_part_count() -> None:
    corpus = Corpus([[("ab"[number % 2], 10, False) for number in range(each)] for each in (120, 80)])
    first, plan = made(corpus, "0", tokens=STEP * 40, epochs={"default": 4})
    rows = plan["phases"][0]["rows"]
    before = uses(corpus, first)

    def counted(*trained: list[tuple[int, int, int]]) -> Counter[tuple[str, int]]:
        number = {path: place for place, (path, _) in enumerate(corpus.shards)}
        file, offset, found, _ = _usage(corpus.store, first, number, trained)
        names = [*number]
        return Counter(
            {(names[f], o): u for f, o, u in zip(file.tolist(), offset.tolist(), found.tolist(), strict=True)}
        )

    def begun(part: range) -> Counter[tuple[str, int]]:
        read = row_documents(corpus.store, first, 0, 0, rows).to_pylist()
        mine = (row for row in read if row["row"] in part and row["length"] > 1)
        return Counter((row["file"], row["offset"]) for row in mine) & before

    assert counted([(0, 0, rows)]) == begun(range(rows))
    assert (before - begun(range(rows))).total() <= 2  # of each channel one, of which its last row has the first token
    assert 0 < counted([(0, 0, 20)]).total() < before.total()
    for part in (range(12), range(5, 40)):
        assert counted([(0, part.start, len(part))]) == begun(part)
    assert counted([(0, 0, 4), (0, 4, 8)]) == begun(range(12))
    assert counted([(0, 0, 12)], [(0, 0, 40)]) == begun(range(40))  # of two trainings the one that read more
    assert counted([]) == Counter()


@pytest.mark.parametrize("objective", [{}, {"fill_in_the_middle": {"rate": 0.5}}], ids=["plain", "turned"])
def test_a_use_of_a_document_that_is_cut_between_rows_counts_once(objective: dict[str, Any]) -> None:
    """Also where a row ends with its first token, with which the next one begins; and where it is turned round, so that
    all its segments have the offset of its first token."""
    lengths = [2 + 7 * number % 37 for number in range(60)]
    corpus = Corpus([[("a", length, False) for length in lengths]])
    spec = make_spec(("a",), STEP * 60, epochs={"default": 4})
    training = spec.training.model_copy(update={"objective": Causal.model_validate(objective)})
    spec = spec.model_copy(update={"training": training})
    plan = build(spec, VOCABULARY, "0" * 32, corpus.shards, corpus.store)
    folder, half = plan_folder(spec, "0" * 32), plan["phases"][0]["rows"] // 2
    [name] = [name for name in plan["content"] if name.startswith("rows-")]
    begun: Counter[int] = Counter()
    for row in read_rows(corpus.store, f"{folder}/{name}", plan["content"][name]).slice(0, half).to_pylist():
        turned = row.get("turned", [0] * len(row["offset"])), row.get("start", [0] * len(row["offset"]))
        for offset, length, use, start in zip(row["offset"], row["length"], *turned, strict=True):
            begun[offset] += length > 1 and (not use or start == 0)  # its second token is its first target
    starts = np.cumsum([0, *lengths[:-1]]).tolist()
    number = {path: place for place, (path, _) in enumerate(corpus.shards)}
    _, offset, found, _ = _usage(corpus.store, folder, number, [[(0, 0, half)]])
    assert dict(zip(offset.tolist(), found.tolist(), strict=True)) == {at: begun[at] for at in starts if begun[at]}


def test_a_plan_is_made_after_what_was_trained_on() -> None:
    corpus = Corpus([[("a", 10, False)] * 100 + [("b", 10, False)] * 100])
    first, _ = made(corpus, "0", tokens=STEP * 40, epochs={"default": 1})
    spec = make_spec(("a", "b"), STEP * 20, seen=[first])
    plan = build(spec, VOCABULARY, "1" * 32, corpus.shards, corpus.store, trained={first: [[(0, 0, 40)]]})
    assert plan["seen"][first]["rows"] == 40
    whole = build(spec, VOCABULARY, "2" * 32, corpus.shards, corpus.store)
    assert plan["seen"][first]["documents"] < whole["seen"][first]["documents"]
    assert "rows" not in whole["seen"][first]


@pytest.mark.parametrize(("temperature", "share"), [(1.0, 0.8), (2.0, 2 / 3), (1e6, 0.5)])
def test_a_temperature_evens_out_sizes(temperature: float, share: float) -> None:
    corpus = Corpus([[("a", 10, False)] * 400 + [("b", 10, False)] * 100])
    _, plan = made(corpus, "0", tokens=STEP * 50, temperature=temperature)
    assert abs(plan["phases"][0]["channels"]["a"]["rows"] / (50 * ROWS) - share) <= 1 / (50 * ROWS)
    with pytest.raises(ValueError, match="temperature is for channels by their sizes"):
        make_spec(("a",), STEP, temperature=2.0, phases=[{"until": 1.0, "weights": {"a": 1}}])


def test_weights_may_be_tokens() -> None:
    corpus = Corpus([[("a", 10, False)] * 200 + [("b", 10, False)] * 200])
    phase = {"until": 1.0, "weights": {"a": f"{STEP * 30}", "b": "0.32K"}}
    _, plan = made(corpus, "0", tokens=STEP * 40, phases=[phase])
    rows = {name: each["rows"] * SEQUENCE for name, each in plan["phases"][0]["channels"].items()}
    assert rows == {"a": STEP * 30, "b": 320}


@pytest.mark.parametrize("more", [0, 1, STEP - 1])
def test_a_budget_that_ends_at_or_just_behind_an_epoch_reads_nothing_of_the_next_one(more: int) -> None:
    tokens = STEP * 10 + 1  # rows overlap by a token
    documents = [("a", 3, False)] * (tokens // 3)
    corpus = Corpus([documents])
    spec = make_spec(("a",), STEP * 10 + more, epochs={"default": 2})
    plan = build(spec, VOCABULARY, "0" * 32, corpus.shards, corpus.store)
    assert plan["steps"] == 10
    assert plan["usage"]["a"]["counts"].keys() == {"1"}


def test_an_earlier_plan_of_whose_documents_nothing_is_known_is_refused_and_some_are_told() -> None:
    documents = [("ab"[number % 2], 10, False) for number in range(120)]
    corpus = Corpus([documents, documents])
    first, plan = made(corpus, "0", tokens=STEP * 25)
    read = sum(map(bool, uses(corpus, first).values()))
    elsewhere = sum(bool(count) for (file, _), count in uses(corpus, first).items() if file == corpus.shards[0][0])
    _, before = made(corpus, "1", tokens=STEP * 5, seen=[first])
    assert "seen" not in plan
    assert before["seen"] == {first: {"documents": read, "elsewhere": 0}}
    assert elsewhere_in_words(before["seen"]) == ""
    [(path, table), other] = corpus.shards
    corpus.shards = [(f"{path}-anew", table), other]
    _, after = made(corpus, "2", tokens=STEP * 5, seen=[first])
    assert after["seen"] == {first: {"documents": read, "elsewhere": elsewhere}}
    assert f"of the {read:,} documents that {first} read {elsewhere:,} count as not read" in elsewhere_in_words(
        after["seen"]
    )
    corpus.shards = [(f"{path}-anew", table) for path, table in corpus.shards]
    with pytest.raises(MixtureError, match=rf"nothing is known of the {read} documents that {first} read"):
        made(corpus, "3", tokens=STEP * 5, seen=[first])
