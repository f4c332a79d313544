"""What sites allow: the `robots.txt` that a crawl stored, asked about addresses (RFC 9309).

Of each host the newest answer counts: its rules, or, where there is none (404, 410, ...), that all is allowed. An error
of the server, and a redirect, is no answer. Rules are read and matched by protego, of what is put before it: the
groups of the agents that are asked for and of `*`, so many bytes and lines at most, as anyone may have written them.
"""

from __future__ import annotations

import re
import sys
import zlib
from collections.abc import Iterable, Sequence
from functools import lru_cache

from protego import Protego

from tasks.engine.hosts import LONGEST, split
from tasks.extraction import http
from tasks.sources import archive
from tasks.sources.compression import named
from tasks.sources.files import steady

LIBRARY = "protego"
"""The distribution whose version shapes what is allowed."""
_BYTES = 500 * 2**10
"""Of a file that are read: what RFC 9309 asks for at least."""
_RULES = 10_000
"""Lines of it, at most."""
_BODY = 4 * 2**20
"""Bytes of a response, decoded or not; a larger one is no answer."""
_HOSTS = 1024
"""Whose rules are kept ready."""
_ROBOTS = re.compile(r"^[a-z]+://[^/?#]*/robots\.txt$", re.IGNORECASE)
_PORT = re.compile(r"^[a-z][a-z0-9+.-]*://[^/?#]*:(\d{1,5})(?:[/?#]|$)", re.IGNORECASE)
_DIRECTIVE = re.compile(
    r"[ \t]*+(?:(?P<agent>user[- ]?agent)|(?P<allow>allow)|(?P<disallow>diss?al+[oa]w|diasllow)"
    r"|(?P<site>site-?maps?|host)|(?P<other>[\w -]{1,40}))[ \t]*+(?::|[ \t])[ \t]*+(?P<value>[^#]*+)",
    re.IGNORECASE,
)


class Robots:
    """The rules of hosts, for some agents."""

    def __init__(self, paths: Iterable[str], agents: Sequence[str]) -> None:
        """`paths`: WARC files with responses of `robots.txt` among others; of two on one day the later counts. Raises
        OSError where one cannot be read."""
        self._agents = [agent.lower() for agent in agents]
        self._rules: dict[str, tuple[str, bytes]] = {}
        """Host -> day, and its rules, compressed; none where all is allowed."""
        for path in paths:
            self._read(path)
        self._ready = lru_cache(_HOSTS)(self._parsed)

    def __len__(self) -> int:
        return len(self._rules)

    def allowed(self, url: str) -> bool | None:
        """Whether each of the agents may fetch an address; None where its host gave no answer."""
        host = _host(url)
        if host not in self._rules:
            return None
        rules = self._ready(host)
        if rules is None:
            return True
        rest = split(url)[1].encode(errors="replace").decode()
        place = f"http://host/{rest.removeprefix('/')}"
        return all(rules.can_fetch(place, agent) for agent in self._agents)

    def _read(self, path: str) -> None:
        with steady(path) as file:
            for record in archive.records(file, 0, sys.maxsize, _BODY + http.HEAD, named(path)):
                if not isinstance(record, archive.Record) or not _ROBOTS.match(record.url):
                    continue
                text = _answer(record)
                host, day = _host(record.url), record.date or ""
                if text is not None and day >= self._rules.get(host, ("",))[0]:
                    rules = reduced(text, self._agents)
                    self._rules[host] = (day, zlib.compress(rules.encode(), 1) if rules else b"")

    def _parsed(self, host: str) -> Protego | None:
        packed = self._rules[host][1]
        return Protego.parse(zlib.decompress(packed).decode()) if packed else None


def _host(url: str) -> str:
    """Host and port of an address; those of http and https are the same."""
    port = _PORT.match(url[:LONGEST])
    return split(url)[0] + (f":{port[1]}" if port and port[1] not in ("80", "443") else "")


def _answer(record: archive.Record) -> str | None:
    """The rules that a record gives, empty where all is allowed; None where it is no answer."""
    response = http.parse(record.block) if record.kind == "response" else http.Response(200, {}, record.block)
    if response is None or record.length > len(record.block):
        return None
    if 400 <= response.status < 500 and response.status != 429:
        return ""
    if not response.ok:
        return None
    try:
        body = http.decoded(response, _BODY)
    except http.TooLargeError:
        return None
    return body[:_BYTES].decode("utf-8-sig", "replace").replace("\0", "")


def reduced(text: str, agents: Sequence[str]) -> str:
    """The lines of a `robots.txt` that decide about some agents (lower case), in plain form; empty where none does.
    Groups of other agents are of one that nobody is, so that a file of thousands of agents costs what its lines do. An
    agent may be written with its version, and several in one line (`CCBot/2.0, GPTBot`)."""
    lines: list[str] = []
    named: set[str] = set()
    rules = 0
    for line in text.splitlines():
        found = _DIRECTIVE.match(line)
        if not found or found["site"]:
            continue
        value = found["value"].strip()
        if found["agent"]:
            if lines and not lines[-1].startswith("User-agent"):
                named.clear()
            for part in value.split(","):
                agent = _agent(part.partition("/")[0].strip(), agents)
                if agent not in named:
                    named.add(agent)
                    lines.append(f"User-agent: {agent}")
        elif found["allow"] or found["disallow"]:
            rules += bool(value)
            lines.append(f"{'Allow' if found['allow'] else 'Disallow'}: {value}")
        elif lines and lines[-1].startswith("User-agent"):
            lines.append("x: 1")  # it ends what the agents before it are
        if len(lines) >= _RULES:
            break
    return "\n".join(lines) if rules else ""


def _agent(name: str, agents: Sequence[str]) -> str:
    """What an agent is called in the plain form: those that are not asked for have one name."""
    plain = name.lower().replace("*", "") or name[:1]
    return plain if plain == "*" or any(plain and plain in each for each in agents) else "-"
