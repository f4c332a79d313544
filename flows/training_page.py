"""Channel losses in Prefect's UI while a training runs: one page that is written anew at intervals.

It is drawn in the process of the flow, from the records that the training's log brings there; of that process's time it
takes at most one part in a hundred, whatever a picture costs.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any

import httpx
from prefect.artifacts import MarkdownArtifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate
from prefect.exceptions import PrefectException

from flows import artifacts, pictures, prefect_ui
from flows.run import Run
from flows.terminal import percent
from training import log

EVERY = 15.0
"""Seconds between two pages, at least."""
SHARE = 100
"""Times what a page took that pass until the next."""
BITS = 5
"""The column of bits per byte, which are not known of every training."""
MOST = 2000
"""Steps that a picture is drawn of; of more, every second is left out."""


class LiveLosses:
    """What the page of a run says of its training."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.entries: list[dict[str, Any]] = []
        self.thinned = 1
        self.evaluations: deque[log.Record] = deque(maxlen=MOST)
        self.step: log.Record | None = None
        self.losses: log.Record | None = None
        self.stall = 0.0
        self.artifact: Any = None
        self.due = 0.0

    def __call__(self, record: log.Record) -> None:
        """A record of the log; where a page is due, it is written."""
        if record["kind"] == "start":
            self._take_back(record["step"])
        elif record["kind"] == "step":
            self.step = record
            if record["step"] % self.thinned == 0:
                self.entries += artifacts.channel_losses([record])
            if len(self.entries) > MOST:
                self.thinned, self.entries = 2 * self.thinned, self.entries[::2]
        elif record["kind"] == "losses":
            self.losses = record
        elif record["kind"] == "held_out":
            self.evaluations.append(record)
        elif record["kind"] == "checkpoint":
            self.stall += record["stall"]
        if self.step and time.monotonic() > self.due:
            began = time.monotonic()
            self._publish()
            now = time.monotonic()
            self.due = now + max(EVERY, SHARE * (now - began))

    def _take_back(self, step: int) -> None:
        """Forget what was said of later steps, which are taken again."""
        self.entries = [each for each in self.entries if each["step"] <= step]
        self.evaluations = deque((each for each in self.evaluations if each["step"] <= step), MOST)
        self.step, self.losses = (each if each and each["step"] <= step else None for each in (self.step, self.losses))

    def _publish(self) -> None:
        page = self.page()
        try:
            if self.artifact is None:
                self.artifact = MarkdownArtifact(
                    markdown=page,
                    key=prefect_ui.key(self.run.spec.name, "training"),
                    description=f"Channel losses of {self.run.spec.name}, run {self.run.name}, while it trains",
                    flow_run_id=prefect_ui.page(),
                ).create(_sync=True)  # type: ignore[call-arg]
            else:
                client = get_client(sync_client=True)
                client.update_artifact(self.artifact.id, ArtifactUpdate(data=page))
        except (httpx.HTTPError, PrefectException) as error:
            prefect_ui.warn(f"the page of channel losses could not be written ({error}); it is tried again")

    def page(self) -> str:
        """Markdown."""
        if self.step is None:
            return ""
        held_out = artifacts.held_out_losses(list(self.evaluations))
        picture = pictures.data_uri(pictures.channel_losses(self.entries, held_out))
        rows = []
        for name, (loss, _) in self.step["channels"].items():
            window, total = (self._means(kind, name) for kind in ("window", "total"))
            last = held_out.get(name, [(0, None)])[-1][1]
            of_window = [window.get(measure) for measure in ("loss", "perplexity", "bits_per_byte")]
            tokens = None if self.losses is None else int(total.get("tokens", 0))
            rows.append([name, tokens, loss, *of_window, total.get("loss"), last])
        header = ["channel", "tokens", "last step", "last 100 steps", "their perplexity", "their bits per byte"]
        header += ["all steps", "held out"]
        if all(row[BITS] is None for row in rows):
            header, *rows = ([*row[:BITS], *row[BITS + 1 :]] for row in (header, *rows))
        body = artifacts.table(header, rows)
        about = [
            f"step {self.step['step']:,} of {self.run.plan_facts['steps']:,}",
            f"{self.step['tokens_per_second']:,.0f} tokens/s",
        ]
        about += [f"{percent(self.step['mfu'])} of the device's peak"] if self.step.get("mfu") else []
        about += [f"waits for rows {percent(self.step['loader'] / self.step['seconds'])} of a step"]
        about += [f"{self.step['memory'] / 2**20:,.0f} MiB", f"{self.stall:.1f} s stalled by checkpoints"]
        if self.losses and self.losses["step"] < self.step["step"]:
            about += [f"tokens and means of steps are those after step {self.losses['step']:,}"]
        return f"# Training\n\n{'; '.join(about)}.\n\n![Channel losses]({picture})\n\n{body}\n"

    def _means(self, kind: str, name: str) -> dict[str, float]:
        found: dict[str, float] = self.losses[kind][""].get(name, {}) if self.losses else {}
        return found
