"""The demo from a fresh store: seconds in all and in training, peak memory (PSS over all processes), the second run.

Limits on two cores: 8 minutes, of which training 4; 6 GiB; and 25 s for a second run, which computes nothing. Arguments
are handed to `sluice run`. As on a processor without a bf16 unit, nor AVX-512: `--set training.precision=fp32` with
ATEN_CPU_CAPABILITY=avx2, ONEDNN_MAX_CPU_ISA=AVX2 and MKL_ENABLE_INSTRUCTIONS=AVX2 in the environment.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

SLUICE = Path(sys.executable).parent / "sluice"


def pss(root: psutil.Process) -> int:
    """Bytes of a process and all its descendants, shared pages divided among those that share them."""
    total = 0
    for process in [root, *root.children(recursive=True)]:
        try:
            total += process.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total


def run(store: str, more: list[str]) -> tuple[dict[str, Any], float, int]:
    """The record of a run, its seconds and its peak memory in bytes."""
    command = [str(SLUICE), "run", "data_specs/demo.yaml", "--store", store, "--json", *more]
    started, peak = time.perf_counter(), 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child:
        root = psutil.Process(child.pid)
        while child.poll() is None:
            peak = max(peak, pss(root))
            time.sleep(1)
        assert child.stdout is not None
        record = json.loads(child.stdout.read().splitlines()[-1])
    return record, time.perf_counter() - started, peak


def main() -> None:
    with tempfile.TemporaryDirectory() as store:
        record, seconds, peak = run(store, sys.argv[1:])
        stages = {stage["name"]: stage["seconds"] for stage in record["stages"]}
        print(
            f"first run: {record['status']}, {seconds:.0f} s (limit 480), training {stages['train']:.0f} s (limit 240)"
        )
        print(f"peak memory {peak / 2**30:.2f} GiB (limit 6)")
        slowest = sorted(stages.items(), key=lambda stage: -stage[1])[:6]
        print("slowest stages: " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in slowest))
        record, seconds, _ = run(store, sys.argv[1:])
        states = {stage["state"] for stage in record["stages"]}
        print(f"second run: {seconds:.1f} s (limit 25), states {sorted(states)}")


if __name__ == "__main__":
    main()
