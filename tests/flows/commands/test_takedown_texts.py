"""A takedown purges what stages make of texts: every file of the store is searched for what they wrote."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from transformers import BertModel

from flows.run import Run
from tests import small, whole
from tests.commands import told
from tests.holding import holding, holding_numbers
from tests.tasks.scoring.test_encoder import folder

GONE = "https://gone.example.net/"
WIDE, PLAIN, MAIL = "ｚａｎｑｕｉｂａｌ", "zanquibal", "vortexine@secret-house.net"
"""A word as the page has it and as `normalise` writes it, and an address that `personal_data` takes out."""
TEXTS = (
    *("normalise", "personal_data", "boilerplate", "line_filter", "repeated_lines", "repeated_spans"),
    "shuffle_sentences",
)
"""Kinds of stages that write a text."""
STAGES = """stages:
  clean: {{kind: normalise}}
  masked: {{kind: personal_data, text: clean}}
  plain: {{kind: boilerplate, text: masked, pages: 3, inside: 10}}
  prose: {{kind: line_filter, like: refinedweb, text: plain, where: "url like 'https://gone%'"}}
  once: {{kind: repeated_lines, text: prose, letters: 20}}
  spans: {{kind: repeated_spans, text: once, words: 8}}
  shuffled: {{kind: shuffle_sentences}}
  embedding: {{model: {model}, tokens: 64}}
  semantic: {{clusters: 2, partitions: 2}}
"""


def page(number: int) -> str:
    """A page of a site, between lines that all of it have, in which every line holds the word and some the address."""
    lines = small.english(random.Random(number), 60).split("\n")
    own = [f"The {WIDE} of the {line.lower()} Write to {MAIL} of {number}, then." for line in lines]
    return "\n".join([f"Menu of the {WIDE} and more", *own, f"All rights of the {WIDE} are reserved here"])


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A corpus whose text goes through all stages that write one, and what is learned from vectors of it."""
    small.corpus(tmp_path, files=2)
    rows = [{"text": page(number), "url": f"{GONE}{number}"} for number in range(6)]
    data = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "web" / "web-50.jsonl.gz").write_bytes(gzip.compress(data.encode(), mtime=0))
    spec = tmp_path / "small.yaml"
    stages = STAGES.format(model=folder(tmp_path / "model", BertModel))
    text = spec.read_text().replace("stages:\n", stages)
    spec.write_text(text + "text: spans\ngates: {skipped: true}\n")
    return spec


def kinds(found: set[str]) -> set[str]:
    """The kinds of stages, or of what is learned, whose files these are."""
    return {name.split("/")[1].partition("@")[0] for name in found if name.startswith(("columns/", "models/"))}


def hashes(run: Run, name: str, column: str, text: str) -> np.ndarray:
    """What a stage shuffles of a text."""
    stage = run.pipeline.node(name).stage
    table = pa.table({"text": [text], "kept": [True], "url": [f"{GONE}0"]})
    return np.unique(stage.map(table.select(stage.reads))[column].to_numpy())


def test_what_stages_write_of_a_text_is_in_no_file_once_it_is_taken_down(made: Path) -> None:
    store = made.parent / "store"
    run = whole.go(made)
    asked = f"select masked, prose, once, embedding from corpus where url = '{GONE}0'"
    [[masked, prose, once, vector]] = told("query", made, asked)["rows"]
    numbers = {
        "boilerplate": hashes(run, "plain", "line", masked),
        "repeated_lines": hashes(run, "once", "line", prose),
        "repeated_spans": hashes(run, "spans", "window", once),
        "embedding": np.array(vector, np.float32),
    }
    assert kinds(holding(store, [PLAIN])) >= {*TEXTS, "tokenizer"}
    assert {name.split("/")[0] for name in holding(store, [MAIL])} >= {"documents", "columns"}
    for kind, each in numbers.items():
        assert kind in kinds(holding_numbers(store, each)), kind
    assert kinds(holding_numbers(store, numbers["embedding"])) == {"embedding", "semantic", "centroids"}

    named = told("takedown", made, "--domain", "gone.example.net", "--yes")["named"]["pins"]
    pins = {run.pipeline.pins.history[name][-1]["path"] for name in named}  # named, not learned anew
    texts = [WIDE, PLAIN, MAIL, "gone.example.net"]
    assert holding(store, texts, skip=("takedowns/", "counts/")) <= pins
    assert {name for each in numbers.values() for name in holding_numbers(store, each)} == set()
    after = whole.go(made)
    assert after.record["funnel"]["dropped"]["takedown"] == 6
    assert holding(store, texts, skip=("takedowns/", "counts/")) <= pins
    assert {name for each in numbers.values() for name in holding_numbers(store, each)} == set()
