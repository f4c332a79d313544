"""`sluice index`: an LSH index of a version's kept documents, or of texts in files, for a stage `duplicates_of`."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from data_specs.expressions import parse
from data_specs.load import SpecError
from flows import versions
from flows.commands import export_records
from flows.corpus_run import CorpusRun
from tasks.arrays.addresses import true
from tasks.dedup import lsh_index
from tasks.engine import job
from tasks.engine.snapshot import Snapshot
from tasks.engine.sql import evaluate
from tasks.engine.stage import digest
from tasks.engine.versions import Versions
from tasks.storage.store import Store
from tasks.text.rows import rows_of, text_of


def of_version(to: str, spec: str, store: str | None, version: int | None, floor: float) -> dict[str, Any]:
    """Index the kept documents of a version, the last accepted one by default, as `duplicates` of that spec reads them;
    their names are their ids. Raises SpecError where there is no such version, or it is not whole any more."""
    run = CorpusRun.of(spec, store)
    lineage = Versions(run.store, run.spec.name)
    facts = lineage.accepted if version is None else versions.of(lineage, version)
    if facts is None:
        raise SpecError([f"index: {run.spec.name} has no version in {run.store.url} yet; `sluice run` makes one"])
    corpus = Snapshot(lineage, facts)
    settings, text = run.spec.duplicates, run.spec.judged_text
    asked = parse(settings.symbols).columns - {"text"} if settings.symbols else ()
    names = tuple(dict.fromkeys(("id", text, "kept", *sorted(asked))))
    if lacking := [name for name in names if name not in corpus.provider]:
        raise SpecError([f"index: version {facts['version']} has no column {lacking[0]}; the spec says another text"])
    if altered := corpus.altered(names):
        raise SpecError([f"index: {versions.no_longer(facts, altered)}"])

    def documents() -> Iterator[lsh_index.Document]:
        for place, files in corpus.files(names):
            table = job.read(corpus.store, files, None, None, corpus.recorded(place, names))
            kept = table.filter(table["kept"])
            yield from zip(_ids(kept), kept[text].to_pylist(), _counted(kept, text, settings.symbols), strict=True)

    made = lsh_index.build(
        Path(to), documents(), floor, settings.hashes, settings.words, settings.characters, bool(settings.symbols)
    )
    made_of = {"spec": run.spec.name, "version": facts["version"], "what": "index"}
    export_records.note(run.store, Store(to), digest(made["files"]), made_of)
    return made | {"of": f"{run.spec.name}, version {facts['version']}"}


def _ids(table: pa.Table) -> list[str]:
    return [name.hex() for name in table["id"].to_pylist()]


def _counted(table: pa.Table, text: str, symbols: str | None) -> list[bool]:
    """In which documents symbols count, as `duplicates` reads them: `text` is the one that is judged."""
    if symbols is None:
        return [False] * len(table)
    judged = table[text]
    table = table.drop_columns(["text"]) if "text" in table.column_names else table
    return true(evaluate({"symbols": symbols}, table.append_column("text", judged))["symbols"]).tolist()


def of_files(
    to: str, patterns: Sequence[str], fields: Sequence[str], floor: float, symbols: bool = False
) -> dict[str, Any]:
    """Index the rows of files, JSONL, CSV or Parquet; the fields of a row make its text. Their names are `file:row`,
    counted from 0; where two files of several folders are called the same, `folder/file:row`. `symbols`: whether these
    count in all of them. Raises SpecError where there is no such file or field."""
    paths = [*dict.fromkeys(path for pattern in patterns for path in sorted(glob.glob(pattern, recursive=True)))]
    named = _told_apart(paths)
    if not paths:
        raise SpecError([f"index: {', '.join(patterns)} is no file"])

    def documents() -> Iterator[lsh_index.Document]:
        for path in paths:
            for number, row in enumerate(rows_of(path, numbered=False)):
                try:
                    text = "\n".join(text_of(row[field], path, number) for field in fields if row[field] is not None)
                except (KeyError, TypeError):
                    known = ", ".join(map(str, row)) if isinstance(row, dict) else "no fields"
                    raise SpecError(
                        [f"index: row {number} of {path} has not all of {', '.join(fields)}: {known}"]
                    ) from None
                yield f"{named[path]}:{number}", text, symbols

    return lsh_index.build(Path(to), documents(), floor, symbols=symbols) | {"of": ", ".join(patterns)}


def _told_apart(paths: Sequence[str]) -> dict[str, str]:
    """What files are called; with the folders below the one that they share where two have one name."""
    names = {path: Path(path).name for path in paths}
    if len({*names.values()}) == len(names):
        return names
    shared = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])
    return {path: os.path.relpath(path, shared) for path in paths}
