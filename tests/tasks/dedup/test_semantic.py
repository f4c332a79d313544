"""Semantic duplicates and the order by similarity, against loops over all pairs, scipy's k-means and transformers."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.cluster.vq import kmeans2
from transformers import AutoModel, AutoTokenizer, BertModel

from data_specs import stages
from data_specs.load import SpecError
from flows.run import Run
from tasks.dedup import centroids, neighbours
from tasks.dedup.centroids import DECIMALS, CentroidsEstimator, kmeans, nearest, unit
from tasks.dedup.neighbours import Neighbours, path
from tasks.dedup.semantic import Semantic, elected
from tasks.scoring.embedding import Embedding
from tests import corpus_runner, generations, small, whole
from tests.commands import told
from tests.tasks.scoring.test_encoder import folder, labelled

SEED = 7


def vectors(count: int, groups: int = 12, size: int = 16, seed: int = 1) -> np.ndarray:
    """Unit vectors about some directions, some of them nearly the same."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(groups, size))
    found = centres[rng.integers(groups, size=count)] + 0.5 * rng.normal(size=(count, size))
    near = rng.integers(count, size=count // 3)
    found[: len(near)] = found[near] + 0.05 * rng.normal(size=(len(near), size))
    return unit(np.round(unit(found), 3))


def table(rows: np.ndarray, **more: Any) -> pa.Table:
    ids = [hashlib.md5(row.tobytes() + bytes([n % 256])).digest() for n, row in enumerate(rows)]
    column = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])
    return pa.table({"id": pa.array(ids, pa.binary(16)), "embedding": column, **more})


def made(kind: Any, settings: Any, tables: list[pa.Table], folder: Path) -> Any:
    """A stage with the centroids that it learns of some tables."""
    estimator = CentroidsEstimator(settings, SEED)
    rows = pa.concat_tables([estimator.sample(each.select(estimator.reads)) for each in tables])
    data, _ = estimator.fit(rows.sort_by("id"))
    file = folder / f"{hashlib.sha256(data).hexdigest()[:8]}.npy"
    file.write_bytes(data)
    return kind(settings, {str(file): hashlib.sha256(data).hexdigest()})


def test_vectors_are_those_of_transformers_averaged_and_of_length_one(tmp_path: Path) -> None:
    model = folder(tmp_path / "model", BertModel)
    stage = Embedding(stages.Embedding(model=str(model), tokens=64, prefix="query: "))
    stage.setup()
    texts = [*labelled(20)["text"].to_pylist(), " \n"]
    found = stage(pa.table({"text": texts}))["embedding"]
    assert found[-1].as_py() is None
    tokenizer, plain = AutoTokenizer.from_pretrained(model), AutoModel.from_pretrained(model).eval()
    for text, row in zip(texts[:-1], found.to_pylist(), strict=False):
        ids = tokenizer("query: " + text, truncation=True, max_length=64, return_tensors="pt")
        with torch.inference_mode():
            mean = plain(**ids).last_hidden_state[0].mean(0).numpy()
        assert np.abs(np.array(row) - mean / np.linalg.norm(mean)).max() < 0.0011


def test_clusters_are_as_tight_as_those_of_scipy() -> None:
    rows = vectors(900)
    own = nearest(rows, kmeans(rows, 12, SEED))[1].mean()
    theirs = max(
        nearest(rows, unit(kmeans2(rows.astype(float), 12, minit="++", rng=seed)[0]))[1].mean() for seed in range(5)
    )
    assert own > theirs - 0.01
    assert len(kmeans(np.repeat(rows[:3], 5, axis=0), 12, SEED)) == 3


def by_hand(rows: np.ndarray, similarity: float) -> dict[int, set[int]]:
    """Each vector that goes -> those that stay and that it is alike to, one after another."""
    stays: list[int] = []
    goes = {}
    for number, row in enumerate(rows):
        alike = {other for other in stays if round(float(rows[other] @ row), DECIMALS) >= similarity}
        if alike:
            goes[number] = alike
        else:
            stays.append(number)
    return goes


@pytest.mark.parametrize("similarity", [0.7, 0.9, 0.97])
def test_who_goes_is_who_a_loop_over_all_pairs_says_and_the_most_alike_is_named(similarity: float) -> None:
    rows = vectors(400)
    expected = by_hand(rows, similarity)
    goes, stays, cosine = elected(rows, similarity)
    assert set(goes.tolist()) == expected.keys()
    for one, other, value in zip(goes.tolist(), stays.tolist(), cosine.tolist(), strict=True):
        assert other in expected[one]
        assert value == pytest.approx(float(rows[one] @ rows[other]), abs=1e-5)
        assert value >= max(float(rows[each] @ rows[one]) for each in expected[one]) - 1e-5


