"""`sluice export`: what is kept, in files that others read; complete, resumable, and the same bytes each time."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from ruamel.yaml import YAML

from data_specs.load import SpecError
from flows.commands import export as exports
from flows.run import Run
from tasks.engine import export as engine
from tasks.tokenization.tokens import Tokens
from tests import small, whole
from tests.commands import HOSTILE, ask, told
from tests.generations import write


def kept(spec: Path, columns: str, where: str = "true") -> list[list[Any]]:
    return told("query", spec, f"select {columns} from corpus where kept and {where} order by id")["rows"]


def rows(folder: Path) -> list[dict[str, Any]]:
    """The documents of an export, by id."""
    found: list[dict[str, Any]] = []
    for path in sorted((folder / "data").iterdir()):
        if path.suffix == ".parquet":
            found += pq.read_table(path).to_pylist()
        else:
            with zstandard.open(path, "rt", encoding="utf-8") as lines:
                found += map(json.loads, lines)
    return sorted(found, key=lambda row: row["id"])


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def front(folder: Path) -> dict[str, Any]:
    _, matter, _ = (folder / "README.md").read_text().split("---\n", 2)
    return YAML(typ="safe").load(matter)


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_what_is_exported_is_what_is_kept(computed: Any, tmp_path: Path, form: str) -> None:
    spec, _ = computed
    to = tmp_path / "out"
    found = told("export", spec, to, "--format", form, "--columns", "url,words,quality", "--size", "20KiB")
    expected = kept(spec, "id, text, url, words, quality")
    assert [list(row.values()) for row in rows(to)] == expected
    assert list(rows(to)[0]) == ["id", "text", "url", "words", "quality"]
    assert found["documents"] == len(expected)
    assert found["files"] == len(list((to / "data").iterdir())) > 1
    ended = json.loads((to / "export.json").read_text())
    assert sum(each[0] for each in ended["counts"]["source"].values()) == len(expected)
    assert sum(each[1] for each in ended["counts"]["language"].values()) == sum(
        len(row[1].encode()) for row in expected
    )
    assert not (to / "progress").exists()


def test_a_condition_chooses_among_what_is_kept(computed: Any, tmp_path: Path) -> None:
    spec, _ = computed
    where = "language = 'zh' and quality >= percentile(quality, 2)"
    told("export", spec, tmp_path / "out", "--where", where)
    ids = [row["id"] for row in rows(tmp_path / "out")]
    assert ids == [row[0] for row in kept(spec, "id", "language = 'zh'") if row[0] in ids]
    assert 0 < len(ids) <= len(kept(spec, "id", "language = 'zh'"))
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"those for which `{where}`" in card
    every = told("funnel", spec)["kept"]
    assert f"those of the whole version 1; this export is a part of its {every} kept documents." in card
    told("export", spec, tmp_path / "whole")
    assert "Funnel and duplicates are those" not in (tmp_path / "whole" / "README.md").read_text()


def flip(path: Path) -> None:
    """One bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def test_the_same_documents_give_the_same_bytes_however_often_that_was_stopped(
    computed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, _ = computed
    arguments = ("--size", "10KiB")
    told("export", spec, tmp_path / "once", *arguments)
    written = engine.Export._written

    def stopping(self: Any, waiting: Any) -> Any:
        for number, each in enumerate(written(self, waiting)):
            if number == 2:
                raise KeyboardInterrupt
            yield each

    with monkeypatch.context() as patched:
        patched.setattr(engine.Export, "_written", stopping)
        ask("export", spec, tmp_path / "again", *arguments, code=130)
    assert not (tmp_path / "again" / "export.json").exists()
    before = content(tmp_path / "again")
    assert any(name.startswith("data/") for name in before)
    names = sorted(name for name in before if name.startswith("data/"))
    flip(tmp_path / "again" / names[0])
    for name in names:
        os.utime(tmp_path / "again" / name, (1, 1))
    told("export", spec, tmp_path / "again", *arguments)
    assert content(tmp_path / "again") == content(tmp_path / "once")
    untouched = [name for name in before if (tmp_path / "again" / name).exists()]
    assert any((tmp_path / "again" / name).stat().st_mtime == 1 for name in untouched)
    assert told("export", spec, tmp_path / "again", *arguments)["state"] == "cached"
    for damage in (Path.unlink, flip):
        damage(tmp_path / "again" / "data" / "00000.parquet")
        assert told("export", spec, tmp_path / "again", *arguments)["state"] == "computed"
        assert content(tmp_path / "again") == content(tmp_path / "once")
    (tmp_path / "again" / "README.md").unlink()
    told("export", spec, tmp_path / "again", *arguments)
    assert content(tmp_path / "again") == content(tmp_path / "once")


def test_what_is_something_else_is_never_written_over(computed: Any, tmp_path: Path) -> None:
    spec, _ = computed
    told("export", spec, tmp_path / "out")
    said = ask("export", spec, tmp_path / "out", "--columns", "url", code=2).stderr
    assert "holds another export (export.json); name a new folder, or empty this one" in said
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    assert "is not empty (letter.txt)" in ask("export", spec, tmp_path / "mine", code=2).stderr
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["letter.txt"]


@pytest.mark.parametrize("name", ["README.md", "data/00000.parquet", "data/00007.parquet"])
def test_what_lies_where_an_export_is_to_go_is_neither_overwritten_nor_taken_for_a_part_of_it(
    computed: Any, tmp_path: Path, name: str
) -> None:
    spec, _ = computed
    for begin in (False, True):
        to = tmp_path / f"out-{begin}"
        if begin:
            told("export", spec, to)
        if begin and (to / name).exists():
            continue
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        (to / name).write_text("of somebody")
        named = name if begin else name.partition("/")[0]
        assert f"is not empty ({named})" in ask("export", spec, to, code=2).stderr
        assert (to / name).read_text() == "of somebody"


def test_of_two_exports_that_begin_at_once_in_one_folder_one_at_most_goes_on(
    computed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, _ = computed
    note = engine.Manifest.append

    def beside(self: Any, entries: Any, whole: bool = False) -> None:
        """Another one, which has found the folder empty, too, notes its beginning just before."""
        if self.folder == "progress" and not entries[0]["key"]:
            note(self, [{"key": "", "identity": "another"}])
        note(self, entries, whole)

    with monkeypatch.context() as patched:
        patched.setattr(engine.Manifest, "append", beside)
        assert "has begun meanwhile" in ask("export", spec, tmp_path / "out", "--columns", "url", code=2).stderr
    assert not (tmp_path / "out" / "data").exists()
    [left] = engine.Manifest(engine.Store(str(tmp_path / "out")), "progress").entries()
    assert left["identity"] == "another"


def test_what_a_killed_export_did_not_note_is_no_part_of_another(
    computed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, _ = computed

    def killed(self: Any, waiting: Any) -> Any:
        for name, places in waiting.items():
            self._file(name, places)
            if name > "data/00001":
                raise KeyboardInterrupt
        yield from ()

    with monkeypatch.context() as patched:
        patched.setattr(engine.Export, "_written", killed)
        ask("export", spec, tmp_path / "out", "--size", "10KiB", code=130)
    assert "the beginning of another export" in ask("export", spec, tmp_path / "out", code=2).stderr


def test_a_mistake_is_named_with_the_nearest_right_name(computed: Any, tmp_path: Path) -> None:
    spec, _ = computed
    said = ask("export", spec, tmp_path / "out", "--columns", "url,qualty", code=2).stderr
    assert "--columns: there is no column qualty" in said
    assert "quality" in said
    assert "--where: " in ask("export", spec, tmp_path / "out", "--where", "qualty > 1", code=2).stderr
    assert "--where: " in ask("export", spec, tmp_path / "out", "--where", "words", code=2).stderr
    assert "--size: " in ask("export", spec, tmp_path / "out", "--size", "much", code=2).stderr
    assert not (tmp_path / "out").exists()


def test_a_percentile_that_is_not_pinned_is_no_condition_that_nothing_meets(computed: Any, tmp_path: Path) -> None:
    spec, _ = computed
    said = ask("export", spec, tmp_path / "out", "--where", "words > percentile(words, 50)", code=2).stderr
    assert "--where: percentile(words, 50): its thresholds are not pinned" in said


def test_a_corpus_without_a_verdict_is_not_exported(tmp_path: Path) -> None:
    from tests import small, whole

    spec = small.corpus(tmp_path, files=1, documents=20)
    whole.go(spec, until="language")
    assert "`sluice run` first" in ask("export", spec, tmp_path / "out", code=1).stderr


def test_the_text_is_the_one_that_the_model_is_trained_on(computed: Any, tmp_path: Path) -> None:
    _, run = computed
    corpus = exports.views(run.pipeline)["corpus"]
    from tasks.storage.store import Store

    asked = engine.Question("parquet", ("title",), "url")
    engine.Export(corpus, asked, Store(str(tmp_path))).run()
    assert pq.read_table(tmp_path / "data" / "00000.parquet")["text"][0].as_py().startswith("https://example.org/")


def test_the_card_says_what_is_in_the_files_and_how_it_came_to_be(computed: Any, tmp_path: Path) -> None:
    spec, run = computed
    told("export", spec, tmp_path / "out")
    matter, card = front(tmp_path / "out"), (tmp_path / "out" / "README.md").read_text()
    assert matter["configs"] == [{"config_name": "default", "data_files": "data/*.parquet"}]
    assert sorted(matter["language"]) == ["en", "zh"]
    assert matter["license"] == "unknown"
    assert matter["size_categories"] == ["n<1K"]
    counts = told("funnel", spec)
    for reason, number in counts["dropped"].items():
        assert f"| dropped: {reason} | {number:,} |" in card
    assert "`domain <> 'code' and words < 40`" in card
    assert "| small.yaml:" in card
    assert spec.parent.name not in card
    assert "documents in 1 file," in card
    assert "<0.1 % of those right at 0.8 are missed, fewer above" in card
    assert run.pipeline.pins.get("tokenizer")["sha256"] in card
    assert run.pipeline.node("verdict").stage.fingerprint in card
    assert HOSTILE not in card


def test_a_card_names_what_chooses_among_duplicates_only_where_the_corpus_has_it(tmp_path: Path) -> None:
    from flows.corpus_run import made_with
    from flows.run import Run
    from tests import small

    spec = small.corpus(tmp_path, files=1, documents=20)
    chosen = [made_with(Run.of(str(spec)).pipeline)["duplicates"]["keep"]]
    lines = [line for line in spec.read_text().split("\n") if "quality" not in line]
    spec.write_text("\n".join(lines))
    chosen.append(made_with(Run.of(str(spec)).pipeline)["duplicates"]["keep"])
    assert chosen == [["quality", "length"], ["length"]]


def test_a_card_says_among_which_documents_duplicates_were_looked_for(tmp_path: Path) -> None:
    from flows.commands import data_card
    from flows.corpus_run import made_with
    from flows.run import Run

    spec = small.corpus(tmp_path, files=1, documents=20)
    cards = []
    for setting in ((), ("stages.duplicates.per=[source, language]",)):
        made = made_with(Run.of(str(spec), None, setting).pipeline)
        cards.append("\n".join(data_card._duplicates(made, {"dropped": {"duplicate": 1}})))
    assert ["of the same source, language: copies of others stay" in card for card in cards] == [False, True]
    assert all("found by signatures of their shingles" in card and "1 document went" in card for card in cards)


def test_a_license_that_is_corrected_is_in_the_card_of_versions_and_exports_that_were_made_before(
    computed: Any, tmp_path: Path
) -> None:
    spec, _ = computed
    told("export", spec, tmp_path / "out")
    assert front(tmp_path / "out")["license"] == "unknown"
    before = content(tmp_path / "out")
    given = [f"--set=sources.{name}.license=CC-BY-4.0" for name in ("web", "code")]
    for folder, state in (("out", "cached"), ("later", "computed")):
        assert told("export", spec, tmp_path / folder, *given)["state"] == state
        assert front(tmp_path / folder)["license"] == "cc-by-4.0"
        assert "| web | jsonl | CC-BY-4.0 |" in (tmp_path / folder / "README.md").read_text()
    assert content(tmp_path / "out") == content(tmp_path / "later")
    assert {name for name, data in content(tmp_path / "out").items() if data != before[name]} == {
        "README.md",
        "export.json",
    }
    (tmp_path / "out" / "README.md").write_text("by hand")
    assert told("export", spec, tmp_path / "out", *given)["state"] == "cached"
    assert (tmp_path / "out" / "README.md").read_text() == "by hand"


def test_readers_of_data_sets_read_it_by_its_card(
    computed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    datasets.disable_progress_bars()
    spec, _ = computed
    expected = kept(spec, "id, text")
    for form in ("parquet", "jsonl"):
        told("export", spec, tmp_path / form, "--format", form, "--size", "20KiB")
        found = datasets.load_dataset(str(tmp_path / form), cache_dir=str(tmp_path / "cache"))["train"]
        assert sorted(zip(found["id"], found["text"], strict=True)) == [tuple(row) for row in expected]


def test_datatrove_reads_it(computed: Any, tmp_path: Path) -> None:
    from datatrove.pipeline.readers import JsonlReader, ParquetReader

    spec, _ = computed
    for form, reader in (("parquet", ParquetReader), ("jsonl", JsonlReader)):
        told("export", spec, tmp_path / form, "--format", form)
        pattern = "*.parquet" if form == "parquet" else "*.jsonl.zst"
        found = list(reader(str(tmp_path / form / "data"), glob_pattern=pattern)())
        assert sorted([each.id, each.text] for each in found) == kept(spec, "id, text")
        assert {each.metadata["language"] for each in found} >= {"en", "zh"}


def test_pyarrow_reads_it_as_one_table(computed: Any, tmp_path: Path) -> None:
    spec, _ = computed
    told("export", spec, tmp_path / "out", "--size", "10KiB", "--columns", "tokens,duplicate_of,language_score")
    table = pq.read_table(tmp_path / "out" / "data")
    assert table.num_rows == len(kept(spec, "id"))
    assert table.schema.field("tokens").type.value_type == pa.uint16()


def test_an_export_goes_to_a_url(computed: Any) -> None:
    import fsspec

    spec, _ = computed
    Run.of(str(spec))
    found = told("export", spec, "memory://exported")
    files = fsspec.filesystem("memory")
    assert found["to"] == "memory://exported"
    assert files.exists("/exported/README.md")
    assert len(files.ls("/exported/data")) == found["files"]
    assert told("export", spec, "memory://exported")["state"] == "cached"


INFINITE = """
import pyarrow as pa

from tasks.engine.stage import Stage


class Odds(Stage):
    name, version = "odds", 1
    reads = ("text",)
    writes = pa.schema([("odds", pa.list_(pa.float32()))])

    def __call__(self, batch):
        return pa.table([pa.array([[1.5, float("inf")]] * batch.num_rows)], names=["odds"])
"""


def test_documents_whose_tokens_are_quarantined_are_kept_by_no_export_and_no_whatif(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = small.corpus(tmp_path, files=3, documents=20)
    rng = random.Random(5)
    texts = [f"Planted {small.english(rng, 30)}" for _ in range(4)]
    write(tmp_path, "web-70", [{"text": text, "url": f"https://example.org/{n}"} for n, text in enumerate(texts)])
    written = spec.read_text().replace('jsonl.gz"}', 'jsonl.gz", shard: 1}') + "gates: {quarantined: 60%}\n"
    spec.write_text(written)
    spell = Tokens.__call__

    def fails(self: Tokens, batch: pa.Table) -> pa.Table:
        if any((text or "").startswith("Planted") for text in batch["text"].to_pylist()):
            raise ValueError("planted")
        return spell(self, batch)

    monkeypatch.setattr(Tokens, "__call__", fails)
    whole.go(spec)
    counts, [version] = told("funnel", spec), told("versions", spec)["versions"]
    assert counts["quarantined"]["tokens"] > 0
    found = told("export", spec, tmp_path / "out")
    assert found["documents"] == counts["kept"] == version["documents"]
    assert len(found["left_out"]) == 1
    answer = told("whatif", spec)
    assert sum(row[0] for row in answer["kept"]["source"].values()) == counts["kept"]
    assert answer["reasons"].pop("quarantined")[:2] == [counts["quarantined"]["tokens"]] * 2
    assert {name: row[0] for name, row in answer["reasons"].items()} == counts["dropped"]


def test_what_json_has_no_word_for_is_said_and_not_null(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "infinite_odds.py").write_text(INFINITE)
    monkeypatch.syspath_prepend(tmp_path)
    spec = small.corpus(tmp_path, files=1)
    stage = "stages:\n  odds: {kind: custom, code: 'infinite_odds:Odds'}\n"
    spec.write_text(spec.read_text().replace("stages:\n", stage))
    whole.go(spec, until="verdict")
    asked = ("export", spec, tmp_path / "lines", "--format", "jsonl", "--columns", "odds")
    assert "JSON has no infinity, as is in odds; take --format parquet" in ask(*asked, code=1).output
    assert not list(tmp_path.glob("lines/data/*.zst"))
    ask("export", spec, tmp_path / "tables", "--columns", "odds")
    assert rows(tmp_path / "tables")[0]["odds"] == [1.5, float("inf")]


def test_a_column_of_ones_own_is_not_replaced_by_what_marks_texts_that_were_made() -> None:
    corpus: Any = SimpleNamespace(schema=pa.schema([("url", pa.string()), ("origin", pa.string())]))
    assert exports._columns(corpus, ["url", "origin"], ()) == ("url", "origin")
    with pytest.raises(SpecError, match="--columns: origin: with --augmented a column of this name says"):
        exports._columns(corpus, ["url", "origin"], engine.MARKS)
