"""`sluice query`: the columns, asked in SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from flows.cli.command import cli, print_json_rows, print_warning, reading

if TYPE_CHECKING:
    from flows.run import Run


@cli.command()
@reading
@click.argument("sql")
def query(current: Run, sql: str, as_json: bool) -> None:
    """Ask the columns of SPEC with one SELECT, in DuckDB's SQL.

    There is a view per stage by its name, with `id`, `corpus`: every column of every stage, and `refused`: the records
    that reading made no document of. `describe corpus` tells their names and types. Where a stage is not computed for
    all documents, a warning says so: its columns are null for the others, which its own view lacks. Such as:

    \b
    sluice query SPEC "select reason, count(*) from corpus group by 1 order by 2 desc"
    sluice query SPEC "select id, url, words from corpus where kept and language = 'zh' order by quality limit 9"
    sluice query SPEC "select url, reason, measures from refused where url like '%/forum/%'"
    """
    from flows import terminal
    from flows.commands import query as queries

    with queries.select(current.pipeline, sql) as answer:
        print_warning(answer.not_computed)
        if as_json:
            print_json_rows(answer.columns, answer.rows)
        else:
            terminal.rows(answer.columns, answer.rows)
