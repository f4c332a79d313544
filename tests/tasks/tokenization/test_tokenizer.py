"""The tokenizer and the tokens stage, against a BPE of a few lines, transformers, and real text."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, models
from tokenizers import Tokenizer as Encoder
from transformers import PreTrainedTokenizerFast

from data_specs.document import SpecError
from data_specs.tokenizer import Tokenizer
from tasks.arrays.hashing import seeded_hash, words
from tasks.tokenization import kinds
from tasks.tokenization.kinds import CUT, END, SPACES, SPLIT, learn, pieces
from tasks.tokenization.tokenizer import REPEATS, TokenizerError, TokenizerEstimator, load, provided
from tasks.tokenization.tokens import TokenEstimate, Tokens
from tests.golden import check_golden

SETTINGS = Tokenizer(vocabulary=600, reserved=4)


def texts(seed: int = 0, count: int = 300) -> list[str]:
    """Made-up English, Chinese and code."""
    rng = random.Random(seed)
    words = "the river runs past old stones and new houses while people in 1998 or 2024 walk to work".split()
    hanzi = "我们在一九九八年学习语言模型的方法,数据很重要。河流经过石头和房子"
    kinds = [
        lambda: " ".join(rng.choices(words, k=30)) + ".",
        lambda: "".join(rng.choices(hanzi, k=40)) + rng.choice(["Python是", "3.11版", "。\n"]),
        lambda: f"def {rng.choice(words)}_{rng.randrange(99)}(x):\n    return x + {rng.randrange(9999)}\n",
    ]
    return [rng.choice(kinds)() for _ in range(count)]


@pytest.fixture(scope="module")
def learned() -> bytes:
    return learn(texts(), SETTINGS)


def rows(documents: list[str], channels: Sequence[str | None], kept: bool = True) -> pa.Table:
    ids = [hashlib.md5(f"{i}{text}".encode()).digest() for i, text in enumerate(documents)]
    columns = [pa.array(ids, pa.binary(16)), pa.array(documents, pa.string()), pa.array(channels, pa.string())]
    return pa.table([*columns, pa.array([kept] * len(ids), pa.bool_())], ["id", "text", "channel", "kept"]).sort_by(
        "id"
    )


def fit(
    options: Tokenizer, table: pa.Table, weights: dict[str, float] | None = None, file: bytes | None = None
) -> tuple[bytes, dict[str, Any]]:
    learner = TokenizerEstimator(options, 1, weights or {}, file)
    return learner.fit(learner.sample(table))


def test_the_same_texts_give_the_same_bytes_in_any_order_and_on_any_number_of_threads(learned: bytes) -> None:
    shuffled = texts()
    random.Random(1).shuffle(shuffled)
    assert learn(shuffled, SETTINGS) == learned
    program = f"import sys; from {__name__} import *; sys.stdout.buffer.write(learn(texts(), SETTINGS))"
    environment = os.environ | {"TOKENIZERS_PARALLELISM": "true", "RAYON_NUM_THREADS": "4", "PYTHONHASHSEED": "5"}
    run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True)
    assert run.stdout == learned


def test_special_tokens_come_first_and_the_vocabulary_has_the_size_asked_for(learned: bytes) -> None:
    loaded = load(learned, "learned")
    first = [loaded.encoder.id_to_token(number) for number in range(6)]
    assert first == [END, "<|pad|>", "<|reserved_0|>", "<|reserved_1|>", "<|reserved_2|>", "<|reserved_3|>"]
    assert (loaded.size, loaded.end, loaded.pad) == (600, 0, 1)


def test_no_token_joins_digits_or_crosses_from_han_to_other_letters(learned: bytes) -> None:
    loaded = load(learned, "learned")
    spelled = [loaded.encoder.decode([number]) for number in range(6, loaded.size)]
    assert not [token for token in spelled if regex.search(r"\p{N}.|.\p{N}", token)]
    assert not [t for t in spelled if regex.search(r"\p{Han}", t) and regex.search(r"(?V1)[\p{L}--\p{Han}]", t)]
    assert [t for t in spelled if regex.search(r"\p{Han}{2}", t)]
    assert [t for t in spelled if regex.fullmatch(r" \p{L}{4,}", t)]


@settings(deadline=None, max_examples=200)
@given(
    st.one_of(
        st.text(max_size=60), st.lists(st.sampled_from([" ", "\n", "\t", "a", "é", "中", "1", END, "'s"])).map("".join)
    )
)
def test_every_text_is_encoded_without_loss_and_only_its_end_is_a_special_token(text: str) -> None:
    loaded = load(LEARNED, "learned")
    [ids] = loaded.encode([text])
    assert ids[-1] == loaded.end
    assert (ids[:-1] >= 6).all()
    assert loaded.encoder.decode(ids[:-1].tolist(), skip_special_tokens=False) == text


LEARNED = learn(texts(), SETTINGS)


def merged(word: str, ranks: dict[tuple[str, str], int]) -> list[str]:
    """BPE as its paper has it: merge the pair learned first, until none is left."""
    parts = list(word)
    while len(parts) > 1:
        best = min(itertools.pairwise(parts), key=lambda pair: ranks.get(pair, len(ranks)))
        if best not in ranks:
            break
        joined: list[str] = []
        for part in parts:
            if joined and (joined[-1], part) == best:
                joined[-1] += part
            else:
                joined.append(part)
        parts = joined
    return parts


def byte_letters() -> dict[int, str]:
    """GPT-2's letters for bytes (Radford et al. 2019): printable ones are themselves, the others begin at U+0100."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {byte: chr(256 + i) for i, byte in enumerate(others)}


