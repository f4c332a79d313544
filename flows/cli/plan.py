"""`sluice plan`: what a run would do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.cli.command import cli, print_json, reading

if TYPE_CHECKING:
    from flows.run import Run


@cli.command()
@reading
def plan(current: Run, as_json: bool) -> None:
    """Say what a run of SPEC would do: what is cached, what is stale and why, pins, and what training will cost."""
    from flows.commands import forecast, forecast_printed

    found = forecast.forecast(current)
    if as_json:
        print_json(found)
    else:
        forecast_printed.show(found)
