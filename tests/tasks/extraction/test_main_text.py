"""What of a page is its main text where the extractor below says otherwise."""

from __future__ import annotations

import time

import pytest
from trafilatura.utils import load_html

from tasks.extraction.blocks import blocks
from tasks.extraction.features import features, letters
from tasks.extraction.html import extract
from tasks.extraction.main_text import leads, main_text

LEAD = "Gold ist in den Flüssen des Nordens selten geworden. Wer es noch findet, hat Geduld – und eine gute Rinne."
LONG = f'<meta name=description content="{"a" * 10**6}">'
PROSE = f"<p>{'Im Sommer führt der Fluss wenig Wasser, und der Kies liegt frei bis zur Mitte des Bettes. ' * 4}</p>"
PAGE = """<html><head><title>Goldsucher am Fluss - Zeitung</title><meta property="og:type" content="article">{}</head>
<body><nav class=menu><a href=/>Start</a> <a href=/abo>Abo</a></nav><main><article class=article>
<header class=header><h1>Goldsucher am Fluss</h1><div class="teaser description">{}</div></header>
<div class=article-body>{}</div></article></main><footer class=footer>Impressum</footer></body></html>"""


def text(meta: str) -> str:
    found = extract(
        PAGE.format(meta, LEAD, PROSE * 6), None, None, fast=True, deepest=200, costliest=10, by_page_type=True
    )
    return str(found["text"])


@pytest.mark.parametrize("length", [len(LEAD), 60])
@pytest.mark.parametrize("name", ["name=description", "property=og:description"])
def test_the_lead_of_an_article_is_text_as_the_page_describes_itself_by_it(name: str, length: int) -> None:
    meta = f'<meta {name} content="{LEAD[:length]}">'
    assert text(meta).splitlines()[0] == LEAD


def found(description: str, *texts: str, taken: str = "") -> list[bool]:
    meta = f'<meta name=description content="{description}">'
    body = "".join(f"<p>{each}</p>" for each in texts)
    tree = load_html(f"<html><head>{meta}</head><body>{body}</body></html>")
    page = blocks(tree)
    return leads(tree, page.blocks, features(page, [letters(block.text) for block in page.blocks], taken, "")).tolist()


def test_a_lead_is_a_text_of_some_length_that_begins_with_words_of_the_description() -> None:
    assert found(f"Neu: {LEAD}", LEAD, LEAD.upper(), LEAD[:30], "Im Norden: " + LEAD) == [True, True, False, False]
    assert found(LEAD, LEAD, taken=LEAD) == [False]
    assert found(LEAD) == []
    assert found("河水在夏天流过砾石，冬天静止不动，春天又涨起来。", "河水在夏天流过砾石，冬天静止不动。") == [True]


def test_long_descriptions_cost_many_blocks_little() -> None:
    texts = [f"{'a' * 39}b{number}" for number in range(5000)]
    tree = load_html(f"<html><head>{LONG * 20}</head><body>{''.join(map('<p>{}'.format, texts))}</body></html>")
    page = blocks(tree)
    measured = features(page, [letters(block.text) for block in page.blocks], "", "")
    started = time.process_time()
    assert not leads(tree, page.blocks, measured).any()
    assert time.process_time() - started < 2


STEPS = [f"{step}. The pan is moved in circles until the sand is gone, and then a little more." for step in "abcdef"]

ROWS = [("--pan", "diameter of the pan in cm, 34 by default"), ("--until", "when washing ends")]


def of_documentation(*taken: str) -> str:
    """The text of a page of documentation of which resiliparse takes the lines."""
    table = "".join(f"<tr><td>{name}</td><td>{size}</td></tr>" for name, size in ROWS)
    code = "<pre>wash --pan 34\n  --until clean</pre>"
    parts = f"<h1>Washing gold</h1>{''.join(map('<p>{}</p>'.format, STEPS))}{code}<table>{table}</table>"
    body = f"<div class=documentwrapper><div class=body role=main><section>{parts}</section></div></div>"
    html = f"<html><head><title>Washing gold - Handbook</title></head><body>{body}</body></html>"
    text = {"resiliparse": "\n".join(taken)}
    return main_text(load_html(html), "https://docs.example.org/a", "trafilatura", text.__getitem__)


def test_documentation_keeps_its_title_and_code_also_where_the_extractor_left_them_out() -> None:
    assert of_documentation(*STEPS) == "\n".join(("Washing gold", *STEPS, "wash --pan 34\n  --until clean"))


def test_documentation_keeps_the_rows_of_tables_that_the_extractor_took() -> None:
    rows = "\n".join(map(" | ".join, ROWS))
    assert of_documentation(*STEPS, *map(" ".join, ROWS)).endswith(f"\n{rows}")


def test_items_that_the_extractor_numbers_are_elements_of_the_page() -> None:
    items = "".join(f"<li><p>{step[3:]}</p></li>" for step in STEPS)
    body = f"<div class=body role=main><h1>Washing gold</h1><ol>{items}</ol></div>"
    html = f"<html><head><title>Washing gold</title></head><body>{body}</body></html>"
    taken = "\n\n".join(f"  {number}. {step[3:]}" for number, step in enumerate(STEPS, 1))
    text = main_text(load_html(html), "https://docs.example.org/a", "resiliparse", lambda _: taken)
    assert text.splitlines()[:2] == ["Washing gold", f"1. {STEPS[0][3:]}"]
