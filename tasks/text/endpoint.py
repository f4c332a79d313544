"""Questions to an OpenAI-compatible endpoint: many at a time, asked again where no answer came, each answer kept.

Kept is what was read off an answer, by the name of its question; never what was asked. The key comes from the
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any

from data_specs.amounts import plural
from data_specs.endpoint import Asking
from data_specs.redaction import redacted
from tasks.engine.purge import ANSWERS
from tasks.engine.stage import digest
from tasks.storage.manifest import Manifest
from tasks.storage.store import Store

KEEP = 50
"""Answers after which they are kept."""
FIRST_WAIT = 1.0
"""Seconds before a question is asked again; then twice as many, and so on up to a minute."""
_LATER = frozenset({408, 409, 425, 429})
"""Statuses, beside those of a server's own faults, after which a question is worth asking again."""
_LONGEST = 2**22
"""Bytes of an answer that are read."""


class EndpointError(RuntimeError):
    """An endpoint refuses, or fails too often; the message says what to do, and holds no key."""


class _NoAnswerError(Exception):
    """A question without an answer, and of which kind that is."""


def sent_of(text: str, characters: int) -> str:
    """What names the leading characters of a text that are sent: how many there are at most, and their digest."""
    return f"{characters}-{hashlib.sha256(text[:characters].encode()).hexdigest()[:32]}"


def is_of(sent: str, text: str) -> bool:
    """Whether what was sent is of this text. A document's id says where it stands, as in a file, where another text may
    stand later: what was said of the one is not of the other."""
    return sent_of(text, int(sent.partition("-")[0])) == sent


@dataclass(frozen=True)
class Question:
    """What is asked, in the form of the interface, and what is kept beside the answer."""

    messages: Sequence[Mapping[str, str]]
    about: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Reply:
    """An answer: what was said, and whether that is all of it."""

    text: str
    whole: bool


@dataclass
class Asked:
    """What came of some questions."""

    answers: dict[str, Any] = field(default_factory=dict)
    """By the names of questions, of those whose answers could be read."""
    asked: int = 0
    before: int = 0
    """Questions that an earlier run had answered."""
    retries: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    tokens: list[int] = field(default_factory=lambda: [0, 0])
    cost: float = 0.0

    def facts(self) -> dict[str, Any]:
        """How many questions, failures by kind, retries and tokens, and what these cost. JSON."""
        return {
            "asked": self.asked,
            "answered_before": self.before,
            "failures": dict(sorted(self.failures.items())),
            "retries": self.retries,
            "tokens": {"prompt": self.tokens[0], "answer": self.tokens[1]},
            "cost": round(self.cost, 6),
        }


