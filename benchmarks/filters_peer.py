"""datatrove's local executor from WARC files to kept documents, for `benchmarks/filters.py`.

`python -m benchmarks.filters_peer CRAWL TO TASKS WORKERS`: trafilatura as datatrove sets it (precision first), the
language filter at .65 of English, Gopher's filters, FineWeb's, and C4's last, as it rewrites the text that others would
judge. Three things are not as datatrove comes: the language model is the file that Sluice carries, since its own is
downloaded and asks for a distribution that breaks numpy 2; a page may take 10 s, as on a busy machine one second ends
ordinary ones; and the sandbox has a minute to start.
"""

from __future__ import annotations

import sys
from typing import Any

import fasttext
from datatrove.data import Document
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.extractors import Trafilatura
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.pipeline.filters.base_filter import BaseFilter
from datatrove.pipeline.readers import WarcReader
from datatrove.pipeline.writers import JsonlWriter
from datatrove.utils.lid import FT176LID

from benchmarks.filters_pages import LANGUAGE_SCORE
from data_specs import stages
from tasks.text.identification import model_file

STARTED = "the first record"


class Lid(FT176LID):
    """Of the model that Sluice carries."""

    _loaded: Any = None

    @property
    def model(self) -> Any:
        if self._loaded is None:  # in the worker that uses it
            self._loaded = fasttext.load_model(str(model_file(stages.Language())[0]))
        return self._loaded


class English(BaseFilter):
    """datatrove's language filter, which refuses to be without a distribution that is not needed."""

    name = "English"

    def __init__(self) -> None:
        super().__init__()
        self.model = Lid(["en"])

    def filter(self, doc: Document) -> bool:
        return self.model.predict(doc)[1]["en"] > LANGUAGE_SCORE


def main(crawl: str, to: str, tasks: str, workers: str) -> None:
    extractor = Trafilatura(timeout=10)
    pipeline = [
        WarcReader(crawl),
        extractor,
        English(),
        GopherRepetitionFilter(),
        GopherQualityFilter(),
        FineWebQualityFilter(),
        C4QualityFilter(),
        JsonlWriter(f"{to}/kept"),
    ]
    executor = LocalPipelineExecutor(pipeline, tasks=int(tasks), workers=int(workers), logging_dir=f"{to}/logs")
    print(STARTED, file=sys.stderr, flush=True)
    executor.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
