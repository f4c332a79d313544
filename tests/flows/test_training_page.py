"""The page of channel losses that is written anew while a training runs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from flows import prefect_ui, training_page
from flows.training_page import LiveLosses


def step(number: int, loss: float) -> dict[str, Any]:
    about = {"tokens_per_second": 1234.5, "loader": 0.01, "seconds": 1.0, "memory": 2**20}
    return {"kind": "step", "step": number, "channels": {"en": (loss, 10), "zh": (None, 0)}, **about}


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What Prefect is given: the first page, then its updates."""
    given: list[str] = []

    class Page:
        id = 7

        def __init__(self, markdown: str, **_: Any) -> None:
            given.append(markdown)

        def create(self, **_: Any) -> Any:
            return self

    client = SimpleNamespace(update_artifact=lambda number, update: given.append(update.data))
    monkeypatch.setattr(training_page, "MarkdownArtifact", Page)
    monkeypatch.setattr(training_page, "get_client", lambda **_: client)
    return given


def losses() -> LiveLosses:
    return LiveLosses(SimpleNamespace(spec=SimpleNamespace(name="s"), name="r", plan_facts={"steps": 50}))


def test_a_page_is_written_at_the_first_step_and_again_when_it_is_due(
    pages: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = losses()
    told({"kind": "start", "step": -1})
    assert pages == []
    told(step(1, 5.0))
    told(step(2, 4.0))
    assert len(pages) == 1  # not at every step
    assert row_of(pages[0]) == ["en", "", "5.000", "", "", "", ""]  # nothing is summed yet
    assert "after step" not in pages[0]
    means = {"": {"en": {"loss": 4.5, "perplexity": 90.0171, "tokens": 20}}}
    told({"kind": "losses", "step": 2, "window": means, "total": means})
    told({"kind": "held_out", "step": 2, "losses": {"en": 4.25}})
    told({"kind": "checkpoint", "step": 2, "stall": 1.5})
    told.due = 0.0
    told(step(3, 3.0))
    assert "step 3 of 50; 1,234 tokens/s; waits for rows 1.0 % of a step; 1 MiB; 1.5 s stalled" in pages[1]
    assert "tokens and means of steps are those after step 2." in pages[1]
    assert row_of(pages[1]) == ["en", "20", "3.000", "4.500", "90.017", "4.500", "4.250"]


def row_of(page: str) -> list[str]:
    """What the table of a page says of a channel."""
    row = next(line for line in page.splitlines() if line.startswith("| en"))
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_steps_that_are_taken_back_leave_the_picture_and_many_are_thinned(
    pages: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = losses()
    for number in range(1, 11):
        told(step(number, 5.0))
    told({"kind": "start", "step": 4})
    assert [entry["step"] for entry in told.entries] == [1, 2, 3, 4]
    assert told.page() == ""  # until the next step: the last is taken again
    for number in range(5, 3 * training_page.MOST):
        told(step(number, 5.0))
    assert len(told.entries) <= training_page.MOST + 1
    assert told.entries[-1]["step"] > 3 * training_page.MOST - 8


def test_evaluations_and_sums_of_steps_that_are_taken_back_leave_the_page(pages: list[str]) -> None:
    told = losses()
    means = {"": {"en": {"loss": 4.5, "perplexity": 90.0171, "tokens": 20, "bits_per_byte": 1.25}}}
    for number in (2, 4):
        told(step(number, 5.0))
        told({"kind": "held_out", "step": number, "losses": {"en": float(number)}})
        told({"kind": "losses", "step": number, "window": means, "total": means})
    assert told.page().splitlines()[-2].endswith("4.500 | 90.017 | 1.250 | 4.500 | 4.000 |")
    told({"kind": "start", "step": 2})
    told(step(3, 5.0))
    row = next(line for line in told.page().splitlines() if line.startswith("| en"))
    assert [cell.strip() for cell in row.strip("|").split("|")][-1] == "2.000"
    assert [record["step"] for record in told.evaluations] == [2]


def test_a_page_that_cannot_be_written_ends_nothing(pages: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(prefect_ui, "warn", said.append)

    def refused(**_: Any) -> Any:
        raise training_page.httpx.ConnectError("no server")

    monkeypatch.setattr(training_page, "MarkdownArtifact", refused)
    losses()(step(1, 5.0))
    assert said == ["the page of channel losses could not be written (no server); it is tried again"]
