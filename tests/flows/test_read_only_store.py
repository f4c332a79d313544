"""A store that may be read and not written: what is cached runs, and questions are answered."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path

from tests.whole import go

ROOT = Path(__file__).parents[2]
ASKED = [
    ["plan"], ["funnel"], ["gc"], ["query", "select count(*) from corpus"], ["run", "--until", "verdict"],
]  # fmt: skip
DRIVER = """
import json, sys
from click.testing import CliRunner
from flows.cli import cli
from tasks.engine.runner import Execution
from tests.whole import direct
Execution.__init__.__defaults__ = (None, direct)
answers = []
for command, *rest in json.loads(sys.argv[2]):
    result = CliRunner().invoke(cli, [command, sys.argv[1], *rest, "--json"])
    answers.append([result.exit_code, result.stdout, result.stderr])
print(json.dumps(answers))
"""


def without_override() -> None:
    """Root, too, then keeps to the modes of files."""
    ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE


def test_what_is_cached_runs_on_a_store_that_may_not_be_written_and_says_once_that_it_has_no_record(
    copied: Path,
) -> None:
    go(copied, until="verdict")
    store = copied.parent / "store"
    folders = [store, *(path for path in store.rglob("*") if path.is_dir())]
    before = sorted(store.rglob("*"))
    for folder in folders:
        folder.chmod(0o555)
    environment = os.environ | {"PREFECT_HOME": str(copied.parent / "prefect")}
    environment.pop("PREFECT_API_URL", None)
    command = [sys.executable, "-c", DRIVER, str(copied), json.dumps(ASKED)]
    try:
        ended = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, preexec_fn=without_override
        )
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert ended.returncode == 0, ended.stderr[-3000:]
    answers = json.loads(ended.stdout.splitlines()[-1])
    assert [code for code, _, _ in answers] == [0] * 5, answers
    record = json.loads(answers[-1][1].splitlines()[-1])
    assert record["status"] == "completed"
    assert {stage["state"] for stage in record["stages"]} == {"cached"}
    said = ended.stderr + "".join(err for _, _, err in answers)
    assert said.count(f"the record of run {record['run']} cannot be written") == 1
    assert sorted(store.rglob("*")) == before
