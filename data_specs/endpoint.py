"""Settings of what asks a language model behind an OpenAI-compatible endpoint."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from data_specs.base import Settings, Share
from data_specs.stage import Stage


class Price(Settings):
    """What an endpoint charges, in any currency, for a million tokens."""

    prompt: Annotated[float, Field(ge=0)] = 0
    """For those that are sent."""
    answer: Annotated[float, Field(ge=0)] = 0
    """For those that come back."""


class Asking(Stage):
    """A stage that asks."""

    endpoint: Annotated[str, Field(pattern=r"^https?://\S+$")]
    """Where the interface begins: `/chat/completions` is added."""
    model: str
    """The model that is asked."""
    key_from: Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")] = "OPENAI_API_KEY"
    """The variable of the environment, on every node, that holds the key; none is sent where it is not set."""
    temperature: Annotated[float, Field(ge=0, le=2)] = 0
    """How much chance there is in an answer."""
    characters: Annotated[int, Field(ge=100)] = 4000
    """Leading characters of a document that are sent."""
    failures: Share = 0.1
    """Largest share of the questions that may fail; with more nothing is pinned, and the run stops."""
    at_once: Annotated[int, Field(ge=1, le=256)] = 8
    """Questions that wait for an answer at a time."""
    attempts: Annotated[int, Field(ge=1, le=20)] = 5
    """Times that a question is asked whose answer does not come, each after twice the wait."""
    timeout: Annotated[float, Field(gt=0)] = 120
    """Seconds that an answer may take."""
    price: Price = Price()
    """What tokens cost."""

    ASKING: ClassVar[frozenset[str]] = frozenset({"key_from", "failures", "at_once", "attempts", "timeout", "price"})
    """How it is asked, which shapes no answer."""
