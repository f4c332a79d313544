"""Kinds: code, Markdown and LaTeX are told from prose, on real files and pages, and prose stays prose."""

from __future__ import annotations

import gzip
import json
import sysconfig
from pathlib import Path

import pyarrow as pa
import pytest

from tasks.scoring.kind import KINDS, recognised

ENGLISH = (
    "The following example shows how a loop is written. It prints the numbers below ten, one on each line, and is the "
    "shortest program of this chapter; later chapters return to it more than once, with other conditions and bodies."
)
CHINESE = 4 * (
    "下面的例子说明怎样写一个循环。它把小于十的数字逐行打印出来，是本章最短的程序，"
    "以后各章还会多次回到这个例子，并换用别的条件。"
)
PYTHON = """import sys


def count(limit):
    for number in range(limit):
        print(number)
    return limit


count(10)
"""
C = """#include <stdio.h>

int main(void)
{
    for (int i = 0; i < 10; i++) {
        printf("%d\\n", i);
    }
    return 0;
}
"""
MARKDOWN = f"""# Loops

{ENGLISH}

## An example

```python
{PYTHON}```

See [the manual](https://example.org/loops).
"""
LATEX = f"""\\documentclass{{article}}
\\begin{{document}}
\\section{{Loops}}
{ENGLISH}
\\begin{{itemize}}
\\item one
\\item two \\cite{{knuth}}
\\end{{itemize}}
\\end{{document}}
"""
CONFIGURATION = """# The port to listen on
# (80 by default)
Listen 80

## Modules
# Load what is needed
LoadModule rewrite
"""
STEPS = """Wash the rice;
soak it for an hour;
bring the water to a boil;
add the rice and stir;
lower the heat and wait.
"""


def kinds(texts: list[str], said: str = "text") -> list[str | None]:
    return recognised(
        pa.chunked_array([texts], pa.string()), pa.chunked_array([[said] * len(texts)], pa.string())
    ).to_pylist()


def lines(path: Path, count: int) -> list[str]:
    with gzip.open(path, "rt") as file:
        return [json.loads(line)["text"] for line, _ in zip(file, range(count), strict=False)]


def share(texts: list[str], kind: str) -> float:
    return sum(found == kind for found in kinds(texts)) / len(texts)


def test_tells_code_markdown_and_latex_from_their_lines() -> None:
    assert kinds([PYTHON, C, MARKDOWN, LATEX]) == ["code", "code", "markdown", "latex"]


@pytest.mark.parametrize(
    "text", [ENGLISH, CHINESE, STEPS * 3, CONFIGURATION, f"{ENGLISH}\n{PYTHON}{ENGLISH}\n", f"{CHINESE}\n{C}{CHINESE}"]
)
def test_prose_stays_prose_also_around_examples_and_remarks(text: str) -> None:
    assert kinds([text, text.replace("\n", "\n\n")]) == [None, None]


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_source_said_is_believed(kind: str) -> None:
    assert kinds([ENGLISH, PYTHON, ""], kind) == [kind] * 3


def test_a_text_is_judged_alone_whatever_its_batch() -> None:
    texts = ["", PYTHON, "\n\n", ENGLISH, MARKDOWN, LATEX, "x", C, CONFIGURATION, "# only a title"]
    assert kinds(texts) == [kinds([text])[0] for text in texts]
    parts = pa.chunked_array([texts[:3], [], texts[3:]], pa.string())
    assert recognised(parts, pa.chunked_array([["html"] * len(texts)])).to_pylist() == kinds(texts)
    assert kinds([]) == []


def test_hostile_texts_are_judged() -> None:
    texts = ["{" * 10**6, "{\n" * 10**5, "# " * 10**5, "](" * 10**5, "\\begin{" * 10**5, "\n" * 10**6, "**a" * 10**5]
    assert set(kinds(texts)) <= {None, *KINDS}


def test_most_files_of_the_standard_library_are_code() -> None:
    folder = Path(sysconfig.get_path("stdlib"))
    files = sorted(path for name in (".", "json", "email", "http", "asyncio") for path in folder.glob(f"{name}/*.py"))
    texts = [text for path in files if len(text := path.read_text(errors="replace")) > 1000]
    assert len(texts) > 100
    assert share(texts, "code") > 0.85


def test_fewer_than_one_page_of_prose_in_500_is_taken_for_anything_else(shared: Path) -> None:
    prose = lines(shared / "labels" / "weborganizer_dclm_pages.jsonl.gz", 3000)
    for name in ("en_brown_15genres", "en_wikitext2_valid_test", "zh_wiki_cmrc2018", "zh_classical_5M"):
        prose += lines(shared / "text" / f"{name}.jsonl.gz", 400)
    found = kinds(prose, "html")
    assert sum(kind is not None for kind in found) < len(prose) / 500


def test_chinese_markdown_is_markdown(shared: Path) -> None:
    assert share(lines(shared / "text" / "zh_algorithms_oiwiki.jsonl.gz", 300), "markdown") > 0.9
    assert share(lines(shared / "text" / "zh_recipes.jsonl.gz", 300), "markdown") > 0.9
