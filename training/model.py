"""The model: a Llama architecture (Touvron et al. 2023) from transformers, fed rows of several documents.

Guarantee: documents in a row do not see each other. Positions restart at each of them and no attention mask and no
cache are passed, which is what makes transformers mask by document: another document's tokens move no logit at all.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_specs.training import Model, Training
from tasks.engine.stage import digest

if TYPE_CHECKING:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM


def parameters(settings: Model, vocabulary: int) -> int:
    """Number of parameters, without building the model."""
    head = settings.hidden // settings.heads
    attention = settings.hidden * head * (2 * settings.heads + 2 * settings.kv_heads)
    layer = attention + 3 * settings.hidden * settings.intermediate + 2 * settings.hidden
    embeddings = vocabulary * settings.hidden * (1 if settings.tied else 2)
    return embeddings + settings.layers * layer + settings.hidden


def flops(settings: Model, vocabulary: int, sequence: int) -> int:
    """Floating-point operations of training on one token: 6 per weight that multiplies (Kaplan et al. 2020), the output
    matrix among them, and 12 x layers x hidden x sequence for attention (Chowdhery et al. 2022, appendix B)."""
    norms = (2 * settings.layers + 1) * settings.hidden
    weights = parameters(settings, vocabulary) - norms - (0 if settings.tied else vocabulary * settings.hidden)
    return 6 * weights + 12 * settings.layers * settings.hidden * sequence


def config(settings: Model, vocabulary: int, sequence: int) -> LlamaConfig:
    """The architecture in transformers' terms, without special tokens."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=settings.hidden,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.kv_heads,
        intermediate_size=settings.intermediate,
        max_position_embeddings=sequence,
        rope_parameters={"rope_type": "default", "rope_theta": settings.rope_theta},
        tie_word_embeddings=settings.tied,
        use_cache=False,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )


def build(settings: Model, vocabulary: int, sequence: int, seed: int) -> LlamaForCausalLM:
    """The model in float32, its weights drawn from the run's seed: the same on every rank."""
    import torch
    from transformers import LlamaForCausalLM

    torch.manual_seed(int(digest([seed, "model"])[:15], 16))
    return LlamaForCausalLM._from_config(config(settings, vocabulary, sequence), attn_implementation="sdpa")


def logits(model: Any, inputs: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """inputs and positions int64 [m, T] -> logits [m, T, V]."""
    return model(input_ids=inputs, position_ids=positions, use_cache=False).logits


def groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups: weight decay on matrices only."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]


def bf16(training: Training, device: torch.device) -> bool:
    """Whether to train in bf16. `auto`: on CUDA devices and processors with a bf16 unit (elsewhere bf16 is emulated:
    1,045 against 9,300 tokens/s for 1.7M parameters on AVX2 alone)."""
    import torch

    if training.precision != "auto":
        return training.precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text().split() if cpuinfo.exists() else []
    return any(flag in flags for flag in ("avx512_bf16", "amx_bf16", "bf16"))
