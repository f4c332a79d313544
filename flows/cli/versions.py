"""`sluice versions` and `sluice diff`: what was made of a corpus when, and what changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from flows.cli.command import cli, of_spec, print_json, print_warning

if TYPE_CHECKING:
    from flows.run import Run


@cli.command()
@of_spec
def versions(current: Run, as_json: bool) -> None:
    """List the versions of SPEC's corpus: `sluice run` makes one where something changed. A refused one says why."""
    from flows import versions as shown
    from tasks.engine.versions import Versions

    found = shown.summaries(Versions(current.store, current.spec.name))
    if not found:
        print_warning(f"{current.spec.name} has no version in {current.store.url} yet; `sluice run` makes one")
    if as_json:
        print_json({"versions": found})
    elif found:
        shown.show(found)


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
