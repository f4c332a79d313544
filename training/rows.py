"""Reading a run plan (docs/run_plan.md): which rows a step reads, and the rows themselves, memory-mapped.

Guarantees: the same plan, cursor and world size give the same batches; a row that is short is filled with what is no
target and is seen by none; the targets that the objective makes of a row are as many as the plan says, or reading
stops. Rows come from the token shards, or from rows written out in order where the plan says so; both give the same
batches. On an object store a file is read whole when first needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import TypeAdapter

from data_specs.amounts import plural
from data_specs.objectives import Causal, FillInTheMiddle, Objective
from data_specs.training import Training
from tasks.planning.files import read_json, read_plan, read_rows, read_tokens
from tasks.planning.middle import turn
from tasks.planning.objectives import MIDDLE, Noise, RowShape, numbers, row_shape, targets_of_a_row
from tasks.storage.store import Store
from training.objectives import IGNORED, Batch, Packed, batch

__all__ = ["IGNORED", "Batch", "Cursor", "Phase", "Plan", "PlanError", "Rows"]
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
    rows_per_file: int
    sequence: int
    objective: Objective
    rope_theta: float | None = None
    """Base of RoPE, where it is not the model's."""

    @property
    def row(self) -> RowShape:
        return row_shape(self.objective, self.sequence)

    @property
    def targets_of_a_row(self) -> int:
        """Of one that is full and holds one document."""
        return targets_of_a_row(self.objective, self.sequence)


