"""Named sets of documents from files, evaluated beside the held-out rows."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
import zstandard

from data_specs.objectives import Masked
from data_specs.training import EvaluationSet
from tasks.planning.objectives import MASK
from tasks.storage.store import Store
from tests import training_plan
from tests.training_plan import PLAN, spec
from training import log, loop, ranks
from training.begin import begin
from training.rows import IGNORED, Plan, PlanError
from training.sets import SetRows, texts

TEXTS = ["the first document " * 4, "and a second", "x"]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(str(tmp_path))
    training_plan.write(store, phases=(2,))
    lines = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS)
    (tmp_path / "set.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    return store


def test_every_token_but_a_documents_first_is_predicted_once(store: Store) -> None:
    plan = Plan.read(store, PLAN)
    documents = [np.arange(2, 2 + count) for count in (50, 1, 7, 17, 33)]
    rows = SetRows(plan, {"a": documents[:3], "b": documents[3:]})
    found: dict[int, list[int]] = {0: [], 1: []}
    for row in range(len(rows)):
        made = rows.batch(row, 1)
        found[int(made.channels[0])] += made.labels[made.labels != IGNORED].tolist()
    assert found[0] == [token for document in documents[:3] for token in document[1:]]
    assert found[1] == [token for document in documents[3:] for token in document[1:]]


def test_a_set_is_masked_with_the_mask_that_the_tokenizer_has(store: Store) -> None:
    plan = replace(Plan.read(store, PLAN), objective=Masked(), own={MASK[0]: 5})
    made = SetRows(plan, {"a": [np.arange(100, 116)] * 8}).batch(0, 8)
    assert 5 in made.inputs


def test_a_training_logs_what_its_own_logits_make_of_a_set(store: Store) -> None:
    ranks.join("cpu")
    chosen = {"wiki": {"path": f"{store.url}/set.jsonl.gz", "documents": 2}}
    made = spec(evaluate={"every": 0, "tokens": 64, "sets": chosen})
    trainer = loop.Trainer(made, store, Plan.read(store, PLAN), "r", training_plan.pin(store))
    begin(trainer, resume=False)
    trainer.evaluate()
    trainer.log.close()
    batches = [trainer.evaluation.sets.rows.batch(row, 1) for row in range(len(trainer.evaluation.sets.rows))]
    total = count = 0.0
    for batch in batches:
        inputs, positions, labels = map(torch.from_numpy, (batch.inputs, batch.positions, batch.labels))
        with torch.no_grad():
            logits = trainer.engine.module(inputs, positions)
        total += functional.cross_entropy(logits[0], labels[0], ignore_index=IGNORED, reduction="sum").item()
        count += int((labels != IGNORED).sum())
    [record] = log.read(store, "r", "held_out")
    found = record["sets"]["wiki"]
    assert found["loss"] == pytest.approx(total / count, rel=1e-5)
    assert found["perplexity"] == pytest.approx(math.exp(total / count), rel=1e-5)
    spelled = sum(len(text.encode()) - 1 for text in TEXTS[:2])  # without first tokens, here letters
    assert found["bits_per_byte"] == pytest.approx(total / math.log(2) / spelled, rel=1e-5)
    assert record["losses"].keys() == set(training_plan.CHANNELS)


def test_texts_of_a_set_end_as_those_of_the_training(store: Store) -> None:
    ranks.join("cpu")
    chosen = {"wiki": {"path": f"{store.url}/set.jsonl.gz"}}
    made = spec(evaluate={"every": 0, "sets": chosen})
    made = made.model_copy(update={"tokenizer": made.tokenizer.model_copy(update={"end": "<|pad|>"})})
    trainer = loop.Trainer(made, store, Plan.read(store, PLAN), "r", training_plan.pin(store))
    ended = [row[-1][-1] for _, row in trainer.evaluation.sets.rows.rows[-1:]]
    assert ended == [1]  # not <|endoftext|>, which the tokenizer has, too


def test_a_set_that_cannot_be_read_is_named(store: Store) -> None:
    wrong = {"nowhere.jsonl": "cannot be read", "set.jsonl.gz": "a line has no field body"}
    for name, message in wrong.items():
        with pytest.raises(PlanError, match=rf"training\.evaluate\.sets\.wiki: .*{message}"):
            texts("wiki", EvaluationSet(path=f"{store.url}/{name}", field="body"))


def test_a_set_that_holds_other_texts_after_a_resume_is_said_and_compared_with_none_of_those_before(
    store: Store, tmp_path: Path
) -> None:
    ranks.join("cpu")
    chosen = {name: {"path": f"{store.url}/{name}.jsonl.gz"} for name in ("set", "other")}
    (tmp_path / "other.jsonl.gz").write_bytes((tmp_path / "set.jsonl.gz").read_bytes())
    made = spec(evaluate={"every": 1, "tokens": 64, "sets": chosen}, checkpoint={"every": 1})
    for texts_now, resume in ((TEXTS, False), (TEXTS[:2], True)):
        lines = "".join(json.dumps({"text": text}) + "\n" for text in texts_now)
        (tmp_path / "set.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
        trainer = loop.Trainer(made, store, Plan.read(store, PLAN), "r", training_plan.pin(store))
        begin(trainer, resume=resume)
        if resume:
            trainer.train()
        else:
            trainer.evaluate()
            trainer.step()
            trainer.evaluate()
            trainer.save()
        trainer.log.close()
    said = [record["message"] for record in log.read(store, "r", "warning")]
    assert said == [
        "training.evaluate.sets.set: it holds other documents than at step 1 and before, which are no part of what a "
        "summary compares"
    ]
    before, _, last = log.read(store, "r", "held_out")
    found = log.summarize(store, "r")["sets"]
    assert found["other"] == {"first": before["sets"]["other"], "last": last["sets"]["other"]}
    assert found["set"] == {"first": last["sets"]["set"], "last": last["sets"]["set"]}
    assert before["sets"]["set"]["tokens"] != last["sets"]["set"]["tokens"]


@pytest.mark.parametrize("ending", ["gz", "zst", "bz2", "xz"])
def test_a_compressed_set_whose_tail_is_damaged_or_cut_is_an_error_also_where_fewer_documents_are_read(
    tmp_path: Path, ending: str
) -> None:
    lines = "".join(json.dumps({"text": f"{number} {hash(number)}"}) + "\n" for number in range(50_000)).encode()
    pack = {
        "gz": gzip.compress,
        "zst": zstandard.ZstdCompressor(write_checksum=True).compress,
        "bz2": bz2.compress,
        "xz": lzma.compress,
    }
    data = pack[ending](lines)
    path = tmp_path / f"set.jsonl.{ending}"
    chosen = EvaluationSet(path=str(path), documents=2)
    path.write_bytes(data)
    assert [text[:2] for text in texts("wiki", chosen)] == ["0 ", "1 "]
    path.write_bytes(data[:-9])
    with pytest.raises(PlanError, match=rf"sets\.wiki: .*set\.jsonl\.{ending} is truncated; fetch it again"):
        texts("wiki", chosen)
    damaged = bytearray(data)
    damaged[-6] ^= 16
    path.write_bytes(damaged)
    with pytest.raises(PlanError, match=rf"set\.jsonl\.{ending} is damaged after byte"):
        texts("wiki", chosen)
    damaged = bytearray(data)
    damaged[len(data) // 2] ^= 16
    path.write_bytes(damaged)
    with pytest.raises(PlanError, match=rf"set\.jsonl\.{ending} (is damaged after byte|cannot be read|is truncated)"):
        texts("wiki", chosen)
