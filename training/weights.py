"""Weights that were trained elsewhere: those of a folder as transformers writes it, and whether what they were trained
as is what `model` builds.

Names and sizes do not tell: of other heads, another base of RoPE, another activation, or without norms that the folder
has, the same weights are another function, which trains and is worse.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from data_specs.spec import Spec
from data_specs.training import Model
from tasks.storage.store import Store, StoreError
from training import models
from training.checkpoint import Checkpoint, CheckpointError
from training.rows import Plan, PlanError

Arrays = dict[str, dict[str, np.ndarray]]
"""Parameter -> its weight and what else a checkpoint has of it."""
SETTINGS = {
    "num_attention_heads": "heads",
    "num_heads": "heads",
    "n_head": "heads",
    "num_key_value_heads": "kv_heads",
    "rms_norm_eps": "norm_eps",
    "layer_norm_eps": None,
    "layer_norm_epsilon": None,
    "hidden_act": None,
    "ff_activation": None,
    "feed_forward_proj": None,
    "sliding_window": None,
    "relative_attention_num_buckets": None,
    "relative_attention_max_distance": None,
}
"""What a configuration says of the function and sizes do not show -> the setting of `model` for it, where there is
one."""
SAME = {"llama": ("mistral",)}
"""Type of a model -> others of transformers' that are the same function, where SETTINGS are the same."""
IDLE = ("pooler", "seq_relationship")
"""Parts of the names of weights of published BERTs that no token is predicted by."""


def of_folder(spec: Spec, folder: str) -> Arrays:
    """The weights of a folder as transformers writes it, by name. Raises CheckpointError where they are others than
    `model` has, or were trained as another function."""
    from transformers.utils import logging

    logging.set_verbosity_error()  # what is missing is raised
    kind = models.plain(spec.model)
    _same_type(kind.config_class.model_type, folder)
    try:
        model, found = kind.from_pretrained(folder, local_files_only=True, output_loading_info=True)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"training.start.folder: {folder} cannot be loaded ({error})") from error
    if missing := sorted(found["missing_keys"]):
        raise CheckpointError(
            f"training.start: {folder} is of another architecture than `model`: it lacks {missing[0]}"
        )
    if more := sorted(name for name in found["unexpected_keys"] if not any(part in name for part in IDLE)):
        raise CheckpointError(
            f"training.start: {folder} is of another architecture than `model`, which has no {more[0]}"
        )
    was = models.config(Model(folder=folder), 8, 8) if spec.model.architecture == "causal" else model.config
    same_function(spec, was.to_dict(), folder)
    return {name: {"weight": parameter.detach().float().numpy()} for name, parameter in model.named_parameters()}


def _same_type(wanted: str, folder: str) -> None:
    """Raises CheckpointError where a folder is of another class of transformers than `model`. Several have a Llama's
    names and sizes and are another function: Granite multiplies what a layer adds, Gemma adds one to a norm's weight,
    SmolLM3 has layers without RoPE."""
    try:
        found = json.loads((Path(folder) / "config.json").read_bytes()).get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"training.start.folder: {folder} cannot be loaded ({error})") from error
    if found not in (wanted, *SAME.get(wanted, ())):
        raise CheckpointError(
            f"training.start: {folder} is a {found}, `model` a {wanted}: its weights are another function"
        )


def config_of_run(store: Store, run: str, found: Checkpoint) -> dict[str, Any]:
    """What the model of a checkpoint was, as transformers says it; with the base of RoPE of the phase that it is in,
    where the run's plan is still there."""
    model = Model.model_validate(found.model)
    try:
        plan = Plan.read(store, store.json(f"runs/{run}/run.json")["plan"])
        base = plan.phases[found.cursor.phase].rope_theta
    except (FileNotFoundError, StoreError, PlanError):
        base = None
    if base:
        model = model.model_copy(update={"rope_theta": base})
    made: dict[str, Any] = models.config(model, 8, 8).to_dict()
    return made


def same_function(spec: Spec, was: dict[str, Any], what: str) -> None:
    """Raises CheckpointError where `model` builds another function than weights were trained as, `was` in the terms of
    transformers. Another base of RoPE may be wanted, where `model` or the first phase says one."""
    now = models.config(spec.model, 8, 8).to_dict()
    compared = SETTINGS if spec.model.architecture != "causal" else dict.fromkeys(sorted(now.keys() | was.keys()))
    for name, setting in compared.items():
        if was.get(name) != now.get(name):
            do = f"set model.{setting}: {was.get(name)}" if setting else "`model` has no setting for it"
            raise CheckpointError(
                f"training.start: {what} was trained with {name} {was.get(name)}, `model` has {now.get(name)}: {do}"
            )
    before, after = was.get("rope_parameters") or {}, now.get("rope_parameters") or {}
    if before.get("rope_type") != after.get("rope_type"):
        raise CheckpointError(
            f"training.start: {what} turns queries and keys by RoPE of the type {before.get('rope_type')}, `model` by "
            f"{after.get('rope_type')}"
        )
    phases = spec.mixture.phases
    chosen = "rope_theta" in spec.model.model_fields_set or bool(phases and phases[0].rope_theta)
    if before.get("rope_theta") != after.get("rope_theta") and not chosen:
        raise CheckpointError(
            f"training.start: {what} was trained with a base of RoPE of {before.get('rope_theta'):,.0f}, `model` has "
            f"{after.get('rope_theta'):,.0f}: set model.rope_theta to that, or to another that is meant"
        )
