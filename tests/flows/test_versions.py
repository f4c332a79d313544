"""Versions of a corpus: made where something changed, compared, refused by gates; files that have left stay in it."""

from __future__ import annotations

import gzip
import io
import json
import random
import shutil
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from data_specs.load import SpecError
from flows import summary, tokenizer_sweep
from flows.corpus_run import CorpusRun
from flows.run import Run
from tasks.decision.verdict import Verdict
from tasks.engine.gates import GateError
from tasks.engine.runner import StageError
from tasks.engine.versions import Versions
from tasks.planning import run_plan
from tasks.planning.files import read_rows
from tasks.planning.mixture import MixtureError
from tasks.planning.trace import read_plan, tokens_of_rows
from tasks.storage.store import DamagedError, Store, StoreError
from tasks.tokenization.tokens import Tokens
from tests import small
from tests.commands import ask, told
from tests.whole import go

BAND = "gates.new.least=10"
"""Judges sources of few records, too."""


def versions(spec: Path) -> list[dict[str, Any]]:
    return told("versions", spec)["versions"]


def ids(spec: Path, where: str = "true") -> list[str]:
    return [row[0] for row in told("query", spec, f"select id from corpus where {where} order by id")["rows"]]


def written(spec: Path, name: str, texts: list[str]) -> None:
    """A file of the source `web`."""
    lines = [json.dumps({"text": text, "url": f"https://new.example.net/{name}/{n}"}) for n, text in enumerate(texts)]
    (spec.parent / "web" / name).write_bytes(gzip.compress("\n".join(lines).encode()))


def english(seed: int, count: int) -> list[str]:
    rng = random.Random(seed)
    return [small.english(rng, 30) for _ in range(count)]


# -- making ------------------------------------------------------------------------------------------------------------


def test_a_run_makes_a_version_and_one_that_changes_nothing_makes_none(copied: Path) -> None:
    [first] = versions(copied)
    assert (first["version"], first["parent"], first["state"]) == (1, None, "accepted")
    assert first["documents"] == told("funnel", copied)["kept"]
    assert first["tokens"] == told("query", copied, "select sum(len(tokens)) from corpus where kept")["rows"][0][0]
    before = Store(str(copied.parent / "store")).walk("versions")
    go(copied)
    assert len(versions(copied)) == 1
    assert Store(str(copied.parent / "store")).walk("versions") == before


def test_a_new_file_and_a_changed_rule_make_versions_that_share_what_they_have_in_common(copied: Path) -> None:
    store = Store(str(copied.parent / "store"))
    written(copied, "web-50.jsonl.gz", english(5, 30))
    go(copied)
    go(copied, ["rules.short=domain <> 'code' and words < 250"])
    one, two, three = versions(copied)
    assert (two["parent"], two["new"], two["generations"]) == (1, 1, 2)
    assert (three["parent"], three["new"], three["generations"]) == (2, 0, 2)
    lineage = Versions(store, "small")
    [old], [kept, _], [still, _] = (lineage.read(n)["generations"] for n in (1, 2, 3))
    assert old["names"] == kept["names"] == still["names"]
    assert {old["keys"][name] for name in ("documents", "signals")} == {
        still["keys"][name] for name in ("documents", "signals")
    }
    assert kept["keys"]["verdict"] != still["keys"]["verdict"]
    assert three["documents"] < two["documents"] > one["documents"]


def test_files_of_a_shard_stay_together_and_a_new_one_joins_without_rereading_them(copied: Path) -> None:
    before = told("query", copied, "select id, file from corpus order by 1")["rows"]
    (copied.parent / "code" / "new.py").write_text(small.code(random.Random(9), 8))
    run = go(copied)
    documents = run.record["stages"][0]
    assert documents["jobs"] == 1
    after = told("query", copied, "select id, file from corpus order by 1")["rows"]
    assert [row for row in after if row[1] != "new.py"] == before
    assert len(after) == len(before) + 1
    assert versions(copied)[-1]["new"] == 1


