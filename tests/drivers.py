"""One of several drivers of one corpus: `python -m tests.drivers SPEC KEY=VALUE ...` names each stage it has done."""

from __future__ import annotations

import sys
from pathlib import Path

from flows.run import Run
from tests.whole import direct


def drive(spec: Path, settings: list[str]) -> None:
    run = Run.of(str(spec), None, settings)
    with run.working():
        run.execution.run_jobs = direct
        for name in run.corpus_stages():
            run.stage(name, lambda *_: None, False, False)
            print(name, flush=True)
        run.version(lambda *_: None)
        run.plan(lambda *_: None)
        run.save(ended=True)


if __name__ == "__main__":
    drive(Path(sys.argv[1]), sys.argv[2:])
