"""How long a training of 40 steps takes to its first step where the corpus is computed, and which processes need how
many CPU seconds of it. Arguments are handed to `sluice run` on the demo's spec and store.

Seconds by the clock are those of the machine as it is; CPU seconds are nearly the same on a busy one. Processes that
lived for less than a fifth of a second are not seen. The training is then interrupted, and left to be removed by
`sluice gc`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO

import psutil

from benchmarks.spent import MARK, Spent

SLUICE = Path(sys.executable).parent / "sluice"
RUN = [str(SLUICE), "run", "data_specs/demo.yaml"]
STEPS = {
    "server, spec, sources": "Beginning flow run",
    "corpus, all cached": "for flow 'training'",
    "run plan": "train: loading torch",
    "Ray, torch, model, held-out loss, first step": "train: loss",
}
"""What is done -> what the run says when it is."""
KINDS = {
    "uvicorn": "Prefect's server",
    "gcs_server": "Ray: server",
    "raylet": "Ray: scheduler",
    "TrainController": "Ray: controller of the training",
    "RayTrainWorker": "ranks of the training",
    "sluice run": "the run",
}
"""What is in a process's command -> what it is."""


def kind(process: psutil.Process) -> str:
    """What a process of a run is."""
    command = " ".join([process.name(), *process.cmdline()])
    return next((name for word, name in KINDS.items() if word in command), f"Ray: {process.name()}")


def _take(stream: IO[str], lines: list[str]) -> None:
    for line in stream:
        lines.append(line)


def main() -> None:
    subprocess.run([*RUN, "--until", "tokens"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    mark = str(os.getpid())
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"} | {MARK: mark}
    spent, lines, began = Spent(mark, kind), list[str](), time.monotonic()
    command = [*RUN, "--set", "training.steps=40", *sys.argv[1:]]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stderr is not None
        taking = threading.Thread(target=_take, args=(child.stderr, lines))
        taking.start()
        before = (0.0, 0.0)
        for name, said in STEPS.items():
            while not any(said in line for line in lines):
                if child.poll() is not None:
                    sys.exit("the run ended before its first step:\n" + "".join(lines[-20:]))
                spent.look()
                time.sleep(0.2)
            now = (time.monotonic() - began, spent.total())
            print(f"{name:48}{now[0] - before[0]:6.1f} s {now[1] - before[1]:6.1f} CPU s", flush=True)
            before = now
        child.send_signal(signal.SIGINT)
        child.wait()
        taking.join()
    print(f"{'first step, in all':48}{before[0]:6.1f} s {before[1]:6.1f} CPU s, of which")
    for name, count, seconds in spent.by_kind():
        print(f"  {name:46}{count:4} processes {seconds:6.1f} CPU s")


if __name__ == "__main__":
    main()
