"""A page as blocks, and these as text and Markdown: structure stays, formulas are written out, nothing fuses."""

from __future__ import annotations

import pytest
from trafilatura.utils import load_html

from tasks.extraction.blocks import Block, blocks
from tasks.extraction.render import render
from tasks.sources.text import normalise


def found(body: str) -> list[Block]:
    return blocks(load_html(f"<html><head><title>T</title></head><body>{body}</body></html>")).blocks


def text(body: str) -> str:
    return normalise(render(found(body), "text"))


def markdown(body: str) -> str:
    return normalise(render(found(body), "markdown"))


def test_cells_stand_in_their_columns_where_others_span_columns_and_rows() -> None:
    table = (
        "<table><tr><th colspan=2>River</th><th>Found</th></tr><tr><td rowspan=2>Rhine</td><td>upper</td><td>gold</td>"
        "</tr><tr><td>lower</td><td>sand</td></tr><tr><td>Main</td><td>all</td><td rowspan=9>mud</td></tr>"
    )
    assert markdown(table).split("\n") == [
        *("| River |  | Found |", "| --- | --- | --- |", "| Rhine | upper | gold |", "| Rhine | lower | sand |"),
        "| Main | all | mud |",
    ]
    assert text(table).split("\n")[2] == "Rhine | lower | sand"
    gaps = "<table><tr><th></th><th>2019</th><th>2020</th></tr><tr><td>gold</td><td></td><td>3</td></tr><tr><td>sand"
    assert text(gaps).split("\n") == ["| 2019 | 2020", "gold |  | 3", "sand"]
    alone = "<table><tr><td></td><td>You are here</td></tr><tr><td></td><td></td><td>Home</td></tr></table>"
    assert text(alone).split("\n") == ["You are here", "Home"]
    wide = "<table>" + f"<tr>{'<td colspan=99999 rowspan=99999>x</td>' * 9}<td>y</td></tr>" * 9
    assert all(len(block.cells or ()) < 1000 for block in found(wide))


def test_items_have_the_numbers_that_they_say() -> None:
    items = "<ol start=5><li>gold</li><li value=9>sand</li><li>mud</li></ol><ul><li value=3>water</li></ul>"
    assert markdown(items).split("\n") == text(items).split("\n") == ["5. gold", "9. sand", "10. mud", "- water"]
    letters = "<ol type=a><li>gold</li><li>sand<ol type=i><li>mud</li></ol></li></ol>"
    assert [line.strip() for line in markdown(letters).split("\n")] == text(letters).split("\n")
    assert text(letters).split("\n") == ["a. gold", "b. sand", "i. mud"]
    down = "<ol reversed><li>gold<ol><li>sand</li></ol></li><li>mud</li></ol><ol reversed start=9><li>a<li>b</ol>"
    assert markdown(down).split("\n") == ["2. gold", "   1. sand", "1. mud", "9. a", "8. b"]


@pytest.mark.parametrize(
    ("attributes", "numbers"),
    [
        ("start=0", [0, 1, 7, 8]),
        ("start=-2", [-2, -1, 7, 8]),
        ("start=' +3rd'", [3, 4, 7, 8]),
        ("start=x", [1, 2, 7, 8]),
        ("reversed", [4, 3, 7, 6]),
        ("reversed start=1", [1, 0, 7, 6]),
        ("start=99999999999", [1, 2, 7, 8]),
    ],
)
def test_items_have_the_numbers_that_a_browser_shows(attributes: str, numbers: list[int]) -> None:
    items = f"<ol {attributes}><li>a<ol><li>inner</li></ol></li><li>b</li><li value=7>c</li><li value=x>d</li></ol>"
    expected = [f"{number}. {name}" for number, name in zip(numbers, "abcd", strict=True)]
    expected.insert(1, "1. inner")
    assert text(items).split("\n") == expected
    assert [line.strip() for line in markdown(items).split("\n")] == expected


def test_a_list_inside_a_cell_of_a_table_stays() -> None:
    table = "<table><tr><th>River</th><th>Found</th></tr><tr><td>Rhine</td><td><ul><li>gold</li><li>sand</li></ul></td>"
    assert text(table) == "River | Found\nRhine | gold; sand"
    assert markdown(table).split("\n") == ["| River | Found |", "| --- | --- |", "| Rhine | gold; sand |"]


