"""The run's own log, in the store: JSON lines in segments under `runs/<run>/log/`, the only source of metrics.

An object store cannot append, so records are committed as whole segments, named `<attempt>-<number>.jsonl`: the first
step at once, then every few seconds, and before every checkpoint. Each start of a run is an attempt whose first record
says from which step it goes on; records of later steps by earlier attempts are superseded. So after any kill and resume
a reader sees every step once. Kinds of records: `start`, `step` (one optimizer step), `losses` (per channel over many
steps), `held_out` (an evaluation), `checkpoint`, `warning`, and those of DIVERGED (why a step was not taken, or is
taken back, and which rows it read), which are never superseded. Beside each segment lies what TensorBoard reads of
it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import orjson

from data_specs.amounts import plural
from tasks.storage.checksums import sealed_lines, unsealed_lines
from tasks.storage.store import DamagedError, Store
from training import tensorboard

Record = dict[str, Any]
DIVERGED = ("non_finite", "spike")
"""Kinds of records of steps whose rows are not read again."""
FLUSH_SECONDS = 5.0, 60.0
"""Seconds of records that a kill may lose, at the beginning of an attempt and after hours of it, when segments would
be too many; the next attempt writes them again."""


def _folder(run: str) -> str:
    return f"runs/{run}/log"


class Follower(Protocol):
    """Where records go beside the store."""

    def follow(self, records: Sequence[Record]) -> None:
        """Take the records of a segment."""

    def failed(self) -> list[str]:
        """What went wrong since this was asked last."""

    def close(self) -> None:
        """Nothing more comes."""


class Log:
    """The writer; rank 0 alone holds one."""

    def __init__(self, store: Store, run: str, step: int, followers: Sequence[Follower] = (), **about: Any) -> None:
        """Begin an attempt that goes on after `step` (-1: from the start); committed at once."""
        self.store, self.run, self.folder, self.followers = store, run, _folder(run), followers
        self.attempt = 1 + attempts(store, run)
        _show_on_tensorboard(store, run)
        self.number, self.step = 0, step
        self.pending: list[Record] = []
        self.began = self.flushed = time.monotonic()
        self.steps = False
        self.write("start", step, **about)
        self.flush()

    def write(self, kind: str, step: int, **values: Any) -> None:
        """Add a record; numbers that are not finite become null."""
        self.pending.append(_record(kind, step, **values))
        soon, late = FLUSH_SECONDS
        now = time.monotonic()
        first = kind == "step" and not self.steps  # which a person waits for
        self.steps |= first
        if first or now - self.flushed > min(late, soon + (now - self.began) / 100):
            self.flush()

    def flush(self) -> None:
        """Commit what is pending as one segment."""
        self.flushed = time.monotonic()
        failed = [problem for follower in self.followers for problem in follower.failed()]
        self.pending += [_record("warning", self.step, message=problem) for problem in failed]
        if not self.pending:
            return
        name = f"{self.attempt:04d}-{self.number:06d}.jsonl"
        records, self.pending = self.pending, []
        lines = b"".join(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE) for record in records)
        self.store.commit(f"{self.folder}/{name}", sealed_lines(lines, f"{self.folder}/{name}"))
        tensorboard.write(self.store, self.run, name, records)
        self.number += 1
        self.step = records[-1]["step"]
        for follower in self.followers:
            follower.follow(records)

    def close(self) -> None:
        """Commit what is pending; nothing more is written."""
        self.flush()
        for follower in self.followers:
            follower.close()


def _record(kind: str, step: int, **values: Any) -> Record:
    return {"kind": kind, "step": step, "time": time.time(), **values}


def _show_on_tensorboard(store: Store, run: str) -> None:
    """Write the event files of segments that have none, as a kill or an earlier version left them."""
    shown = store.list(tensorboard.folder(run))
    for name in store.list(_folder(run)):
        if tensorboard.path(run, name).rpartition("/")[2] not in shown:
            tensorboard.write(store, run, name, segment(store, f"{_folder(run)}/{name}"))


def last_written(store: Store, run: str) -> float:
    """When the newest segment of a run's log was begun; 0 where there is none."""
    last = max(store.list(_folder(run)), default=None)
    return segment(store, f"{_folder(run)}/{last}")[0]["time"] if last else 0.0


def attempts(store: Store, run: str) -> int:
    """How often the run was started, as its log says."""
    return max((int(name.split("-")[0]) for name in store.list(_folder(run))), default=0)


def records(store: Store, run: str, seen: set[str] | None = None) -> Iterator[Record]:
    """Every record as written, superseded ones too; only from segments not in `seen`, which are added to it. Raises
    DamagedError."""
    for name in store.list(_folder(run)):
        if seen is None or name not in seen:
            yield from segment(store, f"{_folder(run)}/{name}")
            if seen is not None:
                seen.add(name)


def segments(store: Store, run: str) -> list[str]:
    """Paths of the segments of a run's log, in the order they were written."""
    return [f"{_folder(run)}/{name}" for name in store.list(_folder(run))]


def segment(store: Store, path: str) -> list[Record]:
    """The records of one segment. Raises DamagedError."""
    with _damage_named(path):
        return [orjson.loads(line) for line in lines(store.read(path), path)]


def lines(data: bytes, path: str) -> list[bytes]:
    """The records of a segment's bytes, each as it was written. Raises DamagedError."""
    with _damage_named(path):
        return unsealed_lines(data, path)[0].readlines()


