"""The verdict: rules and reasons, and the election against a brute-force one."""

from __future__ import annotations

import random
from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_specs.dedup import Duplicates
from data_specs.spec import Rule
from tasks.arrays.addresses import ADDRESS, SIMILAR_ADDRESS
from tasks.decision.verdict import Verdict
from tasks.dedup.clusters import Clusters
from tasks.dedup.pairs import evidence
from tasks.engine.ledger import removed_share
from tests.corpus_runner import number, run
from tests.golden import check_golden

RULES = (Rule(name="short", drop="words < 10"), Rule(name="foreign", drop="language <> 'en'", where="kind <> 'code'"))
COLUMNS = pa.schema(
    [
        ("id", pa.binary(16)),
        ("source", pa.string()),
        ("url", pa.string()),
        ("date", pa.string()),
        ("words", pa.int32()),
        ("language", pa.string()),
        ("kind", pa.string()),
        ("quality", pa.float32()),
        ("text_length", pa.uint32()),
        ("copy_of", ADDRESS),
        ("alike", pa.list_(SIMILAR_ADDRESS)),
        ("hub", pa.bool_()),
        ("cluster", pa.uint64()),
        ("held_out", pa.bool_()),
        ("held_out_by_payload", pa.bool_()),
        ("channel", pa.string()),
    ]
)
GOOD = {
    "source": "web",
    "url": "https://example.org/a",
    "date": None,
    "words": 50,
    "language": "en",
    "kind": "html",
    "quality": 0.5,
    "text_length": 100,
    "copy_of": None,
    "alike": None,
    "hub": False,
    "cluster": None,
    "held_out": False,
    "held_out_by_payload": False,
    "channel": "en",
}


