"""Exact and near duplicates against brute force, datasketch, and real documents."""

from __future__ import annotations

import csv
import gzip
import itertools
import json
import random
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from datasketch import MinHash, MinHashLSH
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array, triu

from data_specs.dedup import Duplicates
from flows.commands.query import select
from tasks.dedup import minhash
from tasks.dedup.clusters import Clusters
from tasks.dedup.duplicates import CandidateGroups, Exact
from tasks.dedup.pairs import VerifiedPairs, evidence
from tasks.text import units
from tests.corpus_runner import number, run
from tests.whole import go

HAN = ("CJK", "HIRAGANA", "KATAKANA", "COMBINING KATAKANA", "THAI")


def table(texts: list[str]) -> pa.Table:
    return pa.table({"text": pa.array(texts, pa.string())})


def dealt(texts: list[str], seed: int, count: int) -> tuple[list[list[int]], list[pa.Table]]:
    """Documents dealt into shards at random: numbers and tables."""
    chance = random.Random(seed)
    order = chance.sample(range(len(texts)), len(texts))
    hands = [order[start::count] for start in range(count)]
    return hands, [table([texts[each] for each in hand]) for hand in hands]


def found(texts: list[str], settings: Duplicates, seed: int = 0, shards: int = 3) -> list[dict]:
    """Each document's columns, addresses replaced by the documents' numbers."""
    hands, tables = dealt(texts, seed, shards)
    for stage in (*evidence(settings), Clusters(settings)):
        tables = run(stage, tables)
    names = {(number(shard), row): each for shard, hand in enumerate(hands) for row, each in enumerate(hand)}
    rows: dict[int, dict] = {}
    for hand, result in zip(hands, tables, strict=True):
        for each, row in zip(hand, result.drop_columns(["text"]).to_pylist(), strict=True):
            row["copy_of"] = row["copy_of"] and names[row["copy_of"]["shard"], row["copy_of"]["position"]]
            row["alike"] = {names[pair["shard"], pair["position"]]: pair["similarity"] for pair in row["alike"] or ()}
            rows[each] = row
    return [rows[each] for each in range(len(texts))]


def reference_units(text: str) -> list[str]:
    """Units by a loop over characters and their Unicode names."""
    units, open_word = [], False
    for character in text:
        compatible = unicodedata.normalize("NFKC", character)
        folded = next(f for f in (compatible.casefold(), compatible.lower(), compatible, character) if len(f) == 1)
        if unicodedata.category(folded)[0] not in "LMN":
            open_word = False
        elif unicodedata.name(folded, "").startswith(HAN):
            units.append(folded)
            open_word = False
        elif open_word:
            units[-1] += folded
        else:
            units.append(folded)
            open_word = True
    return units


def reference_shingles(text: str, words: int = 5, characters: int = 5) -> set[tuple[str, ...]]:
    units = reference_units(text)
    single = sum(unicodedata.name(unit[0], "").startswith(HAN) for unit in units)
    size = characters if 2 * single > len(units) else words
    return {tuple(units[at : at + size]) for at in range(max(len(units) - size + 1, min(len(units), 1)))}


def jaccard(one: set, other: set) -> float:
    return len(one & other) / len(one | other) if one or other else 0.0


def edited(text: str, share: float, chance: random.Random) -> str:
    """A text with a share of its words, or characters where there are no words, replaced."""
    parts, glue = (text.split(), " ") if text.count(" ") > len(text) / 12 else (list(text), "")
    for at in chance.sample(range(len(parts)), max(1, round(share * len(parts)))):
        parts[at] = chance.choice(parts)
    return glue.join(parts)


def pages(path: Path, count: int, longest: int = 4000) -> list[str]:
    with gzip.open(path, "rt") as lines:
        return [json.loads(line)["text"][:longest] for line in itertools.islice(lines, count)]


TEXTS = st.text(st.sampled_from("abcdé ßｅＥ²½ﬁ\u0301\u00ad.,!\n\t日本語中文かナﾊﾟไทย한국어עִבְ𠀀🙂_-'’０"), max_size=60)