def test_of_two_drivers_one_makes_a_version_and_the_other_is_told(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lineage = Versions(Store(str(copied.parent / "store")), "small")
    facts = lineage.read(1)
    with pytest.raises(StoreError, match="another run of small has made version 1 of the corpus meanwhile: run again"):
        lineage.create(facts)
    assert lineage.read(1) == facts


@pytest.mark.parametrize("theirs", [[], ["rules.short=domain <> 'code' and words < 250"]])
def test_a_run_goes_on_with_the_version_that_another_made_meanwhile_where_it_is_the_same(
    copied: Path, monkeypatch: pytest.MonkeyPatch, theirs: list[str]
) -> None:
    written(copied, "web-50.jsonl.gz", english(5, 30))
    create, others = Versions.create, list[Run]()

    def late(lineage: Versions, facts: Any) -> None:
        monkeypatch.setattr(Versions, "create", create)
        others.append(go(copied, theirs))
        create(lineage, facts)

    monkeypatch.setattr(Versions, "create", late)
    if theirs:
        with pytest.raises(StoreError, match="another run of small has made version 2 of the corpus meanwhile"):
            go(copied)
        return
    run = go(copied)
    assert [found["run"] for found in versions(copied)][1:] == [others[0].name]
    assert run.record["version"]["version"] == 2


def test_a_damaged_list_of_shards_is_named_and_never_taken_for_a_new_corpus(copied: Path) -> None:
    [path] = (copied.parent / "store" / "versions" / "small" / "shards").iterdir()
    path.write_bytes(path.read_bytes()[:-100])
    assert "versions/small/shards/" in ask("plan", copied, code=1).stderr


# -- comparing ---------------------------------------------------------------------------------------------------------


def test_a_difference_counts_what_came_and_names_hosts_and_drift(copied: Path) -> None:
    written(copied, "web-50.jsonl.gz", english(5, 60))
    go(copied)
    found = told("diff", copied, 1, 2)
    before, after = found["kept"]["language"]["en"]
    kept = "select count(*), sum(strlen(text)), sum(len(tokens)) from corpus where kept and language = 'en'"
    assert after == told("query", copied, kept)["rows"][0]
    assert after[0] > before[0] > 0
    assert found["kept"]["language"]["zh"][0] == found["kept"]["language"]["zh"][1]
    assert found["hosts"]["gained"].keys() == {"new.example.net"}
    assert found["hosts"]["lost"] == {}
    assert found["records"][1] - found["records"][0] == 60
    assert found["drift"]["language"]["index"] > 0
    assert told("diff", copied, 2, 1)["hosts"]["lost"].keys() == {"new.example.net"}
    same = told("diff", copied, 2, 2)
    assert same["drift"]["quality"]["index"] == 0
    assert same["hosts"] == {"gained": {}, "lost": {}}
    shown = ask("diff", copied, 1, 2).stdout
    assert "hosts gained: 1: new.example.net" in shown
    assert max(map(len, shown.splitlines()[:-2])) <= 120
    assert "small has no version 7; there are 1, 2" in ask("diff", copied, 1, 7, code=2).stderr
    store = copied.parent / "store"
    shutil.rmtree(store / Versions(Store(str(store)), "small").read(2)["stages"]["counts"]["folder"])
    assert told("diff", copied, 1, 2)["hosts"] == {"gained": None, "lost": None}  # not 0: nothing tells
    assert "hosts lost: not known, as counts of a version are gone" in ask("diff", copied, 1, 2).stdout


def test_the_funnel_counts_by_source_channel_and_language(computed: Any) -> None:
    spec, _ = computed
    counts = told("funnel", spec)
    for by in ("source", "channel", "language"):
        found = told("funnel", spec, "--by", by)
        sql = f"select coalesce({by}, ''), coalesce(reason, 'kept'), count(*), sum(strlen(text)), sum(len(tokens)) "
        rows = told("query", spec, sql + "from corpus group by 1, 2")["rows"]
        assert found["values"] == _nested(rows)
        assert found["uncounted"] == 0
        assert sum(each["kept"][0] for each in found["values"].values() if "kept" in each) == counts["kept"]
        assert by in ask("funnel", spec, "--by", by).stdout
    assert told("funnel", spec, "--set=rules.short=words < 99", "--by", "source")["uncounted"] > 0


def _nested(rows: list[list[Any]]) -> dict[str, dict[str, list[int]]]:
    found: dict[str, dict[str, list[int]]] = {}
    for value, outcome, *counted in rows:
        found.setdefault(value, {})[outcome] = [each or 0 for each in counted]
    return found


# -- exports of versions -----------------------------------------------------------------------------------------------


def test_a_version_says_how_many_shards_of_the_one_before_it_lacks(copied: Path) -> None:
    code = copied.read_text()
    spec = "\n".join(line for line in code.splitlines() if not line.startswith(("  code: {kind", "  domain: {labels")))
    copied.write_text(spec.replace("domain <> 'code' and ", "").replace("""  code: "domain = 'code'"\n""", ""))
    run = go(copied, ["mixture.phases=[]"], until="token_estimate")
    assert run.version(lambda *_: None).note == "version 2, 0 new shards, without 2 shards of version 1"
    said = ask_summary(run)
    assert "version 2 of the corpus, accepted: without 2 shards of version 1; `sluice versions SPEC`" in said
    assert run.version(lambda *_: None).note == "version 2"
    assert "version 2 of the corpus, accepted: `sluice versions SPEC`" in ask_summary(run)


def test_new_shards_of_too_few_records_to_be_judged_are_said_once(copied: Path) -> None:
    small.web(copied.parent / "web", 7, 20, 5)
    run = go(copied, until="token_estimate")
    unjudged = "not judged by gates.new: web, of which fewer than 1,000 records are new or were there (gates.new.least)"
    assert run.version(lambda *_: None).note == f"version 2, 1 new shard, {unjudged}"
    assert f"version 2 of the corpus, accepted: {unjudged}; `sluice versions SPEC`" in ask_summary(run)
    assert run.version(lambda *_: None).note == "version 2"


def ask_summary(run: Run) -> str:
    """What a run prints at its end."""
    said = io.StringIO()
    with redirect_stdout(said):
        summary.show(run.record | {"status": "completed"}, run.store)
    return said.getvalue()


def test_documents_of_a_folder_that_paths_no_longer_name_do_not_stay_unsaid(copied: Path) -> None:
    (copied.parent / "other").mkdir()
    written(copied, "../other/web-00.jsonl.gz", english(3, 20))
    other = f"sources.web.paths={copied.parent}/other/*.jsonl.gz"
    said = r"2 of 3 files of source web gone: .*; another data set wants a source of another name"
    with pytest.raises(GateError, match=said):
        go(copied, [other])
    note = go(copied, [other, "gates.gone=100%"], until="documents").record["stages"][0]["note"]
    assert "2 of 3 files of source web gone: web-01.jsonl.gz, web-90.jsonl.gz" in note


def test_a_stage_that_is_computed_again_with_other_values_makes_a_version_and_the_old_one_is_not_passed_off_as_it_was(
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = Tokens.__call__

    def half(self: Any, batch: pa.Table) -> pa.Table:
        tokens = computed(self, batch)["tokens"].combine_chunks()
        return pa.table({"tokens": pa.array([row and row[: len(row) // 2] for row in tokens.to_pylist()], tokens.type)})

    with monkeypatch.context() as patched:
        patched.setattr(Tokens, "__call__", half)
        go(copied, start="tokens", replace=True)
    one, two = versions(copied)
    assert two["tokens"] == told("query", copied, "select sum(len(tokens)) from corpus where kept")["rows"][0][0]
    assert two["tokens"] < one["tokens"]
    columns = ("--columns", "tokens")
    assert told("export", copied, tmp_path / "new", *columns)["version"] == 2
    said = ask("export", copied, tmp_path / "old", "--version", 1, *columns, code=1).stderr
    assert "export: tokens: other values took the place of those of this version" in said
    assert told("export", copied, tmp_path / "old", "--version", 1)["documents"] == one["documents"]
    go(copied)
    assert len(versions(copied)) == 2


def test_percentiles_of_an_export_are_those_of_its_version(copied: Path, tmp_path: Path) -> None:
    where = ("--where", "quality > percentile(quality, 50)")
    before = told("export", copied, tmp_path / "before", *where)
    with (tmp_path / "before" / "export.json").open() as file:
        identity = json.load(file)["identity"]
    written(copied, "web-60.jsonl.gz", english(6, 40))
    go(copied, retrain=["percentiles_quality"])
    pins = Run.of(str(copied)).pipeline.pins.history["percentiles_quality"]
    assert pins[0]["sha256"] != pins[-1]["sha256"]
    after = told("export", copied, tmp_path / "after", "--version", 1, *where)
    assert (after["identity"], after["documents"]) == (identity, before["documents"])


def test_an_old_version_is_exported_after_the_corpus_has_changed(copied: Path, tmp_path: Path) -> None:
    told("export", copied, tmp_path / "before")
    written(copied, "web-50.jsonl.gz", english(5, 30))
    go(copied, ["rules.short=domain <> 'code' and words < 250"])
    newest = told("export", copied, tmp_path / "newest")
    assert newest["version"] == 2
    told("export", copied, tmp_path / "old", "--version", 1)
    for path in [path for path in (tmp_path / "before").rglob("*") if path.is_file()]:
        assert (tmp_path / "old" / path.relative_to(tmp_path / "before")).read_bytes() == path.read_bytes()
    assert newest["documents"] == told("funnel", copied, "--set=rules.short=domain <> 'code' and words < 250")["kept"]
    assert "has no version 9" in ask("export", copied, tmp_path / "none", "--version", 9, code=2).stderr


def test_garbage_collection_keeps_the_last_accepted_version(copied: Path, tmp_path: Path) -> None:
    go(copied, ["rules.short=domain <> 'code' and words < 250"])
    removed = told("gc", copied, "--yes")["files"]
    assert not any(path.startswith(("versions/", "counts/")) for path in removed)
    assert told("export", copied, tmp_path / "out")["version"] == 2
    assert told("diff", copied, 1, 2)["records"][0] > 0


# -- files that have left ----------------------------------------------------------------------------------------------


def test_documents_of_files_that_have_left_stay_in_the_corpus(copied: Path) -> None:
    go(copied)
    before, counts = ids(copied), told("funnel", copied)
    left = [copied.parent / "web" / "web-00.jsonl.gz", copied.parent / "code" / "module_03.py"]
    for path in left:
        path.unlink()
    planned = told("plan", copied)
    assert any("1 of 3 files of source web gone: web-00.jsonl.gz" in each for each in planned["stages"][0]["gone"])
    assert planned["certain_stops"] == []
    [stop] = told("plan", copied, "--set", "gates.gone=0%")["certain_stops"]
    assert "more than gates.gone = 0%" in stop
    run = go(copied)
    assert ids(copied) == before
    assert told("funnel", copied) == counts
    assert {stage["state"] for stage in run.record["stages"]} == {"cached"}
    note = run.record["stages"][0]["note"]
    assert "1 of 3 files of source web gone: web-00.jsonl.gz; their documents stay in the corpus" in note
    assert len(versions(copied)) == 1
    note = go(copied).record["stages"][0]["note"]
    assert "gone" not in note
    written(copied, "web-50.jsonl.gz", english(5, 30))
    (copied.parent / "code" / "new.py").write_text(small.code(random.Random(9), 8))
    go(copied)
    assert set(before) < set(ids(copied))
    assert len(ids(copied)) == len(before) + 31


def test_a_changed_extraction_leaves_documents_that_cannot_be_read_again_as_they_are(copied: Path) -> None:
    (copied.parent / "web" / "web-00.jsonl.gz").unlink()
    own = ids(copied, "file = 'web-00.jsonl.gz'")
    settings = [
        f"sources.web={json.dumps({'kind': 'jsonl', 'paths': f'{copied.parent}/web/*.jsonl.gz', 'window': 2**26})}"
    ]
    run = go(copied, settings)
    assert run.record["stages"][0]["jobs"] >= 1
    lineage = Versions(run.store, "small")
    assert ids(copied.parent / "small.yaml") == ids(copied)
    found = told(
        "query", copied, "select id from corpus where file = 'web-00.jsonl.gz' order by 1", "--set", settings[0]
    )
    assert [row[0] for row in found["rows"]] == own
    assert lineage.newest()["version"] == 2


def test_what_settings_no_longer_choose_goes(copied: Path) -> None:
    chosen = "sources.web.match=web-0[1-9]|web-90"
    (copied.parent / "web" / "web-00.jsonl.gz").unlink()
    run = go(copied, [chosen])
    assert "gone" not in run.record["stages"][0]["note"]
    assert told("query", copied, "select count(*) from corpus where file = 'web-00.jsonl.gz'", "--set", chosen)[
        "rows"
    ] == [[0]]
    assert versions(copied)[-1]["version"] == 2


def test_a_changed_file_is_read_anew(copied: Path) -> None:
    written(copied, "web-01.jsonl.gz", english(7, 20))
    go(copied)
    urls = told("query", copied, "select distinct split_part(url, '/', 3) from corpus where file = 'web-01.jsonl.gz'")
    assert urls["rows"] == [["new.example.net"]]
    assert versions(copied)[-1]["new"] == 1


def test_documents_that_are_in_the_store_alone_are_not_forgotten(copied: Path) -> None:
    (copied.parent / "web" / "web-00.jsonl.gz").unlink()
    go(copied)
    assert "are in the store alone" in ask("invalidate", copied, "documents", code=2).stderr


def test_damaged_documents_whose_files_have_left_are_named_and_not_removed(copied: Path) -> None:
    (copied.parent / "web" / "web-00.jsonl.gz").unlink()
    run = go(copied)
    [stored] = [shard.stored for shard in run.pipeline.shards if shard.stored]
    path = copied.parent / "store" / f"{stored}.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    told("invalidate", copied, "language")
    with pytest.raises(DamagedError, match="files that it was read from have left their source: bring it back"):
        go(copied, until="language")
    assert path.exists()


# -- gates -------------------------------------------------------------------------------------------------------------


def test_one_destroyed_file_is_not_hidden_by_good_ones(copied: Path) -> None:
    before = versions(copied)
    written(copied, "web-50.jsonl.gz", ["word " * 12] * 3 + english(1, 8) + [f"{n} % {n}" for n in range(80)])
    with pytest.raises(
        GateError, match=r"version: 2 is refused, the last accepted one is 1: new shards of source web: "
    ):
        go(copied, [BAND])
    [first, second] = versions(copied)
    assert [first] == before
    assert second["state"] == "refused"
    assert any("gates.new.band" in why for why in second["why"])
    assert "version 2 was refused: new shards of source web: share kept 0" in ask("versions", copied).stdout
    with pytest.raises(GateError, match="version: 2 is refused"):
        go(copied, [BAND])
    assert len(versions(copied)) == 2
    assert Versions(Store(str(copied.parent / "store")), "small").accepted["version"] == 1
    go(copied, [BAND, "gates.new.band=100%", "gates.new.drift=99"])
    third = versions(copied)[-1]
    assert (third["version"], third["parent"], third["state"]) == (3, 1, "accepted")


def test_a_training_goes_on_from_an_accepted_version_while_a_refused_one_stands(copied: Path) -> None:
    before = go(copied)
    written(copied, "web-50.jsonl.gz", ["word " * 12] * 3 + english(1, 8) + [f"{n} % {n}" for n in range(80)])
    with pytest.raises(GateError, match="`sluice run SPEC --version 1` trains on that one meanwhile"):
        go(copied, [BAND])
    with pytest.raises(GateError):  # another rule, too, and its outputs, lie over the version
        go(copied, [BAND, "rules.short=words < 60"])
    run = Run.of(str(copied), None, [BAND])
    run.train_on(1)
    assert run.plan(lambda *_: None).state == "cached"
    assert (run.record["plan"], run.training_name) == (before.record["plan"], before.training_name)
    run.save(ended=True)
    assert run.record["funnel"] == before.record["funnel"]
    for folder in run.store.folders("plans"):
        run.store.remove(*run.store.walk(f"plans/{folder}"))
    assert run.plan(lambda *_: None).state == "computed"
    assert run.plan_facts["content"] == before.plan_facts["content"]
    with pytest.raises(SpecError, match=r"--version: 2 was refused \(new shards of source web"):
        run.train_on(2)
    assert "there are 1, 2" in ask("run", copied, "--version", 7, code=2).output
    assert "only --until plan goes with it" in ask("run", copied, "--version", 1, "--from", "signals", code=2).output


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {'  en: "': '  english: "', " en: 0.": " english: 0."},
            "its channel is (en|None).*the spec has code, zh, english",
        ),
        (
            {
                "stages:": "stages:\n  langs: {kind: languages}",
                "until: 100%": 'until: 100%, where: "langs_share > 0.5"',
            },
            "version 1 has no column langs_share, which the mixture asks for",
        ),
        (
            {"epochs: {default: 4}": 'repeat: [{where: "words > percentile(words, 50)", times: 3}]'},
            r"version 1 has no threshold of percentile\(words, 50\), which the mixture asks for",
        ),
        (
            {"until: 100%": 'until: 100%, where: "quality > 0 or words > percentile(words, 50)"'},
            r"version 1 has no threshold of percentile\(words, 50\), which the mixture asks for",
        ),
    ],
)
def test_a_spec_that_does_not_fit_a_version_any_more_says_so(
    copied: Path, changes: dict[str, str], message: str
) -> None:
    go(copied, until="version")
    text = copied.read_text()
    for before, after in changes.items():
        text = text.replace(before, after)
    copied.write_text(text)
    run = Run.of(str(copied))
    run.train_on(1)
    with pytest.raises((MixtureError, StageError), match=message):
        run.plan(lambda *_: None)


def test_few_new_records_are_not_judged(copied: Path) -> None:
    written(copied, "web-50.jsonl.gz", [f"{n} % {n}" for n in range(80)])
    go(copied)
    assert versions(copied)[-1]["state"] == "accepted"


def test_a_crawl_that_comes_again_is_accepted_unless_a_limit_says_otherwise(copied: Path) -> None:
    lines = gzip.decompress((copied.parent / "web" / "web-00.jsonl.gz").read_bytes()).splitlines()
    texts = [json.loads(line)["text"] for line in lines]
    written(copied, "web-50.jsonl.gz", texts)
    go(copied, [BAND])
    assert versions(copied)[-1]["state"] == "accepted"
    written(copied, "web-51.jsonl.gz", texts)
    with pytest.raises(GateError, match=r"duplicates of older documents .*gates\.new\.again"):
        go(copied, [BAND, "gates.new.again=20%"])


def test_a_channel_that_is_missing_stops(copied: Path) -> None:
    written(copied, "web-50.jsonl.gz", english(3, 90))
    with pytest.raises(GateError) as stopped:
        go(copied, [BAND, "gates.new.drift=99"])
    assert "documents of channel zh 0, at least 1 asked for (gates.new.channels)" in str(stopped.value)


def test_a_run_knows_its_version(copied: Path) -> None:
    record = go(copied).record
    assert record["version"] == {
        "version": 1,
        "parent": None,
        "state": "accepted",
        "why": [],
        "new": record["version"]["new"],
    }
    assert Run.of(str(copied), None, (), record["run"]).record["version"] == record["version"]


def test_what_is_asked_of_a_version_is_not_answered_by_values_that_took_the_place_of_its_own(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = Verdict.scatter

    def fewer(self: Any, batch: pa.Table, rows: pa.Table) -> pa.Table:
        found = judged(self, batch, rows)
        kept = pa.array([False] * len(found), pa.bool_())
        return found.set_column(found.column_names.index("kept"), "kept", kept)

    with monkeypatch.context() as patched:
        patched.setattr(Verdict, "scatter", fewer)
        go(copied, start="verdict", replace=True, until="verdict")
    assert "whatif: version 1 has verdict no longer as it was" in ask("whatif", copied, code=1).stderr
    with pytest.raises(SpecError, match="tokenizers: version 1 has verdict no longer as it was"):
        tokenizer_sweep._sample(CorpusRun.of(str(copied)))


def test_variants_of_rules_are_evaluated_on_the_same_texts_and_train_on_none_of_them(copied: Path) -> None:
    """The second variant drops most held-out documents by a rule."""
    store, texts, members = Store(str(copied.parent / "store")), [], []
    for words in (40, 330):
        variant = f"rules.short=domain <> 'code' and words < {words}"
        run = go(copied, [variant])
        folder = run_plan.plan_folder(run.spec, run.plan_key())
        rows = read_rows(store, f"{folder}/held_out.arrow", None)
        texts.append(tokens_of_rows(store, read_plan(store, folder), rows).tolist())
        asked = "select id, kept, evaluated, reason from corpus where held_out order by id"
        held_out = told("query", copied, asked, "--set", variant)["rows"]
        assert [row[1:3] for row in held_out] == [[False, True]] * len(held_out)
        members.append([row[0] for row in held_out])
    assert "short" in {row[3] for row in held_out}
    assert members[0] == members[1]
    assert texts[0] == texts[1] != []
