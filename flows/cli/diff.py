"""`sluice diff`: what changed between two versions of a corpus."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from flows.cli.command import cli, of_spec, print_json

if TYPE_CHECKING:
    from flows.run import Run


@cli.command()
@of_spec
@click.argument("first", type=int, metavar="A")
@click.argument("second", type=int, metavar="B")
def diff(current: Run, first: int, second: int, as_json: bool) -> None:
    """Compare versions A and B of SPEC's corpus: documents, bytes, tokens, reasons, hosts and drift. What is kept is
    counted by source, channel and language; of hosts it says which came and went, of languages and scores how far they
    have moved."""
    from flows import versions as shown
    from tasks.engine.versions import Versions

    found = shown.difference(Versions(current.store, current.spec.name), first, second)
    if as_json:
        print_json(found)
    else:
        shown.show_difference(found)
