"""What a stage comes from: texts, which extraction made and stages rewrote, and columns, which others wrote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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


_OF_THE_CORPUS = frozenset({"held_out", "channel", "kept"})
"""Columns that say which documents are learned from, and change with every rule."""


def columns(corpus: KeyedCorpus, learned: Estimator) -> dict[str, str]:
    """The columns that something is learned from, and which stages write with settings: of each the folder, which is
    another where a stage makes other values. Without those whose stages wait for a pin."""
    names = [name for name in corpus.columns_read(learned, learned.inputs) if name not in _OF_THE_CORPUS]
    nodes = {name: corpus.node(corpus.provider[name]) for name in names if corpus.provider[name] != "documents"}
    return {name: corpus.folder(node.stage) for name, node in nodes.items() if node.ready}


def changed_columns(corpus: KeyedCorpus, pin: Mapping[str, Any], learned: Estimator) -> dict[str, str]:
    """Columns that a pin was learned from and that are made otherwise now, with the folder that each was in then;
    nothing of a pin that does not say."""
    now = columns(corpus, learned)
    return {name: folder for name, folder in pin.get("columns", {}).items() if now.get(name, folder) != folder}


def rewriting(corpus: KeyedCorpus) -> list[Node]:
    """The stages that rewrite text."""
    return [node for node in corpus.nodes if not isinstance(node.stage, Estimator) and node.stage.rewrites]
