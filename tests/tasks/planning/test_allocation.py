"""What a corpus lacks for its mixture, and that following what is said, to the letter, makes the mixture possible."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_specs.spec import Spec
from tasks.planning.allocation import allot
from tasks.planning.mixture import MixtureError, schedule
from tasks.planning.packing import Documents
from tests.tasks.planning.test_mixture import PHASES, make_spec


def documents(lengths: list[int], good: list[bool] | None = None) -> Documents:
    """Documents of so many tokens, of which `good` pass the `where` of any phase."""
    count = len(lengths)
    hashes = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    where = np.array(good if good is not None else [True] * count, bool)
    none = np.zeros(count, np.int64)
    return Documents(none.astype(np.int32), none, np.array(lengths, np.int32), hashes, dict.fromkeys(range(9), where))


def lack(spec: Spec, train: dict[str, Documents]) -> str | None:
    """What is said of a mixture that cannot be met; None of one that can."""
    train = {name: train.get(name, documents([])) for name in spec.channels}
    sizes = {name: int(found.length.sum(dtype=np.int64)) for name, found in train.items()}
    try:
        phases = schedule(spec, sizes)
        _, streams = allot(spec, phases, train)
    except MixtureError as error:
        return str(error)
    asked = [{n: rows * spec.training.sequence + 1 for n, rows in phase.rows.items() if rows} for phase in phases]
    assert [{name: int(stream.length.sum()) for name, stream in found.items()} for found in streams] == asked
    return None


ONE = ({"until": 1, "weights": {"zh": 0.5, "en": 0.4, "code": 0.1}},)
PLENTY = documents([30_000] * 100)


def test_a_shortage_reads_like_the_spec() -> None:
    train = {"zh": PLENTY, "en": PLENTY, "code": documents([30_602])}
    assert lack(make_spec(phases=ONE, epochs={"default": 4, "code": 2}), train) == (
        "mixture: code needs 159,745 tokens at weight .10 but has 61,204 under 2 epochs; "
        "raise mixture.epochs.code to 6, or lower the weight to .0358"
    )


def test_a_shortage_names_its_phase_and_what_the_earlier_ones_used() -> None:
    train = {"zh": PLENTY, "en": PLENTY, "code": documents([20_000, 300_000], [True, False])}
    assert lack(make_spec(phases=PHASES, epochs={"default": 1.5}), train) == (
        "mixture: code needs 32,001 tokens at weight .10 but has 10,000 under 1.5 epochs "
        "in phase 2 where quality > 0.5; raise mixture.epochs.code to 3, or lower the weight to .029"
    )


def test_several_shortages_are_told_with_what_helps_all_of_them() -> None:
    train = {"zh": documents([100_000]), "en": PLENTY, "code": documents([30_000])}
    message = lack(make_spec(phases=ONE), train)
    assert message is not None
    assert message.splitlines() == [
        "mixture: zh needs 798,721 tokens at weight .50 but has 400,000 under 4 epochs; raise mixture.epochs.zh to 8",
        "mixture: code needs 159,745 tokens at weight .10 but has 120,000 under 4 epochs; "
        "raise mixture.epochs.code to 6",
        "mixture: or, without more epochs, lower the weights to zh .148, code .0444",
    ]


@pytest.mark.parametrize(
    ("few", "weight", "told"),
    [
        ([], 0.5, "zh needs 443,649 tokens at weight .50 but has 0 under 4 epochs; leave it out of the weights"),
        ([90], 0.5, "under 4 epochs; raise mixture.epochs.zh to 4930, or lower the weight to .000208"),
        ([60], 0.5, "under 4 epochs; raise mixture.epochs.zh to 7395, or leave it out of the weights"),
        ([60], 0.0012, "needs 1,537 tokens at weight .0012 but has 240 under 4 epochs; raise mixture.epochs.zh to 26"),
    ],
)
def test_a_channel_with_next_to_nothing_is_told_a_weight_that_can_be_written(
    few: list[int], weight: float, told: str
) -> None:
    phases = ({"until": 1, "weights": {"zh": weight, "en": 1.3}},)
    message = lack(make_spec(phases=phases), {"zh": documents(few), "en": PLENTY})
    assert message is not None
    assert told in message


def test_where_weights_cannot_help_the_budget_is_lowered_and_without_documents_nothing_helps() -> None:
    alone = ({"until": 1, "weights": {"zh": 1.0}},)
    spec = make_spec(phases=alone, epochs={"default": 0.5})
    told = "mixture: zh needs 1,597,441 tokens at weight 1.00 but has 50,000 under 0.5 epochs; "
    assert lack(spec, {"zh": documents([100_000])}) == (
        f"{told}raise mixture.epochs.zh to 16, or lower mixture.tokens to 49,152 (6 steps)"
    )
    steps = spec.model_copy(update={"training": spec.training.model_copy(update={"steps": 195})})
    told += "raise mixture.epochs.zh to 16, or lower training.steps to 6"
    assert lack(steps, {"zh": documents([100_000])}) == told
    assert str(lack(spec, {})).endswith("has 0 under 0.5 epochs; find more documents, or leave the channel out")


WEIGHT = st.one_of(st.just(0.0), st.just(1e-9), st.floats(1e-4, 50))
CHANNELS = ("zh", "en", "code")


@st.composite
def mixtures(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Documents]]:
    """A spec's mixture, on rows of 8 tokens in steps of 4, and documents, often too few."""
    train = {}
    for name in CHANNELS:
        lengths = draw(st.lists(st.integers(2, draw(st.sampled_from([9, 400, 9000]))), max_size=8))
        train[name] = documents(lengths, [draw(st.booleans()) for _ in lengths])
    ends = draw(st.sampled_from([[], [1.0], [0.3, 1.0], [0.25, 0.5, 1.0]]))
    phases = [
        {
            "until": end,
            "weights": draw(st.fixed_dictionaries(dict.fromkeys(CHANNELS, WEIGHT)).filter(lambda w: sum(w.values()))),
            "where": draw(st.sampled_from([None, None, "quality > 0.5"])),
        }
        for end in ends
    ]
    epochs = {name: draw(st.sampled_from([0.5, 1, 1.5, 4])) for name in CHANNELS}
    return {"tokens": 32 * draw(st.integers(4, 400)), "phases": phases, "epochs": epochs}, train


