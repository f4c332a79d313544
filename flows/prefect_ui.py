"""What Prefect's UI shows of a run beside its states: its name, a bar of its progress, its artifacts.

All of them are on the page of the run that was started, also where `corpus` and `training` run inside of it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from uuid import UUID

from prefect import get_run_logger
from prefect.artifacts import MarkdownArtifact, ProgressArtifact, update_progress_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext
from prefect.runtime import flow_run
from prefect.states import Failed

from data_specs.document import SpecError, read
from data_specs.redaction import printable
from flows.errors import USER_ERRORS
from flows.run import Run

EVERY = 10.0
"""Seconds between two updates of a bar and lines of a log within one stage, at least."""

P = ParamSpec("P")
T = TypeVar("T")


def without_traceback(work: Callable[P, T]) -> Callable[P, T]:
    """The work of a flow that answers a command: what the user can mend ends it in a failed state with its message, and
    is raised where it is called, without a traceback in the log."""

    @wraps(work)
    def ended(*args: P.args, **given: P.kwargs) -> Any:
        try:
            return work(*args, **given)
        except USER_ERRORS as error:
            return Failed(message=printable(error), data=error.with_traceback(None))

    return ended


def record_name() -> str:
    """What the record of a flow run is called that is given no name: when it was due. The same when it is retried."""
    return f"{flow_run.scheduled_start_time:%Y%m%dT%H%M%S}-{str(flow_run.id)[-4:]}"


def run_name() -> str:
    """What a flow run is called: by its spec's name and its record's."""
    given: dict[str, Any] = flow_run.parameters
    return f"{_name_of(given['spec'])} {given.get('run') or record_name()}"


def name_by_version(run: Run) -> None:
    """From here on the run that was started, and this flow in it, are called by the version of the corpus, too."""
    if "version" in run.record and (current := _current.get()):
        name = f"{run.spec.name} v{run.record['version']['version']} {run.name}"
        client = get_client(sync_client=True)
        for each in {current.page, _started().id}:
            client.update_flow_run(each, name=name)


def _name_of(spec: str) -> str:
    """The name in a spec; of its file, where that cannot be read: the run itself says what is wrong with it."""
    try:
        found = read(Path(spec)).value
    except SpecError:
        found = None
    return str(found["name"]) if isinstance(found, dict) and "name" in found else Path(spec).stem


def _started() -> FlowRun:
    """The flow run at work."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        raise RuntimeError("what Prefect shows of a run is asked for outside of a flow")
    return context.flow_run


class Progress:
    """How far a run is: a bar through the stage at work, and lines of the log."""

    def __init__(self, run: Run, stages: int) -> None:
        """`stages`: how many the run has."""
        self.page: UUID = _started().id
        self.log = get_run_logger()
        self.stages, self.begun, self.updated = stages, 0, 0.0
        self.kind: list[str] = []
        bar = ProgressArtifact(
            key=key(run.spec.name, "progress"),
            description=f"{stages} stages",
            progress=0.0,
            flow_run_id=self.page,
        )
        self.bar: UUID = bar.create(_sync=True).id  # type: ignore[call-arg, union-attr]

    def begin(self) -> None:
        """The next stage begins."""
        self.begun, self.updated = self.begun + 1, 0.0

    def __call__(self, about: str, done: int, total: int) -> None:
        """So much of the stage is done. What is of another kind than before, as a training's first loss, is said at
        once."""
        kind = about.split()[:2]
        if kind != self.kind or time.monotonic() - self.updated > EVERY:
            self.kind, self.updated = kind, time.monotonic()
            text = f"stage {self.begun} of {self.stages}, {about}: {done:,} of {total:,}"
            update_progress_artifact(self.bar, 100.0 * done / max(1, total), text)
            self.log.info(text)

    def end(self) -> None:
        """The run ends: with all stages done, or with the one that failed."""
        share = 100.0 * self.begun / max(1, self.stages)
        update_progress_artifact(self.bar, share, f"ended with stage {self.begun} of {self.stages}")


_current: ContextVar[Progress | None] = ContextVar("progress", default=None)


@contextmanager
def progress(run: Run, stages: int) -> Iterator[Progress]:
    """The progress of the run that was started, which has so many stages, while the block runs: this flow's own, or
    that of the flow around it."""
    if outer := _current.get():
        yield outer
        return
    own = Progress(run, stages)
    token = _current.set(own)
    try:
        yield own
    finally:
        _current.reset(token)
        own.end()


def page() -> UUID | None:
    """The flow run that was started, on whose page things are shown."""
    current = _current.get()
    return current.page if current else None


def warn(text: str) -> None:
    """Into the log of the run at work."""
    if current := _current.get():
        current.log.warning("%s", text)


def key(spec: str, name: str) -> str:
    """What an artifact of a spec is found by, as Prefect's keys must be: lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", f"{spec}-{name}".lower()).strip("-")


def artifact(run: Run, name: str, title: str, markdown: str) -> None:
    """Show a page of Markdown."""
    made = MarkdownArtifact(
        markdown=markdown,
        key=key(run.spec.name, name),
        description=f"{title} of {run.spec.name}, run {run.name}",
        flow_run_id=page(),
    )
    made.create(_sync=True)  # type: ignore[call-arg]
