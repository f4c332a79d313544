"""What the children of the tests do, in a module that loads at once."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path
from typing import Any


def behave(how: str = "", **more: Any) -> dict[str, Any]:
    """Answer, or do what a page must not be able to do."""
    match how:
        case "spin":
            while True:
                pass
        case "spin in C":
            re.match(r"(a+)+$", "a" * 60 + "b")
        case "swell":
            return {"size": len(b"x" * (400 << 20))}
        case "grow":
            held = []
            while True:
                held.append(b"x" * (8 << 20))
                time.sleep(0.01)
        case "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "raise":
            raise RecursionError
        case "hang":
            time.sleep(600)
        case "spin once":
            mark = Path(more["mark"])
            while not mark.exists() or mark.read_text() == str(os.getpid()):
                mark.write_text(str(os.getpid()))
        case "crash once":
            mark = Path(more["mark"])
            if not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
    return {"pid": os.getpid(), **more}
