"""Wikitext to text: what each mark becomes, and that no page takes more than time of its length."""

from __future__ import annotations

import time

import pytest

from tasks.sources.wikitext import plain


@pytest.mark.parametrize(
    ("wikitext", "text"),
    [
        ("'''Bold''' and ''slanted'' ''''' both'''''", "Bold and slanted both"),
        ("a [[Bar (baz)|bar]], [[bars]] and [[:Category:Bars]]", "a bar, bars and Category:Bars"),
        ("[[File:A.jpg|thumb|The [[caption]] of {{x}}]]text[[de:Andere]]", "text"),
        ("[https://example.org/a label] [https://example.org/b] https://example.org/c", "label https://example.org/c"),
        ("said<ref name=a>Note, {{cite|x}}</ref> so<ref name=a/>.<!-- hidden -->", "said so."),
        ("He (born {{circa|1900}}; {{IPAc-en|x}}) ran {{convert|5|to|6|km|mi}}.", "He (born c. 1900) ran 5 to 6 km."),
        ("A ({{lang-el|άλφα}}, {{zh|t=x}}) and {{lang|fr|un mot}}", "A (άλφα) and un mot"),
        ("{{Infobox\n| a = [[b]]\n| c = {{d|e}}\n|}}\ntext", "text"),
        ("${{formatnum:{{Inflation|US|3}}}} {{formatnum:1000}}", "$ 1000"),
        ("H<sub>2</sub>O, 10<sup>6</sup>, x<sup>n + 1</sup>", "H_2O, 10^6, x^{n + 1}"),
        (
            "2<sup>2<sup>n</sup></sup>, x<sub>a<sub>i</sub></sub>, 10<sup><small>6</small></sup>",
            "2^{2^n}, x_{a_i}, 10^6",
        ),
        ("{|\n| 10<sup><b>6</b></sup>\n|}said<sup>" + "so " * 99 + "</sup>", "10^6\n\nsaid " + ("so " * 99).strip()),
        ("<chem>SO4^2-</chem>", "$\\ce{SO4^2-}$"),
        ("so <math>a &lt; \\frac{b}{{c}}</math> holds", "so $a < \\frac{b}{{c}}$ holds"),
        ("<nowiki>[[as it is]] &amp; {{so}}</nowiki>", "[[as it is]] & {{so}}"),
        ("<syntaxhighlight lang=py>\nif a:\n    b = '''[[c]]'''\n</syntaxhighlight>", "if a:\n    b = '''[[c]]'''"),
        ("* one\n** two\n# a\n#* x\n# b\n: said\n;term", "- one\n  - two\n1. a\n  - x\n2. b\nsaid\nterm"),
        ("one\n\n== Empty ==\n=== Deeper ===\n== Full ==\ntext", "one\n\nFull\n\ntext"),
        ("one\n== References ==\n=== Books ===\n* book\n== Then ==\ntwo", "one\n\nThen\n\ntwo"),
        ("一\n== 参考文献 ==\n* 书\n== 生平 ==\n二", "一\n\n生平\n\n二"),
        ("{|\n|+ Title\n! A !! B\n|-\n| x=1 | 1 || [[two|2]]\n| 3<br>4\n|}", "Title\nA | B\n1 | 2 | 3 4"),
        ('{| class="infobox"\n| a || b\n|}\ntext', "text"),
        ("{|\n| a\n{|\n| inner\n|}\n|}", "a inner"),
        ("-{zh-hans:计算机; zh-hant:電腦;}-，-{原样}--{H|zh-cn:甲;zh-tw:乙}-", "计算机，原样"),
        ("鲁迅（{{bd|1881年|9月25日|1936年|10月19日}}），{{le|甲|A}}", "鲁迅（1881年9月25日－1936年10月19日），甲"),
        ("{{never closed [[link]] and {| too", "{{never closed link and {| too"),
        ("closed }} before ]] it |} opens }-", "closed }} before ]] it |} opens }-"),
        ("[[a|b {{c}} ''d'' ]] [[File:x|[[y]] z]]e", "b d e"),
        ("{{{1|kept}}} {{{2}}} {{{{{1|x}}}|y}}", "kept"),
        ("a &lt;b&gt;&nbsp;c &#127;0&#127; <ref>n</ref>", "a <b> c 0"),
        ("__NOTOC__ text ---\n----\nmore", "text ---\nmore"),
    ],
)
def test_each_mark_becomes_what_is_read_there(wikitext: str, text: str) -> None:
    found = plain(wikitext).text
    assert " ".join(found.replace("\xa0", " ").split(" ")).strip() == text


