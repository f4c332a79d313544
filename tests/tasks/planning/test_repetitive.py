"""Documents in which a few tokens stand in a row again and again: counted, and kept out of the plan where asked."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from flows import summary
from flows.commands.query import select
from tests import small, whole

DASHES = "https://example.org/dashes"


def test_repetitive_documents_are_left_out_of_the_plan_and_counted(tmp_path: Path) -> None:
    spec = small.corpus(tmp_path)
    row = {
        "text": "The river valley and the village of the miner. " * 8 + "-=+ " * 400 + "Gold and water.",
        "url": DASHES,
    }
    with gzip.open(tmp_path / "web" / "web-dashes.jsonl.gz", "wt") as file:
        file.write(json.dumps(row) + "\n")
    chosen = ["rules.low_quality=quality < 0", "mixture.phases=[]", "training.evaluate.held_out=0"]
    run = whole.go(spec, [*chosen, "mixture.repetitions=32"])
    asked = "select url, channel, len(tokens) as tokens, repeated_tokens from corpus where kept and len(tokens) > 1"
    with select(run.pipeline, asked) as found:
        documents = [dict(zip(found.columns, row, strict=True)) for row in found.rows]
    [repetitive] = [each for each in documents if each["repeated_tokens"] >= 32]
    assert (repetitive["url"], repetitive["channel"]) == (DASHES, "en")
    left_out = {"documents": 1, "tokens": repetitive["tokens"]}
    none = dict.fromkeys(left_out, 0)
    assert run.plan_facts["repetitive"] == {"code": none, "zh": none, "en": left_out}
    header, rows = summary.mixture(run.plan_facts)
    assert header[-1] == "left out: repetitive"
    assert [row[-1] for row in rows] == ["0 documents", "0 documents", "1 document"]
    before = whole.go(spec, chosen).plan_facts
    assert "repetitive" not in before
    counts = [{name: of["documents"] for name, of in plan["usage"].items()} for plan in (before, run.plan_facts)]
    assert counts[0] == counts[1] | {"en": counts[1]["en"] + 1}
