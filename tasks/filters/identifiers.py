"""What identifies a person or opens a door, found in text: e-mail and public IP addresses, phone numbers, Chinese
identity numbers, bank cards, IBANs, and keys and tokens in code.

Each kind has a screen, which RE2 holds against a whole column and which texts without any fail, a pattern, whose cost
is in proportion to the text's length whatever stands in it, and a check of what the pattern found: digits that a
standard adds for it, a plan of numbers, or what stands around it. So the number of a version, a chapter, a book or a
law is none of these.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date

Span = tuple[int, int]
"""Where something stands in a text: its beginning, and its end, which is not in it."""


@dataclass(frozen=True)
class Identifier:
    """One kind of what identifies."""

    screen: str
    """A regular expression of RE2, which finds something in every text that has any."""
    spans: Callable[[str], Iterator[Span]]
    """Where they stand in a text, from left to right."""


def _matching(pattern: str, check: Callable[[re.Match[str]], Span | None]) -> Callable[[str], Iterator[Span]]:
    compiled = re.compile(pattern)

    def spans(text: str) -> Iterator[Span]:
        for match in compiled.finditer(text):
            if span := check(match):
                yield span

    return spans


_APART = r"(?<![0-9A-Za-z_.+])(?<![0-9A-Za-z]-)"
"""Not in the middle of a word, a number, or something with hyphens. Chinese characters are no part of a word here."""
_ENDED = r"(?![0-9A-Za-z_]|[.-][0-9])"


# E-mail addresses: RFC 5321's lengths; a name that ends as files do is none, nor one whose host begins with a hyphen
# (RFC 1123 2.1).
_EMAIL = (
    r"(?<![0-9A-Za-z._%+-])[0-9A-Za-z_][0-9A-Za-z._%+-]{0,63}"
    r"@(?!-)(?:[0-9A-Za-z-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![0-9A-Za-z_])"
)
_FILES = frozenset("png jpg jpeg gif svg webp bmp ico css js ts json html xml".split())


def _email(match: re.Match[str]) -> Span | None:
    found = match[0]
    a_file = found.rpartition(".")[2].lower() in _FILES
    a_repository = found.startswith("git@") and match.string[match.end() : match.end() + 1] == ":"
    return None if a_file or a_repository else match.span()


# IP addresses that are somebody's: no private, reserved or local ones.
_IP = (
    r"(?<![0-9A-Za-z_.+-])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?!\.?[0-9]|\.?[A-Za-z_]|-[A-Za-z])"
    r"|(?<![0-9A-Za-z_.:])[23][0-9A-Fa-f]{1,3}:[0-9A-Fa-f:]{4,34}(?![0-9A-Za-z_:])"
)
_NUMBERED = re.compile(
    r"(?:(?<![A-Za-z])(?:v|ver|version|release|rev|build|firmware|section|sec|clause|article|chapter|table|figure|fig|appendix)"
    r"|[=~<>]=|§|版本|第|见|表|图|[A-Za-z]/)[\s:：.]*\Z",
    re.IGNORECASE,
)
"""What stands before the number of a version or of a part of a text."""
_ADDRESSED = re.compile(
    r"(?<![A-Za-z])(?:ip|ipv4|address|host|server|dns|ping)(?![A-Za-z])|地址|服务器|主机|//", re.IGNORECASE
)
_SMALL = 30
"""Numbers of parts and versions are rarely larger. Where all four are as small, only what stands around shows that it
is an address."""


def _ip(match: re.Match[str]) -> Span | None:
    try:
        address = ipaddress.ip_address(match[0])
    except ValueError:
        return None
    if not address.is_global or address.is_multicast:
        return None
    before = match.string[max(0, match.start() - 24) : match.start()]
    if address.version == 4:
        after = match.string[match.end() : match.end() + 2]
        small = max(address.packed) <= _SMALL
        addressed = _ADDRESSED.search(before) or re.match(r"[:/][0-9]", after)
        if _NUMBERED.search(before) or re.match(r"\s?[条节章款]", after) or (small and not addressed):
            return None
    return match.span()


# Phone numbers: international ones of E.164, and those of mainland China; both by the numbering plans that
# libphonenumber knows.
_INTERNATIONAL = r"(?<![0-9A-Za-z_+])(?:\(\+|\+\(?)[1-9](?:[ .()/-]{0,2}[0-9]){6,14}(?![0-9])"
_CHINESE = (
    _APART + r"(?<!/)(?:(?:(?:00)?86[ -]?)?1[3-9][0-9][ -]?[0-9]{4}[ -]?[0-9]{4}"
    r"|(?:[(（]0[0-9]{2,3}[)）] ?|0[0-9]{2,3}[ -])[0-9]{7,8}"
    r"|[48]00(?:[ -][0-9]{3}[ -][0-9]{4}|-[0-9]{7}))" + _ENDED
)


def _international(match: re.Match[str]) -> Span | None:
    found = match[0]
    while len(found) >= 8:  # numbers that follow are cut off
        if _in_a_plan(found, None):
            return match.start(), match.start() + len(found)
        cut = max(found.rfind(separator) for separator in " .()/-")
        found = found[: max(cut, 0)].rstrip(" .()/-")
    return None


def _chinese(match: re.Match[str]) -> Span | None:
    return match.span() if _in_a_plan(match[0], "CN") else None


def _in_a_plan(number: str, region: str | None) -> bool:
    import phonenumbers  # here, as that takes 20 ms

    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(number, region))
    except phonenumbers.NumberParseException:
        return False


def _phones(text: str) -> Iterator[Span]:
    both = [*_matching(_INTERNATIONAL, _international)(text), *_matching(_CHINESE, _chinese)(text)]
    yield from sorted(both)


# Chinese identity numbers (GB 11643-1999): province, place, birthday, sequence, and a digit by ISO 7064 MOD 11-2.
_IDENTITY = (
    r"(?<![0-9A-Za-z_.])[1-9][0-9]{5}(?:18|19|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])[0-9]{3}[0-9Xx]"
    r"(?![0-9A-Za-z_])"
)
_PROVINCES = frozenset(
    "11 12 13 14 15 21 22 23 31 32 33 34 35 36 37 41 42 43 44 45 46 50 51 52 53 54 61 62 63 64 65 71 81 82 83".split()
)


def _identity(match: re.Match[str]) -> Span | None:
    digits = match[0].upper()
    try:
        date(int(digits[6:10]), int(digits[10:12]), int(digits[12:14]))
    except ValueError:
        return None
    total = sum(int(digit) * 2 ** (17 - place) for place, digit in enumerate(digits[:17]))
    return match.span() if digits[:2] in _PROVINCES and "10X98765432"[total % 11] == digits[17] else None


# Bank cards (ISO/IEC 7812): the ranges of the large networks with their lengths, and a digit by Luhn.
_CARD = (
    _APART + r"(?<!/)(?<![0-9A-Fa-f]{4} )(?:[0-9]{13,19}|[0-9]{4}([ -])[0-9]{4}\1[0-9]{4}\1[0-9]{4}(?:\1[0-9]{1,3})?"
    r"|[0-9]{4}([ -])[0-9]{6}\2[0-9]{4,5})" + _ENDED
)
_NETWORKS = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})"  # Visa
    r"|(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}"  # Mastercard
    r"|3[47]\d{13}"  # American Express
    r"|(?:6011|65\d\d|64[4-9]\d)\d{12}"  # Discover
    r"|35(?:2[89]|[3-8]\d)\d{12}"  # JCB
    r"|3(?:0[0-5]|[68]\d)\d{11}"  # Diners Club
    r"|62\d{14,17}"  # UnionPay
)


def _card(match: re.Match[str]) -> Span | None:
    digits = re.sub(r"[ -]", "", match[0])
    return match.span() if _NETWORKS.fullmatch(digits) and _luhn(digits) else None


def _luhn(digits: str) -> bool:
    """79927398713: from the right, every second digit doubled, and the sum of all digits is a multiple of ten."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value // 10 + value % 10
    return total % 10 == 0


