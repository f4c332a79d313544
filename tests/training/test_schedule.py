"""The learning rate against transformers' schedules, which are an oracle from the end of the warm-up on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers
from pydantic import ValidationError

from data_specs.training import LearningRate
from flows.commands import forecast_printed
from training.schedule import learning_rate

WIDTH = 64


def oracle(name: str, steps: int, **settings: Any) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=2.0)
    schedule = getattr(transformers, f"get_{name}")(optimizer, **settings)
    rates = []
    for _ in range(steps):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return rates


def rates(steps: int = 100, **settings: Any) -> list[float]:
    return [learning_rate(step, steps, LearningRate(**settings), WIDTH) for step in range(steps)]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"schedule": "cosine"}, ("cosine_schedule_with_warmup", {"num_training_steps": 100})),
        (
            {"schedule": "cosine", "floor": 0.1},
            ("cosine_with_min_lr_schedule_with_warmup", {"num_training_steps": 100, "min_lr_rate": 0.1}),
        ),
        ({"schedule": "linear"}, ("linear_schedule_with_warmup", {"num_training_steps": 100})),
        ({"schedule": "inverse_sqrt"}, ("inverse_sqrt_schedule", {})),
        ({"schedule": "constant"}, ("constant_schedule_with_warmup", {})),
        *(
            (
                {"schedule": "wsd", "decay": 0.25, "shape": shape, "floor": floor},
                (
                    "wsd_schedule",
                    {"num_training_steps": 100, "num_decay_steps": 25, "decay_type": shape, "min_lr_ratio": floor},
                ),
            )
            for shape in ("linear", "cosine", "1-sqrt")
            for floor in (0.0, 0.1)
        ),
    ],
    ids=str,
)
def test_a_schedule_is_that_of_transformers_after_warm_up(
    settings: dict[str, Any], expected: tuple[str, dict[str, Any]]
) -> None:
    name, options = expected
    wanted = oracle(name, 100, num_warmup_steps=10, **options)
    assert np.allclose(rates(peak=2.0, warmup=10, **settings)[10:], wanted[10:], rtol=1e-12)


def test_noam_is_the_formula_of_its_paper() -> None:
    """Vaswani et al. 2017, section 5.3: width^-.5 min(n^-.5, n warmup^-1.5) at the n-th step, counted from 1; what
    follows the warm-up counts from 0, as the other schedules do."""
    found = rates(peak=3.0, schedule="noam", warmup=10)
    steps = [*range(1, 11), *range(10, 100)]
    assert np.allclose(found, [3 * WIDTH**-0.5 * min(n**-0.5, n * 10**-1.5) for n in steps], rtol=1e-12)


def test_an_exponential_decay_falls_by_the_same_factor_at_each_step() -> None:
    found = rates(peak=2.0, schedule="wsd", warmup=10, decay=0.5, shape="exponential", floor=0.01)
    assert found[10:51] == [2.0] * 41
    assert np.allclose(np.diff(np.log(found[50:])), np.log(0.01) / 50)


@pytest.mark.parametrize("schedule", ["wsd", "cosine", "linear", "inverse_sqrt", "noam", "constant"])
def test_warm_up_is_linear_to_the_peak_and_nothing_falls_below_the_floor(schedule: Any) -> None:
    found = rates(60, peak=3.0, schedule=schedule, warmup=6, floor=0.1)
    peak = max(found)
    assert peak == pytest.approx(3.0 if schedule != "noam" else 3.0 * (WIDTH * 6) ** -0.5)
    assert np.allclose(found[:6], peak * np.arange(1, 7) / 6)
    assert min(found[6:]) >= 0.1 * peak
    assert (np.diff(found[6:]) <= 0).all()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"schedule": "cosine", "shape": "1-sqrt"}, "shape is how wsd decays"),
        ({"shape": "exponential"}, "needs a floor above 0"),
        ({"schedule": "noam", "warmup": 0}, "needs a warm-up"),
    ],
)
def test_settings_of_which_one_would_be_without_effect_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        LearningRate(**settings)


def test_a_shape_that_is_not_asked_for_leaves_a_training_its_identity() -> None:
    assert "shape" not in LearningRate().model_dump()
    assert LearningRate(shape="1-sqrt").model_dump()["shape"] == "1-sqrt"


def test_a_plan_draws_the_rate_from_the_first_step_to_the_last() -> None:
    drawn = forecast_printed.drawn([1.0, 2.0, 4.0, 4.0, 0.0])
    assert drawn == "▂▄██ "