class Endpoint:
    """What a stage of a spec asks."""

    def __init__(
        self,
        settings: Asking,
        label: str,
        store: Store | None,
        about: Mapping[str, Any],
        kept_as: str,
        read: Callable[[Reply], Any],
        **more: Any,
    ) -> None:
        """`about`: what shapes answers beside question and endpoint: those to others are kept apart. `read`: an answer
        -> what is kept of it, as `kept_as`; None where it cannot be read. `more`: parameters of every request."""
        self.settings, self.label, self.kept_as, self.read, self.more = settings, label, kept_as, read, more
        about = {**about, "endpoint": redacted(settings.endpoint.rstrip("/"))}  # where another model may be called so
        self.kept = Manifest(store, f"{ANSWERS}/{digest(about)[:16]}") if store else None
        self._key = os.environ.get(settings.key_from, "")

    def ask(self, questions: Mapping[str, Question]) -> Asked:
        """Ask what was not answered before; questions by the names under which answers are kept. Raises
        EndpointError."""
        found = Asked()
        known: dict[str, Any] = {}
        for entry in self.kept.entries() if self.kept else ():
            if entry.get("removed"):
                known.pop(entry["key"], None)
            else:
                known[entry["key"]] = entry[self.kept_as]
        due = {}
        for name, question in questions.items():
            if name in known:
                found.before += 1
                self._take(found, name, known[name])
            else:
                due[name] = question
        for entries in self._answers(due, found):
            if self.kept:
                self.kept.append(entries)
        failed = sum(found.failures.values())
        if failed > self.settings.failures * len(questions):
            kinds = ", ".join(f"{count:,} {kind}" for kind, count in found.failures.most_common())
            raise EndpointError(
                f"stages.{self.label}: {failed:,} of {plural(len(questions), 'question')} failed ({kinds}); answers "
                f"are kept: run again, or raise `failures`"
            )
        price = self.settings.price
        found.cost = (found.tokens[0] * price.prompt + found.tokens[1] * price.answer) / 1e6
        return found

    @staticmethod
    def _take(found: Asked, name: str, value: Any) -> None:
        if value is None:
            found.failures["unreadable"] += 1
        else:
            found.answers[name] = value

    def _answers(self, due: Mapping[str, Question], found: Asked) -> Iterator[list[dict[str, Any]]]:
        """Answers, some at a time, to be kept; those so far where the endpoint refuses."""
        entries: list[dict[str, Any]] = []
        pool = ThreadPoolExecutor(self.settings.at_once)
        try:
            waiting = {pool.submit(self._one, question, found): name for name, question in due.items()}
            for done in as_completed(waiting):
                name = waiting[done]
                found.asked += 1
                try:
                    value, tokens = done.result()
                except _NoAnswerError as error:
                    found.failures[str(error)] += 1
                    continue
                found.tokens = [a + b for a, b in zip(found.tokens, tokens, strict=True)]
                self._take(found, name, value)
                entries.append({"key": name, self.kept_as: value, **due[name].about})
                if len(entries) == KEEP:
                    yield entries
                    entries = []
        finally:
            pool.shutdown(cancel_futures=True)
            if entries and self.kept:
                self.kept.append(entries)

    def _one(self, question: Question, found: Asked) -> tuple[Any, tuple[int, int]]:
        """What is read off the answer, and the tokens of question and answer. Raises _NoAnswerError, or EndpointError
        where no question would be answered."""
        wait = FIRST_WAIT
        for attempt in range(1, self.settings.attempts + 1):
            try:
                return self._answer(self._sent(question))
            except urllib.error.HTTPError as error:
                with error:
                    message = self._shown(error.read(2000).decode("utf-8", "replace"))
                    later = error.headers.get("Retry-After", "")
                if error.code < 500 and error.code not in _LATER:
                    if error.code in (400, 413, 422):
                        raise _NoAnswerError(f"status_{error.code}") from None
                    raise EndpointError(
                        f"stages.{self.label}.endpoint: {redacted(self.settings.endpoint)} answers {error.code} "
                        f"({message}); is {self.settings.key_from} set, and `model` one of its models?"
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

    def _shown(self, body: str) -> str:
        """What a server said, in one line, without the key."""
        text = body.replace(self._key, "***") if self._key else body
        return redacted(" ".join(text.split())[:200])

    def _sent(self, question: Question) -> dict[str, Any]:
        """Ask, and read the answer. Raises OSError, HTTPException or ValueError where there is none."""
        asked = {"model": self.settings.model, "messages": question.messages, "temperature": self.settings.temperature}
        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        url = f"{self.settings.endpoint.rstrip('/')}/chat/completions"
        request = urllib.request.Request(url, json.dumps(asked | self.more).encode(), headers)
        with _OPENER.open(request, timeout=self.settings.timeout) as answer:
            return json.loads(answer.read(_LONGEST))

    def _answer(self, answer: dict[str, Any]) -> tuple[Any, tuple[int, int]]:
        """What is read off an answer, and the tokens. Raises ValueError for what is none."""
        try:
            choice = answer["choices"][0]
            said = choice["message"]["content"] or ""
            if not isinstance(said, str):
                raise TypeError("what was said is no text")
            reply = Reply(said, choice.get("finish_reason") != "length")
            used = answer.get("usage") or {}
            tokens = int(used.get("prompt_tokens") or 0), int(used.get("completion_tokens") or 0)
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise ValueError("no answer of this interface") from error
        return self.read(reply), tokens


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A key is sent to the endpoint alone."""

    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)
