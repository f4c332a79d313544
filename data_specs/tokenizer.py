"""Settings of the tokenizer."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from data_specs.base import Bytes, Settings, is_empty, is_unset

SPECIAL = 2
"""Special tokens of a learned tokenizer: end of text, padding."""


class Tokenizer(Settings):
    """Learned by channel weight and pinned, or loaded (docs/tokenizers.md)."""

    kind: Literal["byte-bpe", "bpe", "wordpiece", "unigram", "file"] = "byte-bpe"
    """Learn a byte-level BPE (Sennrich et al. 2016; Radford et al. 2019), a BPE over characters that spells unknown
    ones in bytes, a WordPiece over bytes (Schuster & Nakajima 2012) or a unigram model (Kudo 2018); or load `path`."""
    path: str | None = None
    """`tokenizer.json` to load; for kind `file`."""
    vocabulary: Annotated[int, Field(ge=300, le=2**24)] = 8192
    """Entries, special tokens included."""
    sample: Annotated[Bytes, Field(ge=1, le=2**30)] = 64 * 2**20
    """Bytes of text learned from, at most; one process holds them."""
    reserved: Annotated[int, Field(ge=0, le=1024)] = 16
    """Special tokens kept free for later use."""
    augmented: Annotated[bool, Field(exclude_if=is_empty)] = False
    """Whether texts that stages make of documents are learned from, too, each stage's by its weight in the mixture."""
    digits: Annotated[Literal["one", "threes"], Field(exclude_if=lambda digits: digits == "one")] = "one"
    """Digits stand one by one, or by threes from the right of a number."""
    end: Annotated[str | None, Field(min_length=1, exclude_if=is_unset)] = None
    """The token of a loaded tokenizer that ends a document; by default the first there is of `<|endoftext|>`,
    `<|end_of_text|>`, `</s>`, `<eos>` and `<|eos|>`."""
    pad: Annotated[str | None, Field(min_length=1, exclude_if=is_unset)] = None
    """The one that pads rows; by default `<|pad|>`, or else the one that ends a document."""
    mask: Annotated[str | None, Field(min_length=1, exclude_if=is_unset)] = None
    """The one that a masked objective puts in the place of others; by default one is added, `<mask>`."""

    @model_validator(mode="after")
    def _consistent(self) -> Tokenizer:
        if (self.kind == "file") != (self.path is not None):
            raise ValueError("path is for kind `file`, and kind `file` needs a path")
        learned = {"vocabulary", "sample", "reserved", "digits", "augmented"}
        if self.kind == "file" and (idle := self.model_fields_set & learned):
            raise ValueError(f"{', '.join(sorted(idle))} is for a tokenizer that is learned; a file has its own")
        if self.kind != "file" and (idle := self.model_fields_set & {"end", "pad", "mask"}):
            raise ValueError(f"{', '.join(sorted(idle))} is for kind `file`; a learned tokenizer has its own")
        fewest = 256 * (2 if self.kind == "wordpiece" else 1) + SPECIAL + self.reserved
        if self.vocabulary < fewest:
            parts = f"256 bytes, {SPECIAL} special tokens and {self.reserved} reserved ones"
            twice = ", those of wordpiece twice," if self.kind == "wordpiece" else ""
            raise ValueError(f"vocabulary is {self.vocabulary}, but {parts}{twice} are {fewest}")
        return self