def removed(stage: Semantic, shards: list[pa.Table]) -> dict[bytes, bytes]:
    """Id of each document that goes -> that of the one that stays."""
    of = {corpus_runner.number(n): shard["id"].to_pylist() for n, shard in enumerate(shards)}
    found = {}
    for shard in corpus_runner.run(stage, shards):
        for row in shard.to_pylist():
            if row["semantic"]:
                found[row["id"]] = of[row["semantic"]["shard"]][row["semantic"]["position"]]
    return found


def test_the_same_documents_go_however_they_lie_in_shards_and_the_preferred_one_stays(tmp_path: Path) -> None:
    rows = vectors(300)
    score = np.random.default_rng(2).permutation(300) / 300
    data = table(rows, quality=pa.array(score))
    settings = stages.Semantic(similarity=0.95, clusters=8, keep="quality")
    stage = made(Semantic, settings, [data], tmp_path)
    found = removed(stage, [data])
    assert len(found) > 50
    shuffled = data.take(np.random.default_rng(3).permutation(300))
    assert removed(stage, [shuffled.slice(0, 40), shuffled.slice(40, 0), shuffled.slice(40)]) == found
    other = made(Semantic, settings.model_copy(update={"partitions": 3}), [data], tmp_path)
    assert removed(other, [data.slice(0, 9), data.slice(9)]) == found
    quality = dict(zip(data["id"].to_pylist(), score, strict=True))
    assert all(quality[stays] > quality[goes] for goes, stays in found.items())
    assert not found.keys() & set(found.values())


def test_a_preference_may_be_whole_numbers_beyond_two_to_the_53rd(tmp_path: Path) -> None:
    rows = np.repeat(vectors(1), 3, axis=0)
    data = table(rows, stamp=pa.array([2**62, 2**62 + 2**20, None], pa.int64()))
    data = data.set_column(0, "id", pa.array([bytes([n]) * 16 for n in range(3)], pa.binary(16)))
    stage = made(Semantic, stages.Semantic(similarity=0.95, clusters=1, keep="stamp"), [data], tmp_path)
    assert set(removed(stage, [data]).values()) == {bytes([1]) * 16}


def test_pairs_are_found_but_for_those_of_two_clusters_and_a_unique_corpus_loses_nothing(tmp_path: Path) -> None:
    rows = vectors(600)
    data = table(rows)
    one = removed(made(Semantic, stages.Semantic(similarity=0.95, clusters=1), [data], tmp_path), [data])
    many = removed(made(Semantic, stages.Semantic(similarity=0.95, clusters=12), [data], tmp_path), [data])
    assert len(one) == pytest.approx(len(by_hand(rows, 0.95)), rel=0.05)  # in another order
    assert 0.9 * len(one) < len(many) <= 1.05 * len(one)
    apart = np.eye(16, dtype=np.float32)
    assert removed(made(Semantic, stages.Semantic(), [table(apart)], tmp_path), [table(apart)]) == {}


def test_of_few_documents_few_clusters_are_learned_so_that_pairs_meet(tmp_path: Path) -> None:
    rows = vectors(300)
    stage = made(Semantic, stages.Semantic(similarity=0.95), [table(rows)], tmp_path)
    stage.setup()
    assert len(stage.centroids) == 3
    assert len(removed(stage, [table(rows)])) == pytest.approx(len(by_hand(rows, 0.95)), rel=0.1)


def test_clusters_of_other_embeddings_and_a_preference_that_is_no_number_are_refused(tmp_path: Path) -> None:
    stage = made(Semantic, stages.Semantic(clusters=2), [table(vectors(20))], tmp_path)
    stage.setup()
    with pytest.raises(ValueError, match="of 16 numbers, these have 8; --retrain semantic"):
        stage.map(table(vectors(20, size=8)))
    path = generations.spec(tmp_path)
    model = folder(tmp_path / "model", BertModel)
    added = f"embedding: {{model: {model}}}, semantic: {{keep: url}}"
    path.write_text(path.read_text().replace("stages: {", f"stages: {{{added}, "))
    generations.write(tmp_path, "web-0", [])
    with pytest.raises(SpecError, match=r"semantic\.keep: url is no column of numbers"):
        Run.of(str(path), None)