@settings(deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=8))
def test_units_and_shingles_are_those_of_a_loop_over_characters(texts):
    pairs = set()
    [(hashes, offsets, single)] = units.units(texts)
    for text, (start, end), characters in zip(texts, itertools.pairwise(offsets), single, strict=True):
        own = reference_units(text)
        pairs |= set(zip(hashes[start:end].tolist(), own, strict=True))
        assert characters == sum(unicodedata.name(unit[0], "").startswith(HAN) for unit in own)
    assert len(pairs) == len({mark for mark, _ in pairs}) == len({unit for _, unit in pairs})
    [(hashes, offsets)] = minhash.shingles(texts, 3, 4)
    sets = [set(hashes[start:end].tolist()) for start, end in itertools.pairwise(offsets)]
    references = [reference_shingles(text, 3, 4) for text in texts]
    for (mine, reference), (other, other_reference) in itertools.product(zip(sets, references, strict=True), repeat=2):
        assert len(mine) == len(reference)
        assert len(mine & other) == len(reference & other_reference)


@settings(deadline=None)
@given(st.lists(st.tuples(TEXTS, st.booleans()), min_size=1, max_size=8))
def test_where_symbols_count_each_is_a_unit_and_elsewhere_nothing_changes(pairs):
    texts, counts = [text for text, _ in pairs], np.array([counted for _, counted in pairs])
    plain, [found] = next(units.units(texts)), units.units(texts, counts)
    [single] = [unit for unit, _, _ in units.units(["+"], np.ones(1, bool))]
    assert len(single) == 1
    for at, (text, counted) in enumerate(pairs):
        before, after = (each[0][each[1][at] : each[1][at + 1]].tolist() for each in (plain, found))
        signs = sum(unicodedata.category(units.folding(each))[0] in "PS" for each in text) if counted else 0
        assert len(after) == len(before) + signs
        assert [each for each in after if each in before] == before if counted else after == before
    assert (plain[2] == found[2]).all()  # they are no characters of a script without spaces


def code(sign: str, case: str = "total", space: str = " ") -> str:
    lines = [f"def step_{n}(a, b):\n    return a {sign}{space}b * {case}[{n}]" for n in range(12)]
    return "\n\n".join(lines)


def test_code_that_differs_in_its_operators_is_no_copy_where_symbols_count() -> None:
    texts = [code("+"), code("-"), code("+"), code("+", case="Total"), code("+", space="  "), "+ - +", "- + -"]
    settings = {"threshold": 0.99}
    plain = found(texts, Duplicates(**settings))
    assert [row["copy_of"] is None for row in plain].count(True) == 3  # the first of the code, and two without a unit
    rows = found(texts, Duplicates(**settings, symbols="text like '%def %' or length(text) < 9"))
    copies = {each for each, row in enumerate(rows) if row["copy_of"] is not None}
    assert len(copies) == 1
    assert copies < {0, 2}
    one = ({0, 2} - copies).pop()
    assert set(rows[one]["alike"]) == {3, 4}  # but for case and space the same, though no copies
    assert not rows[1]["alike"]
    assert rows[5]["alike"] == rows[6]["alike"] == {}


def test_files_of_code_are_copies_where_they_differ_in_line_ends_alone(tmp_path: Path) -> None:
    text = code("+")
    files = {"one": text, "two": text.replace("\n", "\r\n"), "three": text.replace("\n", "\r"), "minus": code("-")}
    for name, each in files.items():
        (tmp_path / f"{name}.py").write_bytes(each.encode())
    spec = tmp_path / "spec.yaml"
    spec.write_text(CODE.format(folder=tmp_path))
    found = []
    for symbols in ("kind = 'code'", "false"):
        settings = [f'stages.duplicates.symbols="{symbols}"']
        run = go(spec, settings, until="exact")
        run.resolve()
        with select(run.pipeline, "select file from corpus where copy_of is null") as answer:
            found.append({Path(file).stem for [file] in answer.rows})
    assert len(found[0]) == 2
    assert "minus" in found[0]
    assert len(found[1]) == 1


