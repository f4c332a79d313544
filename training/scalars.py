"""What a record of the log says as named numbers, as TensorBoard, W&B and MLflow show them: `loss/en`, `speed/mfu`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from training.channel_sums import perplexity

STEP = {
    "loss": "train/loss",
    "grad_norm": "train/grad_norm",
    "lr": "train/learning_rate",
    "tokens_per_second": "speed/tokens_per_second",
    "mfu": "speed/mfu",
    "seconds": "speed/seconds_per_step",
    "loader": "speed/seconds_of_loader",
    "memory": "memory/bytes",
    "straggling": "speed/slowest_rank_over_median",
}
"""Field of a step's record -> what it is called."""
KINDS = {"window": "last_100_steps", "total": "all_steps"}


def scalars(record: Mapping[str, Any]) -> dict[str, float]:
    """Name -> value of what a record has; nothing of what is null or not finite."""
    return {name: float(value) for name, value in _pairs(record) if value is not None and math.isfinite(value)}


def _pairs(record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    if record["kind"] == "step":
        for field, name in STEP.items():
            yield name, record.get(field)
        if record.get("loss") is not None:
            yield "train/perplexity", perplexity(record["loss"])
        for column, values in {"channel": record.get("channels", {}), **record.get("by", {})}.items():
            for value, (loss, _) in values.items():
                yield f"loss/{column}/{value}", loss
    elif record["kind"] == "losses":
        for kind, called in KINDS.items():
            for column, values in record[kind].items():
                for value, means in values.items():
                    for name in ("loss", "perplexity", "bits_per_byte"):
                        yield f"{called}/{name}/{column or 'channel'}/{value}", means.get(name)
    elif record["kind"] == "held_out":
        for column, values in {"channel": record["losses"], **record.get("by", {})}.items():
            for value, loss in values.items():
                yield f"held_out/{column}/{value}", loss
        for name, bits in record.get("bits_per_byte", {}).items():
            yield f"held_out/bits_per_byte/{name}", bits
        for name, means in record.get("sets", {}).items():
            for measure in ("loss", "perplexity", "bits_per_byte"):
                yield f"sets/{measure}/{name}", means.get(measure)
    elif record["kind"] == "checkpoint":
        yield "speed/seconds_of_checkpoint_stall", record["stall"]
        yield "speed/seconds_of_checkpoint_written", record.get("written")
