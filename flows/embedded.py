"""The embedded default: what a laptop needs to run Prefect, Ray and DeepSpeed without a server, a hub or a network.

Set before those libraries are imported; what the user has set already stays.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from flows import prefect_patches

DEFAULTS = {
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_CLIENT_MAX_RETRIES": "2",  # of each call, after 2 and 4 seconds: what a server's restart takes
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "300",  # on a busy machine; one that ends is told at once
    "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
    "DO_NOT_TRACK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
}

ANSWER_SECONDS = 10.0
"""Within which a server that is configured answers."""


def prepare() -> None:
    """Put the defaults into the environment."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)


class ServerError(RuntimeError):
    """Prefect's server cannot be had; the message says why."""


@contextmanager
def server() -> Iterator[None]:
    """Prefect's server answers when the block ends: a temporary one, where none is configured, starts beside it. (Both
    take some seconds of a core; what the block imports and starts is then for nothing.) Raises ServerError where none
    answers."""
    from prefect.client.orchestration import get_client
    from prefect.settings import get_current_settings

    url = get_current_settings().api.url
    started = threading.Event()
    failed: list[Exception] = []

    def start() -> None:
        try:
            if not url:
                prefect_patches.apply()
            patience = {"httpx_settings": {"timeout": ANSWER_SECONDS}} if url else {}
            failed.extend(filter(None, [get_client(sync_client=True, **patience).api_healthcheck()]))
        except Exception as error:
            failed.append(error)
        finally:
            started.set()
        threading.Event().wait()

    threading.Thread(target=start, daemon=True).start()
    yield
    started.wait()
    if failed:
        raise ServerError(
            f"no Prefect server answers at {url}, which PREFECT_API_URL or Prefect's profile names; `prefect server "
            f"start` starts one, and without the setting a run starts its own: {failed[0]}"
            if url
            else f"Prefect's temporary server does not start: {failed[0]}"
        )


@contextmanager
def answering() -> Iterator[None]:
    """Raises ServerError where the server stops answering while the block runs."""
    import httpx
    from prefect.settings import get_current_settings

    try:
        yield
    except httpx.HTTPError as error:
        url = get_current_settings().api.url
        raise ServerError(
            f"the Prefect server{f' at {url}' if url else ''} no longer answers ({error or type(error).__name__}): "
            "start it again, and run again to go on from here"
        ) from None