@pytest.mark.parametrize(
    "table",
    [
        "<table><tr><td>{}</td></tr></table>",
        "<table role=presentation><tr><td>menu</td><td>{}</td></tr></table>",
        "<table><tr><td>menu</td><td><table><tr><td>{}</td></tr></table></td></tr></table>",
        f"<table><tr><td>menu</td><td>{{}}<p>{'Long as prose is. ' * 30}</p></td></tr></table>",
    ],
)
def test_a_table_that_lays_out_a_page_is_paragraphs_and_lists(table: str) -> None:
    lines = text(table.format("<p>One.</p><p>Two.</p><ul><li>three</li></ul>")).split("\n")
    assert [line for line in lines if line[0] in "OT-"] == ["One.", "Two.", "- three"]
    assert not any("|" in line for line in lines)


@pytest.mark.parametrize(
    ("html", "wanted"),
    [
        ("10<sup>6</sup> and 10<sup>-3</sup>", "10⁶ and 10⁻³"),
        ("H<sub>2</sub>O, CO<sub>2</sub>", "H₂O, CO₂"),
        ("x<sup>2k</sup>, x<sup>k</sup>, a<sub>ij</sub>, a<sub>i</sub>", "x^{2k}, x^k, a_{ij}, a_i"),
        ("the 1<sup>st</sup>, M<sup>me</sup> Curie, Gold<sup>TM</sup>", "the 1st, M^{me} Curie, GoldTM"),
        ("said so<sup><a href=#n>12</a></sup>.", "said so[12]."),
        ("said so<sup>[3]</sup>", "said so[3]"),
        ("said so<sup><a href=#n>b</a></sup>, so<sup><a href=#n>a note</a></sup>", "said so[b], so a note"),
        ("2<sup>n + 1</sup>, f<sup>(k)</sup>, x<sub>i, j</sub>", "2^{n + 1}, f^{(k)}, x_{i, j}"),
        ("2<sup>2<sup>n</sup></sup>, x<sub>a<sub>i</sub></sub>", "2^{2^n}, x_{a_i}"),
        ("Gold<sup>(TM)</sup>, sand<sup>see below</sup>", "Gold(TM), sand see below"),
        (f"mud<sup>{'found here ' * 9}</sup>", f"mud {'found here ' * 9}".strip()),
        ("<math><mo>(</mo><mfrac linethickness=0pt><mi>n</mi><mi>k</mi></mfrac><mo>)</mo></math>", "$({n \\atop k})$"),
        ("<math><mmultiscripts><mi>C</mi><mprescripts/><mn>6</mn><mn>14</mn></mmultiscripts></math>", "${}_{6}^{14}C$"),
    ],
)
def test_sub_and_superscripts_do_not_fuse(html: str, wanted: str) -> None:
    assert text(f"<p>{html}</p>") == wanted


MATHS = {
    "annotation": (
        "<math><semantics><mi>x</mi><annotation encoding='application/x-tex'>\\frac{a}{b}</annotation></semantics>"
        "</math>",
        "$\\frac{a}{b}$",
    ),
    "alttext": ("<math alttext='{\\displaystyle a^{2}}'><mi>a</mi></math>", "$a^{2}$"),
    "alttext in words": ("<math alttext='Alternative text not available'><mi>a</mi></math>", "$a$"),
    "alttext in letters": ("<math alttext='a + b'><mi>c</mi></math>", "$a + b$"),
    "alttext alone": ("<math alttext='gold'></math>", "$gold$"),
    "bare": (
        "<math display=block><mfrac><mrow><mi>a</mi><mo>+</mo><mn>1</mn></mrow><msqrt><mi>β</mi></msqrt></mfrac>"
        "</math>",
        "$$\\frac{a+1}{\\sqrt{\\beta}}$$",
    ),
    "scripts": (
        "<math><msubsup><mi>x</mi><mi>i</mi><mn>2</mn></msubsup><mo>≤</mo><mi>sin</mi><mi>y</mi></math>",
        "$x_{i}^{2}\\le\\sin y$",
    ),
    "matrix": (
        "<math><mtable><mtr><mtd><mn>1</mn></mtd><mtd><mn>2</mn></mtd></mtr></mtable></math>",
        "$\\begin{matrix} 1 & 2 \\end{matrix}$",
    ),
    "mathjax": ("<script type='math/tex'>e^{i\\pi}=-1</script>", "$e^{i\\pi}=-1$"),
    "mathjax display": ("<script type='math/tex; mode=display'>a=b</script>", "$$a=b$$"),
    "mathjax rendered": (
        "<span class=MathJax_Preview>a=b</span><span class=MathJax>a=b</span><script type='math/tex'>a=b</script>",
        "$a=b$",
    ),
    "katex": (
        "<span class=katex><span class=katex-mathml><math><semantics><mi>c</mi><annotation encoding='application/"
        "x-tex'>c^2</annotation></semantics></math></span><span class=katex-html aria-hidden=true>c2</span></span>",
        "$c^2$",
    ),
    "picture": ("<img class='mwe-math-fallback-image-inline' alt='{\\displaystyle E=mc^{2}}' src=x.svg>", "$E=mc^{2}$"),
}


