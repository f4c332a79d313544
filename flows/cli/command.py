"""What the commands share: their group, the options of a spec, JSON, errors with their exit codes, and signals."""

from __future__ import annotations

import codecs
import functools
import json
import locale
import os
import signal
import sys
from collections.abc import Callable, Iterator
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any, NoReturn

import click

from data_specs import redaction
from flows import embedded, supervisor

if TYPE_CHECKING:
    from flows.run import Run

SPEC = click.argument("spec", type=click.Path())
JSON = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object on the last line of standard output."
)
STORE = click.option("--store", metavar="URL", help="Another store than the spec's.")
SET = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a setting, such as training.steps=20; VALUE is YAML.",
)


_SENTENCE = 200
"""Characters of the first sentence of a command's help, at most."""


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
                print_json({"status": "failed", "error": error.format_message(), "exit": error.exit_code})
            raise
        except KeyboardInterrupt:  # before the command began
            failed("interrupted", 130, "--json" in ctx.meta["arguments"])

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Each command with its first sentence, whole."""
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, self.commands[name].get_short_help_str(_SENTENCE)) for name in sorted(self.commands)]
            )


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def cli() -> None:
    """From a web crawl to a pretrained language model, in one orchestrated run.

    Exit codes: 0; 1 failure; 2 bad spec or usage; 3 a gate of the spec stopped the run; 130 interrupted.
    """
    embedded.prepare()
    redaction.guard()


def print_json(value: Any) -> None:
    """Print JSON as the last line; in ASCII, so that no character of a text ends it."""
    click.echo(json.dumps(value, default=str, allow_nan=False))


def print_json_rows(columns: list[str], rows: Iterator[list[Any]]) -> None:
    """Print {"columns", "rows"} as the last line, row by row; what stops the rows ends that line."""
    sys.stdout.write(f'{{"columns": {json.dumps(columns)}, "rows": [')
    try:
        for number, row in enumerate(rows):
            sys.stdout.write((", " if number else "") + json.dumps(row, allow_nan=False))
    except BaseException:
        click.echo()
        raise
    click.echo("]}")


def print_warning(warning: str) -> None:
    """Print a warning, where there is one."""
    if warning:
        click.echo(f"sluice: {redaction.printable(warning)}", err=True)


stopped = False
"""Whether a signal asked the process to end; libraries may have made another exception of it."""


def stop(*_: Any) -> None:
    """What SIGINT, SIGTERM and SIGHUP do; a supervisor sees to it that a second one ends the process at once."""
    global stopped
    if not (stopped and supervisor.supervised()):
        stopped = True
        raise KeyboardInterrupt


def plain_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    """What the user can mend is one message and an exit code, without a traceback; so is Ctrl-C."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            from flows.errors import USER_ERRORS, exit_code

            try:
                return command(*args, **kwargs)
            except USER_ERRORS as error:
                message, code = str(error), exit_code(error)
        except (KeyboardInterrupt, Exception) as error:
            if not (stopped or isinstance(error, KeyboardInterrupt)):
                raise
            message, code = "interrupted", 130
        failed(message, code, kwargs["as_json"])

    return wrapped


def begins(as_json: bool, ray: bool) -> None:
    """Say at once that Prefect and, with `ray`, Ray are started, as nothing else is said for some seconds."""
    if not as_json:
        click.echo(f"sluice: starting Prefect{' and Ray' if ray else ''}, which takes some seconds", err=True)


def failed(message: str, code: int, as_json: bool, record: dict[str, Any] | None = None) -> NoReturn:
    """Say what failed, and end with an exit code."""
    if as_json:
        print_json((record or {"exit": code}) | {"status": "failed", "error": redaction.redacted(message)})
    click.echo(f"sluice: {redaction.printable(message)}", err=True)
    sys.exit(code)


def of_spec(command: Callable[..., None]) -> Callable[..., None]:
    """A command that gets the run of a spec, and whether to answer in JSON."""

    @SPEC
    @STORE
    @SET
    @JSON
    @plain_errors
    @functools.wraps(command)
    def with_run(spec: str, store: str | None, settings: tuple[str, ...], **given: Any) -> None:
        from flows.run import Run

        command(Run.of(spec, store, settings), **given)

    return with_run


def reading(command: Callable[..., None]) -> Callable[..., None]:
    """The same, with all that exists found."""

    @of_spec
    @functools.wraps(command)
    def resolved(current: Run, **given: Any) -> None:
        current.resolve()
        command(current, **given)

    return resolved


def main() -> None:
    """Entry point of the console command. A run is done in a child process, which its supervisor ends as promised."""
    _read_utf8()
    for ending in supervisor.obeyed():
        signal.signal(ending, stop)
    if sys.argv[1:2] in (["run"], ["rebase"]):
        supervisor.start("--json" in sys.argv)
    try:
        try:
            _main()
        except KeyboardInterrupt:  # before a command began, or after it ended
            failed("interrupted", 130, "--json" in sys.argv)
    except SystemExit as end:
        supervisor.ending(end.code if isinstance(end.code, int) else 0 if end.code is None else 1, stopped)
        raise


def _read_utf8() -> None:
    """Begin anew where Python would read files in the locale's encoding (LC_ALL=C with PYTHONUTF8=0, or Latin-1), as
    libraries open theirs without naming one. What is printed stays in the terminal's."""
    if codecs.lookup(locale.getpreferredencoding(False)).name != "utf-8" and os.environ.get("PYTHONUTF8") != "1":
        os.environ["PYTHONUTF8"] = "1"
        os.environ.setdefault("PYTHONIOENCODING", f"{getattr(sys.stdout, 'encoding', 'ascii')}:replace")
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _main() -> None:
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115 (it was closed by who called)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    try:
        try:
            cli()
        finally:
            sys.stdout.flush()
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            click.echo(f"sluice: standard output cannot be written: {error.strerror}", err=True)
        sys.exit(1)
