"""The source of a paper as one LaTeX text: files put together, comments and preamble off, the author's macros expanded
(`latex_macros`).

Nothing is run: `\\input` and `\\include` are followed among the paper's own files, within bounds.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass

from tasks.sources.latex_macros import DEEPEST, LITERAL, Expansion, Literals, Macro, behind, braced, listing_end, macros
from tasks.sources.templates import TooLongError

_AGAIN = 2**23
"""Characters that a paper put together may have above those of its files, which it may name more than once, at most."""
_STEP = 2**10
"""What a file costs of that each time that it is named again, at least: those without a text end, too."""
_OPEN = 15
"""Files within each other, at most: as many as TeX has open at once."""
_TRIED = 4
"""How many times that is put together to find the file that a paper begins with, at most."""
_SIGNS = re.compile(
    rf"{LITERAL}"
    r"|\\(?:url|path|nolinkurl|href)\s?\{[^{}\n]{0,2000}\}"
    r"|\\[\\%]"
    r"|(?P<comment>%)[^\n]*+(?P<line>\n[ \t]*+)?"
)
"""What is written as it is, addresses, signs with a backslash, and comments."""
_INCLUDED = re.compile(
    r"\\(?:(?:@@)?input|include|subfile)(?![A-Za-z])\s{0,9}(?:\{([^{}\n]{1,200})\}|([^\s\\{}%]{1,200}))"
    r"|\\(?:sub)?(?:import|inputfrom|includefrom)\*?\s{0,9}\{([^{}\n]{0,200})\}\s{0,9}\{([^{}\n]{1,200})\}"
)
_CALLED = re.compile(r"\\([A-Za-z]+)\s{0,9}\{([^{}\n]{1,200})\}")
_CONDITION = re.compile(
    r"(?<!\\newif)\\(?:(?P<begins>if(?!f(?![A-Za-z@])|thenelse|[A-Za-z@]{3,}\s{0,9}\{)[A-Za-z@]*)|(?P<ends>else|fi))"
    r"(?![A-Za-z@])"
)
"""TeX's conditions; what takes its branches in braces, and the sign of equivalence, are none."""
_PACKAGE = re.compile(r"\\(?:usepackage|RequirePackage)(?:\[[^\[\]]{0,500}\])?\{([^{}]{1,500})\}")
_BEGIN = "\\begin{document}"
_CLASS = re.compile(r"\\document(?:class|style)(?![A-Za-z])")
_BIBLIOGRAPHY = re.compile(
    r"\\(?:bibliography|bibliographystyle|printbibliography)(?![A-Za-z])(?:\[[^\[\]]*\])?(?:\{[^{}]*\})?"
)
_ENTRY = re.compile(r"\\(?:index|glossary)(?![A-Za-z])\s?(?:\[[^\[\]]{0,200}\])?\s?(?=\{)")
_NOTE = re.compile(r"\\(?:thanks|footnote)\s{0,9}(?=\{)")
_SPACE = re.compile(r"\\\\(?:\[[^\[\]]*\])?|~|\\[hv](?:space|skip)\*?\s?\{[^{}]*\}")
_FORM = re.compile(
    r"\\(?:text[a-z]{2}|textnormal|emph|protect|[Ll]arge|LARGE|[Hh]uge|small|normalsize|boldmath|normalfont|centering"
    r"|bf|tt|it|em|sc|sf|rm|sl|(?:bf|md)series|(?:it|sc|sl|up)shape|(?:rm|sf|tt)family)(?![A-Za-z])\s?"
    r"|\\xspace(?![A-Za-z])|\\(?:text)?color(?:\[[^\[\]]*\])?\s?\{[^{}]*\}\s?"
)
"""Commands that say how letters look."""
_GROUP = re.compile(r"(\\[A-Za-z]+|[\^_])?\{([^{}]*)\}")
_END_OF_FILE = re.compile(r"^[ \t]*\\endinput[ \t]*$", re.MULTILINE)
_BLANK = re.compile(r"\n[ \t]*(?:\n[ \t]*){2,}")
_FIRST = ("main.tex", "ms.tex", "paper.tex", "article.tex", "manuscript.tex", "root.tex")
_READ_FIRST = re.compile(r"^\s*(\S+)\s+toplevelfile", re.MULTILINE)


@dataclass(frozen=True)
class Paper:
    text: str
    title: str | None


