"""`sluice lineage`: what became of one document."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from flows.cli.command import cli, print_json, reading

if TYPE_CHECKING:
    from flows.run import Run


@cli.command()
@reading
@click.argument("document")
def lineage(current: Run, document: str, as_json: bool) -> None:
    """Show where one document of SPEC was dropped, or at which steps of which trainings it was trained on.

    DOCUMENT is its URL, or its id in hexadecimal, or a beginning of that which no other id has.
    """
    from flows import terminal
    from flows.commands import lineage as found_by

    found = found_by.of_document(current, document)
    if as_json:
        print_json(found)
    elif "refused" in found:
        terminal.refused(found)
    else:
        terminal.lineage(found)
