"""`sluice export`: the kept documents as files for others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from flows.cli.command import cli, of_spec, print_json

if TYPE_CHECKING:
    from flows.run import Run


@cli.command()
@of_spec
@click.argument("to", metavar="TO")
@click.option("--format", "form", type=click.Choice(["parquet", "jsonl"]), default="parquet", show_default=True)
@click.option("--columns", metavar="NAMES", default="", help="Columns beside id and text, by commas; `sluice query`"
              " tells them.")  # fmt: skip
@click.option("--where", metavar="SQL", help="Of the kept documents, those for which this is true.")
@click.option(
    "--augmented", is_flag=True, help="Also the texts that stages made of these documents, marked in columns."
)
@click.option("--version", type=int, metavar="N", help="Of this version of the corpus; the last accepted by default.")
@click.option("--size", metavar="BYTES", help="Of a file, about; 256MiB by default.")
def export(
    current: Run,
    to: str,
    form: Any,
    columns: str,
    where: str | None,
    augmented: bool,
    version: int | None,
    size: str | None,
    as_json: bool,
) -> None:
    """Write the kept documents of SPEC to TO, a folder or URL: files of Parquet or JSON lines, and a data card.

    They are those of the last accepted version of the corpus; where there is none yet, of the corpus as it stands.
    `text` is the text that the model is trained on. What is asked again is there already; what was stopped goes on. The
    same documents give the same bytes. Such as:

    \b
    sluice export SPEC corpus --columns url,language,quality --where "language = 'en'"
    sluice export SPEC s3://bucket/corpus --format jsonl
    """
    from data_specs.amounts import plural
    from flows import terminal
    from flows.commands import export as exports
    from flows.summary import place
    from tasks.storage.store import Store

    names = tuple(name.strip() for name in columns.split(",") if name.strip())
    with terminal.progress("files") as progress:
        found = exports.export(current, to, form, names, where, size, version, progress, augmented)
    found["to"] = place(Store(to), "").rstrip("/")
    if as_json:
        print_json(found)
        return
    left_out = f", without {plural(len(found['left_out']), 'quarantined shard')}" if found["left_out"] else ""
    corpus = f"version {found['version']}, " if found["version"] else ""
    already = "was there already: " if found["state"] == "cached" else ""
    click.echo(
        f"{terminal.line(found['to'])}: {corpus}{already}{plural(found['documents'], 'document')} in "
        f"{plural(found['files'], 'file')}, "
        f"{plural(found['bytes'], 'byte')}{left_out}"
    )
