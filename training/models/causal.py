"""Any causal model of transformers, as the `config.json` of a folder says it (`model.folder`); without dropout.

No attention mask and no cache are passed, and positions restart at each document: most classes of transformers mask by
document then. Whether one does is tried on the model itself when it is built (`check`), before any step.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import CONFIG_MAPPING, AutoConfig, PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING
from transformers.pytorch_utils import Conv1D

from data_specs.training import Model
from training.loss import minimised, token_losses
from training.models import ModelError
from training.models.head import Head

LENGTHS = (7, 9)
"""Tokens of the documents that `check` tries a model with."""
TOLERANCE = 1e-4
"""By which logits may differ for rounding, as a share of their standard deviation; classes that mask by document stay
below 2e-6."""


def config(settings: Model, vocabulary: int, sequence: int) -> PretrainedConfig:
    """As the folder has it, with this vocabulary. Raises ModelError."""
    del sequence  # data_specs/spec.py holds it against the model's positions
    special = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
    try:
        made = AutoConfig.for_model(**settings.config, **special, vocab_size=vocabulary, use_cache=False)
    except (ValueError, TypeError) as error:
        raise ModelError(f"model.folder: transformers does not know this model ({error})") from error
    for name, value in made.to_dict().items():
        if "drop" in name and isinstance(value, float):
            setattr(made, name, 0.0)
    return made


def packed(settings: Model) -> type[Any]:
    """The class of a model, which reads batches. Raises ModelError where transformers has no causal one."""
    return _packed(config(settings, 8, 8).model_type)


@cache
def _packed(model_type: str) -> type[Any]:
    kind = CONFIG_MAPPING[model_type]
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ModelError(f"model.folder: transformers has no causal model of the type {model_type}")
    plain = MODEL_FOR_CAUSAL_LM_MAPPING[kind]

    def forward(
        self: Any, inputs: torch.Tensor, positions: torch.Tensor, labels: torch.Tensor | None = None, z_loss: float = 0
    ) -> Any:
        """Logits, or with labels what `models.head.Head` gives."""
        read = {"input_ids": inputs, "position_ids": positions, "use_cache": False}
        if labels is not None and self.plain_head:
            return self.get_output_embeddings()(self.base_model(**read)[0], labels=labels, z_loss=z_loss)
        logits = plain.forward(self, **read).logits
        if labels is None:
            return logits
        losses = token_losses(logits, labels)
        return minimised(losses, logits, labels, z_loss), losses.detach()

    return type("Packed", (plain,), {"forward": forward, "place": None, "plain_head": False})


def prepared(model: Any) -> Any:
    """The model that was built, tried. Its loss is computed by chunks where logits are its output matrix's alone:
    others cap or scale them. Raises ModelError where documents of a row would not have the logits they have alone."""
    kind = model.config.model_type
    if any("expert" in name and value for name, value in model.config.to_dict().items() if isinstance(value, int)):
        raise ModelError(f"model.folder: a {kind} has experts, and a loss that spreads tokens over them is not there")
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            _check(model, kind)
            head = model.get_output_embeddings()
            if isinstance(head, nn.Linear) and _by_head_alone(model, head):
                head.__class__ = Head
                model.plain_head = True
    finally:
        model.train(training)
    return model


def _tokens(model: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, model.config.vocab_size, (1, sum(LENGTHS)), generator=generator)


def _check(model: Any, kind: str) -> None:
    """Raises ModelError where a document in a row, or the beginning of one, has other logits than it has alone."""
    tokens, first = _tokens(model), LENGTHS[0]
    both = torch.tensor([[*range(first), *range(LENGTHS[1])]])
    try:
        together = model(tokens, both)
        parts = [slice(0, first), slice(first, None), slice(first, first + 4)]
        alone = [model(tokens[:, part], both[:, part]) for part in parts]
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError, NotImplementedError) as error:
        raise ModelError(f"model.folder: a {kind} does not read rows of several documents ({error})") from error
    allowed = TOLERANCE * float(together.std())
    apart = [float((together[:, part] - each).abs().max()) for part, each in zip(parts, alone, strict=True)]
    if not max(apart[:2]) <= allowed:
        raise ModelError(
            f"model.folder: a {kind} does not keep the documents of a row apart: logits differ by up to "
            f"{max(apart[:2]):.2g} from those that a document has alone"
        )
    if not apart[2] <= allowed:
        raise ModelError(f"model.folder: a {kind} is not causal: what comes later changes a token's logits")


def _by_head_alone(model: Any, head: nn.Module) -> bool:
    """Whether logits are what the output matrix makes of the last hidden states; these are made large here, so that a
    cap shows."""
    hidden: list[torch.Tensor] = []

    def enlarge(_: nn.Module, __: Any, output: Any) -> Any:
        output.last_hidden_state = output.last_hidden_state * 1000
        hidden.append(output.last_hidden_state)
        return output

    hook = model.base_model.register_forward_hook(enlarge)
    try:
        tokens = _tokens(model)
        logits = model(tokens, torch.arange(tokens.shape[1])[None])
    finally:
        hook.remove()
    return torch.allclose(head(hidden[0]), logits, rtol=1e-4, atol=TOLERANCE * float(logits.std()))


class Count(NamedTuple):
    """What a model has, counted by building it without its weights."""

    parameters: int
    multiplied: int
    """Of these, in matrices that multiply each token, the output's among them."""
    queries: int
    """The width of a layer's queries."""
    inner: int
    """What the widest matrix of a layer reads: the width of what is between the two of a feed-forward network."""


@cache
def count(config_json: str, vocabulary: int) -> Count:
    """Nothing is drawn."""
    made = config(Model(architecture="causal", config=json.loads(config_json)), vocabulary, 8)
    with torch.device("meta"):
        model = _packed(made.model_type)(made)
    linear = [module for module in model.modules() if isinstance(module, nn.Linear | Conv1D)]
    width = getattr(made, "head_dim", None) or made.hidden_size // made.num_attention_heads
    return Count(
        sum(parameter.numel() for parameter in model.parameters()),
        sum(module.weight.numel() for module in linear),
        width * made.num_attention_heads,
        max(module.in_features if isinstance(module, nn.Linear) else module.nx for module in linear),
    )
