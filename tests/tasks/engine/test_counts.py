"""What is counted of a shard, and sums of that."""

from __future__ import annotations

import pyarrow as pa

from tasks.arrays.addresses import SIMILAR_ADDRESS
from tasks.engine.counts import Counts, added, by_value, totals

BATCH = pa.table(
    {
        "channel": ["en", None, "en"],
        "language": ["en", "zh", "en"],
        "reason": [None, "foreign", "duplicate"],
        "kept": [True, False, False],
        "url": ["https://user@www.Example.org:80/a?b=//c", None, "ftp://other.org"],
        "text": ["four", "六六", "x"],
        "tokens": pa.array([[1, 2, 3], None, None], pa.list_(pa.uint16())),
        "duplicate_of": pa.array([None, None, {"shard": 2**63, "position": 1, "similarity": 1.0}], SIMILAR_ADDRESS),
        "quality": pa.array([0.5, 0.9, None], pa.float32()),
    }
)


def test_documents_bytes_and_tokens_are_counted_by_value_and_outcome() -> None:
    counted = Counts("text", ["quality"]).count(BATCH)
    rows = [tuple(row.values()) for row in counted.to_pylist()]
    assert rows == [
        ("channel", "", "foreign", 1, 6, 0),
        ("channel", "en", "duplicate", 1, 1, 0),
        ("channel", "en", "kept", 1, 4, 3),
        ("language", "en", "duplicate", 1, 1, 0),
        ("language", "en", "kept", 1, 4, 3),
        ("language", "zh", "foreign", 1, 6, 0),
        ("host", "example.org", "kept", 1, 4, 3),
        ("quality", "0", "kept", 1, 4, 3),
        ("duplicate_of", str(2**63), "duplicate", 1, 1, 0),
    ]


def test_a_shard_without_documents_counts_nothing() -> None:
    assert Counts("text", ["quality"]).count(BATCH.slice(0, 0)).num_rows == 0


def test_totals_are_by_source_and_add_up() -> None:
    counted = Counts("text", ["quality"]).count(BATCH)
    found = totals([("web", counted), ("books", counted), ("web", counted)])
    assert found["web"]["language"]["en"]["kept"] == [2, 8, 6]
    assert "host" not in found["web"]
    assert added(found, found)["books"]["channel"]["en"]["kept"] == [2, 8, 6]
    assert found["books"]["channel"]["en"]["kept"] == [1, 4, 3]
    assert by_value(found, "source", kept=True) == {"web": {"kept": [2, 8, 6]}, "books": {"kept": [1, 4, 3]}}
    assert by_value(found, "channel")["en"] == {"kept": [3, 12, 9], "duplicate": [3, 3, 0]}


def test_bins_of_scores_are_fine_near_both_ends() -> None:
    scores = pa.array([0.0, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 1.0], pa.float32())
    batch = pa.concat_tables([BATCH.slice(0, 1)] * len(scores)).set_column(8, "quality", scores)
    counted = Counts("text", ["quality"]).count(batch)
    bins = [int(row["value"]) for row in counted.to_pylist() if row["by"] == "quality"]
    assert sorted(bins) == [-40, -28, -18, -9, 0, 9, 18, 28, 40]
