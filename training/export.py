"""Export of a checkpoint to a Hugging Face folder, which `AutoModelForCausalLM` and `AutoTokenizer` load.

The weights are the float32 master weights of the checkpoint, as safetensors; reading needs neither DeepSpeed nor the
ranks that wrote them.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from data_specs.spec import Spec
from tasks.store import Store
from training import model as architecture
from training.checkpoint import Reader, load
from training.rows import Plan

END = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>")
"""Names of the special token that ends a document: ours, Llama 3's, Llama 2's, Gemma's."""
PAD = ("<|pad|>", "<pad>")


def special_tokens(tokenizer: bytes) -> dict[str, tuple[str, int]]:
    """`eos`, `bos` and `pad` of a tokenizer.json as (content, id). Documents end with `eos`; it is `bos` too, and `pad`
    where the tokenizer has none. Raises ValueError without it."""
    ids = {token["content"]: token["id"] for token in json.loads(tokenizer)["added_tokens"]}
    end = next((name for name in END if name in ids), None)
    if end is None:
        raise ValueError(f"the tokenizer has no special token that ends a document; one of {', '.join(END)} is needed")
    pad = next((name for name in PAD if name in ids), end)
    return {"eos": (end, ids[end]), "bos": (end, ids[end]), "pad": (pad, ids[pad])}


def export(store: Store, spec: Spec, plan: Plan, run: str, step: int, tokenizer: str) -> str:
    """Write `runs/<run>/export/` from the checkpoint of a step -> its path. The same checkpoint, the same bytes."""
    import torch
    from transformers import GenerationConfig, LlamaForCausalLM, PreTrainedTokenizerFast
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    weights = Reader(store, run, load(store, run, step))
    vocabulary = store.read(tokenizer)
    special = special_tokens(vocabulary)
    ids = {f"{name}_token_id": number for name, (_, number) in special.items()}
    config = architecture.config(spec.model, plan.vocabulary, plan.sequence)
    config.update(ids)
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    state = {
        name: torch.from_numpy(weights.read(name, 0, parameter.numel())["weight"]).view(parameter.shape)
        for name, parameter in model.named_parameters()
    }
    folder = f"runs/{run}/export"
    with tempfile.TemporaryDirectory() as temporary:
        model = LlamaForCausalLM.from_pretrained(None, config=config, state_dict=state)
        model.generation_config = GenerationConfig(**ids)
        model.config.use_cache = True
        model.save_pretrained(temporary)
        (Path(temporary) / "vocabulary.json").write_bytes(vocabulary)
        PreTrainedTokenizerFast(
            tokenizer_file=f"{temporary}/vocabulary.json",
            model_max_length=plan.sequence,
            **{f"{name}_token": content for name, (content, _) in special.items()},
        ).save_pretrained(temporary)
        (Path(temporary) / "vocabulary.json").unlink()
        for path in sorted(Path(temporary).iterdir()):
            store.commit(f"{folder}/{path.name}", path.read_bytes())
    return folder
