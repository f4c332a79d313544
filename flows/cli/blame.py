"""`sluice blame`: the documents of a training step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from flows.cli.command import cli, print_json, reading

if TYPE_CHECKING:
    from flows.run import Run


@cli.command()
@reading
@click.option("--step", type=click.IntRange(min=1), required=True, help="The step of the training, from 1 on.")
@click.option("--top", type=click.IntRange(min=1), default=10, show_default=True, help="Documents at either end.")
@click.option(
    "--row", type=click.IntRange(min=0), help="Of several steps of that number, as of a spike: its first row."
)
@click.option("--layers", is_flag=True, help="Also the norm of the step's gradient in each layer, computed anew.")
@click.option("--run", "name", metavar="NAME", help="Another training than that of SPEC as it stands.")
def blame(current: Run, step: int, top: int, row: int | None, layers: bool, name: str | None, as_json: bool) -> None:
    """Show which documents a step of the training read, those with the highest and the lowest loss.

    Losses are computed anew from the newest checkpoint that the step did not yet shape.
    """
    from flows import summary, terminal
    from flows.commands import lineage

    found = lineage.of_step(current, step, top, name, row)
    if layers:
        found["layers"] = lineage.layer_norms(current, step, name, row)
    if as_json:
        shown = [row | {"file": summary.place(current.store, row["file"])} for row in found["shown"]]
        print_json(found | {"shown": shown})
    else:
        terminal.blame(found)
