"""What surrounds a text on sites of news and is written beside it in every language: lines, and lists under a heading.

A linear model that knows no words takes "责任编辑：张申" for a short paragraph, and headlines of other articles under
"热门推荐" for a list of this one. Here are the words of Chinese sites; those of European languages are in
`tasks.extraction.furniture_words`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from tasks.extraction.blocks import HEADINGS, Block
from tasks.extraction.furniture_words import ELSEWHERE, LINES, OTHERS
from tasks.extraction.page_type import PageType

_LONGEST = 80
"""Characters of a line that may be furniture."""
_HEADING = 40
"""Characters of the heading of a list of other pages, at most."""
_POINTER = 160
"""Characters of a line that sends readers to another page, at most."""
_MENU, _ENTRY = 12, 6
"""Characters of an entry of a menu, at most; and where the extractor took it, as a word that stands elsewhere, too."""
_LINE = re.compile(
    r"[（(\[【]?\s*(?:责任编辑|责编|编辑|值班编辑|校对|审核|编审|监制)\s*[:：].{0,30}"
    r"|.{0,40}(?:版权所有|copyright|©|all rights reserved|ICP备|网安备|备案号).{0,60}"
    r"|.{0,30}(?:未经授权|未经许可|未经允许)[^。]{0,12}转载.{0,20}"
    r"|(?:分享[到至]|扫一扫|扫描|扫码|用?微信扫|关注).{0,30}|.{0,20}(?:二维码|公众号|官方微[信博]).{0,20}"
    r"|[【\[]?(?:打印|关闭|关闭窗口|字号|字体|(?:缩小|放大)字体|收藏|举报|纠错|点赞|分享|转发|赞|踩|\+1|返回顶部|返回首页|首页|登录|注册|更多|图集)"
    r"[】\]]?(?:[\s|｜:：()（）0-9大中小]*)"
    r"|超大|特大|标准|默认|正常|[大中小]|A ?[+-]|T ?\+ ?-|[|｜]? ?(?:回复|分享)|微信号|功能介绍|发送|留言"
    r"|知道了|已收藏!?|EN|0"
    r"|(?:上一[篇页条]|下一[篇页条]|加载更多|查看更多|点击查看|阅读全文|阅读原文|展开全文).{0,60}"
    r"|.{0,12}(?:\d+\s*条?评论|条评论|评论\s*[(（]\d+[)）]|跟帖|跟贴|参与评论|写评论|发表评论|网友评论|进行评论).{0,40}"
    r"|(?:您?(?:现在|当前)?的?位置|首页)\s*[:：>＞»].{0,70}"
    rf"|{LINES}",
    re.IGNORECASE,
)
_FACT = re.compile(
    r"(?:来源|发布时间|发布日期|发表于|时间|日期|作者|浏览|浏览次数|点击|点击数|阅读|阅读数|字号|编辑)\s*[:：]"
)
_OTHERS = re.compile(
    r"(?:为您推荐|相关(?:推荐|阅读|新闻|文章|内容|搜索|链接|报道|话题|资讯)|热门.{0,8}|热(?:新闻|点|榜|帖|词|文).{0,4}|猜你喜欢|"
    r"你可能.{0,6}(?:喜欢|感兴趣).{0,4}|.{0,6}推荐(?:新闻|阅读|文章|视频)?|.{0,6}最[新近](?:文章|报道|新闻|资讯|消息|评论)|.{0,8}排行榜?|"
    r"更多(?:新闻|精彩|文章|阅读).{0,6}|(?:网友|全部|精彩|最新)?评论.{0,6}|大家都在[看搜]|图片新闻|视频新闻|"
    rf"{OTHERS})\s?[:：…]?",
    re.IGNORECASE,
)
_ELSEWHERE = re.compile(rf"\W{{0,4}}(?:{ELSEWHERE})\b", re.IGNORECASE)


def without_furniture(blocks: Sequence[Block], taken: Sequence[float], kind: PageType) -> list[Block]:
    """The blocks without lines that are furniture, and without lists of other pages and entries of menus, but where
    these are what a page is for: lists from their heading to the next block of some length that the extractor took
    (`taken`); and in articles and documentation without headings that nothing follows."""
    found: list[tuple[Block, float]] = []
    others = False
    articles = kind in ("article", "documentation", "service")
    for block, took in zip(blocks, taken, strict=True):
        text = block.text
        if articles and len(text) <= _HEADING and _OTHERS.fullmatch(text) and found:
            others = True
        elif others and took == 1 and len(text) > _LONGEST:
            others = False
        longest = _MENU if not took else _ENTRY if block.item else 0
        entry = articles and len(text) <= longest and block.linked >= 0.9 * len(text)
        pointer = kind == "article" and _is_pointer(block)
        if not others and not entry and not pointer and not _is_furniture(text):
            found.append((block, took))
    return _without_empty_end(found) if kind in ("article", "documentation") else [block for block, _ in found]


def _is_furniture(text: str) -> bool:
    return len(text) <= _LONGEST and (_LINE.fullmatch(text) is not None or len(_FACT.findall(text)) > 1)


def _is_pointer(block: Block) -> bool:
    """Whether a line says no more than that another page is worth reading."""
    text = block.text
    return len(text) <= _POINTER and block.linked >= 0.4 * len(text) and _ELSEWHERE.match(text) is not None


def _without_empty_end(blocks: Sequence[tuple[Block, float]]) -> list[Block]:
    """The blocks without headings at their end, which belong to what was left out below them; those that the extractor
    took, links and items stay."""
    end = len(blocks)
    while end and _is_heading(*blocks[end - 1]):
        end -= 1
    return [block for block, _ in blocks[:end]]


def _is_heading(block: Block, took: float) -> bool:
    linked = block.linked > len(block.text) / 2
    return HEADINGS.get(block.kind, 1) > 1 and block.item is None and not linked and took < 1
