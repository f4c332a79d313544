"""What the names that authors give to parts of a page say of these: classes, ids and roles, cut into words.

A mark is a bit; a part has those whose words occur in its names, or that its element has by itself. A word of five
letters or more counts anywhere in a name (`maincontent`), a shorter one at its beginning (`navbar`), one with a `$`
only by itself. They are English, as these names are in pages of every language, with some Pinyin.
"""

from __future__ import annotations

import re
from functools import lru_cache

_WORDS = {
    "navigation": "nav navi$ menu dropdown subnav topnav daohang caidan",
    "breadcrumb": "breadcrumb crumb bread$ crumbs mianbao",
    "footer": "footer foot$ bottom$ yejiao",
    "header": "header masthead topbar head$ topper",
    "sidebar": "sidebar aside side$ rail$ sidenav secondary right$ left$",
    "widget": "widget module$ block$",
    "related": "related recommend similar relate$ upsell recirc tuijian xiangguan guess",
    "share": "share sharing addthis addtoany fenxiang",
    "social": "social facebook twitter instagram follow weibo weixin wechat qrcode",
    "comment": "comment disqus pinglun remark$",
    "reply": "reply replies respond response huifu",
    "consent": "cookie consent gdpr privacy onetrust",
    "overlay": "modal popup overlay lightbox dialog tooltip drawer flyout popover toast",
    "newsletter": "newsletter subscri signup optin mailing",
    "advert": "ad$ ads$ advert adsense adv$ sponsor taboola outbrain guanggao promo",
    "tags": "tag$ tags$ taglist hashtag categor topics keyword label$ labels$",
    "meta": "meta$ info$ detail$ byline postmeta",
    "author": "author writer$ bio$ contributor zuozhe editor$",
    "date": "date$ time$ timestamp datetime publish shijian riqi",
    "paging": "pagin pager next$ prev$ previous loadmore fenye pages$",
    "account": "login signin account register logon denglu zhuce",
    "search": "search sousuo",
    "filter": "filter facet sort$ sorting refine swatch",
    "hidden": "hidden hide$ invisible sr$ visually screenreader collapse offscreen noprint",
    "cart": "cart$ basket checkout wish$ wishlist quantity shipping delivery addtocart buy$ purchase",
    "price": "price pricing cost$ amount currency money",
    "rating": "rating stars$ star$ score vote like$ likes$",
    "review": "review testimonial",
    "product": "product prod$ goods$ sku$",
    "title": "title headline heading name$ subject biaoti",
    "description": "desc$ description summary excerpt intro$ lead$ abstract about$ overview zhaiyao",
    "specification": "spec$ specs$ specification attribute parameter properties tech$",
    "post": "post$ posts$ postbody postcontent",
    "article": "article story$ storybody blog$ wenzhang",
    "content": "content neirong",
    "entry": "entry",
    "body": "body$ articlebody",
    "main": "main$ primary maincontent zhengwen",
    "text": "text$ copy$ prose$ rich$ richtext wysiwyg markdown typography paragraph rte$ txt$",
    "thread": "thread topic$ forum discussion message msg$ tiezi",
    "answer": "answer solution",
    "question": "question",
    "member": "user$ username member profile poster avatar people person staff$ team$",
    "list": "list$ lists$ grid$ collection result results catalog archive listing liebiao",
    "item": "item$ items$ row$ cell$ tile$",
    "card": "card$ cards$ teaser preview snippet",
    "caption": "caption credit figure image$ images$ img$ photo media$ video gallery",
    "contents": "toc$ tableofcontents onthispage mulu",
    "toolbar": "toolbar action$ actions$ button btn$ control icon$ icons$ tools$",
    "legal": "copyright colophon legal$ terms$ disclaim policy banquan shengming",
    "contact": "contact address phone$ email$ location map$",
    "questions": "faq$ faqs$ qa$",
    "tabs": "tab$ tabs$ tabpanel tabpane",
    "fold": "accordion toggle expand panel$ disclosure",
    "slides": "slide$ slider carousel swiper slick$",
    "feature": "feature benefit highlight hero$ jumbotron banner",
    "counter": "stat$ stats$ counter count$ views$ number$ total$",
    "action": "cta$ calltoaction getstarted learnmore",
    "form": "form$ fieldset",
    "notice": "announce alert$ notification notice",
    "popular": "popular trending most$ hot$ top$ topstories remen paihang rank latest recent newest headlines more$"
    " zuixin",
    "signature": "signature sig$",
    "quote": "quote",
    "edit": "edit$ report$ flag$ permalink bookmark print$ printable",
}
MARKS = tuple(_WORDS)
BIT = {name: 1 << place for place, name in enumerate(MARKS)}
_ALL = [(word, BIT[name]) for name, words in _WORDS.items() for word in words.split()]
_EXACT = {word[:-1]: bit for word, bit in _ALL if word[-1] == "$"}
_BEGINS = [(word, bit) for word, bit in _ALL if word[-1] != "$" and len(word) < 5]
_INSIDE = [(word, bit) for word, bit in _ALL if word[-1] != "$" and len(word) >= 5]
OF_ELEMENT = {
    tag: BIT[name]
    for tag, name in {
        **{"nav": "navigation", "menu": "navigation", "footer": "footer", "header": "header", "aside": "sidebar"},
        **{"form": "form", "fieldset": "form", "label": "form", "button": "toolbar", "dialog": "overlay"},
        **{"article": "article", "main": "main", "figure": "caption", "figcaption": "caption", "address": "contact"},
        **{"details": "fold", "summary": "fold"},
    }.items()
}
"""Marks that elements have whatever they are called."""
_SEPARATORS = re.compile(r"[^a-z0-9]+|(?<=[a-z])(?=[0-9])")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")


@lru_cache(2**15)
def marks(names: str) -> int:
    """The marks of the names of a part, one bit each."""
    found = 0
    for word in _SEPARATORS.split(_CAMEL.sub("-", names[:500]).lower()):
        if len(word) > 1:
            found |= _of_word(word)
    return found


@lru_cache(2**15)
def _of_word(word: str) -> int:
    found = _EXACT.get(word, 0)
    for start, bit in _BEGINS:
        if word.startswith(start):
            found |= bit
    for part, bit in _INSIDE:
        if part in word:
            found |= bit
    return found
