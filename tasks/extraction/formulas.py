"""Formulas of a page in a form that a model can learn: LaTeX, and sub- and superscripts that do not fuse.

Where a page has the LaTeX itself (an annotation, `alttext`, a script of MathJax, the alternative text of a picture) it
is taken; of MathML alone LaTeX is made.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lxml.html import HtmlElement  # a child for resiliparse alone starts without it

VERSION = 1
"""Raised when sub- and superscripts change in what an extractor takes as it comes."""
_RAISED = str.maketrans("0123456789+-−=()ni", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾ⁿⁱ")
_LOWERED = str.maketrans("0123456789+-−=()", "₀₁₂₃₄₅₆₇₈₉₊₋₋₌₍₎")
_SCRIPTS = {
    "sup": (re.compile(r"[0-9+−=()n-]{1,12}"), _RAISED, "^"),
    "sub": (re.compile(r"[0-9+−=()-]{1,12}"), _LOWERED, "_"),
}
_ORDINAL = re.compile(r"(?:st|nd|rd|th|e|er|ère|re|o|a|º|ª|tm|sm|®|©|™|mo|ma|[*†‡§¶]+)\.?", re.IGNORECASE)
_NOTE = re.compile(r"[0-9]{1,4}|[a-z]|[ivx]{2,5}")
"""What the mark of a note is, where it is a link."""
_TERM = re.compile(r"[-+−=*/<>]|(?<![^\W_])[^\W_](?![^\W_])")
"""What a formula has and words that are raised have not: an operation, or a letter by itself."""
_SYMBOLS = {
    **{"×": r"\times", "÷": r"\div", "±": r"\pm", "∓": r"\mp", "⋅": r"\cdot", "·": r"\cdot", "−": "-", "∗": "*"},
    **{"≤": r"\le", "≥": r"\ge", "≠": r"\ne", "≈": r"\approx", "≡": r"\equiv", "∼": r"\sim", "∝": r"\propto"},
    **{"→": r"\to", "←": r"\leftarrow", "⇒": r"\Rightarrow", "⇔": r"\Leftrightarrow", "↦": r"\mapsto"},
    **{"∈": r"\in", "∉": r"\notin", "⊂": r"\subset", "⊆": r"\subseteq", "∪": r"\cup", "∩": r"\cap", "∅": r"\emptyset"},
    **{"∀": r"\forall", "∃": r"\exists", "∧": r"\land", "∨": r"\lor", "¬": r"\neg", "∞": r"\infty", "∂": r"\partial"},
    **{"∇": r"\nabla", "∑": r"\sum", "∏": r"\prod", "∫": r"\int", "∮": r"\oint", "√": r"\sqrt{}", "…": r"\ldots"},
    **{"⋯": r"\cdots", "′": "'", "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "ℕ": r"\mathbb{N}", "ℂ": r"\mathbb{C}"},
    **{"{": r"\{", "}": r"\}", "%": r"\%", "&": r"\&", "#": r"\#", "⟨": r"\langle", "⟩": r"\rangle", "‖": r"\|"},
}
_GREEK = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho varsigma sigma tau "
    "upsilon phi chi psi omega"
)
_SYMBOLS |= {chr(0x3B1 + place): f"\\{name}" for place, name in enumerate(_GREEK.split())}
_SYMBOLS |= {
    c: f"\\{n}" for c, n in zip("ΓΔΘΛΞΠΣΦΨΩ", "Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega".split(), strict=True)
}
_SYMBOLS |= {"\u2061": "", "\u2062": "", "\u2063": ",", "\u2064": "+", "\u200b": "", "ϕ": r"\phi", "ϵ": r"\epsilon"}
_COMMAND = re.compile(r"\\[A-Za-z]+$")
_FUNCTIONS = frozenset(
    "sin cos tan cot sec csc log ln exp lim max min sup inf det dim ker gcd arg deg sinh cosh tanh".split()
)
_ACCENTS = {
    "^": "hat",
    "ˆ": "hat",
    "¯": "bar",
    "‾": "overline",
    "~": "tilde",
    "˜": "tilde",
    "→": "vec",
    "˙": "dot",
    ".": "dot",
}
_ACCENTS |= {"¨": "ddot", "⏞": "overbrace", "︷": "overbrace"}
_WORD = re.compile(r"[^\W\d_]{3}")
_SIGN = re.compile(r"[\\^_{]")
"""What LaTeX has and a description in words has not."""
_WRITTEN = "written"
LONGEST_SCRIPT = 60
"""Characters of a sub- or superscript; what is longer is text that is set small."""
_DEEPEST = 60
"""Nested elements of a formula that are looked into."""
_LONGEST = 20_000
"""Characters of a formula, at most."""


def script(text: str, tag: str, linked: bool) -> str:
    """A sub- or superscript as it stands in a line: `10⁶`, `H₂O`, `x^{2k}`, a note's number in brackets, `1st`."""
    text = " ".join(text.split())
    pattern, table, sign = _SCRIPTS[tag]
    if linked and _NOTE.fullmatch(text):
        return f"[{text}]"
    if not text or linked or (not text.isascii() and not pattern.fullmatch(text)):
        return f" {text}" if " " in text else text
    if pattern.fullmatch(text):
        return text.translate(table)
    if _ORDINAL.fullmatch(text.strip("()")) or text[0] == "[":
        return text
    if " " in text and not _TERM.search(text):
        return f" {text}"
    return sign + (text if len(text) == 1 else f"{{{text}}}")


