"""Questions with answers, from Posts.xml as Stack Exchange writes it."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import time
from pathlib import Path
from typing import Any

import pytest

from data_specs.extract import Extract
from data_specs.sources import StackExchangeSource
from tasks.sources import Reader, reader
from tasks.sources.fragments import plain
from tests.tasks.sources import dumps
from tests.tasks.sources.dumps import post
from tests.tasks.sources.test_arc import read_all

PARTS = dumps.posts(20)
WHOLE = b"".join(PARTS)


def source(path: Path, **settings: Any) -> Reader:
    return reader("posts", StackExchangeSource(kind="stackexchange", paths=str(path), **settings), Extract())


@pytest.mark.parametrize("name", ["Posts.xml", "Posts.xml.gz", "Posts.xml.bz2"])
def test_a_question_and_its_answers_are_a_document_wherever_the_file_is_cut(tmp_path: Path, name: str) -> None:
    pack = {"gz": gzip.compress, "bz2": bz2.compress}.get(name.rpartition(".")[2], bytes)
    (tmp_path / name).write_bytes(pack(WHOLE))
    found = source(tmp_path / "*", base="https://coffee.stackexchange.com/")
    rows, counts = read_all(found)
    assert counts == {"in": 22, "not_post": 1, "no_question": 1}
    assert [row["title"] for row in rows] == [f"Title {number}" for number in range(1, 21)]
    third = rows[2]
    assert third["text"] == (
        "Q: Title 3\n\nBody 3 文字.\n\nWhy a < b?\n\nif a:\n    b()\n\n- one\n\n"
        "A: Answer 3 of score 2.\n\nA: Answer 3 of score 1.\n\nA: Answer 3 of score 0."
    )
    assert (third["url"], third["date"]) == ("https://coffee.stackexchange.com/questions/3", "2015-01-27")
    assert [third[name] for name in found.own] == [3, 3, 2, "x|y-z", None]
    assert all(hashlib.sha256(found.reread(row)).hexdigest() == row["payload"] for row in rows)
    for size in (500, 2000):
        assert read_all(source(tmp_path / "*", base="https://coffee.stackexchange.com", shard=size)) == (rows, counts)


@pytest.mark.parametrize("name", ["Posts.xml", "Posts.xml.gz", "Posts.xml.bz2"])
def test_a_file_that_breaks_off_between_two_rows_is_told_to_be_truncated_once_however_it_is_cut(
    tmp_path: Path, name: str
) -> None:
    pack = {"gz": gzip.compress, "bz2": bz2.compress}.get(name.rpartition(".")[2], bytes)
    (tmp_path / name).write_bytes(pack(b"".join(PARTS[:40])))
    for size in (300, 2000, 2**30):
        found = source(tmp_path / "*", shard=size)
        reads = [found.read(shard) for shard in found.shards(None)[0]]
        assert sum(read.documents.num_rows for read in reads) == 20
        assert [read.ledger["quarantined"] for read in reads if read.ledger["quarantined"]] == [{"truncated": 1}]
        assert reads[0].ledger["files"] == {name: {"truncated": 1}}


def test_the_best_answers_are_kept_and_none_below_a_score(tmp_path: Path) -> None:
    (tmp_path / "Posts.xml").write_bytes(WHOLE)
    rows, _ = read_all(source(tmp_path / "*", answers=4, score=2))
    last = rows[19]["text"].split("A: ")
    assert [line.strip() for line in last[1:]] == ["Answer 20 of score 2."] * 4
    assert (rows[0]["answers"], rows[0]["best_answer"], rows[0]["score"]) == (0, None, 1)


def test_of_equal_scores_the_earlier_answer_is_first_and_one_may_stand_before_its_question(tmp_path: Path) -> None:
    early = post(1, 2, "early", ParentId=5, Score=1)
    rows = [
        early,
        post(5, 1, "asked", Title="T"),
        post(6, 2, "late", ParentId=5, Score=1),
        post(7, 2, "low", ParentId=5, Score=-1),
    ]
    (tmp_path / "Posts.xml").write_text("<posts>\n" + "".join(rows) + "</posts>")
    [document], counts = read_all(source(tmp_path / "*", shard=len(early)))
    assert document["text"] == "Q: T\n\nasked\n\nA: early\n\nA: late"
    assert counts == {"in": 1}


def test_an_answer_that_stands_twice_in_a_file_is_told_once(tmp_path: Path) -> None:
    rows = [post(1, 1, "asked", Title="T")]
    rows += [post(number, 2, f"answer {number}", ParentId=1, Score=number) for number in (2, 3, 2, 3)]
    (tmp_path / "Posts.xml").write_text("<posts>\n" + "".join(rows) + "</posts>")
    for answers in (30, 2, 1):
        [document], counts = read_all(source(tmp_path / "*", answers=answers))
        assert document["text"].split("\n\nA: ") == ["Q: T\n\nasked", "answer 3", "answer 2"][: 1 + answers]
        assert (document["answers"], counts) == (min(2, answers), {"in": 1})


def test_of_questions_of_one_number_the_first_in_the_file_is_read_wherever_it_is_cut(tmp_path: Path) -> None:
    (tmp_path / "Posts.xml").write_bytes(b"".join([*PARTS[:-1], *PARTS[1:]]))
    rows, counts = read_all(source(tmp_path / "*"))
    assert [row["title"] for row in rows] == [f"Title {number}" for number in range(1, 21)]
    for size in (500, 2000, 9000):
        assert read_all(source(tmp_path / "*", shard=size)) == (rows, counts)


def test_an_answer_that_is_no_row_or_damaged_is_counted_and_told_nowhere(tmp_path: Path) -> None:
    rows = [
        post(1, 1, "asked", Title="T"),
        post(2, 2, "whole", ParentId=1),
        post(3, 2, "cut", ParentId=1)[:-10] + "\n",
        post(4, 2, "no number", ParentId=1).replace(' Id="4"', ""),
        post(5, 2, "no row", ParentId=1).replace("<row", "<raw"),
    ]
    (tmp_path / "Posts.xml").write_text("<posts>\n" + "".join(rows) + "</posts>")
    [document], counts = read_all(source(tmp_path / "*"))
    assert document["text"] == "Q: T\n\nasked\n\nA: whole"
    assert counts == {"in": 4, "not_xml": 3}


def test_an_answer_without_a_word_is_no_answer_of_the_document(tmp_path: Path) -> None:
    rows = [
        post(1, 1, "asked", Title="T", CreationDate="2020-02-30T00:00:00"),
        post(2, 2, '<p><img src="a.png"></p>', ParentId=1, Score=9),
        post(3, 2, "<p>whole</p>", ParentId=1, Score=2),
        post(4, 1, "asked", Title="T"),
        post(5, 2, "<p></p>", ParentId=4, Score=3),
    ]
    (tmp_path / "Posts.xml").write_text("<posts>\n" + "".join(rows) + "</posts>")
    [one, other], counts = read_all(source(tmp_path / "*"))
    assert (one["text"], one["answers"], one["best_answer"]) == ("Q: T\n\nasked\n\nA: whole", 1, 2)
    assert (other["text"], other["answers"], other["best_answer"]) == ("Q: T\n\nasked", 0, None)
    assert counts == {"in": 2}
    assert one["date"] is None  # no calendar has that day


@pytest.mark.parametrize("blank", [b"\n", b"\r\n"])
def test_blank_lines_by_the_million_cost_no_more_than_their_bytes(tmp_path: Path, blank: bytes) -> None:
    data = PARTS[0] + b"".join(PARTS[1:4]) + blank * 2**23 + b"".join(PARTS[4:])
    (tmp_path / "Posts.xml").write_bytes(WHOLE)
    expected = read_all(source(tmp_path / "*"))
    (tmp_path / "Posts.xml").write_bytes(data)
    begun = time.process_time()
    rows, counts = read_all(found := source(tmp_path / "*"))
    assert time.process_time() - begun < 2
    assert (len(rows), counts) == (len(expected[0]), expected[1])
    assert all(hashlib.sha256(found.reread(row)).hexdigest() == row["payload"] for row in rows[::7])


def test_a_damaged_row_costs_itself_alone_and_no_entity_is_expanded(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("gold")
    rows = [
        f'<!DOCTYPE posts [<!ENTITY f SYSTEM "file://{tmp_path}/secret">]>\n',
        post(1, 1, "one", Title="T"),
        post(2, 1, "one", Title="T").replace("one", "&f;"),
        post(3, 1, "cut", Title="T")[:40] + "\n",
        "what is this\n",
        post(4, 1, "x" * 5000, Title="T"),
        post(1, 1, "again", Title="T"),
        post(5, 1, " ", Title=""),
        post(6, 2, "broken", ParentId=1, Score=4).replace("/>", ">"),
        post(7, 2, "kept", ParentId=1, Score=3),
    ]
    (tmp_path / "Posts.xml").write_text("<posts>\n" + "".join(rows) + "</posts>")
    documents, counts = read_all(source(tmp_path / "Posts.xml", longest=4000))
    assert [row["text"] for row in documents] == ["Q: T\n\none\n\nA: kept"]
    assert counts == {"in": 8, "not_xml": 4, "too_large": 1, "not_post": 1, "no_text": 1}


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("Posts.xml", b"", "empty_file"),
        ("Posts.xml", b"<posts>\n</posts>\n", "no_pages"),
        ("Posts.xml", b"<posts>\n", "truncated"),
        ("Posts.xml.gz", gzip.compress(PARTS[0])[:-9], "truncated"),
        ("Posts.xml.gz", WHOLE, "unreadable"),
    ],
)
def test_a_file_without_a_row_is_one_record_under_its_name(tmp_path: Path, name: str, data: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(data)
    assert read_all(source(tmp_path / "*")) == ([], {"in": 1, reason: 1})


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>One\ntwo <b>three</b>.</p>\n\n<p>Four</p>", "One two three.\n\nFour"),
        ("<p>so:</p><pre><code>a\n\n  b &lt; c\n</code></pre><p>x</p>", "so:\n\na\n\n  b < c\n\nx"),
        ("<ol><li>a<ul><li>b</li></ul></li><li><p>c</p></li></ol>d", "1. a\n  - b\n2. c\n\nd"),
        ("10<sup>6</sup> H<sub>2</sub>O $x^2$", "10^6 H_2O $x^2$"),
        ("a<br>b <img src=x alt=y> c<script>no</script>", "a\nb c"),
        ("<table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td>2</td></tr></table>", "a | b\n1 | 2"),
        ("plain", "plain"),
        ("<!-- note -->", ""),
        ("<pre>a\n<b>b</b>\n\n  <i>c</i>\n</pre><p>d</p>", "a\nb\n\n  c\n\nd"),
        ("<header>a</header><section>b</section><figure><img><figcaption>c</figcaption></figure>d", "a\n\nb\n\nc\n\nd"),
        ("<details><summary>a</summary>b</details><address>c</address>d", "a\nb\n\nc\n\nd"),
        ("<ruby>法<rp>(</rp><rt>ほう</rt><rp>)</rp></ruby>は", "法は"),
        ("is <math><mfrac><mi>x</mi><mn>2</mn></mfrac></math>, "
         "<m:math><m:msup><m:mi>x</m:mi><m:mn>2</m:mn></m:msup></m:math>", "is $\\frac{x}{2}$, $x^{2}$"),
        ("<svg><math><mn>1</mn></math></svg>a", "a"),
        ("<blockquote><p>said</p></blockquote>", "said"),
        ("a<table><caption>T</caption><tr><th><p>x</p><p>y</p></th><th>z</th></tr><tr><td></td><td><br></td></tr>"
         "<tr><td rowspan=2>1</td><td><ul><li>2</li><li>3</li></ul></td></tr><tr><td>4</td></tr>"
         "<tr><td colspan=2>5</td></tr></table>b", "a\n\nT\nx y | z\n1 | 2; 3\n1 | 4\n5\n\nb"),
        ("<table><tr><td><p>a</p><p>b</p></td></tr></table>c", "a\n\nb\n\nc"),
        ("<table><tr><td><pre>x\n y</pre></td><td><table><tr><td>1</td><td>2</td></table></td></tr></table>",
         "x\n y\n\n1 | 2"),
    ],
)  # fmt: skip
def test_the_html_of_a_post_is_text_with_its_code_as_it_stands(html: str, text: str) -> None:
    assert plain(html) == text


def test_deep_and_broken_html_costs_time_of_its_length() -> None:
    for piece in ("<p>", "<ul><li>", "<pre>", "<b>", "</p>", "<", "&", "&#0;", "<td>", "<sup>", "<!--", "<![CDATA[",
                  "<table><tr><td>", "<table><tr><td>a<td rowspan=9>b</table>"):  # fmt: skip
        assert len(plain("gold " + piece * (100_000 // len(piece)))) < 10**6


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<ol><li>a</li></ol><pre>x</pre><ol start=2><li>b</li><li value=7>c</li><li>d</li></ol>",
         "1. a\n\nx\n\n2. b\n7. c\n8. d"),
        ("<ol start=0><li>a</li><li>b</li></ol>", "0. a\n1. b"),
        ("<ol start=-1><li>a</li><li>b</li><li>c</li></ol>", "-1. a\n0. b\n1. c"),
        ("<ol reversed><li>a<ol><li>b</ol><li>c</ol><ol reversed start=9><li>a<li value=5>b<li>c</ol>",
         "2. a\n  1. b\n1. c\n\n9. a\n5. b\n4. c"),
        ("<ol type=a start=26><li>x</li><li>y</li></ol>", "z. x\naa. y"),
        ("<ol type=I><li value=4>a</li><li type=i value=1994>b</li><li type=A>c</li><li type=1 value=0>d</li></ol>",
         "IV. a\nmcmxciv. b\nBXS. c\n0. d"),
        ("<ol start=x><li>a<ul><li value=3>b</li></ul></li></ol>", "1. a\n  - b"),
        ("10<sup>-6</sup> x<sup>n + 1</sup> = H<sub>2</sub>O<sub>(l, s)</sub>!", "10^-6 x^{n + 1} = H_2O_{(l, s)}!"),
        ("the 1<sup>st</sup> x<sup><b>i</b>+1</sup>", "the 1^st x^{i+1}"),
    ],
)  # fmt: skip
def test_items_have_their_numbers_and_raised_parts_their_end(html: str, text: str) -> None:
    assert plain(html) == text
