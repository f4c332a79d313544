"""Texts that are pinned, and what is pinned in the same format and holds none."""

from __future__ import annotations

import pyarrow as pa

from tasks.scoring import perplexity
from tasks.storage.pinned_texts import without_texts, written

TABLE = pa.table(
    {"id": pa.array([b"a" * 16, b"b" * 16], pa.binary(16)), "text": ["one", "another"], "source": ["web", "web"]}
)


def test_texts_of_some_documents_go_and_all_else_stays() -> None:
    found = without_texts(written(TABLE), {b"b" * 16, b"c" * 16})
    assert found is not None
    assert pa.ipc.open_file(found).read_all().to_pylist() == [
        {"id": b"a" * 16, "text": "one", "source": "web"},
        {"id": b"b" * 16, "text": "", "source": "web"},
    ]
    assert without_texts(found, {b"b" * 16}) is None  # they are gone already
    assert without_texts(written(TABLE), {b"c" * 16}) is None


def test_models_of_a_language_which_are_arrow_too_hold_no_text_of_a_document() -> None:
    assert perplexity.PerplexityEstimator.suffix == ".arrow"
    models = pa.table([["en"], [["word"]], *([[]] for _ in range(len(perplexity._PART) - 2))], schema=perplexity._PART)
    assert without_texts(written(models), {b"b" * 16}) is None