# IBANs (ISO 13616): the country's length, and two digits by ISO 7064 MOD 97-10.
_IBAN = r"(?<![0-9A-Za-z_])[A-Z]{2}[0-9]{2}(?: ?[0-9A-Z]{4}){2,7}(?: ?[0-9A-Z]{1,3})?(?![0-9A-Za-z_])"
_LENGTHS = {
    country: int(length)
    for length, countries in {
        "15": "NO", "16": "BE", "18": "DK FI FO GL NL SD", "19": "MK SI", "20": "AT BA EE KZ LT LU MN XK",
        "21": "CH HR LI LV", "22": "BG BH CR DE GB GE IE ME RS", "23": "AE GI IL IQ OM SO TL",
        "24": "AD CZ ES MD PK RO SA SE SK TN VG", "25": "LY PT ST", "26": "IS TR", "27": "BI DJ FR GR IT MC MR SM",
        "28": "AL AZ BY CY DO GT HU LB NI PL SV", "29": "BR EG PS QA UA", "30": "JO KW MU", "31": "MT SC", "32": "LC",
        "33": "RU",
    }.items()
    for country in countries.split()
}  # fmt: skip


def _iban(match: re.Match[str]) -> Span | None:
    found, end, wanted = match[0], 0, _LENGTHS.get(match[0][:2], 0)
    for character in found:
        if wanted == 0:
            break
        end += 1
        wanted -= character != " "
    compact = found[:end].replace(" ", "")
    if wanted or not compact or (end < len(found) and found[end] != " "):
        return None
    number = "".join(str(int(character, 36)) for character in compact[4:] + compact[:4])
    return (match.start(), match.start() + end) if int(number) % 97 == 1 else None


