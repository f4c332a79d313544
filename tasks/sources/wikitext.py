"""Wikitext, the markup of MediaWiki, as plain text.

One walk over the text, with a stack of what is open: its cost is linear in the length whatever a page holds, and what
is never closed stays as it is written. Links become their label, list items lines with `- ` or a number, tables rows
with ` | ` between cells, formulas `$...$`, code stays as it is. Left out are comments, notes, pictures, galleries,
tables that are furniture (boxes of navigation and of facts), and templates but for those whose argument is text
(`tasks.sources.wiki_templates`). Sections that list sources and links are left out, and headings of which nothing is
left (`tasks.sources.wiki_lines`). Categories are told beside the text.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from html.entities import html5

from tasks.extraction.columns import Above, Cell
from tasks.sources.wiki_lines import lines
from tasks.sources.wiki_templates import expanded, raised

DEEPEST = 60
"""Templates, links and tables in each other, at most; deeper ones are text."""
_RAW = re.compile(
    r"<!--|<(nowiki|pre|math|chem|ce|syntaxhighlight|source|ref|references|gallery|timeline|score|graph|mapframe|maplink"
    r"|imagemap|templatedata|templatestyles|hiero|indicator|inputbox|categorytree|section|noinclude|includeonly)"
    r"\b([^<>]*)>",
    re.IGNORECASE,
)
_CODE = {"pre", "syntaxhighlight", "source"}
_FORMULA = {"math", "chem", "ce"}
_HELD = re.compile("\x7f([0-9]+)\x7f")
"""What stands for a part that is kept as it is."""
_TOKEN = re.compile(
    r"(?<![^\n])[ \t:*#]*+\{\||(?<![^\n])[ \t]*+\|\}|\{\{\{(?!\{)|\{\{|\}{2,3}|\[\[|\]\]|-\{(?!\{)|\}-|\|"
)
_EXTERNAL = re.compile(
    r"\[(?:(?:https?|ftp|irc|news):)?//[^\s\[\]<>]*+(?:[ \t]++([^\[\]\n]*+))?\]|\[mailto:[^\[\]\n]*+\]"
)
_TAG = re.compile(
    r"<(/?)(abbr|b|bdi|bdo|big|blockquote|br|caption|center|cite|code|dd|del|dfn|div|dl|dt|em|font|h[1-6]|hr|i|ins|kbd|li"
    r"|mark|noinclude|ol|onlyinclude|p|poem|q|rb|rp|rt|rtc|ruby|s|samp|small|span|strike|strong|sub|sup|table|tbody|td"
    r"|th|tr|tt|u|ul|var|wbr)\b[^<>]*>",
    re.IGNORECASE,
)
_BREAKS = {
    **dict.fromkeys(("blockquote", "br", "caption", "center", "dd", "div", "dl", "dt", "hr", "li", "ol", "p"), "\n"),
    **dict.fromkeys(("poem", "table", "tr", "ul"), "\n"),
    **dict.fromkeys(("td", "th"), " | "),
    **dict.fromkeys(("sub", "sup"), " "),
}
"""What comes in the place of tags that part a text."""
_RAISED = re.compile(r"<(su[bp])\b[^<>]*>((?:[^<>\n]|<(?!/?su[bp]\b)[^<>\n]*>){1,200}?)</\1>", re.IGNORECASE)
"""A raised or lowered part in which there is no other."""
_RAISINGS = 4
"""Raised parts in each other, at most."""
_READING = re.compile(r"<(?:rt|rp)\b[^<>]*>[^<>\n]*</(?:rt|rp)>", re.IGNORECASE)
_QUOTES = re.compile("('{2,})")
_SWITCH = re.compile(
    r"__(?:NO[A-Z]{2,27}|(?:FORCE)?TOC|NEWSECTIONLINK|HIDDENCAT|EXPECT[A-Z_]{5,30}|INDEX|STATICREDIRECT|DISAMBIG"
    r"|ARCHIVEDTALK)__"
)
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
"""A character by its name or number. Without the semicolon it is none here: `?title=A&section=2`."""
_SPACES = re.compile(r"(?<=\S)[ \t]{2,}")
_HOLLOW = re.compile(
    r"[ \t]?[(（][,;:，；：、/\s]*+[)）]|(?<=[(（])[ \t]*+[,;，；、][ \t,;，；、]*+"
    r"|(?<=[^\s,;，；、])[ \t]?[,;，；、][ \t,;，；、]*+(?=[)）])"
)
"""What is left of brackets in which there were templates."""
_WRITTEN = re.compile(
    r"[(（][,;:，；：、/\s]*+[)）]|[(（][ \t]*+[,;，；、][ \t,;，；、]*+"
    r"|(?<=[^}>\]\s,;，；、])[ \t]?[,;，；、][ \t,;，；、]*+(?=[)）])"
)
"""What looks so and is written: `main()`, `(1,)`."""
_SPAN = re.compile(r"\b(row|col)span\s*+=\s*+[\"']?\s*+([0-9]{1,4})(?![0-9])", re.IGNORECASE)
_FURNITURE = re.compile(
    r"infobox|navbox|sidebar|metadata|mbox|noprint|toccolours|\btoc\b|succession|wikitable-nav|vertical", re.IGNORECASE
)
_LANGUAGE = re.compile(r"[a-z]{2,3}(?:-[a-z]{2,8}){0,2}\Z|simple\Z")
_VARIANTS = ("zh-cn", "zh-hans", "zh", "zh-sg", "zh-my", "zh-hant", "zh-tw", "zh-hk")
FILES = frozenset({"file", "image", "media", "文件", "檔案", "档案", "图像", "圖像", "ファイル", "画像"})
CATEGORIES = frozenset({"category", "分类", "分類", "カテゴリ"})
"""Names of the namespaces of pictures and of categories, beside those that a dump tells."""


@dataclass
class Page:
    """What a page says."""

    text: str
    categories: list[str] = field(default_factory=list)


@dataclass
class _Open:
    """Something that is open: a template `{`, a parameter `3`, a link `[`, a table `|`, a choice of variants `-`."""

    kind: str
    written: str
    """How it was opened."""
    parts: list[list[str]] = field(default_factory=lambda: [[]])

    def text(self) -> str:
        """As it was written, where it is never closed."""
        return self.written + "|".join(map("".join, self.parts))


def plain(wikitext: str, files: Iterable[str] = (), categories: Iterable[str] = ()) -> Page:
    """The text of a page; `files` and `categories` are the names of these namespaces, lower case."""
    walk = _Walk(FILES.union(files), CATEGORIES.union(categories))
    text = walk.flattened(walk.held(wikitext.replace("\x7f", "")))
    text = _READING.sub("", text) if "<rt" in text else text
    text = _TAG.sub(_tag, _with_raised(text))
    text = _SWITCH.sub("", _without_quotes(_EXTERNAL.sub(lambda link: link[1] or "", text)))
    text = _HOLLOW.sub("", _SPACES.sub(" ", _unescaped(text)))
    return Page(walk.restored("\n".join(lines(text))).strip("\n"), [*map(walk.restored, walk.categories)])


class _Walk:
    """The walk over one page."""

    def __init__(self, files: frozenset[str], categories: frozenset[str]) -> None:
        self._files, self._categories = files, categories
        self.categories: list[str] = []
        self._kept: list[str] = []
        self._whole = 0
        """Of these, those that hold no others any more."""

    def hold(self, text: str) -> str:
        """What stands for a text that is to stay as it is."""
        self._kept.append(text)
        return f"\x7f{len(self._kept) - 1}\x7f"

    def restored(self, text: str) -> str:
        """With what was held in its place; what was held later may hold what was held before."""
        for number in range(self._whole, len(self._kept)):
            self._kept[number] = _HELD.sub(lambda held: self._kept[int(held[1])], self._kept[number])
        self._whole = len(self._kept)
        return _HELD.sub(lambda held: self._kept[int(held[1])], text)

    def held(self, text: str) -> str:
        """Without comments and notes, and with formulas, code and what is no wikitext held."""
        out, at, unclosed = list[str](), 0, set[str]()
        while found := _RAW.search(text, at):
            out.append(self._prose(text[at : found.start()]))
            at, name = found.end(), (found[1] or "").lower()
            if not name:
                end = text.find("-->", at)
                at = end + 3 if end >= 0 else len(text)
            elif not found[2].endswith("/") and name not in unclosed:
                closing = re.compile(rf"</{name}\s*+>", re.IGNORECASE).search(text, at)
                if closing:
                    out.append(self._element(name, text[at : closing.start()]))
                    at = closing.end()
                else:
                    unclosed.add(name)
        out.append(self._prose(text[at:]))
        return "".join(out)

    def _prose(self, text: str) -> str:
        return _WRITTEN.sub(lambda brackets: self.hold(brackets[0]), text)

    def _element(self, name: str, content: str) -> str:
        if name == "nowiki":
            return self.hold(_unescaped(content))
        if name in _FORMULA:
            formula = " ".join(_unescaped(content).split())
            return self.hold(f"${formula}$" if name == "math" else f"$\\ce{{{formula}}}$") if formula else ""
        if name in _CODE:
            code = _unescaped(content) if name == "pre" else content
            return "\n" + self.hold(code.strip("\n")) + "\n" if "\n" in code.strip() else self.hold(code.strip())
        return ""

    def flattened(self, text: str) -> str:
        """Without templates, links, tables and variants: what is to be read of each is in its place."""
        stack, at = [_Open("", "")], 0
        while token := _TOKEN.search(text, at):
            stack[-1].parts[-1].append(text[at : token.start()])
            at = token.start() + self._token(token[0], stack)
        stack[-1].parts[-1].append(text[at:])
        while len(stack) > 1:
            self._unclosed(stack)
        return "|".join(map("".join, stack[0].parts))

    def _token(self, token: str, stack: list[_Open]) -> int:
        """Open, close or part what a token says; returns how many characters of it were used."""
        kind = token.strip(" \t:*#")
        if kind[:2] in ("{{", "[[", "{|", "-{"):
            return self._opened(token, kind, stack)
        if kind.startswith("}}"):
            return self._braces(token, stack)
        closes = {"]]": "[", "}-": "-"}.get(kind) or ("|" if kind == "|}" else "")
        if closes and self._closes(closes, stack):
            self._close(stack)
            return len(token)
        if kind == "|}" and stack[-1].kind == "{":  # the end of a template whose last argument is empty
            stack[-1].parts.append([])
            return len(token) - 1
        if kind == "|" and stack[-1].kind in ("{", "3", "[", "-"):
            stack[-1].parts.append([])
        else:
            stack[-1].parts[-1].append(token)
        return len(token)

    def _opened(self, token: str, kind: str, stack: list[_Open]) -> int:
        if len(stack) > DEEPEST:
            stack[-1].parts[-1].append(token)
        else:
            stack.append(_Open({"{{{": "3", "{|": "|"}.get(kind, kind[0]), token))
        return len(token)

    def _braces(self, token: str, stack: list[_Open]) -> int:
        if len(token) >= 3 and self._closes("3", stack):
            self._close(stack)
            return 3
        if self._closes("{", stack):
            self._close(stack)
            return 2
        stack[-1].parts[-1].append(token)
        return len(token)

    def _closes(self, kind: str, stack: list[_Open]) -> bool:
        """Whether something of a kind is open; what was opened in it and never closed is text then. A link or table
        does not end outside of the template that it begins in."""
        for number in range(len(stack) - 1, 0, -1):
            if stack[number].kind == kind:
                while len(stack) > number + 1:
                    self._unclosed(stack)
                return True
            if kind not in ("{", "3") and stack[number].kind in ("{", "3"):
                return False
        return False

    def _unclosed(self, stack: list[_Open]) -> None:
        left = stack.pop()
        text = self._table(left) if left.kind == "|" else left.text()
        stack[-1].parts[-1].append(text)

    def _close(self, stack: list[_Open]) -> None:
        done = stack.pop()
        parts = ["".join(part) for part in done.parts]
        match done.kind:
            case "{":
                text = expanded(parts, "".join(stack[-1].parts[-1][-2:]))
            case "3":
                text = parts[1] if len(parts) > 1 else ""
            case "[":
                text = self._link(parts)
            case "|":
                text = self._table(done)
            case _:
                text = _variant(parts)
        stack[-1].parts[-1].append(text)

    def _link(self, parts: list[str]) -> str:
        target, shown = parts[0].strip(), parts[-1].strip()
        if target.startswith(":"):
            return shown.removeprefix(":") if len(parts) == 1 else shown
        prefix, colon, rest = target.partition(":")
        space = prefix.strip().lower()
        if colon and space in self._categories:
            self.categories.append(" ".join(rest.replace("_", " ").split()))
            return ""
        if colon and (space in self._files or (len(parts) == 1 and _LANGUAGE.match(prefix))):
            return ""
        return shown or target

    def _table(self, table: _Open) -> str:
        first, _, rest = "".join(table.parts[0]).partition("\n")
        if _FURNITURE.search(first[:2000]):
            return ""
        above = Above(len(rest))
        rows = "\n".join(_shown(row, above) for row in _rows(rest.split("\n")) if any(cell.text for cell in row))
        return "\n\n" + self.hold(self._inline(rows)) + "\n\n" if rows else ""

    def _inline(self, text: str) -> str:
        """What a held table goes without, as the text around it will."""
        text = _TAG.sub(lambda tag: " " if tag[2].lower() in _BREAKS else "", _with_raised(text))
        text = _without_quotes(_EXTERNAL.sub(lambda link: link[1] or "", text))
        return _HOLLOW.sub("", _SPACES.sub(" ", _unescaped(text)))


def _unescaped(text: str) -> str:
    """A text with the characters that it names."""
    return _ENTITY.sub(_character, text) if "&" in text else text


def _character(found: re.Match[str]) -> str:
    return html.unescape(found[0]) if found[0][1] == "#" else html5.get(found[0][1:], found[0])


def _without_quotes(text: str) -> str:
    """Without what makes italics and bold, line by line, but for apostrophes among it: `l'''Iliade''`."""
    return "\n".join(map(_unquoted, text.split("\n"))) if "''" in text else text


def _unquoted(line: str) -> str:
    """A line, by MediaWiki's rules: of four apostrophes the first is one, of more than five the first ones; and where
    neither italics nor bold have an end, one of a beginning of bold is one, best behind a single letter."""
    parts = _QUOTES.split(line)
    marks = range(1, len(parts), 2)
    size = {place: len(parts[place]) for place in marks}
    for place in marks:
        more = 1 if size[place] == 4 else max(0, size[place] - 5)
        parts[place - 1] += "'" * more
        size[place] -= more
    bold = [place for place in marks if size[place] in (3, 5)]
    if len(bold) % 2 and sum(size[place] in (2, 5) for place in marks) % 2:
        begins = [place for place in bold if size[place] == 3]
        letters = [place for place in begins if parts[place - 1][-2:-1] == " " and parts[place - 1][-1] != " "]
        words = [place for place in begins if not parts[place - 1].endswith(" ")]
        for place in (letters or words or begins)[:1]:
            parts[place - 1] += "'"
    return "".join(parts[::2])


def _shown(row: list[Cell], above: Above) -> str:
    """A row as a line, without the columns behind its last cell that this one spans."""
    texts = above.in_columns(row)
    for _ in range(min(row[-1].columns, len(texts)) - 1):
        if not texts[-1]:
            texts.pop()
    return " | ".join(texts)


def _rows(lines: list[str]) -> Iterator[list[Cell]]:
    """The rows of a table, from the lines between its marks; its caption is one."""
    row: list[Cell] = []
    captioned = False
    for line in lines:
        text = line.strip()
        if not text.startswith(("|", "!")):
            if row:
                row[-1] = row[-1]._replace(text=f"{row[-1].text} {text}")
            continue
        if captioned or text.startswith(("|-", "|+")):
            yield [cell._replace(text=" ".join(cell.text.split())) for cell in row]
            row = []
        captioned = text.startswith("|+")
        if captioned:
            row = [_content(text[2:])]
        elif not text.startswith("|-"):
            cells = text[1:].replace("!!", "||") if text[0] == "!" else text[1:]
            row += [_content(cell) for cell in cells.split("||")]
    yield [cell._replace(text=" ".join(cell.text.split())) for cell in row]


def _content(cell: str) -> Cell:
    """A cell without its attributes."""
    attributes, bar, content = cell.partition("|")
    if not bar or ("=" not in attributes and attributes.strip()):
        return Cell(cell)
    spans = {name.lower(): int(number) for name, number in _SPAN.findall(attributes)}
    return Cell(content, spans.get("row", 1), spans.get("col", 1))


def _variant(parts: list[str]) -> str:
    """What is shown of a choice between the scripts and regions of a language: `-{zh-hans:...; zh-hant:...}-`."""
    flags = parts[0].strip() if len(parts) > 1 else ""
    if flags in ("H", "T", "-"):
        return ""
    content = parts[-1]
    choices = {}
    for rule in content.split(";"):
        name, colon, shown = rule.rpartition("=>")[2].partition(":")
        if colon:
            choices[name.strip().lower()] = shown.strip()
    known = next((choices[name] for name in _VARIANTS if name in choices), None)
    return content if known is None else known


def _tag(tag: re.Match[str]) -> str:
    """What comes in the place of a tag: cells are parted where they begin, all else also where it ends."""
    return "" if tag[1] and tag[2].lower() in ("td", "th") else _BREAKS.get(tag[2].lower(), "")


def _with_raised(text: str) -> str:
    """With marks for what is raised and lowered, what is within another first."""
    for _ in range(_RAISINGS if "<su" in text.lower() else 0):
        text, count = _RAISED.subn(_raised, text)
        if not count:
            break
    return text


def _raised(found: re.Match[str]) -> str:
    return raised(_TAG.sub("", found[2]), "^" if found[1].lower() == "sup" else "_")
