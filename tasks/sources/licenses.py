"""Which licence a text is, or a file names: its SPDX identifier.

A licence is known by phrases that it has and others have not, whatever its lines, marks and copyright holders. The text
of a GNU licence does not say whether later versions may be taken, so it is `-only`; a notice that says so is
`-or-later`. What is not known is None, never a guess.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

FILES = re.compile(r"(?:LICEN[CS]E|COPYING|COPYRIGHT|UNLICENSE)(?:[-_.][\w.+-]*)?", re.IGNORECASE)
"""Names of files that hold a licence."""
_CHOICE = re.compile(r"(?:LICEN[CS]E|COPYING)[-_.][\w.+-]+", re.IGNORECASE)
LONGEST = 2**17
"""Characters of a text that are looked at."""
NOTICE = 2**12
"""Characters in which a file names its licence."""
_TAG = re.compile(r"SPDX-License-Identifier:\s*+([A-Za-z0-9.+() -]{2,80}?)\s*(?:\*/|-->|[\r\n\"']|$)")
_EXPRESSION = re.compile(
    r"[(\s]*[A-Za-z0-9.+-]+[)\s]*(?:\s(?:AND|OR|WITH)\s[(\s]*[A-Za-z0-9.+-]+[)\s]*)*", re.IGNORECASE
)
"""Identifiers, joined; what stands behind a tag in a sentence about tags is none."""
_OTHER = re.compile(r"[^a-z0-9.]+|\.(?![0-9])")
_BSD = "redistributions in binary form must reproduce the above copyright notice"
_MIT = "permission is hereby granted free of charge to any person obtaining a copy"
_CMU = "by obtaining using and or copying this software and or its associated documentation you agree"
_HPND = (
    "permission to use copy modify and distribute this software and its documentation for any purpose and without fee"
)
_ISC = "this software for any purpose with or without fee is hereby granted"
_LATER = "either version %s of the license or at your option any later version"
_ADVERTISING = "all advertising materials mentioning features or use of this software must display the following"
_NO_PATENTS = "no express or implied licenses to any party s patent rights are granted by this license"
_PHRASES: tuple[tuple[str | None, tuple[str, ...]], ...] = (
    (None, ("commons clause license condition",)),
    ("BUSL-1.1", ("business source license 1.1",)),
    ("SSPL-1.0", ("server side public license version 1 october 16 2018",)),
    ("Elastic-2.0", ("elastic license 2.0",)),
    ("PHP-3.01", ("the php license version 3.01",)),
    ("Apache-2.0", ("apache license version 2.0 january 2004",)),
    ("Apache-2.0", ("version 2.0 january 2004 http www apache org licenses",)),
    ("Apache-2.0", ("licensed under the apache license version 2.0",)),
    ("MPL-2.0", ("mozilla public license version 2.0",)),
    ("MPL-2.0", ("subject to the terms of the mozilla public license v. 2.0",)),
    ("MPL-1.1", ("mozilla public license version 1.1",)),
    ("EPL-2.0", ("eclipse public license v 2.0",)),
    ("EPL-1.0", ("eclipse public license v 1.0",)),
    ("AGPL-3.0-only", ("gnu affero general public license version 3 19 november 2007",)),
    ("AGPL-3.0-or-later", ("gnu affero general public license", _LATER % "3")),
    ("LGPL-3.0-only", ("gnu lesser general public license version 3 29 june 2007",)),
    ("LGPL-3.0-or-later", ("gnu lesser general public license", _LATER % "3")),
    ("LGPL-2.1-only", ("gnu lesser general public license version 2.1 february 1999",)),
    ("LGPL-2.1-or-later", ("gnu lesser general public license", _LATER % "2.1")),
    ("LGPL-2.0-only", ("gnu library general public license version 2 june 1991",)),
    ("GPL-3.0-only", ("gnu general public license version 3 29 june 2007",)),
    ("GPL-2.0-only", ("gnu general public license version 2 june 1991",)),
    ("GPL-1.0-only", ("gnu general public license version 1 february 1989",)),
    ("GPL-3.0-or-later", ("gnu general public license", _LATER % "3")),
    ("GPL-2.0-or-later", ("gnu general public license", _LATER % "2")),
    ("GFDL-1.3-only", ("gnu free documentation license version 1.3 3 november 2008",)),
    ("GFDL-1.2-only", ("gnu free documentation license version 1.2 november 2002",)),
    ("CC0-1.0", ("cc0 1.0 universal",)),
    ("CC-BY-SA-4.0", ("attribution sharealike 4.0 international",)),
    ("CC-BY-4.0", ("attribution 4.0 international",)),
    ("Unlicense", ("this is free and unencumbered software released into the public domain",)),
    ("BSL-1.0", ("boost software license version 1.0",)),
    ("PSF-2.0", ("python software foundation license version 2",)),
    ("Artistic-1.0-Perl", ("the artistic license preamble", "wholesale aggregation")),
    ("Artistic-2.0", ("the artistic license 2.0",)),
    ("Zlib", ("the origin of this software must not be misrepresented", "altered source versions must be plainly")),
    ("OpenSSL", (_BSD, _ADVERTISING, "openssl toolkit")),
    ("Apache-1.0", (_BSD, _ADVERTISING, "apache group")),
    ("Apache-1.1", (_BSD, "products derived from this software may not be called apache")),
    (None, (_BSD, "products derived from this software may not be called")),
    (None, (_BSD, "products derived from this software without prior written permission for written permission")),
    ("BSD-4-Clause", (_BSD, _ADVERTISING, "endorse or promote products derived from")),
    (None, (_BSD, "must display the following")),
    ("BSD-3-Clause-Clear", (_BSD, "endorse or promote products derived from", _NO_PATENTS)),
    (None, (_BSD, "nuclear facility")),
    (None, (_BSD, "patent license")),
    ("BSD-3-Clause", (_BSD, "endorse or promote products derived from")),
    ("BSD-2-Clause", (_BSD,)),
    ("MIT-CMU", (_CMU, "advertising or publicity")),
    ("HPND", (_HPND, "advertising or publicity")),
    ("JSON", (_MIT, "the software shall be used for good not evil")),
    ("MIT-0", (_MIT, "to whom the software is furnished to do so the software is provided")),
    ("MIT", (_MIT, "the above copyright notice and this permission notice")),
    ("0BSD", (f"permission to use copy modify and or distribute {_ISC} the software is provided",)),
    ("curl", (f"permission to use copy modify and distribute {_ISC} provided", "except as contained in this notice")),
    ("ISC", (f"permission to use copy modify and or distribute {_ISC} provided",)),
    ("ISC", (f"permission to use copy modify and distribute {_ISC} provided",)),
)
"""Identifier -> phrases that a text has; of those that begin at one place the first. None: another than those below."""
_OWN = {_BSD: 1500, _MIT: 1500}
"""Characters in which a licence of such a beginning has its clauses: what follows may be the licence of a part."""


def spdx(text: str) -> str | None:
    """The identifier of a licence's text, or of a notice: of several the one that is named first, as one licence speaks
    of others, and a file may hold those of parts."""
    words = " ".join(_OTHER.sub(" ", text[:LONGEST].lower()).split())
    found: tuple[int, str | None] | None = None
    for name, phrases in _PHRASES:
        place = words.find(phrases[0], 0, found[0] + len(phrases[0]) - 1 if found else None)
        own = words[place : place + _OWN.get(phrases[0], LONGEST)]
        if place >= 0 and all(phrase in own for phrase in phrases):
            found = place, name
    return found[1] if found else None


def named(text: str) -> str | None:
    """The licence that a file names at its beginning: by SPDX's tag, else by a notice."""
    head = text[:NOTICE]
    for found in _TAG.finditer(head):
        if _EXPRESSION.fullmatch(found[1].strip()):
            return found[1].strip()
    return spdx(head) if "icense" in head or "ermission" in head else None


def of_folder(files: Mapping[str, str | None]) -> str | None:
    """The licence of a folder, by the names of the files in it that hold one, and what each is. Of several it is known
    where they are those that go with the LGPL, or of a choice (`LICENSE-MIT`, `LICENSE-APACHE`)."""
    known = sorted({name for name in files.values() if name})
    if len(known) < 2:
        return known[0] if known else None
    if known == ["GPL-3.0-only", "LGPL-3.0-only"]:
        return known[1]
    return " OR ".join(known) if all(map(_CHOICE.fullmatch, files)) else None