def test_encoding_equals_a_plain_bpe_over_the_same_split(learned: bytes) -> None:
    model = json.loads(learned)["model"]
    ranks = {tuple(pair): rank for rank, pair in enumerate(model["merges"])}
    letters, split = byte_letters(), regex.compile("(?V1)" + SPLIT)
    loaded = load(learned, "learned")
    samples = [*texts(seed=9, count=60), "Don't  stop\n\n  42 naïve नमस्ते ごはん、API设计 ---- \t x"]
    for text, ids in zip(samples, loaded.encode(samples), strict=True):
        words = split.findall(text)
        assert "".join(words) == text
        spelled = ["".join(letters[byte] for byte in word.encode()) for word in words]
        assert [model["vocab"][part] for word in spelled for part in merged(word, ranks)] == ids[:-1].tolist()


def test_a_long_token_is_not_learned() -> None:
    loaded = load(learn(["-" * 500 + "\n" + "=" * 300] * 50, SETTINGS), "learned")
    assert max(len(loaded.encoder.id_to_token(number)) for number in range(6, loaded.size)) <= 32


RUNS = {
    "Han": lambda rng, n: "".join(chr(rng.randint(0x4E00, 0x9000)) for _ in range(n)),
    "kana": lambda rng, n: "".join(chr(rng.randint(0x3041, 0x3096)) for _ in range(n)),
    "Thai": lambda rng, n: "".join(chr(rng.randint(0xE01, 0xE2E)) for _ in range(n)),
    "Hangul": lambda rng, n: "".join(chr(rng.randint(0xAC00, 0xD7A3)) for _ in range(n)),
    "emoji": lambda rng, n: "".join(chr(rng.randint(0x1F600, 0x1F64F)) for _ in range(n)),
    "Latin": lambda rng, n: "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=n)),
    "digits": lambda rng, n: "".join(rng.choices("0123456789", k=n)),
    "marks": lambda rng, n: "".join(rng.choices("!?.,;:-_()[]{}", k=n)),
    "dashes": lambda _, n: "-" * n,
    "spaces": lambda _, n: " " * n + "x",
    "lines": lambda _, n: " \t\n" * (n // 3),
}


@pytest.mark.slow
@pytest.mark.parametrize("script", RUNS)
def test_a_run_without_end_costs_time_in_proportion_to_its_length(script: str) -> None:
    def seconds(work: Any) -> tuple[float, Any]:
        started = time.process_time()
        result = work()
        return time.process_time() - started, result

    rng, costs = random.Random(3), []
    for length in (20_000, 160_000):
        run = RUNS[script](rng, length)
        learning, data = seconds(lambda run=run: learn([*texts(count=30), run], SETTINGS))
        loaded = load(data, "learned")
        encoding, [ids] = seconds(lambda run=run, loaded=loaded: loaded.encode([run]))
        assert loaded.encoder.decode(ids.tolist()) == run
        costs.append((learning, encoding))
    for short, long in zip(*costs, strict=True):
        assert long < 0.5 + 8 * 4 * short  # in proportion; 193 s were learned from 150,000 ideographs without a cut


@pytest.mark.slow
def test_white_space_beyond_what_the_library_steps_back_through_is_encoded(learned: bytes) -> None:
    text = "the river" + " " * 10_100_000 + "runs past"
    assert len(pieces(text)) == 10
    assert "".join(pieces(text)) == text
    assert pieces("x " * SPACES) == ["x " * SPACES]
    loaded = load(learned, "learned")
    before, found, after = loaded.encode(["the river", text, " runs past"])
    assert (found[: len(before) - 1] == before[:-1]).all()
    assert (found[-len(after) :] == after).all()


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(st.sampled_from(["x", " ", "\n", "\u3000", "\x1c", "\u200b"]), st.integers(0, 9))))
def test_runs_of_white_space_are_cut_every_so_often_and_nothing_else_is(runs: list[tuple[str, int]]) -> None:
    text = "".join(letter * count for letter, count in runs)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(kinds, "SPACES", 4)
        found = pieces(text)
    whole = [run.span() for run in re.finditer(r"\s+", text)]
    cuts = [0, *(cut for first, end in whole for cut in range(first + 4, end, 4)), len(text)]
    assert found == [text[first:end] for first, end in pairwise(cuts)]


