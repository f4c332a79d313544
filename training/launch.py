"""Training as one call: Ray Train places the workers, each runs `training.fit.fit`. Only this module knows Ray.

Importing it imports neither torch nor Ray, and what the user got wrong is refused before either starts. Only the
workers import torch: Ray Train's own set-up of it would import it in the driver and in the controller, too.
"""

from __future__ import annotations

import contextvars
import logging
import os
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from data_specs.amounts import plural
from data_specs.spec import Spec
from tasks.storage.pins import Pin
from tasks.storage.store import DamagedError, Store
from training import checkpoint, log, models, start, stop, trackers, watchdog
from training.rows import Plan

Progress = Callable[[log.Record], None]
POLL_SECONDS = 2.0


class TrainingError(RuntimeError):
    """Training cannot begin, or a worker failed; the message says why."""


def train(
    spec: Spec, store_url: str, plan: str, run: str, tokenizer: Pin, resume: bool, progress: Progress | None = None
) -> dict[str, Any]:
    """Train the plan in folder `plan` with `spec.training.workers` workers, one GPU each or a share of the cores.

    `run` names the folder `runs/<run>/` of everything written: `run.json` (spec, versions), `log/`, `checkpoints/`,
    `export/`, `summary.json`. `tokenizer` is the pin of its tokenizer.json. `resume` goes on from the
    newest checkpoint that verifies. `progress` gets each record of the log, from a thread. A Ray that runs is used.
    What interrupts it waits for a checkpoint of the step the workers are in, `training.grace` seconds at most.

    Returns the summary: steps, tokens (supervised), loss (last), channels {name: {first, last, tokens}}, held_out
    {name: {first, last}}, checkpoint and export (paths), seconds. Raises PlanError or
    CheckpointError for what cannot be trained or resumed, TrainingError when the store is too full, a worker fails, or
    someone else asked the training to end.
    """
    store = Store(store_url)
    check(spec, store, plan, run, resume)
    work = {"spec": spec, "store_url": str(store.local("") or store_url), "plan": plan, "run": run}
    work |= {"tokenizer": tokenizer, "resume": resume, "folder": os.getcwd()}
    store.remove(stop.path(run))
    watchdog.forget(store, run)
    with _following(store, run, progress):
        _fit(spec, store, work)
    if not store.exists(f"runs/{run}/summary.json"):
        last = max(checkpoint.steps(store, run), default=0)
        raise TrainingError(f"{stop.path(run)} ended the training after step {last}; run again to go on from there")
    return store.json(f"runs/{run}/summary.json")


def check(spec: Spec, store: Store, plan: str, run: str, resume: bool) -> None:
    """Refuse what would fail later: plan, resume, space for checkpoints and export."""
    read = Plan.read(store, plan, spec.mixture.shards == "rows")
    read.check(spec.training)
    if lacking := trackers.lacking(spec.training.trackers):
        raise TrainingError(lacking)
    found = checkpoint.steps(store, run)
    if resume and not found:
        raise checkpoint.CheckpointError(f"runs/{run} has no checkpoint to resume")
    if found and not resume:
        raise checkpoint.CheckpointError(f"runs/{run} has checkpoints: resume it, or choose another name for this run")
    if found and (changed := start.other(store, run)):
        raise checkpoint.CheckpointError(changed)
    needed = models.parameters(spec.model, read.vocabulary, read.longest()) * (
        checkpoint.bytes_of_weight(spec.training) * (spec.training.checkpoint.keep + 1) + 4
    )
    free = store.free()
    if free is not None and free < needed:
        raise TrainingError(
            f"{store.url} has {free / 2**20:,.0f} MiB free; checkpoints and export of this model need "
            f"{needed / 2**20:,.0f} MiB: free some, move the store, or lower training.checkpoint.keep"
        )