def small(mixture: dict[str, Any]) -> Spec:
    training = {"workers": 1, "sequence": 8, "batch": {"tokens": 32, "micro": 4}}
    return Spec.model_validate(make_spec().model_dump(mode="json") | {"mixture": mixture, "training": training})


def weights_told(message: str, phases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Phases with the weights that the message tells in the place of theirs."""
    changed = [phase | {"weights": dict(phase["weights"])} for phase in phases]
    if single := re.search(r"(?:lower the weight to ([\d.]+)|leave it out of the weights)$", message):
        channel, number = re.search(r"mixture: (\w+) needs", message), re.search(r"in phase (\d)", message)
        assert channel
        changed[int(number[1]) - 1 if number else 0]["weights"][channel[1]] = float(single[1] or 0)
        return changed
    listed = re.search(r"lower the weights to (.*)$", message)
    assert listed
    for part in listed[1].split(" and "):
        entries, _, number = part.partition(" in phase ")
        for entry in entries.split(", "):
            name, weight = entry.split(" ")
            assert float(weight) < changed[int(number or 1) - 1]["weights"][name]
            changed[int(number or 1) - 1]["weights"][name] = float(weight)
    return changed


@pytest.mark.slow
@settings(deadline=None, max_examples=300)
@given(mixtures())
def test_following_what_is_said_to_the_letter_makes_the_mixture_possible(
    given: tuple[dict[str, Any], dict[str, Documents]],
) -> None:
    mixture, train = given
    message = lack(small(mixture), train)
    if message is None or "needs" not in message:
        return
    followed = 0
    if raised := re.findall(r"raise mixture\.epochs\.(\w+) to (\d+)", message):
        epochs = mixture["epochs"] | {name: int(number) for name, number in raised}
        assert lack(small(mixture | {"epochs": epochs}), train) is None
        for name, number in raised:
            fewer = small(mixture | {"epochs": epochs | {name: int(number) - 1 or 0.5}})
            assert f"mixture: {name} needs" in str(lack(fewer, train))
        followed += 1
    if "weight" in message.rpartition("epochs")[2]:
        phases = weights_told(message, mixture["phases"])
        assert lack(small(mixture | {"phases": phases}), train) is None
        followed += 1
    if tokens := re.search(r"lower mixture\.tokens to ([\d,]+) \(([\d,]+) steps\)$", message):
        fewer = int(tokens[1].replace(",", ""))
        assert fewer == 32 * int(tokens[2].replace(",", ""))
        assert lack(small(mixture | {"tokens": fewer}), train) is None
        followed += 1
    assert followed or message.endswith("find more documents, or leave the channel out")
