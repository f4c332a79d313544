"""What trainings read of the plans that `mixture.seen` names, as their logs say."""

from __future__ import annotations

from collections.abc import Sequence

from data_specs.amounts import plural
from tasks.planning.files import read_plan
from tasks.planning.seen import Known, Read, rows_of
from tasks.storage.store import DeniedError, Store
from training import checkpoint, log
from training.checkpoint import CheckpointError


def rows_read(store: Store, plans: Sequence[str]) -> dict[str, list[Read]]:
    """Of each plan on which there are trainings in the store, and none that came to its end, the rows that each was
    trained on; others count as read whole. Raises CheckpointError where a log lacks some of its steps."""
    found = {}
    for folder in dict.fromkeys(plans):
        read = [_rows(store, name) for name in store.folders("runs") if _plan_of(store, name) == folder]
        if read and not any(_whole(store, folder, each) for each in read):
            found[folder] = read
    return found


def moved(store: Store, known: Known) -> str:
    """What to say where trainings have read other rows of plans that are named than when a plan was made, which stays
    as it is; "" where they have not."""
    now = {name: rows_of(read) for name, read in rows_read(store, [*known]).items()}
    return "; ".join(
        f"mixture.seen: of {name} {_counted(each.get('rows'))} counted as read when this plan was made, and are "
        f"{_counted(now.get(name))} now: it stays as it was made"
        for name, each in known.items()
        if each.get("rows") != now.get(name)
    )


def _counted(rows: int | None) -> str:
    return "all rows" if rows is None else plural(rows, "row")


def _plan_of(store: Store, name: str) -> str | None:
    """The plan of a training; None where that is not known, or it is another user's."""
    try:
        return str(store.json(f"runs/{name}/run.json")["plan"])
    except (FileNotFoundError, DeniedError):
        return None


def _rows(store: Store, name: str) -> Read:
    steps = log.read(store, name)
    if lost := log.missing((record["step"] for record in steps), max(checkpoint.steps(store, name), default=0)):
        raise CheckpointError(log.lacking(name, lost))
    return [(record["phase"], record["row"], record["rows"]) for record in steps if log.updated(record)]


def _whole(store: Store, folder: str, read: Read) -> bool:
    """Whether rows are all of a plan."""
    try:
        return sum(phase["rows"] for phase in read_plan(store, folder)["phases"]) <= sum(rows for _, _, rows in read)
    except FileNotFoundError:  # which the planner says
        return True