def test_a_tokenizer_learned_without_such_runs_is_what_it_is_without_a_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = [*texts(), "-" * CUT + "\n" + "我" * CUT, " " * CUT + "x"]
    data = learn(samples, SETTINGS)
    monkeypatch.setattr("tasks.tokenization.kinds.CUT", 10**9)
    assert learn(samples, SETTINGS) == data
    assert "FixedLength" not in data.decode()


def test_a_vocabulary_too_small_for_bytes_and_special_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="357, but 256 bytes, 2 special tokens and 100 reserved ones are 358"):
        Tokenizer(vocabulary=357, reserved=100)
    assert load(learn(["text"], Tokenizer(vocabulary=358, reserved=100)), "learned").size == 358


def test_the_sample_follows_the_weights_and_not_the_shards() -> None:
    documents = [text * 5 for text in texts(count=900)]
    table = rows(documents, [("a", "b", "c")[i % 3] for i in range(900)])
    learner = TokenizerEstimator(Tokenizer(sample=60_000), 1, {"a": 3.0, "b": 1.0})
    whole = learner.sample(table)
    sizes = {name: sum(len(r["text"].encode()) for r in whole.to_pylist() if r["channel"] == name) for name in "abc"}
    assert sizes["c"] == 0
    assert 45_000 <= sizes["a"] < 46_500
    assert 15_000 <= sizes["b"] < 16_500
    parts = [learner.sample(table.slice(start, 300)) for start in (0, 300, 600)]
    assert learner.downsample(pa.concat_tables(parts)).sort_by("id") == whole
    assert TokenizerEstimator(Tokenizer(sample=60_000), 2, {"a": 3.0, "b": 1.0}).sample(table) != whole


KEPT = st.lists(st.tuples(st.sampled_from(["a", "b", "c", None]), st.integers(0, 40)), max_size=40)
WEIGHTS = st.sampled_from([{}, {"a": 1.0}, {"a": 0.36, "b": 0.32, "d": 0.32}, {"a": 0.1, "b": 0.9, "c": 0.0}])


@settings(deadline=None, max_examples=200)
@given(KEPT, WEIGHTS, st.integers(1, 1500), st.randoms(use_true_random=False))
def test_shards_sampled_and_put_together_in_any_groups_are_as_one(
    kept: list[tuple[str | None, int]], weights: dict[str, float], sample: int, chance: random.Random
) -> None:
    table = rows(["x" * size for _, size in kept], [channel for channel, _ in kept])
    learner = TokenizerEstimator(Tokenizer(sample=sample), 1, weights)
    owner = np.array([chance.randrange(5) for _ in kept], np.int64)
    parts = [learner.sample(table.filter(pa.array(owner == shard))) for shard in range(5)]
    while len(parts) > 1:
        group = [parts.pop(chance.randrange(len(parts))) for _ in range(chance.randint(2, len(parts)))]
        parts.append(learner.downsample(pa.concat_tables(group)))
    whole = learner.sample(table)
    assert parts[0].sort_by("id") == whole
    named = [(channel, size) for channel, size in kept if not weights or weights.get(channel or "")]
    for channel in {channel for channel, _ in named}:
        found = [row for row in whole.to_pylist() if row["channel"] == channel]
        total = sum(size for name, size in named if name == channel)
        assert sum(len(row["text"]) + row["cut"] for row in found) == total
    assert (pc.sum(pc.binary_length(whole["text"])).as_py() or 0) <= sample + 40 * 4


