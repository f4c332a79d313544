"""The command line. Every command reads or runs one spec; `--json` prints one JSON object as the last line of output.

Exit codes: 0; 1 failure; 2 bad spec or usage; 3 a gate stopped the run; 130 interrupted.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any, NoReturn

import click

from flows import embedded

if TYPE_CHECKING:
    from flows.run import Run

SPEC = click.argument("spec", type=click.Path())
JSON = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object on the last line of standard output."
)
STORE = click.option("--store", metavar="URL", help="Another store than the spec's.")
SET = click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override a setting, such as training.steps=20."
)


class Commands(click.Group):
    """Commands of which a mistaken usage, too, ends in a JSON object where one was asked for."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta["arguments"] = list(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            if "--json" in ctx.meta["arguments"]:
                said({"status": "failed", "error": error.format_message(), "exit": error.exit_code})
            raise


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def cli() -> None:
    """From a web crawl to a pretrained language model, in one orchestrated run.

    Exit codes: 0; 1 failure; 2 bad spec or usage; 3 a gate of the spec stopped the run; 130 interrupted.
    """
    embedded.prepare()


def said(value: Any) -> None:
    """Print JSON as the last line; in ASCII, so that no character of a text ends it."""
    click.echo(json.dumps(value, default=str, allow_nan=False))


def said_rows(columns: list[str], rows: Iterator[list[Any]]) -> None:
    """Print {"columns", "rows"} as the last line, row by row; what stops the rows ends that line."""
    sys.stdout.write(f'{{"columns": {json.dumps(columns)}, "rows": [')
    try:
        for number, row in enumerate(rows):
            sys.stdout.write((", " if number else "") + json.dumps(row, allow_nan=False))
    except BaseException:
        click.echo()
        raise
    click.echo("]}")


def warned(warning: str) -> None:
    """Print a warning, where there is one."""
    if warning:
        click.echo(f"sluice: {warning}", err=True)


stopped = False
"""Whether a signal asked the process to end; libraries may have made another exception of it."""


def stop(*_: Any) -> NoReturn:
    """What SIGINT, SIGTERM and SIGHUP do."""
    global stopped
    stopped = True
    raise KeyboardInterrupt


def plain_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    """What the user can mend is one message and an exit code, without a traceback; so is Ctrl-C."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            from flows.run import STOPS, exit_code

            try:
                return command(*args, **kwargs)
            except STOPS as error:
                message, code = str(error), exit_code(error)
        except (KeyboardInterrupt, Exception) as error:
            if not (stopped or isinstance(error, KeyboardInterrupt)):
                raise
            message, code = "interrupted", 130
        failed(message, code, kwargs["as_json"])

    return wrapped


def failed(message: str, code: int, as_json: bool, record: dict[str, Any] | None = None) -> NoReturn:
    """Say what failed, and end with an exit code."""
    from flows.terminal import clean

    if as_json:
        said((record or {"exit": code}) | {"status": "failed", "error": message})
    click.echo(f"sluice: {clean(message)}", err=True)
    sys.exit(code)


def of_spec(command: Callable[..., None]) -> Callable[..., None]:
    """A command that gets the run of a spec, and whether to answer in JSON."""

    @SPEC
    @STORE
    @SET
    @JSON
    @plain_errors
    @functools.wraps(command)
    def begun(spec: str, store: str | None, settings: tuple[str, ...], **given: Any) -> None:
        from flows.run import Run

        command(Run.of(spec, store, settings), **given)

    return begun


def reading(command: Callable[..., None]) -> Callable[..., None]:
    """The same, with all that exists found."""

    @of_spec
    @functools.wraps(command)
    def resolved(current: Run, **given: Any) -> None:
        current.resolve()
        command(current, **given)

    return resolved


@cli.command()
@SPEC
@STORE
@click.option(
    "--from",
    "start",
    metavar="STAGE",
    help="Compute STAGE (`sluice plan` names them) again beside what exists, compare, go on.",
)
@click.option("--until", metavar="STAGE", help="Stop after STAGE.")
@click.option("--replace", is_flag=True, help="With --from: take the new values where they differ.")
@SET
@click.option("--retrain", multiple=True, metavar="NAME", help="Learn a pin anew: domain, quality, tokenizer, ...")
@JSON
@plain_errors
def run(
    spec: str,
    store: str | None,
    start: str | None,
    until: str | None,
    replace: bool,
    settings: tuple[str, ...],
    retrain: tuple[str, ...],
    as_json: bool,
) -> None:
    """Run SPEC: compute what is missing, from sources to a trained model."""
    from data_specs.load import SpecError
    from flows import summary
    from flows.run import Run
    from tasks.engine import fanout

    begun = Run.of(spec, store, settings, None, retrain)
    begun.corpus_stages(start, until)
    if replace and start is None:
        raise SpecError(["--replace: says what to do with the other values of --from STAGE, which is missing"])
    reads = begun.reads()
    with embedded.server():
        if reads:
            fanout.start(begun.spec.cluster)
        from flows.pretrain import pretrain

    name = begun.name
    state = pretrain(spec, store, list(settings), name, start, until, replace, list(retrain), return_state=True)
    fanout.stop()
    if stopped:
        raise KeyboardInterrupt
    record = Run.of(spec, store, settings, name).record
    if not as_json:
        summary.show(record, begun.store)
    if state.is_completed():
        if as_json:
            said(record)
        return
    error = record.get("error") or state.message or "the run failed; see the log above"
    failed(error, record.get("exit", 1), as_json, record)


@cli.command()
@reading
def plan(current: Run, as_json: bool) -> None:
    """Say what a run of SPEC would do: what is cached, what is stale and why, pins, and what training will cost."""
    from flows import forecast

    found = forecast.forecast(current)
    if as_json:
        said(found)
    else:
        forecast.show(found)


@cli.command()
@reading
def funnel(current: Run, as_json: bool) -> None:
    """Say where every record of SPEC went, from the store's manifests; of the sources only the files are listed."""
    from flows import summary
    from tasks.engine.ledger import funnel as count

    found = count(current.pipeline)
    if not found["in"]:
        warned(f"the store {current.store.url} holds no documents of this spec yet")
    if as_json:
        said(found)
    else:
        summary.show_funnel(found)


