"""Which blocks of a page are its main text, by a linear model: a weight for each feature, and for each type of page.

The weights are learned by `benchmarks/extraction_weights.py` from pages whose main text is known, and belong to the
fingerprint of the documents that were chosen by them (`DIGEST`).
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tasks.extraction.features import FEATURES
from tasks.extraction.page_type import PageType

if TYPE_CHECKING:
    from data_specs.extract import Extractor

_FILE = Path(__file__).with_name("weights.json")
LIMIT = 5.0
"""Standard deviations beyond which a feature counts no more."""


def digest() -> str:
    """The digest of the weights."""
    return hashlib.sha256(_FILE.read_bytes()).hexdigest()


@cache
def _weights(extractor: Extractor) -> dict[str, np.ndarray]:
    """The mean and deviation of each feature, and for each type of page a weight for each and one for none."""
    found = json.loads(_FILE.read_text())
    if tuple(found["features"]) != FEATURES:
        raise ValueError(f"{_FILE.name} has other features: learn it again, benchmarks/extraction_weights.py")
    return {name: np.array(values, np.float32) for name, values in found["values"][extractor].items()}


def judged(features: np.ndarray, extractor: Extractor, kind: PageType) -> np.ndarray:
    """Of each block whether it belongs to the main text, as log odds above the threshold of its type of page."""
    known = _weights(extractor)
    standard = np.clip((features - known["mean"]) / known["deviation"], -LIMIT, LIMIT)
    return standard @ known[kind][:-1] + known[kind][-1]
