"""What sites say around a text, how they say that the rest is elsewhere, and words of pornography; English and Chinese.

Regular expressions of plain alternatives, matched without regard to case. A phrase is here because it stood on pages
that were read and hardly ever inside an article; what such words count for is a rule's choice.
"""

from __future__ import annotations

import re

_FURNITURE = r"""
log ?in|log ?out|sign ?(?:in|up|out)|my account|forgot(?:ten)? (?:your |my )?password|lost password|create an? account
register now|not a member|already a member|member login|remember me|your e-?mail address|e-?mail address will not
leave a (?:reply|comment)|post a comment|no comments|\d+ comments?\b|comments? (?:are closed|off)|add (?:a )?comment
be the first to|reply to this|report abuse|flag this|required fields|fields are (?:required|marked)
read more|continue reading|view (?:all|more|full|profile)|see (?:all|more)|show (?:more|all)|load more|click here
learn more|more info|full (?:article|story|text)
add to (?:cart|basket|bag|wish ?list|favou?rites|compare)|buy now|shop now|order now|in stock|out of stock|sold out
free shipping|your cart|checkout|quick view|sort by|items? per page|showing \d+
all rights reserved|copyright (?:©|\(c\)|\d{4})|©|terms (?:of (?:use|service)|and conditions|& conditions)
privacy policy|cookie policy|uses? cookies|enable javascript|javascript (?:is|must be)|flash player|ad ?block
your browser|powered by|designed by|hosted by|skip to|jump to|back to top|main menu|site ?map|home ?page|about us
contact us|follow us|share (?:this|on|via)|like us|tweet|pinterest|facebook|whatsapp|linkedin|subscribe
newsletter|rss|print(?:er)? (?:this|friendly|version)|e-?mail (?:this|to)|permalink|bookmark|posted (?:by|on|in)
filed under|tagged|categories|archives|recent (?:posts|comments)|related (?:posts|articles|products|links|questions)
you may also like|people also|previous (?:post|article|page)|next (?:post|article|page)|older posts|newer posts
page \d+ of|advertisement|sponsored|download (?:now|the app|pdf)|get (?:the|our) app|upgrade (?:now|your)
send (?:a )?(?:message|mail)|you (?:do not|don't) have permission|access denied|page not found|404
domain (?:is for sale|name)|coming soon|under construction|no (?:results|items|products) (?:found|were)
登录|登陆|注册|忘记密码|退出登录|会员中心|验证码|收藏本站|设为首页|加入收藏|返回(?:首页|顶部|列表)|网站首页|网站地图
联系我们|关于我们|免责声明|版权所有|备案号|ICP备|公网安备|隐私(?:政策|声明)|使用条款|友情链接|上一[篇页条]|下一[篇页条]
相关(?:文章|阅读|推荐|新闻|产品|链接)|热门(?:文章|推荐|标签)|猜你喜欢|查看更多|更多(?:>>|内容|精彩)|阅读全文|展开全文
点击(?:查看|进入|下载|这里|数)|发表评论|暂无评论|网友评论|我要评论|分享到|扫一扫|扫码|二维码|关注我们|微信公众号
立即(?:购买|下载|注册|咨询)|加入购物车|在线(?:咨询|客服|留言)|客服热线|咨询热线|全国热线|技术支持[:：]|浏览次数|责任编辑
人气[:：]|当前位置|您(?:的|现在的)位置|字号[:：]|打印本页|关闭窗口|广告
"""
FURNITURE = re.compile("|".join(f"(?:{line})" for line in _FURNITURE.split("\n") if line), re.IGNORECASE)
"""Furniture of a site: its doors, forms, buttons, and what hangs around every page."""

_CUT_OFF = r"""
(?:…|\.\.\.|\[\.{3}\]|\[…\]|[(]more…?[)]|»)\W*$
read (?:more|on|full|the (?:rest|full|whole))|continue (?:reading|read)|\bmore…|(?:…|\.{3})\s*more\b
full (?:article|text|story|content|entry|review|access)|article (?:preview|excerpt)|view (?:full|the full|entire)
(?:log ?in|sign ?(?:in|up)|register|subscri\w+|purchase)[^.\n]{0,40}\b(?:to|for)\b[^.\n]{0,30}\b(?:access|view|read|see)
(?:log ?in|sign ?(?:in|up)|register)[^.\n]{0,40}\b(?:to|for)\b[^.\n]{0,30}\b(?:continue|post|comment|reply|download)
subscribers? only|subscription|no comments|to read more|rest of (?:this|the)|more from
阅读全文|查看全文|展开全文|阅读更多|未完待续|全文(?:请|见)|登录后(?:查看|阅读|可见)|（未完）
"""
CUT_OFF = re.compile("|".join(f"(?:{line})" for line in _CUT_OFF.split("\n") if line), re.IGNORECASE)
"""How a text ends of which the rest is elsewhere, or behind a door."""

_EXPLICIT = r"""
porn\w*|xxx+|blow ?jobs?|hand ?jobs?|cum ?shots?|cumming|milfs?|gang ?bangs?|creampies?|deep ?throat|anal sex|nudes?
nsfw|hentai|bdsm|fetish|dildos?|vibrators?|masturbat\w+|orgasms?|erotic\w*|hardcore|big tits|tits|titties|boobs|pussy
pussies|cocks?|dicks?|fuck(?:ed|ing|s|er)?|suck(?:ing|s)? (?:my|his|your) |sluts?|whores?|horny|naked|escorts?
call girls?|sex (?:cams?|chat|toys?|tapes?|videos?|stories|dates?|partners?|shops?|dolls?)|phone sex
adult (?:dating|dvd|toys?|videos?)
webcam girls?|cam girls?|threesomes?|swingers?|kinky|bondage|lesbians?|shemales?|ejaculat\w+|penis|vagina|hook ?ups?
sugar (?:daddy|daddies|bab(?:y|ies)|mommas?)|viagra|cialis|18 u\.s\.c\. ?2257|strippers?|lingerie|bareback
色情|淫[荡水乱妻叫]|裸聊|成人(?:视频|电影|网站|小说|影片)|无码|有码|做爱|口交|肛交|性爱|激情视频|三级片|一夜情|约炮|伟哥|情趣用品|自慰
色图|乱伦|巨乳|爆乳|熟女|人妻|内射|颜射|口爆|援交|肉棒|鸡巴|大屌|骚[货逼穴]|小穴|[操插]逼|啪啪啪|偷情|av(?:在线|女优|片)
"""
_CHINESE = re.compile("[\u4e00-\u9fff]")
EXPLICIT = re.compile(
    "|".join(f"(?:{line})" if _CHINESE.search(line) else rf"\b(?:{line})\b" for line in _EXPLICIT.split("\n") if line),
    re.IGNORECASE,
)
"""Words of pornography and of its trade. Each may stand in a serious text; several together hardly do."""
