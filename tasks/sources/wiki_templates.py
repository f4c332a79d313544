"""Templates of wikitext whose argument is text to be read: quotations, words in other languages, quantities, dates.

A dump holds calls of templates, not what they expand to; every wiki has its own, by the ten thousands. Those below are
common in running text of the English and the Chinese Wikipedia, where a sentence would lack a word without them. All
others (boxes of facts, notes, navigation) are left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable

Arguments = dict[str, str]
"""The arguments of a call by name; those without a name by number, from "1"."""


def _first(*names: str) -> Callable[[Arguments], str]:
    """The first of some arguments that is given."""
    return lambda given: next((given[name] for name in names if given.get(name)), "")


def _last(given: Arguments) -> str:
    return _numbered(given)[-1] if _numbered(given) else ""


def _numbered(given: Arguments) -> list[str]:
    numbers = sorted((name for name in given if name.isdecimal()), key=int)
    return [given[name] for name in numbers if given[name]]


def raised(text: str, mark: str) -> str:
    """A raised (`^`) or lowered (`_`) part, marked so that it does not become one word with what is before it."""
    text = text.strip()
    return f"{mark}{text}" if re.fullmatch(r"[+\-−]?[^\W_]+|[+\-−]", text) else f"{mark}{{{text}}}" if text else ""


def _chemical(given: Arguments) -> str:
    """`chem`: symbols, each with how many there are, and a charge."""
    first, *rest = _numbered(given) or [""]
    marks = [("_" if part.isdecimal() else "^" if re.fullmatch(r"[0-9]*[+\-−–]", part) else "") for part in rest]
    return first + "".join(raised(part, mark) if mark else part for part, mark in zip(rest, marks, strict=True))


def _joined(separator: str) -> Callable[[Arguments], str]:
    return lambda given: separator.join(_numbered(given))


_BETWEEN = {
    "to": " to ",
    "to(-)": " to ",
    "-": "–",
    "–": "–",
    "and": " and ",
    "or": " or ",
    "x": " × ",
    "xx": " × ",
    "*": " × ",
    "×": " × ",
    "+": " + ",
    "by": " by ",
    "+/-": " ± ",
    "±": " ± ",
}


_PARTS = frozenset("in ft yd rd ch chain fur furlong oz lb qtr cwt".split())
"""Units in which what is left of a larger one is told: 6 ft 2 in."""


def _converted(given: Arguments) -> str:
    """`convert`: the quantity as it was given, not what it is converted to."""
    values = _numbered(given)
    quantity, rest = "".join(values[:1]), values[1:]
    while len(rest) > 2 and rest[0] in _BETWEEN:
        quantity, rest = f"{quantity}{_BETWEEN[rest[0]]}{rest[1]}", rest[2:]
    quantity, rest = " ".join([quantity, *rest[:1]]), rest[1:]
    while len(rest) > 1 and rest[1] in _PARTS:
        quantity, rest = f"{quantity} {rest[0]} {rest[1]}", rest[2:]
    return quantity


def _value(given: Arguments) -> str:
    """`val`: a number, how sure it is, its power of ten and its unit."""
    number, *sure = _numbered(given) or [""]
    number += f"±{sure[0]}" if len(sure) == 1 and not sure[0].startswith("(") else "".join(sure)
    power = f"×10^{given['e']}" if given.get("e") else ""
    unit = given.get("u") or given.get("ul") or ""
    per = given.get("up") or given.get("upl") or ""
    unit += f"/{per}" if per else ""
    shown = f"{f'({number})' if power and '±' in number else number}{power}"
    return f"{given.get('p', '')}{shown}{given.get('s', '')} {unit}".strip()


def _fraction(given: Arguments) -> str:
    """`frac`: of two numbers the second below the first; one alone is below 1."""
    values = _numbered(given)
    if not values:
        return ""
    return (
        f"{values[0]} {values[1]}/{values[2]}"
        if len(values) > 2
        else "/".join(values if values[1:] else ["1", *values])
    )


def _date(given: Arguments) -> str:
    values = [value for value in _numbered(given)[:3] if value.isdecimal()]
    return "-".join(value.zfill(2) for value in values)


def _chinese_life(given: Arguments) -> str:
    """`bd`: days of birth and death."""
    born, died = (given.get(a, "") + given.get(b, "") for a, b in (("1", "2"), ("3", "4")))
    return f"{born}－{died}" if born or died else ""


def _japanese(given: Arguments) -> str:
    shown, written = given.get("1", ""), given.get("2", "")
    return f"{shown} ({written})" if shown and written else shown or written


_FRACTIONS = ("frac", "sfrac", "fraction", "tfrac")
_WHOLE = re.compile(r"[0-9]'*\Z")
"""The end of a number, which may be in bold."""
_ONE, _TEXT = _first("1"), _first("text", "quote", "1", "content")
_SHOWN: dict[str, Callable[[Arguments], str]] = {
    **dict.fromkeys(
        ("nowrap", "nobr", "small", "smaller", "big", "larger", "nobold", "noitalic", "em", "strong"), _ONE
    ),
    **dict.fromkeys(
        ("abbr", "tooltip", "math", "mvar", "var", "code", "kbd", "samp", "tt", "mono", "sc", "smallcaps"), _ONE
    ),
    **dict.fromkeys(
        (
            "ruby",
            "ruby-ja",
            "lang-zh",
            "linktext",
            "color",
            "visible anchor",
            "vanchor",
            "noflag",
            "longitem",
            "resize",
            "nts",
            "keypress",
        ),
        _ONE,
    ),
    **dict.fromkeys(("ill", "interlanguage link", "ill2"), _first("lt", "1")),
    **dict.fromkeys(("link-en", "le", "link-ja", "link-de", "link-fr", "illm"), _first("3", "1")),
    **dict.fromkeys(("tsl", "translink"), _first("4", "3")),
    **dict.fromkeys(("internal link helper", "ilh"), _first("1")),
    **dict.fromkeys(("lang", "lang1", "langx"), _first("text", "2")),
    **dict.fromkeys(("transl", "transliteration", "translit"), _last),
    **dict.fromkeys(("quote", "blockquote", "cquote", "quotation", "bq", "poemquote", "quote box", "rquote"), _TEXT),
    **dict.fromkeys(("columns-list", "div col content"), _last),
    **dict.fromkeys(("ipa", "ipalink", "ipablink", "unicode", "script"), _last),
    **dict.fromkeys(("angbr", "angbr ipa", "angle bracket", "grapheme"), lambda given: f"⟨{given.get('1', '')}⟩"),
    **dict.fromkeys(("convert", "cvt"), _converted),
    **dict.fromkeys(_FRACTIONS, _fraction),
    **dict.fromkeys(
        ("hlist", "plainlist", "flatlist", "unbulleted list", "ubl", "plain list", "cslist"), _joined(", ")
    ),
    **dict.fromkeys(("chem", "chemf"), _chemical),
    "chem2": _joined(""),
    **dict.fromkeys(("flag", "flagcountry", "flagu", "flagdeco"), _ONE),
    **dict.fromkeys(("birth date", "death date", "birth date and age", "start date", "end date", "dob"), _date),
    **dict.fromkeys(("nihongo", "nihongo2", "nihongo3"), _japanese),
    **dict.fromkeys(("us$", "usd"), lambda given: f"US${given.get('1', '')}"),
    **dict.fromkeys(("circa", "c."), lambda given: " – ".join(f"c. {each}" for each in _numbered(given)) or "c."),
    **dict.fromkeys(("snd", "spnd", "spaced ndash", "spaced en dash", "dash"), lambda given: " – "),
    **dict.fromkeys(("ndash", "endash", "en dash"), lambda given: "–"),
    **dict.fromkeys(("mdash", "emdash", "em dash"), lambda given: "—"),
    **dict.fromkeys(("nbsp", "thinsp", "spaces", "nnbsp"), lambda given: " "),
    **dict.fromkeys(("·", "•", "dot", "middot", "bullet"), lambda given: " · "),
    **dict.fromkeys(("'", "'-"), lambda given: "'"),
    **dict.fromkeys(("!", "mid"), lambda given: "|"),
    "'s": lambda given: "'s",
    "=": lambda given: "=",
    "pi": lambda given: "π",
    "minus": lambda given: "−",
    "times": lambda given: "×",
    "sup": lambda given: raised(given.get("1", ""), "^"),
    "sub": lambda given: raised(given.get("1", ""), "_"),
    "e": lambda given: f"×10^{given.get('1', '')}",
    "val": _value,
    "as of": lambda given: f"As of {_date(given)}".strip(),
    "bd": _chinese_life,
}
_PREFIXED: dict[str, Callable[[str], str]] = {
    "formatnum": str.strip,
    "lc": str.lower,
    "uc": str.upper,
    "lcfirst": lambda text: text[:1].lower() + text[1:],
    "ucfirst": lambda text: text[:1].upper() + text[1:],
}
"""Functions of the parser that keep the text."""
_LANGUAGE = re.compile(r"lang-[a-z]{2,3}(?:-[a-z]+)?\Z")


def expanded(parts: list[str], before: str = "") -> str:
    """What is to be read of a call: its name, and its arguments as they stand between bars. `before`: the text before
    it, into whose number a fraction does not run: 5{{frac|1|2}} is 5 1/2."""
    name = " ".join(parts[0].replace("_", " ").split()).lower()
    prefix, colon, rest = parts[0].partition(":")
    if colon and (function := _PREFIXED.get(prefix.strip().lower())):
        return function(rest)
    shown = _SHOWN.get(name) or (_ONE if _LANGUAGE.match(name) else None)
    text = shown(_given(parts[1:])) if shown else ""
    return f" {text}" if text and name in _FRACTIONS and _WHOLE.search(before) else text


def _given(arguments: list[str]) -> Arguments:
    given: Arguments = {}
    number = 0
    for argument in arguments:
        name, equals, value = argument.partition("=")
        name = name.strip()
        if not equals or not re.fullmatch(r"[\w .-]{1,40}", name):
            number += 1
            name, value = str(number), argument
        given[name] = value.strip()
    return given