def read_round(table: pa.Table, seed: int, wanted: dict[str, float], most: int) -> dict[str, list[str]]:
    """Of each channel the texts in order of their hashes, round and round until the bytes wanted are reached."""
    order = np.argsort(seeded_hash(words(table["id"]), seed, "tokenizer"))
    result: dict[str, list[str]] = {}
    for name, limit in wanted.items():
        own = [row["text"] for row in table.take(order).to_pylist() if row["channel"] == name]
        result[name], size = [], 0
        for text in own * most:
            if size >= limit:
                break
            result[name].append(text)
            size += len(text.encode())
    return result


@pytest.mark.parametrize("sample", [2**26, 30_000])
@pytest.mark.parametrize("weights", [{"a": 0.36, "b": 0.32, "c": 0.32}, {"a": 0.2, "b": 0.3, "none": 0.5}])
def test_what_is_learned_from_follows_the_weights_where_there_is_too_little(
    weights: dict[str, float], sample: int
) -> None:
    table = rows(texts(count=900), ["a"] * 700 + ["b"] * 150 + ["c"] * 50)
    there = {name: sum(len(r["text"].encode()) for r in table.to_pylist() if r["channel"] == name) for name in weights}
    total = min(sample, sum(there.values()))
    learner = TokenizerEstimator(SETTINGS.model_copy(update={"sample": sample}), 1, weights)
    data, facts = learner.fit(pa.concat_tables(learner.sample(table.slice(at, 90)) for at in range(0, 900, 90)))
    read = read_round(table, 1, {name: weight * total for name, weight in weights.items()}, REPEATS)
    assert data == learn([text for found in read.values() for text in found], learner.settings)
    for name in weights.keys() & {"a", "b", "c"}:
        size = sum(len(text.encode()) for text in read[name])
        assert facts["channels"][name] == {"bytes": there[name], "learned": size}
        assert 0 <= size - weights[name] * total < max(len(text.encode()) for text in read[name])
    once = {text for found in read.values() for text in found}
    assert (facts["rows"], facts["bytes"]) == (len(once), sum(len(text.encode()) for text in once))
    assert facts["channels"].keys() == facts["compression"].keys() == weights.keys() & {"a", "b", "c"}


def test_a_document_is_learned_from_eight_times_at_most() -> None:
    table = rows(["one two three" * 50, "four"], ["a", "b"])
    learner = TokenizerEstimator(SETTINGS, 1, {"a": 1.0, "b": 1.0})
    data, facts = learner.fit(learner.sample(table))
    assert facts["channels"] == {"a": {"bytes": 650, "learned": 650}, "b": {"bytes": 4, "learned": 32}}
    assert data == learn(["one two three" * 50, *["four"] * 8], SETTINGS)


def test_without_weights_every_channel_is_learned_from_by_its_size() -> None:
    table = rows(texts(count=900), ["a"] * 700 + ["b"] * 199 + ["c"])
    data, facts = fit(SETTINGS, table)
    assert data == learn(table["text"].to_pylist(), SETTINGS)
    assert all(found["learned"] == found["bytes"] for found in facts["channels"].values())
    _, facts = fit(Tokenizer(sample=30_000, vocabulary=600), table)
    sizes = facts["channels"]
    assert 30_000 <= sum(found["learned"] for found in sizes.values()) == facts["bytes"] < 30_200
    assert sum(found["bytes"] for found in sizes.values()) == sum(len(t.encode()) for t in table["text"].to_pylist())
    assert abs(sizes["a"]["learned"] / 30_000 - sizes["a"]["bytes"] / sum(f["bytes"] for f in sizes.values())) < 0.1


def test_documents_that_are_not_kept_are_not_learned_from() -> None:
    learner = TokenizerEstimator(SETTINGS, 1, {})
    assert learner.sample(rows(["one", "two"], ["a", "a"], kept=False)).num_rows == 0
    with pytest.raises(TokenizerError, match="no kept document"):
        learner.fit(learner.sample(rows([], [])))


