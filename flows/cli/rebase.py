"""`sluice rebase`: the generations of a corpus become one."""

from __future__ import annotations

from flows import embedded
from flows.cli import command
from flows.cli.command import JSON, SET, SPEC, STORE, begins, cli, failed, plain_errors, print_json


@cli.command()
@SPEC
@STORE
@SET
@JSON
@plain_errors
def rebase(spec: str, store: str | None, settings: tuple[str, ...], as_json: bool) -> None:
    """Make of SPEC's corpus what a run over all of its files at once would make, and say which documents change sides.

    Until then a night leaves older documents as they are. What is learned stays pinned."""
    from flows import parameters, summary
    from flows.run import Run
    from tasks.engine import ray_session

    name = Run.of(spec, store, settings).name
    begins(as_json, ray=False)
    with embedded.server():
        from flows import prefect_patches
        from flows.pretrain import rebase as rebased

    prefect_patches.keep_signals()
    prefect_patches.give_up_together()
    where = None if store is None else parameters.masked(store)
    given = [parameters.masked(setting) for setting in settings]
    with embedded.answering():
        state = rebased(spec, where, given, name, return_state=True)
    ray_session.stop()
    if command.stopped:
        raise KeyboardInterrupt
    current = Run.of(spec, store, settings, name)
    record = current.record
    if not as_json:
        summary.show(record, current.store)
    if not state.is_completed():
        failed(
            record.get("error") or state.message or "the rebase failed; see the log above",
            record.get("exit", 1),
            as_json,
            record,
        )
    if as_json:
        print_json(record)
