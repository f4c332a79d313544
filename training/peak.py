"""How much memory a training takes at most: of the device where there is one, else of this process."""

from __future__ import annotations

import re
from pathlib import Path

import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Peak:
    """From when it is made, or started anew."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.start()

    def start(self) -> None:
        """Forget what was before."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            _CLEAR.write_text("5")  # VmHWM begins at what is resident now
        self.before = self.now()

    def now(self) -> int:
        """Bytes that are held now."""
        return torch.cuda.memory_allocated(self.device) if self.device.type == "cuda" else _resident("VmRSS")

    def most(self) -> int:
        """The most bytes that were held since."""
        return torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else _resident("VmHWM")


def _resident(key: str) -> int:
    """Of this process, in bytes, as Linux counts it."""
    found = re.search(rf"^{key}:\s+(\d+) kB$", _STATUS.read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0
