"""The artifacts of a run: pictures above tables, in Prefect's UI and as files beside the run's record."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from prefect.artifacts import create_markdown_artifact

from flows import pictures
from flows.run import Run
from training import checkpoint, log


def key(name: str) -> str:
    """A name as Prefect's artifact keys must be: lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table; numbers get thousands' separators or three decimals."""
    lines = [header, ["---"] * len(header), *([_cell(value) for value in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value).replace("|", "\\|")


def _publish(run: Run, name: str, title: str, svg: str | None, body: str) -> None:
    picture = f"![{title}]({pictures.data_uri(svg)})\n\n" if svg else ""
    markdown = f"# {title}\n\n{picture}{body}\n"
    create_markdown_artifact(markdown, key=key(name), description=f"{title}, run {run.name}")
    if svg:
        run.store.commit(f"{run.folder}/{name}.svg", svg.encode())
    run.store.commit(
        f"{run.folder}/{name}.md", f"# {title}\n\n{f'![{title}]({name}.svg)' if svg else ''}\n\n{body}\n".encode()
    )


def corpus(run: Run) -> None:
    """Funnel and tokenizer, as far as the run came."""
    if found := run.record.get("funnel"):
        rows = [["in", found["in"]], ["kept", found["kept"]]]
        rows += [[f"dropped: {reason}", count] for reason, count in found["dropped"].items()]
        rows += [[f"quarantined: {reason}", count] for reason, count in found["quarantined"].items()]
        body = table(["", "records"], rows)
        sources = [[name, s["in"], s["kept"], sum(s["dropped"].values())] for name, s in found["sources"].items()]
        body += "\n\n" + table(["source", "in", "kept", "dropped"], sources)
        _publish(run, "funnel", "Funnel", pictures.funnel(found), body)
    if pin := run.pipeline.pins.get("tokenizer"):
        compression = {
            name: {"characters_per_token": found["characters"], "bytes_per_token": found["bytes"]}
            for name, found in pin["facts"]["compression"].items()
        }
        rows = [[name, *found.values()] for name, found in compression.items()]
        own = pin["ingredients"]["settings"]["kind"] != "file"
        where = ", on the sample it was learned from" if own else ""
        body = table(["channel", "characters per token", f"bytes per token{where}"], rows)
        _publish(run, "tokenizer", "Tokenizer", pictures.compression(compression), body)


def training(run: Run) -> None:
    """Mixture, channel losses and checkpoints, as far as the run came."""
    if "plan" in run.record:
        facts = run.plan_facts
        shares = mixture(facts)
        header = ["channel", "target share", "realised share", "tokens", "documents used", "epochs"]
        rows = [
            [
                name,
                f"{share['target']:.1%}",
                f"{share['realised']:.1%}",
                facts["channel_tokens"][name],
                documents_used(facts["usage"][name]),
                facts["usage"][name]["epochs"],
            ]
            for name, share in shares.items()
        ]
        phases = [
            [p["name"], p["first_step"], p["steps"], *(f"{p['weights'].get(name, 0.0):.1%}" for name in shares)]
            for p in facts["phases"]
        ]
        body = table(header, rows) + "\n\n" + table(["phase", "first step", "steps", *shares], phases)
        _publish(run, "mixture", "Mixture", pictures.mixture(shares), body)
    if summary := run.record.get("training"):
        folder = summary["run"]
        steps, held_out = (
            channel_losses(log.read(run.store, folder)),
            held_out_losses(log.read(run.store, folder, "held_out")),
        )
        rows = [[name, c["first"], c["last"], c["tokens"]] for name, c in summary["channels"].items()]
        body = "In training, nats per token:\n\n" + table(["channel", "first step", "last step", "tokens"], rows)
        values = ("first", "last", "tokens", "documents")
        rows = [[name, *(h.get(value) for value in values)] for name, h in summary["held_out"].items()]
        body += "\n\nHeld out, nats per token:\n\n"
        body += table(["channel", "first evaluation", "last evaluation", "tokens", "documents"], rows)
        _publish(run, "channel_losses", "Channel losses", pictures.channel_losses(steps, held_out), body)
        kept = ", ".join(f"{step:,}" for step in sorted(checkpoint.steps(run.store, folder)))
        rows = [["newest", summary["checkpoint"]], ["kept, by step", kept], ["exported model", summary["export"]]]
        _publish(run, "checkpoints", "Checkpoints", None, table(["what", "where"], rows))


def mixture(facts: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Channel -> target and realised share of tokens over all phases of a plan."""
    rows = sum(phase["rows"] for phase in facts["phases"])
    total = sum(facts["channel_tokens"].values())
    return {
        name: {
            "target": sum(phase["weights"].get(name, 0.0) * phase["rows"] for phase in facts["phases"]) / max(1, rows),
            "realised": facts["channel_tokens"].get(name, 0) / max(1, total),
        }
        for name in facts["channels"]
    }


def documents_used(usage: dict[str, Any]) -> str:
    """How many of a channel's documents the plan reads, of how many there are."""
    return f"{usage['documents'] - usage['counts'].get('0', 0):,} of {usage['documents']:,}"


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
