"""Files with one entry a line that settings name."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from data_specs.document import SpecError
from tasks.text.lists import lines_of


def test_lines_are_read_plain_or_packed_without_comments(tmp_path: Path) -> None:
    path = tmp_path / "list"
    for data in (b"# said\none\ntwo\n", gzip.compress(b"# said\none\ntwo\n")):
        path.write_bytes(data)
        assert [*lines_of(str(path), "x")] == [(2, "one"), (3, "two")]


def test_a_file_that_is_damaged_anywhere_is_said_to_be_no_text(tmp_path: Path) -> None:
    path, whole = tmp_path / "list", gzip.compress(bytes(range(32, 127)) * 3)
    for place in range(len(whole)):
        if place in range(3, 10):  # the header's, of which nobody asks
            continue
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        with pytest.raises(SpecError, match=r"stages.x: .* is no text in UTF-8, plain or .gz"):
            [*lines_of(str(path), "stages.x")]
