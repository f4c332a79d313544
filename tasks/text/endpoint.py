"""Questions to an OpenAI-compatible endpoint: many at a time, asked again where no answer came, each answer kept.

Kept is the number, never what was asked or said: by a digest of model, rubric and text. The key comes from the
environment and goes into a header alone; what a server says of it is not repeated.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any

from data_specs import stages
from data_specs.redaction import redacted
from tasks.engine.stage import digest
from tasks.storage.manifest import Manifest
from tasks.storage.store import Store

FORM = 'End with one line of the form "score: N", where N is a number from {lowest:g} to {highest:g}.'
_SCORE = re.compile(r"score\W{0,4}(-?\d+(?:\.\d+)?)", re.IGNORECASE)
_ALONE = re.compile(r"\s*(-?\d+(?:\.\d+)?)\s*\.?\s*")
KEEP = 50
"""Answers after which they are kept."""
FIRST_WAIT = 1.0
"""Seconds before a question is asked again; then twice as many, and so on up to a minute."""
_LATER = frozenset({408, 409, 425, 429})
"""Statuses, beside those of a server's own faults, after which a question is worth asking again."""


class EndpointError(RuntimeError):
    """An endpoint refuses, or fails too often; the message says what to do, and holds no key."""


class _NoAnswerError(Exception):
    """A question without an answer, and of which kind that is."""


@dataclass
class Asked:
    """What came of some questions."""

    numbers: list[list[float]]
    """Of each text, the numbers it was given."""
    asked: int = 0
    before: int = 0
    """Questions that an earlier run had answered."""
    retries: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    tokens: list[int] = field(default_factory=lambda: [0, 0])
    cost: float = 0.0


