"""What other settings would keep and drop, against runs with these settings; and the duplicates of a corpus."""

from __future__ import annotations

import gzip
import random
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from data_specs.load import load
from flows.commands import whatif
from flows.run import Run
from tasks.engine import fanout
from tasks.engine.gates import GateError
from tasks.engine.runner import Execution
from tasks.planning.mixture import schedule
from tests import small, whole
from tests.commands import ask, files, told
from tests.generations import write


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of two generations, with pairs down to a similarity of .5; of one shard no record is a document."""
    spec = small.corpus(tmp_path_factory.mktemp("whatif"), files=2)
    text = spec.read_text().replace("threshold: 0.8", "threshold: 0.9")
    spec.write_text(text.replace('web/*.jsonl.gz"', 'web/*.jsonl.gz", shard: 1'))
    rows = [{"text": each, "url": f"https://example.org/graded/{n}"} for n, each in graded()]
    write(spec.parent, "web-70", rows[1::3])
    assert whole.go(spec).record["version"]["version"] == 1
    small.web(spec.parent / "web", 2, 60, 1)
    write(spec.parent, "web-80", [*rows[::3], *rows[2::3]])
    write(spec.parent, "web-90", [{"text": "", "url": "https://example.org/empty"}])
    (spec.parent / "web/web-91.jsonl.gz").write_bytes(gzip.compress(b'{"text": damaged\n'))
    assert whole.go(spec).record["version"]["version"] == 2
    return spec


def graded() -> Iterator[tuple[int, str]]:
    """Texts that share ever fewer words with the first, from its end on."""
    rng = random.Random(3)
    first = rng.choices(small.ENGLISH, k=400)
    for number in range(16):
        same = 400 - 13 * number
        yield number, " ".join([*first[:same], *rng.choices(small.ENGLISH, k=400 - same)]).capitalize() + "."


def outcomes(spec: Path, settings: Sequence[str] = ()) -> Counter[str]:
    """Reason, or `kept` -> documents of the store."""
    given = [f"--set={each}" for each in settings]
    return Counter(
        dict(told("query", spec, "select coalesce(reason, 'kept'), count(*) from corpus group by 1", *given)["rows"])
    )


@pytest.mark.parametrize(
    "settings",
    [
        ["rules.short=words < 250"],
        ["rules.low_quality=text_length < percentile(text_length, 30)"],
        ["stages.duplicates.threshold=0.6"],
        ["stages.duplicates.keep=[date, length]", "stages.duplicates.threshold=0.99"],
        ["channels.code=words < 100", "rules.short=words < 30"],
    ],
    ids=str,
)
def test_what_if_keeps_and_drops_what_a_run_with_these_settings_does(
    made: Path, tmp_path: Path, settings: list[str]
) -> None:
    before = {path: size for path, size in files(made).items() if path != ".lock"}
    found = told("whatif", made, *(f"--set={each}" for each in settings))
    assert {path: size for path, size in files(made).items() if path != ".lock"} == before  # nothing is written

    shutil.copytree(made.parent, tmp_path, dirs_exist_ok=True)
    spec = tmp_path / made.name
    spec.write_text(spec.read_text().replace(f"{made.parent}/store", f"{tmp_path}/store"))
    whole.go(spec, settings, until="verdict")
    for place, expected in enumerate((outcomes(made), outcomes(spec, settings))):
        told_of = Counter({name: row[place] for name, row in found["reasons"].items()})
        told_of["kept"] = sum(row[place] for row in found["kept"]["source"].values())
        assert +told_of == expected
        assert all(sum(row[place] for row in rows.values()) == expected["kept"] for rows in found["kept"].values())


def test_without_a_setting_nothing_would_change(made: Path) -> None:
    found = told("whatif", made)
    assert found["computed"] == []
    assert found["changed"] == {"kept": {}, "dropped": {}}
    assert all(row[0] == row[1] and row[2] == row[3] for rows in found["kept"].values() for row in rows.values())


def test_documents_that_change_sides_are_shown_with_their_text_and_reasons(made: Path) -> None:
    found = told("whatif", made, "--set", "rules.short=words > 300", "--examples", 3)
    for side, place in (("kept", 0), ("dropped", 1)):
        assert sum(found["changed"][side].values()) >= len(found["examples"][side]) > 0
        for each in found["examples"][side]:
            assert each["reason"][place]
            assert each["reason"][1 - place] is None
            assert each["text"]
    said = ask("whatif", made, "--set", "rules.short=words > 300", "--examples", 3).output
    assert "documents would be dropped as: short" in said


def test_epochs_follow_the_tokens_that_stay_and_the_budget(made: Path) -> None:
    found = told("whatif", made, "--set", "mixture.tokens=16384", "--set", "rules.short=words < 100")
    for name, (before, after) in found["epochs"].items():
        *_, tokens, others = found["kept"]["channel"][name]
        assert after == pytest.approx(2 * before * tokens / others, rel=0.01)


@pytest.mark.parametrize(
    "settings",
    [
        [],
        ["mixture.phases=[]"],
        ["mixture.phases=[]", "mixture.temperature=3"],
        [
            "mixture.tokens=90000",
            "mixture.phases=[{until: 30%, weights: {zh: 1, en: 3}},"
            " {until: 100%, weights: {zh: 2, en: 2, code: 1}, batch: 4096, sequence: 128}]",
        ],
    ],
    ids=["phases", "sizes", "temperature", "batches of phases"],
)
def test_epochs_are_those_of_the_rows_that_a_plan_gives(made: Path, settings: list[str]) -> None:
    spec = load(str(made), settings)
    sizes = {"zh": 30_000, "en": 50_000, "code": 9_000}
    kept = {name: [9, 9, size // 2, size] for name, size in sizes.items()}
    planned = schedule(spec, sizes)
    for name, size in sizes.items():
        read = sum(phase.rows.get(name, 0) * phase.shape.sequence for phase in planned)
        found = whatif._epochs(spec, kept, name, whatif.AFTER)
        assert (found or 0) * size == pytest.approx(read, abs=128 * len(planned))


@pytest.mark.parametrize(
    "setting", ["repeat=[{where: 'words > 9', times: 2}]", "rehydration=fineweb2", "host_tokens=9K"]
)
def test_epochs_are_not_told_where_documents_stand_more_often_or_less(made: Path, setting: str) -> None:
    spec = load(str(made), ["mixture.phases=[]", f"mixture.{setting}"])
    assert whatif._epochs(spec, {"en": [9, 9, 900, 900]}, "en", whatif.AFTER) is None


def test_what_needs_texts_to_be_read_is_refused_and_so_is_what_the_version_has_not(made: Path) -> None:
    said = ask("whatif", made, "--set", "stages.duplicates.words=3", code=1).output
    assert "candidates would be computed anew from text" in said
    assert "`sluice run SPEC --until candidates` with these settings" in said
    assert "floor" not in said
    for setting in ("threshold=0.4", "floor=0.9"):
        said = ask("whatif", made, "--set", f"stages.duplicates.{setting}", code=1).output
        assert "with a lower `stages.duplicates.floor`" in said
    said = ask("whatif", made, "--set", "sources.more={kind: jsonl, paths: none.jsonl}", code=1).output
    assert "no document of more is in the last version" in said
    for setting in ("columns={note: string}", "refuse={odd: \"url like '%7%'\"}", "refuse_same_payload=true"):
        said = ask("whatif", made, "--set", f"sources.web.{setting}", code=1).output
        assert "documents of web would be read anew" in said
    for setting in (f"paths={made.parent}/web/web-00.jsonl.gz", "count=1", "match=web-0"):
        said = ask("whatif", made, "--set", f"sources.web.{setting}", code=2).output
        assert "it asks nothing of other files than the version has (web)" in said
    said = ask("whatif", made, "--store", made.parent / "none", code=2).output
    assert "has no version" in said


def test_a_gate_that_would_stop_the_run_is_said(made: Path) -> None:
    found = told("whatif", made, "--set", "stages.duplicates.threshold=0.5", "--set", "gates.removed_per_source=0.01")
    assert any("take" in each and "of source web" in each for each in found["stops"])


@pytest.mark.parametrize("setting", ["gates.removed_per_source=0.01", "gates.quarantined=0"])
def test_a_gate_that_would_stop_a_run_in_which_nothing_is_computed_is_said(made: Path, setting: str) -> None:
    with pytest.raises(GateError, match="of source web") as stop:
        whole.go(made, [setting], until="verdict")
    assert told("whatif", made, "--set", setting)["stops"] == [str(stop.value)]
    assert told("whatif", made)["stops"] == []


def test_pairs_near_a_similarity_are_the_nearest_on_each_side_with_the_words_that_differ(made: Path) -> None:
    found = told("duplicates", made, "--near", 0.9, "--pairs", 3)["pairs"]
    similarities = [each["similarity"] for each in found]
    assert similarities == sorted(similarities, reverse=True)
    assert 0 < sum(each >= 0.9 for each in similarities) <= 3
    known = told("query", made, "select unnest(pairs).similarity from corpus where pairs is not null")["rows"]
    above = sorted(each for [each] in known if each >= 0.9)
    assert min(each for each in similarities if each >= 0.9) == pytest.approx(above[0], abs=1e-7)
    for each in found:
        one, other = (told("inspect", made, name)["text"] for name in each["documents"])
        removed = [text for kind, text in each["difference"] if kind == "removed"]
        added = [text for kind, text in each["difference"] if kind == "added"]
        assert removed or added
        assert all(text in one for text in removed)
        assert all(text in other for text in added)
    assert "{+" in ask("duplicates", made, "--near", 0.9).output
    assert "pairs below 0.5 are not known" in ask("duplicates", made, "--near", 0.5).output


def test_pairs_are_shown_once_each_also_those_of_a_document_with_one_of_an_earlier_generation(made: Path) -> None:
    """These stand on the newer document alone."""
    known = "select shard, position, unnest(pairs) as other from corpus where pairs is not null"
    where = "o.shard = k.other.shard and o.position = k.other.position"
    asked = f"select c.id, o.id from ({known}) k join corpus c using (shard, position) join corpus o on {where}"
    rows = told("query", made, asked)["rows"]
    pairs = {frozenset(row) for row in rows}
    assert len(rows) < 2 * len(pairs)  # some stand on one side alone
    found = told("duplicates", made, "--near", 0.5, "--pairs", 1000)["pairs"]
    assert len(found) == len(pairs)
    assert {frozenset(each["documents"]) for each in found} == pairs


def test_the_cluster_of_a_document_shows_who_stays_and_how_alike_the_others_are(made: Path) -> None:
    [largest] = told("duplicates", made, "--largest", 1)["clusters"]
    assert largest["documents"] == len(largest["members"]) >= 2
    last = largest["members"][-1]
    found = told("duplicates", made, last["id"][:20])
    assert found["document"] == last["id"]
    assert [each["id"] for each in found["members"]] == [each["id"] for each in largest["members"]]
    assert sum(each["kept"] for each in found["members"]) == largest["kept"]
    assert found["members"][1]["difference"]
    assert told("duplicates", made, last["url"])["cluster"] == found["cluster"]
    assert last["id"][:12] in ask("duplicates", made, last["id"]).output
    named = "select unnest(alike) as other from corpus where alike is not null"
    never = f"(shard, position) not in (select (other.shard, other.position) from ({named}))"
    alone = told("query", made, f"select id from corpus where cluster is null and {never} limit 1")["rows"][0][0]
    assert "is alone" in ask("duplicates", made, alone, code=2).output
    assert "no document has" in ask("duplicates", made, "https://none.example/", code=2).output


def test_the_cluster_of_a_document_has_the_older_one_that_stays_in_its_place_though_that_was_alone(made: Path) -> None:
    asked = """select n.id, o.id from corpus n join corpus o
        on o.shard = n.duplicate_of.shard and o.position = n.duplicate_of.position where o.cluster is null limit 1"""
    [[newer, older]] = told("query", made, asked)["rows"]
    for name in (newer, older):
        members = told("duplicates", made, name)["members"]
        assert [each["kept"] for each in members] == [True] + [False] * (len(members) - 1)
        assert members[0]["id"] == older
        assert newer in {each["id"] for each in members}


def test_sizes_of_clusters_and_similarities_of_what_was_removed_add_up(made: Path) -> None:
    found = told("duplicates", made)
    asked = "select [shard, position], kept, cluster, copy_of, alike from corpus"
    rows = {tuple(address): row for address, *row in told("query", made, asked)["rows"]}
    members = {address for address, (_, cluster, _, _) in rows.items() if cluster is not None}
    named = [each for address in members for each in (rows[address][2], *(rows[address][3] or ())) if each]
    older = {(each["shard"], each["position"]) for each in named} - members
    assert older  # alone in their generation, and alike to documents of the next
    assert sum(row[2] for row in found["clusters"]) == len(members | older)
    assert sum(row[3] for row in found["clusters"]) == sum(rows[address][0] for address in members | older)
    assert all(size > 1 for size, *_ in found["clusters"])
    [[removed]] = told("query", made, "select count(*) from corpus where reason = 'duplicate'")["rows"]
    assert sum(count for _, count in found["removed"]) == removed
    assert "Clusters of duplicates" in ask("duplicates", made).output


def test_matches_name_each_removed_document_and_the_kept_one_in_its_place(made: Path, tmp_path: Path) -> None:
    asked = """select gone.id, kept.id, gone.duplicate_of.similarity from corpus gone join corpus kept
        on kept.shard = gone.duplicate_of.shard and kept.position = gone.duplicate_of.position
        where gone.reason = 'duplicate' order by 1"""
    expected = told("query", made, asked)["rows"]
    assert told("duplicates", made, "--matches", tmp_path / "matches.parquet")["matches"] == len(expected) > 5
    rows = pq.read_table(tmp_path / "matches.parquet").to_pylist()
    assert [[row["id"], row["kept_id"]] for row in rows] == [each[:2] for each in expected]
    assert [row["similarity"] for row in rows] == pytest.approx([each[2] for each in expected])
    assert all(row["url"] and row["kept_url"] for row in rows)


def test_each_threshold_from_the_floor_on_says_what_it_would_leave(made: Path) -> None:
    found = told("duplicates", made, "--thresholds")
    rows = {row["threshold"]: row for row in found["rows"]}
    assert [*rows] == [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]
    assert rows[0.5]["recall"] == pytest.approx(1 - (1 - 0.5**4) ** 32, abs=1e-4)
    documents = [row["documents"] for row in rows.values()]
    assert documents[0] < documents[-1]
    kept = told("query", made, "select count(*) from corpus where kept")["rows"][0][0]
    assert rows[0.9]["documents"] == kept  # the spec's own
    assert sum(each[0] for each in rows[0.9]["channels"].values()) == kept
    for settings in (["--largest", 2, "--near", 0.8], ["--thresholds", "x"]):
        assert "one of DOCUMENT" in ask("duplicates", made, *settings, code=2).output
    said = ask("duplicates", made, "--thresholds", "--set", "stages.duplicates.floor=0.9", code=2).output
    assert "stages.duplicates.floor" in said


def test_a_budget_chooses_the_strictest_thresholds_that_leave_it(made: Path) -> None:
    rows = {row["threshold"]: row for row in told("duplicates", made, "--thresholds")["rows"]}
    assert rows[0.5]["tokens"] < rows[0.6]["tokens"] < rows[0.95]["tokens"]
    tokens = rows[0.6]["tokens"]
    found = told("plan", made, "--set", f"budget.tokens={tokens}")["budget"]
    assert found["rows"] == [*rows.values()]
    assert (found["threshold"], found["left"], found["enough"]) == (0.6, tokens, True)
    assert found["settings"] == ["stages.duplicates.threshold=0.6"]

    fewer = int(rows[0.5]["tokens"] * 0.8)
    found = told("plan", made, "--set", f"budget={{tokens: {fewer}, rule: low_quality}}")["budget"]
    assert found["threshold"] == 0.5
    kept = told("whatif", made, *(f"--set={each}" for each in found["settings"]))["kept"]["source"]
    assert found["left"] == sum(row[3] for row in kept.values()) >= fewer
    stricter = [
        each.replace(f", {found['percentile']})", f", {found['percentile'] + 5})") for each in found["settings"]
    ]
    assert stricter != found["settings"]
    kept = told("whatif", made, *(f"--set={each}" for each in stricter))["kept"]["source"]
    assert sum(row[3] for row in kept.values()) < fewer

    high = "--set=rules.low_quality=text_length > percentile(text_length, 90)"
    found = told("plan", made, high, "--set", f"budget={{tokens: {fewer}, rule: low_quality}}")["budget"]
    [threshold, rule] = (f"--set={each}" for each in found["settings"])
    kept = told("whatif", made, threshold, rule)["kept"]["source"]
    assert found["left"] == sum(row[3] for row in kept.values()) >= fewer
    stricter = rule.replace(f", {found['percentile']})", f", {found['percentile'] - 5})")
    assert stricter != rule
    kept = told("whatif", made, threshold, stricter)["kept"]["source"]
    assert sum(row[3] for row in kept.values()) < fewer
    found = told("plan", made, high, "--set", "budget={tokens: 3.2B, rule: low_quality}")["budget"]
    assert (found["percentile"], found["enough"]) == (99.9, False)

    few = f"--set=mixture.tokens={fewer * 20}"
    found = told("plan", made, few, "--set", f"budget={{tokens: {fewer}, rule: low_quality}}")["budget"]
    as_set = told("whatif", made, few, *(f"--set={each}" for each in found["settings"]))
    assert {name: each["epochs"] for name, each in found["channels"].items()} == {
        name: epochs for name, (_, epochs) in as_set["epochs"].items()
    }
    assert {name: each["tokens"] for name, each in found["channels"].items()} == {
        name: row[2:] for name, row in as_set["kept"]["channel"].items() if name
    }
    for each in found["channels"].values():
        assert each["short"] == ((each["epochs"] or 99) > each["cap"] == 4)
    said = " ".join(ask("plan", made, few, "--set", f"budget={{tokens: {fewer}, rule: low_quality}}").output.split())
    assert "en starves: " in said
    assert "times, of at most 4" in said
    found = told("plan", made, "--set", "budget.tokens=3.2B")["budget"]
    assert (found["tokens"], found["threshold"], found["enough"]) == (3_200_000_000, 0.95, False)
    said = " ".join(ask("plan", made, "--set", f"budget.tokens={tokens}").output.split())
    assert "--set 'stages.duplicates.threshold=0.6'" in said
    assert "of those right at 0.9 are missed" in said
    said = ask("plan", made, "--set", "budget={tokens: 1, rule: short}", code=2).output
    assert "one percentile" in said
    assert (
        "stages.duplicates.floor"
        in ask("plan", made, "--set", "budget.tokens=1", "--set", "stages.duplicates.floor=0.9", code=2).output
    )


def test_a_budget_that_applies_is_pinned_and_later_runs_keep_what_it_said(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(made.parent, tmp_path, dirs_exist_ok=True)
    spec = tmp_path / made.name
    text = spec.read_text().replace(f"{made.parent}/store", f"{tmp_path}/store")
    rows = {row["threshold"]: row for row in told("duplicates", made, "--thresholds")["rows"]}
    fewer = int(rows[0.5]["tokens"] * 0.9)
    spec.write_text(f"{text}\nbudget: {{tokens: {fewer}, rule: low_quality, apply: true}}\n")
    shown = told("plan", spec)["budget"]
    assert (shown["apply"], shown["pinned"], shown["threshold"]) == (True, None, 0.5)
    assert "the next run that makes a version chooses and pins them" in ask("plan", spec).output

    again = corpus_by_flow(spec, monkeypatch)
    pin = again.pipeline.pins.get("budget")
    assert pin["value"] == shown["settings"]
    assert (pin["left"], pin["version"]) == (shown["left"], 2)
    assert again.spec.duplicates.threshold == 0.5
    assert [rule.drop for rule in again.spec.rules if rule.name == "low_quality"] == [
        f"quality < percentile(quality, {shown['percentile']})"
    ]
    [[tokens]] = told("query", spec, "select sum(token_estimate) from corpus where kept")["rows"]
    assert tokens == shown["left"] >= fewer
    assert [each["version"] for each in told("versions", spec)["versions"]] == [1, 2, 3]
    assert again.record["status"] == "completed"

    assert set(whole.states(whole.go(spec, until="tokens")).values()) == {"cached"}
    assert told("whatif", spec)["changed"] == {"kept": {}, "dropped": {}}
    assert not Run.of(str(spec)).chooses
    given = Run.of(str(spec), None, ["stages.duplicates.threshold=0.9"])
    assert given.spec.duplicates.threshold == 0.9
    anew = Run.of(str(spec), None, (), None, ["budget"])
    assert (anew.chooses, anew.spec.duplicates.threshold) == (True, 0.9)  # as it is written
    assert told("plan", spec)["budget"]["pinned"]["value"] == shown["settings"]
    assert "--retrain budget chooses anew" in ask("plan", spec).output
    as_written = Run.of(str(spec), None, ["budget.apply=false"])
    assert (as_written.chooses, as_written.spec.duplicates.threshold) == (False, 0.9)


def test_what_would_be_kept_of_a_language_is_counted_by_the_languages_of_then(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made.parent, tmp_path, dirs_exist_ok=True)
    spec = tmp_path / made.name
    spec.write_text(spec.read_text().replace(f"{made.parent}/store", f"{tmp_path}/store"))
    given = ["stages.language.where=source = 'web'", "gates.skipped=true"]
    whole.go(spec, given, until="channel")
    found = told("whatif", spec, *(f"--set={each}" for each in given))["kept"]["language"]
    whole.go(spec, given, until="verdict")
    sql = "select coalesce(language, ''), count(*) from corpus where kept group by 1"
    expected = dict(told("query", spec, sql, *(f"--set={each}" for each in given))["rows"])
    assert {name: row[1] for name, row in found.items() if row[1]} == expected
    assert expected[""] > 0
    assert {name: row[0] for name, row in found.items() if row[0]} == dict(told("query", spec, sql)["rows"])


def test_of_a_rule_a_pinned_budget_sets_the_percentile_and_another_budget_is_chosen_anew(
    made: Path, tmp_path: Path
) -> None:
    shutil.copytree(made.parent, tmp_path, dirs_exist_ok=True)
    spec = tmp_path / made.name
    text = spec.read_text().replace(f"{made.parent}/store", f"{tmp_path}/store")
    text += "\nbudget: {tokens: 1000, rule: low_quality, apply: true}\n"
    spec.write_text(text)
    value = ["stages.duplicates.threshold=0.6", "rules.low_quality=quality < percentile(quality, 35)"]
    Run.of(str(spec)).pipeline.pins.set("budget", {"value": value, "tokens": 1000, "left": 1, "version": 2, "run": "x"})

    def now(*given: str) -> tuple[float, str, bool]:
        run = Run.of(str(spec), None, given)
        [drop] = [rule.drop for rule in run.spec.rules if rule.name == "low_quality"]
        return run.spec.duplicates.threshold, drop, run.chooses

    assert now() == (0.6, "quality < percentile(quality, 35)", False)
    assert now("rules.low_quality=quality < percentile(quality, 4)")[1] == "quality < percentile(quality, 4)"
    more = "quality < percentile(quality, 2) or url = 'https://example.org/0/3'"
    spec.write_text(text.replace("quality < percentile(quality, 2)", more))
    assert now() == (0.6, more.replace("2)", "35)"), False)
    other = "words < percentile(words, 1e1)"
    spec.write_text(text.replace("quality < percentile(quality, 2)", other))
    assert now() == (0.9, other, True)
    assert "chooses thresholds anew" in ask("whatif", spec, code=1).output
    spec.write_text(text.replace("tokens: 1000,", "tokens: 2000,"))
    assert now() == (0.9, "quality < percentile(quality, 2)", True)
    assert told("plan", spec)["budget"]["pinned"] is None
    assert now("budget.tokens=1000") == (0.6, "quality < percentile(quality, 35)", False)


def corpus_by_flow(spec: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The data half as the flow runs it, without Prefect and Ray; the run, as the next one finds it."""
    from flows import pretrain

    run = Run.of(str(spec))
    with monkeypatch.context() as patched:
        patched.setattr(fanout, "run", whole.direct)
        patched.setattr(pretrain, "run_stage", lambda _, work, return_state: pretrain._ended(work()))
        patched.setattr(pretrain.prefect_ui, "progress", lambda *_: nullcontext(Progress()))
        patched.setattr(pretrain.prefect_ui, "name_by_version", lambda _: None)
        patched.setattr(pretrain.artifacts, "corpus", lambda _: None)
        patched.setattr(Execution.__init__, "__defaults__", (None, whole.direct))
        pretrain._make_corpus(run)
    return Run.of(str(spec), None, (), run.name)


class Progress:
    """What a flow says its progress to."""

    def begin(self) -> None:
        pass

    def __call__(self, *_: object) -> None:
        pass
