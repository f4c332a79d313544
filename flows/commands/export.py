"""`sluice export`: the kept documents for others, with a card that says what they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from data_specs.base import Bytes
from data_specs.expressions import renamed, suggestion
from data_specs.load import SpecError
from data_specs.spec import Spec
from data_specs.sql_parser import ExpressionError
from flows import versions
from flows.commands import export_records
from flows.commands.data_card import card
from flows.corpus_run import made_with
from flows.run import Run
from tasks.decision import conditions
from tasks.engine.export import MARKS, SIZE, Export, Form, Question, TargetError
from tasks.engine.ledger import funnel
from tasks.engine.snapshot import Snapshot
from tasks.engine.sql import mistaken
from tasks.engine.versions import ACCEPTED, Versions
from tasks.engine.views import ADDRESS, View, views
from tasks.storage.pins import Pins
from tasks.storage.store import Store

DEFAULT = ("url", "title", "date", "source", "channel", "language")
"""Columns that are exported beside `id` and `text`, where nothing else is asked for."""


def export(
    run: Run,
    to: str,
    form: Form = "parquet",
    columns: Sequence[str] = (),
    where: str | None = None,
    size: str | None = None,
    version: int | None = None,
    progress: Callable[[int, int], None] = lambda *_: None,
    augmented: bool = False,
) -> dict[str, Any]:
    """Export the kept documents of a version, by default of the last that was accepted, and where there is none, of the
    corpus as it stands, with `augmented` also the texts that stages made of them; what came of it. Raises SpecError for
    what cannot be exported, or not there, StageError where the corpus is not complete."""
    corpus, made, counts, number = _corpus(run, version)
    made = made | {"sources": _licensed(run.spec, made["sources"])}
    digests = {name: pin["sha256"] for name, pin in made["pins"].items()}
    pins = run.pipeline.pins if number is None else run.pipeline.pins.of(digests)
    stages = tuple(made.get("augmented", ()))
    if augmented and not stages:
        raise SpecError(["--augmented: no stage makes other texts of these documents"])
    question = Question(
        form,
        _columns(corpus, columns, MARKS if augmented else ()),
        made["text"],
        None if where is None else condition(pins, corpus, made["text"], where),
        SIZE if size is None else _size(size),
        stages if augmented else (),
    )
    target = Store(to)
    work = Export(corpus, question, target)
    try:
        found = work.run(progress)
    except TargetError as error:
        raise SpecError([f"export: {error}"]) from None
    about = {
        "spec": run.spec.name,
        "version": number,
        "format": form,
        "columns": list(found.schema.names),
        "where": where,
        **({"augmented": list(stages)} if augmented else {}),
        "licenses": {name: each["license"] for name, each in made["sources"].items()},
    }
    work.end(found, card(made, found, counts, about), about)
    of: dict[str, Any] = {"spec": run.spec.name, "version": number}
    if number is None:
        of["documents"] = export_records.documents_of(corpus.pipeline.outputs["documents"])
    export_records.note(run.store, target, found.identity, of)
    return {
        **about,
        "to": to,
        "state": "cached" if found.ended else "computed",
        "identity": found.identity,
        "documents": found.documents,
        "bytes": found.bytes,
        "files": len(found.files),
        "left_out": found.left_out,
    }


def _corpus(run: Run, version: int | None) -> tuple[View, dict[str, Any], dict[str, Any], int | None]:
    """What is exported: its columns, how it was made, its funnel, and the number of its version."""
    lineage = Versions(run.store, run.spec.name)
    facts = lineage.accepted if version is None else versions.of(lineage, version)
    if facts and (takedowns := lineage.purged(facts["version"])):
        raise SpecError([_purged(lineage, facts["version"], takedowns)])
    if facts is None:
        run.resolve()
        return views(run.pipeline)["corpus"], made_with(run.pipeline), funnel(run.pipeline), None
    return views(Snapshot(lineage, facts))["corpus"], facts["about"], facts["funnel"], facts["version"]


def _licensed(spec: Spec, sources: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The sources of a version with the licenses that the spec says now: they shape no version, and may be corrected
    after one was made."""
    now = {name: {"license": each.license} for name, each in spec.sources.items()}
    return {name: each | now.get(name, {}) for name, each in sources.items()}


def _purged(lineage: Versions, number: int, takedowns: Sequence[int]) -> str:
    """Why a version is not exported of which documents were taken down, and what is."""
    whole = [facts["version"] for facts in lineage.all() if facts["state"] == ACCEPTED]
    whole = [each for each in whole if each > number and not lineage.purged(each)]
    remedy = (
        f"version {whole[-1]} is without them" if whole else "`sluice run SPEC --until version` makes one without them"
    )
    return (
        f"export: documents of version {number} were taken down (takedown {', '.join(map(str, takedowns))}); {remedy}"
    )


def _columns(corpus: View, asked: Sequence[str], marks: Sequence[str]) -> tuple[str, ...]:
    """Columns to export, each once. Raises SpecError for a name that is none, or is called as a mark of rows."""
    known = [name for name in corpus.schema.names if name not in ADDRESS.names]
    if unknown := [name for name in asked if name not in known]:
        [first, *_] = unknown
        raise SpecError([f"--columns: there is no column {first}{suggestion(first, known, mark='')}"])
    if taken := [name for name in asked if name in marks]:
        why = "with --augmented a column of this name says what a text was made of"
        raise SpecError([f"--columns: {taken[0]}: {why}; export it without, or call it otherwise"])
    return tuple(dict.fromkeys(asked or [name for name in DEFAULT if name in known]))


def condition(pins: Pins, corpus: View, text: str, where: str) -> str:
    """An expression over columns with thresholds in the place of its percentiles, those that were pinned when the
    corpus was made. Raises SpecError."""
    try:
        plain = conditions.bound(renamed(where, {"text": text}), pins)
        unknown = conditions.unpinned([where], pins)
    except ExpressionError as error:
        raise SpecError([f"--where: {error}"]) from None
    if unknown:
        why = "its thresholds are not pinned, as no rule, channel or phase of the spec asks for percentiles of it"
        raise SpecError([f"--where: {unknown[0]}: {why}"])
    if wrong := mistaken((plain,), corpus.schema):
        raise SpecError([f"--where: {wrong[plain]}"])
    return plain


def _size(text: str) -> int:
    try:
        return max(1, TypeAdapter(Bytes).validate_python(text))
    except ValidationError as error:
        raise SpecError([f"--size: {error.errors()[0]['msg'].removeprefix('Value error, ')}"]) from None
