"""Whether what a page gives as its author names somebody."""

from __future__ import annotations

import re
from html import unescape

_LONGEST = 200
"""Characters of what may be authors; more is a biography."""
_WORDS = 12
"""Words of one author, at most; more is a sentence."""
_NOBODY = re.compile(
    r"(?:by|written by|author|authors|posted by|admin|administrator|webmaster|editor|editors|editorial|staff|user|"
    r"guest|anonymous|unknown|none|null|undefined|n/?a|root|test|default|super ?user|site ?admin|wordpress|blogger|"
    r"share|follow|contact|name|email(?: com)?|facebook|twitter|view all posts|read more|more posts|home|login|"
    r"作者|佚名|匿名|未知|编辑|責任編輯|责任编辑|编辑部|小编|管理员|网站管理员|发表于|我已授权|本站|原创|转载|来源|记者|通讯员|"
    r"管理者|編集部|作成者|관리자|운영자|админ|администратор|редакция|автор)[\s:：|,.()-]*",
    re.IGNORECASE,
)
_ADDRESS = re.compile(r"https?:|www\.|\S@\S|\.(?:com|net|org|cn|html?|php)\b|[/\\{}<>=]", re.IGNORECASE)
_DATE = re.compile(
    r"\d{4}|\d{1,2}[:.]\d\d|\b(?:ago|min read|comments?|views?)\b|[年月]\d|评论|浏览|点击|来源[:：]", re.IGNORECASE
)
_BETWEEN = re.compile(r"\s*[;；]\s*|\s+(?=(?:责任编辑|责编|编辑|来源)\s*[:：])")
_BEFORE = re.compile(
    r"(?:by|written by|posted by|author|作者|文|记者|编辑|责任编辑|责编)\s*[:：]\s*|(?:by|written by)\s+", re.IGNORECASE
)


def credible(author: str) -> str:
    """The names among what stands for the author, or nothing where it is an address, a role, a date or a sentence."""
    found = []
    if len(author) <= 4 * _LONGEST:
        for name in _BETWEEN.split(unescape(author)):
            name = _BEFORE.sub("", " ".join(name.split()), count=1).strip(" ,|·-")
            if _names_somebody(name) and name not in found:
                found.append(name)
    joined = "; ".join(found)
    return joined if len(joined) <= _LONGEST else ""


def _names_somebody(name: str) -> bool:
    if not any(map(str.isalpha, name)) or len(name.split()) > _WORDS:
        return False
    return not (_NOBODY.fullmatch(name) or _ADDRESS.search(name) or _DATE.search(name))
