"""The macros that the author of a paper defines, and what becomes of their calls.

Nothing is run: of macros those are expanded that `\\newcommand`, `\\def` with plain parameters, `\\DeclareMathOperator`
and their like define, within bounds: what would become more than a few times its length is left as it is written.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

DEEPEST = 12
"""Files in files, and macros in macros, at most."""
_LONGEST = 20_000
"""Characters of an argument, or of the body of a macro, at most."""
_STEP = 8
"""Characters that an expansion costs at least: those that leave nothing end, too."""
LITERAL = (
    r"\\begin\{(?P<literal>verbatim\*?|lstlisting|minted|Verbatim|alltt)\}"
    r"|\\(?:verb\*?|lstinline)(?P<mark>[^\sA-Za-z*\[{])[^\n]{0,200}?(?P=mark)"
)
"""Where a listing begins, and what is written as it is within a line."""
_LITERAL = re.compile(rf"{LITERAL}|\\\\")
"""Also a line's end, behind which `verb` is a word."""
_DEFINED = re.compile(
    r"\\(?:(?:re)?newcommand|providecommand|DeclareRobustCommand)\*?\s{0,9}(?:\{\s{0,9}(\\[A-Za-z]+)\s{0,9}\}|(\\[A-Za-z]+))"
    r"\s{0,9}(?:\[([0-9])\])?\s{0,9}(?:\[([^\[\]]{0,500})\])?\s{0,9}(?=\{)"
    r"|\\[gex]?def\s{0,9}(\\[A-Za-z]+)((?:#[1-9]){0,9})(?=\{)"
    r"|\\DeclareMathOperator(\*?)\s{0,9}\{?(\\[A-Za-z]+)\}?\s{0,9}(?=\{)"
)
_CALL = re.compile(r"\\([A-Za-z]+)")
_PARAMETER = re.compile(r"#([1-9])")
_NESTED = re.compile(r"(?<!\\)##")
_SPACE_FACTOR = re.compile(r"\\@(?![A-Za-z@])")
_INTERNAL = re.compile(r"\\[A-Za-z]*@(?!@input(?![A-Za-z@]))")
"""Commands of LaTeX's own making, which only TeX can run; what puts a file in is read."""
_COMMAND_ENDS = re.compile(r"\\[A-Za-z]+\Z")
_RAISES = re.compile(r"(?<!\\)[\^_]\s*\Z")
_NO_SPACE = ".,'/?;:!~-)]}{$ \t\n"
"""Signs before which `xspace` sets none."""


@dataclass(frozen=True)
class Macro:
    parameters: int
    default: str | None
    body: str


class Literals:
    """What of a text is written as it is: listings, and `verb`."""

    def __init__(self, text: str) -> None:
        self._begins, self._ends = list[int](), list[int]()
        place, endless = 0, set[str]()
        while found := _LITERAL.search(text, place):
            begin, place = found.span()
            if found["literal"]:
                place = listing_end(found, endless)
            if place > found.end() or found["mark"]:
                self._begins.append(begin)
                self._ends.append(place)

    def has(self, place: int) -> bool:
        """Whether a place of the text is inside one."""
        before = bisect_right(self._begins, place)
        return before > 0 and place < self._ends[before - 1]

    def first(self, text: str, what: str, at: int = 0) -> int:
        """Where something stands first that is in none; -1 where it does not."""
        while (at := text.find(what, at)) >= 0 and self.has(at):
            at += len(what)
        return at


def listing_end(begin: re.Match[str], endless: set[str]) -> int:
    """Where a listing ends; where its beginning does, if nothing ends it. `endless` collects the names of those, as no
    later one of the name has an end, either."""
    name, place = begin["literal"], begin.end()
    end = -1 if name in endless else begin.string.find(f"\\end{{{name}}}", place)
    if end < 0:
        endless.add(name)
    return max(end, place)


