"""The source of a paper as one LaTeX text: files put together, comments and preamble off, the author's macros expanded.

Nothing is run: `\\input` and `\\include` are followed among the paper's own files, and of macros those are expanded
that `\\newcommand`, `\\def` with plain parameters, `\\DeclareMathOperator` and their like define. All of it within
bounds: what would become more than a few times its length is left as it is written.
"""

from __future__ import annotations

import posixpath
import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

DEEPEST = 12
"""Files in files, and macros in macros, at most."""
_MOST = 2**23
"""Characters of a paper put together, at most."""
_LONGEST = 20_000
"""Characters of an argument, or of the body of a macro, at most."""
_STEP = 8
"""Characters that an expansion costs at least: those that leave nothing end, too."""
_SIGNS = re.compile(
    r"\\begin\{(?P<literal>verbatim\*?|lstlisting|minted|Verbatim|alltt)\}"
    r"|\\(?:verb\*?|lstinline)(?P<mark>[^\sA-Za-z*\[{])[^\n]{0,200}?(?P=mark)"
    r"|\\(?:url|path|nolinkurl|href)\s?\{[^{}\n]{0,2000}\}"
    r"|\\[\\%]"
    r"|(?P<comment>%)[^\n]*+(?P<line>\n[ \t]*+)?"
)
"""Where listings begin, what is written as it is within a line, signs with a backslash, and comments."""
_INCLUDED = re.compile(
    r"\\(?:input|include|subfile)(?![A-Za-z])\s{0,9}(?:\{([^{}\n]{1,200})\}|([^\s\\{}%]{1,200}))"
    r"|\\(?:sub)?(?:import|inputfrom|includefrom)\*?\s{0,9}\{([^{}\n]{0,200})\}\s{0,9}\{([^{}\n]{1,200})\}"
)
_LITERAL = re.compile(
    r"\\begin\{(verbatim\*?|lstlisting|minted|Verbatim|alltt)\}"
    r"|\\(?:verb\*?|lstinline)([^\sA-Za-z*\[{])[^\n]{0,200}?\2|\\\\"
)
"""Where what is written as it is begins, and a line's end, behind which `verb` is a word."""
_CONDITION = re.compile(
    r"(?<!\\newif)\\(?:(?P<begins>if(?!f(?![A-Za-z@])|thenelse|[A-Za-z@]{3,}\s{0,9}\{)[A-Za-z@]*)|(?P<ends>else|fi))"
    r"(?![A-Za-z@])"
)
"""TeX's conditions; what takes its branches in braces, and the sign of equivalence, are none."""
_PACKAGE = re.compile(r"\\(?:usepackage|RequirePackage)(?:\[[^\[\]]{0,500}\])?\{([^{}]{1,500})\}")
_CLASS = re.compile(r"\\document(?:class|style)(?![A-Za-z])")
_DEFINED = re.compile(
    r"\\(?:(?:re)?newcommand|providecommand|DeclareRobustCommand)\*?\s{0,9}(?:\{\s{0,9}(\\[A-Za-z]+)\s{0,9}\}|(\\[A-Za-z]+))"
    r"\s{0,9}(?:\[([0-9])\])?\s{0,9}(?:\[([^\[\]]{0,500})\])?\s{0,9}(?=\{)"
    r"|\\[gex]?def\s{0,9}(\\[A-Za-z]+)((?:#[1-9]){0,9})(?=\{)"
    r"|\\DeclareMathOperator(\*?)\s{0,9}\{?(\\[A-Za-z]+)\}?\s{0,9}(?=\{)"
)
_CALL = re.compile(r"\\([A-Za-z]+)")
_BIBLIOGRAPHY = re.compile(
    r"\\(?:bibliography|bibliographystyle|printbibliography)(?![A-Za-z])(?:\[[^\[\]]*\])?(?:\{[^{}]*\})?"
)
_PARAMETER = re.compile(r"#([1-9])")
_BLANK = re.compile(r"\n[ \t]*(?:\n[ \t]*){2,}")
_FIRST = ("main.tex", "ms.tex", "paper.tex", "article.tex", "manuscript.tex", "root.tex")
_READ_FIRST = re.compile(r"^\s*(\S+)\s+toplevelfile", re.MULTILINE)


@dataclass(frozen=True)
class Paper:
    text: str
    title: str | None


@dataclass(frozen=True)
class _Macro:
    parameters: int
    default: str | None
    body: str


