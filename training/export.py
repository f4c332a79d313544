"""Export of a checkpoint to a Hugging Face folder, which transformers' `Auto` classes load.

The weights are the float32 master weights of the checkpoint, as safetensors, in parts where they are large; reading
needs neither DeepSpeed nor the ranks that wrote them.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from data_specs.spec import Spec
from tasks.planning.objectives import BEGIN, END, MASK, numbers
from tasks.storage.pins import Pin, fetched
from tasks.storage.store import BusyError, Store
from tasks.tokenization.tokenizer import load, post_processors
from training import checkpoint, frozen, models
from training.rows import Plan, PlanError

PART = "5GB"
"""Bytes of a file of weights, at most: what hubs take."""


_ADDING = ("TemplateProcessing", "BertProcessing", "RobertaProcessing")
"""Post-processors that put special tokens around a text."""


def folder(run: str) -> str:
    """Where a run is exported to."""
    return f"runs/{run}/export"


def write(
    store: Store,
    spec: Spec,
    plan: Plan,
    run: str,
    step: int,
    tokenizer: Pin,
    into: tuple[Store, str] | None = None,
    new: bool = False,
) -> dict[str, int]:
    """Write the model of a checkpoint and its tokenizer to a folder of a store, by default `runs/<run>/export`, in the
    place of what is there -> size in bytes of each file, by name. The same checkpoint, the same bytes. Raises
    CheckpointError where the checkpoint does not verify, DamagedError where the tokenizer is not what was pinned, and
    where the folder is to be `new` BusyError for one that has a model."""
    import torch
    from transformers import GenerationConfig, PreTrainedTokenizerFast
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    target, where = into or (store, folder(run))
    weights = checkpoint.verified(store, run, step)
    vocabulary = fetched(store, tokenizer["path"], tokenizer["sha256"]).read_bytes()
    loaded = load(vocabulary, tokenizer["path"], spec.tokenizer)
    special = {"eos": loaded.end, "bos": loaded.end, "pad": loaded.pad}  # documents end with one, and begin with none
    ids = {f"{name}_token_id": number for name, number in special.items()}
    added = numbers(plan.special, plan.vocabulary)
    if BEGIN in added:
        ids |= {"decoder_start_token_id": added[BEGIN], "eos_token_id": added[END]}
    config, kind = frozen.config(store, spec, plan, run, step), models.plain(spec.model)
    config.update(ids)
    with torch.device("meta"):
        model = kind(config)
    state = {
        name: torch.from_numpy(frozen.exported(spec, weights.read(name, 0, parameter.numel()))).view(parameter.shape)
        for name, parameter in model.named_parameters()
    }
    sizes: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as temporary:
        model = kind.from_pretrained(None, config=config, state_dict=state)
        if model.can_generate():
            model.generation_config = GenerationConfig(**ids)
            model.config.use_cache = True
        model.save_pretrained(temporary, max_shard_size=PART)
        (Path(temporary) / "vocabulary.json").write_bytes(as_trained(vocabulary))
        encoder = PreTrainedTokenizerFast(
            tokenizer_file=f"{temporary}/vocabulary.json",
            model_max_length=plan.sequence,
            **{f"{name}_token": loaded.encoder.id_to_token(number) for name, number in special.items()},
        )
        if added:
            encoder.add_special_tokens({"additional_special_tokens": list(added)}, replace_extra_special_tokens=False)
            if encoder.convert_tokens_to_ids(list(added)) != list(added.values()):
                raise PlanError(f"{tokenizer['path']} has tokens of its own called like {', '.join(list(added)[:3])}")
            if MASK[0] in added:
                encoder.mask_token = MASK[0]
        if spec.tokenizer.mask:
            encoder.mask_token = spec.tokenizer.mask
        encoder.save_pretrained(temporary)
        (Path(temporary) / "vocabulary.json").unlink()
        for path in sorted(Path(temporary).iterdir()):
            to = f"{where}/{path.name}".removeprefix("/")
            if sizes or not new:
                target.commit(to, path.read_bytes())
            elif not target.create(to, path.read_bytes()):  # of two exports at once one writes the first file
                raise BusyError(f"another model is being written to {target.url}; name a new folder")
            sizes[path.name] = path.stat().st_size
    return sizes


def as_trained(data: bytes) -> bytes:
    """A `tokenizer.json` that encodes a text as those of the training were, without special tokens around it, such as
    the `<s>` that many put before it: the model has not seen them there. The same bytes where it has none."""
    file = json.loads(data)
    each = post_processors(file)
    kept = [one for one in each if one["type"] not in _ADDING]
    if len(kept) == len(each):
        return data
    file["post_processor"] = {"type": "Sequence", "processors": kept} if kept else None
    return json.dumps(file, ensure_ascii=False).encode()
