"""The README's deployment commands, against a real Prefect server on loopback with SQLite."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests import small
from tests.prefect_server import BIN, ROOT, get, prefect, process, served


def test_full_runs_as_a_deployment_and_a_second_run_is_cached(tmp_path: Path) -> None:
    spec = small.corpus(tmp_path, files=1, documents=60)
    with served(tmp_path) as (api, environment):
        deployments = get(f"{api}/deployments/filter", {})
        assert {d["name"] for d in deployments} == {"full", "nightly", "rerun"}
        [nightly] = [d for d in deployments if d["name"] == "nightly"]
        assert nightly["schedules"][0]["schedule"]["cron"] == "30 2 * * *"
        check_schedule(api, nightly["id"])
        worker = [str(BIN / "prefect"), "worker", "start", "--pool", "sluice"]
        with process(worker, environment, tmp_path / "worker.log"):
            run = ("deployment", "run", "pretrain/full", "--watch", "-p", f"spec={spec}")
            for expected in ("Completed", "Cached"):
                ended = prefect(environment, *run, seconds=300)
                worker_log = (tmp_path / "worker.log").read_text()[-4000:]
                assert ended.returncode == 0, ended.stdout + ended.stderr + worker_log
                wait_for_state(api, expected)
            rerun = ("deployment", "run", "stage/rerun", "--watch", "-p", f"spec={spec}", "-p", "stage=language")
            ended = prefect(environment, *rerun, seconds=300)
            assert ended.returncode == 0, ended.stdout + ended.stderr
            check_stages(api)
            check_retry(environment, api, spec)
        check_pages(api, tmp_path)


def wait_for_state(api: str, expected: str) -> None:
    """Until the newest task run is in the state expected of it, which the server hears of a little later."""
    deadline = time.monotonic() + 60
    newest = {"sort": "EXPECTED_START_TIME_DESC", "limit": 1}
    while (state := get(f"{api}/task_runs/filter", newest)[0]["state"]["name"]) != expected:
        assert time.monotonic() < deadline, state
        time.sleep(0.5)


def check_pages(api: str, folder: Path) -> None:
    """A run is called by its spec, the version of its corpus and its record, and its page has one bar of progress and
    every artifact: those of losses and checkpoints where it went through the training."""
    runs = {run["id"]: run for run in get(f"{api}/flow_runs/filter", {}) if run["state"]["type"] != "SCHEDULED"}
    records = {path.name for path in (folder / "store" / "runs" / "records").iterdir()}
    ended = {run["name"] for run in runs.values() if run["state"]["type"] == "COMPLETED"}
    assert ended == {f"small v{version_of(folder, record)} {record}" for record in records}
    assert {run["name"] for run in runs.values()} - ended <= {f"small {record}" for record in records}
    assert len({run["name"] for run in runs.values() if run["deployment_id"]}) == 4  # two, a rerun, one retried
    drawn = {"small-funnel", "small-mixture", "small-tokenizer", "small-channel-losses"}
    page: dict[str, list[dict[str, Any]]] = {}
    for artifact in get(f"{api}/artifacts/filter", {}):
        page.setdefault(artifact["flow_run_id"], []).append(artifact)
    assert {runs[name]["deployment_id"] is not None for name in page} == {True}
    assert len(page) == 4
    live = {name: [a for a in found if a["key"] == "small-training"] for name, found in page.items()}
    assert {len(found) for found in live.values()} == {0, 1}  # one of a run that trained, none of one that did not
    for name, every in page.items():
        found = [artifact for artifact in every if artifact not in live[name]]
        until = runs[name]["parameters"].get("until")
        through = until is None
        beyond = {None: set(), "plan": {"small-channel-losses"}, "version": {"small-channel-losses", "small-mixture"}}
        pictures = drawn - beyond[until]
        checkpoints = {"small-checkpoints"} if through else set()
        assert {a["key"] for a in found} == pictures | checkpoints | {"small-progress"}
        assert {a["key"] for a in found if "](data:image/svg+xml;base64," in str(a["data"])} == pictures
        bars = [artifact["data"] for artifact in found if artifact["type"] == "progress"]
        assert len(bars) == runs[name]["run_count"]
        assert max(bars) == 100
        if through:
            [pages] = {artifact["data"] for artifact in found if artifact["key"] == "small-checkpoints"}
            paths = re.findall(r"`(\S+)` \|", pages)
            assert paths
            assert all(Path(path).is_absolute() and Path(path).is_file() for path in paths)


def version_of(folder: Path, record: str) -> int:
    """The version of the corpus that a run made or found."""
    found = json.loads((folder / "store" / "runs" / "records" / record / "run.json").read_bytes())
    return int(found["version"]["version"])


def check_schedule(api: str, deployment: str) -> None:
    """The server makes the runs of the coming nights (with SQLAlchemy 2.1, Prefect 3.8.8 makes none)."""
    deadline = time.monotonic() + 60
    while not (runs := get(f"{api}/flow_runs/filter", {"deployments": {"id": {"any_": [deployment]}}})):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert all("T02:30:00" in run["expected_start_time"] for run in runs)


def task_runs(api: str) -> list[tuple[str, str]]:
    """(stage, name of its state) of all task runs, subflows left out, oldest first."""
    runs = get(f"{api}/task_runs/filter", {"sort": "EXPECTED_START_TIME_ASC"})
    return [(run["name"], run["state"]["name"]) for run in runs if not run["name"].endswith("-0")]


def check_stages(api: str) -> None:
    """The first run computed everything, the second nothing, the rerun the stage that was named, up to the version."""
    stages = task_runs(api)
    count = [name for name, _ in stages].index("train") + 1
    assert {state for _, state in stages[:count]} == {"Completed"}
    assert {state for _, state in stages[count : 2 * count]} == {"Cached"}
    again = stages[2 * count :]
    assert [name for name, state in again if state != "Cached"] == ["language"]
    assert [name for name, _ in again] == [name for name, _ in stages[: count - 2]]
    assert again[-1][0] == "version"


def check_retry(environment: dict[str, str], api: str, spec: Path) -> None:
    """What the UI's Retry does: a run that a gate stopped goes on where it stopped, once the gate is mended."""
    whole = spec.read_text()
    spec.write_text(whole.replace("words < 40", "words < 300") + "gates: {removed_per_source: 0%}\n")
    run = ("deployment", "run", "pretrain/full", "--watch", "-p", f"spec={spec}", "-p", "until=plan")
    assert prefect(environment, *run, seconds=300).returncode == 1
    [failed] = [
        run for run in get(f"{api}/flow_runs/filter", {}) if run["state"]["name"] == "Failed" and run["deployment_id"]
    ]
    assert "copies of held-out documents take" in failed["state"]["message"]
    before = len(task_runs(api))
    spec.write_text(whole.replace("words < 40", "words < 300"))
    retry = {"state": {"type": "SCHEDULED", "name": "AwaitingRetry"}}
    get(f"{api}/flow_runs/{failed['id']}/set_state", retry)
    deadline = time.monotonic() + 200
    while (state := get(f"{api}/flow_runs/{failed['id']}")["state"]["name"]) != "Completed":
        assert time.monotonic() < deadline, state
        time.sleep(1)
    stages = task_runs(api)[before:]
    assert ("language", "Cached") in stages
    assert ("plan", "Completed") in stages


