"""Processes whose first cosine differs from their second: `python -m tests.first_calls COUNT` forks so many, each with
more threads than cores and no call made before, and prints how many differed (without `resolve_kernels` some 12 of
10,000, on an Intel Xeon with three of these running)."""

from __future__ import annotations

import os
import sys

import torch

from training import ranks

THREADS, CHUNK = 32, 2048
"""A chunk is what PyTorch gives one thread of a unary function."""


def differs(angles: torch.Tensor) -> bool:
    """In a forked process, with threads that are awake when the function is first called."""
    process = os.fork()
    if not process:
        torch.set_num_threads(THREADS)
        (angles + 1).sum()
        ranks.resolve_kernels()
        os._exit(not torch.equal(torch.cos(angles), torch.cos(angles)))
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) != 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    angles = torch.arange(THREADS * CHUNK, dtype=torch.float32) % 83
    print(sum(differs(angles) for _ in range(int(sys.argv[1]))))
