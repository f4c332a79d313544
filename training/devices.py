"""What a training asks of its device, and what no device has."""

from __future__ import annotations

from importlib.util import find_spec

from data_specs.spec import Spec


class DeviceError(ValueError):
    """A setting that the device does not have; the message names it."""


def check(spec: Spec, cuda: bool) -> None:
    """Raises DeviceError for a setting that cannot be had where the training runs."""
    training = spec.training
    if not cuda:
        asked = {
            "device: cuda": training.device == "cuda",
            "precision: fp16": training.precision == "fp16",
            "attention: flash_attention_2": training.attention == "flash_attention_2",
            f"offload: {training.offload}": training.offload != "none",
        }
        if wrong := [name for name, on in asked.items() if on]:
            raise DeviceError(f"training.{wrong[0]} is for GPUs, and this training runs on processors")
    if training.attention == "flash_attention_2" and find_spec("flash_attn") is None:
        raise DeviceError("training.attention: flash_attention_2 needs the package flash-attn, which is not installed")


def compiles(spec: Spec, cuda: bool) -> bool:
    """Whether layers are compiled."""
    if spec.training.compile == "auto":
        return cuda and spec.training.zero < 3 and spec.model.architecture != "xlnet"
    return spec.training.compile
