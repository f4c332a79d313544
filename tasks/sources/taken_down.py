"""What readers hold records against: the addresses, domains, ids and texts that were taken down from a store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tasks.engine.takedowns import Takedowns, text_digest
from tasks.sources.canonical_url import NOTHING, canonical_url
from tasks.sources.url_lists import domains
from tasks.text import units


class TakenDown:
    """The takedowns of a store, to be asked about records. A domain means every host below it. Addresses are compared
    by their canonical spelling, since a page that comes back under another is worse than one that goes with it; one of
    which nothing is left so is that of no page."""

    def __init__(
        self,
        ids: Iterable[bytes] = (),
        urls: Iterable[str] = (),
        domains: Iterable[str] = (),
        texts: Iterable[str] = (),
        words: Iterable[str] = (),
        payloads: Mapping[bytes, frozenset[str]] | None = None,
    ) -> None:
        """`payloads`: of ids those of the records that went, where they are known."""
        self.ids = frozenset(ids)
        self._payloads = payloads or {}
        self._addresses = frozenset(map(canonical_url, urls)) - {NOTHING}
        self._domains = frozenset(domains)
        self._texts = frozenset(texts)
        self._words = frozenset(words)

    @classmethod
    def of(cls, found: Takedowns) -> TakenDown | None:
        """None where nothing was taken down."""
        if not found:
            return None
        urls, domains, texts, words = map(found.named, ("urls", "domains", "texts", "words"))
        return cls(found.ids, urls, domains, texts, words, found.payloads)

    def other_at(self, name: bytes, payload: str) -> bool:
        """Whether a record of this payload, at the place of one that was taken down, is known to be another one."""
        return payload not in self._payloads.get(name, (payload,))

    def names(self, url: str | None) -> bool:
        """Whether an address was taken down, or a domain that it is of."""
        return url is not None and (canonical_url(url) in self._addresses or not self._domains.isdisjoint(domains(url)))

    @property
    def by_text(self) -> bool:
        """Whether any text was taken down at whatever address."""
        return bool(self._texts or self._words)

    def has(self, text: str, kind: str) -> bool:
        """Whether this text was, at whatever address: to the letter, or, where it is no code, but for case, spacing and
        punctuation."""
        if self._texts and text_digest(text.encode()) in self._texts:
            return True
        return bool(self._words) and words_digest(text, kind) in self._words

    def knows(self, text: str | None, words: str | None) -> bool:
        """The same by the digests of a text, as far as they are known."""
        return text in self._texts or words in self._words


def words_digest(text: str, kind: str) -> str | None:
    """What tells a text by its words, as the stage `exact` does where symbols do not count; None of code, where they
    do, and of a text without words."""
    [found] = units.digests([text])
    return found.hex() if found and kind != "code" else None
