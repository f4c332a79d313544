"""Which shards a source has, once its corpus has a version."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from tasks.engine.reading import InputShard, Part
from tasks.engine.rotation import Known, arranged
from tasks.engine.versions import SHARDS


def shard(name: str, *files: str, span: tuple[int, int] = (0, 9)) -> InputShard:
    """A shard of files, each written as key=content."""
    parts = tuple(
        Part(f"/data/{key}", key, *span, "9 1", content) for key, _, content in (f.partition("=") for f in files)
    )
    return InputShard("web", name, f"digest of {files} {span}", parts)


def known(shards: Sequence[InputShard]) -> Known:
    """These, as a version has them."""
    rows = [
        {
            "source": each.source,
            "name": each.name,
            "digest": each.digest,
            "folder": "documents/web@1",
            "parts": [{"key": p.key, "start": p.start, "end": p.end, "digest": p.digest} for p in each.parts],
        }
        for each in shards
    ]
    table = pa.Table.from_pylist(rows, SHARDS)
    places = [(table, row) for row in range(len(rows))]
    return Known([(each.name, each.digest) for each in shards], places, [f"key {each.name}" for each in shards])


def names(shards: Sequence[InputShard]) -> list[tuple[str, list[str]]]:
    return [(each.name, [part.key for part in each.parts]) for each in shards]


def always(key: str) -> bool:
    return True


def test_without_a_version_shards_are_as_they_are_listed() -> None:
    listed = [shard("web-0", "a=1", "b=1"), shard("web-1", "c=1")]
    assert arranged(listed, None, always, 1).shards == listed


def test_shards_of_the_version_come_first_and_what_is_new_after_them() -> None:
    a, b, c = shard("a", "a=1"), shard("b", "b=1"), shard("c", "c=1")
    found = arranged([a, b, c], known([c, a]), always, 2)
    assert found.shards == [c, a, b]
    assert not found.gone


def test_a_new_file_of_a_group_makes_a_shard_of_its_own() -> None:
    found = arranged([shard("web-0", "a=1", "b=1", "new=1")], known([shard("web-0", "a=1", "b=1")]), always, 4)
    assert names(found.shards) == [("web-0", ["a", "b"]), ("web-0-v4", ["new"])]
    assert found.shards[0].digest == shard("web-0", "a=1", "b=1").digest
    assert [part.path for part in found.shards[0].parts] == ["/data/a", "/data/b"]
    assert found.shards[0].stored == ""


def test_other_groups_leave_what_is_grouped_as_it_is() -> None:
    listed = [shard("web-0", "a=1"), shard("web-1", "b=1", "c=1"), shard("web-2", "d=1")]
    found = arranged(listed, known([shard("web-0", "a=1", "b=1"), shard("web-1", "c=1", "d=1")]), always, 2)
    assert names(found.shards) == [("web-0", ["a", "b"]), ("web-1", ["c", "d"])]


def test_a_file_that_left_stays_with_its_shard() -> None:
    before = known([shard("web-0", "a=1", "b=1"), shard("web-1", "c=1")])
    found = arranged([shard("web-0", "b=1")], before, always, 2)
    assert names(found.shards) == [("web-0", ["a", "b"]), ("web-1", ["c"])]
    assert [each.stored for each in found.shards] == ["documents/web@1/key web-0", "documents/web@1/key web-1"]
    assert found.gone == {"a", "c"}


def test_what_settings_do_not_choose_goes_and_the_rest_of_its_shard_is_read_again() -> None:
    found = arranged([shard("web-0", "b=1")], known([shard("web-0", "a=1", "b=1")]), lambda key: key != "a", 2)
    assert names(found.shards) == [("web-0", ["b"])]
    assert not found.gone


def test_a_changed_file_is_read_anew_and_what_had_left_its_shard_is_named() -> None:
    before = known([shard("web-0", "a=1", "b=1", "c=1")])
    found = arranged([shard("web-0", "b=2", "c=1")], before, always, 2)
    assert found.shards == [shard("web-0", "b=2", "c=1")]
    assert (found.gone, found.lost) == (set(), {"a"})


def test_a_file_that_is_cut_otherwise_stays_as_it_was_cut() -> None:
    before = known([shard("f-0", "f=1", span=(0, 5)), shard("f-1", "f=1", span=(5, 9))])
    found = arranged([shard("f-0", "f=1", span=(0, 9))], before, always, 2)
    assert [(each.name, each.parts[0].start, each.parts[0].end) for each in found.shards] == [
        ("f-0", 0, 5),
        ("f-1", 5, 9),
    ]
