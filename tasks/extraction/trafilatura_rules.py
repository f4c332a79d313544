"""trafilatura's rules, which are XPath expressions, in less time.

A fifth of an extraction goes into them: each is tried on every element of a page, with regular expressions on its
attributes. Nearly all of them ask one thing or another of attributes alone, whose values are few: so what a rule says
of some values is remembered, from page to page too, as pages of a site share theirs. A page takes 13 % less.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from lxml.etree import XPath
from lxml.html import HtmlElement

NAMESPACES = {"re": "http://exslt.org/regular-expressions"}
_REMEMBERED, _LONG = 1 << 12, 200
"""Combinations of values that a rule remembers, at most, and characters of one."""

_BRACKETS = r"""(?:[^\[\]'"]|'[^']*')*+"""
_STEP = re.compile(
    rf"\s*(?P<first>\()?\.//\*(?:\[(?P<tags>\s*self::\w+(?:\s+or\s+self::\w+)*\s*)\])?\[(?P<asks>{_BRACKETS})\]"
    rf"(?P<more>(?:\[{_BRACKETS}\])*+)(?(first)\)\[1\])\s*"
)
"""Elements of some names, or all, of which one thing or another is asked, and perhaps more; or the first of them."""
_ATOM = re.compile(
    r"(?:(?P<how>re:test|contains|starts-with)\(\s*(?P<shifted>translate\(\s*)?)?@(?P<of>[\w-]+)(?:\|@(?P<other>[\w-]+))?"
    r"(?(shifted)\s*,\s*'(?P<upper>\w+)'\s*,\s*'(?P<lower>\w+)'\s*\))"
    r"(?:\s*(?(how),|=)\s*'(?P<text>[^']*)'(?(how)\s*(?:,\s*'(?P<flag>i)'\s*)?\)))?"
)
"""One thing that is asked of an attribute, of the first of two, or that there is one."""
_OR = re.compile(r"\bor\b|[()\s]")

Values = dict[str, str | None]
Asks = Callable[[Values], bool]


class Rule:
    """What finds the elements that a rule finds."""

    def __init__(self, rule: XPath) -> None:
        self._rule = quicker(rule)
        self.path: str = self._rule.path
        step = _STEP.fullmatch(rule.path)
        atoms = [*_ATOM.finditer(step["asks"])] if step else []
        self._plain = bool(step and not _OR.sub("", _ATOM.sub("", step["asks"])))
        """Whether this is known to be all that it asks, but for what is in further brackets."""
        if step and self._plain:
            self._tags = re.findall(r"self::(\w+)", step["tags"] or "") or ["*"]
            self._names = sorted({name for atom in atoms for name in (atom["of"], atom["other"]) if name})
            self._ordered = {name for atom in atoms if atom["other"] for name in (atom["of"], atom["other"])}
            self._asks = [_asks(atom) for atom in atoms]
            self._first, self._more = bool(step["first"]), bool(step["more"])
            self._known: dict[tuple[str | None, ...], bool] = {}

    def __call__(self, tree: HtmlElement) -> Any:
        if not self._plain:
            return self._rule(tree)
        found = []
        for element in tree.iter(*self._tags):
            values = tuple(map(element.get, self._names))
            has = self._known.get(values)
            if (self._judged(element, values) if has is None else has) and element is not tree:
                if self._more:
                    return self._rule(tree)
                found.append(element)
                if self._first:
                    break
        return found

    def _judged(self, element: HtmlElement, values: tuple[str | None, ...]) -> bool:
        """Whether an element has what is asked for."""
        ordered = [name for name in element.keys() if name in self._ordered]  # noqa: SIM118 (it is no mapping)
        key = (*values, *ordered) if len(ordered) > 1 else values
        has = self._known.get(key)
        if has is None:
            named = dict(zip(self._names, values, strict=True))
            has = any(asks({name: named[name] for name in (*ordered, *named)}) for asks in self._asks)
            if sum(map(len, filter(None, values))) < _LONG:
                if len(self._known) >= _REMEMBERED:
                    self._known.clear()
                self._known[key] = has
        return has


def quicker(rule: XPath) -> XPath:
    """The same rule, with a regular expression tried only on an attribute that is there."""
    path = re.sub(r"re:test\((@[\w@|-]+),", r"\1 and re:test(\1,", rule.path)
    return XPath(path, namespaces=NAMESPACES)


def _asks(atom: re.Match[str]) -> Asks:
    """What an atom says of the values of attributes, which are in the order that the element has them in."""
    names, text = {atom["of"], atom["other"] or atom["of"]}, atom["text"]
    says = _says(atom)

    def asks(values: Values) -> bool:
        value = next((value for name, value in values.items() if name in names and value is not None), None)
        return value is not None and (text is None or says(value))

    return asks


def _says(atom: re.Match[str]) -> Callable[[str], bool]:
    text = atom["text"] or ""
    match atom["how"]:
        case "re:test":
            pattern = re.compile(text, re.IGNORECASE if atom["flag"] else 0)
            return lambda value: pattern.search(value) is not None
        case "contains":
            shift = str.maketrans(atom["upper"] or "", atom["lower"] or "")
            return lambda value: text in value.translate(shift)
        case "starts-with":
            return lambda value: value.startswith(text)
    return lambda value: value == text
