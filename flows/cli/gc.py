"""`sluice gc`: the files that nothing refers to."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import click

from flows.cli.command import cli, of_spec, print_json

if TYPE_CHECKING:
    from flows.run import Run


@cli.command()
@of_spec
@click.option("--yes", is_flag=True, help="Remove what is listed.")
def gc(current: Run, yes: bool, as_json: bool) -> None:
    """List the files of SPEC's store that nothing refers to; with --yes, remove them.

    Those are documents, columns, tokens and models that are neither outputs of SPEC as it stands, nor pinned, nor read
    by a run plan, nor another lineage's; interrupted trainings that SPEC as it stands does not continue; and what
    processes that were killed left half written. While a run is working on the store, --yes is refused.
    """
    from data_specs.amounts import plural
    from tasks.engine import garbage_collection
    from tasks.sources import identities

    with garbage_collection.alone(current.store) if yes else nullcontext():
        current = current.reloaded()
        current.resolve()
        found = garbage_collection.unreferenced(current.pipeline, current.training_folder())
        found = dict(sorted({**found, **identities.needless(current.store, found.keys())}.items()))
        if yes:
            identities.keep(current.store, found.keys())
            garbage_collection.remove(current.pipeline, found)
    if as_json:
        print_json({"files": found, "bytes": sum(found.values()), "removed": yes})
        return
    for path, size in found.items():
        click.echo(f"{size:>14,}  {path}")
    verb = "removed" if yes else "nothing refers to them; `--yes` removes them"
    click.echo(f"{plural(len(found), 'file')}, {plural(sum(found.values()), 'byte')}: {verb}")
