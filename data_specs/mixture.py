"""Settings of the mixture: how much of each channel is trained on, in which phases and order."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from data_specs.base import Count, Expression, Label, Name, Settings, Share, is_empty, is_unset, parse_tokens
from data_specs.objectives import Objective

Packing = Literal["end_to_end", "best_fit"]
Folder = Annotated[str, Field(pattern=r"^plans/[^/]+@[0-9a-f]+$")]
Weight = Annotated[float, Field(ge=0, le=1e15), BeforeValidator(parse_tokens, json_schema_input_type=float | str)]


class Curriculum(Settings):
    """Documents from one end of a column to the other (Bengio et al. 2009), in bins of as many documents of each
    channel, so that channels stay even; inside a bin they are shuffled."""

    by: Name
    """Column of numbers, such as perplexity or quality; documents without one are in the last bin."""
    bins: Annotated[int | None, Field(ge=2, le=1000)] = 10
    """Bins; null: documents stand exactly in the order of the column."""
    descending: bool = False
    """The highest first."""
    rows: Annotated[Literal["in_order", "shuffled"], Field(exclude_if=lambda rows: rows == "in_order")] = "in_order"
    """Whether training goes along the order, or only what stands together in a row is by it, and rows are shuffled: for
    documents beside their neighbours, `{by: neighbours, bins: null, rows: shuffled}`."""


class Phase(Settings):
    """A stretch of training with one mixture; what it does not say of rows, batch and objective, `training` says."""

    until: Share
    """Share of the token budget at which the phase ends."""
    weights: dict[Label, Weight]
    """Weight per channel, of tokens, such as 0.4, or tokens themselves, such as 8G; made to sum to 1."""
    where: Expression | None = None
    """Only documents for which this is true."""
    sequence: Annotated[int | None, Field(ge=8, exclude_if=is_unset)] = None
    """Positions of a row. Micro-batches keep their tokens: of rows twice as long they have half as many."""
    batch: Annotated[Count | None, Field(ge=1, exclude_if=is_unset)] = None
    """Tokens of a step over all ranks."""
    objective: Annotated[Objective | None, Field(exclude_if=is_unset)] = None
    """What is predicted; of the same architecture as `training.objective`."""
    rope_theta: Annotated[float | None, Field(gt=0, exclude_if=is_unset)] = None
    """Base of RoPE from here on, as longer rows need a larger one (Xiong et al. 2023)."""
    packing: Annotated[Packing | None, Field(exclude_if=is_unset)] = None
    """How documents become rows, where that is not `mixture.packing`."""
    order: Annotated[Curriculum | None, Field(exclude_if=is_unset)] = None
    """In which order; null: shuffled."""


class Cell(Settings):
    """Documents that stand in an epoch more often than once, or less."""

    where: Expression
    """Which documents."""
    times: Annotated[float, Field(ge=0, le=100)]
    """How often each is in an epoch: 3; or 0.5, half of them, chosen by a hash."""


FINEWEB2 = {2: 2.0, 3: 3.0, 5: 5.0, 100: 8.0, 1000: 1.0}
"""How often FineWeb2's authors repeat a document by the size of its cluster of duplicates: twice of 2 documents, 3
times of 3 or 4, 5 times of 5 to 99, 8 of 100 to 999, once of more."""


class Mixture(Settings):
    """How much of each channel is trained on."""

    tokens: Count = 1_600_000
    """Token budget of the run."""
    epochs: dict[str, Annotated[float, Field(gt=0)]] = {"default": 4.0}
    """How often a document may be used, per channel, and `default` (4: Muennighoff et al. 2023)."""
    phases: tuple[Phase, ...] = ()
    """In order; the last ends at 100%. Empty: one phase, every channel by its size."""
    temperature: Annotated[float, Field(ge=1, le=1e6, exclude_if=lambda temperature: temperature == 1)] = 1.0
    """Without phases, a channel's share is as its size to the power of one over this: 1 as the sizes are, higher ones
    more even (Devlin 2018; Conneau et al. 2020)."""
    seen: Annotated[tuple[Folder, ...], Field(exclude_if=is_empty)] = ()
    """Plans of earlier trainings in this store, such as plans/demo@0d78403e697f00aa: documents that they read, of
    trainings that stopped early so far, come after those that were read less often, and their uses count towards
    `epochs`."""
    repeat: Annotated[tuple[Cell, ...], Field(exclude_if=is_empty)] = ()
    """Cells of the corpus, such as quality by topic, and how often their documents stand in an epoch; the first that a
    document is in. Those in none stand once. `epochs` are of what stands in one."""
    rehydration: Annotated[
        Literal["fineweb2"] | dict[Annotated[int, Field(ge=1)], Annotated[float, Field(ge=0, le=100)]] | None,
        Field(exclude_if=is_unset),
    ] = None
    """How often a document stands in an epoch by the size of its cluster of duplicates: {from so many documents:
    times}, or FineWeb2's table; times what `repeat` says."""
    host_tokens: Annotated[Count | None, Field(ge=1, exclude_if=is_unset)] = None
    """Tokens of one host (without `www.`) in an epoch of a channel, at most: of its documents the first by a hash."""
    repetitions: Annotated[int | None, Field(ge=2, exclude_if=is_unset)] = None
    """Documents in which the same 1 to 13 tokens stand so often in a row, or more, are left out of the plan (32 in OLMo
    2's trainings, whose losses they made spike)."""
    packing: Annotated[Packing, Field(exclude_if=lambda packing: packing == "end_to_end")] = "end_to_end"
    """Documents end to end, cut wherever a row is full; or whole where they fit into a row, which fits best (Ding et
    al. 2024), with some padding."""
    cut_at: Annotated[Literal["anywhere", "line", "sentence"], Field(exclude_if=lambda at: at == "anywhere")] = (
        "anywhere"
    )
    """Where `best_fit` cuts documents that are longer than a row: where it is full, or before that at the last end of a
    line, or of a sentence or line, in the row's second half."""
    shards: Literal["tokens", "rows"] = "tokens"
    """Train from the token shards, or from rows written in order as Arrow IPC (for object stores)."""

    @model_validator(mode="after")
    def _even(self) -> Mixture:
        if self.temperature != 1 and self.phases:
            raise ValueError("temperature is for channels by their sizes; phases have weights")
        return self

    @property
    def cluster_times(self) -> dict[int, float]:
        """Size of a cluster from which its documents are repeated -> times."""
        return FINEWEB2 if self.rehydration == "fineweb2" else dict(self.rehydration or {})

    def cap(self, channel: str) -> float:
        return self.epochs.get(channel, self.epochs.get("default", 4.0))