def macros(text: str) -> tuple[dict[str, Macro], str]:
    """The macros that a text defines, the last of a name, and the text without their definitions."""
    found, out, at, place = dict[str, Macro](), list[str](), 0, 0
    literals = Literals(text)
    while definition := _DEFINED.search(text, place):
        place = definition.end()
        if literals.has(definition.start()):
            continue
        argument = braced(text, definition.end())
        if argument is None:
            break
        body, end = argument
        if _NESTED.search(body):  # for what another definition makes, such as an environment
            place = end
            continue
        body = _SPACE_FACTOR.sub("", body)
        name = next(filter(None, (definition[1], definition[2], definition[5], definition[8])))[1:]
        if definition[8]:
            macro = Macro(0, None, f"\\operatorname{definition[7]}{{{body}}}")
        else:
            macro = Macro(int(definition[3] or (definition[6] or "").count("#")), definition[4], body)
        if not _INTERNAL.search(body):
            found[name] = macro
        out.append(text[at : definition.start()])
        at = place = end
    return found, "".join([*out, text[at:]])


def braced(text: str, at: int) -> tuple[str, int] | None:
    """What stands between a brace and the one that closes it, and where it ends; None where none does."""
    if text[at : at + 1] != "{":
        return None
    depth, place = 0, at
    for brace in re.compile(r"\\.|[{}]", re.DOTALL).finditer(text, at, at + _LONGEST):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        place = brace.end()
        if depth == 0:
            return text[at + 1 : place - 1], place
    return None


class Expansion:
    """Puts the bodies of macros in the place of their calls."""

    def __init__(self, macros: Mapping[str, Macro], budget: int) -> None:
        self._macros, self._left = macros, budget

    def of(self, text: str, depth: int = 0) -> str:
        out, at = list[str](), 0
        literals = Literals(text)
        for call in _CALL.finditer(text):
            macro = self._macros.get(call[1])
            if macro is None or call.start() < at or depth > DEEPEST or self._left <= 0 or literals.has(call.start()):
                continue
            taken = self._taken(text, call.end(), macro)
            if taken is None:
                self._left -= _LONGEST  # so far it may have been looked for an end
                continue
            values, end = taken
            body = _PARAMETER.sub(partial(_value, values), macro.body)
            self._left -= _STEP + len(body)
            following, passed = text[end : end + 1], text[at : call.start()]
            shown = _before(self.of(body, depth + 1), following)
            out += [passed, _after(passed or "".join(out[-1:]), shown, following)]
            at = end
        return "".join([*out, text[at:]])

    def _taken(self, text: str, at: int, macro: Macro) -> tuple[list[str], int] | None:
        """The arguments of a call, and where it ends; None where there are not as many."""
        values, wanted = list[str](), macro.parameters
        at += len(text[at : at + 100]) - len(text[at : at + 100].lstrip(" \t"))
        if macro.default is not None and wanted:
            end = text.find("]", at, at + 1000) if text[at : at + 1] == "[" else -1
            values.append(text[at + 1 : end] if end >= 0 else macro.default)
            at = end + 1 if end >= 0 else at
        while len(values) < wanted:
            while text[at : at + 1].isspace():
                at += 1
            if argument := braced(text, at):
                values.append(argument[0])
                at = argument[1]
            elif at < len(text) and text[at] not in "{}":
                token = _CALL.match(text, at)
                values.append(token[0] if token else text[at])
                at = token.end() if token else at + 1
            else:
                return None
        return values, at


def _value(values: list[str], parameter: re.Match[str]) -> str:
    """The value of a parameter."""
    place = int(parameter[1]) - 1
    value = values[place] if place < len(values) else ""
    return behind(parameter, value)


def behind(place: re.Match[str], value: str) -> str:
    """What is put in a place of a text, so that a command before it ends there."""
    before = place.string[max(0, place.start() - 100) : place.start()]
    return f" {value}" if value[:1].isalpha() and _COMMAND_ENDS.search(before) else value


def _after(before: str, shown: str, following: str) -> str:
    """What a macro became, between what is there and the sign that follows: a command before it ends there, and all of
    it is raised or lowered."""
    if _RAISES.search(before[-100:]) and len(shown) > 1:
        return f"{{{shown}}}"
    return f" {shown}" if (shown or following)[:1].isalpha() and _COMMAND_ENDS.search(before[-100:]) else shown


def _before(shown: str, following: str) -> str:
    """What a macro became, before the sign that follows."""
    if shown.endswith("\\xspace"):
        while shown.endswith("\\xspace"):
            shown = shown.removesuffix("\\xspace").rstrip(" ")
        return shown if not following or following in _NO_SPACE else f"{shown} "
    return f"{shown} " if following.isalpha() and _COMMAND_ENDS.search(shown[-100:]) else shown