@pytest.mark.parametrize("name", MATHS)
def test_formulas_are_latex_however_a_page_has_them(name: str) -> None:
    html, wanted = MATHS[name]
    assert text(f"<p>So {html} holds.</p>") == f"So {wanted} holds."


def test_readings_above_japanese_do_not_mix_into_it() -> None:
    one = "<ruby>漢<rp>(</rp><rt>かん</rt><rp>)</rp>字<rt>じ</rt></ruby>"
    two = "<ruby><rb>金</rb><rtc><rt>きん</rt></rtc></ruby>"
    assert text(f"<p>{one}と{two}を洗う。</p>") == "漢字と金を洗う。"


def test_blank_lines_and_indentation_of_code_stay() -> None:
    code = "def f():\n&nbsp;&nbsp;&nbsp;&nbsp;return 1\n\n\nclass A:\n\tx = 2<br>    y = 3"
    wanted = "def f():\n    return 1\n\n\nclass A:\n\tx = 2\n    y = 3"
    assert text(f"<p>Code:</p><pre><code class='language-python'>{code}\n</code></pre>") == f"Code:\n{wanted}"
    assert markdown(f"<p>Code:</p><pre class='language-python'>{code}</pre>") == f"Code:\n\n```python\n{wanted}\n```"


def test_numbers_of_lines_beside_code_are_none_of_it() -> None:
    gutter = "<table><tr><td class=gutter><pre>1\n2</pre></td><td class=code><pre>a = 1\nb = 2</pre></td></tr></table>"
    assert text(gutter).endswith("a = 1\nb = 2")
    inside = "<pre><span class=line-number>1</span>a = 1\n<span class=line-number>2</span>b = 2</pre>"
    assert text(inside) == "a = 1\nb = 2"


def test_markdown_marks_headings_lists_quotations_and_inline_code() -> None:
    html = (
        "<h1>Gold</h1><p>Wash <code>gravel</code> and <b>sand</b>.</p><h2><span>How</span></h2>"
        "<ol><li>Dig<ul><li>deep</li></ul></li><li>Wash</li></ol><blockquote><p>Gold!</p></blockquote>"
        "<table><tr><th>a|b</th><th>c</th></tr><tr><td>1</td></tr></table>"
    )
    assert markdown(html).split("\n\n") == [
        "# Gold",
        "Wash `gravel` and sand.",
        "## How",
        "1. Dig\n   - deep\n2. Wash",
        "> Gold!",
        "| a\\|b | c |\n| --- | --- |\n| 1 |  |",
    ]
    assert text(html).split("\n")[:5] == ["Gold", "Wash gravel and sand.", "How", "1. Dig", "- deep"]


def test_what_scripts_would_have_written_is_taken_from_noscript_and_not_beside_a_page_that_is_there() -> None:
    posts = "<p>" + "A post of a forum that only scripts show. " * 20 + "</p>"
    assert "A post" in text(f"<div id=app>Loading</div><noscript>{posts}</noscript>")
    assert "Enable" not in text(f"{posts}<noscript><p>Enable scripts</p></noscript>")


def test_code_with_fences_has_longer_ones() -> None:
    assert markdown("<pre>```\nx\n```</pre>") == "````\n```\nx\n```\n````"
