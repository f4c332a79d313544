"""No message says `1 files`: where a count stands before what is counted, `plural` says both."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

COUNTED = re.compile(
    r" (?:\w+ )?(?:characters|columns|documents|files|jobs|matches|outputs|pieces|questions|records|rows"
    r"|shards|steps)\b"
)
ROOT = Path(__file__).parents[1]


def spelled(file: Path) -> Iterator[str]:
    """Places of a file where a count that may be one stands before many."""
    for node in ast.walk(ast.parse(file.read_text())):
        values = node.values if isinstance(node, ast.JoinedStr) else []
        for value, text in pairwise(values):
            if isinstance(value, ast.FormattedValue) and isinstance(text, ast.Constant) and COUNTED.match(text.value):
                counts = value.format_spec is not None or ast.unparse(value.value).startswith(("len(", "sum(", "int("))
                if counts and not ast.unparse(value.value).isupper():
                    yield f"{file.relative_to(ROOT)}:{node.lineno} {ast.unparse(value)}{text.value[:30]}"


@pytest.mark.parametrize("package", ["data_specs", "tasks", "training", "flows"])
def test_what_is_counted_is_one_or_many(package: str) -> None:
    assert [place for file in sorted((ROOT / package).rglob("*.py")) for place in spelled(file)] == []
