"""The models, by architecture: classes of transformers, drawn from the run's seed, fed rows of several documents.

Guarantee: documents in a row do not see each other, so a document has the logits that it has alone. An architecture is
a module here with `config` and `Packed`; a model is called with a batch's `inputs`, `positions` and what its objective
has beside them, and gives logits [m, L, V], those of the batch's labels.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_specs.training import Model, Training
from tasks.engine.stage import digest
from training.models.counts import flops, parameters, row_flops
from training.objectives import Batch

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig

__all__ = [
    "ModelError",
    "bf16",
    "build",
    "chunked_losses",
    "config",
    "flops",
    "logits",
    "parameters",
    "plain",
    "processor_has_bf16",
    "row_flops",
    "set_rope_base",
]


class ModelError(ValueError):
    """A model that cannot be trained on rows of several documents; the message says why."""


def _of(settings: Model) -> Any:
    """The module of an architecture; it imports torch."""
    return import_module(f"training.models.{'qwen3' if settings.qk_norm else settings.architecture}")


def _packed(settings: Model) -> Any:
    """The class that reads batches."""
    module = _of(settings)
    return module.packed(settings) if settings.architecture == "causal" else module.Packed


def config(settings: Model, vocabulary: int, sequence: int) -> PretrainedConfig:
    """The architecture in transformers' terms, without special tokens; `sequence` is the most positions of a row."""
    return _of(settings).config(settings, vocabulary, sequence)


def build(settings: Model, vocabulary: int, sequence: int, seed: int) -> Any:
    """The model in float32, its weights drawn from the run's seed: the same on every rank. Raises ModelError, of any
    causal model, where it cannot be trained on rows of several documents."""
    import torch

    torch.manual_seed(int(digest([seed, "model"])[:15], 16))
    kind = _packed(settings)
    attention = getattr(kind, "attention", "sdpa" if kind._supports_sdpa else "eager")
    made = kind._from_config(config(settings, vocabulary, sequence), attn_implementation=attention)
    if settings.depth_scaled_init:
        from training.models import llama

        llama.scale_by_depth(made)
    return _of(settings).prepared(made) if settings.architecture == "causal" else made


def prepare(model: Any, training: Training, compiled: bool) -> None:
    """How it computes: attention, what it keeps for the way back, and whether its layers are compiled. Raises
    ModelError."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    if training.attention != "auto" and not hasattr(model, "attention"):  # which is how those with their own say so
        try:
            model.set_attn_implementation(training.attention)
        except (ValueError, ImportError) as error:
            kind = model.config.model_type
            raise ModelError(f"training.attention: a {kind} has no {training.attention} ({error})") from error
    if training.activation_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    if compiled:
        import torch._dynamo

        torch._dynamo.config.disable = False
        for layer in model.modules():
            if isinstance(layer, GradientCheckpointingLayer):
                layer.compile()


def plain(settings: Model) -> Any:
    """The class of transformers that a model is exported to."""
    return _packed(settings).__bases__[0]


def set_rope_base(model: Any, base: float) -> None:
    """Turn the queries and keys of a Llama by another base from here on."""
    from training.models import llama

    llama.set_rope_base(model, base)


def logits(model: Any, batch: Batch, device: torch.device) -> torch.Tensor:
    """What a model, or the engine around it, makes of a batch: [m, L, V], those of its labels."""
    return model(**_read(batch, device))


def chunked_losses(
    model: Any, batch: Batch, device: torch.device, labels: torch.Tensor, z_loss: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """What is minimised and the token losses of a batch, without logits that are held whole (`models.head`)."""
    return model(**_read(batch, device), labels=labels, z_loss=z_loss)


def _read(batch: Batch, device: torch.device) -> dict[str, torch.Tensor]:
    """What a model reads of a batch."""
    import numpy as np
    import torch

    arrays = {"inputs": batch.inputs, "positions": batch.positions, **batch.more}
    return {name: torch.from_numpy(np.ascontiguousarray(a)).to(device) for name, a in arrays.items()}


def bf16(training: Training, device: torch.device) -> bool:
    """Whether to train in bf16. `auto`: on CUDA devices and processors with a bf16 unit (elsewhere bf16 is emulated:
    1,045 against 9,300 tokens/s for 1.7M parameters on AVX2 alone)."""
    import torch

    if training.precision != "auto":
        return training.precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return processor_has_bf16()


def processor_has_bf16() -> bool:
    """Whether this machine's processor has a bf16 unit."""
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text().split() if cpuinfo.exists() else []
    return any(flag in flags for flag in ("avx512_bf16", "amx_bf16", "bf16"))