@dataclass(frozen=True)
class Plan:
    """`plan.json` of the folder `path`; `held_out` is its number of held-out rows, `written` whether rows are read from
    where they were written out."""

    path: str
    digest: str
    seed: int
    sequence: int
    objective: Objective
    """What held-out rows are evaluated by."""
    vocabulary: int
    """Entries of the model's, of which `special` are the last."""
    special: tuple[str, ...]
    own: Mapping[str, int]
    """What the objectives need and the tokenizer has -> its number."""
    loss_by: Mapping[str, tuple[str, ...]]
    """Column -> its values, by whose numbers segments name them."""
    channels: tuple[str, ...]
    augmented: tuple[str, ...]
    """Of the channels those of texts that stages made of documents."""
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
        base = {"sequence": raw["sequence"], "rows_per_file": raw["rows_per_file"], "objective": {"kind": "causal"}}
        phases = tuple(_phase(base | phase) for phase in raw["phases"])  # an earlier version wrote less of them
        plan = cls(
            path=path,
            digest=raw["digest"],
            seed=raw["seed"],
            sequence=raw["sequence"],
            objective=_OBJECTIVE.validate_python(raw.get("objective", base["objective"])),
            vocabulary=raw["vocabulary"],
            special=tuple(raw.get("special", ())),
            own=raw.get("own", {}),
            loss_by={name: tuple(values) for name, values in raw.get("loss_by", {}).items()},
            channels=tuple(raw["channels"]),
            augmented=tuple(raw.get("augmented", ())),
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
            raise PlanError(f"{path}/plan.json: its phases have {plural(first, 'step')}, not {plan.steps}")
        return plan

    def longest(self, phase: int | None = None) -> int:
        """Positions of the longest rows, of a phase and those before it or of all."""
        last = len(self.phases) if phase is None else phase + 1
        return max(self.sequence, *(each.sequence for each in self.phases[:last]))

    def whole(self) -> None:
        """Raises PlanError where documents that it reads were taken down."""
        _whole(self.path, self.takedowns)

    def check(self, training: Training) -> None:
        """Raises PlanError when these settings cannot read this plan, or it can no longer be trained on."""
        self.whole()
        if self.sequence != training.sequence:
            raise PlanError(f"{self.path}: T is {self.sequence}, but training.sequence is {training.sequence}")
        for phase in self.phases:
            unit = training.micro(phase.sequence) * training.replicas
            if phase.rows_per_step % unit:
                raise PlanError(
                    f"{self.path}: phase {phase.name} has {plural(phase.rows_per_step, 'row')} a step, not a multiple "
                    f"of micro x workers = {unit}; change training.batch.micro or training.workers"
                )


_OBJECTIVE: TypeAdapter[Objective] = TypeAdapter(Objective)


def _phase(raw: Mapping[str, Any]) -> Phase:
    """A phase as plan.json has it."""
    known = {key: raw[key] for key in Phase.__dataclass_fields__ if key in raw}
    return Phase(**known | {"objective": _OBJECTIVE.validate_python(raw["objective"])})


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


class Rows:
    """The rows of one phase (its number), or the held-out rows (None). Files are opened when first read."""

    def __init__(self, store: Store, plan: Plan, phase: int | None) -> None:
        self.store, self.plan, self.phase = store, plan, phase
        if phase is None:
            self.rows, self.per_file, self.sequence, self.objective = plan.held_out, 0, plan.sequence, plan.objective
        else:
            planned = plan.phases[phase]
            self.rows, self.per_file, self.sequence, self.objective = (
                planned.rows,
                planned.rows_per_file,
                planned.sequence,
                planned.objective,
            )
        self.written = plan.written and phase is not None
        self.noise = Noise(plan.seed, phase)
        middle = self.objective.fill_in_the_middle if isinstance(self.objective, Causal) else None
        self._middle = middle or FillInTheMiddle()  # where none is, no segment is turned round
        self._table = lru_cache(maxsize=4)(self._open)
        self._tokens = lru_cache(maxsize=None)(self._document_tokens)

    def __len__(self) -> int:
        return self.rows

    def columns(self, first: int, count: int) -> pa.Table:
        """Rows first .. first+count of the plan's columns, zero-copy. Raises PlanError where they are missing."""
        size = self.per_file or self.rows
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
        """Rows first .. first+count. Raises PlanError when their targets are not as many as the plan says."""
        packed = self._packed(self.columns(first, count), first)
        vocabulary, special = self.plan.vocabulary, numbers(self.plan.special, self.plan.vocabulary)
        ordinary = vocabulary - len(special)
        made = batch(self.objective, packed, self.noise, {**special, **self.plan.own}, ordinary)
        found = (made.labels != IGNORED).sum(axis=1)
        if not np.array_equal(found, packed.targets):
            row = int(np.flatnonzero(found != packed.targets)[0])
            raise PlanError(
                f"{self.plan.path}: row {first + row} of phase {self.phase} supervises {plural(found[row], 'token')}, "
                f"the plan says {packed.targets[row]}; {AGAIN}"
            )
        return made

    def _packed(self, table: pa.Table, first: int) -> Packed:
        """Rows as the plan has them. Raises PlanError where one has more tokens than a row has, or, but for the last
        rows of what is held out, fewer."""
        lengths = pc.list_flatten(table["length"]).to_numpy()
        segments = pc.list_value_length(table["length"]).to_numpy()
        tokens = pc.list_flatten(table["tokens"]).to_numpy() if self.written else self._gather(table, lengths)
        width = row_shape(self.objective, self.sequence).width
        held = np.diff(np.cumsum(lengths, dtype=np.int64)[np.cumsum(segments) - 1], prepend=0)
        if len(tokens) != held.sum() or held.max(initial=0) > width:
            raise PlanError(
                f"{self.plan.path}: rows {first} to {first + len(table)} do not have {plural(width, 'token')}; {AGAIN}"
            )
        channels = table["channel"].to_numpy().astype(np.int64)
        groups = {
            name: pc.list_flatten(table[name]).to_numpy() for name in self.plan.loss_by if name in table.column_names
        }
        return Packed(first, width, tokens, lengths, segments, table["supervised"].to_numpy(), channels, groups)

    def open(self, first: int, count: int) -> None:
        """Open, and so verify, the files that rows first .. first+count are read from."""
        table = self.columns(first, count)
        if not self.written:
            for file in set(pc.list_flatten(table["file"]).to_pylist()):
                self._tokens(file)

    def _gather(self, table: pa.Table, lengths: np.ndarray) -> np.ndarray:
        """The tokens of the segments, end to end; of a document that is turned round, those of the turned one."""
        places = [pc.list_flatten(table[name]).to_pylist() for name in ("file", "offset")]
        if "turned" not in table.column_names:
            found = zip(*places, lengths.tolist(), strict=True)
            return np.concatenate([self._tokens(file).values.to_numpy()[at : at + n] for file, at, n in found])
        parts = []
        places += [pc.list_flatten(table[name]).to_pylist() for name in ("start", "turned")]
        for file, at, start, use, n in zip(*places, lengths.tolist(), strict=True):
            text = self._turned(file, at, use) if use else self._tokens(file).values.to_numpy()[at:]
            parts.append(text[start : start + n].astype(np.int64))
        return np.concatenate(parts)

    def _turned(self, file: int, offset: int, use: int) -> np.ndarray:
        """The document that begins at an offset of a token file, turned round as at one use of it."""
        column, settings = self._tokens(file), self._middle
        ends = column.offsets.to_numpy()
        end = ends[np.searchsorted(ends, offset, "right")]
        special = tuple(numbers(self.plan.special, self.plan.vocabulary)[name] for name in MIDDLE)
        key = repr((self.plan.files[file], offset, use))
        return turn(column.values.to_numpy()[offset:end].astype(np.int64), settings, special, self.plan.seed, key)

    def _open(self, number: int) -> pa.Table:
        kind = "tokens" if self.written else "rows"
        name = "held_out.arrow" if self.phase is None else f"{kind}-{self.phase}-{number:05d}.arrow"
        return read_rows(self.store, f"{self.plan.path}/{name}", self.plan.content.get(name))

    def _document_tokens(self, file: int) -> pa.ListArray:
        """The documents of a token file: lists of uint16 or uint32."""
        checksum = self.plan.checksums[file] if self.plan.checksums else ""
        return read_tokens(self.store, self.plan.files[file], checksum)


def _written(store: Store, path: str, written: bool) -> dict[str, str]:
    """Digests of the files of rows that were written out, where those are read."""
    try:
        return read_json(store, f"{path}/tokens.json").get("content", {}) if written else {}
    except FileNotFoundError as error:
        raise PlanError(f"{path}: its rows were not written out (tokens.json is missing); {AGAIN}") from error