def test_documents_of_earlier_generations_stay_before_all_others(tmp_path: Path) -> None:
    data = table(vectors(120))
    stage = made(Semantic, stages.Semantic(similarity=0.95, clusters=4, partitions=1), [data], tmp_path)
    stage.setup()

    def mapped(part: pa.Table, shard: int) -> pa.Table:
        rows = stage.map(part).drop_columns("partition")
        return rows.append_column("shard", pa.array(np.full(rows.num_rows, shard, np.uint64)))

    older = data.slice(0, 80)
    state = stage.remember(mapped(older, 1))
    assert sorted(state["position"].to_pylist()) == [*range(80)]
    found = stage.reduce(pa.concat_tables([state, mapped(older, 2)])).to_pylist()
    gone = stage.reduce(mapped(older, 1))["position"].to_pylist()
    assert sorted(row["position"] for row in found if row["shard"] == 1) == sorted(gone)
    newer = [row for row in found if row["shard"] == 2]
    assert sorted(row["position"] for row in newer) == [*range(80)]
    assert all(row["semantic"]["shard"] == 1 for row in newer)


ANGLES = """
import pyarrow as pa
import numpy as np
from data_specs.base import Settings
from tasks.engine.stage import Stage

class Angle(Stage):
    name, version = "angle_vector", 1
    reads = ("angle",)
    writes = pa.schema([("angle_vector", pa.list_(pa.float32(), 2))])

    def __call__(self, batch):
        angles = np.radians(batch["angle"].to_numpy().astype(float))
        vectors = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
        return pa.table([pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 2)], schema=self.writes)
"""


def test_a_newer_document_goes_for_any_older_one_that_stays_and_for_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "angles_of_texts.py").write_text(ANGLES)
    monkeypatch.syspath_prepend(tmp_path)
    path = generations.spec(tmp_path, 0.8)
    vector = "angle_vector: {kind: custom, code: 'angles_of_texts:Angle'}"
    semantic = (
        "semantic: {similarity: 0.9397, clusters: 1, keep: score, partitions: 1, reads: {embedding: angle_vector}}"
    )
    text = path.read_text().replace("stages: {", f"stages: {{{vector}, {semantic}, ")
    path.write_text(text.replace("shard: 1}", "shard: 1, columns: {angle: float, score: float}}"))
    rng = random.Random(11)
    stays: list[float] = []
    goes: set[float] = set()
    for night, count in enumerate([9, 3, 3, 2, 3, 2]):
        angles = sorted(rng.sample(range(0, 720), count), key=lambda _: rng.random())
        rows = [
            {"text": f"document {night} {angle}", "url": f"https://a.org/{night}", "angle": angle / 4, "score": -place}
            for place, angle in enumerate(angles)
        ]
        generations.write(tmp_path, f"web-{night}", rows)
        generations.night(path)
        for angle in (angle / 4 for angle in angles):
            alike = any(np.cos(np.radians(angle - other)) >= 0.9397 for other in stays)
            (goes.add if alike else stays.append)(angle)
        found = told("query", path, "select angle from corpus where semantic is not null")["rows"]
        assert {row[0] for row in found} == goes
    assert len(goes) > 6


def test_the_path_visits_each_document_once_beside_its_like_and_not_beside_its_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = vectors(500)
    data = table(rows)
    settings = stages.Neighbours(clusters=6, apart=0.98)
    stage = made(Neighbours, settings, [data], tmp_path)

    def way(*shards: pa.Table) -> np.ndarray:
        found = pa.concat_tables(corpus_runner.run(stage, shards))
        place = found["neighbours"].to_numpy()
        assert len(set(place.tolist())) == len(rows)
        order = np.argsort(place)
        cosine = found["neighbours_cosine"].to_numpy()[order]
        true = (rows[order][1:] * rows[order][:-1]).sum(1)
        inside = cosine[1:] != 0
        assert np.allclose(cosine[1:][inside], true[inside], atol=1e-5)
        assert (~inside).sum() < 6
        return order

    order = way(data)
    assert (order == way(data.slice(0, 100), data.slice(100))).all()

    def alike(of: np.ndarray) -> np.ndarray:
        return (rows[of][1:] * rows[of][:-1]).sum(1)

    shuffled = alike(np.random.default_rng(1).permutation(500)).mean()
    print(f"mean cosine of neighbours {alike(order).mean():.3f}, of shuffled documents {shuffled:.3f}")
    assert alike(order).mean() > shuffled + 0.4
    free = alike(path(rows, 2.0))
    assert (alike(order) >= 0.98).sum() < 0.1 * (free >= 0.98).sum()
    monkeypatch.setattr(neighbours, "LONGEST", 40)
    assert alike(way(data)).mean() > shuffled + 0.3


