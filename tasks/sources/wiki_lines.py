"""The lines of a page of wikitext: headings, sections and lists, each told by how its line begins."""

from __future__ import annotations

import re
from collections.abc import Iterator

_ITEM = re.compile(r"[*#:;]+")
_APPENDICES = """
references; notes; notes and references; references and notes; footnotes; citations; sources; bibliography;
further reading; external links; see also; works cited; cited sources; gallery; 参考文献; 參考文獻; 参考资料;
參考資料; 参考来源; 參考來源; 注释; 註釋; 注釋; 脚注; 腳註; 註解; 注解; 外部链接; 外部連結; 外部鏈接; 延伸阅读;
延伸閱讀; 扩展阅读; 擴展閱讀; 参见; 參見; 参看; 參看; 相关条目; 相關條目; 资料来源; 資料來源; 来源; 來源; 备注;
備註; 備注; 引用; 出典; 関連項目; 外部リンク; einzelnachweise; weblinks; literatur; siehe auch; références;
voir aussi; liens externes; notes et références; bibliographie; referencias; enlaces externos; véase también;
bibliografía; примечания; ссылки; литература; см. также; бележки; външни препратки; вижте също; източници
"""
APPENDICES = frozenset(" ".join(title.split()) for title in _APPENDICES.split(";"))
"""Sections that list what is elsewhere."""


def lines(text: str) -> Iterator[str]:
    """The lines of a page, without sections that list what is elsewhere."""
    waiting: list[tuple[int, str]] = []
    """Headings under which nothing has been found yet."""
    skipped, blank, numbers = 0, True, dict[int, int]()
    for written in text.split("\n"):
        line = written.strip().removeprefix("| ")
        if level := _level(line):
            title = line.strip("=").strip()
            if skipped and level > skipped:
                continue
            skipped = level if title.lower().rstrip(":：") in APPENDICES else 0
            waiting = [heading for heading in waiting if heading[0] < level] + [(level, title)] * (not skipped)
            continue
        if skipped or line.startswith("----"):
            continue
        if not line:
            if not blank:
                yield ""
            blank = True
            continue
        item = _ITEM.match(line)
        shown = _listed(item[0], line[item.end() :].strip(), numbers) if item else line
        if not item:
            numbers.clear()
        if not shown:
            continue
        for _, title in waiting:
            yield from (title, "") if blank else ("", title, "")
            blank = True
        waiting, blank = [], False
        yield shown


def _level(line: str) -> int:
    """The level of a heading; 0 for any other line."""
    if len(line) < 3 or line[0] != "=" or line[-1] != "=":
        return 0
    left, right = len(line) - len(line.lstrip("=")), len(line) - len(line.rstrip("="))
    return min(left, right, 6) if line.strip("= \t") else 0


def _listed(marks: str, text: str, numbers: dict[int, int]) -> str:
    """A line of a list: with its mark, or its number, and a step in for each list that it is in."""
    if not text:
        return ""
    depth, mark = len(marks), marks[-1]
    for deeper in [each for each in numbers if each > depth]:
        del numbers[deeper]
    if mark == "#":
        numbers[depth] = numbers.get(depth, 0) + 1
        return f"{'  ' * (min(depth, 10) - 1)}{numbers[depth]}. {text}"
    numbers.pop(depth, None)
    return f"{'  ' * (min(depth, 10) - 1)}- {text}" if mark == "*" else text
