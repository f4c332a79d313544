"""Dumps as sites publish them, made by the tests: a header, elements, and an end."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import pyarrow as pa

HEAD = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11" xml:lang="en">
  <siteinfo>
    <sitename>Wikipedia</sitename>
    <base>https://en.wikipedia.org/wiki/Main_Page</base>
    <namespaces>
      <namespace key="0" case="first-letter" />
      <namespace key="6" case="first-letter">Datei</namespace>
      <namespace key="14" case="first-letter">Kategorie</namespace>
    </namespaces>
  </siteinfo>
"""
ARTICLE = """{{Infobox river|name=River %(n)s}}
'''River %(n)s''' is a [[river]] of {{convert|%(n)s|km|mi}}.<ref>{{cite web|url=x}}</ref>

== Course ==
It passes [[Town (north)|the town]] & the <math>a < b_%(n)s</math> hills, 河流%(n)s -{zh-hans:计算机;zh-hant:電腦}-.
* one
* two
{| class="wikitable"
! Year !! Flow
|-
| 1990 || %(n)s
|}
== References ==
{{reflist}}
[[Kategorie:Rivers]] [[Category:Number %(n)s]] [[Datei:a.jpg|thumb|seen]]"""


def page(
    title: str, text: str, namespace: int = 0, extra: str = "", model: str = "wikitext", revisions: int = 1
) -> str:
    """A page, its last revision that of the text."""
    texts = [f"old {number}" for number in range(revisions - 1)] + [text]
    made = "".join(
        f"    <revision>\n      <id>{number}</id>\n      <timestamp>202{number}-03-01T00:00:00Z</timestamp>\n"
        f"      <model>{model}</model>\n      <format>text/x-wiki</format>\n"
        f'      <text bytes="{len(each.encode())}" xml:space="preserve">{escape(each)}</text>\n    </revision>\n'
        for number, each in enumerate(texts)
    )
    head = f"    <title>{escape(title)}</title>\n    <ns>{namespace}</ns>\n    <id>7</id>\n{extra}"
    return f"  <page>\n{head}{made}  </page>\n"


def post(number: int, kind: int, body: str, **more: object) -> str:
    """A row of Posts.xml."""
    told = {"Id": number, "PostTypeId": kind, **more, "Body": body}
    return "  <row " + " ".join(f"{name}={quoteattr(str(value))}" for name, value in told.items()) + " />\n"


def posts(questions: int = 6) -> list[bytes]:
    """The parts of a Posts.xml: its header, questions and then their answers, a wiki of a tag, and its end."""
    day = "2015-01-27T20:09:32.720"
    code = "<p>Why <code>a &lt; b</code>?</p>\n\n<pre><code>if a:\n    b()\n</code></pre>\n<ul>\n<li>one</li>\n</ul>\n"
    rows = [
        post(n, 1, f"<p>Body {n} 文字.</p>" + code, Title=f"Title {n}", Score=n, CreationDate=day, Tags="<x><y-z>")
        for n in range(1, questions + 1)
    ]
    rows += [
        post(100 + 10 * n + k, 2, f"<p>Answer {n} of score {k % 3}.</p>", ParentId=n, Score=k % 3, CreationDate=day)
        for n in range(1, questions + 1)
        for k in range(n)
    ]
    rows += [post(900, 5, "of a tag"), post(901, 2, "lost", ParentId=902, Score=3)]
    head = '\ufeff<?xml version="1.0" encoding="utf-8"?>\r\n<posts>\r\n'
    return [part.encode() for part in (head, *rows, "</posts>\n")]


_RANDOM = re.compile(rb"<urn:uuid:[0-9a-f-]{36}>")
"""What warcio calls a record."""


def parted(warc: bytes) -> list[bytes]:
    """The records of a WARC that is not compressed, named alike, so that a seed gives one case."""
    named = _RANDOM.sub(b"<urn:uuid:00000000-0000-0000-0000-000000000000>", warc)
    return [b"WARC/1.0\r\n" + part for part in named.split(b"WARC/1.0\r\n")[1:]]


def wiki(articles: int = 6) -> list[bytes]:
    """The parts of a dump: its header, pages, and its end."""
    pages = [page(f"River {number}", ARTICLE % {"n": number}) for number in range(articles)]
    others = [page("Old name", "#REDIRECT [[River 1]]", extra='    <redirect title="River 1" />\n')]
    others += [page("Talk:River 1", "so", namespace=1), page("Style.css", "a {}", model="css")]
    return [part.encode() for part in (HEAD, *pages, *others, "</mediawiki>\n")]


def arrow(writer: Callable[[io.BytesIO, pa.Schema], Any], batches: int = 6) -> list[bytes]:
    """The parts of a stream or file of Arrow: its schema, batches of three rows, and its end."""
    sink = io.BytesIO()
    schema = pa.schema([("text", pa.string()), ("url", pa.string()), ("tags", pa.list_(pa.string()))])
    ends = []
    with writer(sink, schema) as file:
        for batch in range(batches):
            rows = [
                {
                    "text": f"Row {n} of batch {batch}, 河流 " * 9,
                    "url": f"http://example.org/{batch}/{n}",
                    "tags": ["a"],
                }
                for n in range(3)
            ]
            file.write_batch(pa.RecordBatch.from_pylist(rows, schema))
            ends.append(sink.tell())
    data = sink.getvalue()
    first = data.index(b"\xff\xff\xff\xff", 16)  # each message begins so: the first is the schema
    return [data[a:b] for a, b in zip((0, first, *ends), (first, *ends, len(data)), strict=True)]


def csv(rows: int = 9) -> list[bytes]:
    """The parts of a file of CSV: the names of its columns, and rows whose texts hold quotes and line ends."""
    lines = [f'"Row {n}, with ""quotes"" 河流,\nand lines",http://example.org/{n}\r\n' for n in range(rows)]
    return [line.encode() for line in ("text,url\r\n", *lines)]
