"""Documents of whose text a cut behind the verdict leaves nothing: every command counts them, under their reason."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.decision.outcome import Outcome
from tasks.engine import rebase
from tasks.engine.ledger import funnel
from tasks.engine.versions import Versions
from tests import generations, whole
from tests.commands import ask, told
from tests.small import english

CUTS = "once: {kind: repeated_lines}, spans: {kind: repeated_spans, text: once, words: 12}"
"""What the first leaves nothing of, nothing is left of by the second either, which did not cut it."""


def test_what_is_cut_to_nothing_is_not_kept_and_all_else_is_as_the_verdict_says() -> None:
    stage = Outcome(["once_emptied", "spans_emptied"])
    assert stage.read_from("kept") == "kept_before_cut"
    batch = pa.table(
        {
            "kept": [True, True, False, True],
            "reason": [None, None, "bad", None],
            "source": ["a", "a", "a", "b"],
            "emptied_0": [True, False, True, None],
            "emptied_1": [False, True, False, False],
        }
    )
    found = stage(batch)
    assert found.to_pydict() == {
        "kept": [False, False, False, True],
        "reason": ["emptied_by_cut", "emptied_by_cut", "bad", None],
    }
    assert stage.ledger(found, batch) == {"a": {"emptied_by_cut": 2, "bad": 1}, "b": {"kept": 1}}


def spec(folder: Path) -> Path:
    path = generations.spec(folder, 0.8)
    path.write_text(path.read_text().replace("stages: {", f"text: spans\nstages: {{{CUTS}, "))
    return path


def pages(first: int) -> list[dict[str, str]]:
    """Pages, and behind them two that are put together of half of two others each."""
    own = [english(random.Random(first + number), 24).split("\n") for number in range(30)]
    rows = [{"text": "\n".join(text), "url": f"https://example.org/{first}/{n}/good/"} for n, text in enumerate(own)]
    for one, other in ((0, 1), (2, 3)):
        text = "\n".join(own[one][:3] + own[other][3:])
        rows.append({"text": text, "url": f"https://example.org/{first}/{one}/{other}/put-together/"})
    return rows


COLUMNS = "url, text, spans, kept, reason, kept_before_cut, reason_before_cut, len(tokens) as tokens, channel"


def columns(path: Path) -> dict[str, dict[str, Any]]:
    found = told("query", path, f"select {COLUMNS} from corpus order by url")
    return {row[0]: dict(zip(found["columns"], row, strict=True)) for row in found["rows"]}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("emptied")
    generations.write(folder, "web-0", pages(100))
    path = spec(folder)
    generations.night(path)
    generations.write(folder, "web-1", pages(200))
    generations.night(path)
    return path


def test_a_document_that_a_cut_leaves_nothing_of_has_a_reason_and_no_tokens(made: Path) -> None:
    rows = columns(made)
    emptied = {url for url, row in rows.items() if row["reason"] == "emptied_by_cut"}
    put_together = {url for url in rows if url.endswith("put-together/")}
    wanted = set()
    for url in put_together:
        *_, first, one, other, _, _ = url.split("/")
        origins = [f"https://example.org/{first}/{each}/good/" for each in (one, other)]
        if all(rows[each]["kept_before_cut"] for each in (url, *origins)):
            wanted.add(url)
    assert emptied == wanted
    assert {url.split("/")[3] for url in emptied} == {"100", "200"}  # in either generation
    for url, row in rows.items():
        if url in emptied:
            assert (row["kept_before_cut"], row["reason_before_cut"], row["kept"]) == (True, None, False)
            assert (row["spans"], row["tokens"]) == ("", None)
        else:
            assert (row["kept"], row["reason"]) == (row["kept_before_cut"], row["reason_before_cut"])
            assert row["spans"]
            assert not row["kept"] or row["tokens"] > 1


def test_every_command_says_the_same_number(made: Path, tmp_path: Path) -> None:
    rows = columns(made)
    kept = sum(row["kept"] for row in rows.values())
    emptied = sum(row["reason"] == "emptied_by_cut" for row in rows.values())
    assert emptied > 0
    counted = told("funnel", made)
    assert (counted["in"], counted["kept"], counted["dropped"]["emptied_by_cut"]) == (len(rows), kept, emptied)
    assert counted["in"] == counted["kept"] + sum(counted["dropped"].values())
    by_channel = told("funnel", made, "--by", "channel")["values"]["all"]
    assert (by_channel["kept"][0], by_channel["emptied_by_cut"][0]) == (kept, emptied)
    assert [each["documents"] for each in told("versions", made)["versions"]][-1] == kept
    asked = told("whatif", made)
    assert asked["changed"] == {"kept": {}, "dropped": {}}
    assert asked["kept"]["source"]["web"][:2] == [kept, kept]
    assert asked["reasons"]["emptied_by_cut"][:2] == [emptied, emptied]
    dropped = told("whatif", made, "--set=rules.bad=url like '%'")
    assert dropped["kept"]["source"].get("web", [0, 0])[1] == 0
    assert dropped["reasons"]["emptied_by_cut"][:2] == [emptied, 0]
    exported = told("export", made, tmp_path / "out")
    assert exported["documents"] == kept
    texts = [text for path in (tmp_path / "out/data").iterdir() for text in pq.read_table(path)["text"].to_pylist()]
    assert len(texts) == kept
    assert all(texts)
    assert "| dropped: emptied_by_cut |" in (tmp_path / "out/README.md").read_text()


def test_inspect_and_lineage_say_why(made: Path) -> None:
    [url, *_] = [url for url, row in columns(made).items() if row["reason"] == "emptied_by_cut"]
    for command in ("inspect", "lineage"):
        verdict = told(command, made, url)["verdict"]
        assert (verdict["kept"], verdict["reason"]) == (False, "emptied_by_cut")
        assert "a cut of what repeats left nothing" in verdict["because"]
    assert "emptied_by_cut" in ask("inspect", made, url).stdout


def test_a_plan_holds_kept_documents_alone(made: Path) -> None:
    run = whole.go(made, ["mixture.tokens=8192", "training.sequence=64", "training.batch.tokens=1024"])
    kept = sum(row["kept"] for row in columns(made).values())
    assert run.plan_facts["usage"]["all"]["documents"] == kept == funnel(run.pipeline)["kept"]


def test_a_rebase_tells_what_a_cut_left_nothing_of(tmp_path: Path) -> None:
    """In a rebase pages that came later may be the first of their lines: shards go in the order of their numbers."""
    first = pages(300)[:30]
    generations.write(tmp_path, "web-0", first)
    path = spec(tmp_path)
    generations.night(path)
    for number in range(1, 6):
        one, other = (first[2 * number + each]["text"].split("\n") for each in (0, 1))
        text, url = "\n".join(one[:3] + other[3:]), f"https://example.org/later/{number}/"
        generations.write(tmp_path, f"web-{number}", [{"text": text, "url": url}])
    generations.night(path)
    before = columns(path)
    run = generations.night(path, rebase=True)
    after = columns(path)
    files = [shard.parts[0].key.rpartition("/")[2] for shard in run.pipeline.shards]
    place = dict(zip(files, run.pipeline.uids(), strict=True))
    changed = 0
    for number in range(1, 6):
        url = f"https://example.org/later/{number}/"
        assert before[url]["reason_before_cut"] is None
        if before[url]["reason"] == "emptied_by_cut":
            stands = place[f"web-{number}.jsonl.gz"] < place["web-0.jsonl.gz"]
            assert after[url]["reason"] == (None if stands else "emptied_by_cut")
            changed += stands
    assert changed > 0
    *_, old, new = (versions := Versions(run.store, run.spec.name)).all()
    assert rebase.sides(versions, old, new)["kept"]["emptied_by_cut"][0] == changed
