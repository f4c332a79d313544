"""Settings of the stages that bring labels of documents: from files, or from a model that judges by a rubric."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from data_specs.base import Count
from data_specs.endpoint import Asking
from data_specs.stage import Stage


class Labels(Stage):
    """Numbers that files give documents, as people or models labelled them."""

    kind: Literal["labels"] = "labels"
    path: str
    """A JSONL, CSV or Parquet file on every node, the first two plain or in gzip; or a pattern of such."""
    by: Literal["url", "id", "text"] = "url"
    """The field of a line that says which document it labels: the same column of the document; `id` in hexadecimal."""
    value: str = "label"
    """The field with the number; lines without one are left out, but not all lines of a file."""


class Judge(Asking):
    """Numbers that a language model behind an OpenAI-compatible endpoint gives a sample of the documents, by a rubric
    (FineWeb-Edu; Penedo et al. 2024). Learned once and pinned; no answer is asked for twice."""

    kind: Literal["judge"] = "judge"
    rubric: Annotated[str, Field(min_length=1)]
    """What the model is told before the document: what the number means, and how to come to it."""
    lowest: Annotated[float, Field(ge=-(2**24))] = 0
    """The lowest number that is one."""
    highest: Annotated[float, Field(le=2**24)] = 5
    """The highest."""
    sample: Annotated[Count, Field(ge=1)] = 1000
    """Documents of each language that are asked about, at most."""
    votes: Annotated[int, Field(ge=1, le=9)] = 1
    """How often each is asked about; the number is the mean, and how far answers differ is counted."""
    temperature: Annotated[float, Field(ge=0, le=2)] = 0
    """How much chance there is in an answer; with several `votes` more than none."""

    @model_validator(mode="after")
    def _scale(self) -> Self:
        if self.lowest >= self.highest:
            raise ValueError(f"lowest is {self.lowest:g}, not below highest, {self.highest:g}")
        return self
