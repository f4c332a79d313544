"""TensorBoard's event files beside a run's log: `runs/<run>/tensorboard/`, one for each segment of it.

A segment is committed whole, and so is its event file: both lie on a file system or an object store, and one that a
kill kept from being written is written when the run goes on. The first event of an attempt says from which step it goes
on, at which TensorBoard leaves out what earlier ones had after it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import Any

from tasks.storage.store import Store
from training.scalars import scalars


def folder(run: str) -> str:
    """What `tensorboard --logdir` is given, in the store."""
    return f"runs/{run}/tensorboard"


def path(run: str, segment: str) -> str:
    """The event file of a segment of the log, named so that TensorBoard reads them in order."""
    return f"{folder(run)}/events.out.tfevents.{segment.removesuffix('.jsonl')}"


def events(records: Iterable[Mapping[str, Any]]) -> bytes:
    """The event file of a segment's records."""
    from tensorboardX.proto.event_pb2 import Event, SessionLog
    from tensorboardX.proto.summary_pb2 import Summary

    records = list(records)
    began = records[0]["time"] if records else 0.0
    found = [Event(wall_time=began, file_version="brain.Event:2")]
    for record in records:
        step, time = record["step"], record["time"]
        if record["kind"] == "start":
            begins = SessionLog(status=SessionLog.START)
            found.append(Event(wall_time=time, step=step + 1, session_log=begins))
        elif values := scalars(record):
            each = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
            found.append(Event(wall_time=time, step=step, summary=Summary(value=each)))
    return b"".join(_framed(event.SerializeToString()) for event in found)


def _framed(data: bytes) -> bytes:
    """A record of TensorFlow's record files: its length and itself, each with its checksum."""
    from tensorboardX.record_writer import masked_crc32c

    length = struct.pack("<Q", len(data))
    return b"".join((length, struct.pack("<I", masked_crc32c(length)), data, struct.pack("<I", masked_crc32c(data))))


def write(store: Store, run: str, segment: str, records: Iterable[Mapping[str, Any]]) -> None:
    """Commit the event file of a segment of the log."""
    store.commit(path(run, segment), events(records))