def in_line(element: HtmlElement, linked: bool) -> str | None:
    """A `sub` or `sup` element as it stands in a line; None of one that holds text of some length."""
    if len(element.xpath("string()")) > LONGEST_SCRIPT:
        return None
    formula = element.find(".//math")
    if formula is not None:
        return of_math(formula)
    if next(element.iterdescendants("sub", "sup"), None) is not None:
        return _nested(element)
    inside = "".join(text for text in element.itertext() if isinstance(text, str))
    return script(inside, element.tag, linked or element.find(".//a") is not None)


def write_scripts(tree: HtmlElement) -> None:
    """Put the sub- and superscripts of a page in their place as they stand in a line, for an extractor that would leave
    their text alone; in `pre` they stay."""
    from lxml.etree import strip_tags

    for element in [*tree.iter("sub", "sup")]:
        around = {each.tag for each in element.iterancestors("a", "pre")}
        written = None if "pre" in around else in_line(element, "a" in around)
        if written is not None:
            del element[:]
            element.tag, element.text = _WRITTEN, written
    strip_tags(tree, _WRITTEN)


def _nested(element: HtmlElement, depth: int = 0) -> str:
    """A sub- or superscript that holds others, in LaTeX."""
    found = [element.text or ""]
    for child in element:
        if isinstance(child.tag, str) and depth < _DEEPEST:
            found.append(_nested(child, depth + 1))
        found.append(child.tail or "")
    text = " ".join("".join(found).split())
    sign = {"sup": "^", "sub": "_"}.get(str(element.tag), "")
    return f"{sign}{text}" if sign and len(text) == 1 else f"{sign}{{{text}}}" if sign and text else text


def enclosed(latex: str, display: bool = False) -> str:
    """A formula as it stands in a text; nothing where there is none."""
    latex = " ".join(latex.split())[:_LONGEST]
    while latex.startswith(r"{\displaystyle") and latex.endswith("}"):
        latex = latex[len(r"{\displaystyle") : -1].strip()
    if latex.startswith("$") and latex.endswith("$") and len(latex) > 2:
        return latex
    for start, end in ((r"\(", r"\)"), (r"\[", r"\]")):
        if latex.startswith(start) and latex.endswith(end):
            latex = latex[2:-2].strip()
    return "" if not latex else f"$${latex}$$" if display else f"${latex}$"


def of_math(element: HtmlElement) -> str:
    """The formula of a `math` element."""
    display = element.get("display") == "block" or "display" in (element.get("mode") or "")
    for each in element.iter("annotation"):
        if "tex" in (each.get("encoding") or "").lower() and (each.text or "").strip():
            return enclosed(each.text or "", display)
    alternative = element.get("alttext") or ""
    words = _WORD.search(alternative) and not _SIGN.search(alternative)
    return enclosed((not words and alternative) or _latex(element, 0) or alternative, display)


