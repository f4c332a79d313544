"""The artifacts of a run: pictures above tables, in Prefect's UI and as files beside the run's record."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_specs.redaction import escaped
from flows import pictures, prefect_ui, summary
from flows.commands import document as documents
from flows.record import SPIKES
from flows.run import Run
from flows.terminal import cell, line, percent
from tasks.storage.store import Store
from training import checkpoint, log

DIVERGED = {
    "spike": "its rows are not read again",
    "non_finite": "its rows are not read again",
    "left_out": "its update was left out",
}
"""Records of the log that say which steps diverged, and what became of them."""
EVENTS, ENDS = 20, 8
"""Of such steps the last are shown, and of each so many documents with the highest and the lowest loss."""


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *([cell(value).replace("|", "\\|") for value in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _publish(run: Run, name: str, title: str, svg: str | None, body: str) -> None:
    picture = f"![{title}]({pictures.data_uri(svg)})\n\n" if svg else ""
    prefect_ui.artifact(run, name, title, f"# {title}\n\n{picture}{body}\n")
    if svg:
        run.keep(f"{name}.svg", svg.encode())
    run.keep(f"{name}.md", f"# {title}\n\n{f'![{title}]({name}.svg)' if svg else ''}\n\n{body}\n".encode())


def corpus(run: Run) -> None:
    """Funnel and tokenizer, as far as the run came."""
    if found := run.record.get("funnel"):
        body = "\n\n".join([table(*summary.funnel(found)), *map(escaped, summary.damaged(found))])
        _publish(run, "funnel", "Funnel", pictures.funnel(found), body)
    if pin := run.pipeline.pins.get("tokenizer"):
        compression = {
            name: {"characters_per_token": found["characters"], "bytes_per_token": found["bytes"]}
            for name, found in pin["facts"]["compression"].items()
        }
        rows = [[name, *found.values()] for name, found in compression.items()]
        own = pin["ingredients"]["settings"]["kind"] != "file"
        body = table(["channel", "characters per token", "bytes per token"], rows)
        body += "\n\nOn the sample it was learned from." if own else ""
        _publish(run, "tokenizer", "Tokenizer", pictures.compression(compression), body)


def training(run: Run) -> None:
    """Mixture, channel losses and checkpoints, as far as the run came."""
    if "plan" in run.record:
        facts = run.plan_facts
        shares = summary.shares(facts)
        phases = [
            [p["name"], p["first_step"], p["steps"], *(percent(p["weights"].get(name, 0.0)) for name in shares)]
            for p in facts["phases"]
        ]
        body = table(*summary.mixture(facts)) + "\n\n" + table(["phase", "first step", "steps", *shares], phases)
        _publish(run, "mixture", "Mixture", pictures.mixture(shares), body)
    if trained := run.record.get("training"):
        folder = trained["run"]
        steps, held_out = (
            channel_losses(log.read(run.store, folder)),
            held_out_losses(log.read(run.store, folder, "held_out")),
        )
        header, rows = summary.losses(trained)
        body = "Losses in nats per token:\n\n" + table(header[:-1], [row[:-1] for row in rows])
        bits = [trained["held_out"].get(row[0], {}).get("bits_per_byte") for row in rows]  # of the last evaluation
        held = [[row[0], each, row[-1]] for row, each in zip(rows, bits, strict=True)]
        body += "\n\n" + table([header[0], "bits per byte", header[-1]], held)  # one table is wider than a page
        _publish(run, "channel_losses", "Channel losses", pictures.channel_losses(steps, held_out), body)
        _publish(run, "checkpoints", "Checkpoints", None, checkpoints(run, trained["export"], folder))


def spikes(run: Run) -> None:
    """The steps of its training that diverged, the last ones, and their documents with their own losses."""
    folder = run.training_folder()
    if folder is None or not run.store.exists(f"{folder}/run.json"):
        return
    logged = log.surviving(log.records(run.store, run.training_name))
    found = [record for record in logged if record["kind"] in DIVERGED][-EVENTS:]
    shown_of = {id(r): _ends(r.get("documents", [])) for r in found}  # an earlier version logged none
    known = documents.at(run.pipeline, [row for rows in shown_of.values() for row in rows])
    parts = []
    for record in found:
        rows = []
        for row in shown_of[id(record)]:
            document = known.get((row["file"], row["position"]), {})
            loss = "not finite" if row["loss"] is None else row["loss"]
            where = document.get("url") or document.get("read_from") or row["file"]
            rows.append([loss, row["tokens"], row["channel"], line(where), line(document.get("text"))])
        title = f"## Step {record['step']:,}: {escaped(record['reason'])}; {DIVERGED[record['kind']]}"
        parts.append(f"{title}\n\n{table(['loss', 'targets', 'channel', 'document', 'text'], rows)}")
    if parts:
        about = f"Losses in nats per token, the {ENDS} highest and the {ENDS} lowest of a step, as it met them."
        _publish(run, SPIKES, "Spikes", None, "\n\n".join([about, *parts]))


def _ends(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first and the last of documents by their losses."""
    return rows if len(rows) <= 2 * ENDS else rows[:ENDS] + rows[-ENDS:]


def checkpoints(run: Run, export: str, folder: str) -> str:
    """Every checkpoint by its step, and the exported model, each with what opens it."""
    steps = sorted(checkpoint.steps(run.store, folder), reverse=True)
    rows = [[step, f"`{address(run.store, checkpoint.path_of(folder, step))}`"] for step in steps]
    model = address(run.store, export)
    body = table(["step", "checkpoint"], rows) + "\n\nThe exported model, in transformers:\n\n```python\n"
    kind = auto_class(run.spec.model.architecture)
    body += f'{kind}.from_pretrained("{model}")\nAutoTokenizer.from_pretrained("{model}")\n```'
    return f"{body}\n\nA run of the same spec goes on from the newest that is whole."


def auto_class(architecture: str) -> str:
    """The class of transformers that opens an exported model as what it was trained as."""
    others = {"bert": "AutoModelForMaskedLM", "t5": "AutoModelForSeq2SeqLM"}
    return others.get(architecture, "AutoModelForCausalLM")


def address(store: Store, path: str) -> str:
    """What opens a file or folder of the store from anywhere: its absolute path, or its URL."""
    local = store.local(path)
    return f"{store.url.rstrip('/')}/{path}" if local is None else str(Path(local).absolute())


def channel_losses(steps: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Log records of steps -> {"step", "channels": {channel: loss}} for the picture."""
    return [
        {"step": record["step"], "channels": {name: loss for name, (loss, _) in record["channels"].items()}}
        for record in steps
    ]


def held_out_losses(evaluations: Sequence[dict[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    """Log records of evaluations -> channel -> (step, loss)."""
    found: dict[str, list[tuple[int, float]]] = {}
    for record in evaluations:
        for name, loss in record["losses"].items():
            found.setdefault(name, []).append((record["step"], loss))
    return found
