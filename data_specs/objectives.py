"""Settings of what a model learns to predict. What each asks of a run plan is counted in tasks/planning/objectives.py,
what a model reads of a row is built in training/objectives/, and docs/training.md has the formulas."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from data_specs.base import Settings, Share

Part = Annotated[Share, Field(gt=0, lt=1)]
"""A share that leaves something and takes something."""


class FillInTheMiddle(Settings):
    """Documents of which the middle is moved to their end, where it follows from both sides (Bavarian et al. 2022)."""

    rate: Share = 0.5
    """Share of the documents; which they are follows from their ids and the seed."""
    suffix_first: Share = 0.5
    """Share of those in the order suffix, prefix, middle (SPM); the others have prefix, suffix, middle (PSM)."""


class Causal(Settings):
    """Each token from those before it in its document."""

    kind: Literal["causal"] = "causal"
    fill_in_the_middle: FillInTheMiddle | None = None
    """Turn some documents round before they are packed; null: none."""


class Prefix(Settings):
    """Each token behind a prefix from those before it; the prefix sees itself whole (Raffel et al. 2020). Where a
    document's prefix ends is drawn evenly."""

    kind: Literal["prefix"] = "prefix"


class Masked(Settings):
    """Some tokens from all others in their document (Devlin et al. 2019)."""

    kind: Literal["masked"] = "masked"
    rate: Part = 0.15
    """Share of a row's tokens that are predicted."""
    masks: Share = 0.8
    """Of those, the share that the model reads as the mask token."""
    random: Share = 0.1
    """Of those, the share that it reads as any other token; the rest it reads as they are."""

    @model_validator(mode="after")
    def _whole(self) -> Masked:
        if self.masks + self.random > 1:
            raise ValueError(f"masks and random are shares of one whole, but sum to {self.masks + self.random:g}")
        return self


class SpanCorruption(Settings):
    """Spans, each replaced by one token, from the text around them (Raffel et al. 2020)."""

    kind: Literal["span_corruption"] = "span_corruption"
    density: Part = 0.15
    """Share of a row's tokens that are in such spans."""
    mean_span: Annotated[float, Field(ge=1)] = 3.0
    """Their mean length."""


class Permutation(Settings):
    """The last tokens of a random order from those before them in that order (Yang et al. 2019)."""

    kind: Literal["permutation"] = "permutation"
    predicted: Part = 1 / 6
    """Share of a row's tokens that are predicted; the others are seen alone."""


_Name = Literal["causal", "prefix", "masked", "span_corruption", "permutation"]


def _named(value: Any) -> Any:
    """`masked` for `{kind: masked}`."""
    return {"kind": value} if isinstance(value, str) else value


Objective = Annotated[
    Annotated[Causal | Prefix | Masked | SpanCorruption | Permutation, Field(discriminator="kind")],
    BeforeValidator(_named, json_schema_input_type=_Name | Causal | Prefix | Masked | SpanCorruption | Permutation),
]
"""An objective, or its name for the settings that its paper has."""

ARCHITECTURES = {
    "causal": "llama",
    "prefix": "llama",
    "masked": "bert",
    "span_corruption": "t5",
    "permutation": "xlnet",
}
"""The architecture that an objective trains."""
