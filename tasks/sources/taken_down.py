"""What readers hold records against: the addresses, domains, ids and texts that were taken down from a store."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from urllib.parse import unquote

from tasks.engine.takedowns import Takedowns, text_digest
from tasks.sources.url_lists import address, domains


class TakenDown:
    """The takedowns of a store, to be asked about records. Addresses are compared as lists of URLs are: without scheme,
    port, fragment and the slash at the end; and moreover whether or not characters of them are written as `%C3%A9`. A
    domain means every host below it."""

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
    """An address in one of its spellings. Bytes that are no UTF-8 stay apart: pages of old sites are named by them."""
    found = unquote(address(url), errors="surrogateescape")
    return unicodedata.normalize("NFC", found).removesuffix("?").rstrip("/")
