"""A small spec, and what loading says of its mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_specs.load import SpecError, load

SPECS = Path(__file__).parents[2] / "data_specs"

SMALL = """\
name: small
sources:
  pages: {kind: warc, paths: "crawl/*.warc.gz"}
  code: {kind: code, paths: ["a/**/*.py", "b/*.py"]}
stages:
  duplicates: {threshold: 0.7}
rules:
  - foreign: "language <> 'zh'"
  - low_quality: "quality < percentile(quality, 20)"
    where: "source = 'pages'"
channels:
  zh: "language = 'zh'"
  en: "language = 'en'"
mixture:
  tokens: 1.6M
  phases:
    - {until: 80%, weights: {zh: 1, en: 2}}
    - {until: 100%, weights: {zh: 1}, where: "quality > 0.5"}
training:
  steps: 10
  checkpoint: {every: 5 steps}
"""

GOPHER = """\
origin: Rae et al. 2021
where: "domain <> 'code'"
rules:
  - few_words: "words < 50"
  - short_words: "mean_word < 3"
    where: "language = 'en'"
"""


def mistakes(path: Path | str, *overrides: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        load(path, overrides)
    assert str(caught.value) == "\n".join(caught.value.mistakes)
    return list(caught.value.mistakes)


def changed(path: Path, old: str, new: str) -> list[str]:
    """Mistakes of the small spec with one text changed."""
    assert old in SMALL
    path.write_text(SMALL.replace(old, new, 1))
    return mistakes(path)
