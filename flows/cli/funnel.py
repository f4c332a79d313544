"""`sluice funnel`: where every record went."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.cli.command import cli, print_json, print_warning, reading

if TYPE_CHECKING:
    from flows.run import Run


@cli.command()
@reading
def funnel(current: Run, as_json: bool) -> None:
    """Say where every record of SPEC went, from the store's manifests; of the sources only the files are listed."""
    from flows import summary
    from tasks.engine.ledger import funnel as count

    found = count(current.pipeline)
    if not found["in"]:
        print_warning(f"the store {current.store.url} holds no documents of this spec yet")
    if as_json:
        print_json(found)
    else:
        summary.show_funnel(found)
