"""Commands in this process: what they say, as text or JSON, with the exit code that is expected of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from flows.cli import cli
from tasks.storage.store import Store

HOSTILE = "https://example.org/[/bold]\x1b[2J[red]"
"""The address of one document of the fixture `computed`."""


def ask(*arguments: object, code: int = 0) -> Result:
    """A command's result; its exit code must be `code`, and whatever stopped it must not be a traceback."""
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def told(*arguments: object, code: int = 0) -> Any:
    """The JSON object on the last line of standard output."""
    return json.loads(ask(*arguments, "--json", code=code).stdout.splitlines()[-1])


def files(spec: Path) -> dict[str, int]:
    """Path -> size of every file of the store beside a spec."""
    return Store(str(spec.parent / "store")).walk()
