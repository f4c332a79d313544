"""What objectives ask of a plan: the papers' numbers, and noise that depends on nothing but its row."""

from __future__ import annotations

import numpy as np
import pytest

from data_specs.objectives import Causal, FillInTheMiddle, Masked, Permutation, Prefix, SpanCorruption
from data_specs.spec import Spec
from data_specs.tokenizer import Tokenizer
from data_specs.training import PhaseShape, VocabularyPadding
from tasks.planning.middle import turn
from tasks.planning.objectives import (
    Noise,
    added_tokens,
    corrupted,
    numbers,
    prefix_lengths,
    raw_tokens,
    row_shape,
    special_tokens,
    target_counts,
)


@pytest.mark.parametrize(
    ("settings", "inputs", "raw", "targets"),
    [
        ({}, 512, 568, 114),  # T5's pretraining (Raffel et al. 2020, section 3.1.4)
        ({"density": 0.2, "mean_span": 2.0}, 64, 70, 22),
    ],
)
def test_rows_of_span_corruption_have_the_lengths_of_the_authors_code(
    settings: dict[str, float], inputs: int, raw: int, targets: int
) -> None:
    objective = SpanCorruption(**settings)
    found = corrupted(objective, raw_tokens(objective, inputs))
    assert (raw_tokens(objective, inputs), found.inputs, found.targets) == (raw, inputs, targets)
    assert row_shape(objective, inputs).width == raw


@pytest.mark.parametrize("density", [0.05, 0.15, 0.5, 0.9])
@pytest.mark.parametrize("mean_span", [1.0, 3.0, 10.0])
def test_no_row_of_span_corruption_is_longer_than_a_full_one(density: float, mean_span: float) -> None:
    objective = SpanCorruption(density=density, mean_span=mean_span)
    raw = raw_tokens(objective, 64)
    full = corrupted(objective, raw)
    assert full.inputs <= 64 < corrupted(objective, raw + 1).inputs
    for tokens in range(1, raw):
        found = corrupted(objective, tokens)
        assert found.inputs <= full.inputs
        assert found.targets <= full.targets
        assert found.spans <= found.noise <= tokens - found.spans or tokens < 2
        assert found.targets == (found.noise + found.spans + 1 if tokens > 1 else 0)


def test_rows_overlap_where_each_token_is_predicted_from_the_one_before() -> None:
    shapes = [row_shape(each, 16) for each in (Causal(), Prefix(), Masked(), Permutation())]
    assert [(shape.width, shape.overlap) for shape in shapes] == [(17, 1), (17, 1), (16, 0), (16, 0)]
    assert [shape.tokens(3) for shape in shapes] == [49, 49, 48, 48]
    assert [shape.rows(shape.tokens(3)) for shape in shapes] == [3] * 4
    assert [shape.rows(shape.tokens(3) - 1) for shape in shapes] == [2] * 4


def test_a_rows_noise_is_its_own_and_nothing_elses() -> None:
    noise = Noise(7, 1)
    assert np.array_equal(noise.bits(3, 100), Noise(7, 1).bits(3, 200)[:100])
    others = [Noise(8, 1).bits(3, 100), Noise(7, 0).bits(3, 100), noise.bits(4, 100), noise.bits(3, 100, 1)]
    assert all(not np.isin(noise.bits(3, 100), other).any() for other in others)
    assert np.array_equal(Noise(1, None).bits(0, 9), Noise(2, None).bits(0, 9))  # held out: the same in all runs
    together = noise.of_segments(5, np.array([2, 1, 3]))
    alone = [noise.of_segments(5 + row, np.array([count])) for row, count in enumerate((2, 1, 3))]
    assert np.array_equal(together, np.concatenate(alone))