# Keys and tokens: by the prefixes that services give them, as blocks, and as what is assigned to a name that says so.
_PREFIXED = (
    r"(?<![0-9A-Za-z_-])(?:(?:AKIA|ASIA)[0-9A-Z]{16}|gh[oprsu]_[0-9A-Za-z]{36,251}|github_pat_[0-9A-Za-z_]{22,251}"
    r"|glpat-[0-9A-Za-z_-]{20,64}|xox[abeoprs]-[0-9A-Za-z-]{10,250}|AIza[0-9A-Za-z_-]{35}"
    r"|[prs]k_(?:live|test)_[0-9A-Za-z]{16,250}|sk-[0-9A-Za-z_-]{20,250}|hf_[0-9A-Za-z]{30,64}|npm_[0-9A-Za-z]{36}"
    r"|pypi-[0-9A-Za-z_-]{50,250}|SG\.[0-9A-Za-z_-]{16,32}\.[0-9A-Za-z_-]{16,64}|LTAI[0-9A-Za-z]{12,30}"
    r"|AKID[0-9A-Za-z]{13,40}|[0-9]{8,10}:AA[0-9A-Za-z_-]{33}"
    r"|eyJ[0-9A-Za-z_-]{8,4000}\.eyJ[0-9A-Za-z_-]{8,4000}\.[0-9A-Za-z_-]{8,1000})(?![0-9A-Za-z_])"
)
_NAMES = r"(?:api[_-]?key|secret|token|passwd|password|private[_-]?key|access[_-]?key)"
_ASSIGNED = (
    r"(?i:" + _NAMES + r"[0-9a-z_]{0,16}[\"']?\s{0,4}(?:=>|:=|[:=])\s{0,4}[\"'])(?P<found>[^\s\"'<>{}$]{8,200})[\"']"
    r"|(?m:^[ \t]{0,8}(?:export )?[0-9A-Z_]{0,40}(?:KEY|SECRET|TOKEN|PASSWORD)S?(?:_[0-9A-Z_]{0,16})?="
    r"(?P<line>[^\s\"'#<>{}$]{8,200})[ \t]{0,8}$)"
)
_BEGIN = re.compile(r"-----BEGIN [A-Z ]{0,24}PRIVATE KEY(?: BLOCK)?-----")
_END = re.compile(r"-----END [A-Z ]{0,24}PRIVATE KEY(?: BLOCK)?-----")
_BLOCK = 16_384
"""Characters of a private key, at most."""


def _prefixed(match: re.Match[str]) -> Span | None:
    a_class_of_style = match[0].startswith("sk-") and not _mixed(match[0])
    return None if a_class_of_style else match.span()


def _assigned(match: re.Match[str]) -> Span | None:
    group = "found" if match["found"] else "line"
    return match.span(group) if _mixed(match[group]) and _entropy(match[group]) >= 2.5 else None


def _mixed(value: str) -> bool:
    """Letters and digits, as words and names seldom are."""
    return any(map(str.isdigit, value)) and any(map(str.isalpha, value))


def _entropy(value: str) -> float:
    """Bits a character: 0 of `aaaa`, 2 of `abcd`."""
    return -sum(n / len(value) * math.log2(n / len(value)) for n in Counter(value).values())


def _blocks(text: str) -> Iterator[Span]:
    end: re.Match[str] | None = None
    for begin in _BEGIN.finditer(text):
        if end is None or end.start() < begin.end():  # else the same end as that of the one before
            end = _END.search(text, begin.end())
        if end is None:
            return
        if end.end() - begin.start() <= _BLOCK:
            yield begin.start(), end.end()


def _keys(text: str) -> Iterator[Span]:
    yield from sorted([*_blocks(text), *_matching(_PREFIXED, _prefixed)(text), *_matching(_ASSIGNED, _assigned)(text)])


IDENTIFIERS = {
    "key": Identifier(
        r"AKIA|ASIA|gh[oprsu]_|github_pat_|glpat-|xox[abeoprs]-|AIza|k_(?:live|test)_|sk-|hf_|npm_|pypi-|SG\.|LTAI|AKID"
        r"|[0-9]{8}:AA|eyJ|PRIVATE KEY|KEY|SECRET|TOKEN|PASSWORD"
        r"|(?i:(?:key|secret|token|passwd|password)[0-9a-z_]{0,16}[\"']?\s{0,4}(?:=>|:=|[:=]))",
        _keys,
    ),
    "email": Identifier(r"[0-9A-Za-z._%+-]@[0-9A-Za-z]", _matching(_EMAIL, _email)),
    "iban": Identifier(r"[A-Z]{2}[0-9]{2} ?[0-9A-Z]{4} ?[0-9A-Z]{4}", _matching(_IBAN, _iban)),
    "id_number": Identifier(r"[0-9]{17}[0-9Xx]", _matching(_IDENTITY, _identity)),
    "bank_card": Identifier(
        r"[0-9]{13}|[0-9]{4}[ -][0-9]{4}[ -][0-9]{4}|[0-9]{4}[ -][0-9]{6}", _matching(_CARD, _card)
    ),
    "phone": Identifier(r"\+\(?[1-9]|1[3-9][0-9][ -]?[0-9]{4}|0[0-9]{2,3}[)） -]+[0-9]{7}|[48]00[ -][0-9]{3}", _phones),
    "ip_address": Identifier(
        r"[0-9]\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]|[23][0-9A-Fa-f]{1,3}:[0-9A-Fa-f]{0,4}:", _matching(_IP, _ip)
    ),
}
"""Every kind. Where two overlap, the one that stands first here counts."""
