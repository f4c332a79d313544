"""Which texts a stage comes from: those that extraction made, and those that stages rewrote."""

from __future__ import annotations

from tasks.engine.keyed import KeyedCorpus
from tasks.engine.nodes import Node
from tasks.engine.stage import Estimator, Fingerprinted

EXTRACTED = frozenset({"text", "title", "date", "author", "site"})
"""Columns of documents that extraction makes."""


def texts(corpus: KeyedCorpus, stage: Estimator | Fingerprinted) -> list[str]:
    """The folders of what made the texts that a stage reads, or that led to what it reads: of each source's documents,
    and of stages that rewrite text. They change with the settings that those were made with."""
    found: set[str] = set()
    seen: set[str] = set()
    waiting = [stage.read_from(role) for role in stage.inputs]
    while waiting:
        name = waiting.pop()
        provider = corpus.provider[name]
        if name in EXTRACTED and provider == "documents":
            found.update(corpus.documents_folder(source) for source in corpus.readers)
        elif provider != "documents" and provider not in seen:
            seen.add(provider)
            node = corpus.node(provider)
            if node.stage.rewrites:
                found.add(corpus.folder(node.stage))
            waiting.extend(node.inputs)
    return sorted(found)


def rewriting(corpus: KeyedCorpus) -> list[Node]:
    """The stages that rewrite text."""
    return [node for node in corpus.nodes if not isinstance(node.stage, Estimator) and node.stage.rewrites]
