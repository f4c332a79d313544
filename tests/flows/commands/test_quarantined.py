"""Documents of a shard that is quarantined in the middle: all commands count them alike."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tasks.engine.stage import Stage
from tasks.filters.language import Language
from tasks.scoring.quality import Quality
from tasks.tokenization.tokens import Tokens
from tests import small, whole
from tests.commands import ask, told
from tests.generations import write


@pytest.mark.parametrize("stage", [Quality, Tokens, Language])
def test_commands_agree_on_the_documents_of_a_quarantined_shard(
    stage: type[Stage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = small.corpus(tmp_path, files=3, documents=20)
    rng = random.Random(5)
    texts = [*(f"Planted {small.english(rng, 30)}" for _ in range(4)), "Planted short"]
    write(tmp_path, "web-70", [{"text": text, "url": f"https://example.org/{n}"} for n, text in enumerate(texts)])
    no_rule_reads_it = [line for line in spec.read_text().splitlines() if "low_quality" not in line]
    written = "\n".join(no_rule_reads_it).replace('jsonl.gz"}', 'jsonl.gz", shard: 1}')
    spec.write_text(written + "\ngates: {quarantined: 60%}\n")
    called = stage.__call__

    def fails(self: Any, batch: pa.Table) -> pa.Table:
        if any((text or "").startswith("Planted") for text in batch["text"].to_pylist()):
            raise ValueError("planted")
        return called(self, batch)

    monkeypatch.setattr(stage, "__call__", fails)
    whole.go(spec)
    funnel = told("funnel", spec)
    before_the_verdict = stage is not Tokens
    assert funnel["quarantined"] == {stage.name: 5 if before_the_verdict else 4}
    judged = funnel["kept"] + sum(funnel["dropped"].values()) + (0 if before_the_verdict else 4)

    rules = told("rules", spec)
    assert rules["documents"]["all"] == judged
    assert rules["rules"][0]["dropped"]["all"] >= funnel["dropped"]["short"]
    assert rules["quarantined"] == int(before_the_verdict)
    said = ask("rules", spec).stderr
    assert ("rules: without 1 quarantined shard, as in the funnel" in said) == before_the_verdict
    assert "not computed with these settings" not in said

    by = told("funnel", spec, "--by", "source")
    assert (by["uncounted"], by["quarantined"]) == (0, 5)
    assert "not counted: 5 documents of quarantined shards" in ask("funnel", spec, "--by", "source").stderr
    assert sum(outcomes["kept"][0] for outcomes in by["values"].values()) == funnel["kept"]

    assert [each["documents"] for each in told("versions", spec)["versions"]] == [funnel["kept"]]
    whatif = told("whatif", spec)
    assert sum(row[0] for row in whatif["kept"]["source"].values()) == funnel["kept"]
    for columns in ((), ("--columns", "url")):
        found = told("export", spec, tmp_path / f"out{len(columns)}", *columns)
        assert found["documents"] == funnel["kept"]
        assert len(found["left_out"]) == 1
