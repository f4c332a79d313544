"""Hosts of addresses, one name for each however it is spelled: without user, port and the dot at its end, lower case,
international names in letters of ASCII, addresses of IPv6 in their short form."""

from __future__ import annotations

import ipaddress
import re
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa  # the child that extracts pages starts without it

LONGEST = 8192
"""Characters of an address that are looked at, at most."""
_PARTS = re.compile(
    r"^(?:[a-z][a-z0-9+.-]*+:(?!\d))?(?://)?(?:[^/?#]*@)?+([^/?#:@\[\]]++|\[[^\]/]*+\])?(?::\d*+)?([^#]*+)", re.I
)
_SITE = (
    r"^\s*[A-Za-z][A-Za-z0-9+.-]*://(?:[^/?#]*@)?(?:[Ww][Ww][Ww]\.)?(?P<host>\[[^\]/?#]*\]|[^/:?#@\[\]][^/:?#@]*)"
    r"(?::[^/?#@]*)?(?:[/?#]|$)"
)
_PAGE = re.compile(r"\s*https?://", re.IGNORECASE)


def is_known(url: str | None) -> bool:
    """Whether there is an address: lines of JSON that have none may say so by an empty text."""
    return bool(url and url.strip())


def split(url: str) -> tuple[str, str]:
    """Host of an address, and what follows it but for the fragment. Without a scheme a host is taken for one: that is
    how lists are written."""
    found = _PARTS.match(url[:LONGEST].strip())
    host, rest = (found[1] or "", found[2] or "") if found else ("", "")
    return _one(host.lower().rstrip(".")), rest


def site(url: str | None) -> str | None:
    """The host of a page's address, without `www.`; None where it has none."""
    return (split(url)[0].removeprefix("www.") or None) if url and _PAGE.match(url) else None


def sites(urls: pa.Array | pa.ChunkedArray) -> pa.Array:
    """The host of each address that has a scheme, without `www.`; null where there is none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pc.struct_field(pc.extract_regex(urls, _SITE), "host")
    return as_one(found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found)


def as_one(hosts: pa.Array) -> pa.Array:
    """Hosts, each in its one spelling; null for those without a letter."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pc.utf8_rtrim(pc.utf8_lower(hosts), ".")
    odd = pc.fill_null(pc.or_(pc.starts_with(found, "["), pc.invert(pc.string_is_ascii(found))), False)
    found = pc.replace_with_mask(found, odd, pa.array(map(_one, found.filter(odd).to_pylist()), pa.string()))
    return pc.if_else(pc.not_equal(found, ""), found, None)


def _one(host: str) -> str:
    if not host.startswith("["):
        return host if host.isascii() else _in_ascii(host)
    with suppress(ValueError):
        return f"[{ipaddress.IPv6Address(host[1:-1]).compressed}]"
    return host


def _in_ascii(host: str) -> str:
    """A host name as browsers ask for it (UTS 46 without transitional processing, RFC 5891): `straße.de` is another one
    than `strasse.de`, which Python's codec, of 2003, makes of it. By that codec what is no name of 2008, as emoji."""
    import idna

    with suppress(UnicodeError):
        host = idna.uts46_remap(host, std3_rules=False)
    return ".".join(label if label.isascii() else _label(label) for label in host.split("."))


def _label(label: str) -> str:
    import idna

    for encoded in (idna.alabel, lambda name: name.encode("idna")):
        with suppress(UnicodeError):
            return encoded(label).decode()
    return label
