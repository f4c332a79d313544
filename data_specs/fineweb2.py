"""FineWeb-2's configuration of a language (Penedo et al. 2025) as a file of rules.

    python -m data_specs.fineweb2 configs/jpn_Jpan.yml --language ja > rules/fineweb2_ja.yaml

The 1,929 configurations lie in the repository `huggingface/fineweb-2`; what its pipeline adds to each (FineWeb's
duplicates at a tenth, Gopher's words, symbols, bullets and ellipses as they are) is added here. `--language` is what
the stage `language` writes: by lid.176 `ja`, by GlotLID, whose scores the configuration means, `jpn_Jpan`. Rules end in
it, so those of several languages go together. The stop words stand at the top, for `stages.signals.stop_words`.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field, ValidationError

from data_specs.base import Settings

Limits = Annotated[list[tuple[int, float]], Field(min_length=1)]
"""Words of an n-gram, and the largest share of it."""


class Configuration(Settings):
    """A file of `configs/`."""

    language_score: float
    dup_line_frac: float
    top_n_grams: Limits
    dup_n_grams: Limits
    line_punct_thr: float
    new_line_ratio: float
    min_avg_word_length: float
    max_avg_word_length: float
    max_non_alpha_words_ratio: float
    """Smallest share of words with a letter, whatever its name says."""
    stopwords: list[str]


def expressions(found: Configuration) -> dict[str, str]:
    """Name of a rule, without the language -> when it drops; in the order of FineWeb-2's pipeline."""
    return {
        "foreign": f"language_score < {found.language_score:g}",
        "duplicate_lines": f"duplicate_line_share > {found.dup_line_frac:g}",
        **{f"top_{n}gram": f"top_{n}gram_share > {most:g}" for n, most in found.top_n_grams},
        **{f"duplicate_{n}grams": f"duplicate_{n}gram_share > {most:g}" for n, most in found.dup_n_grams},
        "unpunctuated": f"punctuated_line_share < {found.line_punct_thr:g}",
        "duplicates": "fineweb_duplicate_character_share > 0.1",
        "list": f"newline_word_ratio > {found.new_line_ratio:g}",
        "short": "words < 50",
        "long": "words > 100000",
        "short_words": f"mean_word_length < {found.min_avg_word_length:g}",
        "long_words": f"mean_word_length > {found.max_avg_word_length:g}",
        "hashes": "hash_word_ratio > 0.1",
        "ellipses": "ellipsis_word_ratio > 0.1",
        "bullet_lines": "bullet_line_share > 0.9",
        "ellipsis_lines": "ellipsis_line_share > 0.3",
        "not_alphabetic": f"alphabetic_word_share < {found.max_non_alpha_words_ratio:g}",
        "stop_words": "stop_words < 2",
    }


def written(found: Configuration, name: str, language: str) -> str:
    """The file of rules of a configuration, `name` as in `cmn_Hani`."""
    suffix = re.sub(r"\W", "_", language.lower())
    words = json.dumps({language: found.stopwords}, ensure_ascii=False)
    rules = "".join(f'  - fineweb2_{rule}_{suffix}: "{drop}"\n' for rule, drop in expressions(found).items())
    return (
        f"# stages: {{signals: {{stop_words: {words}}}}}\n"
        f"origin: Penedo et al. 2025 (FineWeb-2), configuration {name}, counts as in datatrove's filters\n"
        f"where: \"language = '{language}'\"\n\nrules:\n{rules}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configuration", type=Path)
    parser.add_argument("--language", help="as the stage `language` writes it; by default the file's name")
    given = parser.parse_args()
    try:
        found = Configuration.model_validate(yaml.safe_load(given.configuration.read_bytes()))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        parser.error(f"{given.configuration} is no configuration of FineWeb-2: {error}")
    print(written(found, given.configuration.stem, given.language or given.configuration.stem), end="")


if __name__ == "__main__":
    main()
