"""Stages of one's own, by the module and class that a spec names: nothing of Sluice has to be changed for one."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
from pydantic import ValidationError

from data_specs import stages
from data_specs.base import Settings
from data_specs.document import SpecError
from data_specs.mistakes import of_options
from tasks.engine.contract import BugError, OwnStageError
from tasks.engine.stage import DOCUMENTS, Stage
from tasks.engine.takedowns import TAKEN_DOWN
from tasks.storage.store import StoreError


def custom(name: str, settings: stages.Custom) -> Stage:
    """The stage that `settings.code` names. What its settings are is said by its class's `Options`, a subclass of
    `data_specs.base.Settings`; none by default. Its file is one of its fingerprint's. Raises SpecError."""
    key = f"stages.{name}"
    module_name, _, class_name = settings.code.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except ModuleNotFoundError as error:
        raise SpecError([f"{key}.code: {error}; it has to be on Python's path, on every node"]) from None
    except Exception as error:
        raise SpecError([f"{key}.code: {settings.code} cannot be imported: {type(error).__name__}: {error}"]) from None
    if not (isinstance(found, type) and issubclass(found, Stage)) or inspect.isabstract(found):
        raise SpecError([f"{key}.code: {settings.code} is no shard stage; see docs/rewriting_text.md"])
    options: type[Settings] = getattr(found, "Options", Settings)
    try:
        chosen = options.model_validate(settings.settings)
    except ValidationError as error:
        within = ("stages", name, "settings")
        raise SpecError(of_options(error, settings.settings, within, options)) from None
    files = _source(found)
    stage = found(chosen, files)
    stage.where = settings.where
    stage.code = _imported.setdefault(*next(iter(files.items())))
    check(stage)
    return stage


def try_empty(stage: Stage, computed: Callable[[Stage, pa.Table], pa.Table]) -> None:
    """Have a stage of one's own make its columns of a document that was taken down, which has an empty text: it fails
    at once, not after the first takedown. One that reads columns of other stages is not tried, as it is not known what
    these are. Raises SpecError, with the line that failed and the remedy."""
    if any(role != "text" and (role not in _EMPTY or stage.read_from(role) != role) for role in stage.inputs):
        return
    try:
        computed(stage, pa.Table.from_pylist([_EMPTY], DOCUMENTS))
    except Exception as error:
        _try_ordinary(stage, computed)
        message = f"{_failed(stage, error)}: stages.{stage.label} fails on an empty text ({_in_words(error)})"
        remedy = (
            "as a takedown leaves it; give null where nothing is defined, and of an empty text to rewrite an empty one"
        )
        raise SpecError([f"{message}, {remedy}"]) from error


def _try_ordinary(stage: Stage, computed: Callable[[Stage, pa.Table], pa.Table]) -> None:
    """The same with an ordinary document: what fails there, too, is not to blame on an empty text."""
    try:
        computed(stage, pa.Table.from_pylist([_ORDINARY], DOCUMENTS))
    except Exception as error:
        raise SpecError([f"{_failed(stage, error)}: stages.{stage.label} fails ({_in_words(error)})"]) from error


@contextmanager
def located(stage: Any) -> Iterator[None]:
    """What a stage of one's own raises in the block is told with the line of its file."""
    try:
        yield
    except StoreError:
        raise
    except Exception as error:
        if not getattr(stage, "code", ""):
            raise
        kind = BugError if isinstance(error, _BUGS) else OwnStageError
        raise kind(f"{_failed(stage, error)}: {_in_words(error)}") from error


_BUGS = (ArithmeticError, AttributeError, LookupError, NameError, TypeError, pa.ArrowInvalid)
"""What a wrong program raises, and neither a network nor a full memory."""


_EMPTY = dict.fromkeys(DOCUMENTS.names) | {
    **{"id": bytes(16), "source": "", "text": "", "kind": TAKEN_DOWN},
    **{"file": "", "offset": 0, "length": 0},
}
"""A document that was taken down."""
_ORDINARY = _EMPTY | {
    **{"source": "web", "url": "https://example.org/", "text": "A few words.", "title": "A title", "kind": "text"},
    **{"date": "2026-01-01", "author": "An author", "site": "example.org", "file": "a.jsonl", "payload": "0" * 64},
}
"""One of which everything is known."""


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _failed(stage: Stage, error: Exception) -> str:
    """Where a stage of one's own failed: `file:line`; where it returned something wrong, its class."""
    path = inspect.getfile(type(stage))
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    return f"{path}:{lines[-1] if lines else inspect.getsourcelines(type(stage))[1]}"


_imported: dict[str, str] = {}
"""The files of stages of one's own, and their sha256 when this process first asked for them."""


def check(stage: Stage) -> None:
    """Raises SpecError where the file of a stage of one's own is another than the one that the run began with: what is
    imported of it would make other values in that one's name."""
    [(path, found)] = _source(type(stage)).items()
    if found != stage.code:
        raise SpecError([f"{path} has changed since this run began, or is another on this node; run again"])


def _source(found: type) -> dict[str, str]:
    """The file of a class, and its sha256."""
    path = inspect.getfile(found)
    with open(path, "rb") as file:
        return {path: hashlib.file_digest(file, "sha256").hexdigest()}