def test_nights_go_on_behind_the_path_of_their_cluster_and_leave_it_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "angles_of_texts.py").write_text(ANGLES)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(centroids, "EACH", 10)
    path = generations.spec(tmp_path, 0.8)
    added = "angle_vector: {kind: custom, code: 'angles_of_texts:Angle'}, "
    added += "neighbours: {clusters: 2, partitions: 1, reads: {embedding: angle_vector}}, "
    text = path.read_text().replace("stages: {", f"stages: {{{added}")
    path.write_text(text.replace("shard: 1}", "shard: 1, columns: {angle: float, night: float}}"))
    rng = random.Random(12)
    before: dict[str, float] = {}
    for night, count in enumerate([20, 3, 5, 2, 4, 6]):
        angles = [rng.choice((10, 200)) + 20 * rng.random() for _ in range(count)]
        rows = [
            {"text": f"document {night} {angle}", "url": f"https://a.org/{night}", "angle": angle, "night": night}
            for angle in angles
        ]
        generations.write(tmp_path, f"web-{night}", rows)
        generations.night(path)
        found = told("query", path, "select id, neighbours, night, angle from corpus order by neighbours")["rows"]
        places = {name: place for name, place, *_ in found}
        assert before.items() <= places.items()
        assert len({*places.values()}) == len(places)
        before = places
        for part in (0, 1):
            nights = [when for _, place, when, _ in found if int(place) == part]
            assert nights == sorted(nights)
            assert len({angle > 100 for _, place, _, angle in found if int(place) == part}) == 1


def test_as_many_clusters_as_documents_are_walked_in_parts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rows = vectors(400)
    monkeypatch.setattr(centroids, "EACH", 1)
    stage = made(Neighbours, stages.Neighbours(clusters=400), [table(rows)], tmp_path)
    monkeypatch.setattr(neighbours, "CLUSTERS", 30)
    stage.setup()
    assert sorted(stage.rank.tolist()) == [*range(len(stage.centroids))]
    in_order = stage.centroids[np.argsort(stage.rank)]
    assert (in_order[1:] * in_order[:-1]).sum(1).mean() > (rows[1:] * rows[:-1]).sum(1).mean() + 0.2


def test_a_run_drops_what_was_said_before_and_fills_rows_with_neighbours(tmp_path: Path) -> None:
    spec = small.corpus(tmp_path, files=1)
    model = folder(tmp_path / "model", BertModel)
    added = (
        f"  embedding: {{model: {model}, tokens: 64}}\n  semantic: {{similarity: 0.9, clusters: 4, keep: quality}}\n"
    )
    added += "  neighbours: {clusters: 4}\n"
    text = spec.read_text().replace("stages:\n", f"stages:\n{added}")
    spec.write_text(text.replace("rules:\n", 'rules:\n  - said_before: "semantic_similarity >= 0.999"\n'))
    given = ["mixture.epochs={default: 40}"]
    order = "mixture.phases=[{until: 100%, weights: {en: 1}, order: {by: neighbours, bins: null, rows: shuffled}}]"
    run = whole.go(spec, [*given, order])
    asked = "select reason, semantic_similarity >= 0.999, neighbours_cosine from corpus"
    rows = told("query", spec, asked, f"--set={order}")["rows"]
    assert all(row[0] == "said_before" for row in rows if row[1])
    assert all(row[2] is not None for row in rows)
    page = (Path(__file__).parents[3] / "docs/mixture.md").read_text()
    asked = page.partition('$ sluice query SPEC "select avg(array')[2].partition('"')[0]
    [[said]] = told("query", spec, f"select avg(array{asked}", f"--set={order}")["rows"]
    kept = told("query", spec, "select embedding from corpus where kept order by neighbours", f"--set={order}")["rows"]
    beside = np.array([row[0] for row in kept])
    assert said == pytest.approx((beside[1:] * beside[:-1]).sum(1).mean(), abs=1e-4)
    plain = whole.go(spec, [*given, order.replace("by: neighbours, bins: null, rows: shuffled", "by: words, bins: 2")])
    assert run.plan_facts["content"] != plain.plan_facts["content"]