class Endpoint:
    """What a spec's `judge` asks."""

    def __init__(self, settings: stages.Judge, label: str, store: Store | None) -> None:
        self.settings, self.label = settings, label
        self.system = f"{settings.rubric.strip()}\n\n{FORM.format(lowest=settings.lowest, highest=settings.highest)}"
        about = {"model": settings.model, "system": self.system, "temperature": settings.temperature}
        self.kept = Manifest(store, f"answers/{digest(about)[:16]}") if store else None
        self._key = os.environ.get(settings.key_from, "")

    def ask(self, texts: Sequence[str]) -> Asked:
        """Ask about each text, as often as the spec says. Raises EndpointError."""
        found = Asked([[] for _ in texts])
        known = {entry["key"]: entry["number"] for entry in self.kept.entries()} if self.kept else {}
        questions: dict[str, list[int]] = {}
        for place, text in enumerate(texts):
            for vote in range(self.settings.votes):
                questions.setdefault(self._name(text, vote), []).append(place)
        due = []
        for name, places in questions.items():
            if name in known:
                found.before += 1
                self._take(found, places, known[name])
            else:
                due.append((name, places))
        for entries in self._answers(texts, due, found):
            if self.kept:
                self.kept.append(entries)
        failed = sum(found.failures.values())
        if failed > self.settings.failures * len(questions):
            kinds = ", ".join(f"{count:,} {kind}" for kind, count in found.failures.most_common())
            raise EndpointError(
                f"stages.{self.label}: {failed:,} of {len(questions):,} questions failed ({kinds}); answers are kept: "
                f"run again, or raise `failures`"
            )
        price = self.settings.price
        found.cost = (found.tokens[0] * price.prompt + found.tokens[1] * price.answer) / 1e6
        return found

    @staticmethod
    def _name(text: str, vote: int) -> str:
        return f"{hashlib.sha256(text.encode()).hexdigest()[:32]}-{vote}"

    @staticmethod
    def _take(found: Asked, places: Sequence[int], number: float | None) -> None:
        if number is None:
            found.failures["unreadable"] += 1
            return
        for place in places:
            found.numbers[place].append(number)

    def _answers(
        self, texts: Sequence[str], due: Sequence[tuple[str, list[int]]], found: Asked
    ) -> Iterator[list[dict[str, Any]]]:
        """Answers, some at a time, to be kept; those so far where the endpoint refuses."""
        entries: list[dict[str, Any]] = []
        pool = ThreadPoolExecutor(self.settings.at_once)
        try:
            waiting = {pool.submit(self._one, texts[places[0]], found): (name, places) for name, places in due}
            for done in as_completed(waiting):
                name, places = waiting[done]
                found.asked += 1
                try:
                    number, tokens = done.result()
                except _NoAnswerError as error:
                    found.failures[str(error)] += 1
                    continue
                found.tokens = [a + b for a, b in zip(found.tokens, tokens, strict=True)]
                self._take(found, places, number)
                entries.append({"key": name, "number": number})
                if len(entries) == KEEP:
                    yield entries
                    entries = []
        finally:
            pool.shutdown(cancel_futures=True)
            if entries and self.kept:
                self.kept.append(entries)

    def _one(self, text: str, found: Asked) -> tuple[float | None, tuple[int, int]]:
        """The number that a text is given, None where the answer has none, and the tokens of question and answer.
        Raises _NoAnswerError, or EndpointError where no question would be answered."""
        wait = FIRST_WAIT
        for attempt in range(1, self.settings.attempts + 1):
            try:
                return self._answer(self._sent(text))
            except urllib.error.HTTPError as error:
                with error:
                    said = self._said(error.read(2000).decode("utf-8", "replace"))
                    later = error.headers.get("Retry-After", "")
                if error.code < 500 and error.code not in _LATER:
                    if error.code in (400, 413, 422):
                        raise _NoAnswerError(f"status_{error.code}") from None
                    raise EndpointError(
                        f"stages.{self.label}.endpoint: {redacted(self.settings.endpoint)} answers {error.code} "
                        f"({said}); is {self.settings.key_from} set, and `model` one of its models?"
                    ) from None
                kind = f"status_{error.code}"
                wait = max(wait, float(later)) if re.fullmatch(r"\d{1,3}", later) else wait
            except (TimeoutError, urllib.error.URLError, http.client.HTTPException, OSError):
                kind = "unreachable"
            except ValueError:
                kind = "not_json"
            if attempt < self.settings.attempts:
                found.retries += 1
                time.sleep(wait)
                wait = min(2 * wait, 60)
        raise _NoAnswerError(kind)

    def _said(self, body: str) -> str:
        """What a server said, in one line, without the key."""
        text = body.replace(self._key, "***") if self._key else body
        return redacted(" ".join(text.split())[:200])

    def _sent(self, text: str) -> dict[str, Any]:
        """Ask, and read the answer. Raises OSError, HTTPException or ValueError where there is none."""
        messages = [{"role": "system", "content": self.system}, {"role": "user", "content": text}]
        asked = {"model": self.settings.model, "messages": messages, "temperature": self.settings.temperature}
        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        url = f"{self.settings.endpoint.rstrip('/')}/chat/completions"
        request = urllib.request.Request(url, json.dumps(asked).encode(), headers)
        with _OPENER.open(request, timeout=self.settings.timeout) as answer:
            return json.loads(answer.read(2**20))

    def _answer(self, answer: dict[str, Any]) -> tuple[float | None, tuple[int, int]]:
        """The number in an answer, where it is one of the scale, and the tokens. Raises ValueError for what is none."""
        try:
            said = answer["choices"][0]["message"]["content"] or ""
            used = answer.get("usage") or {}
            tokens = int(used.get("prompt_tokens") or 0), int(used.get("completion_tokens") or 0)
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise ValueError("no answer of this interface") from error
        scores = _SCORE.findall(said) or ([alone[1]] if (alone := _ALONE.fullmatch(said)) else [])
        number = float(scores[-1]) if scores else None
        fits = number is not None and self.settings.lowest <= number <= self.settings.highest
        return number if fits else None, tokens


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A key is sent to the endpoint alone."""

    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)
