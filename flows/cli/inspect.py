"""`sluice inspect`: one document."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from flows.cli.command import cli, reading, said

if TYPE_CHECKING:
    from flows.run import Run


@cli.command()
@reading
@click.argument("doc_id")
def inspect(current: Run, doc_id: str, as_json: bool) -> None:
    """Show one document of SPEC: its text, every column, its verdict.

    DOC_ID is its id in hexadecimal, or a beginning of it that no other id has; `sluice query` finds ids.
    """
    from flows import query as queries
    from flows import terminal

    found = queries.document(current.pipeline, doc_id)
    if as_json:
        said(found)
    else:
        terminal.document(found)
