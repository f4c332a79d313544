"""`robots.txt` of a crawl, against protego on the files as they stand, and by hand."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import pytest
from protego import Protego
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from tasks.sources import archive
from tasks.sources.robots import Robots, reduced

RULES = """\
# none of ours
Sitemap: https://x.example/s.xml
User-agent: BadBot
Disallow: /

User-agent: CCBot
useragent: GPTBot
Disallow: /private
Allow: /private/open
Disallow: /*.pdf$
Crawl-delay: 10
User-agent: Other
Disallow: /other

User Agent: *
Dissallow: /nobody
"""
PLACES = ["", "/", "/private", "/private/open/1", "/a/b.pdf", "/a/b.pdf?x", "/other", "/nobody", "/%70rivate", "/a?q=*"]


def crawl(path: Path, answers: Sequence[tuple[str, int, str, str]]) -> str:
    """A WARC file of (address, status, body, day)."""
    with open(path, "wb") as file:
        writer = WARCWriter(file, gzip=True)
        for url, status, body, day in answers:
            head = StatusAndHeaders(f"{status} x", [("Content-Type", "text/plain")], protocol="HTTP/1.1")
            payload = BytesIO(body.encode())
            dated = {"WARC-Date": f"{day}T00:00:00Z"}
            record = writer.create_warc_record(url, "response", payload, http_headers=head, warc_headers_dict=dated)
            writer.write_record(record)
    return str(path)


def test_what_the_newest_answer_of_a_host_says_counts_for_each_agent(tmp_path: Path) -> None:
    site = "https://X.example/robots.txt"
    path = crawl(
        tmp_path / "r.warc.gz",
        [
            (site, 200, "User-agent: *\nDisallow: /\n", "2024-01-01"),
            ("http://x.example:80/robots.txt", 200, RULES, "2024-02-01"),
            (site, 503, "", "2024-03-01"),
            ("https://none.example/robots.txt", 404, "User-agent: *\nDisallow: /", "2024-01-01"),
            ("https://busy.example/robots.txt", 429, "", "2024-01-01"),
            ("https://y.example:8080/robots.txt", 200, "user-agent:*\ndisallow:/", "2024-01-01"),
            ("https://page.example/a/robots.txt", 200, "User-agent: *\nDisallow: /", "2024-01-01"),
        ],
    )
    robots = Robots([path], ["CCBot"])
    assert {place: robots.allowed(f"https://x.example{place}") for place in PLACES} == {
        **dict.fromkeys(PLACES, True),
        **dict.fromkeys(("/private", "/a/b.pdf", "/%70rivate"), False),
    }
    assert robots.allowed("http://none.example/a") is True
    assert robots.allowed("http://y.example:8080/a") is False
    unknown = ["http://y.example/a", "http://busy.example/", "https://page.example/a/b", "https://z.example", ""]
    assert {robots.allowed(url) for url in unknown} == {None}
    assert Robots([path], ["Other"]).allowed("https://x.example/other/1") is False
    assert Robots([path], ["Unheard"]).allowed("https://x.example/nobody") is False
    assert Robots([path], ["CCBot", "Other"]).allowed("https://x.example/other/1") is False


@pytest.mark.parametrize("agent", ["CCBot", "gptbot", "Other", "badbot", "Unheard", "*"])
def test_lines_left_out_of_a_file_change_no_answer(agent: str) -> None:
    whole, part = Protego.parse(RULES), Protego.parse(reduced(RULES, [agent.lower()]))
    urls = [f"http://x.example{place}" for place in PLACES]
    assert [part.can_fetch(url, agent) for url in urls] == [whole.can_fetch(url, agent) for url in urls]


def test_real_files_answer_as_they_do_whole(shared: Path) -> None:
    found, urls = 0, []
    texts = []
    for path in sorted(shared.glob("warc/*.warc.gz")):
        with open(path, "rb") as file:
            for record in archive.records(file, 0, sys.maxsize, 2**22):
                if isinstance(record, archive.Record):
                    urls.append(record.url)
                    if record.url.endswith("/robots.txt"):
                        texts.append(record.block.partition(b"\r\n\r\n")[2].decode("utf-8", "replace"))
    assert len(texts) > 30
    some = random.Random(0).sample(urls, 50)
    for text in texts:
        whole = Protego.parse(text)
        for agent in ("ccbot", "googlebot", "*"):
            part = Protego.parse(reduced(text, [agent]))
            answers = [whole.can_fetch(url, agent) for url in some]
            assert [part.can_fetch(url, agent) for url in some] == answers
            found += answers.count(False)
    assert found > 100


@pytest.mark.parametrize(
    "text",
    [
        "".join(f"User-agent: x{number}\n" for number in range(15_000)) + "Disallow: /*x\n" * 17_000,
        "".join(f"User-agent: {'gptbot'[: number % 6 + 1]}\n" for number in range(15_000)) + "Disallow: /*x\n" * 17_000,
        "User-agent: *\nDisallow: /" + "*a" * 200_000,
        "User-agent: *\n" + "Disallow: /*x$\n" * 30_000,
        "user agent " * 40_000,
        " " * 400_000 + "x",
        "a " * 200_000,
        "Disallow: \x00\ud83d%zz[\nUser-agent:\n" * 9_000,
    ],
    ids=range(8),
)
def test_no_file_stalls(tmp_path: Path, text: str) -> None:
    body = text.encode(errors="replace").decode()
    path = crawl(tmp_path / "r.warc.gz", [("http://h.example/robots.txt", 200, body, "2024-01-01")])
    began = time.process_time()
    robots = Robots([path], ["gptbot"])
    for number in range(20):
        robots.allowed(f"http://h.example/{number}/" + "a" * 8000)
        robots.allowed(f"http://h.example/[{number}%\ud800?#")
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    "line", ["CCBot/2.0", "ccbot/2.0 (https://commoncrawl.org/faq/)", "GPTBot, CCBot", "x/1,CCBot/1"]
)
def test_an_agent_is_known_with_its_version_and_beside_others_in_its_line(line: str) -> None:
    rules = Protego.parse(
        reduced(f"User-agent: {line}\nDisallow: /private\n\nUser-agent: *\nDisallow: /all\n", ["ccbot"])
    )
    assert [rules.can_fetch(f"http://host{path}", "ccbot") for path in ("/private", "/all")] == [False, True]
    others = Protego.parse(reduced(f"User-agent: {line}\nDisallow: /private\n", ["other"]))
    assert others.can_fetch("http://host/private", "other")
