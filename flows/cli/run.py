"""`sluice run`: compute what is missing."""

from __future__ import annotations

import click

from flows import embedded
from flows.cli import command
from flows.cli.command import JSON, SET, SPEC, STORE, begins, cli, failed, plain_errors, print_json


@cli.command()
@SPEC
@STORE
@click.option(
    "--from",
    "start",
    metavar="STAGE",
    help="Compute STAGE (`sluice plan` names them) again beside what exists, compare, go on.",
)
@click.option("--until", metavar="STAGE", help="Stop after STAGE.")
@click.option("--replace", is_flag=True, help="With --from: take the new values where they differ.")
@SET
@click.option("--retrain", multiple=True, metavar="NAME", help="Learn a pin anew: domain, quality, tokenizer, ...")
@click.option("--version", type=int, metavar="N", help="Train on this accepted version of the corpus, as it is.")
@JSON
@plain_errors
def run(
    spec: str,
    store: str | None,
    start: str | None,
    until: str | None,
    replace: bool,
    settings: tuple[str, ...],
    retrain: tuple[str, ...],
    version: int | None,
    as_json: bool,
) -> None:
    """Run SPEC: compute what is missing, from sources to a trained model."""
    from data_specs.load import SpecError
    from flows import parameters, summary
    from flows.run import Run
    from tasks.engine import ray_session

    current = Run.of(spec, store, settings, None, retrain)
    if version is None:
        current.corpus_stages(start, until)
    elif start or replace or retrain or until not in (None, "plan", "train"):
        raise SpecError(["--version: it is trained on as it is; of these options only --until plan goes with it"])
    else:
        current.train_on(version)
    if replace and start is None:
        raise SpecError(["--replace: says what to do with the other values of --from STAGE, which is missing"])
    reads = current.reads() if version is None else 0
    begins(as_json, ray=reads > 0)
    with embedded.server():
        if reads:
            ray_session.start(current.spec.cluster)
            ray_session.warm(current.spec.cluster, reads, "tasks.sources")
        from flows import prefect_patches
        from flows.pretrain import pretrain

    prefect_patches.keep_signals()
    prefect_patches.give_up_together()
    name = current.name
    where = None if store is None else parameters.masked(store)
    given = [parameters.masked(setting) for setting in settings]
    with embedded.answering():
        state = pretrain(spec, where, start, until, replace, given, list(retrain), name, version, return_state=True)
    ray_session.stop()
    if command.stopped:
        raise KeyboardInterrupt
    record = Run.of(spec, store, settings, name).record
    if not as_json:
        summary.show(record, current.store)
    if state.is_completed():
        if as_json:
            print_json(summary.opened(record, current.store))
        return
    error = record.get("error") or state.message or "the run failed; see the log above"
    failed(error, record.get("exit", 1), as_json, summary.opened(record, current.store))