def test_the_form_of_a_run_explains_every_parameter() -> None:
    from prefect.utilities.callables import parameter_schema

    from flows.pretrain import corpus, pretrain, stage

    for flow in (pretrain, corpus, stage):
        properties = parameter_schema(flow).properties
        assert {"spec", "store", "replace"} <= set(properties)
        assert all(each["description"] for each in properties.values())
        assert properties["spec"]["default"] == "data_specs/demo.yaml"


def test_parameters_are_called_as_the_options_of_the_command_line() -> None:
    from prefect.utilities.callables import parameter_schema

    from flows.cli import cli
    from flows.pretrain import pretrain

    options = {option.opts[0].lstrip("-") for option in cli.commands["run"].params} - {"json"}
    assert set(parameter_schema(pretrain).properties) == options - {"from"} | {"from_stage", "run"}


def test_the_form_offers_every_stage_that_can_be_computed_again_and_takes_other_names() -> None:
    from prefect.utilities.callables import parameter_schema

    from flows.pretrain import stage
    from flows.run import Run

    offered, typed = parameter_schema(stage).properties["stage"]["anyOf"]
    assert typed == {"type": "string"}
    run = Run.of(str(ROOT / "data_specs" / "demo.yaml"))
    known = {name for name in run.corpus_stages() if not name.startswith("learn_")}
    assert set(offered["enum"]) == known | {"style"}  # which is there where a rule reads a column of it


@pytest.mark.parametrize("module", ["flows.pretrain", "flows.cli"])
def test_whoever_imports_a_flow_nothing_reports_its_use(module: str) -> None:
    program = (
        f"import {module}, json, os; from huggingface_hub import constants; "
        "from prefect._internal.analytics import is_telemetry_enabled; "
        "from prefect.settings import get_current_settings; "
        "from ray._common.usage.usage_lib import usage_stats_enabled; "
        "print(json.dumps([is_telemetry_enabled(), get_current_settings().server.analytics_enabled, "
        "usage_stats_enabled(), not constants.HF_HUB_DISABLE_TELEMETRY]))"
    )
    names = ("DO_NOT_TRACK", "PREFECT_SERVER_ANALYTICS_ENABLED", "RAY_USAGE_STATS_ENABLED", "HF_HUB_DISABLE_TELEMETRY")
    environment = {name: value for name, value in os.environ.items() if name not in (*names, "CI")}
    ran = subprocess.run([sys.executable, "-c", program], env=environment, cwd=ROOT, capture_output=True, check=True)
    assert json.loads(ran.stdout) == [False] * 4