@pytest.mark.parametrize(
    ("call", "text"),
    [
        *(("convert|6|ft|2|in|m", "6 ft 2 in"), ("convert|1|st|2|lb|3|oz|kg", "1 st 2 lb 3 oz")),
        *(("convert|10|km|mi|0", "10 km"), ("cvt|5|to|7|m|ft", "5 to 7 m"), ("convert|5|xx|6|m", "5 × 6 m")),
        *(("convert|2|x|4|x|6|in", "2 × 4 × 6 in"), ("convert|-5|C", "-5 C"), ("convert", "")),
        *(("frac|5", "1/5"), ("sfrac|1|3", "1/3"), ("frac|3|1|2", "3 1/2"), ("frac", "")),
        *(("val|1.23|0.05|e=6|ul=m", "(1.23±0.05)×10^6 m"), ("val|1.234|(5)", "1.234(5)"), ("val|9|u=km", "9 km")),
        *(("as of|2020|5", "As of 2020-05"), ("As of|2020", "As of 2020")),
    ],
)
def test_a_quantity_is_what_its_template_says(call: str, text: str) -> None:
    assert plain(f"a {{{{{call}}}}} b").text == " ".join(f"a {text} b".split())


@pytest.mark.parametrize(
    ("wikitext", "text"),
    [
        ("a 5{{frac|1|2}} inch", "a 5 1/2 inch"),
        ("a '''5'''{{sfrac|1|2}}, [[six|6]]{{frac|1|2}}, {{val|7}}{{frac|2}}", "a 5 1/2, 6 1/2, 7 1/2"),
        ("a -{{frac|1|2}}, x{{frac|1|2}}, 6 {{frac|1|2}}, 1{{nowrap|000}}", "a -1/2, x1/2, 6 1/2, 1000"),
        ("{|\n| 5{{frac|1|2}}\n| {{frac|1|2}}\n|}", "5 1/2 | 1/2"),
    ],
)
def test_a_fraction_does_not_run_into_the_whole_number_before_it(wikitext: str, text: str) -> None:
    assert plain(wikitext).text == text


@pytest.mark.parametrize(
    ("wikitext", "text"),
    [
        ("L'''Iliade'' est\nd'''Homère'', et '''lui'''", "L'Iliade est\nd'Homère, et lui"),
        ("l''''amour''' ''''''six'''''' and a '''b'''", "l'amour 'six' and a b"),
        ("a '''b c'''d ''e", "a b cd e"),
        ("a?title=A&section=2&copy=1, AT&T; &copy; &#945;&nbsp;&lt;b&gt;", "a?title=A&section=2&copy=1, AT&T; © α <b>"),
        ("&unknown; &sect;ion &amp;lt;", "&unknown; §ion &lt;"),
        ("<code>__FILE__</code>, __init__ and __LINE__ in __NOTOC__ C", "__FILE__, __init__ and __LINE__ in C"),
        ("main() and <code>(1,)</code> or f( , x), (;-)", "main() and (1,) or f( , x), (;-)"),
        ("so (<ref>a</ref>) and ({{cite|b}}, {{cite|c}}) or (d<ref>e</ref>, {{cite|f}})", "so and or (d)"),
        ("[[C (language)|main()]], {{nowrap|g(,)}} [[File:A().jpg]]", "main(), g(,)"),
        ("{|\n! f() !! g\n|-\n| h(1,) || [[i()]]\n|}", "f() | g\nh(1,) | i()"),
    ],
)
def test_what_an_author_writes_for_itself_is_no_mark(wikitext: str, text: str) -> None:
    assert plain(wikitext).text.replace("\xa0", " ") == text


