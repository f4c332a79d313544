"""What a device does not have is refused by name."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from data_specs.spec import Spec
from data_specs.training import Training
from tests.training_plan import spec
from training import devices
from training.identity import identity


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ({"device": "cuda"}, "device: cuda"),  # under torchrun, where Ray does not place it
        ({"precision": "fp16", "zero": 1}, "precision: fp16"),
        ({"attention": "flash_attention_2"}, "attention: flash_attention_2"),
        ({"offload": "optimizer"}, "offload: optimizer"),
        ({"offload": "weights", "zero": 3}, "offload: weights"),
    ],
)
def test_what_needs_a_gpu_is_refused_by_name_without_one(setting: dict[str, Any], named: str) -> None:
    with pytest.raises(devices.DeviceError, match=f"{named} is for GPUs"):
        devices.check(spec(**setting), cuda=False)


def test_compilation_is_automatic_on_gpus_alone() -> None:
    assert devices.compiles(spec(), cuda=True)
    assert not devices.compiles(spec(zero=3), cuda=True)
    assert not devices.compiles(spec(), cuda=False)
    assert devices.compiles(spec(compile=True), cuda=False)


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        ({"precision": "fp16", "zero": 0}, "needs zero 1, 2 or 3"),
        ({"offload": "optimizer", "zero": 0}, "needs zero 1, 2 or 3"),
        ({"offload": "weights", "zero": 2}, "needs zero 3"),
        ({"compile": True, "zero": 3}, "compile is for zero 0 to 2"),
    ],
)
def test_settings_that_exclude_each_other_are_refused(setting: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Training(**setting)


@pytest.mark.parametrize("setting", [{"muon": {}}, {"activation_checkpointing": True}, {"compile": True}])
def test_what_an_xlnet_does_not_do_is_refused_by_name(setting: dict[str, Any]) -> None:
    given = spec(objective="causal", **setting).model_dump(mode="json")
    with pytest.raises(ValidationError, match=rf"training.{next(iter(setting))}: an xlnet's layers"):
        training = given["training"] | {"objective": "permutation"}
        Spec.model_validate(given | {"model": {"architecture": "xlnet", "kv_heads": 2}, "training": training})


def test_what_only_says_how_a_training_is_computed_is_not_in_its_identity() -> None:
    plain = identity(spec(), "plan")
    same: list[dict[str, Any]] = [
        {"chunked_loss": True}, {"attention": "eager"}, {"compile": True}, {"activation_checkpointing": True},
        {"offload": "optimizer"},
    ]  # fmt: skip
    assert {identity(spec(**setting), "plan") for setting in same} == {plain}
    others: list[dict[str, Any]] = [{"z_loss": 1e-4}, {"muon": {}}, {"average": {}}]
    assert len({plain, *(identity(spec(**setting), "plan") for setting in others)}) == 4
    kept = {"average": {"evaluate": False, "export": False}}
    assert identity(spec(**kept), "plan") == identity(spec(average={}), "plan")
