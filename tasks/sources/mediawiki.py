"""Articles from dumps of MediaWiki (Wikipedia and its sisters): one document a page, its text without markup.

A record is a `<page>`. Dropped are pages of other namespaces than the articles' (`namespace`), those that lead on to
another (`redirect`), whose content is no wikitext (`not_wikitext`: styles, data), above the limit (`too_large`), and of
which no text is left (`no_text`). Quarantined are pages that are no XML (`not_xml`) or break off (`truncated`), and
what of a file cannot be decompressed (`truncated`, `unreadable`, `window`, `bomb`); a file that breaks off between two
pages, as the end of the dump's element is not there, has one record that is `truncated`, one without a page is
`no_pages`, one without a byte `empty_file`. Of several revisions the last counts.
"""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, ClassVar
from urllib.parse import quote

from lxml import etree

from data_specs.sources import MediawikiSource
from tasks.sources import dump
from tasks.sources.base import Found, InputShard, Part, Reader, Records, ranged
from tasks.sources.dump import Element
from tasks.sources.text import day
from tasks.sources.wikitext import plain

TAG, ROOT = "page", "mediawiki"
_SITE = re.compile(r"<(sitename|base)>([^<]{1,500})</\1>")
_NAMESPACE = re.compile(r'<namespace key="(6|14)"[^<>]*>([^<]{1,200})</namespace>')
_REDIRECT = re.compile(
    r"\s*#(?:redirect|redirection|redirección|redireccion|redirecionamento|redireciona|rinvia|rinvio|weiterleitung|"
    r"doorverwijzing|omdirigering|ohjaus|uudelleenohjaus|patrz|przekieruj|přesměruj|presmeruj|preusmjeri|preusmeritev|"
    r"yönlendirme|yönlendir|átirányítás|redirecteaza|birzuzendu|alidirektu|suuna|alih|đổi|перенаправление|перенапр|"
    r"перенаправлення|пренасочване|виж|преусмери|ανακατευθυνση|تحويل|تغییرمسیر|تغییر_مسیر|הפניה|重定向|重新導向|転送|"
    r"リダイレクト|넘겨주기|เปลี่ยนทาง|पुनर्प्रेषित|अनुप्रेषित|পুনর্নির্দেশ|வழிமாற்று)\s*:?\s*\[\[",
    re.IGNORECASE,
)
"""How a page that leads on to another begins in a dump that says so in no element: MediaWiki's words in the languages
of large Wikipedias."""


@dataclass(frozen=True)
class Site:
    """What the header of a dump says."""

    name: str | None = None
    base: str | None = None
    """Address that a title is appended to."""
    files: frozenset[str] = frozenset()
    categories: frozenset[str] = frozenset()
    """Names of the namespaces of pictures and of categories, lower case."""
    root: str = ""
    """The element that pages are in, where the file begins with it."""

    @classmethod
    def of(cls, head: str) -> Site:
        about = {name: html.unescape(value) for name, value in _SITE.findall(head)}
        spaces: dict[str, set[str]] = {"6": set(), "14": set()}
        for key, name in _NAMESPACE.findall(head):
            spaces[key].add(html.unescape(name).lower())
        base, slash, _ = about.get("base", "").rpartition("/")
        root = ROOT if re.search(rf"<{ROOT}\b", head) else ""
        web = base.startswith(("http://", "https://"))
        files, categories = frozenset(spaces["6"]), frozenset(spaces["14"])
        return cls(about.get("sitename"), base + slash if web else None, files, categories, root)

    def url(self, title: str) -> str | None:
        """The address of a page."""
        return self.base and self.base + quote(title.replace(" ", "_"), safe="/:@!$&'()*,;=~", errors="ignore")


@lru_cache(16)
def _site(path: str, digest: str, window: int) -> Site:
    return Site.of(dump.head(path, window).decode(errors="replace"))


class MediawikiReader(Reader):
    """Reads dumps of MediaWiki."""

    version = 8  # pages that name their own namespace of XML are read
    libraries: ClassVar[tuple[str, ...]] = ("lxml",)
    settings: MediawikiSource

    def shards(self, groups: int | None) -> tuple[list[InputShard], int]:
        files = self.listing.files()
        return [shard for file in files for shard in ranged(self.source, file, self.settings.shard)], 0

    def read_part(self, part: Part, records: Records) -> None:
        site = _site(part.path, part.digest, self.settings.window)
        found = None
        for found in dump.elements(part, TAG, self.settings.largest, self.settings.window, site.root):
            if found.fault:
                if found.since is not None:
                    records.take_back(found.fault, part, found.since)
                records.take_back_at(found.fault, part, found.unsound)
                records.quarantine(found.fault, part, found.offset, found.length, lost=found.lost)
            else:
                self._page(found, site, part, records)
        if found is None and part.start == 0 and not self._goes_on(part):
            reason = "no_pages" if part.end else "empty_file"
            records.quarantine(reason, part, 0, part.end)

    def _goes_on(self, part: Part) -> bool:
        """Whether pages may begin behind the part that the file begins with."""
        whole = Part(part.path, part.key, part.end, 2**62, digest=part.digest)
        return next(dump.elements(whole, TAG, 1, self.settings.window), None) is not None

    def _page(self, found: Element, site: Site, part: Part, records: Records) -> None:
        place = part, found.offset, found.length
        if found.data is None:
            return records.drop("too_large", *place)
        try:
            page = etree.fromstring(found.data, _parser())
        except etree.XMLSyntaxError:
            return records.quarantine("not_xml", *place)
        title = page.findtext("{*}title") or ""
        revision = next(iter(page.findall("{*}revision")[-1:]), page)
        text = revision.findtext("{*}text") or ""
        url = site.url(title) if title else None
        reason = self._refused(page, revision, text)
        if reason:
            return records.drop(reason, *place, url)
        record = Found(*place, url, found.index, found.data)
        date = day(revision.findtext("{*}timestamp"))
        records.by_address(record, partial(self._text, record, text, site, records, title=title, date=date))

    def _refused(self, page: Any, revision: Any, text: str) -> str | None:
        namespace = (page.findtext("{*}ns") or "0").strip()
        if namespace not in map(str, self.settings.namespaces):
            return "namespace"
        if page.find("{*}redirect") is not None or _REDIRECT.match(text[:200]):
            return "redirect"
        return "not_wikitext" if (revision.findtext("{*}model") or "wikitext") != "wikitext" else None

    def _text(self, record: Found, wikitext: str, site: Site, records: Records, **more: Any) -> None:
        page = plain(wikitext, site.files, site.categories)
        record.columns |= self.columns({"categories": "|".join(page.categories) or None})
        own = {"categories": record.columns["categories"]}
        place = record.part, record.offset, record.length, record.payload
        keep = partial(records.keep, *place, "text", page.text, url=record.url, index=record.index, own=own)
        records.by_text(record, page.text, partial(keep, site=site.name, **more))

    def reread(self, row: Mapping[str, Any]) -> bytes:
        path = self.listing.path(row["file"])
        for data in dump.reread(path, TAG, row["offset"], row["length"], self.settings.window):
            if hashlib.sha256(data).hexdigest() == row["payload"]:
                return data
        raise self.changed(row)


def _parser() -> etree.XMLParser:
    """A parser that follows no entity and no address, and gives up on what is nested or grows without reason."""
    return etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