def paper(files: Mapping[str, str]) -> Paper | None:
    """The paper whose source are these files, by name; None where none of them is LaTeX. Raises TooLongError where it
    names files again and again, beyond the limit."""
    plain = {name: _uncommented(text) for name, text in files.items()}
    own = _including(plain)
    main = _main(plain, own)
    if main is None:
        return None
    text, left = _together(plain, main, own, _most(plain))
    if left < 0:
        raise TooLongError
    head, body = _parted(text)
    defined, _ = macros("\n".join([*_styles(plain, main, head), head]))
    more, body = macros(body)
    expanded = Expansion({**defined, **more}, 4 * len(body) + 2**16)
    body = _without_entries(expanded.of(_without_references(body)))
    title = _argument(text, "\\title")
    return Paper(_BLANK.sub("\n\n", body).strip(), _shown(expanded.of(title)) if title else None)


def _main(files: Mapping[str, str], own: Mapping[str, Macro]) -> str | None:
    """The file that a paper begins with: it has a class and a document, itself or in files that it names, and of
    several it is the one that becomes longest with them."""
    asked = [name for text in files.values() for name in _READ_FIRST.findall(text[:5000])]

    def order(name: str) -> tuple[bool, bool, int]:
        return name not in asked, posixpath.basename(name).lower() not in _FIRST, name.count("/")

    most = _most(files)
    left, begins = _TRIED * most, list[tuple[tuple[bool, bool, int], int, str]]()
    likely = [name for name, text in files.items() if _CLASS.search(text) or _BEGIN in text]
    for name in sorted(likely, key=lambda name: (order(name), -len(files[name]), name)):
        text, rest = _together(files, name, own, min(left, most)) if left > 0 else (files[name], left)
        left -= min(left, most) - rest
        if _CLASS.search(text) and _BEGIN in text:
            begins.append((order(name), -len(text), name))
    if begins:
        return min(begins)[-1]
    either = [name for name in likely if _CLASS.search(files[name])] or likely
    either = either or [name for name in files if name.lower().endswith(".tex")]
    return min(either, key=lambda name: (order(name), -len(files[name]), name), default=None)


def _styles(files: Mapping[str, str], main: str, head: str) -> list[str]:
    """The paper's own files among the packages that it uses."""
    names = [name.strip() for names in _PACKAGE.findall(head) for name in names.split(",")]
    places = [(f"{name}.sty", posixpath.join(posixpath.dirname(main), f"{name}.sty")) for name in names]
    return [files[found] for either in places if (found := next(filter(files.__contains__, either), None))]


def _uncommented(text: str) -> str:
    """Without comments, but for what stands in listings and addresses; `\\%` is a sign. A comment takes the end of its
    line with it, unless it is alone in its line, where a blank line stays none."""
    out, at, place, endless = list[str](), 0, 0, set[str]()
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    while sign := _SIGNS.search(text, place):
        begin, place = sign.span()
        if sign["literal"]:
            place = listing_end(sign, endless)
        elif sign["comment"]:
            alone = begin == 0 or text[begin - 1] == "\n"
            out += [text[at:begin], "" if alone or not sign["line"] else "\n"]
            at = place
    out.append(text[at:])
    return _without_false(_left_out("".join(out), "\\begin{comment}", "\\end{comment}"))


def _parted(text: str) -> tuple[str, str]:
    """What stands before a document and what in it; of a text without one nothing and all."""
    literals = Literals(text)
    start = literals.first(text, _BEGIN)
    body = 0 if start < 0 else start + len(_BEGIN)
    stop = literals.first(text, "\\end{document}", body)
    return text[: max(start, 0)], text[body : stop if stop >= 0 else len(text)]


def _without_false(text: str) -> str:
    """Without what stands between `\\iffalse` and its `\\else` or `\\fi`; nothing goes where one has no end."""
    if "\\iffalse" not in text:
        return text
    literals, out, at = Literals(text), list[str](), 0
    opened, skips = list[str](), False
    for sign in _CONDITION.finditer(text):
        if literals.has(sign.start()):
            continue
        if sign["begins"]:
            begins = sign[0] == "\\iffalse" and not skips
            opened.append("false" if begins else "")
            if begins:
                out.append(text[at : sign.start()])
                skips = True
        elif opened and (opened[-1] or sign["ends"] == "fi"):
            last = opened.pop()
            skips = skips and last != "false"
            if sign["ends"] == "else":
                opened.append("else")
            if last == "else":
                out.append(text[at : sign.start()])
            at = sign.end() if last else at
    return text if skips else "".join([*out, text[at:]])


