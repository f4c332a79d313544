"""`sluice funnel`: where every record went."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from flows.cli.command import cli, print_json, print_warning, reading

if TYPE_CHECKING:
    from flows.run import Run


@cli.command()
@reading
@click.option("--by", type=click.Choice(["source", "channel", "language"]), help="Documents, bytes and tokens by this.")
def funnel(current: Run, by: str | None, as_json: bool) -> None:
    """Say where every record of SPEC went, from the store's manifests; of the sources only the files are listed.

    With --by, say of its documents how many there are, how large those are that it keeps, and what became of the
    others; `sluice run` counts them when it makes a version.
    """
    from data_specs.amounts import plural
    from flows import summary
    from flows.commands import funnel_groups as counts
    from flows.terminal import console
    from tasks.engine.ledger import funnel as count

    if by is not None:
        counted = counts.counted(current.pipeline, by)
        if counted["uncounted"]:
            print_warning(f"not counted yet: {plural(counted['uncounted'], 'document')}; `sluice run` counts them")
        if counted["quarantined"]:
            print_warning(f"not counted: {plural(counted['quarantined'], 'document')} of quarantined shards")
        if as_json:
            print_json(counted)
        else:
            counts.show(counted)
        return
    found = count(current.pipeline)
    if not found["in"]:
        print_warning(f"the store {current.store.url} holds no documents of this spec yet")
    if as_json:
        print_json(found)
    else:
        summary.show_funnel(found)
        if why := summary.pending(current, found):
            console().print(why, soft_wrap=True)
