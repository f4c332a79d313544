"""Whole runs on a small corpus: what is computed, what is cached, what is refused, and that nothing is lost."""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from flows.commands import forecast
from flows.run import Run
from tasks.decision.held_out import HeldOut
from tasks.engine import garbage_collection
from tasks.engine.gates import GateError
from tasks.engine.reading import InputShard, Read
from tasks.engine.runner import ChangedError, DiskFullError, StageError
from tasks.engine.stage import Stage
from tasks.filters.language import Language
from tasks.scoring.domain import DomainEstimator
from tasks.sources.folder import FolderReader
from tasks.storage import locks
from tasks.storage.checksums import sealed_lines, unsealed_lines
from tasks.storage.store import BusyError, Store, StoreError
from tasks.tokenization.tokens import Tokens
from tests import small
from tests.whole import content, direct, go, states
from training.launch import TrainingError

ROOT = Path(__file__).parents[2]
AFTER_VERDICT = {"verdict", "learn_tokenizer", "tokens", "plan"}


def resolved(spec: Path) -> Run:
    """What a question is asked of."""
    run = Run.of(str(spec))
    run.resolve()
    return run


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Any:
    spec = small.corpus(tmp_path_factory.mktemp("first"))
    return spec, go(spec)


def copy(first: Any, tmp_path: Path) -> Path:
    """The corpus and its store again, elsewhere: names and digests of inputs do not depend on where they lie."""
    folder = first[0].parent
    subprocess.run(["cp", "-r", f"{folder}/.", tmp_path], check=True)
    spec = tmp_path / "small.yaml"
    spec.write_text(small.SPEC.format(folder=tmp_path))
    return spec


def test_the_first_run_computes_everything_and_every_record_is_accounted_for(first: Any) -> None:
    _, run = first
    assert set(states(run).values()) == {"computed"}
    counts = run.record["funnel"]
    assert counts["in"] == 3 * 60 + 24
    assert counts["in"] == counts["kept"] + sum(counts["dropped"].values()) + sum(counts["quarantined"].values())
    assert counts["pending"] == 0
    assert counts["dropped"]["short"] > 0
    assert counts["dropped"]["duplicate"] > 0
    assert counts["dropped"]["held_out"] > 0


