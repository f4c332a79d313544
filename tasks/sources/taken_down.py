"""What readers hold records against: the addresses, domains, ids and texts that were taken down from a store."""

from __future__ import annotations

from collections.abc import Iterable

from tasks.engine.takedowns import Takedowns, text_digest
from tasks.sources.canonical_url import canonical_url
from tasks.sources.url_lists import domains


class TakenDown:
    """The takedowns of a store, to be asked about records. A domain means every host below it. Addresses are compared
    by their canonical spelling, since a page that comes back under another is worse than one that goes with it."""

    def __init__(
        self,
        ids: Iterable[bytes] = (),
        urls: Iterable[str] = (),
        domains: Iterable[str] = (),
        texts: Iterable[str] = (),
    ) -> None:
        self.ids = frozenset(ids)
        self._addresses = frozenset(map(canonical_url, urls))
        self._domains = frozenset(domains)
        self._texts = frozenset(texts)

    @classmethod
    def of(cls, found: Takedowns) -> TakenDown | None:
        """None where nothing was taken down."""
        return cls(found.ids, *map(found.named, ("urls", "domains", "texts"))) if found else None

    def names(self, url: str | None) -> bool:
        """Whether an address was taken down, or a domain that it is of."""
        return url is not None and (canonical_url(url) in self._addresses or not self._domains.isdisjoint(domains(url)))

    def has(self, text: bytes) -> bool:
        """Whether this text was, at whatever address."""
        return bool(self._texts) and text_digest(text) in self._texts
