"""Questions with their answers, from Posts.xml of Stack Exchange's dumps: one document a question.

A record is a row. A range of a file holds the questions that begin in it; their answers may be anywhere, so the file is
gone through a second time for them, looking at no more than the number of a row's parent. Memory is that of a range:
of a question's answers the best `answers` are kept. Dropped are rows that are neither (`not_post`: wikis of tags,
moderators' elections), answers of a question that is not in the file (`no_question`), rows above `longest`
(`too_large`), and questions without text (`no_text`). Quarantined are lines that are no row (`not_xml`), and all of a
compressed file that cannot be read to its end (`truncated`, `unreadable`, `window`, `bomb`), as a question's answers
may be missing; a file in which the end of `<posts>` is not there has one record more that is `truncated`, one without a
row is `no_pages`.
"""

from __future__ import annotations

import hashlib
import heapq
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

from lxml import etree

from data_specs.sources import StackExchangeSource
from tasks.sources.base import Found, InputShard, Part, Reader, Records, ranged
from tasks.sources.compression import DamageError, named
from tasks.sources.fragments import plain
from tasks.sources.jsonl import lines, pass_blank
from tasks.sources.text import day

QUESTION, ANSWER = 1, 2
_NUMBER = re.compile(rb'[\s"](Id|PostTypeId|ParentId|Score)\s*=\s*"(-?[0-9]{1,18})"')
_FRAME = (b"<?xml", b"<!DOCTYPE", b"<posts", b"</posts", b"\xef\xbb\xbf<?xml")
"""How the lines around the rows begin."""
_ROOT = re.compile(rb"<(/?)posts\b[^<>]*>")
_TAG = re.compile(r"[^<>|]+")


@dataclass
class _Question:
    """A question, and of its answers the best, each with its score and its place in the file."""

    row: bytes
    offset: int
    answers: list[tuple[int, int, bytes]] = field(default_factory=list)
    known: set[int] = field(default_factory=set)
    """The numbers of these: in a file that was put together of two, they may come again."""


