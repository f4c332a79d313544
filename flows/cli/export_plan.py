"""`sluice export-plan`: the run plan for those who train elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from flows.cli.command import cli, print_json, reading

if TYPE_CHECKING:
    from flows.run import Run


@cli.command("export-plan")
@reading
@click.argument("to")
@click.option("--format", "form", type=click.Choice(["rows", "megatron"]), default="rows", show_default=True)
def export_plan(current: Run, to: str, form: str, as_json: bool) -> None:
    """Write the run plan of SPEC with its tokens to the folder or URL TO, which must hold no files.

    `rows` are the rows of every step in order, as Parquet files that `datasets` loads. `megatron` are the documents
    that are read, each as often as it is, as an indexed dataset for each channel, and a blend file for each phase.
    """
    from data_specs.load import SpecError
    from flows import summary
    from flows.commands import export_records
    from tasks.planning import plan_export
    from tasks.storage.store import Store

    folder = current.planned()
    if folder is None:
        raise SpecError(["export-plan: this spec as it stands has no run plan: `sluice run --until plan` makes one"])
    into = Store(to)
    if into.list(""):
        raise SpecError([f"export-plan: {to} holds files; name a folder that is empty, or new"])
    try:
        written = (plan_export.rows if form == "rows" else plan_export.megatron)(current.store, folder, into)
    except plan_export.PlanExportError as error:
        raise SpecError([f"export-plan: {error}"]) from None
    export_records.note(current.store, into, folder.rpartition("@")[2], {"spec": current.spec.name, "plan": folder})
    what = "rows" if form == "rows" else "documents"
    if as_json:
        print_json({"plan": summary.place(current.store, folder), "format": form, "to": to, what: written})
    else:
        click.echo(f"{folder}: {sum(written.values()):,} {what} in {to}")