def _fit(spec: Spec, store: Store, work: dict[str, Any]) -> None:
    """Run the workers on Ray. Raises TrainingError with the first worker's own error."""
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")  # two processes fewer; runs resume anyway
    os.environ.setdefault("RAY_TRAIN_METRICS_ENABLED", "0")
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")  # how soon an end is seen; else 2
    import ray

    from tasks.engine import ray_session

    started = not ray.is_initialized()
    ray_session.start(spec.cluster)
    have, workers = ray.cluster_resources(), spec.training.workers
    use_gpu = _on_gpus(spec, have.get("GPU", 0))
    work["device"] = "cuda" if use_gpu else "cpu"
    cpus = min(1.0, have.get("CPU", 1) / workers)
    for left in range(spec.training.restarts, -1, -1):
        failure = _placed(spec, store, work, cpus, use_gpu)
        if failure is None:
            break
        by_worker = [*getattr(failure, "worker_failures", {}).values()]
        why = watchdog.last_word(store, work["run"]) or _why(by_worker or [failure])
        if not (left and _died(by_worker)):
            break
        work["resume"] = bool(checkpoint.steps(store, work["run"]))
        again = plural(left - 1, "more time")
        logging.getLogger("sluice").warning("train: %s; the workers start again (%s at most)", why, again)
    if started:
        ray_session.stop()
    if failure:
        for cause in _causes(by_worker or [failure]):
            if isinstance(cause, DamagedError):
                raise DamagedError(str(cause), *cause.paths) from failure
        raise TrainingError(why) from failure


def _placed(spec: Spec, store: Store, work: dict[str, Any], cpus: float, use_gpu: bool) -> BaseException | None:
    """Run the workers once -> why they failed, if they did; a signal has the training save before it goes on up."""
    from tasks.engine import ray_session

    workers = spec.training.workers
    began, ended = log.attempts(store, work["run"]), threading.Event()
    failures: list[BaseException] = []

    def place() -> None:
        """Beside the main thread, where Ray Train would take SIGINT for itself and a signal could not end the wait."""
        try:
            _place(work, workers, cpus, use_gpu, local=not spec.cluster.address)
        except Exception as error:
            failures.append(error)
        finally:
            ended.set()

    threading.Thread(target=place, daemon=True).start()
    try:
        while not ended.wait(POLL_SECONDS):
            ray_session.check(spec.cluster)
    except ray_session.ClusterError:
        raise
    except BaseException:  # a signal
        if log.attempts(store, work["run"]) > began:  # else there is nothing to save yet
            stop.ask(store, work["run"], spec.training.grace, ended.wait)
            ended.wait(POLL_SECONDS)
        raise
    return failures[0] if failures else None


def _died(failures: Sequence[BaseException]) -> bool:
    """Whether a worker's process ended, or its connection, as of one whose end is not seen yet: this says nothing
    against doing the same again, unless one of them refused. Other errors would come again."""
    causes = _causes(failures)
    ours = any(_is_of(cause, "training", "tasks") for cause in causes)
    return not ours and any(_is_of(cause, "ray") or isinstance(cause, RuntimeError | OSError) for cause in causes)


def _causes(failures: Sequence[BaseException]) -> list[BaseException]:
    """What workers raised, and of those whose processes ended what Ray says."""
    return [getattr(failure, "_base_exc", failure) for failure in failures]


def _is_of(error: BaseException, *packages: str) -> bool:
    return type(error).__module__.partition(".")[0] in packages


def _place(work: dict[str, Any], workers: int, cpus: float, use_gpu: bool, local: bool) -> None:
    """Have Ray Train start the workers, and wait for their end; of the processes that it starts beside them those alone
    that have something to do here, as each takes two seconds of a core before the first step: none hands out Ray
    datasets, and on a Ray of this machine alone nothing is asked of an autoscaler or cleaned up after a lost node."""
    from ray.train import RunConfig, ScalingConfig
    from ray.train.backend import Backend, BackendConfig
    from ray.train.v2._internal.callbacks import DatasetsCallback
    from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
    from ray.train.v2._internal.execution.scaling_policy import FixedScalingPolicy
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    class Bare(Backend):
        """Workers as Ray places them; those of a node see all its GPUs that they have."""

        share_cuda_visible_devices = True

    class Config(BackendConfig):
        backend_cls = Bare

    class OneMachine(FixedScalingPolicy):
        """Asks no autoscaler."""

        def after_controller_start(self, train_run_context: Any) -> None:
            pass

        def _maybe_send_resource_request(self) -> None:
            pass

    class Trainer(DataParallelTrainer):
        def _initialize_and_run_controller(self, **given: Any) -> Any:
            spared = (DatasetsCallback, PlacementGroupCleanerCallback) if local else (DatasetsCallback,)
            given["callbacks"] = [each for each in given["callbacks"] if not isinstance(each, spared)]
            if local:
                given["scaling_policy"] = OneMachine(given["scaling_policy"].scaling_config)
            return super()._initialize_and_run_controller(**given)

    with tempfile.TemporaryDirectory() as scratch:
        Trainer(
            _worker,
            train_loop_config=work,
            backend_config=Config(),
            scaling_config=ScalingConfig(num_workers=workers, use_gpu=use_gpu, resources_per_worker={"CPU": cpus}),
            run_config=RunConfig(name="sluice", storage_path=scratch),
        ).fit()


