"""The fan-out: jobs as plain Ray tasks in a bounded window. The only module of tasks/ that knows Ray.

Ray's own retries are off; ours tell three things apart. A job's own error spends one of its attempts; a bug in a stage
of one's own, all. A worker that
dies spends one of its crashes (an out-of-memory kill and a crash look alike), and the job's next attempt runs alone.
A dead node spends nothing. Nor does a failure of the storage: the job is tried again a few times, ever later, and then
the run stops with it, as it would go on to fail shard after shard; where access is denied, which the user has to mend,
it stops at once. Nor does a damaged file, which is raised once the other jobs are done. A job that has spent its
attempts is returned as an error entry, never raised.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from data_specs import stages
from data_specs.amounts import plural
from data_specs.cluster import Cluster
from data_specs.document import SpecError
from tasks.engine import worker
from tasks.engine.contract import BugError
from tasks.engine.job import Job
from tasks.engine.ray_session import AGAIN, ClusterError, check, first_line, start
from tasks.storage.manifest import Entry
from tasks.storage.store import DamagedError, DeniedError, Store, StoreError

log = logging.getLogger("sluice")

_GROWS = 300
"""Seconds in which a cluster may get a node that is large enough for a stage's jobs."""
WAITS = (1.0, 2.0, 4.0, 8.0)
"""Seconds after which a job is tried again whose storage failed; nothing is begun meanwhile."""
_held: tuple[str, Any] | None = None


def _run(stage_key: str, ref: list[Any], job: Job, store: Store) -> Entry:
    """In a worker: keep one stage set up, and do the job with it."""
    import ray

    global _held
    if _held is None or _held[0] != stage_key:
        close = getattr(_held[1], "close", None) if _held else None
        if close:
            close()
        _held = None
        stage, recipe = ray.get(ref[0])
        worker.check(stage, recipe)
        _held = (stage_key, worker.prepare(stage, store))
    return worker.run(_held[1], job, store)


def reserved(stage: Any, cluster: Cluster) -> dict[str, float]:
    """What Ray reserves for one job of a stage, by Ray's names: cores, bytes of memory, GPUs."""
    settings = getattr(stage, "settings", None)
    asked = settings if isinstance(settings, stages.Stage) else stages.Stage(kind="")
    memory = cluster.shard_memory if asked.memory is None else asked.memory
    return {"CPU": asked.cores, "memory": memory, "GPU": asked.gpus}


def _fit(name: str, needs: Mapping[str, float], cluster: Cluster, nodes: Callable[[], Sequence[Any]]) -> None:
    """Raise ClusterError where a job would wait for ever: no node has what it reserves. A cluster may grow, so there a
    larger node is waited for, with a warning, for `_GROWS` seconds."""
    until = time.monotonic() + (_GROWS if cluster.address else 0)
    warned = False
    while True:
        alive = [node["Resources"] for node in nodes() if node["Alive"]]
        if any(all(node.get(kind, 0) >= need for kind, need in needs.items()) for node in alive):
            return
        largest = {kind: max((node.get(kind, 0) for node in alive), default=0) for kind in needs}
        message = (
            f"a job of {name} needs {_amounts(needs)}, but the largest node of Ray has {_amounts(largest)} for tasks"
        )
        if time.monotonic() >= until:
            raise ClusterError(
                f"{message}: lower `cores`, `memory` or `gpus` of the stage, or cluster.shard_memory, or add a node"
            )
        if not warned:
            log.warning("%s: waiting for a larger one", message)
        warned = True
        time.sleep(5)


def _amounts(resources: Mapping[str, float]) -> str:
    cores, memory, gpus = (resources[kind] for kind in ("CPU", "memory", "GPU"))
    return f"{cores:g} cores, {memory / 2**20:,.0f} MiB" + (f" and {gpus:g} GPUs" if gpus else " and no GPU")


def run(
    stage: Any,
    stage_key: str,
    jobs: Sequence[Job],
    store: Store,
    cluster: Cluster,
    commit: Callable[[list[Entry]], None],
    *,
    flush_seconds: float = 2.0,
) -> int:
    """Do all jobs; give finished entries to `commit` every `flush_seconds`. Returns how many ended in an error entry.
    Raises ClusterError where Ray fails, or no node of it has what one job reserves, StoreError where the storage keeps
    failing or refuses, and DamagedError, at last, where jobs met damaged files."""
    import ray

    start(cluster)
    needs = reserved(stage, cluster)
    try:
        _fit(getattr(stage, "label", "documents"), needs, cluster, ray.nodes)
        remote = ray.remote(num_cpus=needs["CPU"], memory=needs["memory"], num_gpus=needs["GPU"], max_retries=0)(_run)
        ref = [ray.put((stage, worker.recipe(stage)))]
        window = 2 * max(1, int(ray.cluster_resources().get("CPU", 1) / max(needs["CPU"], 1)))
        fan = _Fan(jobs, cluster, window, lambda job: remote.remote(stage_key, ref, job, store))
        return fan.run(commit, flush_seconds)
    except ray.exceptions.RayError as error:
        raise ClusterError(f"Ray failed: {first_line(error)}{AGAIN}") from None


