"""What a text is about, as a vector: the mean of an encoder's last layer, of length one. Any folder of Hugging Face's
whose model was trained for that will do, such as those of sentence-transformers; nothing of it is run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_specs import stages
from data_specs.document import SpecError
from tasks.engine.stage import Stage
from tasks.scoring.encoder import LIBRARIES, Scorer, check_files, folder_files, given

DECIMALS = 3
"""A value hangs on its neighbours in the last digits of a float; a cosine moves by less than .001 by this."""


class Embedding(Stage):
    """`embedding`: the vector of a text, of length one, its numbers rounded; null for a text without a visible
    character. On a GPU where the stage's `gpus` reserve one."""

    name, version = "embedding", 1
    libraries = LIBRARIES
    reads = ("text",)
    settings: stages.Embedding

    def __init__(self, settings: stages.Embedding) -> None:
        """Raises SpecError where there is no such folder."""
        super().__init__(settings, folder_files(settings))
        self.where = settings.where
        config = json.loads((Path(settings.model).expanduser().resolve() / "config.json").read_text())
        size = config.get("hidden_size") or config.get("d_model") or config.get("dim")
        if not size:
            raise SpecError(f"stages.{settings.kind}.model: {settings.model} says nowhere how wide its layers are")
        self.writes = pa.schema([("embedding", pa.list_(pa.float32(), size))])

    def hashed_settings(self) -> dict[str, Any]:
        return self.settings.model_dump(mode="json", include={"tokens", "prefix"})

    def setup(self) -> None:
        """Raises SpecError where the folder is not what the run began with."""
        from transformers import AutoModel

        self.scorer = Scorer(self.settings, *given(self.settings, AutoModel), None)
        check_files(self.settings, self.files)

    def __call__(self, batch: pa.Table) -> pa.Table:
        rows = np.flatnonzero(pc.not_equal(pc.utf8_trim_whitespace(batch["text"]), "").to_numpy())
        texts = [self.settings.prefix + text for text in batch["text"].take(pa.array(rows)).to_pylist()]
        size = self.writes.field("embedding").type.list_size
        found = np.zeros((batch.num_rows, size), np.float32)
        if texts:
            means = self.scorer.means(texts)
            lengths = np.linalg.norm(means, axis=1, keepdims=True)
            found[rows] = np.round(means / np.maximum(lengths, 1e-9), DECIMALS) + np.float32(0)  # and no -0
        nothing = np.ones(batch.num_rows, bool)
        nothing[rows] = False
        column = pa.FixedSizeListArray.from_arrays(pa.array(found.ravel()), size, mask=pa.array(nothing))
        return pa.table([column], schema=self.writes)
