"""A page of a corpus's duplicates: how large clusters are, what other thresholds would leave, the largest clusters, and
pairs near the threshold with their texts side by side; as a file, and as an artifact in Prefect's UI."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.artifacts import MarkdownArtifact

from data_specs.amounts import decimal, plural
from flows import pictures
from flows.artifacts import table
from flows.commands.duplicates import size_named
from flows.prefect_ui import key
from flows.terminal import cell, line, percent
from flows.word_diff import Piece

_MARKED = {"removed": "del", "added": "ins"}


@flow(name="duplicates", flow_run_name="duplicates {name}", persist_result=False)
def publish(name: str, page: str, path: str) -> None:
    """Write the page of a corpus, and show it."""
    Path(path).write_text(page, encoding="utf-8")
    artifact = MarkdownArtifact(markdown=page, key=key(name, "duplicates"), description=f"Duplicates of {name}")
    artifact.create(_sync=True)  # type: ignore[call-arg]


def page(
    name: str,
    summary: Mapping[str, Any],
    clusters: list[Any],
    pairs: list[Any],
    similarity: float,
    thresholds: Mapping[str, Any] | None = None,
) -> str:
    """Markdown. `summary`, `clusters`, `pairs` and `thresholds` are those of flows/commands/duplicates.py."""
    sizes = [[size_named(size), *counts] for size, *counts in summary["clusters"]]
    removed = [[f"{value:.2f} and more" if value < 1 else "1", count] for value, count in summary["removed"]]
    parts = [
        f"# Duplicates of {name}",
        table(["members", "clusters", "documents", "kept"], sizes),
        "Documents that were removed, by their similarity to the one that stays (1: copies, and the same shingles):",
        table(["similarity", "removed"], removed),
        *(_thresholds(thresholds) if thresholds else ()),
        f"## Pairs nearest to {similarity:g}",
        "Left the one text, right the other; struck through and underlined what only one of them has.",
        *(_pair(each, similarity) for each in pairs),
        "## The largest clusters",
        *(_cluster(each) for each in clusters),
    ]
    return "\n\n".join(parts) + "\n"


def _thresholds(found: Mapping[str, Any]) -> list[str]:
    """What other thresholds would leave, drawn and in numbers."""
    picture = pictures.data_uri(pictures.thresholds(found["rows"], found["threshold"]))
    rows = [[f"{row['threshold']:g}", percent(row["recall"]), row["documents"], row["tokens"]] for row in found["rows"]]
    return [
        "## Other thresholds",
        f"![What thresholds leave]({picture})",
        table(["threshold", "pairs right at it that are found", "documents", "tokens"], rows),
    ]


def side_by_side(found: Iterable[Piece]) -> str:
    """The pieces of two texts as a row of a table: left the one, right the other."""
    left, right = "", ""
    for kind, text in found:
        shown = f"<i>({plain(text)})</i>" if kind == "skipped" else plain(text)
        if tag := _MARKED.get(kind):
            shown = f"<{tag}>{shown}</{tag}>"
        left += shown if kind != "added" else ""
        right += shown if kind != "removed" else ""
    return f"| {left} | {right} |"


def plain(text: str) -> str:
    """A crawled text that Markdown and HTML take for nothing but text, on one line."""
    escaped = re.sub(r"[^\w\s]|_", lambda found: f"&#{ord(found[0])};", text)
    return re.sub(r"\s*[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]\s*", "<br>", escaped)


def _pair(found: Mapping[str, Any], similarity: float) -> str:
    shown = decimal(found["similarity"], 4, similarity) + ("" if found["similarity"] >= similarity else ", below")
    header = " | ".join(each[:12] for each in found["documents"])
    return f"{shown}\n\n| {header} |\n| --- | --- |\n{side_by_side(found['difference'])}"


def _cluster(found: Mapping[str, Any]) -> str:
    members = [
        [each["id"][:12], "kept" if each["kept"] else line(each["reason"]), each["similarity"], each["characters"]]
        for each in found["members"]
    ]
    addresses = [plain(each["url"] or each["file"]) for each in found["members"]]
    rows = [[*map(cell, member), url] for member, url in zip(members, addresses, strict=True)]
    more = found["documents"] - len(members)
    counts = f"{plural(found['documents'], 'document')}, {found['kept']:,} kept"
    counts += f"; {plural(more, 'is', 'are')} not shown" if more else ""
    return f"{counts}:\n\n{table(['document', 'outcome', 'similarity', 'characters', 'address or file'], rows)}"