@pytest.mark.parametrize(
    ("call", "text"),
    [
        *(("{{langx|ru|Москва|Moskva|Moscow}}", "Москва"), ("{{lang|ru|Москва}}", "Москва")),
        *(("{{lang|code=fr|text=un mot}}", "un mot"), ("{{hlist|2=b|1=a|c}}", "c, b")),
        *(("{{chem|SO|4|2-}}", "SO_4^{2-}"), ("{{chem|H|2|O}}", "H_2O"), ("{{chem|Na|+}}", "Na^+"), ("{{chem}}", "")),
        *(("{{circa|1900|1950}}", "c. 1900 – c. 1950"), ("{{circa}}", "c."), ("x{{sup|n + 1}}", "x^{n + 1}")),
        *(("{{val|5|p=$}}", "$5"), ("{{val|9.8|u=m|up=s}}", "9.8 m/s"), ("{{val|5|s=%}}", "5%")),
    ],
)
def test_a_template_says_no_more_and_no_less_than_is_shown_of_it(call: str, text: str) -> None:
    assert plain(call).text == text


def test_cells_stand_in_their_columns_where_others_span_columns_and_rows() -> None:
    table = (
        "{| class=wikitable\n! Year !! Film !! Role\n|-\n| rowspan=2 | 2001\n| Foo || Bar\n|-\n| Baz || "
        'rowspan="2"|Qux\n'
        "|-\n| colspan=2 | both\n|-\n| colspan=3 | all\n|-\n| a || colspan=2 | b\n|-\n|}"
    )
    assert plain(table).text.split("\n") == [
        *("Year | Film | Role", "2001 | Foo | Bar", "2001 | Baz | Qux", "both | | Qux", "all", "a | b"),
    ]
    many = "{|\n" + "| rowspan=9999 | " + "x" * 1000 + "\n|-\n| y\n" * 9999 + "|}"
    assert len(plain(many).text) < 3 * len(many)


def test_categories_may_hold_what_stays_as_it_is() -> None:
    assert plain("[[Category:A <nowiki>b</nowiki>]][[Category:Main()]]").categories == ["A b", "Main()"]


def test_categories_are_told_beside_the_text_by_the_names_that_a_dump_gives() -> None:
    page = plain("text [[Category:One two|key]][[分类:三]][[Категория:Четыре_пет]]", categories={"категория"})
    assert (page.text, page.categories) == ("text", ["One two", "三", "Четыре пет"])


PIECES = (
    *(
        "{{",
        "{{{",
        "[[",
        "{|\n",
        "\n{|\n|",
        "<!--",
        "<ref>",
        "<ref ",
        "</ref>",
        "|",
        "'''",
        "-{",
        "}-",
        "{{a|",
        "\n|}",
        "}}",
    ),
    *(
        "]]",
        "==",
        "= ",
        "\n*",
        "\n;",
        "[http://",
        "<",
        "&",
        "(",
        "( ",
        "（，",
        " ",
        " |",
        "\x7f",
        "[[a|",
        "<math>",
        "<sub>",
    ),
    *(
        "\n!!a||",
        "{{lang|x|",
        "&#127;0&#127;",
        "__A",
        "<rt>",
        "\n=",
        "<td>",
        "[[File:",
        "()",
        "''",
        "(,",
        "&a;",
        ",",
        ", ",
    ),
)


@pytest.mark.slow
def test_no_page_takes_more_than_time_of_its_length() -> None:
    for piece in PIECES:
        begun = time.process_time()
        assert len(plain("gold " + piece * (200_000 // len(piece))).text) < 10**6
        assert time.process_time() - begun < 2, repr(piece)
