"""Addresses in one of their spellings, so that two of one page compare equal."""

from __future__ import annotations

import posixpath
import re
import unicodedata
from urllib.parse import unquote

from tasks.engine.hosts import split

_TRACKING = re.compile(
    r"(?:utm_\w+|(?:gcl|dcl|fbcl|mscl|ycl|ttcl|twcl)id|gclsrc|wbraid|gbraid|mc_[ce]id|_ga|_gl|_hs(?:enc|mi)|igshid|spm"
    r"|jsessionid|phpsessid|aspsessionid\w*)(?:=.*)?",
    re.IGNORECASE | re.DOTALL,
)
"""Parameters that name where a visitor came from, or who he is, and never a page: those that Google, Meta, Microsoft,
Yandex, TikTok, Mailchimp, HubSpot and Alibaba add to links, and sessions of Java, PHP and ASP."""
_SESSION = re.compile(r";jsessionid=[^/;]*", re.IGNORECASE)
NOTHING = "/"
"""What is left of an address that names neither a host nor a page."""


def canonical_url(url: str) -> str:
    """An address as servers mostly take it: without scheme, user, port, fragment, `www.` and slashes that stand double
    or at the end, with `..` followed, parameters in whatever order and without those that only track visitors, and
    whether or not characters are written as `%C3%A9`. It is for comparing, and opens nothing."""
    host, rest = split(url)
    path, _, query = rest.partition("?")
    host = host.removeprefix("www.") if host.count(".") > 1 else host
    path = posixpath.normpath("/" + _plain(_SESSION.sub("", path))).strip("/")
    parameters = map(_plain, query.replace("+", " ").split("&"))
    found = sorted(each for each in parameters if each and not _TRACKING.fullmatch(each))
    return "\n".join([f"{host}/{path}", *found])


def _plain(part: str) -> str:
    """A part without percent signs. Bytes that are no UTF-8 stay apart: pages of old sites are named by them."""
    return unicodedata.normalize("NFC", unquote(part, errors="surrogateescape"))