@cli.command()
@reading
@click.argument("doc_id")
def inspect(current: Run, doc_id: str, as_json: bool) -> None:
    """Show one document of SPEC: its text, every column, its verdict.

    DOC_ID is its id in hexadecimal, or a beginning of it that no other id has; `sluice query` finds ids.
    """
    from flows import query as queries
    from flows import terminal

    found = queries.document(current.pipeline, doc_id)
    if as_json:
        said(found)
    else:
        terminal.document(found)


@cli.command()
@reading
@click.argument("sql")
def query(current: Run, sql: str, as_json: bool) -> None:
    """Ask the columns of SPEC with one SELECT, in DuckDB's SQL.

    There is a view per stage by its name, with `id`, and `corpus`: every column of every stage. `describe corpus` tells
    their names and types. Such as:

    \b
    sluice query SPEC "select reason, count(*) from corpus group by 1 order by 2 desc"
    sluice query SPEC "select id, url, words from corpus where kept and language = 'zh' order by quality limit 9"
    """
    from flows import query as queries
    from flows import terminal

    with queries.select(current.pipeline, sql) as answer:
        if as_json:
            said_rows(answer.columns, answer.rows)
        else:
            terminal.rows(answer.columns, answer.rows)


@cli.command()
@of_spec
@click.argument("stage")
def invalidate(current: Run, stage: str, as_json: bool) -> None:
    """Forget the outputs of STAGE (documents, or a stage of columns), so that the next run computes them again.

    What is pinned stays: `sluice run --retrain` learns it anew. While a run is working on the store this is refused; an
    object store has no lock, so there you are only warned of runs of other machines whose records have no end.
    """
    from tasks.engine import garbage_collection

    with garbage_collection.alone(current.store) as warning:
        warned(warning)
        current = current.again()
        current.resolve()
        removed = garbage_collection.invalidate(current.pipeline, stage)
    if as_json:
        said({"stage": stage, "removed": removed})
    else:
        click.echo(f"{stage}: {removed} outputs forgotten")


@cli.command()
@of_spec
@click.option("--yes", is_flag=True, help="Remove what is listed.")
def gc(current: Run, yes: bool, as_json: bool) -> None:
    """List the files of SPEC's store that nothing refers to; with --yes, remove them.

    Those are documents, columns, tokens and models that are neither outputs of SPEC as it stands, nor pinned, nor read
    by a run plan, nor another lineage's. While a run is working on the store, --yes is refused; an object store has no
    lock, so there you are only warned of runs of other machines whose records have no end.
    """
    from tasks.engine import garbage_collection

    with garbage_collection.alone(current.store) if yes else nullcontext("") as warning:
        warned(warning)
        current = current.again()
        current.resolve()
        found = garbage_collection.unreferenced(current.pipeline)
        if yes:
            garbage_collection.remove(current.pipeline, found)
    if as_json:
        said({"files": found, "bytes": sum(found.values()), "removed": yes})
        return
    for path, size in found.items():
        click.echo(f"{size:>14,}  {path}")
    verb = "removed" if yes else "nothing refers to them; `--yes` removes them"
    click.echo(f"{len(found)} files, {sum(found.values()):,} bytes: {verb}")


def main() -> None:
    """Entry point of the console command."""
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(ending) != signal.SIG_IGN:  # as `nohup` has it
            signal.signal(ending, stop)
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115 (it was closed by who called)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    try:
        cli()
        sys.stdout.flush()
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            click.echo(f"sluice: standard output cannot be written: {error.strerror}", err=True)
        sys.exit(1)