def paper(files: Mapping[str, str]) -> Paper | None:
    """The paper whose source are these files, by name; None where none of them is LaTeX."""
    plain = {name: _uncommented(text) for name, text in files.items()}
    main = _main(plain)
    if main is None:
        return None
    text = _together(plain, main)
    head, body = _parted(text)
    styles = [plain[f"{name.strip()}.sty"] for names in _PACKAGE.findall(head) for name in names.split(",")
              if f"{name.strip()}.sty" in plain]  # fmt: skip
    macros, _ = _macros("\n".join([*styles, head]))
    more, body = _macros(body)
    expanded = _Expansion({**macros, **more}, 4 * len(body) + 2**16)
    body = expanded.of(_without_references(body))
    title = _argument(text, "\\title")
    return Paper(_BLANK.sub("\n\n", body).strip(), _shown(expanded.of(title)) if title else None)


def _main(files: Mapping[str, str]) -> str | None:
    """The file that a paper begins with."""
    asked = [name for text in files.values() for name in _READ_FIRST.findall(text[:5000])]
    begins = [name for name, text in files.items() if _CLASS.search(text) and "\\begin{document}" in text]
    begins = begins or [name for name, text in files.items() if _CLASS.search(text)]
    begins = begins or [name for name in files if name.lower().endswith(".tex")]
    if not begins:
        return None

    def order(name: str) -> tuple[bool, bool, int, int, str]:
        short = posixpath.basename(name).lower()
        return name not in asked, short not in _FIRST, name.count("/"), -len(files[name]), name

    return min(begins, key=order)


def _uncommented(text: str) -> str:
    """Without comments, but for what stands in listings and addresses; `\\%` is a sign. A comment takes the end of its
    line with it, unless it is alone in its line, where a blank line stays none."""
    out, at, place, endless = list[str](), 0, 0, set[str]()
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    while sign := _SIGNS.search(text, place):
        begin, place = sign.span()
        if name := sign["literal"]:
            end = -1 if name in endless else text.find(f"\\end{{{name}}}", place)
            endless |= {name} if end < 0 else set()
            place = max(end, place)
        elif sign["comment"]:
            alone = begin == 0 or text[begin - 1] == "\n"
            out += [text[at:begin], "" if alone or not sign["line"] else "\n"]
            at = place
    out.append(text[at:])
    return _without_false(_left_out("".join(out), "\\begin{comment}", "\\end{comment}"))


class _Literals:
    """What of a text is written as it is: listings, and `verb`."""

    def __init__(self, text: str) -> None:
        self._begins, self._ends = list[int](), list[int]()
        place, endless = 0, set[str]()
        while found := _LITERAL.search(text, place):
            begin, place = found.span()
            if name := found[1]:
                end = -1 if name in endless else text.find(f"\\end{{{name}}}", place)
                endless |= {name} if end < 0 else set()
                place = max(end, place)
            if place > found.end() or found[2]:
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


def _parted(text: str) -> tuple[str, str]:
    """What stands before a document and what in it; of a text without one nothing and all."""
    begin, end = "\\begin{document}", "\\end{document}"
    literals = _Literals(text)
    start = literals.first(text, begin)
    body = 0 if start < 0 else start + len(begin)
    stop = literals.first(text, end, body)
    return text[: max(start, 0)], text[body : stop if stop >= 0 else len(text)]


def _without_false(text: str) -> str:
    """Without what stands between `\\iffalse` and its `\\else` or `\\fi`; nothing goes where one has no end."""
    if "\\iffalse" not in text:
        return text
    literals, out, at = _Literals(text), list[str](), 0
    opened: list[str] = []
    for sign in _CONDITION.finditer(text):
        if literals.has(sign.start()):
            continue
        skips = "false" in opened
        if sign["begins"]:
            opened.append("false" if sign[0] == "\\iffalse" and not skips else "")
            if opened[-1] and not skips:
                out.append(text[at : sign.start()])
        elif opened and (opened[-1] or sign["ends"] == "fi"):
            last = opened.pop()
            if sign["ends"] == "else":
                opened.append("else")
            if last == "else":
                out.append(text[at : sign.start()])
            at = sign.end() if last else at
    return text if "false" in opened else "".join([*out, text[at:]])


