"""One bit flipped in each of 150 seeded places of every kind of file of a store, and what verification costs.

A small corpus is read, judged, tokenised, planned and trained on. Then every flip is met by the reader that a run uses
for the file: it notices, or gives the same values (a bit that nothing depends on); other values without a word, or
another kind of error, are failures. Three flips a kind are met by a command: a run that computes again what stands
above the file, a query, `plan`, `funnel`, an export, a training that goes on. A run may make a damaged file again, and
then ends with the values of an undamaged one. Limits: no silent value, no other error, and 3 % of a run's CPU seconds.
"""

from __future__ import annotations

import glob
import gzip
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner

from flows.cli import cli
from flows.run import Run
from tasks.engine import versions
from tasks.engine.versions import Versions
from tasks.storage import checksums, columns, manifest, store
from tasks.storage.store import Store
from tests import flips, small, training_ranks, whole
from tests.flips import DAMAGE, NOTICED, SAME, SILENT, WRONG
from training import checkpoint, log

FLIPS, BY_COMMAND = 150, 3
FILES, DOCUMENTS, STEPS = 4, 250, 8
TRAINING = "integrity"

ABOVE = {
    "documents": ("columns/*@*",),
    "columns": ("columns/verdict@*", "columns/clusters@*", "columns/alike@*"),
    "shuffles": ("columns/*@*/reduce", "columns/*@*/*.parquet", "columns/*@*/manifest"),
    "samples": (),
    "tokens": ("plans/*",),
    "plan.json": (),
    "manifests": (),
    "pins": (),
    "pinned files": ("columns/domain@*", "columns/quality@*", "columns/held_out@*", "tokens/*"),
    "counts": ("versions",),
    "totals": ("versions/*/0*.json",),
    "versions": (),
    "lists of shards": (),
    "lists of keys": (),
    "listings": (),
}
"""What is removed so that a run reads the files of a kind."""
RETRAIN = {"samples": ("domain", "quality", "held_out")}
QUERY = "select * from corpus order by id"


class Spent:
    """CPU seconds of this process inside of functions that verify."""

    def __init__(self) -> None:
        self.seconds, self.inside = 0.0, False

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def measured(*args: Any, **given: Any) -> Any:
            if self.inside:
                return function(*args, **given)
            began, self.inside = time.process_time(), True
            try:
                return function(*args, **given)
            finally:
                self.inside = False
                self.seconds += time.process_time() - began

        return measured

    @contextmanager
    def measuring(self) -> Iterator[None]:
        spent = self

        class Summed(checksums.Summed):
            """Counts the hashing, not the writing."""

            def write(self, data: Any) -> int:
                spent.timed(self._state.update)(data)
                self.size += len(data)
                return self.file.write(data)

        places = [(columns, name) for name in ("_known", "_hold", "_hold_slice")]
        places += [(manifest, "sealed_lines"), (manifest, "unsealed_lines"), (store, "sealed"), (store, "unsealed")]
        places += [(versions, "_named"), (versions, "_digest")]
        before = [getattr(module, name) for module, name in places]
        for (module, name), function in zip(places, before, strict=True):
            setattr(module, name, self.timed(function))
        columns.Summed = Summed  # type: ignore[misc]
        try:
            yield
        finally:
            columns.Summed = checksums.Summed  # type: ignore[misc]
            for (module, name), function in zip(places, before, strict=True):
                setattr(module, name, function)


def train(run: Run, resume: bool) -> list[BaseException]:
    """Train on the plan of a run, in a process of its own; its errors."""
    folder = Path(str(run.store.local("")))
    ranks = training_ranks.Ranks(folder, 1, [(run.spec, run.record["plan"], TRAINING, resume)])
    errors = ranks.wait()
    if not errors and any(process.exitcode for process in ranks.processes):
        raise SystemError("the training's process died without a word")
    return errors


def losses(folder: Path) -> list[float]:
    return [record["loss"] for record in log.read(Store(str(folder)), TRAINING)]


def answered(*command: str) -> str:
    """What a command answers. Raises SystemError with what it said, where it fails."""
    result = CliRunner().invoke(cli, [*command, "--json"])
    if result.exit_code:
        said = result.output + repr(result.exception)
        raise (store.DamagedError if "damaged" in said or "pinned" in said else SystemError)(said)
    found = json.loads(result.output.splitlines()[-1])
    found.pop("to", None)
    return json.dumps([stage["state"] for stage in found["stages"]] if "stages" in found else found)


def reruns(spec: Path, kind: str) -> dict[str, Any]:
    """The content that a run comes to which reads files of a kind; whether it said that it repaired some."""
    for pattern in ABOVE[kind]:
        for path in glob.glob(str(spec.parent / "store" / pattern)):
            shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)
    run = whole.go(spec, retrain=RETRAIN.get(kind, ()))
    notes = [stage["note"] for stage in run.record["stages"] if "is made again" in stage["note"]]
    return values(run) | {"repaired": bool(notes)}


def values(run: Run) -> dict[str, Any]:
    """What a run came to, but for its pins, of which some flips make it learn one more."""
    found = {name: value for name, value in whole.content(run).items() if not name.startswith("pin ")}
    version = Versions(run.store, run.spec.name).read(run.record["version"]["version"])
    return found | {name: version[name] for name in ("digest", "totals", "funnel")}


