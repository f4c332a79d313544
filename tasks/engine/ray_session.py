"""Ray for a run: one of this machine alone, started on loopback and ended with the process, or the cluster that answers
at an address."""

from __future__ import annotations

import importlib
import logging
import os
import secrets
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from data_specs.cluster import Cluster
from data_specs.redaction import printable
from tasks.engine import ray_patches
from tasks.engine.contract import OwnStageError

OBJECT_STORE = 200 * 2**20
"""Bytes of a local Ray's object store: only stages and entries pass through it."""
AGAIN = ", as when memory runs out; run again to go on from here"
"""What is said of a Ray that failed."""


class ClusterError(RuntimeError):
    """Ray cannot be had as the spec asks for it; the message says why."""


def start(cluster: Cluster) -> None:
    """Connect to Ray, or start a local one; nothing where it runs already. Raises ClusterError where none answers."""
    local = not cluster.address
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "1")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():
        return
    ray_patches.apply(ray)
    try:
        if local:
            _start_local(cluster)
        else:
            _answers(cluster.address)
            ray.init(address=cluster.address, logging_level=logging.WARNING)
    except (OSError, ValueError) as error:
        if local:
            raise
        raise ClusterError(
            f"cluster.address: no Ray answers at {cluster.address}; `ray start --head` starts one, and null is a local "
            f"one ({first_line(error)})"
        ) from None
    finally:
        ray_patches.take_back_sigterm()


def _start_local(cluster: Cluster) -> None:
    """Start a Ray of this process alone, on loopback. Its processes have sessions of their own: what ends a terminal's
    or a container's processes reaches Ray through this one, which ends it in order; they do not outlive it. A thread
    starts it, and stays, as they end with it: Ray waits for half a minute for a process that died, deaf to signals."""
    import ray

    os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", "5")  # a local one that is gone stays so
    _keep_token()
    _earlier.update(child.pid for child in psutil.Process().children())
    ended = threading.Event()
    errors: list[Exception] = []

    def init() -> None:
        try:
            with ray_patches.local(ray):
                ray.init(
                    address="local",  # also beside a Ray that runs here already
                    num_cpus=cluster.cpus,
                    object_store_memory=OBJECT_STORE,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.WARNING,
                )
        except Exception as error:  # Ray raises bare ones where a process of it does not start
            errors.append(error)
        ended.set()
        threading.Event().wait()

    threading.Thread(target=init, daemon=True).start()
    while not ended.wait(0.5):
        for pid, name in _dead():
            errors.append(RuntimeError(f"its {name} ended ({pid})"))
            ended.set()
    if errors:
        raise ClusterError(
            f"a local Ray does not start: {first_line(errors[0])}. Free memory, disk and processes, and run again; "
            f"its logs are in {tempfile.gettempdir()}/ray/session_latest/logs"
        )


def warm(cluster: Cluster, jobs: int, *modules: str) -> None:
    """Have the workers of a local Ray that so many jobs will take import modules, beside what the caller does
    meanwhile: the first job of each does not have to, some .7 s of a core."""
    if cluster.address:
        return
    import ray

    remote = ray.remote(num_cpus=1, max_retries=0)(_import)
    with suppress(ray.exceptions.RayError):  # of which the first stage tells
        for _ in range(min(jobs, int(ray.cluster_resources().get("CPU", 1)))):
            remote.remote(modules)


def _import(modules: Sequence[str]) -> None:
    for module in modules:
        importlib.import_module(module)


def check(cluster: Cluster) -> None:
    """Raise ClusterError where a process of a local Ray has died; Ray itself waits, or ends this process unsaid."""
    if not cluster.address:
        for _, name in _dead():
            raise ClusterError(f"Ray failed: its {name} ended{AGAIN}")


_earlier: set[int] = set()
"""Children that were there when the local Ray was started, such as the processes of one before."""


def _dead() -> list[tuple[int, str]]:
    """Processes of a local Ray that ended before their time."""
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if child.pid not in _earlier and child.status() == psutil.STATUS_ZOMBIE:
                found.append((child.pid, child.name()))
    return [(pid, name) for pid, name in found if name in ("raylet", "gcs_server")]


def _keep_token() -> None:
    """Make Ray's token where there is none, readable by its owner alone: who has it may run code in the cluster."""
    path = Path.home() / ".ray" / "auth_token"
    if os.environ.keys() & {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}:
        return
    with suppress(FileExistsError):
        path.parent.mkdir(mode=0o700, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
    if path.stat().st_mode & 0o077:
        path.chmod(0o600)


def _answers(address: str | None) -> None:
    """Raise OSError where nothing listens at an address with a port; Ray itself would try for minutes."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def stop() -> None:
    """Leave Ray, and end a local one."""
    if "ray" in sys.modules:
        sys.modules["ray"].shutdown()


@contextmanager
def running(cluster: Cluster) -> Iterator[None]:
    """Ray for the length of a block."""
    start(cluster)
    try:
        yield
    finally:
        stop()


def first_line(error: BaseException) -> str:
    message = str(error) if isinstance(error, OwnStageError) else f"{type(error).__name__}: {error}"
    return printable(message.splitlines()[0][:300])
