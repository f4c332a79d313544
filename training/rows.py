"""Reading a run plan (docs/run_plan.md): which rows a step reads, and the rows themselves, memory-mapped.

Guarantees: the same plan, cursor and world size give the same batches; every row has T+1 tokens; the supervised tokens
counted from the segments equal the plan's, or reading stops. Rows come from the token shards, or from rows materialised
in order where the plan says so; both give the same batches. On an object store a file is read whole when first needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_specs.training import Training
from tasks.planning.files import read_json, read_plan, read_rows, read_tokens
from tasks.storage.store import Store

IGNORED = -100
"""Label of an unsupervised target."""
AGAIN = "remove this folder, and the next run plans again"
"""What to do about a damaged plan."""


class PlanError(ValueError):
    """The run plan cannot be trained on; the message says what is wrong, where, and what to do."""


@dataclass(frozen=True)
class Phase:
    """A stretch of the run: `steps` optimizer steps of `rows_per_step` rows each."""

    name: str
    rows: int
    first_step: int
    steps: int
    rows_per_step: int


@dataclass(frozen=True)
class Plan:
    """`plan.json` of the folder `path`; `held_out` is its number of held-out rows, `written` whether rows are read from
    where they were written out."""

    path: str
    digest: str
    sequence: int
    vocabulary: int
    channels: tuple[str, ...]
    files: tuple[str, ...]
    checksums: tuple[str, ...]
    content: Mapping[str, str]
    rows_per_file: int
    held_out: int
    written: bool
    phases: tuple[Phase, ...]
    steps: int
    takedowns: tuple[int, ...]
    """By which documents that it reads were taken down."""

    @classmethod
    def read(cls, store: Store, path: str, written: bool = False) -> Plan:
        """`written`: read rows that were written out. Raises PlanError when the plan is missing or inconsistent."""
        try:
            raw = read_plan(store, path)
        except FileNotFoundError as error:
            raise PlanError(f"{path}: no run plan here (plan.json is missing); run the spec up to its plan") from error
        if written:
            _whole(path, raw["takedowns"])
        phases = tuple(Phase(**{key: phase[key] for key in Phase.__dataclass_fields__}) for phase in raw["phases"])
        plan = cls(
            path=path,
            digest=raw["digest"],
            sequence=raw["sequence"],
            vocabulary=raw["vocabulary"],
            channels=tuple(raw["channels"]),
            files=tuple(raw["files"]),
            checksums=tuple(raw.get("checksums", ())),
            content=raw.get("content", {}) | _written(store, path, written),
            rows_per_file=raw["rows_per_file"],
            held_out=sum(raw["held_out"]["rows"].values()),
            written=written,
            phases=phases,
            steps=raw["steps"],
            takedowns=tuple(raw["takedowns"]),
        )
        first = 0
        for phase in phases:
            if phase.first_step != first or phase.steps * phase.rows_per_step > phase.rows:
                raise PlanError(f"{path}/plan.json: phase {phase.name} does not follow the one before, or lacks rows")
            first += phase.steps
        if first != plan.steps:
            raise PlanError(f"{path}/plan.json: its phases have {first} steps, not {plan.steps}")
        return plan

    def whole(self) -> None:
        """Raises PlanError where documents that it reads were taken down."""
        _whole(self.path, self.takedowns)

    def check(self, training: Training) -> None:
        """Raises PlanError when these settings cannot read this plan, or it can no longer be trained on."""
        self.whole()
        if self.sequence != training.sequence:
            raise PlanError(f"{self.path}: T is {self.sequence}, but training.sequence is {training.sequence}")
        unit = training.batch.micro * training.workers
        for phase in self.phases:
            if phase.rows_per_step % unit:
                raise PlanError(
                    f"{self.path}: phase {phase.name} has {phase.rows_per_step} rows a step, not a multiple of "
                    f"micro x workers = {unit}; change training.batch.micro or training.workers"
                )


def _whole(path: str, takedowns: Sequence[int]) -> None:
    if takedowns:
        raise PlanError(
            f"{path} reads documents that were taken down (takedown {', '.join(map(str, takedowns))}), so nothing can "
            "be trained on it any more: `sluice run` makes a version without them, and a plan and a training of it"
        )


@dataclass(frozen=True)
class Cursor:
    """Where a run stands: optimizer steps done, and the next row to read.

    `skipped` are ranges (phase, first row, rows) that are never read (again): the way round a step that diverged
    (Chowdhery et al. 2022 skip the batches around a spike). They are part of the run's state.
    """

    step: int = 0
    phase: int = 0
    row: int = 0
    skipped: tuple[tuple[int, int, int], ...] = ()

    def seek(self, plan: Plan) -> Cursor | None:
        """The same cursor at the row where the next step begins; None at the end of the plan."""
        number, row = self.phase, self.row
        while number < len(plan.phases):
            phase = plan.phases[number]
            behind = [first + rows for at, first, rows in self.skipped if at == number and first <= row < first + rows]
            if behind:
                row = max(behind)
            elif row + phase.rows_per_step <= phase.steps * phase.rows_per_step:
                return Cursor(self.step, number, row, self.skipped)
            else:
                number, row = number + 1, 0
        return None

    def planned(self, plan: Plan) -> int:
        """Which step of the plan (0-based) this one is: `step` where nothing was skipped. Of one that begins in the
        middle of a step, as what was skipped ended there, the step that it ends in."""
        phase = plan.phases[self.phase]
        return phase.first_step - (-self.row // phase.rows_per_step)

    def after(self, plan: Plan) -> Cursor:
        """The cursor once the step that begins here is done."""
        return Cursor(self.step + 1, self.phase, self.row + plan.phases[self.phase].rows_per_step, self.skipped)


@dataclass(frozen=True)
class Batch:
    """m rows, ready for the model: `inputs`, `positions`, `labels` (int64 [m, T]); `channels` (int64 [m])."""

    inputs: np.ndarray
    positions: np.ndarray
    labels: np.ndarray
    channels: np.ndarray


def pack(tokens: np.ndarray, lengths: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens of rows end to end, cut into segments of `lengths` -> inputs, positions, labels (int64 [rows, T]).

    Positions restart at each segment. A segment's first token is no target: what stands before it is another document.
    """
    starts = np.cumsum(lengths) - lengths
    positions = (np.arange(len(tokens)) - np.repeat(starts, lengths)).reshape(rows, -1)
    tokens = tokens.astype(np.int64).reshape(rows, -1)
    labels = np.where(positions[:, 1:] == 0, IGNORED, tokens[:, 1:])
    return tokens[:, :-1], positions[:, :-1], labels