@contextmanager
def _damage_named(path: str) -> Iterator[None]:
    """What of a segment cannot be read is DamagedError."""
    try:
        yield
    except ValueError as error:
        folder = path.rpartition("/log/")[0]
        why = f"bring it back, or remove {folder} to train from the start"
        raise DamagedError(f"{path} is damaged ({error}); {why}", path) from error


def surviving(records: Iterable[Record]) -> list[Record]:
    """What later attempts have not superseded, in the order of steps."""
    kept: list[Record] = []
    for record in records:
        if record["kind"] == "start":
            kept = [old for old in kept if old["step"] <= record["step"] or old["kind"] in DIVERGED]
        kept.append(record)
    return sorted(kept, key=lambda record: record["step"])


def read(store: Store, run: str, kind: str = "step") -> list[Record]:
    """The run's records of one kind, by step; a step and an evaluation appear once however often they were run."""
    return [record for record in surviving(records(store, run)) if record["kind"] == kind]


def updated(step: Mapping[str, Any]) -> bool:
    """Whether a step moved the weights: not where its update was left out, as it was a spike, or in fp16 too large."""
    return not (step.get("left_out") or step.get("overflow"))


def missing(steps: Iterable[int], until: int) -> list[int]:
    """Of the steps up to one those that are not among `steps`."""
    return sorted(set(range(1, until + 1)).difference(steps))


def lacking(run: str, steps: list[int]) -> str:
    """What to say of a log without the records of some steps."""
    return (
        f"the log of runs/{run} has no record of step {steps[0]} "
        f"({plural(len(steps), 'step lacks its', 'steps lack theirs')}): bring its segments back, or remove runs/{run} "
        "to train from the start"
    )


def summarize(store: Store, run: str) -> dict[str, Any]:
    """What a run came to: steps, of how many the update was left out, rows, supervised tokens, last loss, first and
    last loss per channel, also held out, seconds spent in steps that survive, and what share they are of all that its
    attempts took (`goodput`). A channel's `first` and `last` are at the first and the last step that had a token of it;
    `last_step` is that step, and of the run, its own last one."""
    everything = list(records(store, run))
    kept = surviving(everything)
    steps, held = ([record for record in kept if record["kind"] == kind] for kind in ("step", "held_out"))
    seconds = sum(record["seconds"] for record in steps)
    taken = _seconds_taken(everything)
    channels: dict[str, dict[str, Any]] = {}
    for record in steps:
        for name, (loss, tokens) in record["channels"].items():
            entry = channels.setdefault(name, {"first": None, "last": None, "last_step": None, "tokens": 0})
            if loss is not None:
                entry["first"] = loss if entry["first"] is None else entry["first"]
                entry |= {"last": loss, "last_step": record["step"]}
            entry["tokens"] += tokens
    return {
        "steps": len(steps),
        "last_step": steps[-1]["step"] if steps else 0,
        "rows": sum(record["rows"] for record in steps),
        "tokens": sum(record["tokens"] for record in steps),
        "loss": steps[-1]["loss"] if steps else None,
        **({"left_out": left_out} if (left_out := sum("left_out" in record for record in steps)) else {}),
        "channels": channels,
        "held_out": {name: _held_out(held, name) for name in held[-1]["losses"]} if held else {},
        **({"sets": {name: _first_and_last(held, name) for name in held[-1]["sets"]}} if _has_sets(held) else {}),
        "seconds": seconds,
        "seconds_taken": taken,
        "goodput": min(1.0, seconds / taken) if taken else None,
        "checkpoint_stall": sum(record["stall"] for record in kept if record["kind"] == "checkpoint"),
        **_last_of(steps, ("mfu", "memory", "tokens_per_second")),
    }


def _held_out(held: Sequence[Record], name: str) -> dict[str, Any]:
    """Of a channel, its last evaluation and the first of the same kind of weights (averaged or not); the last also in
    bits per byte, where bytes are known."""
    bits = held[-1].get("bits_per_byte", {}).get(name)
    same = [record for record in held if record.get("averaged") == held[-1].get("averaged")]
    found = {"first": same[0]["losses"][name], "last": same[-1]["losses"][name]}
    return found | ({} if bits is None else {"bits_per_byte": bits})


def _has_sets(held: Sequence[Record]) -> bool:
    return bool(held and held[-1].get("sets"))


def _first_and_last(held: Sequence[Record], name: str) -> dict[str, Any]:
    """Of a named set, what its last evaluation measured and the first of the same texts and kind of weights."""
    last = held[-1]
    texts = last.get("sets_of", {}).get(name)
    found = [
        record["sets"][name]
        for record in held
        if name in record.get("sets", {})
        and record.get("averaged") == last.get("averaged")
        and record.get("sets_of", {}).get(name, texts) == texts  # an earlier version noted none
    ]
    return {"first": found[0], "last": found[-1]}


def _seconds_taken(everything: Iterable[Record]) -> float:
    """Seconds from the beginning of each attempt, its loading too, to its last record; not those between them."""
    total, since, last = 0.0, 0.0, 0.0
    for record in everything:
        if record["kind"] == "start":
            total += last - since
            since = max(last, record["time"] - record.get("loading", 0.0))  # a rollback begins one in the same process
        last = record["time"]
    return total + last - since


def _last_of(steps: Sequence[Record], fields: Iterable[str]) -> dict[str, Any]:
    """What the last step has of some fields."""
    return {field: steps[-1][field] for field in fields if steps and steps[-1].get(field) is not None}