class StackExchangeReader(Reader):
    """Reads Posts.xml of Stack Exchange's dumps."""

    version = 6  # rows of tables are lines, and items of lists have their letters
    libraries: ClassVar[tuple[str, ...]] = ("lxml",)
    settings: StackExchangeSource
    _unended = False
    """Whether, in the lines that were read last, `<posts>` begins and does not end."""

    def shards(self, groups: int | None) -> tuple[list[InputShard], int]:
        files, size = self.listing.files(), self.settings.shard
        return [
            shard for file in files for shard in ranged(self.source, file, sys.maxsize if named(file.path) else size)
        ], 0

    def read_part(self, part: Part, records: Records) -> None:
        questions, orphans = dict[int, _Question](), dict[int, list[tuple[int, int]]]()
        rows, damage = 0, ""
        try:
            for offset, length, line in self._lines(part, part.start):
                if not named(part.path) and offset >= part.end:
                    break
                rows += 1
                self._row(offset, length, line, part, questions, orphans, records)
        except EOFError:
            damage = "truncated"
            records.quarantine(damage, part, 0)
        except DamageError as error:
            damage = error.reason
            records.quarantine(damage, part, 0, lost=max(0, part.end - error.at))
        else:
            if not rows and part.start == 0 and next(self._lines(part, 0), None) is None and not self._unended:
                records.quarantine("no_pages" if part.end else "empty_file", part, 0, part.end)
        if damage:  # a question's answers may be where it is, and what was read may be wrong
            rest = [(each.offset, len(each.row)) for each in questions.values()]
            for offset, length in sorted(rest + [place for places in orphans.values() for place in places]):
                records.quarantine(damage, part, offset, length)
            return
        self._answers(part, questions, orphans, records)
        if self._unended and part.start == 0:
            records.quarantine("truncated", part, 0)
        for question in questions.values():
            self._document(question, part, records)
        for places in orphans.values():
            for offset, length in places:
                records.drop("no_question", part, offset, length)

    def _lines(self, part: Part, start: int) -> Iterator[tuple[int, int, bytes | None]]:
        """Place, length and bytes of the lines that begin at or after `start` and may be rows; None for the bytes of
        one above `longest`."""
        longest, offset = self.settings.longest, max(0, start - 1)
        with lines(part.path, offset, self.settings.window) as stream:
            inside = start > 0
            self._unended = False
            while line := stream.readline(longest + 1):
                length, whole = len(line), line.endswith(b"\n") or len(line) <= longest
                while not whole and (more := stream.readline(2**20)):
                    length += len(more)
                    whole = more.endswith(b"\n")
                if root := _ROOT.findall(line):
                    self._unended = not root[-1]
                if line.isspace() and whole:
                    length += pass_blank(stream)
                elif not inside and not line.lstrip().startswith(_FRAME):
                    yield offset, length, line.strip() if length <= longest else None
                inside = False
                offset += length

    def _row(
        self,
        offset: int,
        length: int,
        line: bytes | None,
        part: Part,
        questions: dict[int, _Question],
        orphans: dict[int, list[tuple[int, int]]],
        records: Records,
    ) -> None:
        if line is None:
            return records.drop("too_large", part, offset, length)
        numbers = _numbers(line)
        if not numbers:
            return records.quarantine("not_xml", part, offset, length)
        kind = numbers.get("PostTypeId")
        if kind == QUESTION and numbers["Id"] not in questions:
            questions[numbers["Id"]] = _Question(line, offset)
        elif kind == ANSWER and "ParentId" in numbers:
            orphans.setdefault(numbers["ParentId"], []).append((offset, length))
        else:
            records.drop("not_post", part, offset, length)

    def _answers(
        self,
        part: Part,
        questions: dict[int, _Question],
        orphans: dict[int, list[tuple[int, int]]],
        records: Records,
    ) -> None:
        """Give questions their answers, and take from the orphans those whose question is in the file, and from the
        questions those whose number an earlier one in the file has."""
        for offset, _, line in self._lines(part, 0):
            numbers = _numbers(line or b"")
            if numbers.get("PostTypeId") == QUESTION:
                number = numbers["Id"]
                orphans.pop(number, None)
                if number in questions and offset < questions[number].offset:
                    again = questions.pop(number)
                    records.drop("not_post", part, again.offset, len(again.row))
            question = questions.get(numbers.get("ParentId", -1))
            score = numbers.get("Score", 0)
            if line is None or not question or numbers.get("PostTypeId") != ANSWER or score < self.settings.score:
                continue
            if numbers["Id"] in question.known:
                continue
            question.known.add(numbers["Id"])
            heapq.heappush(question.answers, (score, -offset, line))
            if len(question.answers) > self.settings.answers:
                *_, gone = heapq.heappop(question.answers)
                question.known.remove(_numbers(gone)["Id"])

    def _document(self, question: _Question, part: Part, records: Records) -> None:
        place = part, question.offset, len(question.row)
        asked = _attributes(question.row)
        if asked is None:
            return records.quarantine("not_xml", *place)
        answers = []
        for score, before, row in sorted(question.answers, reverse=True):
            answer = _attributes(row)
            if answer is None:
                records.quarantine("not_xml", part, -before, len(row))
            elif text := plain(answer.get("Body", "")):
                answers.append((score, text))
        own = {
            "score": _whole(asked.get("Score")),
            "answers": len(answers),
            "best_answer": answers[0][0] if answers else None,
            "tags": "|".join(_TAG.findall(asked.get("Tags", ""))) or None,
            "content_license": asked.get("ContentLicense"),
        }
        url = f"{self.settings.base.rstrip('/')}/questions/{asked['Id']}" if self.settings.base else None
        found = Found(*place, url, payload=question.row, columns=self.columns(own))
        answer_texts = [text for _, text in answers]
        date = day(asked.get("CreationDate"))
        records.by_address(found, partial(self._text, found, asked, answer_texts, records, dict(found.columns), date))

    def _text(
        self,
        found: Found,
        asked: Mapping[str, str],
        answers: list[str],
        records: Records,
        own: Mapping[str, Any],
        date: str | None,
    ) -> None:
        title, body = asked.get("Title", ""), plain(asked.get("Body", ""))
        parts = [f"Q: {title}\n\n{body}".strip() if title else f"Q: {body}"] if title or body else []
        parts += [f"A: {each}" for each in answers] if parts else []
        text = "\n\n".join(parts)
        place = found.part, found.offset, found.length, found.payload
        keep = partial(records.keep, *place, "text", text, url=found.url, own=own, title=title or None, date=date)
        records.by_text(found, text, keep)

    def reread(self, row: Mapping[str, Any]) -> bytes:
        found, path = b"", self.listing.path(row["file"])
        with suppress(EOFError, DamageError), lines(path, row["offset"], self.settings.window) as stream:
            found = stream.readline(self.settings.longest + 1).strip()
        if hashlib.sha256(found).hexdigest() != row["payload"]:
            raise self.changed(row)
        return found


def _numbers(line: bytes) -> dict[str, int]:
    """The numbers in a row's attributes; none of what is no row, or has no number of its own. In no value of XML is
    there a quotation mark, so none is taken for one."""
    found: dict[str, int] = {}
    if not line.startswith(b"<row"):
        return found
    for name, value in _NUMBER.findall(line):
        found.setdefault(name.decode(), int(value))
    return found if "Id" in found else {}


def _attributes(row: bytes) -> dict[str, str] | None:
    """The attributes of a row; None where it is no XML."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        return {str(name): str(value) for name, value in etree.fromstring(row, parser).attrib.items()}
    except etree.XMLSyntaxError:
        return None


def _whole(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch("-?[0-9]{1,18}", text) else None
