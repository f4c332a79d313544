"""Files that are read over HTTP: a server that is overloaded or stumbles is asked again, as clients of S3 do by
themselves, so that it costs a moment and not a shard."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiohttp import ClientHandlerType, ClientRequest, ClientResponse

_PASSING = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses that another try may change (RFC 9110)."""
_WAITS = (0.5, 1.0, 2.0, 4.0)
"""Seconds between tries."""


async def patiently(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
    """Send a request, as often as it takes within all of `_WAITS`."""
    from aiohttp import ClientConnectionError  # here, as most runs read no URL

    for wait in _WAITS:
        try:
            response = await handler(request)
            if response.status not in _PASSING:
                return response
            response.close()
        except (ClientConnectionError, TimeoutError):
            pass
        await asyncio.sleep(wait)
    return await handler(request)


def options(path: str) -> dict[str, Any]:
    """Options of fsspec's file system for a path."""
    return {"client_kwargs": {"middlewares": (patiently,)}} if path.startswith(("http://", "https://")) else {}


def reason(error: BaseException) -> str:
    """Why a file cannot be read; fsspec calls a file missing whatever the server said of it."""
    cause = error.__cause__ if isinstance(error, FileNotFoundError) else None
    if isinstance(error, FileNotFoundError) and getattr(cause, "status", 404) == 404:
        return "it does not exist"
    return f"{cause or error or type(error).__name__}"
