"""What readers hold records against: the addresses, domains, ids and texts that were taken down from a store."""

from __future__ import annotations

import posixpath
import unicodedata
from collections.abc import Iterable
from urllib.parse import unquote

from tasks.engine.takedowns import Takedowns, text_digest
from tasks.sources.url_lists import domains, split


class TakenDown:
    """The takedowns of a store, to be asked about records. A domain means every host below it. Addresses are compared
    as servers mostly take them, since a page that comes back under another spelling is worse than one that goes with
    it: without scheme, user, port, fragment, `www.` and slashes that stand double or at the end, with `..` followed,
    parameters in whatever order, and whether or not characters are written as `%C3%A9`."""

    def __init__(
        self,
        ids: Iterable[bytes] = (),
        urls: Iterable[str] = (),
        domains: Iterable[str] = (),
        texts: Iterable[str] = (),
    ) -> None:
        self.ids = frozenset(ids)
        self._addresses = frozenset(map(_spelled, urls))
        self._domains = frozenset(domains)
        self._texts = frozenset(texts)

    @classmethod
    def of(cls, found: Takedowns) -> TakenDown | None:
        """None where nothing was taken down."""
        return cls(found.ids, *map(found.named, ("urls", "domains", "texts"))) if found else None

    def names(self, url: str | None) -> bool:
        """Whether an address was taken down, or a domain that it is of."""
        return url is not None and (_spelled(url) in self._addresses or not self._domains.isdisjoint(domains(url)))

    def has(self, text: bytes) -> bool:
        """Whether this text was, at whatever address."""
        return bool(self._texts) and text_digest(text) in self._texts


def _spelled(url: str) -> str:
    """An address in one of its spellings."""
    host, rest = split(url)
    path, _, query = rest.partition("?")
    host = host.removeprefix("www.") if host.count(".") > 1 else host
    path = posixpath.normpath("/" + _plain(path)).strip("/")
    found = sorted(filter(None, map(_plain, query.replace("+", " ").split("&"))))
    return "\n".join([f"{host}/{path}", *found])


def _plain(part: str) -> str:
    """A part without percent signs. Bytes that are no UTF-8 stay apart: pages of old sites are named by them."""
    return unicodedata.normalize("NFC", unquote(part, errors="surrogateescape"))