def _left_out(text: str, begin: str, end: str) -> str:
    out, at = list[str](), 0
    while (start := text.find(begin, at)) >= 0 and (stop := text.find(end, start)) >= 0:
        out.append(text[at:start])
        at = stop + len(end)
    return "".join([*out, text[at:]])


def _most(files: Mapping[str, str]) -> int:
    return _AGAIN + sum(len(text) + _STEP for text in files.values())


def _together(files: Mapping[str, str], main: str, own: Mapping[str, Macro], most: int) -> tuple[str, int]:
    """A file with those that it names in their place, itself or by the author's `own` macros, to their `\\endinput`,
    and what is left of the `most` characters that may be put in, also of those that are left out again: less than none
    where they were not enough, and files are missing."""
    left = most

    def called(found: re.Match[str]) -> str:
        nonlocal left
        if found[1] not in own or left < 0:
            return found[0]
        body = own[found[1]].body.replace("#1", found[2])
        left -= len(body)
        return body

    def whole(name: str, above: tuple[str, ...]) -> str:
        nonlocal left
        left -= len(files[name]) + _STEP
        text = _parted(files[name])[1] if above and _CLASS.search(files[name]) else files[name]
        literals = Literals(text)
        ends = [found.start() for found in _END_OF_FILE.finditer(text) if not literals.has(found.start())]
        text = text[: ends[0]] if ends else text
        if own:
            text = _CALLED.sub(called, text)
            literals = Literals(text)

        def put(found: re.Match[str]) -> str:
            return found[0] if literals.has(found.start()) else behind(found, one(found, (*above, name)))

        return _INCLUDED.sub(put, text)

    def one(found: re.Match[str], above: tuple[str, ...]) -> str:
        nonlocal left
        asked = (found[1] or found[2] or posixpath.join(found[3].strip(), found[4].strip())).strip()
        folders = ("", posixpath.dirname(main), posixpath.dirname(above[-1]))
        places = [posixpath.normpath(posixpath.join(folder, asked)) for folder in folders]
        name = next((each for place in places for each in (place, f"{place}.tex") if each in files), None)
        if name is None or name in above or len(above) >= _OPEN:
            return ""
        if len(files[name]) + _STEP > left:
            left = -1
            return ""
        return whole(name, above)

    text = whole(main, ())
    return text, left


def _including(files: Mapping[str, str]) -> dict[str, Macro]:
    """The macros of one parameter that put the file in which is its value."""
    found = dict[str, Macro]()
    for text in files.values():
        if "input" in text or "include" in text:
            found |= macros(text)[0]
    return {
        name: macro
        for name, macro in found.items()
        if macro.parameters == 1 and macro.default is None and "#1" in macro.body and _INCLUDED.search(macro.body)
    }


def _without_references(text: str) -> str:
    return _BIBLIOGRAPHY.sub("", _left_out(text, "\\begin{thebibliography}", "\\end{thebibliography}"))


def _without_entries(text: str) -> str:
    """Without what goes into an index and is not seen where it stands."""
    literals, out, at = Literals(text), list[str](), 0
    for entry in _ENTRY.finditer(text):
        if entry.start() < at or literals.has(entry.start()):
            continue
        argument = braced(text, entry.end())
        if argument is None:
            break
        out.append(text[at : entry.start()])
        at = argument[1]
    return "".join([*out, text[at:]])


def _argument(text: str, command: str) -> str | None:
    found = re.search(re.escape(command) + r"(?![A-Za-z])\s{0,9}(?:\[[^\[\]]{0,500}\])?\s{0,9}(?=\{)", text)
    argument = braced(text, found.end()) if found else None
    return argument[0] if argument else None


def _shown(title: str) -> str | None:
    """A title without commands that make no text."""
    while note := _NOTE.search(title):
        argument = braced(title, note.end())
        title = title[: note.start()] + (title[argument[1] :] if argument else "")
    text = _FORM.sub("", _SPACE.sub(" ", title))
    for _ in range(DEEPEST):
        text = _GROUP.sub(_ungrouped, text)
    return " ".join(text.replace("{", "").replace("}", "").translate({1: "{", 2: "}"}).split()) or None


def _ungrouped(group: re.Match[str]) -> str:
    """A group without its braces, unless they say what is raised or lowered or what a command is about."""
    before, inside = group[1] or "", group[2]
    return f"{before}\x01{inside}\x02" if before and inside else before + inside
