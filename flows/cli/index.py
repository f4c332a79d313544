"""`sluice index`: other documents, for a stage that finds duplicates of them."""

from __future__ import annotations

import click

from flows.cli.command import JSON, STORE, cli, plain_errors, print_json


@cli.command()
@click.argument("to", metavar="FOLDER", type=click.Path(file_okay=False))
@click.argument("files", nargs=-1)
@click.option("--spec", metavar="SPEC", help="Of the kept documents of this spec's corpus.")
@click.option("--version", type=int, metavar="N", help="With --spec, this version; the last accepted by default.")
@STORE
@click.option(
    "--field", "fields", multiple=True, metavar="NAME", help="With FILES, fields of a text; `text` by default."
)
@click.option("--floor", type=click.FloatRange(0.3, 0.99), default=0.7, show_default=True, help="The least similarity.")
@click.option("--symbols", is_flag=True, help="With FILES: symbols count in these texts, as in code.")
@JSON
@plain_errors
def index(
    to: str,
    files: tuple[str, ...],
    spec: str | None,
    version: int | None,
    store: str | None,
    fields: tuple[str, ...],
    floor: float,
    symbols: bool,
    as_json: bool,
) -> None:
    """Write an index of other documents into FOLDER, for a stage of the kind `duplicates_of`: those of another corpus,
    or the rows of FILES (JSONL, CSV, Parquet; patterns). Every node reads the folder. Such as:

    \b
    sluice index old --spec old.yaml --version 3
    sluice index exams 'exams/*.jsonl' --field question --field answer
    """
    from data_specs.amounts import plural
    from data_specs.load import SpecError
    from flows.commands import index as indexing

    if bool(files) == (spec is not None):
        raise SpecError(["index: FILES or --spec, one of both"])
    if symbols and not files:
        raise SpecError(["index: --symbols is for FILES; of a corpus `duplicates.symbols` of its spec says it"])
    if spec is not None:
        made = indexing.of_version(to, spec, store, version, floor)
    else:
        made = indexing.of_files(to, files, fields or ("text",), floor, symbols)
    if as_json:
        return print_json(made)
    documents = plural(made["indexed"], "document")
    click.echo(f"{to}: {documents} of {made['of']}, alike from {made['floor']:g} on")