class _Fan:
    """Jobs on their way: those that wait, the window of those that run, and what came of those that are done."""

    def __init__(self, jobs: Sequence[Job], cluster: Cluster, window: int, submit: Callable[[Job], Any]) -> None:
        """`submit` has Ray begin a job, and returns what is waited for."""
        self.cluster, self.window, self.submit = cluster, window, submit
        self.waiting = deque(sorted(jobs, key=lambda job: -job.cost))
        self.alone: deque[Job] = deque()
        """Those whose worker died: each runs while nothing else does."""
        self.running: dict[Any, Job] = {}
        self.solitary = False
        """Whether what runs is to run alone."""
        self.resume = 0.0
        """When jobs are begun again, after the storage failed."""
        self.errors, self.crashes, self.stalls = Counter[str](), Counter[str](), Counter[str]()
        """How often a job failed, its worker died, and its storage failed, by the job's key."""
        self.finished: list[Entry] = []
        self.damages: list[DamagedError] = []
        self.failed = 0

    def run(self, commit: Callable[[list[Entry]], None], flush_seconds: float) -> int:
        """See the function `run`."""
        flushed = time.monotonic()
        while self.waiting or self.alone or self.running:
            self._begin()
            for done in self._wait(flush_seconds):
                self._end(done)
            over = not (self.waiting or self.alone or self.running)
            if self.finished and (over or time.monotonic() - flushed > flush_seconds):
                commit(self.finished)
                self.finished, flushed = [], time.monotonic()
        stop_at(self.damages)
        return self.failed

    def _begin(self) -> None:
        """Have Ray begin what may run now."""
        if not self.running:
            time.sleep(max(0.0, self.resume - time.monotonic()))
            self.solitary = bool(self.alone)
            if self.alone:
                self._submit(self.alone)
        held = self.alone or self.solitary or time.monotonic() < self.resume
        while self.waiting and not held and len(self.running) < self.window:
            self._submit(self.waiting)

    def _submit(self, queue: deque[Job]) -> None:
        job = queue.popleft()
        self.running[self.submit(job)] = job

    def _wait(self, seconds: float) -> list[Any]:
        """Jobs that are done, as soon as one is."""
        import ray

        try:
            ready, _ = ray.wait(list(self.running), num_returns=1, timeout=seconds)
        except SystemError as error:  # what a signal raises inside Ray's C code
            raise error.__cause__ or error from None
        if not ready:
            check(self.cluster)
        return ready

    def _end(self, done: Any) -> None:
        """A job is done: keep its entry, or decide what its failure means. Raises StoreError."""
        import ray

        job = self.running.pop(done)
        try:
            self.finished.append(ray.get(done))
        except (ray.exceptions.NodeDiedError, ray.exceptions.ObjectLostError):
            self.waiting.append(job)
        except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError) as error:
            self._spend(job, error, "its worker died", self.crashes, self.cluster.crashes, self.alone)
        except ray.exceptions.RayTaskError as error:
            cause = error.cause if isinstance(error.cause, BaseException) else error
            if isinstance(cause, DamagedError):
                self.damages.append(cause)
            elif isinstance(cause, DeniedError):
                raise cause from None
            elif isinstance(cause, StoreError):
                self._hold(job, cause)
            else:
                most = 1 if isinstance(cause, BugError | SpecError) else self.cluster.attempts
                self._spend(job, cause, first_line(cause), self.errors, most, self.waiting)

    def _spend(
        self,
        job: Job,
        error: BaseException,
        why: str,
        spent: Counter[str],
        most: int,
        again: deque[Job],
    ) -> None:
        """One of a job's attempts is spent: it is tried `again`, or ends in an error entry."""
        spent[job.key] += 1
        log.warning("%s: %s, attempt %d of %d", job.shard, why, spent[job.key], most)
        if spent[job.key] < most:
            again.append(job)
        else:
            self.finished.append(error_entry(job, error, spent[job.key]))
            self.failed += 1

    def _hold(self, job: Job, error: StoreError) -> None:
        """A job's storage failed, not the job: it comes first in a while, ever later, and nothing is begun before.
        Raises the error where that was tried often enough."""
        self.stalls[job.key] += 1
        if self.stalls[job.key] > len(WAITS):
            raise error from None
        wait = WAITS[self.stalls[job.key] - 1]
        log.warning("%s: %s; tried again in %.0f s", job.shard, first_line(error), wait)
        self.waiting.appendleft(job)
        self.resume = time.monotonic() + wait


def stop_at(damages: Sequence[DamagedError]) -> None:
    """Raise the first of the damages that jobs met, with the files of all."""
    if damages:
        more = f"; {plural(len(damages) - 1, 'more job')} met damage" if damages[1:] else ""
        paths = dict.fromkeys(path for damage in damages for path in damage.paths)
        raise DamagedError(f"{damages[0]}{more}", *paths) from damages[0]


def error_entry(job: Job, error: BaseException, attempts: int) -> Entry:
    return {
        "key": job.key,
        "shard": job.shard,
        "ids": job.ids,
        "run": job.run,
        "error": first_line(error),
        "attempts": attempts,
    }
