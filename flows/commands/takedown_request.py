"""What is to be taken down, as a command and its lists name it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_specs.load import SpecError
from tasks.engine.hosts import split
from tasks.engine.takedowns import Takedowns
from tasks.sources.taken_down import TakenDown
from tasks.sources.url_lists import address

_ID = re.compile("[0-9a-fA-F]{32}")
_HOST = re.compile(r"[^\s.]+(?:\.[^\s.]+)+|\[[0-9a-f:.]+\]")


@dataclass(frozen=True)
class Asked:
    """What is to be taken down."""

    urls: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    """Whole ids, hexadecimal."""
    only: bool = False
    """Whether near-copies stay."""

    def json(self) -> dict[str, Any]:
        return {"urls": [*self.urls], "domains": [*self.domains], "ids": [*self.ids], "only": self.only}

    def known(self, before: Takedowns) -> bool:
        """Whether all of it stands in takedowns already."""
        ids = {found for each in before.all for found in (*each["asked"]["ids"], *each["ids"])}
        return (
            {*self.urls} <= {*before.named("urls")}
            and {*self.domains} <= {*before.named("domains")}
            and {*self.ids} <= ids
        )

    def unmet(self, before: Takedowns, found: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """What names none of the documents that were found, by id, and none that went before: mistyped, or not crawled
        yet."""
        gone = [url for each in before.all for url in each["urls"]]
        urls = {*gone, *(each["url"] for each in found.values() if each["url"])}
        ids = {*found, *(name for each in before.all for name in each["ids"])}
        asked = [(each, TakenDown(urls=[each])) for each in self.urls]
        asked += [(each, TakenDown(domains=[each])) for each in self.domains]
        unmet = [each for each, named in asked if not any(map(named.names, urls))]
        return unmet + [each for each in self.ids if each not in ids]


def asked(
    urls: Sequence[str], domains: Sequence[str], ids: Sequence[str], lists: Sequence[str], only: bool
) -> Asked | None:
    """What a command names; None where it names nothing. Raises SpecError for what is no id, URL or domain."""
    found: dict[str, set[str]] = {"urls": set(), "domains": set(), "ids": set()}
    given = [("urls", each, "--url") for each in urls]
    given += [("domains", each, "--domain") for each in domains]
    given += [("ids", each, "--id") for each in ids]
    for kind, each, where in (*given, *(line for name in lists for line in _lines(name))):
        found[kind].add(_meant(kind, each, where))
    if not any(found.values()):
        return None
    in_order = {kind: tuple(sorted(each)) for kind, each in found.items()}
    return Asked(in_order["urls"], in_order["domains"], in_order["ids"], only)


def _lines(name: str) -> Iterator[tuple[str, str, str]]:
    """What each line of a list names, of which kind it is, and where it stands."""
    try:
        lines = Path(name).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError([f"--list: {name} cannot be read: {error}"]) from None
    for number, line in enumerate(map(str.strip, lines), 1):
        if line and not line.startswith("#"):
            kind = "ids" if _ID.fullmatch(line) else "urls" if "/" in line else "domains"
            yield kind, line, f"--list {name}:{number}"


def _meant(kind: str, given: str, where: str) -> str:
    """An id, URL or domain as it is compared. Raises SpecError where it is none."""
    if kind == "ids":
        if not _ID.fullmatch(given):
            meant = "32 hexadecimal digits, as `sluice inspect` shows them"
            raise SpecError([f"{where}: {given!r} is no whole id: {meant}"])
        return given.lower()
    if kind == "urls":
        if not ("." in (to := address(given)) or to.startswith("[")) or to != to.rstrip():
            raise SpecError([f"{where}: {given!r} is no address"])
        return given
    host, rest = split(given.removeprefix("*.").removeprefix("."))
    if not _HOST.fullmatch(host) or rest or "@" in given:
        other = "an address is taken by --url" if where == "--domain" else "nor an address, nor a whole id"
        raise SpecError([f"{where}: {given!r} is no domain, such as example.org; {other}"])
    return host
