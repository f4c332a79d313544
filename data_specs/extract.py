"""Settings of extraction: what becomes of a page of HTML."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from data_specs.base import Bytes, Settings, is_empty

Extractor = Literal["trafilatura", "resiliparse"]
"""What takes the main text from a page."""


class Extract(Settings):
    """Main text and metadata of HTML pages, in a watched child process: docs/extraction.md."""

    kind: Literal["extract"] = "extract"
    extractor: Annotated[Extractor, Field(exclude_if=lambda extractor: extractor == "trafilatura")] = "trafilatura"
    """trafilatura (Barbaresi 2021), or resiliparse (Bevendorff et al. 2018), which DCLM used: many times as fast, with
    more of what surrounds a text; title, date, author and site are then read from a page's markup alone."""
    by_page_type: Annotated[bool, Field(exclude_if=is_empty)] = False
    """Whether extraction is fitted to the type of a page (article, forum, product, ...): each of its blocks is judged,
    by what the extractor took among other measures, and formulas, tables, lists and code are written by Sluice."""
    format: Annotated[Literal["text", "markdown"], Field(exclude_if=lambda form: form == "text")] = "text"
    """Whether headings, lists, tables and code are marked as in Markdown, which takes `by_page_type`."""
    metadata: Annotated[Literal["searched", "stated"], Field(exclude_if=lambda metadata: metadata == "searched")] = (
        "searched"
    )
    """Where title, date, author and site are from: `searched`, what the page states, and what trafilatura and htmldate
    find in its text; `stated`, the markup alone, which costs a fiftieth of it. With resiliparse they are `stated`."""
    costliest: Annotated[float, Field(gt=0)] = 10.0
    """Seconds that a page may cost by what it holds: elements, links, cells of tables, text. It is counted before the
    extraction, the same on every machine; of 6,327 pages the dearest counts 6.2, one in a thousand more than 3."""
    cpu_seconds: Annotated[float, Field(gt=0)] = 40.0
    """CPU seconds after which extraction is ended, the last resort: four times what a page within the measure costs."""
    memory: Bytes = 2**30
    """Bytes one document may cost above the child's baseline."""
    wall_seconds: Annotated[float, Field(gt=0)] = 300.0
    """Wall seconds after which a child is taken for hung."""
    largest: Bytes = 8 * 2**20
    """Largest HTML in bytes, after decoding."""
    deepest: Annotated[int, Field(ge=8, le=255)] = 200
    """Deepest nesting of elements; libxml2 gives up silently at 255."""
    fast: bool = True
    """Without trafilatura's fallback extractors: a fifth faster, F1 .920 instead of .926 on its evaluation pages."""

    @model_validator(mode="after")
    def _markdown(self) -> Self:
        if self.format == "markdown" and not self.by_page_type:
            raise ValueError("`format: markdown` takes `by_page_type: true`")
        return self