def test_targets_are_counted_per_row() -> None:
    lengths, segments, noise = np.array([10, 7, 17, 5]), np.array([2, 1, 1]), Noise(1, 0)
    counts = {
        "causal": [15, 16, 4],
        "masked": [3, 3, 1],  # 15 % of 17, and of 5
        "permutation": [3, 3, 1],  # a sixth
        "span_corruption": [corrupted(SpanCorruption(), n).targets for n in (17, 17, 5)],
    }
    for objective in (Causal(), Masked(), Permutation(), SpanCorruption()):
        assert target_counts(objective, lengths, segments, 4, noise).tolist() == counts[objective.kind]
    seen = prefix_lengths(lengths, noise.of_segments(4, segments))
    behind = lengths - seen
    assert target_counts(Prefix(), lengths, segments, 4, noise).tolist() == [behind[:2].sum(), behind[2], behind[3]]


def test_prefixes_are_drawn_evenly_and_leave_a_token_to_predict() -> None:
    lengths = np.full(30_000, 11)
    found = prefix_lengths(lengths, Noise(1, 0).of_segments(0, np.full(30_000, 1)))
    counts = np.bincount(found, minlength=12)
    assert counts[0] == counts[11] == 0
    assert counts[1:11] == pytest.approx(3_000, rel=0.06)
    assert prefix_lengths(np.array([1, 2]), np.array([5, 5], np.uint64)).tolist() == [1, 1]


def test_special_tokens_follow_on_those_of_the_tokenizer() -> None:
    def of(*objectives: object, sequence: int = 512) -> tuple[str, ...]:
        return special_tokens(PhaseShape(1, sequence, 8, each, None) for each in objectives)

    assert of(Causal(), Prefix(), Permutation()) == ()
    assert of(Masked()) == ("<mask>",)
    assert numbers(of(Causal(fill_in_the_middle=FillInTheMiddle()), Prefix()), 403)["<fim_prefix>"] == 400
    assert of(SpanCorruption())[:3] == ("<begin>", "<end>", "<extra_id_0>")
    assert len(of(SpanCorruption())) == 102
    longer = of(SpanCorruption(), sequence=4096)
    assert len(longer) == 2 + corrupted(SpanCorruption(), raw_tokens(SpanCorruption(), 4096)).spans > 102


@pytest.mark.parametrize("suffix_first", [0.0, 1.0])
def test_a_document_that_is_turned_round_says_what_it_said(suffix_first: float) -> None:
    settings, document = FillInTheMiddle(rate=1, suffix_first=suffix_first), np.arange(1, 21)
    middles = set()
    for use in range(400):
        found = turn(document, settings, (91, 92, 93), 7, f"document {use}").tolist()
        assert len(found) == 23
        assert found[0] == 91
        assert found[-1] == 20
        assert np.array_equal(found, turn(document, settings, (91, 92, 93), 7, f"document {use}"))
        at, middle = found.index(92), found.index(93)
        if suffix_first:  # <prefix> <suffix> suffix <middle> prefix middle end
            assert at == 1
            suffix, rest = found[2:middle], found[middle + 1 : -1]
            assert rest + suffix == document[:-1].tolist()
        else:
            prefix, suffix, moved = found[1:at], found[at + 1 : middle], found[middle + 1 : -1]
            assert prefix + moved + suffix == document[:-1].tolist()
            middles.add((len(prefix), len(moved)))
    assert suffix_first or len(middles) > 100


def test_reserved_entries_stand_between_the_tokenizers_and_those_of_objectives() -> None:
    spec = Spec.model_validate(
        {
            "name": "tiny",
            "sources": {"text": {"kind": "text", "paths": "*.txt"}},
            "channels": {"all": "true"},
            "model": {"architecture": "bert"},
            "training": {"objective": "masked"},
        }
    )
    assert added_tokens(spec, 1000) == ("<mask>",)
    padded = spec.model_copy(update={"model": spec.model.model_copy(update={"vocabulary": VocabularyPadding()})})
    added = added_tokens(padded, 1000)
    assert (len(added), added[0], added[-1]) == (24, "<|spare_0|>", "<mask>")
    assert numbers(added, 1024)["<mask>"] == 1023
    large = added_tokens(padded, 2**16)
    assert (2**16 + len(large)) % 128 == 0
    assert 1001 <= len(large) < 1001 + 128
    own = padded.model_copy(update={"tokenizer": Tokenizer(kind="file", path="x", mask="[MASK]")})
    assert "<mask>" not in added_tokens(own, 1000)
