"""Text that may be shown: in errors, logs, tables and records.

What a page, a file name or an address carries can hold control characters, which a terminal obeys, and characters that
turn the direction of writing; they are shown as escapes, such as `\\x1b`. Addresses can hold credentials, as
`user:password@` or in their query; they are shown as `***`. Data is never changed: this is for what people are told.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any

FOREIGN = re.compile("[\udc80-\udcff]")
"""What Python makes of the bytes of a name that are no UTF-8 (PEP 383)."""
_MARK = "***"
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff"
    "\ufff9-\ufffb\U000e0000-\U000e007f]"
)
"""Controls but newline and tab, marks of direction, other characters without a picture, halves of surrogate pairs."""
_SECRET = r"(?:sig|signature|secret|token|passw(?:or)?d|pwd|credentials?|key|key_?id|auth|authorization)"
"""How names of secrets end."""
_PASSWORD = re.compile(r"(?<=://)(?:[^/\s@'\"]{1,999}|[^/\s@:'\"]{1,99}:(?!\d+(?:[/?#]|$))[^\s@'\"]{1,999})@")
"""`user:password@`; a key of S3 as it is pasted has slashes too."""
_QUERY = re.compile(rf"([?&;][\w.~%-]*{_SECRET}=)[^&;#\s'\"<>)\]}}]+", re.IGNORECASE)
_OPTION = re.compile(rf"""(['"][\w.-]*{_SECRET}['"]\s*[:=]\s*['"])[^'"]+""", re.IGNORECASE)
"""An option of a file system, as a library prints it."""
_NAMED = re.compile(r"(?:.*[_.-])?(?:secret|password|token|secret_?key|access_?key|api_?key|account_?key|credential)")
"""Keys of settings whose values are secrets."""


def escaped(text: str) -> str:
    """The text with what a terminal would obey or hide as escapes; newlines and tabs stay."""
    return _UNSEEN.sub(_escape, text)


def in_one_line(text: str) -> str:
    """The same with newlines and tabs, which names of files may have, as escapes, too."""
    return escaped(text).replace("\n", "\\n").replace("\t", "\\t")


def _escape(found: re.Match[str]) -> str:
    return f"\\x{ord(found[0]) - 0xDC00:x}" if FOREIGN.match(found[0]) else found[0].encode("unicode_escape").decode()


def redacted(text: str) -> str:
    """The text without credentials."""
    if "=" in text or ":" in text:
        text = _PASSWORD.sub(f"{_MARK}@", text)
        text = _QUERY.sub(rf"\1{_MARK}", text)
        text = _OPTION.sub(rf"\1{_MARK}", text)
    return text


def printable(text: object) -> str:
    """What may be shown of a text or an error."""
    return escaped(redacted(str(text)))


def values(value: Any) -> Any:
    """The same of JSON, which shows escapes by itself: every text in it without credentials."""
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, dict):
        return {
            key: _MARK if isinstance(each, str) and each and _NAMED.fullmatch(str(key)) else values(each)
            for key, each in value.items()
        }
    return [values(each) for each in value] if isinstance(value, list | tuple) else value


def guard() -> None:
    """From now on whatever this process logs, and a traceback that ends it, is printable."""
    global _make
    if _make is None:  # once: a library that came later, as Ray does, calls what it found
        _make = logging.getLogRecordFactory()
        logging.setLogRecordFactory(_record)
        sys.excepthook = _ended


_make: Callable[..., logging.LogRecord] | None = None
"""Makes a log record; None as long as nothing is guarded."""


def _record(*args: Any, **given: Any) -> logging.LogRecord:
    assert _make  # set by `guard`, which installs this
    record = _make(*args, **given)
    text = record.getMessage()
    if (shown := printable(text)) != text:
        record.msg, record.args = shown, ()
    if record.exc_info and record.exc_info[1]:
        record.exc_text = printable("".join(traceback.format_exception(*record.exc_info))).rstrip("\n")
    return record


def _ended(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    sys.stderr.write(printable("".join(traceback.format_exception(kind, error, where))))