def resumes(run: Run, kind: str) -> dict[str, Any]:
    """The losses of a training that goes on from an earlier checkpoint, and whether it left a damaged one out."""
    newest, *_, first = checkpoint.steps(run.store, TRAINING)
    if kind != "checkpoints":  # of which the newest is damaged
        checkpoint.remove(run.store, TRAINING, first + 1, newest)
    for error in train(run, resume=True):
        raise error
    warnings = log.read(run.store, TRAINING, "warning")
    return {"losses": losses(Path(str(run.store.local("")))), "repaired": bool(warnings)}


def by_command(made: Run, spec: Path, known: dict[str, list[flips.Case]]) -> Iterator[tuple[str, str, str]]:
    """(kind by command, outcome, what) of some flips a kind that commands meet."""
    straight, query, plan = values(made), answered("query", str(spec), QUERY), answered("plan", str(spec))
    export, funnel = answered("export", str(spec), f"{spec.parent}-out"), answered("funnel", str(spec), "--by=channel")
    commands: list[tuple[str, str, Callable[[Path, Run], Any], Any]] = [
        *((kind, "run", lambda path, _, kind=kind: reruns(path, kind), straight) for kind in ABOVE),
        *(
            (kind, "query", lambda path, _: answered("query", str(path), QUERY), query)
            for kind in ("documents", "columns")
        ),
        *(
            (kind, "plan", lambda path, _: answered("plan", str(path)), plan)
            for kind in ("manifests", "pins", "plan.json", "listings")
        ),
        *(
            (kind, "export", lambda path, _: answered("export", str(path), str(path.parent / "out")), export)
            for kind in ("documents", "columns", "versions", "lists of shards", "lists of keys")
        ),
        ("counts", "funnel", lambda path, _: answered("funnel", str(path), "--by=channel"), funnel),
        *(
            (kind, "resume", lambda _, run, kind=kind: resumes(run, kind), {"losses": losses(spec.parent / "store")})
            for kind in ("checkpoints", "log", "plan rows", "tokens")
        ),
    ]
    for number, (kind, command, work, truth) in enumerate(commands):
        rng = random.Random(number)
        for _ in range(BY_COMMAND):
            with tempfile.TemporaryDirectory(prefix="sluice-integrity-") as folder:
                shutil.copytree(spec.parent, folder, dirs_exist_ok=True)
                copied = Path(folder) / "small.yaml"
                copied.write_text(small.SPEC.format(folder=folder))
                run = Run.of(str(copied))
                run.record["plan"] = made.record["plan"]
                path = rng.choice(known[kind])[0]
                flips.flipped(run.store, path, rng)
                try:
                    found = work(copied, run)
                except DAMAGE as error:
                    yield f"{kind} by {command}", NOTICED, str(error)
                    continue
                except (Exception, SystemError) as error:
                    yield f"{kind} by {command}", WRONG, f"{path}: {type(error).__name__}: {error}"
                    continue
            repaired = isinstance(found, dict) and found.pop("repaired")
            outcome = NOTICED if repaired else SAME
            yield f"{kind} by {command}", outcome if found == truth else SILENT, path


def main() -> None:
    missed: list[str] = []
    with tempfile.TemporaryDirectory(prefix="sluice-integrity-") as folder:
        spec = small.corpus(Path(folder), files=FILES, documents=DOCUMENTS)
        (Path(folder) / "web" / "web-90.jsonl.gz").write_bytes(gzip.compress(b'{"text": "", "url": "refused"}\n' * 900))
        spent, began = Spent(), time.process_time()
        with spent.measuring():
            run = whole.go(spec)
        seconds = time.process_time() - began
        share = spent.seconds / seconds
        print(
            f"a run up to the plan: {seconds:.1f} CPU seconds, of which verification {spent.seconds:.2f}, "
            f"{share:.2%} (limit 3 %)"
        )
        spent, began = Spent(), time.process_time()
        with spent.measuring():
            whole.go(spec)
        seconds = time.process_time() - began
        print(f"a second run, every stage cached: {seconds:.2f} CPU seconds, of which verification {spent.seconds:.3f}")
        for error in train(run, resume=False):
            raise error
        assert np.isfinite(losses(Path(folder) / "store")).all()
        known = flips.kinds(run, TRAINING)
        print(f"{'':28}{NOTICED:>9}{SAME:>13}{'silent':>8}{'wrong':>7}")
        for number, (kind, cases) in enumerate(known.items()):
            if cases:
                outcomes, found = flips.counted(run.store, cases, FLIPS, number)
                missed += [f"{kind}: {what}" for what in found]
                told(kind, outcomes)
        met: dict[str, Counter[str]] = {}
        for kind, outcome, what in by_command(run, spec, known):
            met.setdefault(kind, Counter())[outcome] += 1
            if outcome in (SILENT, WRONG):
                missed.append(f"{kind}: {outcome}: {what}")
        for kind, outcomes in met.items():
            told(kind, outcomes)
    print("\n".join(missed[:40]))
    print(f"{len(missed)} flips were silent or ended in another kind of error (limit 0)")
    sys.exit(bool(missed) or share > 0.03)


def told(kind: str, outcomes: Counter[str]) -> None:
    print(f"{kind:28}{outcomes[NOTICED]:9}{outcomes[SAME]:13}{outcomes[SILENT]:8}{outcomes[WRONG]:7}", flush=True)


if __name__ == "__main__":
    main()