def test_a_second_run_computes_nothing_and_starts_neither_ray_nor_torch(first: Any) -> None:
    spec, _ = first
    code = (
        "import sys\nfrom pathlib import Path\nfrom tests.whole import go, states\nfrom tasks.engine import fanout\n"
        f"run = go(Path({str(spec)!r}), fan=fanout.run)\n"
        "print(sorted(set(states(run).values())), 'ray' in sys.modules, 'torch' in sys.modules)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "['cached'] False False"


def test_a_changed_threshold_recomputes_the_verdict_and_what_follows_it(first: Any, tmp_path: Path) -> None:
    again = go(copy(first, tmp_path), ["rules.short=domain <> 'code' and words < 250"])
    changed = {name for name, state in states(again).items() if state == "computed"}
    assert changed == AFTER_VERDICT - {"learn_tokenizer"}
    assert again.record["funnel"]["dropped"]["short"] > first[1].record["funnel"]["dropped"]["short"]


def test_a_threshold_that_changes_no_verdict_leaves_what_follows_cached(first: Any, tmp_path: Path) -> None:
    again = go(copy(first, tmp_path), ["rules.short=domain <> 'code' and words < 40.5"])
    assert {name for name, state in states(again).items() if state == "computed"} == {"verdict"}


def test_a_threshold_that_changes_reasons_alone_leaves_tokens_and_plan_cached(first: Any, tmp_path: Path) -> None:
    again = go(copy(first, tmp_path), ["rules.short=domain <> 'code' and words < 150"])
    assert {name for name, state in states(again).items() if state == "computed"} == {"verdict"}
    before, after = (run.record["funnel"] for run in (first[1], again))
    assert after["kept"] == before["kept"]
    assert after["dropped"] != before["dropped"]


def test_a_new_file_costs_itself_and_the_partitions_it_touches(first: Any, tmp_path: Path) -> None:
    spec = copy(first, tmp_path)
    small.web(tmp_path / "web", 3, 60, seed=2)
    again = go(spec)
    jobs = {stage["name"]: stage["jobs"] for stage in again.record["stages"]}
    assert {name: jobs[name] for name in ("documents", "held_out", "language", "signals", "tokens")} == {
        "documents": 1, "held_out": 1, "language": 1, "signals": 1, "tokens": 1,
    }  # fmt: skip
    assert {state for name, state in states(again).items() if name.startswith("learn_")} == {"cached"}
    assert again.record["funnel"]["in"] == 4 * 60 + 24


def test_a_recomputed_stage_with_the_same_values_lets_nothing_below_run(first: Any, tmp_path: Path) -> None:
    spec = copy(first, tmp_path)
    for name in ("language", "verdict", "documents"):
        again = go(spec, start=name)
        others = {state for stage, state in states(again).items() if stage != name}
        assert states(again)[name] == "computed"
        assert others == {"cached"}
    assert not [path for path in Store(str(tmp_path / "store")).walk("again") if ".lock" not in path]


def test_a_recomputed_stage_with_other_values_stops_the_run_unless_told_to_replace(
    first: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = copy(first, tmp_path)
    before = content(go(spec))
    real = Language.__call__

    def undeclared(self: Language, batch: pa.Table) -> pa.Table:
        table = real(self, batch)
        return table.set_column(0, "language", pa.array(["fr"] * table.num_rows))

    monkeypatch.setattr(Language, "__call__", undeclared)
    with pytest.raises(ChangedError, match="language: 4 of 4 shards with other values"):
        go(spec, start="language")
    assert content(go(spec)) == before
    replaced = go(spec, start="language", replace=True, until="verdict")
    assert replaced.record["funnel"]["dropped"]["foreign"] > 0


@pytest.mark.parametrize("source", ["again", "again_and_again", "manifest", "map", "tokens"])
def test_a_source_may_be_called_like_what_the_store_names_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    (tmp_path / "one.txt").write_text(small.english(random.Random(1), 30))
    (tmp_path / "spec.yaml").write_text(
        f"{{name: named, store: {tmp_path}/store, channels: {{all: 'true'}}, "
        f"sources: {{{source}: {{kind: text, paths: '{tmp_path}/*.txt'}}}}}}"
    )
    go(tmp_path / "spec.yaml", until="documents")
    real = FolderReader.read

    def other(self: FolderReader, shard: InputShard) -> Read:
        read = real(self, shard)
        texts = pa.array(["another text"] * len(read.documents))
        return Read(read.documents.set_column(3, "text", texts), read.ledger)

    monkeypatch.setattr(FolderReader, "read", other)
    with pytest.raises(ChangedError, match="1 of 1 shard with other values"):
        go(tmp_path / "spec.yaml", until="documents", start="documents")
    replaced = go(tmp_path / "spec.yaml", until="documents", start="documents", replace=True)
    assert replaced.record["stages"][0]["note"] == "recomputed: 1 shard replaced"
    read = Run.of(str(tmp_path / "spec.yaml"))
    read.resolve()
    assert [place for place, _ in read.pipeline.files(["text"])] == [0]
    assert read.pipeline.state("documents") == "cached"
    again = go(tmp_path / "spec.yaml", until="documents", start="documents")
    assert again.record["stages"][0]["note"] == "recomputed: same values"
    assert not [path for path in Store(str(tmp_path / "store")).walk("again") if ".lock" not in path]


def test_damaged_files_are_counted_and_named_and_the_run_goes_on_within_the_gate(first: Any, tmp_path: Path) -> None:
    spec = copy(first, tmp_path)
    (tmp_path / "web" / "web-97.jsonl.gz").write_bytes(random.Random(1).randbytes(5000))
    whole = (tmp_path / "web" / "web-00.jsonl.gz").read_bytes()
    (tmp_path / "web" / "web-98.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    lines = [json.dumps({"text": small.english(random.Random(9), 30)}), "{broken", json.dumps({"no": "text"}), ""]
    (tmp_path / "web" / "web-99.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    with pytest.raises(GateError, match=r"records of source web cannot be read.*web-97\.jsonl\.gz \(1 unreadable\)"):
        go(spec, until="documents")
    counts = go(spec, ["gates.quarantined=50%"]).record["funnel"]
    assert set(counts["sources"]["web"]["files"]) == {f"web-{number}.jsonl.gz" for number in (97, 98, 99)}
    lost = sum(counts["quarantined"].values())
    assert lost >= 3
    assert counts["in"] == counts["kept"] + sum(counts["dropped"].values()) + lost


@pytest.mark.parametrize(("stage", "fewest"), [(Language, 60), (Tokens, 10)])
def test_a_shard_that_fails_is_quarantined_counted_and_tried_again(
    first: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: type[Stage], fewest: int
) -> None:
    spec = copy(first, tmp_path)
    small.web(tmp_path / "web", 3, 60, seed=2)

    def failing(self: Stage, batch: pa.Table) -> pa.Table:
        raise RuntimeError("the disk of this node is broken")

    with monkeypatch.context() as patched:
        patched.setattr(stage, "__call__", failing)
        with pytest.raises(GateError, match=r"1 of 5 shards quarantined.*RuntimeError: the disk"):
            go(spec)
        run = go(spec, ["gates.quarantined=50%"], until="token_estimate")
        assert states(run)[stage.name] == "partial"
        counts = run.record["funnel"]
        assert list(counts["quarantined"]) == [stage.name]
        assert counts["quarantined"][stage.name] >= fewest
        training = Run.of(str(spec), None, ["gates.quarantined=50%"], run.name)  # as that half of a flow begins
        training.resolve()
        assert training.plan(lambda *_: None).state == "cached"  # the one of the shards that were there
    mended = go(spec, until="token_estimate").record["funnel"]
    assert mended["quarantined"] == {}
    assert mended["kept"] > counts["kept"]


def test_what_the_gate_of_a_stage_skips_is_not_learned_from(first: Any, tmp_path: Path) -> None:
    spec = copy(first, tmp_path)
    run = go(spec, ["stages.quality.where=language = 'en'"], retrain=["quality"], until="learn_quality")
    before, after = (pin["facts"] for pin in run.pipeline.pins.history["quality"])
    assert after["pairs"] == {"en": before["pairs"]["en"]}
    assert after["rows"] < before["rows"]


def test_what_cannot_be_learned_from_any_shard_is_said_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(self: DomainEstimator, batch: pa.Table) -> pa.Table:
        raise RuntimeError("the disk of this node is broken")

    monkeypatch.setattr(DomainEstimator, "sample", failing)
    with pytest.raises(StageError, match=r"learn_domain: nothing was learned\. RuntimeError: the disk"):
        go(small.corpus(tmp_path), until="learn_domain")


def test_nothing_is_pinned_that_shards_are_missing_from_unless_they_are_quarantined_within_the_gate(
    first: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = copy(first, tmp_path)
    before = Run.of(str(spec)).pipeline.pins.get("held_out")
    real, sampled = HeldOut.sample, list[int]()

    def failing(self: HeldOut, batch: pa.Table) -> pa.Table:
        sampled.append(batch.num_rows)
        if len(sampled) == 1:
            raise RuntimeError("this page is cursed")
        return real(self, batch)

    monkeypatch.setattr(HeldOut, "sample", failing)
    changed = "seed=8"
    with pytest.raises(GateError, match=r"learn_held_out: 1 of 4 shards could not be sampled.*: this page is cursed"):
        go(spec, [changed], retrain=["held_out"], until="learn_held_out")
    assert Run.of(str(spec)).pipeline.pins.get("held_out") == before
    del sampled[:]
    within = [changed, "gates.quarantined=25%"]
    run = go(spec, within, retrain=["held_out"], until="learn_held_out")
    pin = Run.of(str(spec)).pipeline.pins.get("held_out")
    assert pin is not None
    assert pin["facts"]["without"] == {"count": 1, "shards": [run.pipeline.shards[0].name]}
    told = f"learned without 1 shard ({run.pipeline.shards[0].name})"
    assert told in run.record["stages"][-1]["note"]
    assert (
        told in {pin["name"]: pin.get("without", "") for pin in forecast.forecast(resolved(spec))["pins"]}["held_out"]
    )
    assert told in go(spec, within, until="learn_held_out").record["stages"][-1]["note"]
    whole = go(spec, within, retrain=["held_out"], until="learn_held_out")
    assert "without" not in whole.record["stages"][-1]["note"]


def test_a_storage_that_fails_stops_the_run_and_leaves_nothing_quarantined_or_pinned(
    first: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = copy(first, tmp_path)

    def failing(self: HeldOut, batch: pa.Table) -> pa.Table:
        raise StoreError("s3://bucket cannot be read")

    with monkeypatch.context() as patched:
        patched.setattr(HeldOut, "sample", failing)
        with pytest.raises(StoreError, match="s3://bucket cannot be read"):
            go(spec, ["seed=8", "gates.quarantined=100%"], retrain=["held_out"], until="learn_held_out")
    assert content(go(spec)) == content(first[1])


def test_duplicates_above_the_limit_stop_the_run(first: Any, tmp_path: Path) -> None:
    with pytest.raises(GateError, match=r"copies of held-out documents take .*% of source web"):
        go(copy(first, tmp_path), ["gates.removed_per_source=1%"])


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (["sources.web.text=body"], "180 no_text"),
        (["sources.code.paths={}/web/*.gz"], "3 not_text"),
    ],
)
def test_a_source_without_one_document_stops_the_run_with_the_reasons(
    first: Any, tmp_path: Path, settings: list[str], reason: str
) -> None:
    settings = [setting.format(tmp_path) for setting in settings]
    source = settings[0].split(".")[1]
    with pytest.raises(GateError, match=rf"^documents: none of the \d+ records of source {source} is .*{reason}"):
        go(copy(first, tmp_path), settings)


def test_a_manifest_of_a_clock_that_was_ahead_is_still_added_to(first: Any, tmp_path: Path) -> None:
    spec = copy(first, tmp_path)
    [folder] = (tmp_path / "store" / "columns").glob("language@*/manifest")
    for number, segment in enumerate(sorted(folder.iterdir())):
        ahead = folder / f"{8 * 10**18 + number:020d}-abcdef.jsonl"
        old, new = (str(path.relative_to(tmp_path / "store")) for path in (segment, ahead))
        ahead.write_bytes(sealed_lines(unsealed_lines(segment.read_bytes(), old)[0].read(), new))
        segment.unlink()
    run = Run.of(str(spec))
    run.resolve()
    garbage_collection.invalidate(run.pipeline, "language")
    again = go(spec)
    assert [name for name, state in states(again).items() if state == "computed"] == ["language"]
    assert content(again) == content(first[1])


def test_what_only_spreads_the_work_or_looks_at_it_leaves_a_training_what_it_is(first: Any) -> None:
    def identity(*settings: str) -> str:
        run = Run.of(str(first[0]), settings=settings)
        run.resolve()
        assert run.planned()
        return run.identity

    same = identity()
    for setting in (
        "training.workers=2",
        "training.zero=3",
        "training.batch.micro=2",
        "training.device=cpu",
        "training.evaluate.every=3",
        "training.checkpoint.keep=9",
        "mixture.shards=rows",
        "cluster.cpus=1",
    ):
        assert identity(setting) == same, setting
    assert identity("training.learning_rate.peak=2e-3") != same


def test_a_training_whose_export_is_gone_is_not_called_done(first: Any, tmp_path: Path) -> None:
    run = Run.of(str(copy(first, tmp_path)))
    run.resolve()
    assert run.planned()
    assert not run.trained()
    folder = f"runs/small-{run.identity[:12]}"
    summary = {"export": f"{folder}/export", "exported": {"model.safetensors": 3}}
    run.store.commit(f"{folder}/summary.json", json.dumps(summary).encode())
    run.store.commit(f"{folder}/checkpoints/00000008.json", b"{}")
    run.store.commit(f"{folder}/export/model.safetensors", b"123")
    assert run.trained()
    summary["checksums"] = run.store.checksums(f"{folder}/export", summary["exported"])
    run.store.commit(f"{folder}/summary.json", json.dumps(summary).encode())
    assert run.trained()
    run.store.commit(f"{folder}/export/model.safetensors", b"321")  # of another training, say
    assert not run.trained()
    run.store.remove(f"{folder}/export/model.safetensors")
    assert not run.trained()  # it is exported again
    run.store.remove(f"{folder}/checkpoints/00000008.json")
    with pytest.raises(TrainingError, match=r"export and checkpoints are gone: bring one back, or remove runs/small-"):
        run.trained()


@pytest.mark.parametrize("pattern", ["columns/language@*/*.parquet", "columns/language@*/manifest/*.jsonl"])
@pytest.mark.parametrize("harm", ["cut", "empty", "gone"])
def test_a_file_that_is_cut_empty_or_gone_is_made_again(first: Any, tmp_path: Path, pattern: str, harm: str) -> None:
    spec = copy(first, tmp_path)
    store = tmp_path / "store"
    [victim, *_] = sorted(store.glob(pattern))
    if harm == "gone":
        victim.unlink()
    else:
        victim.write_bytes(victim.read_bytes()[: 0 if harm == "empty" else 50])
    [verdict] = store.glob("columns/verdict@*")
    shutil.rmtree(verdict)
    run = go(spec)
    assert content(run) == content(first[1])
    if harm == "cut" or victim.suffix == ".parquet":
        notes = [stage["note"] for stage in run.record["stages"]]
        assert any(f"{victim.relative_to(store)} was damaged and is made again" in note for note in notes)


def test_a_full_disk_stops_the_run_before_the_stage(
    first: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = copy(first, tmp_path)
    small.web(tmp_path / "web", 3, 60, seed=2)
    monkeypatch.setattr(Store, "free", lambda self: 10_000)
    with pytest.raises(DiskFullError, match=r"documents: .* has 0 MiB free"):
        go(spec)


def test_no_plan_is_made_of_a_corpus_whose_tokens_another_run_has_made_stale(first: Any, tmp_path: Path) -> None:
    spec = copy(first, tmp_path)
    small.web(tmp_path / "web", 3, 60, seed=2)
    go(spec, retrain=["tokenizer"], until="learn_tokenizer")  # another run of the lineage, which is not through yet
    run = Run.of(str(spec))
    run.resolve()
    with pytest.raises(StageError, match=r"plan: .*tokens.*: not complete for the pins as they stand"):
        run.plan(lambda *_: None)


def test_a_file_that_comes_while_a_run_goes_on_is_left_to_the_next_one(first: Any, tmp_path: Path) -> None:
    spec = copy(first, tmp_path)
    run = go(spec, until="token_estimate")
    small.web(tmp_path / "web", 3, 60, seed=2)
    training = Run.of(str(spec), None, (), run.name)
    training.resolve(anew=False)
    assert training.plan(lambda *_: None).shards == 4
    other = Run.of(str(spec))
    other.resolve()
    with pytest.raises(StageError, match="plan: files of a source came or changed since the corpus was made"):
        other.plan(lambda *_: None)


@pytest.mark.parametrize("same_size_and_second", [False, True])
def test_a_file_that_is_written_to_between_listing_and_reading_is_not_taken_for_what_was_listed(
    tmp_path: Path, same_size_and_second: bool
) -> None:
    spec = small.corpus(tmp_path)
    path, whole = tmp_path / "web/web-01.jsonl.gz", (tmp_path / "web/web-01.jsonl.gz").read_bytes()
    second = 1_700_000_000 * 10**9
    os.utime(path, ns=(second, second))

    def fan(stage: Any, *given: Any) -> int:
        small.web(tmp_path / "web", 1, 5, seed=1)
        if same_size_and_second:
            path.write_bytes(path.read_bytes().ljust(len(whole), b"\0"))  # as a writer that pads its file
            os.utime(path, ns=(second, second + 4 * 10**6))
        return direct(stage, *given)

    settings = ["gates.quarantined=90%"]
    counts = go(spec, settings, fan=fan, until="documents").record["funnel"]
    assert counts["quarantined"] == {"reading": 1}
    path.write_bytes(whole)
    assert go(spec, settings, until="documents").record["funnel"]["in"] == 2 * 60 + 60 + 24


def test_values_are_replaced_only_where_no_other_run_may_have_read_them(first: Any, tmp_path: Path) -> None:
    run = Run.of(str(copy(first, tmp_path)))
    with locks.shared(run.store), pytest.raises(BusyError, match="is working on it; wait"), run.working(alone=True):
        pass
    with (
        locks.alone(run.store, "again/language"),
        pytest.raises(BusyError, match="again/language is being written by proc"),
    ):
        go(tmp_path / "small.yaml", start="language", until="language")


def test_retraining_moves_only_the_pin_that_is_named(first: Any, tmp_path: Path) -> None:
    spec = copy(first, tmp_path)
    small.web(tmp_path / "web", 3, 60, seed=2)
    before = go(spec).pipeline.pins.history
    after = go(spec, retrain=["domain"]).pipeline.pins.history
    assert {name for name in after if len(after[name]) != len(before[name])} == {"domain"}


@pytest.mark.parametrize("until", [None, "quality", "learn_quality"])
def test_retraining_a_scorer_moves_the_thresholds_of_its_scores(first: Any, tmp_path: Path, until: str | None) -> None:
    """In whichever run comes to them: the one that retrains may stop before."""
    spec = copy(first, tmp_path)
    spec.write_text(spec.read_text().replace('reference: "length(text) > 1500"', 'reference: "length(text) < 900"'))
    assert "--retrain quality" in next(s for s in go(spec).record["stages"] if s["name"] == "learn_quality")["note"]
    runs = [go(spec, retrain=["quality"], until=until)]
    if until:
        assert Run.of(str(spec)).pipeline.pins.get("percentiles_quality") is None
        runs.append(go(spec))
    computed = {name for run in runs for name, state in states(run).items() if state == "computed"}
    assert {"learn_quality", "quality", "learn_percentiles_quality"} <= computed
    notes = {stage["name"]: stage["note"] for stage in runs[-1].record["stages"]}
    assert notes["learn_percentiles_quality"].endswith("; learned anew, as quality moved")
    pins = runs[-1].pipeline.pins
    assert {name: len(history) for name, history in pins.history.items() if len(history) > 1} == {
        "quality": 2,
        "percentiles_quality": 2,
    }
    models = pins.history["percentiles_quality"][-1]["ingredients"]["models"]
    assert models == {name: pins.get(name)["sha256"] for name in ("held_out", "quality")}
    assert set(states(go(spec)).values()) == {"cached"}


def test_another_held_out_table_has_everything_learned_anew_that_may_have_seen_its_documents(
    first: Any, tmp_path: Path
) -> None:
    spec = copy(first, tmp_path)
    assert states(go(spec, retrain=["held_out"]))["learn_tokenizer"] == "cached"  # the same documents, the same table
    small.web(tmp_path / "web", 3, 400, seed=2)
    run = go(spec, retrain=["held_out"], until="tokens")
    notes = {stage["name"]: stage["note"] for stage in run.record["stages"]}
    for name in ("domain", "quality", "percentiles_quality", "tokenizer"):
        assert "held_out" in notes[f"learn_{name}"].partition("learned anew, as ")[2]


def test_a_rule_that_asks_of_another_column_learns_that_columns_thresholds_alone(first: Any, tmp_path: Path) -> None:
    spec = copy(first, tmp_path)
    small.web(tmp_path / "web", 3, 60, seed=2)
    again = go(spec, ["rules.short=domain <> 'code' and words < percentile(words, 20)"])
    learned = {name for name, state in states(again).items() if name.startswith("learn_") and state == "computed"}
    assert learned == {"learn_percentiles_words"}
    assert again.record["funnel"]["dropped"]["short"] > first[1].record["funnel"]["dropped"]["short"]


@pytest.mark.parametrize("survived", [0, 1, 3, 4])
def test_a_replacement_that_is_killed_leaves_no_shard_with_values_of_other_code(
    first: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, survived: int
) -> None:
    spec = copy(first, tmp_path)
    before = content(go(spec))
    if (child := os.fork()) == 0:
        real = Language.__call__
        monkeypatch.setattr(
            Language,
            "__call__",
            lambda self, batch: real(self, batch).set_column(0, "language", pa.array(["fr"] * batch.num_rows)),
        )
        commit = Store.commit
        left = [survived]

        def dying(self: Store, path: str, data: bytes, private: bool = False) -> None:
            if "/language@" in path and not path.startswith("again/") and b'"removed"' not in data:
                if not left[0]:
                    os._exit(9)
                left[0] -= 1
            commit(self, path, data, private)

        monkeypatch.setattr(Store, "commit", dying)
        go(spec, start="language", until="language", replace=True)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    after = go(spec, start="language")
    assert states(after)["language"] == "computed"
    assert content(after) == before
    assert not [path for path in Store(str(tmp_path / "store")).walk("again") if ".lock" not in path]


@pytest.mark.parametrize(
    ("workers", "kills"), [(2, 1), *(pytest.param(workers, 3, marks=pytest.mark.chaos) for workers in (1, 2))]
)
def test_a_run_killed_anywhere_and_started_again_gives_the_same_content(
    tmp_path: Path, workers: int, kills: int
) -> None:
    """Each time it is killed later; the last time when hardly anything but the training's end is left to do."""
    rng = random.Random(workers + kills)
    straight = small.corpus(tmp_path / "straight", files=2)
    settings = [f"training.workers={workers}", "training.batch.micro=2", f"cluster.cpus={workers}"]
    command = [sys.executable, "-m", "tests.whole"]
    environment = os.environ | {"RAY_DEDUP_LOGS": "0"}
    ended = subprocess.run([*command, str(straight), *settings], cwd=ROOT, env=environment, capture_output=True)
    assert ended.returncode == 0, ended.stderr.decode()[-3000:]
    whole = len(Store(str(tmp_path / "straight" / "store")).walk())
    killed = small.corpus(tmp_path / "killed", files=2)
    for share in (*(rng.uniform(0.9 * kill / kills, 0.9 * (kill + 1) / kills) for kill in range(kills)), 0.97):
        kill_at([*command, str(killed), *settings], tmp_path / "killed" / "store", int(share * whole))
    again = subprocess.run([*command, str(killed), *settings], cwd=ROOT, env=environment, capture_output=True)
    assert again.returncode == 0, again.stderr.decode()[-3000:]
    expected, found = (json.loads(out.stdout.splitlines()[-1]) for out in (ended, again))
    assert found == expected


def kill_at(command: list[str], store: Path, files: int) -> None:
    """Start a run and kill its driver, without warning, once the store holds so many files."""
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        while child.poll() is None:
            if store.exists() and sum(1 for _ in store.rglob("*")) >= files:
                os.kill(child.pid, signal.SIGKILL)
                break
            time.sleep(0.02)


def test_a_kept_document_that_a_gate_skipped_stops_the_run_unless_allowed(first: Any, tmp_path: Path) -> None:
    spec = copy(first, tmp_path)
    gated = ["stages.quality.where=length(text) < 2000"]
    with pytest.raises(GateError, match=r"kept although stages\.quality\.where skipped them"):
        go(spec, gated)
    run = go(spec, [*gated, "gates.skipped=true"])
    assert run.record["funnel"]["kept"] > 0