def _left_out(text: str, begin: str, end: str) -> str:
    out, at = list[str](), 0
    while (start := text.find(begin, at)) >= 0 and (stop := text.find(end, start)) >= 0:
        out.append(text[at:start])
        at = stop + len(end)
    return "".join([*out, text[at:]])


def _together(files: Mapping[str, str], main: str) -> str:
    """A file with those that it names in their place."""
    left = _MOST

    def whole(name: str, above: tuple[str, ...]) -> str:
        nonlocal left
        left -= len(files[name])
        text = _parted(files[name])[1] if above and _CLASS.search(files[name]) else files[name]
        return _INCLUDED.sub(lambda found: _one(found, (*above, name)), text)

    def _one(found: re.Match[str], above: tuple[str, ...]) -> str:
        asked = (found[1] or found[2] or posixpath.join(found[3].strip(), found[4].strip())).strip()
        folders = ("", posixpath.dirname(main), posixpath.dirname(above[-1]))
        places = [posixpath.normpath(posixpath.join(folder, asked)) for folder in folders]
        name = next((each for place in places for each in (place, f"{place}.tex") if each in files), None)
        if name is None or name in above or len(above) > DEEPEST or len(files[name]) > left:
            return ""
        return whole(name, above)

    return whole(main, ())


def _without_references(text: str) -> str:
    return _BIBLIOGRAPHY.sub("", _left_out(text, "\\begin{thebibliography}", "\\end{thebibliography}"))


def _macros(text: str) -> tuple[dict[str, _Macro], str]:
    """The macros that a text defines, the last of a name, and the text without their definitions."""
    found, out, at, place = dict[str, _Macro](), list[str](), 0, 0
    literals = _Literals(text)
    while definition := _DEFINED.search(text, place):
        place = definition.end()
        if literals.has(definition.start()):
            continue
        braced = _braced(text, definition.end())
        if braced is None:
            break
        body, end = braced
        name = next(filter(None, (definition[1], definition[2], definition[5], definition[8])))[1:]
        if definition[8]:
            macro = _Macro(0, None, f"\\operatorname{definition[7]}{{{body}}}")
        else:
            macro = _Macro(int(definition[3] or (definition[6] or "").count("#")), definition[4], body)
        if "@" not in body:
            found[name] = macro
        out.append(text[at : definition.start()])
        at = place = end
    return found, "".join([*out, text[at:]])


def _braced(text: str, at: int) -> tuple[str, int] | None:
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


class _Expansion:
    """Puts the bodies of macros in the place of their calls."""

    def __init__(self, macros: Mapping[str, _Macro], budget: int) -> None:
        self._macros, self._left = macros, budget

    def of(self, text: str, depth: int = 0) -> str:
        out, at = list[str](), 0
        literals = _Literals(text)
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
            shown = self.of(body, depth + 1)
            if re.search(r"\\[A-Za-z]+\Z", shown) and text[end : end + 1].isalpha():
                shown += " "
            out += [text[at : call.start()], shown]
            at = end
        return "".join([*out, text[at:]])

    def _taken(self, text: str, at: int, macro: _Macro) -> tuple[list[str], int] | None:
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
            if braced := _braced(text, at):
                values.append(braced[0])
                at = braced[1]
            elif at < len(text) and text[at] not in "{}":
                token = _CALL.match(text, at)
                values.append(token[0] if token else text[at])
                at = token.end() if token else at + 1
            else:
                return None
        return values, at


def _value(values: list[str], parameter: re.Match[str]) -> str:
    place = int(parameter[1]) - 1
    return values[place] if place < len(values) else ""


def _argument(text: str, command: str) -> str | None:
    found = re.search(re.escape(command) + r"(?![A-Za-z])\s{0,9}(?:\[[^\[\]]{0,500}\])?\s{0,9}(?=\{)", text)
    braced = _braced(text, found.end()) if found else None
    return braced[0] if braced else None


def _shown(title: str) -> str | None:
    """A title without commands that make no text."""
    while note := re.search(r"\\(?:thanks|footnote)\s{0,9}(?=\{)", title):
        braced = _braced(title, note.end())
        title = title[: note.start()] + (title[braced[1] :] if braced else "")
    text = re.sub(r"\\\\(?:\[[^\[\]]*\])?|~", " ", title)
    text = re.sub(r"\\(?:text[a-z]{2}|emph|protect|bf|tt|Large|LARGE|huge|large|it|em)(?![A-Za-z])\s?", "", text)
    return " ".join(text.replace("{", "").replace("}", "").split()) or None