def test_compression_is_that_of_transformers() -> None:
    table = rows(texts(count=200), ["a" if i % 2 else "b" for i in range(200)])
    data, facts = fit(SETTINGS, table)
    oracle = PreTrainedTokenizerFast(tokenizer_object=Encoder.from_buffer(data))
    assert (facts["rows"], facts["size"]) == (200, 600)
    for name in "ab":
        documents = [row["text"] for row in table.to_pylist() if row["channel"] == name]
        count = sum(len(oracle(text)["input_ids"]) + 1 for text in documents)
        assert facts["compression"][name] == {
            "characters": round(sum(map(len, documents)) / count, 4),
            "bytes": round(sum(len(text.encode()) for text in documents) / count, 4),
        }


def test_a_file_is_taken_as_it_is_with_its_own_ids(tmp_path: Path) -> None:
    vocabulary = {"a": 0, "b": 1, "</s>": 2, "ab": 3}
    path = tmp_path / "tokenizer.json"
    Encoder(models.BPE(vocabulary, [("a", "b")])).save(str(path))
    settings = Tokenizer(kind="file", path=str(path))
    data, facts = fit(settings, rows(["abab"], ["x"]), file=provided(str(path)))
    assert data == path.read_bytes()
    assert (facts["size"], facts["end"], facts["pad"]) == (4, 2, 2)
    assert facts["compression"] == {"x": {"characters": 1.3333, "bytes": 1.3333}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no json", r"my\.json is no tokenizer\.json that tokenizers can read"),
        (
            Encoder(models.BPE({"a": 0}, [])).to_str().encode(),
            r"my\.json has no end-of-text token; one of <\|endoftext",
        ),
        (
            Encoder(models.BPE({END: 0}, [], dropout=0.1)).to_str().encode(),
            r"my\.json has a dropout of 0\.1, with which a text has other tokens each time; put `\"dropout\": null`",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_by_name(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "my.json"
    with pytest.raises(SpecError, match=r"tokenizer\.path: .* No such file or directory: .*my\.json"):
        provided(str(path))
    path.write_bytes(content)
    with pytest.raises(SpecError, match=rf"tokenizer\.path: .*{message}"):
        provided(str(path))


def stage(learned: bytes, folder: Path, size: int | None = None) -> Tokens:
    path = folder / "tokenizer.json"
    path.write_bytes(learned)
    result = Tokens(SETTINGS, {str(path): hashlib.sha256(learned).hexdigest()}, size)
    result.setup()
    return result


def test_kept_documents_and_those_evaluated_on_have_tokens(learned: bytes, tmp_path: Path) -> None:
    cases: list[tuple[str, bool | None, bool | None, bool]] = [
        ("kept", True, False, True),
        ("", True, False, True),
        ("held out, passes", False, True, True),
        ("dropped", False, False, False),
        ("unknown", None, None, False),
        ("literal <|endoftext|> 我们", True, None, True),
    ]
    names = ["text", "kept", "evaluated", "wanted"]
    columns: dict[str, Any] = dict(zip(names, map(list, zip(*cases, strict=True)), strict=True))
    batch = pa.table({name: columns[name] for name in names[:3]})
    tokens = stage(learned, tmp_path)(batch)
    assert tokens.schema == pa.schema([("tokens", pa.list_(pa.uint16()))])
    oracle = PreTrainedTokenizerFast(tokenizer_object=Encoder.from_buffer(learned), split_special_tokens=True)
    for text, wanted, found in zip(columns["text"], columns["wanted"], tokens["tokens"].to_pylist(), strict=True):
        assert found == ([*oracle(text)["input_ids"], 0] if wanted else None)


def test_a_large_vocabulary_is_stored_in_32_bits_and_one_that_does_not_fit_is_refused(
    learned: bytes, tmp_path: Path
) -> None:
    wide = stage(learned, tmp_path, size=2**16 + 1)
    batch = pa.table({"text": ["a"], "kept": [True], "evaluated": [False]})
    assert wide(batch)["tokens"].type == pa.list_(pa.uint32())
    assert wide.folder == f"tokens/{hashlib.sha256(learned).hexdigest()[:8]}"
    many = {chr(0x4E00 + i // 300) + chr(0x4E00 + i % 300): i for i in range(2**16)} | {END: 2**16}
    with pytest.raises(TokenizerError, match="65,537 entries, too many for tokens of type uint16"):
        stage(Encoder(models.WordLevel(many, END)).to_str().encode(), tmp_path)


def test_tokens_change_only_with_the_version(learned: bytes, tmp_path: Path) -> None:
    documents = texts(seed=3, count=30)
    columns = {"text": documents, "kept": [True] * 30, "evaluated": [False] * 30}
    check_golden("tokens", Tokens.version, stage(learned, tmp_path)(pa.table(columns)))
    estimates = TokenEstimate({"en": {"bytes": 3.7}})(pa.table({"text": documents, "channel": ["en", None, "zh"] * 10}))
    check_golden("token_estimate", TokenEstimate.version, estimates)


def test_batches_of_any_size_give_the_same_tokens(learned: bytes, tmp_path: Path) -> None:
    documents = [text * 400 for text in texts(count=40)]
    table = pa.table({"text": documents, "kept": [i % 5 > 0 for i in range(40)], "evaluated": [False] * 40})
    tokens = stage(learned, tmp_path)
    parts = [tokens(table.slice(start, 7)) for start in range(0, 40, 7)]
    assert pa.concat_tables(parts).combine_chunks() == tokens(table).combine_chunks()
    assert tokens(table.slice(0, 0)).num_rows == 0


def test_an_estimate_is_bytes_over_the_compression_of_the_channel_and_one_more() -> None:
    compression = {"en": {"characters": 4.0, "bytes": 4.0}, "zh": {"characters": 1.0, "bytes": 3.0}}
    texts = pa.array(["a" * 400, "a" * 401, "\u6c34" * 100, "a" * 7, "a" * 8, ""])
    batch = pa.table({"text": texts, "channel": ["en", "en", "zh", None, "code", "en"]})
    found = TokenEstimate(compression)(batch)
    assert found["token_estimate"].to_pylist() == [101, 102, 101, 3, 4, 1]
    assert TokenEstimate(compression)(batch.slice(0, 0)).num_rows == 0


def real(shared: Path, name: str, most: int) -> list[str]:
    with gzip.open(shared / "text" / name, "rt", encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line, _ in zip(lines, range(most), strict=False)]


def test_real_chinese_and_english_come_back_whole_and_estimates_are_near(shared: Path, tmp_path: Path) -> None:
    documents = {
        "zh": real(shared, "zh_wiki_cmrc2018.jsonl.gz", 300),
        "en": real(shared, "en_brown_15genres.jsonl.gz", 60),
    }
    channels = [name for name, found in documents.items() for _ in found]
    table = rows([text for found in documents.values() for text in found], channels)
    data, facts = fit(Tokenizer(sample=400_000), table, {"zh": 0.5, "en": 0.5})
    loaded = load(data, "learned")
    assert facts["compression"]["en"]["bytes"] > 3
    assert facts["compression"]["zh"]["characters"] > 1.1
    for name, found in documents.items():
        encoded = loaded.encode(found)
        assert [loaded.encoder.decode(ids[:-1].tolist()) for ids in encoded] == found
        batch = pa.table({"text": found, "channel": [name] * len(found)})
        guess = TokenEstimate(facts["compression"])(batch)["token_estimate"].to_numpy()
        exact = np.array([len(ids) for ids in encoded])
        assert abs(guess.sum() / exact.sum() - 1) < 0.1
        assert np.median(np.abs(guess / exact - 1)) < 0.2


@pytest.mark.parametrize("key", ["end", "pad", "mask"])
def test_a_file_whose_end_a_text_could_spell_is_refused(tmp_path: Path, key: str) -> None:
    path = tmp_path / "tokenizer.json"
    encoder = Encoder.from_buffer(learn(texts(), Tokenizer(vocabulary=400, reserved=4)))
    chosen = Tokenizer(kind="file", path=str(path), **{key: "<stop>"})
    encoder.add_tokens([AddedToken("<stop>", special=False)])
    path.write_text(encoder.to_str())
    with pytest.raises(SpecError, match=rf"a text that spells <stop> would be .* tokenizer\.{key} is"):
        provided(str(path), chosen)
    path.write_text(encoder.to_str().replace('"special":false', '"special":true'))
    assert provided(str(path), chosen) == path.read_bytes()
