"""`sluice inspect`: one document."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from flows.cli.command import cli, print_json, reading

if TYPE_CHECKING:
    from flows.run import Run


@cli.command()
@reading
@click.argument("document")
def inspect(current: Run, document: str, as_json: bool) -> None:
    """Show one document of SPEC: its verdict and what led to it, its text, every column.

    DOCUMENT is its URL, or its id in hexadecimal, or a beginning of that which no other id has; `sluice query` finds
    ids. Of a URL that became no document it shows the records that reading refused, and why (`refused`).
    """
    from flows import terminal
    from flows.commands import document as documents

    found = documents.document(current.pipeline, document)
    if as_json:
        print_json(found)
    elif "text" not in found:
        terminal.refused(found)
    else:
        terminal.document(found, documents.by_stage(current.pipeline, found))
