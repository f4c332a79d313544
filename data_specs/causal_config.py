"""What of a `config.json` of transformers makes a causal model the model that it is (`model.folder`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_IDLE = frozenset(
    {
        "_name_or_path", "architectures", "auto_map", "bos_token_id", "dtype", "eos_token_id", "pad_token_id",
        "torch_dtype", "transformers_version", "use_cache", "vocab_size",
    }
)  # fmt: skip
"""What says how the folder was written, or which tokens are special: those of the tokenizer are."""
_NAMES = {
    "hidden": ("hidden_size", "n_embd", "d_model"),
    "layers": ("num_hidden_layers", "n_layer", "num_layers"),
    "heads": ("num_attention_heads", "n_head", "num_heads"),
    "kv_heads": ("num_key_value_heads", "num_attention_heads", "n_head", "num_heads"),
    "intermediate": ("intermediate_size", "n_inner", "ffn_dim", "hidden_size", "n_embd", "d_model"),
    "tied": ("tie_word_embeddings",),
}
"""Setting of `model` -> what configurations call it, the first that is there."""


def read(folder: str) -> dict[str, Any]:
    """The settings of `model` that a folder's `config.json` gives. Raises ValueError where it has none."""
    path = Path(folder) / "config.json"
    try:
        said = json.loads(path.read_bytes())
        kind = said["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no config.json of transformers ({error})") from None
    if "auto_map" in said and said["auto_map"].get("AutoModelForCausalLM"):
        raise ValueError(f"{path}: a {kind} comes with code of its own, which is not run")
    config = {name: value for name, value in said.items() if name not in _IDLE and value is not None}
    found = {name: next((config[each] for each in names if each in config), None) for name, names in _NAMES.items()}
    if missing := [name for name in ("hidden", "layers", "heads") if found[name] is None]:
        raise ValueError(f"{path} does not say {', '.join(_NAMES[name][0] for name in missing)}: is it a causal model?")
    return {name: value for name, value in found.items() if value is not None} | {"config": config}


def positions(config: dict[str, Any]) -> int | None:
    """The most positions of a row, where a configuration has a limit."""
    return next((config[name] for name in ("max_position_embeddings", "n_positions") if name in config), None)
