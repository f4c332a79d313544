"""The embedded default: what a laptop needs to run Prefect, Ray and DeepSpeed without a server, a hub or a network.

Set before those libraries are imported; what the user has set already stays.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

DEFAULTS = {
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",
    "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
    "DO_NOT_TRACK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


def prepare() -> None:
    """Put the defaults into the environment."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)


@contextmanager
def server() -> Iterator[None]:
    """Prefect's server answers when the block ends: a temporary one, where none is configured, starts beside it. (Both
    take some seconds of a core; what the block imports and starts is then for nothing.)"""
    from prefect.client.orchestration import get_client

    starting = threading.Thread(target=get_client, kwargs={"sync_client": True})
    starting.start()
    try:
        yield
    finally:
        starting.join()
