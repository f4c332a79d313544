"""Lines and lists that surround a text on sites of news go; what only speaks of such things stays."""

from __future__ import annotations

import pytest

from tasks.extraction.blocks import Block
from tasks.extraction.furniture import without_furniture
from tasks.extraction.page_type import PageType

PROSE = (
    "第十届全国人民代表大会常务委员会第二十八次会议听取了财政部部长所作的说明，审议了国务院提请的议案，并作了决定，现予公布，自公布之日起施行，请各地各部门认真组织学习贯彻。"
    * 2
)


def kept(*texts: str, kind: PageType = "article") -> list[str]:
    blocks = [Block(text, "p", 0, 0) for text in texts]
    return [block.text for block in without_furniture(blocks, [float(text == PROSE) for text in texts], kind)]


@pytest.mark.parametrize(
    "line",
    [
        *(
            "责任编辑：张申",
            "（责任编辑： HN666）",
            "[责任编辑：韩保林 PK155]",
            "评论(3)",
            "已有0条评论",
            "写评论已有0条评论跟帖用户自律公约",
        ),
        *(
            "版权所有 湖南省中医药研究院附属医院 Copyright © 2018 All rights reserved",
            "京ICP备12345号",
            "分享至好友和朋友圈",
        ),
        *(
            "用微信扫描二维码",
            "扫一扫在手机打开当前页",
            "【纠错】",
            "打印",
            "登录",
            "来源:新华社 发布时间: 2018-05-17 浏览次数: 2168",
        ),
        *(
            "首页 > 国务院公报 > 2007年第23号",
            "上一篇：某某",
            "未经授权不得转载",
            "Share this",
            "12 comments",
            "超大",
            "T + -",
            "|回复",
            "Leave a reply",
        ),
        *("Kommentar verfassen Antwort abbrechen", "Keine Kommentare", "2 Antworten zu „Am Fluss“"),
        *("Deja un comentario", "10 comments", "share this story", "Leave a comment"),
        *("Comments are closed.", "Aucun commentaire", "Brak komentarzy", "Geef een reactie", "Nessun commento"),
        *("Share this:", "Teilen Sie dies mit:", "Partager sur Facebook", "Gefällt mir: Wird geladen …", "Like this:"),
        *("Foto: Anna Muster/dpa", "(Photo credit: A. Example)", "Crédits photos : Agence"),
        "Bildquelle: Archiv der Stadt",
    ],
)
def test_a_line_that_is_furniture_goes(line: str) -> None:
    assert kept(PROSE, line, PROSE) == [PROSE, PROSE]


@pytest.mark.parametrize(
    "line",
    [
        *(
            "编辑部的故事",
            "他登录网站后发现评论不见了。",
            "版权法修订草案公布",
            "更多的人来到河边。",
            "Share prices fell on Monday.",
        ),
        *(
            "作者：鲁迅",
            "来源于生活，高于生活。",
            "Comments on a cultural reality",
            "热门音乐的历史很长，要从上个世纪说起。",
        ),
        *("5 Antworten auf die wichtigsten Fragen zur Steuer", "Teilen macht Freude.", "Fotos vom Fluss"),
        *("12 comments that changed a mind", "No comment from the mayor", "Credit cards", "See also"),
        "Photos: how they are taken. A guide.",
    ],
)
def test_a_line_that_speaks_of_such_things_stays(line: str) -> None:
    assert kept(PROSE, line) == [PROSE, line]


def test_a_list_of_other_pages_goes_from_its_heading_to_the_next_long_block_that_was_taken() -> None:
    others = ["热门推荐", "- 科创板退市制度早知道", "- 大A未迎开门红"]
    assert kept(PROSE, *others, PROSE, "完。") == [PROSE, PROSE, "完。"]
    assert kept(PROSE, "Related posts", "Another story") == [PROSE]
    assert kept(PROSE, *others, kind="forum") == [PROSE, *others]
    assert kept("热门推荐", PROSE) == ["热门推荐", PROSE]
    for heading in ("Das könnte dich auch interessieren …", "Sur le même sujet", "Te puede interesar", "Lees ook:"):
        assert kept(PROSE, heading, "Another story", PROSE) == [PROSE, PROSE]


def test_a_line_that_sends_to_another_page_goes_out_of_articles_and_one_that_says_more_or_is_no_link_stays() -> None:
    def goes(text: str, linked: str, kind: PageType = "article") -> bool:
        prose, line = Block(PROSE, "p", 0, 0), Block(text, "p", 0, len(linked))
        return line not in without_furniture([prose, line, prose], [1, 1, 1], kind)

    title = "Wie man am Fluss Gold wäscht"
    assert goes(f"Lesen Sie auch: {title}", title)
    assert goes(f"[Read more: {title}]", title)
    assert goes(f">> À lire aussi » {title}", title)
    assert not goes(f"Read more about how gold is washed in the small rivers of the north, as {title} says", "north")
    assert not goes("Relatedness of languages", "Relatedness of languages")
    assert not goes(f"See also: {title}", title, kind="documentation")


def test_headings_at_the_end_go_as_nothing_is_left_below_them() -> None:
    def left(*blocks: Block, taken: float = 0, kind: PageType = "article") -> list[str]:
        every = [Block(PROSE, "p", 0, 0), *blocks]
        found = without_furniture(every, [1.0, *[taken] * len(blocks)], kind)
        return [block.text for block in found[1:]]

    first, second = Block("Mehr vom Fluss", "h2", 0, 0), Block("Archiv", "h3", 0, 0)
    assert left(first, second) == []
    assert left(first, Block(PROSE, "p", 0, 0)) == ["Mehr vom Fluss", PROSE]
    assert left(first, taken=1) == ["Mehr vom Fluss"]
    assert left(first, kind="listing") == ["Mehr vom Fluss"]
    assert left(Block("A title of a story", "h3", 0, 18)) == ["A title of a story"]
    assert left(Block("An item", "h3", 0, 0, item=(1, None))) == ["An item"]


def test_entries_of_menus_go_where_a_page_is_an_article_also_such_as_the_extractor_took_for_words_of_its_text() -> None:
    def entry(text: str, taken: float, item: bool = True, linked: bool = True, kind: PageType = "article") -> bool:
        block = Block(text, "li", 0, len(text) * linked, item=(1, 0) if item else None)
        prose = Block(PROSE, "p", 0, 0)
        return block not in without_furniture([prose, block, prose], [1, taken, 1], kind)

    assert entry("国内", 1)
    assert entry("International", 0) is False  # longer than an entry of a menu
    assert entry("Internet", 0)
    assert entry("Internet", 1) is False
    assert entry("国内", 1, item=False) is False
    assert entry("国内", 0, linked=False) is False
    assert entry("国内", 1, kind="listing") is False