def judged(
    documents: list[dict], keep=("quality", "length"), partitions: int = 3, shards: int = 2, **options
) -> list[dict]:
    """Verdicts of documents given as changes to GOOD. A document is placed in shard `index % shards`; `copy_of` and the
    keys of `alike` are indices, and so is `duplicate_of` in what is returned, beside `similarity`."""
    place = [{"shard": number(index % shards), "position": index // shards} for index in range(len(documents))]
    rows = [GOOD | {"id": index.to_bytes(16, "big")} | document for index, document in enumerate(documents)]
    for row in rows:
        row["copy_of"] = None if row["copy_of"] is None else place[row["copy_of"]]
        row["alike"] = [place[other] | {"similarity": s} for other, s in (row["alike"] or {}).items()] or None
    tables = [pa.Table.from_pylist(rows[shard::shards], schema=COLUMNS) for shard in range(shards)]
    results = run(Verdict(RULES, keep, partitions, sources=("wiki", "web"), **options), tables)
    verdicts = [results[index % shards].slice(index // shards, 1).to_pylist()[0] for index in range(len(documents))]
    for verdict in verdicts:
        if kept := verdict["duplicate_of"]:
            verdict["similarity"] = kept.pop("similarity")
            verdict["duplicate_of"] = place.index(kept)
    return verdicts


def pair(similarity: float = 0.9, **other) -> list[dict]:
    """Two documents alike, the second changed."""
    return [{"cluster": 1, "alike": {1: similarity}}, {"cluster": 1, "alike": {0: similarity}, **other}]


def reasons(documents: list[dict], **options) -> list[str | None]:
    return [verdict["reason"] for verdict in judged(documents, **options)]


@pytest.mark.parametrize(
    ("document", "reason", "fails"),
    [
        ({}, None, []),
        ({"words": 9}, "short", ["short"]),
        ({"words": None}, None, []),
        ({"language": "de"}, "foreign", ["foreign"]),
        ({"language": "de", "kind": "code"}, None, []),
        ({"language": "de", "kind": None}, None, []),
        ({"words": 1, "language": "de", "channel": None, "held_out": True}, "short", ["short", "foreign"]),
        ({"channel": None, "held_out": True}, "no_channel", []),
        ({"held_out": True}, "held_out", []),
        ({"held_out": True, "words": 9}, "short", ["short"]),
        ({"held_out": None}, None, []),
    ],
)
def test_the_reason_is_the_first_that_holds(document, reason, fails):
    [verdict] = judged([document])
    assert verdict["reason"] == reason
    assert verdict["kept"] is (reason is None)
    assert verdict["evaluated"] is bool(document.get("held_out") and document.get("channel", "en"))
    assert verdict["duplicate_of"] is None
    assert {name for name in ("short", "foreign") if verdict[f"fails_{name}"]} == set(fails)


def test_of_what_is_held_out_by_its_payload_alone_what_is_no_copy_is_evaluated_on():
    moved = {"cluster": 1, "held_out": True, "held_out_by_payload": True}
    found = judged([moved, moved | {"copy_of": 0}, {"cluster": 1, "alike": {0: 0.9}}], by_payload=True)
    assert [verdict["reason"] for verdict in found] == ["held_out", "held_out_copy", "held_out_copy"]
    assert [verdict["evaluated"] for verdict in found] == [True, False, False]


@pytest.mark.parametrize("shards", [1, 2, 3])
def test_of_held_out_copies_of_each_other_one_is_evaluated_on(shards):
    held, moved = {"cluster": 1, "held_out": True}, {"cluster": 1, "held_out": True, "held_out_by_payload": True}
    other = {"cluster": 1}
    for documents, evaluated in (
        ([moved, held | {"copy_of": 0}], {0}),  # a copy stands before the one that was held out
        ([held, held | {"copy_of": 0}, held | {"alike": {0: 0.9}}], {0, 2}),  # near copies are not copies
        ([other, moved | {"copy_of": 0}, held | {"copy_of": 0}], {2}),  # the first is not held out: of other bytes
        ([held, held | {"cluster": 2}, held | {"cluster": None}], {0, 1, 2}),
    ):
        found = judged(documents, by_payload=True, shards=shards)
        assert {number for number, verdict in enumerate(found) if verdict["evaluated"]} == evaluated
        assert {verdict["reason"] for verdict in found} <= {"held_out", "held_out_copy"}
    two = judged([other, *[held | {"copy_of": 0}] * 2], by_payload=True, shards=shards)
    assert sum(verdict["evaluated"] for verdict in two) == 1


def test_of_tables_of_earlier_versions_all_held_out_copies_are_evaluated_on_as_they_were():
    found = judged([{"cluster": 1, "held_out": True}, {"cluster": 1, "held_out": True, "copy_of": 0}])
    assert [verdict["evaluated"] for verdict in found] == [True, True]


@pytest.mark.parametrize(
    ("keep", "other", "winner"),
    [
        (("quality", "length"), {"quality": 0.6}, 1),
        (("quality", "length"), {"quality": 0.4}, 0),
        (("quality", "length"), {"quality": None, "text_length": 999}, 0),
        (("quality", "length"), {"text_length": 101}, 1),
        (("length", "quality"), {"text_length": 99, "quality": 0.9}, 0),
        (("date",), {"date": "2020-01-01"}, 1),
        (("date", "length"), {"text_length": 101}, 1),
        ((), {"quality": 0.9}, 0),
        (("source",), {"source": "wiki", "quality": 0.1}, 1),
        (("source",), {"source": "books", "quality": 0.9}, 0),
        (("source", "length"), {"text_length": 101}, 1),
        (("url",), {"url": "https://example.org/"}, 1),
        (("url",), {"url": "https://example.org/b/c"}, 0),
        (("url",), {"url": "https://e.org/?p"}, 0),
        (("url",), {"url": None}, 0),
        (("url",), {"url": ""}, 0),
        ((), {"id": b"\0" * 15 + b"\0"}, 0),
    ],
)
def test_the_preferred_member_stays(keep, other, winner):
    verdicts = judged(pair(**other), keep=keep)
    assert [verdict["kept"] for verdict in verdicts] == [winner == 0, winner == 1]
    assert verdicts[1 - winner]["reason"] == "duplicate"
    assert verdicts[1 - winner]["duplicate_of"] == winner
    assert verdicts[1 - winner]["similarity"] == pytest.approx(0.9)


def test_what_fails_a_rule_neither_stays_nor_removes_others():
    assert reasons(pair(quality=0.9, words=1)) == [None, "short"]
    assert reasons(pair(quality=0.9, channel=None)) == [None, "no_channel"]


def test_there_are_no_chains():
    """b is alike to a and to c, which are not alike: where a is best, b goes and c stays."""
    chain = [
        {"cluster": 1, "quality": 0.9, "alike": {1: 0.8}},
        {"cluster": 1, "quality": 0.8, "alike": {0: 0.8, 2: 0.8}},
        {"cluster": 1, "quality": 0.7, "alike": {1: 0.8}},
    ]
    assert reasons(chain) == [None, "duplicate", None]
    chain[1]["quality"] = 1.0
    assert reasons(chain) == ["duplicate", None, "duplicate"]


def test_copies_count_as_one_text_of_which_the_best_stays():
    """The first copy fails a rule, yet the others are known by it to be alike, also to its partner."""
    documents = [
        {"cluster": 1, "words": 1, "alike": {3: 0.85}},
        {"cluster": 1, "copy_of": 0, "quality": 0.6},
        {"cluster": 1, "copy_of": 0, "quality": 0.7},
        {"cluster": 1, "quality": 0.65, "alike": {0: 0.85}},
    ]
    verdicts = judged(documents)
    assert [verdict["reason"] for verdict in verdicts] == ["short", "duplicate", None, "duplicate"]
    assert [(v["duplicate_of"], v.get("similarity")) for v in verdicts[1::2]] == [(2, 1.0), (2, pytest.approx(0.85))]
    documents[3]["quality"] = 0.8
    verdicts = judged(documents)
    assert [verdict["reason"] for verdict in verdicts] == ["short", "duplicate", "duplicate", None]
    assert {verdict["duplicate_of"] for verdict in verdicts[1:3]} == {3}


def test_hubs_stand_first():
    assert reasons(pair(quality=0.1, hub=True)) == ["duplicate", None]
    assert reasons(pair(quality=0.1, hub=True, words=1)) == [None, "short"]
    copy = {"cluster": 1, "copy_of": 1, "quality": 0.1}
    assert reasons([*pair(hub=True, words=1), copy]) == ["duplicate", "short", None]


HELD_OUT_AND_COPIES = [
    *pair(held_out=True),
    {"cluster": 1, "words": 1},
    {"cluster": 2, "alike": {4: 0.9}},
    {"cluster": 2, "alike": {3: 0.9}},
    {"cluster": 3, "held_out": True, "words": 1, "alike": {6: 0.9}},
    {"cluster": 3, "alike": {5: 0.9}},
]


def test_a_cluster_that_touches_a_held_out_document_is_out_and_copies_are_told_from_it():
    verdicts = judged(HELD_OUT_AND_COPIES)
    assert [verdict["reason"] for verdict in verdicts] == [
        *("held_out_copy", "held_out", "short", None, "duplicate", "short", "held_out_copy")
    ]
    assert [index for index, verdict in enumerate(verdicts) if verdict["evaluated"]] == [1, 5]


def test_of_a_held_out_table_of_an_earlier_version_what_a_rule_drops_is_not_evaluated_on():
    verdicts = judged(HELD_OUT_AND_COPIES, evaluates_dropped=False)
    assert [index for index, verdict in enumerate(verdicts) if verdict["evaluated"]] == [1]
    now = judged(HELD_OUT_AND_COPIES)
    assert [verdict | {"evaluated": None} for verdict in verdicts] == [one | {"evaluated": None} for one in now]


def test_what_is_evaluated_on_has_a_text_and_a_channel_whatever_the_rules_say():
    document = GOOD | {"id": bytes(16), "held_out": True, "words": 1}
    columns = pa.schema([*COLUMNS, ("clean_emptied", pa.bool_())])
    rows = [{}, {"clean_emptied": True}, {"kind": "taken_down"}, {"channel": None}]
    batch = pa.Table.from_pylist([document | row for row in rows], schema=columns)
    [result] = run(Verdict(RULES, (), emptied=["clean_emptied"], taken_down=True), [batch])
    assert result["evaluated"].to_pylist() == [True, False, False, False]
    assert result["kept"].to_pylist() == [False] * 4


def test_verdicts_change_only_with_the_version():
    others = [{"words": 9}, {"language": "de"}, {"words": 1, "channel": None}, {"channel": None, "held_out": True}]
    verdicts = judged([*HELD_OUT_AND_COPIES, *others, {"words": None}], evaluates_dropped=False)
    names = ["kept", "reason", "evaluated", "fails_short", "fails_foreign", "duplicate_of", "similarity"]
    rows = [{name: verdict.get(name) for name in names} for verdict in verdicts]
    check_golden("verdict", Verdict.version, pa.Table.from_pylist(rows))


def test_the_ledger_counts_every_document_once_and_every_failed_rule():
    documents = [{}, {"words": 1, "language": "de"}, {"language": "de", "source": "books"}, {"channel": None}]
    verdict = Verdict(RULES, ())
    rows = [GOOD | {"id": bytes(16)} | document for document in documents]
    batch = pa.Table.from_pylist(rows, schema=COLUMNS)
    [result] = run(verdict, [batch])
    ledger = verdict.ledger(result.select(verdict.writes.names), batch.select(list(verdict.scatters)))
    assert ledger == {
        "web": {"kept": 1, "short": 1, "no_channel": 1},
        "books": {"foreign": 1},
        "web.fails": {"short": 1, "foreign": 1},
        "books.fails": {"foreign": 1},
    }


def test_the_share_removed_counts_copies_whichever_stays_and_only_records_that_became_text():
    dropped = {"no_text": 20, "short": 10, "duplicate": 25, "held_out_copy": 15, "held_out": 5}
    web = {"in": 130, "kept": 45, "dropped": dropped, "quarantined": {"cpu_limit": 2, "language": 8}}
    nothing = {"in": 3, "kept": 0, "dropped": {"status": 3}, "quarantined": {}}
    assert removed_share({"sources": {"web": web, "none": nothing}}) == {"web": 0.4, "none": 0.0}


def test_fingerprints_follow_meaning_not_writing():
    def fingerprint(drop: str, **other) -> str:
        return Verdict((Rule(name="short", drop=drop, **other),), ("quality",)).fingerprint

    assert fingerprint("words < 10") == fingerprint("(WORDS<10)".lower(), origin="rules/gopher.yaml:3")
    assert fingerprint("words < 10") != fingerprint("words < 11")
    assert fingerprint("words < 10") != fingerprint("words < 10", where="kind = 'html'")
    assert Verdict(RULES, ("quality",), 2).fingerprint == Verdict(RULES, ("quality",), 9).fingerprint
    assert Verdict(RULES, ("quality",)).fingerprint != Verdict(RULES, ("length",)).fingerprint


def test_a_verdict_reads_only_what_its_rules_and_preferences_name():
    verdict = Verdict((Rule(name="short", drop="words < 10"),), ("length",))
    assert {"words", "text_length"} < set(verdict.reads)
    assert not {"quality", "date", "text"} & set(verdict.reads)
    assert set(verdict.scatters) == {"words", "source", "channel", "held_out"}


DOCUMENT = st.fixed_dictionaries(
    {
        "quality": st.sampled_from([None, 0.1, 0.5, 0.5, 0.9]),
        "text_length": st.integers(1, 3),
        "words": st.sampled_from([1, 50, 50]),
        "channel": st.sampled_from(["en", "en", "en", None]),
        "held_out": st.sampled_from([False] * 11 + [True]),
        "text": st.integers(0, 9),
        "id": st.integers(0, 2**128 - 1),
    }
)


def brute_force(documents: list[dict], similar: dict[tuple[int, int], float]) -> list[str | int | None]:
    """Reasons, of duplicates the most preferred document they are alike to, by comparing every document with every kept
    one."""
    cluster = _clusters(documents, similar)
    touched = {group for group, document in zip(cluster, documents, strict=True) if document["held_out"]}
    result: list[str | int | None] = []
    for group, document in zip(cluster, documents, strict=True):
        reason = "short" if document["words"] < 10 else None
        reason = reason or ("no_channel" if document["channel"] is None else None)
        reason = reason or ("held_out" if document["held_out"] else None)
        result.append(reason or ("held_out_copy" if group in touched else None))
    kept: list[int] = []
    for each in sorted(
        (each for each, reason in enumerate(result) if reason is None),
        key=lambda each: (
            documents[each]["quality"] is None,
            -(documents[each]["quality"] or 0),
            -documents[each]["text_length"],
            documents[each]["id"],
        ),
    ):
        same = [k for k in kept if documents[each]["text"] == documents[k]["text"] or (each, k) in similar]
        if same:
            result[each] = same[0]
        else:
            kept.append(each)
    return result


@settings(max_examples=80, deadline=None)
@given(
    st.lists(DOCUMENT, min_size=1, max_size=16, unique_by=lambda document: document["id"]),
    st.dictionaries(
        st.tuples(st.integers(0, 9), st.integers(0, 9)).filter(lambda texts: texts[0] < texts[1]),
        st.sampled_from([0.8125, 0.875, 0.9375]),
        max_size=14,
    ),
    st.integers(1, 4),
    st.integers(1, 5),
)
def test_the_election_is_that_of_brute_force_whatever_the_shards(documents, texts_alike, shards, partitions):
    firsts: dict[int, int] = {}
    place = lambda index: (number(index % shards), index // shards)  # noqa: E731
    for index in sorted(range(len(documents)), key=place):
        firsts.setdefault(documents[index]["text"], index)
    similar = {
        (one, other): similarity
        for (a, b), similarity in texts_alike.items()
        for x, y in ((a, b), (b, a))
        for one in range(len(documents))
        for other in range(len(documents))
        if documents[one]["text"] == x and documents[other]["text"] == y
    }
    given_columns = []
    for index, document in enumerate(documents):
        first = firsts[document["text"]]
        alike = {firsts[y]: s for (x, y), s in _both(texts_alike).items() if x == document["text"] and y in firsts}
        given_columns.append(
            {key: value for key, value in document.items() if key != "text"}
            | {"id": document["id"].to_bytes(16, "big"), "copy_of": None if first == index else first}
            | {"alike": alike if first == index else None}
        )
    clusters = _clusters(documents, similar)
    for index, columns in enumerate(given_columns):
        columns["cluster"] = clusters[index] if clusters.count(clusters[index]) > 1 else None
    verdicts = judged(given_columns, partitions=partitions, shards=shards)
    outcome = [v["duplicate_of"] if v["reason"] == "duplicate" else v["reason"] for v in verdicts]
    assert outcome == brute_force(documents, similar)
    for index, verdict in enumerate(verdicts):
        if verdict["reason"] == "duplicate":
            keeper = verdict["duplicate_of"]
            assert verdicts[keeper]["kept"]
            same = documents[index]["text"] == documents[keeper]["text"]
            assert verdict["similarity"] == (1.0 if same else similar[index, keeper])


def _both(pairs: dict[tuple[int, int], float]) -> dict[tuple[int, int], float]:
    return pairs | {(y, x): similarity for (x, y), similarity in pairs.items()}


def _clusters(documents: list[dict], similar: dict[tuple[int, int], float]) -> list[int]:
    label = list(range(len(documents)))
    for one in range(len(documents)):
        for other in range(len(documents)):
            if documents[one]["text"] == documents[other]["text"] or (one, other) in similar:
                label = [label[one] if each == label[other] else each for each in label]
    return label


def shingles(text: str) -> set[tuple[str, ...]]:
    words = text.split()
    return {tuple(words[at : at + 5]) for at in range(len(words) - 4)}


@pytest.mark.parametrize("hubs", [64, 6])
def test_from_texts_to_verdict_no_chains_and_no_text_lost(monkeypatch, hubs):
    """Families of drifting texts: each removed document is truly alike to the one named, and the kept ones are those of
    one shard and of many; few hubs remove nearly all that a full comparison removes."""
    monkeypatch.setattr("tasks.dedup.duplicates.HUBS", hubs)
    chance = random.Random(11)
    texts: list[str] = []
    for _ in range(12):
        words = [f"w{chance.randrange(5000)}" for _ in range(300)]
        for _ in range(chance.choice([1, 2, 5, 20])):
            texts.append(" ".join(words))
            for at in chance.sample(range(len(words)), chance.choice([0, 1, 2, 4])):
                words[at] = f"w{chance.randrange(5000)}"
    ids = [chance.randbytes(16) for _ in texts]
    outcomes = []
    for shards in (1, 5):
        rows = [GOOD | {"id": each, "text": text} for each, text in zip(ids, texts, strict=True)]
        tables = [pa.Table.from_pylist(rows[shard::shards]) for shard in range(shards)]
        known = {"copy_of", "alike", "hub", "cluster", "text_length"}
        schema = pa.schema([*(field for field in COLUMNS if field.name not in known), ("text", pa.string())])
        tables = [table.select(schema.names).cast(schema) for table in tables]
        settings = Duplicates(threshold=0.8, partitions=shards + 1)
        for stage in (*evidence(settings), Clusters(settings)):
            tables = run(stage, tables)
        tables = run(Verdict(RULES, ("quality", "length"), shards + 2), tables)
        names = {(number(shard), at): at * shards + shard for shard in range(shards) for at in range(len(texts))}
        verdicts = [tables[each % shards].slice(each // shards, 1).to_pylist()[0] for each in range(len(texts))]
        outcomes.append([verdict["kept"] for verdict in verdicts])
        for each, verdict in enumerate(verdicts):
            if not verdict["kept"]:
                keeper = names[verdict["duplicate_of"]["shard"], verdict["duplicate_of"]["position"]]
                one, other = shingles(texts[each]), shingles(texts[keeper])
                similarity = len(one & other) / len(one | other)
                assert outcomes[-1][keeper]
                assert similarity >= 0.8
                assert verdict["duplicate_of"]["similarity"] == pytest.approx(similarity)
    assert outcomes[0] == outcomes[1]
    assert 12 <= Counter(outcomes[0])[True] < len(texts) / 2