def _latex(element: HtmlElement, depth: int) -> str:
    """LaTeX of presentation MathML."""
    tag = element.tag if isinstance(element.tag, str) else ""
    tag = tag.rpartition(":")[2]
    if depth > _DEEPEST or not tag or tag.startswith("annotation"):
        return ""
    if tag in ("mi", "mn", "mo", "mtext", "ms"):
        return _leaf(tag, " ".join("".join(element.itertext()).split()))
    if tag == "mspace":
        return r"\ "
    parts = [_latex(child, depth + 1) for child in element]
    if tag == "mmultiscripts":
        return _around(parts, [str(child.tag).rpartition(":")[2] for child in element])
    if tag == "mfrac" and re.fullmatch(r"0(?:\.0*)?[a-z%]*", (element.get("linethickness") or "").strip()):
        return rf"{{{' '.join(parts[:1])} \atop {' '.join(parts[1:])}}}"  # one above the other, as in a binomial
    if make := _MADE.get(tag):
        return make(parts)
    if tag == "mfenced":
        return f"{element.get('open') or '('}{','.join(parts)}{element.get('close') or ')'}"
    if tag == "mtable":
        return r"\begin{matrix} " + r" \\ ".join(parts) + r" \end{matrix}"
    if tag in ("mtr", "mlabeledtr"):
        return " & ".join(parts)
    return _joined([*([_text(element.text)] if element.text else []), *parts])


def _around(parts: list[str], tags: list[str]) -> str:
    """What stands below and above a sign, in pairs: behind it, and, from `mprescripts` on, before it."""
    before = tags.index("mprescripts") if "mprescripts" in tags else len(tags)
    behind, ahead = parts[1:before], parts[before + 1 :]

    def pairs(scripts: list[str]) -> str:
        marked = ((("_", "^")[place % 2], each) for place, each in enumerate(scripts))
        return "".join(f"{mark}{{{each}}}" for mark, each in marked if each)

    left = pairs(ahead)
    return f"{'{}' if left else ''}{left}{_base(parts)}{pairs(behind)}"


def _leaf(tag: str, text: str) -> str:
    if tag == "mtext":
        return rf"\text{{{text}}}" if text else ""
    if text in _FUNCTIONS:
        return f"\\{text}"
    if tag == "mi" and len(text) > 1 and text.isalpha() and text.isascii():
        return rf"\mathrm{{{text}}}"
    return _text(text)


def _text(text: str | None) -> str:
    return _joined([_SYMBOLS.get(character, character) for character in (text or "").strip()])


def _joined(parts: list[str]) -> str:
    """Parts beside each other, a space behind a command that a letter follows."""
    found = ""
    for part in parts:
        found += f" {part}" if part[:1].isalpha() and _COMMAND.search(found[-30:]) else part
    return found


def _group(parts: list[str], place: int) -> str:
    part = parts[place] if place < len(parts) else ""
    return f"{{{part}}}"


def _base(parts: list[str]) -> str:
    part = parts[0] if parts else ""
    return part if len(part) <= 1 or _COMMAND.fullmatch(part) or part.isdigit() else f"{{{part}}}"


def _over(parts: list[str]) -> str:
    accent = _ACCENTS.get(parts[1].removeprefix("\\").replace("to", "→") if len(parts) > 1 else "")
    if accent:
        return rf"\{accent}{{{parts[0]}}}"
    return f"{_base(parts)}^{_group(parts, 1)}"


_MADE: dict[str, Callable[[list[str]], str]] = {
    "mfrac": lambda parts: rf"\frac{_group(parts, 0)}{_group(parts, 1)}",
    "msqrt": lambda parts: rf"\sqrt{{{_joined(parts)}}}",
    "mroot": lambda parts: rf"\sqrt[{parts[1] if len(parts) > 1 else ''}]{_group(parts, 0)}",
    "msup": lambda parts: f"{_base(parts)}^{_group(parts, 1)}",
    "msub": lambda parts: f"{_base(parts)}_{_group(parts, 1)}",
    "msubsup": lambda parts: f"{_base(parts)}_{_group(parts, 1)}^{_group(parts, 2)}",
    "munder": lambda parts: f"{_base(parts)}_{_group(parts, 1)}",
    "mover": _over,
    "munderover": lambda parts: f"{_base(parts)}_{_group(parts, 1)}^{_group(parts, 2)}",
    "mphantom": lambda parts: "",
}
