"""`sluice tokenizers`: kinds and sizes of tokenizers on the kept documents of a corpus, as a table and a picture."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from prefect import flow
from prefect.artifacts import MarkdownArtifact

from data_specs.amounts import decimal
from data_specs.document import SpecError
from data_specs.expressions import parse
from data_specs.tokenizer import Tokenizer
from flows import pictures
from flows.artifacts import table
from flows.corpus_run import CorpusRun
from flows.prefect_ui import key, without_traceback
from flows.terminal import percent
from flows.versions import no_longer
from tasks import registry
from tasks.engine import job
from tasks.engine.snapshot import Snapshot
from tasks.engine.sql import evaluate
from tasks.engine.versions import Versions
from tasks.tokenization.sweep import Extension, sweep
from tasks.tokenization.tokenizer import TokenizerEstimator


@flow(name="tokenizers", flow_run_name="tokenizers {to}", persist_result=False)
@without_traceback
def tokenizers(
    spec: str,
    to: str,
    kinds: list[str],
    vocabularies: list[int],
    store: str | None = None,
    set: list[str] | None = None,  # noqa: A002 (as the option is called)
    dirty: str | None = None,
    digits: str = "one",
    extend: str | None = None,
    more: int = 1000,
    words: str | None = None,
    dirty_where: str | None = None,
) -> list[dict[str, Any]]:
    """Learn a tokenizer of each kind and size, and show how each spells what it never saw."""
    current = CorpusRun.of(spec, store, set or ())
    given: dict[str, Any] = {"digits": digits, "sample": current.spec.tokenizer.sample}
    try:
        tried = [
            Tokenizer.model_validate({"kind": kind, "vocabulary": size, **given})
            for kind, size in product(kinds, vocabularies)
        ]
        phrases = _lines(dirty)
        extension = _extension(current.spec.tokenizer, extend, more, _lines(words))
    except (ValueError, OSError) as error:
        raise SpecError([f"tokenizers: {error}"]) from None
    sample = _sample(current, dirty_where)
    try:
        made = sweep(sample, tried, current.spec.seed, phrases, extension)
    except ValueError as error:  # too few documents, or too small a vocabulary
        raise SpecError([f"tokenizers: {error}"]) from None
    found = [each for each, _ in made]
    folder = Path(to)
    folder.mkdir(parents=True, exist_ok=True)
    for each, data in made:
        (folder / f"{each['kind']}-{each['size']}.json").write_bytes(data)
    picture = pictures.tokenizers(found)
    (folder / "tokenizers.svg").write_text(picture, encoding="utf-8")
    page = f"![Tokenizers]({pictures.data_uri(picture)})\n\n{as_table(found)}"
    (folder / "tokenizers.md").write_text(f"![Tokenizers](tokenizers.svg)\n\n{as_table(found)}\n", encoding="utf-8")
    artifact = MarkdownArtifact(
        markdown=page, key=key(current.spec.name, "tokenizers"), description=f"Tokenizers of {current.spec.name}"
    )
    artifact.create(_sync=True)  # type: ignore[call-arg]
    return found


def _lines(path: str | None) -> list[str]:
    """The lines of a file that are not empty, in Unicode NFC, as documents are."""
    text = Path(path).read_text(encoding="utf-8-sig") if path else ""
    return [line for line in unicodedata.normalize("NFC", text).splitlines() if line.strip()]


def _extension(settings: Tokenizer, path: str | None, more: int, words: list[str]) -> Extension | None:
    """What is to be extended: a file, whose special tokens are those that the spec names where that has a file, too."""
    if path is None:
        return None
    named = settings.model_dump(include={"end", "pad", "mask"}, exclude_none=True)
    return Extension(Path(path).read_bytes(), Tokenizer(kind="file", path=path, **named), more, words)


def _sample(current: CorpusRun, dirty_where: str | None = None) -> pa.Table:
    """The kept documents of the last version that the spec's tokenizer would be learned from; where there is an
    expression, `dirty` says of which it is true."""
    spec, versions = current.spec, Versions(current.store, current.spec.name)
    if versions.accepted is None:
        raise SpecError([f"tokenizers: {spec.name} has no version in {current.store.url} yet; `sluice run` makes one"])
    corpus = Snapshot(versions, versions.accepted)
    learner = TokenizerEstimator(Tokenizer(sample=spec.tokenizer.sample), spec.seed, registry.weights(spec))
    names = tuple(spec.text if name == "text" else name for name in learner.reads)
    asked = sorted(parse(dirty_where).columns - {*names}) if dirty_where else []
    if lacking := [name for name in (*names, *asked) if name not in corpus.provider]:
        number = versions.accepted["version"]
        why = "the spec says another text" if lacking[0] in names else "--dirty-where asks for it"
        raise SpecError([f"tokenizers: version {number} has no column {lacking[0]}; {why}"])
    if altered := corpus.altered((*names, *asked)):
        raise SpecError([f"tokenizers: {no_longer(versions.accepted, altered)}"])
    parts: list[pa.Table] = []
    dirty: list[pa.Array] = []
    for place, files in corpus.files([*names, *asked]):
        whole = job.read(corpus.store, files, None, None, corpus.recorded(place, [*names, *asked]))
        if dirty_where:
            dirty.append(whole["id"].filter(evaluate({"dirty": dirty_where}, whole)["dirty"]).combine_chunks())
        read = whole.select(list(names)).rename_columns(learner.reads)
        parts = [learner.downsample(pa.concat_tables([*parts, learner.sample(read)]))]
    rows = parts[0].sort_by("id")
    if dirty_where:
        rows = rows.append_column("dirty", pc.is_in(rows["id"], pa.concat_arrays(dirty)))
    return rows


def as_table(found: Sequence[dict[str, Any]]) -> str:
    """A table, a line for each tokenizer and channel."""
    rows = []
    for each in found:
        first = [f"{each['kind']} {each['size']:,}", percent(each["dead"]), percent(each["dirty"], 2)]
        for name, rates in each["channels"].items():
            rows.append([*first, name, *("" if rate is None else decimal(rate, 2) for rate in rates.values())])
            first = ["", "", ""]
    header = ["tokenizer", "dead", "dirty", "channel", "characters", "bytes", "hanzi", "tokens per word"]
    return table(header, rows) + "\n\nCharacters, bytes and hanzi are per token, on texts that were not learned from."