def _why(failures: Sequence[BaseException]) -> str:
    """What stopped the workers: an error of ours, else a death before what may be another's lost connection."""
    causes = _causes(failures)
    for cause in causes:
        if _is_of(cause, "training", "tasks"):
            return str(cause)
    first = min(causes, key=lambda cause: not _is_of(cause, "ray"))
    line = str(first).strip().partition("\n")[0] or type(first).__name__
    return f"a worker failed ({line}); run again to go on from the newest checkpoint"


def _on_gpus(spec: Spec, gpus: float) -> bool:
    """Whether to train on GPUs. Raises TrainingError where they are asked for, and this Ray will not have them."""
    workers, device = spec.training.workers, spec.training.device
    few = f"training.workers is {workers}, but Ray has {gpus:.0f} GPUs"
    if device == "auto" and 0 < gpus < workers:
        logging.getLogger("sluice").warning("%s: training on processors; one GPU for each worker is needed", few)
    if device == "cuda" and gpus < workers and not spec.cluster.address:
        raise TrainingError(f"{few}: lower it, or set training.device to auto or cpu")
    return device == "cuda" or (device == "auto" and gpus >= workers)


def _worker(work: dict[str, Any]) -> None:
    """One rank: where it stands, as torch's own launcher would say it, then the loop. It works in the folder that the
    run works in, which relative paths of the spec are below, where its machine has that; Ray gave it one of its own."""
    from ray.train import get_context
    from ray.train.collective import broadcast_from_rank_zero

    context = get_context()
    rank, world, local = context.get_world_rank(), context.get_world_size(), context.get_local_world_size()
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world)}
    os.environ |= {"LOCAL_RANK": str(context.get_local_rank()), "LOCAL_WORLD_SIZE": str(local)}
    if local == world:  # one machine: nothing of it is heard outside
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")
    rendezvous = None
    if world > 1:
        rendezvous = broadcast_from_rank_zero(_rendezvous(local == world) if rank == 0 else None)
    from training.fit import fit

    if os.path.isdir(folder := work.pop("folder")):
        os.chdir(folder)
    fit(**work, rendezvous=rendezvous)


def _rendezvous(together: bool) -> str:
    """Where ranks find each other (torch's init_method): a file in the worker's folder of Ray's session where they are
    `together` on a machine, else a port of this one."""
    if together:
        return f"file://{os.getcwd()}/ranks-{os.getpid()}"
    from ray.util import get_node_ip_address

    address = get_node_ip_address()
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.bind(("", 0))
        return f"tcp://{f'[{address}]' if ':' in address else address}:{probe.getsockname()[1]}"


@contextmanager
def _following(store: Store, run: str, progress: Progress | None) -> Iterator[None]:
    """Give new records of the run's log to `progress` while the block runs, and the rest when it ends."""
    if progress is None:
        yield
        return
    seen = {path.rpartition("/")[2] for path in log.segments(store, run)}
    done = threading.Event()

    def follow() -> None:
        while not done.wait(POLL_SECONDS):
            for record in log.records(store, run, seen):
                progress(record)

    thread = threading.Thread(target=contextvars.copy_context().run, args=(follow,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        for record in log.records(store, run, seen):
            progress(record)
