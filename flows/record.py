"""A run's record, `runs/records/<run>/run.json`: what each stage did, the funnel, and where training stands."""

from __future__ import annotations

import logging
import os
import secrets
import socket
from datetime import UTC, datetime
from typing import Any

from data_specs import redaction
from flows.errors import exit_code
from tasks.storage.checksums import sealed
from tasks.storage.store import DeniedError, Store

logger = logging.getLogger("sluice")

_unwritten: dict[str, dict[str, Any]] = {}
"""Records of runs of this process whose store may not be written."""


def new_name() -> str:
    """A name no other run has: when it began."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(2)}"


RECORDS = "runs/records"
"""Folder of the records, a folder each."""
SPIKES = "spikes"
"""The page beside a record on which documents stand, with their addresses and how they begin."""


def forget_documents(store: Store) -> None:
    """Remove the pages that show documents, of every run."""
    store.remove(*(f"{RECORDS}/{name}/{SPIKES}.md" for name in store.folders(RECORDS)))


class Record:
    """The record of one run."""

    def __init__(self, store: Store, name: str, spec: str) -> None:
        self.store, self.name = store, name
        self.folder = f"{RECORDS}/{name}"
        self._path = f"{self.folder}/run.json"
        self.facts: dict[str, Any] = {"run": name, "spec": spec, "status": "running", "stages": []}
        """{"run", "spec", "status", "stages", "version", "funnel", "plan", "training", "error", ...}."""
        if name in _unwritten:
            self.facts |= _unwritten[name]
        elif store.exists(self._path):
            self.facts |= store.json(self._path)

    def begin(self) -> None:
        """Note that the run has begun, or begun again after a failure."""
        for key in ("error", "exit"):
            self.facts.pop(key, None)
        self.facts |= {"status": "running", "process": {"host": socket.gethostname(), "pid": os.getpid()}}

    def fail(self, stage: str, error: BaseException) -> None:
        """Note what stopped the run."""
        text = str(error) if str(error).startswith(f"{stage}: ") else f"{stage}: {error}"
        self.facts |= {"status": "failed", "error": text, "exit": exit_code(error)}

    def commit(self) -> None:
        """Write the record as it stands."""
        self.keep("run.json", sealed(redaction.values(self.facts), self._path))

    def keep(self, name: str, data: bytes) -> None:
        """Commit a file of the run, for its owner alone. Where the store may not be written, the run goes on without,
        which is said once; what then needs the store fails by itself."""
        try:
            self.store.commit(f"{self.folder}/{name}", data, private=True)
        except DeniedError as error:
            if self.name not in _unwritten:
                logger.warning("the record of run %s cannot be written: %s", self.name, error)
            _unwritten[self.name] = self.facts
