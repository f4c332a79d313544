"""What a spec may ask of the columns that its stages write: names of their own, expressions that can be evaluated, and
settings that name a column of the right type."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import pyarrow as pa

from data_specs import languages
from data_specs.expressions import suggestion
from data_specs.load import SpecError, check_columns
from data_specs.spec import Spec
from data_specs.stages import Semantic
from tasks.engine.nodes import Node
from tasks.engine.reading import RAW_LANGUAGE
from tasks.engine.sql import mistaken
from tasks.engine.stage import DOCUMENTS
from tasks.sources import otherwise, own_columns, record_columns


def columns(found: Iterable[Node], own: pa.Schema | None = None) -> pa.Schema:
    """Every column of documents, those that some sources have of their `own` among them, and of stages."""
    written = {field.name: field for node in found if node.writes for field in node.schema}
    return pa.schema([*DOCUMENTS, *(own or ()), *written.values()])


def check(spec: Spec, found: Iterable[Node], own: pa.Schema) -> None:
    """Raises SpecError where documents of a source have a column, of their `own`, that a stage writes, too; where an
    expression cannot be evaluated; and where a setting names no column, or one of another type."""
    written = columns(found, own)
    _check_own(spec, found, own)
    check_columns(spec, partial(_mistaken, spec, written))
    _check_types(spec, written)


def _check_own(spec: Spec, found: Iterable[Node], own: pa.Schema) -> None:
    """Raises SpecError where documents of some source have a column that is called as one of a stage."""
    written = {column: node.name for node in found for column in node.writes}
    if clash := next((name for name in RAW_LANGUAGE if name in own.names and name in written), None):
        message = f"documents have a column {clash}, as a source refuses by it; call the stage otherwise"
        raise SpecError([f"stages.{written[clash]}: {message}"])
    for source, settings in spec.sources.items():
        for name in getattr(settings, "columns", {}):
            if name in written:
                message = f"stage {written[name]} writes a column of this name{otherwise(source, name, settings)}"
                raise SpecError([f"sources.{source}.columns.{name}: {message}"])


def _mistaken(spec: Spec, columns: pa.Schema, texts: tuple[str, ...], source: str | None) -> dict[str, str]:
    """Which expressions cannot be evaluated on columns of documents, or on those of a source's records -> why."""
    if source is None:
        packaged = ["language"] if languages.by_packaged(spec.stages["language"]) else []
        packaged += ["raw_language"] if "raw_language" in own_columns(spec).names else []
        never = [languages.never(texts, column) for column in packaged]
        return {text: why for wrong in (*never, mistaken(texts, columns)) for text, why in wrong.items()}
    known = record_columns(spec.sources[source], spec.lists)
    for number, name in enumerate(known.names if texts else ()):
        if name in known.names[:number]:
            where = f"lists.{name}" if name in spec.lists else f"sources.{source}.columns.{name}"
            raise SpecError([f"{where}: records of {source} have a column of this name; name it otherwise"])
    wording = ("is written by no stage", "is no column of this source's records, nor a list")
    wrong = languages.never(texts, "raw_language") | mistaken(texts, known)
    return {text: why.replace(*wording) for text, why in wrong.items()}


def _check_types(spec: Spec, columns: pa.Schema) -> None:
    """Raises SpecError where losses are to be summed by what is no column of text, or a phase is to be ordered, or
    semantic duplicates chosen, by what is no column of numbers."""
    numbers = [f.name for f in columns if pa.types.is_integer(f.type) or pa.types.is_floating(f.type)]
    asked = [(f"stages.{name}.keep", each.keep) for name, each in spec.of_kind(Semantic).items()]
    asked += [(f"mixture.phases.{n}.order.by", p.order.by) for n, p in enumerate(spec.mixture.phases) if p.order]
    for place, name in asked:
        if name and name not in numbers:
            raise SpecError([f"{place}: {name} is no column of numbers{suggestion(name, numbers)}"])
    text = [field.name for field in columns if pa.types.is_string(field.type) or pa.types.is_dictionary(field.type)]
    wrong = [(number, name) for number, name in enumerate(spec.training.loss_by) if name not in text]
    if wrong:
        mistakes = (f"training.loss_by.{n}: {name} is no column of text{suggestion(name, text)}" for n, name in wrong)
        raise SpecError(list(mistakes))
