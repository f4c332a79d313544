"""What is changed inside Ray 2.60.0: what it does on SIGTERM, and a warning that says nothing.

A test fails where Ray has another version or other insides than these changes were made for.
"""

from __future__ import annotations

import logging
from types import ModuleType

VERSION = "2.60.0"


def apply(ray: ModuleType) -> None:
    """Change Ray for this process, before it is started. Its own handler of SIGTERM would exit at once; ours and
    Prefect's end a run in order. That it has made itself a token is no warning."""
    ray._private.utils.set_sigterm_handler = lambda _: None
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
