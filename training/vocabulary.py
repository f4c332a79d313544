"""The vocabulary of a training: its tokenizer, and the bytes that each token spells."""

from __future__ import annotations

import numpy as np
import torch

from data_specs.spec import Spec
from tasks.storage.pins import Pin, Pins, fetched
from tasks.storage.store import Store
from tasks.tokenization.spelled import token_bytes
from tasks.tokenization.tokenizer import Loaded, load
from training.rows import Plan, PlanError

LEFT_TO_RIGHT = ("causal", "prefix")
"""Objectives under which the losses of a text's tokens add up to that of its bytes."""


def pinned_tokenizer(store: Store, spec: Spec, plan: Plan) -> Pin:
    """The pin of the tokenizer whose digest the plan's token files are named by. Raises PlanError."""
    named = {path.split("/")[1].partition("@")[0] for path in plan.files}
    for pin in reversed(Pins(store, spec.name).history.get("tokenizer", ())):
        if all(pin["sha256"].startswith(digest) for digest in named):
            return pin
    raise PlanError(f"the tokenizer of {plan.path}, whose digest begins with {', '.join(named)}, is not pinned")


def loaded_tokenizer(store: Store, pin: Pin, spec: Spec) -> Loaded:
    """The tokenizer of a training, which ends texts as the spec says."""
    data = fetched(store, pin["path"], pin["sha256"]).read_bytes()
    return load(data, pin["path"], spec.tokenizer)


def bytes_of_tokens(plan: Plan, loaded: Loaded, device: torch.device) -> torch.Tensor | None:
    """Of each entry of the vocabulary the bytes that it spells, float64 [V], where every token is predicted from those
    before it and the bytes are known; else None."""
    spelled = token_bytes(loaded) if plan.objective.kind in LEFT_TO_RIGHT else None
    if spelled is None:
        return None
    behind = np.zeros(plan.vocabulary - len(spelled))  # special tokens and reserved entries
    return torch.from_numpy(np.concatenate([spelled, behind])).to(device)