CODE = """
name: code
store: {folder}/store
sources: {{code: {{kind: code, paths: "{folder}/*.py"}}}}
stages: {{duplicates: {{}}}}
channels: {{all: "true"}}
"""


def test_where_symbols_count_in_no_document_all_is_as_without() -> None:
    texts = [" ".join(random.Random(n // 2).choices(["alpha", "beta", "+", "语言。"], k=50)) for n in range(20)]
    assert found(texts, Duplicates(symbols="false")) == found(texts, Duplicates())
    assert Exact(Duplicates()).fingerprint != Exact(Duplicates(symbols="false")).fingerprint
    assert Clusters(Duplicates()).fingerprint == Clusters(Duplicates(symbols="false")).fingerprint


def test_our_candidates_are_as_good_as_datasketchs(shared):
    """Same documents and shingles, same bands: the pairs that both find, and the errors each makes alone."""
    chance = random.Random(3)
    originals = pages(shared / "labels" / "weborganizer_dclm_pages.jsonl.gz", 150, 2000)
    texts = originals + [edited(text, chance.choice([0.005, 0.01, 0.02, 0.05]), chance) for text in originals]
    sets = [reference_shingles(text) for text in texts]
    settings = Duplicates(threshold=0.8, floor=0.8)
    bands, rows = minhash.bands_and_rows(0.8, 128)
    lsh = MinHashLSH(params=(bands, rows), num_perm=128)
    sketches = []
    for index, shingles in enumerate(sets):
        sketch = MinHash(128)
        sketch.update_batch([" ".join(shingle).encode() for shingle in shingles])
        lsh.insert(index, sketch)
        sketches.append(sketch)
    theirs = {(index, other) for index, sketch in enumerate(sketches) for other in lsh.query(sketch) if index < other}

    hands, tables = dealt(texts, 0, 2)
    buckets: dict[int, set[int]] = {}
    for hand, result in zip(hands, run(CandidateGroups(settings), run(Exact(settings), tables)), strict=True):
        for each, leaders in zip(hand, result["candidates"].to_pylist(), strict=True):
            for leader in leaders or ():
                buckets.setdefault(leader, set()).add(each)
    ours = {pair for bucket in buckets.values() for pair in itertools.combinations(sorted(bucket), 2)}
    true = {pair for pair in ours | theirs if jaccard(sets[pair[0]], sets[pair[1]]) >= 0.8}
    pairs = [(index, index + len(originals)) for index in range(len(originals))]
    expected = sum(1 - (1 - jaccard(sets[a], sets[b]) ** rows) ** bands for a, b in pairs)
    assert abs(len(ours.intersection(pairs)) - expected) < 3 * np.sqrt(len(pairs) / 4)
    assert len(true & ours) >= len(true & theirs) - 3 * np.sqrt(len(true))
    assert len(ours - true) <= len(theirs - true) + 3 * np.sqrt(len(true))


@pytest.mark.slow
@pytest.mark.parametrize("file", ["labels/weborganizer_dclm_pages.jsonl.gz", "text/zh_tech_news_lctt.jsonl.gz"])
def test_alike_pairs_are_true_and_nearly_all_that_brute_force_finds(shared, file):
    chance = random.Random(4)
    originals = pages(shared / file, 120, 1500)
    texts = originals + [edited(text, chance.choice([0.002, 0.005, 0.01]), chance) for text in originals]
    sets = [reference_shingles(text) for text in texts]
    true = {
        (a, b): similarity
        for a, b in itertools.combinations(range(len(texts)), 2)
        if (similarity := jaccard(sets[a], sets[b])) >= 0.8
    }
    rows = found(texts, Duplicates(floor=0.8))
    mine = {}
    for index, row in enumerate(rows):
        assert [*row["alike"].values()] == sorted(row["alike"].values(), reverse=True)
        for other, similarity in row["alike"].items():
            assert rows[other]["alike"][index] == similarity
            mine[min(index, other), max(index, other)] = similarity
    copies = {index for index, row in enumerate(rows) if row["copy_of"] is not None}
    for index in copies:
        assert sets[index] == sets[rows[index]["copy_of"]]
    assert mine == {pair: np.float32(true[pair]) for pair in mine}
    wanted = {pair for pair in true if not copies.intersection(pair)}
    recall = len(mine) / len(wanted)
    theory = np.mean([minhash.found_share(true[pair], *minhash.bands_and_rows(0.8, 128)) for pair in wanted])
    assert len(wanted) > 60
    assert recall > theory - 3 * np.sqrt(theory * (1 - theory) / len(wanted))


def test_shared_pairs_are_found(shared):
    """Real near duplicates by their published Jaccard similarity, copied pages among them."""
    with (shared / "near_duplicates" / "weborganizer_natural_pairs.tsv").open() as lines:
        known = [(float(similarity), *urls) for similarity, *urls in list(csv.reader(lines, delimiter="\t"))[1:]]
    wanted = {url for _, *urls in known for url in urls}
    with gzip.open(shared / "labels" / "weborganizer_dclm_pages.jsonl.gz", "rt") as lines:
        documents = [json.loads(line) for line in itertools.islice(lines, 6000)]
    chosen = {doc["url"]: doc["text"][:6000] for doc in documents if doc["url"] in wanted}
    urls = sorted(chosen)
    rows = found([chosen[url] for url in urls], Duplicates(threshold=0.5))
    cluster = {url: row["cluster"] for url, row in zip(urls, rows, strict=True)}
    high = [(a, b) for similarity, a, b in known if similarity >= 0.85]
    assert len(high) >= 8
    for a, b in high:
        assert cluster[a] is not None
        assert cluster[a] == cluster[b]


@pytest.mark.slow
def test_natural_near_duplicates_among_chinese_laws_are_found_as_the_curve_says(shared):
    """Every pair among the beginnings of 3,476 laws, by counting common shingles."""
    texts = pages(shared / "text" / "zh_law.jsonl.gz", 4000, 1500)
    sets = [
        np.unique(hashes[start:end])
        for hashes, offsets in minhash.shingles(texts, 5, 5)
        for start, end in itertools.pairwise(offsets)
    ]
    sizes = np.array([len(each) for each in sets])
    _, shingle = np.unique(np.concatenate(sets), return_inverse=True)
    matrix = csr_array((np.ones(len(shingle), np.float32), (np.repeat(np.arange(len(sets)), sizes), shingle)))
    common = triu(matrix @ matrix.T, k=1).tocoo()
    similarity = common.data / (sizes[common.row] + sizes[common.col] - common.data)
    true = {
        (one, other): value
        for one, other, value in zip(common.row.tolist(), common.col.tolist(), similarity.tolist(), strict=True)
        if value >= 0.5
    }
    assert len(true) > 100
    rows = found(texts, Duplicates(threshold=0.5))
    copies = {index for index, row in enumerate(rows) if row["copy_of"] is not None}
    wanted = {pair: value for pair, value in true.items() if not copies.intersection(pair)}
    mine = {(index, other) for index, row in enumerate(rows) for other in row["alike"] if index < other}
    assert mine <= wanted.keys()
    theory = sum(minhash.found_share(value, *minhash.bands_and_rows(0.5, 128)) for value in wanted.values())
    assert len(mine) > theory - 3 * np.sqrt(len(wanted) - theory)
    assert all(rows[one]["cluster"] == rows[other]["cluster"] for one, other in mine)


def test_copies_differ_in_case_spacing_and_punctuation_only():
    texts = [
        "One, two: THREE!",
        "one two three",
        "one\ntwo -- three",
        "one two three four",
        "中 文",
        "中文。",
        "…",
        "!!",
    ]
    rows = found(texts, Duplicates(), shards=2)
    groups = {}
    for index, row in enumerate(rows):
        groups.setdefault(row["cluster"], set()).add(index)
    assert groups == {rows[0]["cluster"]: {0, 1, 2}, rows[4]["cluster"]: {4, 5}, None: {3, 6, 7}}
    assert [row["text_length"] for row in rows] == [len(text) for text in texts]
    assert sum(row["copy_of"] is None for row in rows[:3]) == 1
    assert all(row["candidates"] is None for row in rows)


def test_copies_agree_in_all_128_bits():
    rows = pa.table(
        {
            "low": pa.array([5, 5, 5, 6], pa.uint64()),
            "high": pa.array([1, 2, 1, 1], pa.uint64()),
            "shard": pa.array([number(0), number(1), number(2), number(3)], pa.uint64()),
            "position": pa.array([0, 0, 0, 0], pa.uint32()),
        }
    )
    [copy] = Exact(Duplicates()).reduce(rows).to_pylist()
    assert {copy["shard"], copy["copy_of"]["shard"]} == {number(0), number(2)}
    assert copy["copy_of"]["shard"] < copy["shard"]


def test_many_copies_make_no_pairs():
    rows = found(["the same words on every page of this site"] * 2000 + ["another page"], Duplicates())
    assert sum(row["copy_of"] is None for row in rows) == 2
    assert all(row["candidates"] is None and not row["alike"] for row in rows)
    assert len({row["cluster"] for row in rows[:2000]}) == 1
    assert rows[2000]["cluster"] is None


def test_a_popular_text_is_compared_with_hubs_only(monkeypatch):
    monkeypatch.setattr("tasks.dedup.comparison.HUBS", 4)
    chance = random.Random(5)
    common = [f"word{number}" for number in range(400)]
    texts = [" ".join([*common, *(str(chance.random()) for _ in range(2))]) for _ in range(60)]
    rows = found(texts, Duplicates())
    hubs = {index for index, row in enumerate(rows) if row["hub"]}
    assert 4 <= len(hubs) < 30
    assert len({row["cluster"] for row in rows}) == 1
    for index, row in enumerate(rows):
        assert hubs & row["alike"].keys() - {index}
        assert row["alike"].keys() <= hubs or index in hubs


def test_gates_leave_documents_out():
    stage = Exact(Duplicates(where="language = 'en'"))
    assert stage.where == "language = 'en'"
    assert CandidateGroups(Duplicates(where="language = 'en'")).where == "language = 'en'"
    assert VerifiedPairs(Duplicates(where="language = 'en'")).where is None


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 5), st.integers(1, 40), st.integers(0, 3))
def test_shards_and_partitions_change_nothing(seed, shards, partitions, family):
    chance = random.Random(family)
    base = [" ".join(chance.choices(list("abcdefghijklmnop"), k=40)) for _ in range(6)]
    texts = [
        *base,
        *base[:2],
        *(edited(text, 0.02, chance) for text in base),
        *(edited(base[0], 0.05, chance) for _ in "1234"),
    ]
    straight = found(texts, Duplicates(threshold=0.6), shards=1)
    other = found(texts, Duplicates(threshold=0.6, partitions=partitions), seed, shards)

    def canonical(rows):
        """Copies stand for one another: what is alike, and what is in one cluster, up to copies."""
        text = [min([i for i, t in enumerate(texts) if t == texts[index]]) for index in range(len(texts))]
        alike = {(text[a], text[b], s) for a, row in enumerate(rows) for b, s in row["alike"].items()}
        clusters: dict = {}
        for index, row in enumerate(rows):
            clusters.setdefault(row["cluster"] or -index, set()).add(index)
        return (
            alike,
            {frozenset(members) for members in clusters.values()},
            {row["candidates"] and tuple(row["candidates"]) for row in rows},
        )

    assert canonical(straight) == canonical(other)


def test_documents_that_differ_in_a_column_of_per_are_apart_and_each_part_is_as_alone() -> None:
    chance = random.Random(8)
    base = [" ".join(chance.choices(list("abcdefghijklmnop"), k=40)) for _ in range(8)]
    texts = [*base, *base, *(edited(text, 0.02, chance) for text in base), *base[:3]]
    sources = [chance.choice(["web", "books", None]) for _ in texts]
    settings = Duplicates(threshold=0.6, per=("source",))
    tables = [pa.table({"text": texts[n::3], "source": pa.array(sources[n::3], pa.string())}) for n in range(3)]
    for stage in (*evidence(settings), Clusters(settings)):
        tables = run(stage, tables)
    rows = [tables[index % 3].slice(index // 3, 1).to_pylist()[0] for index in range(len(texts))]
    place = {(number(index % 3), index // 3): index for index in range(len(texts))}
    whole = found(texts, Duplicates(threshold=0.6))
    together: dict[int, set[int]] = {}
    for index, row in enumerate(rows):
        alike = {place[other["shard"], other["position"]] for other in row["alike"] or ()}
        assert all(sources[other] == sources[index] for other in alike)
        if row["cluster"]:
            together.setdefault(row["cluster"], set()).add(index)
    assert {frozenset(each) for each in together.values()} == {
        frozenset(here[index] for index in each)
        for value in ("web", "books", None)
        for here in [[index for index, source in enumerate(sources) if source == value]]
        for each in clusters_of(found([texts[index] for index in here], Duplicates(threshold=0.6)))
    }
    assert sum(map(len, together.values())) < sum(row["cluster"] is not None for row in whole)


def clusters_of(rows: list[dict]) -> list[set[int]]:
    members: dict[int, set[int]] = {}
    for index, row in enumerate(rows):
        if row["cluster"]:
            members.setdefault(row["cluster"], set()).add(index)
    return [*members.values()]


def fingerprints(**changed: Any) -> dict[str, str]:
    settings = Duplicates(**changed)
    return {stage.name: stage.fingerprint for stage in (*evidence(settings), Clusters(settings))}


def test_only_settings_that_matter_make_a_stage_stale() -> None:
    def stale(**changed: Any) -> set[str]:
        return {name for name, found in fingerprints(**changed).items() if found != fingerprints()[name]}

    assert stale(partitions=3, keep=("date",)) == set()
    assert stale(threshold=0.7) == stale(threshold=0.5) == {"alike"}  # which reads no text
    assert stale(threshold=0.4) == {"candidates", "pairs", "alike"}
    assert stale(floor=0.6) == {"candidates", "pairs"}
    assert stale(hashes=64) == {"candidates"}
    assert stale(words=4) == {"candidates", "pairs"}
    assert stale(where="language = 'en'") == {"exact", "candidates"}
    assert stale(per=("source",)) == {"exact", "candidates"}


@pytest.mark.parametrize(
    ("threshold", "floor", "known_from", "kept"),
    [
        (0.8, 0.5, 0.5, True),
        (0.5, 0.5, 0.5, True),
        (0.4, 0.5, 0.4, True),
        (0.8, 0.6, 0.6, True),
        (0.8, 0.8, 0.8, False),
        (0.8, 0.9, 0.8, False),
    ],
)
def test_pairs_are_kept_from_the_floor_on_but_where_a_spec_says_no_lower_one_than_its_threshold(
    threshold: float, floor: float, known_from: float, kept: bool
) -> None:
    settings = Duplicates(threshold=threshold, floor=floor)
    assert settings.compared_from == known_from
    assert ("pairs" in fingerprints(threshold=threshold, floor=floor)) is kept


def test_the_alike_pairs_are_those_of_a_floor_at_the_threshold_and_no_more_are_missed() -> None:
    chance = random.Random(6)
    base = [" ".join(chance.choices([f"word{n}" for n in range(300)], k=120)) for _ in range(20)]
    texts = [each for text in base for each in (text, *(edited(text, share, chance) for share in (0.005, 0.02, 0.05)))]
    kept, alone = (found(texts, Duplicates(threshold=0.8, floor=floor)) for floor in (0.5, 0.8))
    sets = [reference_shingles(text) for text in texts]
    for rows in (kept, alone):
        assert all(
            similarity == np.float32(jaccard(sets[one], sets[other])) >= np.float32(0.8)
            for one, row in enumerate(rows)
            for other, similarity in row["alike"].items()
        )
    pairs = [{(one, other) for one, row in enumerate(rows) for other in row["alike"]} for rows in (kept, alone)]
    assert pairs[1] <= pairs[0]
    assert len(pairs[1]) > 20
    own = [one for one, row in enumerate(kept) if row["copy_of"] is None]
    assert pairs[0] == {
        pair for pair in itertools.permutations(own, 2) if jaccard(*(sets[each] for each in pair)) >= 0.8
    }