class Rows:
    """The rows of one phase (its number), or the held-out rows (None). Files are opened when first read."""

    def __init__(self, store: Store, plan: Plan, phase: int | None) -> None:
        self.store, self.plan, self.phase = store, plan, phase
        self.rows = plan.held_out if phase is None else plan.phases[phase].rows
        self.written = plan.written and phase is not None
        self._table = lru_cache(maxsize=4)(self._open)
        self._values = lru_cache(maxsize=None)(self._document_tokens)

    def __len__(self) -> int:
        return self.rows

    def columns(self, first: int, count: int) -> pa.Table:
        """Rows first .. first+count of the plan's columns, zero-copy. Raises PlanError where they are missing."""
        size = self.rows if self.phase is None else self.plan.rows_per_file
        parts = []
        for number in range(first // size, -(-(first + count) // size)):
            start = max(first - number * size, 0)
            parts.append(self._table(number).slice(start, first + count - number * size - start))
        table = pa.concat_tables(parts)
        if len(table) != count:
            raise PlanError(f"{self.plan.path}: rows {first} to {first + count} of phase {self.phase} are missing")
        return table

    def target_count(self, first: int, count: int) -> int:
        """Supervised tokens of rows first .. first+count, as the plan says."""
        return int(pc.sum(self.columns(first, count)["supervised"]).as_py())

    def batch(self, first: int, count: int) -> Batch:
        """Rows first .. first+count. Raises PlanError when their supervised tokens are not those of the plan."""
        table = self.columns(first, count)
        lengths, segments = pc.list_flatten(table["length"]).to_numpy(), pc.list_value_length(table["length"])
        tokens = pc.list_flatten(table["tokens"]).to_numpy() if self.written else self._gather(table, lengths)
        if self.phase is None:
            tokens, lengths = _fill(tokens, lengths, segments.to_numpy(), self.plan.sequence + 1)
        if len(tokens) != count * (self.plan.sequence + 1):
            raise PlanError(f"{self.plan.path}: rows {first} to {first + count} do not have T+1 tokens; {AGAIN}")
        inputs, positions, labels = pack(tokens, lengths, count)
        found, stated = (labels != IGNORED).sum(axis=1), table["supervised"].to_numpy()
        if not np.array_equal(found, stated):
            row = int(np.flatnonzero(found != stated)[0])
            raise PlanError(
                f"{self.plan.path}: row {first + row} of phase {self.phase} supervises {found[row]} tokens, the plan "
                f"says {stated[row]}; {AGAIN}"
            )
        return Batch(inputs, positions, labels, table["channel"].to_numpy().astype(np.int64))

    def open(self, first: int, count: int) -> None:
        """Open, and so verify, the files that rows first .. first+count are read from."""
        table = self.columns(first, count)
        if not self.written:
            for file in set(pc.list_flatten(table["file"]).to_pylist()):
                self._values(file)

    def _gather(self, table: pa.Table, lengths: np.ndarray) -> np.ndarray:
        files = pc.list_flatten(table["file"]).to_pylist()
        offsets = pc.list_flatten(table["offset"]).to_pylist()
        return np.concatenate(
            [self._values(f)[o : o + n] for f, o, n in zip(files, offsets, lengths.tolist(), strict=True)]
        )

    def _open(self, number: int) -> pa.Table:
        kind = "tokens" if self.written else "rows"
        name = "held_out.arrow" if self.phase is None else f"{kind}-{self.phase}-{number:05d}.arrow"
        return read_rows(self.store, f"{self.plan.path}/{name}", self.plan.content.get(name))

    def _document_tokens(self, file: int) -> np.ndarray:
        """Flattened tokens of a token file (uint16 or uint32)."""
        checksum = self.plan.checksums[file] if self.plan.checksums else ""
        return read_tokens(self.store, self.plan.files[file], checksum).values.to_numpy()


def _written(store: Store, path: str, written: bool) -> dict[str, str]:
    """Digests of the files of rows that were written out, where those are read."""
    try:
        return read_json(store, f"{path}/tokens.json").get("content", {}) if written else {}
    except FileNotFoundError as error:
        raise PlanError(f"{path}: its rows were not written out (tokens.json is missing); {AGAIN}") from error


def _fill(tokens: np.ndarray, lengths: np.ndarray, segments: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Fill short rows up to `width` tokens with segments of one token, which are no targets."""
    ends = np.cumsum(segments)
    filled = np.diff(np.cumsum(lengths)[ends - 1], prepend=0)
    missing = width - filled
    tokens = np.insert(tokens, np.repeat(np.cumsum(filled), missing), 0)
    return tokens, np.insert(lengths, np.repeat(ends, missing), 1)
