"""`sluice whatif`: what other settings would keep and drop."""

from __future__ import annotations

import click

from flows.cli.command import JSON, SET, SPEC, STORE, cli, plain_errors, print_json


@cli.command()
@SPEC
@STORE
@SET
@JSON
@click.option("--examples", default=10, show_default=True, help="Documents shown of those that change, on each side.")
@plain_errors
def whatif(spec: str, store: str | None, settings: tuple[str, ...], as_json: bool, examples: int) -> None:
    """Say what SPEC would keep and drop with the settings of --set, against the last accepted version.

    Documents, tokens and epochs by channel, reasons gained and lost, and documents that change sides with their text.
    The verdict is a run's own, over the columns that the store has; nothing is written. Such as:

    \b
    sluice whatif SPEC --set rules.short="words < 80"
    sluice whatif SPEC --set rules.low_quality="quality < percentile(quality, 30)" --set mixture.tokens=2G
    """
    from flows.commands import whatif as asking

    found = asking.ask(spec, store, settings, examples)
    if as_json:
        print_json(found)
    else:
        asking.show(found)
