"""`sluice invalidate`: forget the outputs of a stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from flows.cli.command import cli, of_spec, print_json

if TYPE_CHECKING:
    from flows.run import Run


@cli.command()
@of_spec
@click.argument("stage")
def invalidate(current: Run, stage: str, as_json: bool) -> None:
    """Forget the outputs of STAGE (documents, or a stage of columns), so that the next run computes them again.

    What is pinned stays: `sluice run --retrain` learns it anew. While a run is working on the store this is refused.
    """
    from data_specs.amounts import plural
    from tasks.engine import garbage_collection
    from tasks.sources import identities

    with garbage_collection.alone(current.store):
        current = current.reloaded()
        current.resolve()
        if stage == "documents":
            folders = garbage_collection.folders(current.pipeline, stage)
            identities.keep(current.store, {path for folder in folders for path in current.store.walk(folder)})
        removed = garbage_collection.invalidate(current.pipeline, stage)
    if as_json:
        print_json({"stage": stage, "removed": removed})
    else:
        click.echo(f"{stage}: {plural(removed, 'output')} forgotten")
