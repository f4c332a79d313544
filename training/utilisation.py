"""What a device can do at most, and what it holds: for the utilisation of a training, and its memory."""

from __future__ import annotations

import os
from pathlib import Path

import torch

PEAK = {
    "B200": 2250e12,
    "H200 NVL": 835e12,
    "H200": 989e12,
    "GH200": 989e12,
    "H100 NVL": 835e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "H800 PCIe": 756e12,
    "H800": 989e12,
    "A100": 312e12,
    "A800": 312e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
    "A40": 150e12,
    "A10": 125e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
}
"""Words of a device's name -> dense bf16 operations per second with sums in float32, as its maker states them."""
OTHERS = ("MIG", "Laptop", "Ti", "D", "SUPER")
"""Words of a name by which a device is a part of one of these, or another one."""


def peak(device: torch.device, low_precision: bool) -> float | None:
    """Operations per second that a device could do at most; None where that is not known, as of processors and of
    float32, whose matrices may be multiplied in TF32 or not."""
    if device.type != "cuda" or not low_precision:
        return None
    return _peak(torch.cuda.get_device_name(device))


def _peak(name: str) -> float | None:
    words = f" {name.replace('-', ' ')} "
    if any(f" {other} " in words for other in OTHERS):
        return None
    return next((value for part, value in PEAK.items() if f" {part} " in words), None)


def memory(device: torch.device) -> int:
    """Bytes that this process holds: on a GPU the most that it allocated there so far, else its resident pages."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    pages = Path("/proc/self/statm").read_bytes().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
