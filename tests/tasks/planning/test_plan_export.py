"""Exports of a plan, read back: by `datasets`, by the layout of Megatron-LM's index as its documentation has it, and by
its own reader where megatron-core is installed."""

from __future__ import annotations

import struct
from itertools import pairwise
from pathlib import Path

import datasets
import numpy as np
import pytest

from tasks.planning import plan_export
from tasks.planning.files import read_tokens
from tasks.planning.plan_export import PlanExportError
from tasks.planning.run_plan import build, plan_folder
from tasks.planning.trace import usage
from tasks.storage.store import Store
from tests.tasks.planning.test_run_plan import ROWS, SEQUENCE, VOCABULARY, Corpus, make_spec
from training.rows import Plan, Rows

try:
    from megatron.core.datasets import indexed_dataset as megatron
except ImportError:
    megatron = None

KEY = "0" * 32


def planned(**mixture: object) -> tuple[Corpus, str]:
    documents = [(("a", "b")[number % 3 > 0], 2 + number % 13, number % 20 == 0) for number in range(300)]
    corpus = Corpus([documents[:200], documents[200:]])
    phases = [{"until": 0.5, "weights": {"a": 0.5, "b": 0.5}}, {"until": 1.0, "weights": {"b": 1}}]
    spec = make_spec(("a", "b"), SEQUENCE * ROWS * 40, phases=phases, **mixture)
    build(spec, VOCABULARY, KEY, corpus.shards, corpus.store)
    return corpus, plan_folder(spec, KEY)


@pytest.mark.parametrize("packing", ["end_to_end", "best_fit"])
def test_datasets_reads_the_rows_that_a_training_reads(packing: str, tmp_path: Path) -> None:
    corpus, folder = planned(packing=packing)
    written = plan_export.rows(corpus.store, folder, Store(str(tmp_path / "rows")))
    files = [str(tmp_path / "rows" / name) for name in written]
    found = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    read = Plan.read(corpus.store, folder)
    at = 0
    for number, phase in enumerate(read.phases):
        rows = Rows(corpus.store, read, number)
        packed = rows._packed(rows.columns(0, phase.rows), 0)
        ends = np.cumsum(packed.lengths)
        for row in range(phase.rows):
            segments = int(packed.segments[:row].sum()), int(packed.segments[: row + 1].sum())
            first = int(ends[segments[0] - 1]) if segments[0] else 0
            each = found[at]
            assert each["input_ids"] == packed.tokens[first : int(ends[segments[1] - 1])].tolist()
            assert each["lengths"] == packed.lengths[segments[0] : segments[1]].tolist()
            assert (each["channel"], each["phase"]) == (read.channels[packed.channels[row]], str(number + 1))
            at += 1
    assert at == len(found)


def megatron_documents(folder: Path, prefix: str) -> list[list[int]]:
    """The documents of an indexed dataset, read as Megatron-LM says that it is laid out."""
    data = (folder / f"{prefix}.idx").read_bytes()
    assert data[:9] == b"MMIDIDX\x00\x00"
    version, code, sequences, documents = struct.unpack("<QBQQ", data[9:34])
    assert version == 1
    kind = {1: "u1", 2: "i1", 3: "<i2", 4: "<i4", 5: "<i8", 6: "<f8", 7: "<f4", 8: "<u2"}[code]
    sizes = np.frombuffer(data, "<i4", sequences, 34)
    pointers = np.frombuffer(data, "<i8", sequences, 34 + 4 * sequences)
    begins = np.frombuffer(data, "<i8", documents, 34 + 12 * sequences)
    assert len(data) == 34 + 12 * sequences + 8 * documents
    binary = (folder / f"{prefix}.bin").read_bytes()
    read = [
        np.frombuffer(binary, kind, size, at).tolist()
        for size, at in zip(sizes.tolist(), pointers.tolist(), strict=True)
    ]
    return [sum(read[first:end], []) for first, end in pairwise(begins)]  # noqa: RUF017


def test_megatron_reads_each_document_as_often_as_the_plan_does_and_the_shares_of_each_phase(tmp_path: Path) -> None:
    corpus, folder = planned()
    written = plan_export.megatron(corpus.store, folder, Store(str(tmp_path)))
    uses: dict[str, list[list[int]]] = {"a": [], "b": []}
    plan = Plan.read(corpus.store, folder)
    assert plan.channels == ("a", "b")
    for row in usage(corpus.store, folder).to_pylist():
        tokens = read_tokens(corpus.store, row["file"], "").values.to_pylist()
        values = tokens[row["offset"] : row["offset"] + row["length"]]
        number = corpus.of_token[values[0]]
        assert values == corpus.documents[number][2]
        uses[row["channel"]] += [values] * row["uses"]
    for name in "ab":
        found = megatron_documents(tmp_path, f"{name}_document")
        assert found == uses[name]
        assert len(found) == written[name] > 0
        if megatron is not None:  # its own reader, where megatron-core is installed
            reader = megatron.IndexedDataset(str(tmp_path / f"{name}_document"))
            assert [document.tolist() for document in reader] == uses[name]
    assert (tmp_path / "blend-2.txt").read_text() == "1.0 b_document\n"
    lines = [line.split() for line in (tmp_path / "blend-1.txt").read_text().splitlines()]
    assert {prefix: float(weight) for weight, prefix in lines} == {"a_document": 0.5, "b_document": 0.5}


def test_megatron_gets_no_plan_of_which_a_phase_reads_some_documents_alone(tmp_path: Path) -> None:
    corpus = Corpus([[("a", 30, False)] * 200], good=lambda number: number % 2 == 0)
    phases = [{"until": 0.5, "weights": {"a": 1}}, {"until": 1.0, "weights": {"a": 1}, "where": "quality > 1"}]
    spec = make_spec(("a",), SEQUENCE * ROWS * 10, phases=phases)
    build(spec, VOCABULARY, KEY, corpus.shards, corpus.store)
    with pytest.raises(PlanExportError, match="phase 2 reads only documents where quality > 1"):
        plan_export.megatron(corpus.store, plan_folder(spec, KEY), Store(str(tmp_path)))
    assert plan_export.rows(corpus.store, plan_folder(spec, KEY), Store(str(tmp_path / "rows")))


def test_documents_that_are_turned_round_have_no_rows_to_export(tmp_path: Path) -> None:
    corpus = Corpus([[("a", 30, False)] * 100])
    spec = make_spec(("a",), SEQUENCE * ROWS * 10)
    training = spec.training.model_dump(exclude_unset=True) | {
        "objective": {"kind": "causal", "fill_in_the_middle": {"rate": 0.5}}
    }
    turned = spec.model_validate(spec.model_dump(mode="json", exclude_unset=True) | {"training": training})
    build(turned, VOCABULARY, KEY, corpus.shards, corpus.store)
    with pytest.raises(PlanExportError, match="turned round"):
        plan_export.rows(corpus.store, plan_folder(turned, KEY), Store(str(tmp_path / "rows")))
