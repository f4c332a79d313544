"""What models read of rows and predict, objective by objective, and that documents of a row do not see each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from data_specs.objectives import ARCHITECTURES, Causal, Masked, Objective, Permutation, Prefix, SpanCorruption
from data_specs.training import Model, PhaseShape, Training
from tasks.planning.objectives import Noise, numbers, row_shape, special_tokens, target_counts
from training import models
from training.objectives import IGNORED, Batch, Packed, batch

VOCABULARY, SEQUENCE = 50, 32
OBJECTIVES: list[Objective] = [Causal(), Prefix(), Masked(), SpanCorruption(), Permutation()]
NOISE = Noise(7, 0)


def kind(objective: Objective) -> str:
    return objective.kind


def rows(objective: Objective, lengths: list[list[int]], first: int = 3, seed: int = 0) -> Packed:
    """Rows of segments of such lengths, of tokens by chance; a group for each segment."""
    flat, segments = np.array([n for row in lengths for n in row]), np.array([len(row) for row in lengths])
    tokens = np.random.default_rng(seed).integers(0, VOCABULARY, flat.sum())
    counts = target_counts(objective, flat, segments, first, NOISE)
    width = row_shape(objective, SEQUENCE).width
    channels, groups = np.zeros(len(lengths), np.int64), {"which": np.arange(len(flat), dtype=np.int16)}
    return Packed(first, width, tokens, flat, segments, counts, channels, groups)


def special(objective: Objective) -> dict[str, int]:
    names = special_tokens([PhaseShape(1, SEQUENCE, 8, objective, None)])
    return numbers(names, VOCABULARY + len(names))


def made(objective: Objective, packed: Packed) -> Batch:
    return batch(objective, packed, NOISE, special(objective), VOCABULARY)


def tiny(objective: Objective) -> Any:
    settings = Model(
        architecture=ARCHITECTURES[objective.kind], hidden=16, layers=2, heads=2, kv_heads=2, intermediate=24
    )
    return models.build(settings, VOCABULARY + len(special(objective)), SEQUENCE, seed=1).eval()


def logits(model: Any, read: Batch) -> torch.Tensor:
    with torch.no_grad():
        return models.logits(model, read, torch.device("cpu"))


def three(objective: Objective) -> list[list[int]]:
    """A full row of three documents, one of one document, and a short row."""
    width = row_shape(objective, SEQUENCE).width
    return [[11, 9, width - 20], [width], [7, 6]]


@pytest.mark.parametrize("objective", OBJECTIVES, ids=kind)
def test_each_target_is_a_token_of_its_row_and_belongs_to_that_tokens_document(objective: Objective) -> None:
    packed = rows(objective, three(objective))
    found = made(objective, packed)
    assert ((found.labels != IGNORED).sum(1) == packed.targets).all()
    assert found.channels.tolist() == [0, 0, 0]
    extra = special(objective)
    for row, labels in enumerate(found.labels):
        for label, place, group in zip(labels, found.origin[row], found.groups["which"][row], strict=True):
            if label != IGNORED:
                assert packed.segment[row, place] == group
                assert label == packed.rows[row, place] or label in extra.values()
    again = rows(objective, three(objective)[1:], first=4)
    whole = np.concatenate([packed.tokens[packed.held[0] :]])
    later = made(objective, Packed(4, again.width, whole, again.lengths, again.segments, again.targets, again.channels))
    assert np.array_equal(found.labels[1:], later.labels)  # whatever rows are read with it
    assert np.array_equal(found.inputs[1:], later.inputs)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=kind)
def test_changing_a_document_moves_no_logit_of_another(objective: Objective) -> None:
    model, packed = tiny(objective), rows(objective, three(objective))
    before = logits(model, made(objective, packed))
    assert torch.isfinite(before[torch.from_numpy(made(objective, packed).labels != IGNORED)]).all()
    for segment, (start, length) in enumerate([(0, 11), (11, 9), (20, packed.width - 20)]):
        changed = packed.tokens.copy()
        changed[start : start + length] = (changed[start : start + length] + 1) % VOCABULARY
        other = Packed(3, packed.width, changed, *(packed.lengths, packed.segments, packed.targets, packed.channels))
        read = made(objective, packed)
        after = logits(model, made(objective, other))
        targets = torch.from_numpy(read.labels != IGNORED)
        own = torch.from_numpy(read.groups["which"] == segment) & targets
        assert torch.allclose(before[targets & ~own], after[targets & ~own], atol=1e-6)
        if length > 1 and own.any():
            assert not torch.allclose(before[own], after[own], atol=1e-6)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=kind)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_logits_are_the_same_whatever_computes_attention(objective: Objective, attention: str) -> None:
    model, read = tiny(objective), made(objective, rows(objective, three(objective)))
    targets = torch.from_numpy(read.labels != IGNORED)
    before = logits(model, read)[targets]
    models.prepare(model, Training.model_validate({"attention": attention}), compiled=False)
    assert torch.allclose(logits(model, read)[targets], before, atol=1e-5)


def test_a_token_that_is_predicted_from_nothing_sees_no_other_document_nor_itself() -> None:
    objective = Permutation(predicted=0.5)
    packed = rows(objective, [[1] * 16 + [2] * 8])
    model, read = tiny(objective), made(objective, packed)
    before = logits(model, read)
    for place, target in enumerate(read.more["places"][0]):
        alone = packed.lengths[packed.segment[0, target]] == 1
        others = np.flatnonzero(packed.segment[0] != packed.segment[0, target])
        inputs = read.inputs.copy()
        inputs[0, [*others, *([target] if alone else [])]] += 1
        after = logits(model, Batch(inputs, *list(vars(read).values())[1:]))
        assert torch.equal(before[0, place], after[0, place])


@pytest.mark.parametrize("objective", OBJECTIVES, ids=kind)
@pytest.mark.parametrize("tied", [True, False])
def test_parameters_are_counted_without_building(objective: Objective, tied: bool) -> None:
    architecture = ARCHITECTURES[objective.kind]
    tied |= architecture == "t5"
    settings = Model(architecture=architecture, hidden=16, layers=3, heads=2, intermediate=24, tied=tied)
    model = models.build(settings, 60, 20, seed=1)
    assert models.parameters(settings, 60, 20) == sum(parameter.numel() for parameter in model.parameters())


def test_fifteen_percent_are_masked_and_of_those_80_10_10() -> None:
    objective = Masked()
    full = rows(objective, [[SEQUENCE]] * 4000)
    found, extra = made(objective, full), special(objective)
    assert (found.labels != IGNORED).sum() == 4000 * 5  # 15 % of 32
    read = np.take_along_axis(found.inputs, found.more["places"], 1)
    masked, same = read == extra["<mask>"], read == found.labels
    assert masked.mean() == pytest.approx(0.8, abs=0.01)
    assert same.mean() == pytest.approx(0.1 + 0.1 / VOCABULARY, abs=0.01)
    assert read[~masked].max() < VOCABULARY
    assert (found.inputs == full.rows).sum() == full.rows.size - (~same).sum()
    chosen = np.bincount(found.more["places"].ravel(), minlength=SEQUENCE)
    assert chosen == pytest.approx(4000 * 5 / SEQUENCE, rel=0.2)  # any place is as likely


def test_a_prefix_sees_itself_whole_and_nothing_behind_it() -> None:
    packed = rows(Prefix(), [[33]] * 8)
    read, model = made(Prefix(), packed), tiny(Prefix())
    before = logits(model, read)
    for row in range(8):
        prefix = int(read.more["prefix"][row].sum())
        assert (read.labels[row] != IGNORED).tolist() == [place + 1 >= prefix for place in range(32)]
        if not 4 < prefix < 28:
            continue
        inputs = read.inputs.copy()
        inputs[row, prefix - 2] += 1
        seen = logits(model, Batch(inputs, *list(vars(read).values())[1:]))
        assert not torch.allclose(before[row, 0], seen[row, 0])  # an earlier token of the prefix sees a later one
        inputs = read.inputs.copy()
        inputs[row, prefix + 2] += 1
        unseen = logits(model, Batch(inputs, *list(vars(read).values())[1:]))
        assert torch.equal(before[row, : prefix + 2], unseen[row, : prefix + 2])


def test_changing_a_token_moves_no_logit_that_is_earlier_in_the_order() -> None:
    packed = rows(Permutation(), [[SEQUENCE]])
    read, model = made(Permutation(), packed), tiny(Permutation())
    assert read.labels.shape[1] == 5  # a sixth of 32
    before = logits(model, read)
    for place in range(5):
        inputs = read.inputs.copy()
        inputs[0, read.more["places"][0, place]] += 1
        after = logits(model, Batch(inputs, *list(vars(read).values())[1:]))
        assert torch.equal(before[0, : place + 1], after[0, : place + 1])  # nor its own
        assert place == 4 or not torch.allclose(before[0, place + 1 :], after[0, place + 1 :])


def test_spans_put_back_into_what_is_read_give_the_text() -> None:
    objective = SpanCorruption(density=0.3, mean_span=2.0)
    packed = rows(objective, three(objective))
    found, extra = made(objective, packed), special(objective)
    names = {number: name for name, number in extra.items()}
    for row, held in enumerate(packed.held):
        spans: dict[int, list[int]] = {}
        targets = found.labels[row][found.labels[row] != IGNORED].tolist()
        assert targets[-1] == extra["<end>"]
        for token in targets[:-1]:
            if token in names:
                assert names[token] == f"<extra_id_{len(spans)}>"
                spans[token] = []
            else:
                spans[list(spans)[-1]].append(token)
        text: list[int] = []
        read = found.inputs[row].tolist()
        read = read[: read.index(extra["<end>"])]
        assert read[0] not in names  # text comes first
        for token in read:
            text += spans[token] if token in names else [token]
        assert text == packed.rows[row, :held].tolist()
        begins = found.more["target_inputs"][row][: len(targets)]
        document = found.more["target_documents"][row][: len(targets)]
        anew = np.diff(document, prepend=-1) != 0
        assert begins.tolist() == [
            extra["<begin>"] if new else old for new, old in zip(anew, [0, *targets], strict=False)
        ]
