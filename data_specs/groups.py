"""What groups of documents by the value of a column are called, where people or files are told of them."""

from __future__ import annotations

NOTHING = "none"
"""The group of the documents that have no value."""


def named(value: str | None) -> str:
    """The name of a group. No two values have one: a value that is spelled as NOTHING, bare or in quotation marks,
    stands in a pair of them: `'none'`."""
    if value is None:
        return NOTHING
    return f"'{value}'" if value.strip("'") == NOTHING else value
