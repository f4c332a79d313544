"""Long documents cut at the ends of lines and sentences, against a loop over tokens, and read back from whole plans."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tokenizers import Tokenizer as Encoder
from tokenizers import decoders, models, pre_tokenizers

from data_specs.tokenizer import Tokenizer
from tasks.planning.best_fit import pack
from tasks.planning.borders import Borders, places
from tasks.planning.files import read_rows
from tasks.planning.mixture import Stream
from tasks.planning.objectives import RowShape
from tasks.storage.pins import fetched
from tasks.tokenization.borders import ends
from tasks.tokenization.kinds import learn
from tasks.tokenization.tokenizer import load
from tests import small, whole
from tests.commands import ask


def by_hand(border: list[bool], shape: RowShape) -> list[tuple[int, int]]:
    """Pieces of a document, token by token; `border[n]`: something ends before token n."""
    found, start = [], 0
    while True:
        stop = min(start + shape.width, len(border))
        if stop < len(border):
            stop = next((end for end in range(stop, start + shape.width // 2, -1) if border[end]), stop)
        found.append((start, stop))
        if stop == len(border):
            return found
        start = stop - shape.overlap


@pytest.mark.parametrize("shape", [RowShape(17, 1), RowShape(16, 0), RowShape(9, 1)])
def test_pieces_end_where_a_loop_over_tokens_says_and_none_is_longer_than_a_row(shape: RowShape) -> None:
    rng = random.Random(1)
    borders = [
        [rng.random() < share for _ in range(rng.randrange(1, 200))] for share in (0.3, 0.05, 0) for _ in range(60)
    ]
    cuts = []
    for border in borders:
        ends_of = [stop for _, stop in by_hand(border, shape)][:-1]
        assert places(np.flatnonzero(border), len(border), shape) == ends_of
        cuts.append(ends_of or None)
    length = np.array([len(border) for border in borders])
    document = np.array(rng.sample(range(len(borders)), len(borders)) * 2)
    stream = Stream(document, np.zeros(len(document), int), length[document], np.repeat([1, 2], len(borders)))
    rows = int(stream.length.sum()) // shape.width - 1
    packed = pack(stream, rows, shape, cuts=pa.array(cuts, pa.list_(pa.int32())))
    pieces = {(number, *piece) for number, d in enumerate(document) for piece in by_hand(borders[d], shape)}
    got = list(zip(packed.part.tolist(), packed.start.tolist(), (packed.start + packed.length).tolist(), strict=True))
    assert set(got) <= pieces
    assert len(set(got)) == len(got) > 0.8 * len(pieces)
    filled = np.add.reduceat(packed.length, np.cumsum(packed.count) - packed.count)
    assert filled.max() <= shape.width
    assert packed.padding == rows * shape.width - filled.sum()


def test_a_part_that_begins_within_a_document_goes_on_to_its_next_border() -> None:
    cuts = pa.array([[10, 19], None], pa.list_(pa.int32()))
    stream = Stream(np.array([0, 1, 0]), np.array([9, 0, 12]), np.array([16, 4, 5]), np.ones(3, int))
    packed = pack(stream, 3, RowShape(12, 1), cuts=cuts)
    got = sorted(zip(packed.part.tolist(), packed.start.tolist(), packed.length.tolist(), strict=True))
    assert got == [(0, 0, 10), (0, 9, 7), (1, 0, 4), (2, 0, 5)]


@pytest.mark.parametrize("kind", ["byte-bpe", "wordpiece", "unigram", "bpe"])
def test_sentences_and_lines_end_where_they_do_in_every_kind_of_tokenizer(kind: Any) -> None:
    rng = random.Random(2)
    texts = [small.english(rng, 40) + "\n" + small.chinese(rng, 40) + "\npi is 3.14 or so. Next!" for _ in range(20)]
    data = learn(texts, Tokenizer(kind=kind, vocabulary=600))
    loaded = load(data, kind)
    text = "The river is 3.14 miles long. We saw it. 我们 在 河流。他们 的 花园。The end"
    [ids] = loaded.encode([text])
    always, weak, spaced = ends(loaded, "sentence")
    found = [loaded.encoder.decode(ids[:place].tolist()) for place in Borders(always, weak, spaced).within(ids)]
    tails = {each.rstrip()[-3:].replace(" ", "") for each in found}
    assert {"ng.", "it."} <= tails
    assert any(each.endswith("流。") for each in tails)
    assert not any(each.endswith("3.") for each in tails)
    always, weak, _ = ends(loaded, "line")
    assert not weak.any()
    [ids] = loaded.encode(["The river\nand the garden\nand a miner"])
    lines = [loaded.encoder.decode(ids[:place].tolist()) for place in Borders(always, weak, spaced).within(ids)]
    assert [each.count("\n") for each in lines] == [1, 2]


def test_a_tokenizer_that_keeps_no_spaces_ends_no_sentence_inside_a_number() -> None:
    words = ["[PAD]", "[UNK]", "[SEP]", "pi", "is", "3", "##4", ".", "1", "14", "next", "one"]
    bert = Encoder(models.WordPiece({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    bert.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    bert.decoder = decoders.WordPiece()
    bert.add_special_tokens(["[PAD]", "[UNK]", "[SEP]"])
    loaded = load(bert.to_str().encode(), "bert", Tokenizer(kind="file", path="bert.json", end="[SEP]", pad="[PAD]"))
    [ids] = loaded.encode(["pi is 3.14. next one."])
    found = Borders(*ends(loaded, "sentence")).within(ids)
    assert [loaded.encoder.decode(ids[:place].tolist()) for place in found] == ["pi is 3. 14."]


def test_rows_of_a_run_begin_where_sentences_do(tmp_path: Path) -> None:
    spec = small.corpus(tmp_path, files=1)
    given = ["mixture.packing=best_fit", "mixture.cut_at=sentence", "mixture.epochs={default: 20}"]
    run = whole.go(spec, given)
    pin = run.pins.get("tokenizer")
    assert pin is not None
    loaded = load(fetched(run.store, pin["path"], pin["sha256"]).read_bytes(), "learned")
    borders = Borders(*ends(loaded, "sentence"))
    plan, folder = run.plan_facts, run.record["plan"]
    tokens = [pa.ipc.open_file(run.store.read(path)).read_all()["tokens"].combine_chunks() for path in plan["files"]]
    expected: set[tuple[int, int]] = set()
    at_border = 0
    for file, lists in enumerate(tokens):
        for first, stop in pairwise(lists.offsets.to_pylist()):
            own = borders.within(lists.values[first:stop].to_numpy())
            cut = places(own, stop - first, RowShape(65, 1))
            at_border += len({*cut} & {*own.tolist()})
            expected |= {(file, first), *((file, first + place - 1) for place in cut)}
    assert at_border > 0.8 * (len(expected) - sum(map(len, tokens)))
    begun = set()
    for name, digest in plan["content"].items():
        if name.startswith("rows-"):
            table = read_rows(run.store, f"{folder}/{name}", digest)
            columns = [table[column].combine_chunks().flatten().to_pylist() for column in ("file", "offset", "length")]
            begun |= {*zip(*columns[:2], strict=True)}
            assert max(columns[2]) <= 65
    unexpected = begun - expected
    assert len(begun) > 100
    assert len(unexpected) <= 3  # where the next phase goes on
    assert whole.states(whole.go(spec, [given[0], "mixture.cut_at=anywhere", given[2]]))["plan"] == "computed"
    assert "best_fit is not" in ask("plan", spec, "--set", "mixture.cut_at=line", code=2).output
