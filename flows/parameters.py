"""Parameters of flows as Prefect keeps and shows them: without credentials. The process that masked them knows what
they were; another, which Prefect starts, gets them as they were given to Prefect."""

from __future__ import annotations

from data_specs.redaction import redacted

_given: dict[str, str] = {}


def masked(value: str) -> str:
    """A parameter without its credentials."""
    shown = redacted(value)
    if shown != value:
        _given[shown] = value
    return shown


def whole(value: str) -> str:
    """A parameter as it was given."""
    return _given.get(value, value)
