"""A classifier learned from a file of labelled texts, as a flow: its model, facts, and a page with its confusion."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
from prefect import flow
from prefect.artifacts import MarkdownArtifact

from data_specs.amounts import decimal
from data_specs.document import SpecError
from flows.artifacts import table
from flows.prefect_ui import key, without_traceback
from flows.terminal import percent
from tasks.scoring import labelled
from tasks.scoring.labelled import DEV, TEST, Rows


@flow(name="learn", flow_run_name="learn {to}", persist_result=False)
@without_traceback
def learn(
    to: str,
    train: str,
    dev: str | None = None,
    test: str | None = None,
    text: str = "text",
    label: str = "label",
    url: str | None = None,
    rename: dict[str, str] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Learn a classifier, and show what it does with texts that it never saw."""
    facts = learned(to, train, dev, test, text, label, url, rename or {}, seed)
    page = MarkdownArtifact(
        markdown=card(Path(to).stem, facts), key=key(Path(to).stem, "classifier"), description=f"Classifier {to}"
    )
    page.create(_sync=True)  # type: ignore[call-arg]
    return facts


def learned(
    to: str,
    train: str,
    dev: str | None,
    test: str | None,
    text: str,
    label: str,
    url: str | None,
    rename: Mapping[str, str],
    seed: int,
) -> dict[str, Any]:
    """Write `to`, which ends in .bin, and beside it its facts as .json and as a page, .md. Where no files are given to
    choose by and to test with, parts of `train` are held back; of files that are given, nothing is learned from a text
    that stands in them (`left_out`). Raises SpecError for files that are none such."""
    path = Path(to)
    if path.suffix != ".bin":
        raise SpecError(f"{to}: a model's name ends in .bin")
    given, test_rows = _part(train, test, TEST, text, label, url, rename, seed)
    lessons = labelled.without(given, test_rows)
    if dev:
        dev_rows = labelled.without(_renamed(labelled.read(dev, text, label, url), rename), test_rows)
        lessons = labelled.without(lessons, dev_rows)
    left_out = len(given) - len(lessons)
    if not dev:
        lessons, dev_rows = labelled.split(lessons, DEV, seed + 1)
    data, facts = labelled.learn(lessons, dev_rows, test_rows, seed)
    facts |= {"left_out": left_out} if left_out else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.with_suffix(".json").write_bytes(orjson.dumps(facts, option=orjson.OPT_INDENT_2))
    path.with_suffix(".md").write_text(card(path.stem, facts))
    return facts


def _part(
    train: str,
    other: str | None,
    share: float,
    text: str,
    label: str,
    url: str | None,
    rename: Mapping[str, str],
    seed: int,
) -> tuple[Rows, Rows]:
    rows = _renamed(labelled.read(train, text, label, url), rename)
    if other is None:
        return labelled.split(rows, share, seed)
    return rows, _renamed(labelled.read(other, text, label, url), rename)


def _renamed(rows: Rows, names: Mapping[str, str]) -> Rows:
    return [(text, url, names.get(label, label)) for text, url, label in rows]


def card(name: str, facts: Mapping[str, Any]) -> str:
    """What was learned, as a page of Markdown."""
    labels, test = facts["labels"], facts["test"]
    confusion = [[f"**{label}**", *row] for label, row in zip(labels, test["confusion"], strict=True)]
    tried = [[*(each[setting] for setting in each)] for each in facts["tried"]]
    each = []
    for place, label in enumerate(labels):
        right, given = test["confusion"][place][place], sum(row[place] for row in test["confusion"])
        truly, curve = sum(test["confusion"][place]), test["auc"][label]
        each.append([label, truly, _share(right, truly), _share(right, given), "" if curve is None else decimal(curve)])
    counts = ", ".join(f"{count:,} to {part}" for part, count in facts["documents"].items())
    if left_out := facts.get("left_out"):
        counts += f"; {left_out:,} to train with are left out, as they are among the others"
    if apart := facts["documents"]["test"] - sum(map(sum, test["confusion"])):
        counts += f"; {apart:,} to test count as wrong, as they have no word, or a label that none to train with has"
    return "\n\n".join(
        [
            f"# Classifier {name}",
            f"Accuracy {decimal(test['accuracy'])} on texts that it never saw. Texts: {counts}.",
            table(["label", "texts", "found", "precision", "area under the curve"], each),
            "Confusion: a row is what texts are, a column what they were taken for.",
            table(["", *labels], confusion),
            "Settings that were tried, and their accuracy on the texts to choose by:",
            table([*facts["tried"][0]], tried),
        ]
    )


def _share(part: int, whole: int) -> str:
    return percent(part / whole) if whole else ""
