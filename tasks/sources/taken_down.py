"""What readers hold records against: the addresses, domains, ids and texts that were taken down from a store."""

from __future__ import annotations

from collections.abc import Iterable

from tasks.engine.takedowns import Takedowns, text_digest
from tasks.sources.url_lists import address, domains


class TakenDown:
    """The takedowns of a store, to be asked about records. Addresses are compared as lists of URLs are: without scheme,
    fragment and the slash at the end; a domain means every host below it."""

    def __init__(
        self,
        ids: Iterable[bytes] = (),
        urls: Iterable[str] = (),
        domains: Iterable[str] = (),
        texts: Iterable[str] = (),
    ) -> None:
        self.ids = frozenset(ids)
        self._addresses = frozenset(map(address, urls))
        self._domains = frozenset(domains)
        self._texts = frozenset(texts)

    @classmethod
    def of(cls, found: Takedowns) -> TakenDown | None:
        """None where nothing was taken down."""
        return cls(found.ids, *map(found.named, ("urls", "domains", "texts"))) if found else None

    def names(self, url: str | None) -> bool:
        """Whether an address was taken down, or a domain that it is of."""
        return url is not None and (address(url) in self._addresses or not self._domains.isdisjoint(domains(url)))

    def has(self, text: bytes) -> bool:
        """Whether this text was, at whatever address."""
        return bool(self._texts) and text_digest(text) in self._texts
