"""`sluice find`: a selection of a crawl's pages by its index."""

from __future__ import annotations

import click

from flows.cli.command import JSON, cli, plain_errors, print_json


@cli.command()
@click.argument("to", metavar="TO.parquet", type=click.Path())
@click.argument("index", nargs=-1, required=True, metavar="INDEX...")
@click.option("--where", default="true", metavar="SQL", help="Over the columns of a capture; all by default.")
@JSON
@plain_errors
def find(to: str, index: tuple[str, ...], where: str, as_json: bool) -> None:
    """Find pages of a crawl in its INDEX, and write which they are TO a file that a source of the kind `cdx` reads.

    INDEX are files or URLs of Common Crawl's index: CDXJ (`cdx-00000.gz`) or Parquet (`part-....parquet`), patterns
    too. Columns: url, host, crawled, status, mime, mime_detected, languages, digest, filename, offset, length. No page
    is transferred. Such as:

    \b
    sluice find law.parquet index/cdx-00*.gz --where "host like '%.gov.cn' and status = 200 and languages like 'zho%'"
    """
    from data_specs.amounts import decimal, plural
    from data_specs.load import SpecError
    from data_specs.sources import SourceSettings
    from tasks.sources import crawl_index
    from tasks.sources.files import Listing

    if not to.endswith(".parquet"):
        raise SpecError([f"{to}: a selection's name ends in .parquet"])
    files = Listing("INDEX", SourceSettings(paths=index)).files()
    selection = crawl_index.select([file.path for file in files], where)
    crawl_index.write(selection, to)
    found = selection.as_json()
    if as_json:
        return print_json(found)
    click.echo(
        f"{plural(found['selected'], 'record')} selected, {found['revisits']:,} of them revisits, from "
        f"{plural(found['captures'], 'capture')} in the index: "
        f"{decimal(found['bytes'] / 2**20, 1)} MiB in {plural(found['files'], 'file')}"
    )
    click.echo(f"most of: {', '.join(f'{host} {count:,}' for host, count in found['hosts'].items())}")
    if found["unreadable"]:
        passed = plural(found["unreadable"], "line or capture says", "lines or captures say")
        click.echo(f"{passed} nothing of where a record lies: passed over")
