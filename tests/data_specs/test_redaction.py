"""What may be shown of hostile text and of addresses with credentials."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from data_specs import redaction
from tests.commands import HOSTILE

SECRETS = [
    ("s3://AKIAEXAMPLE:hush@bucket/corpus", "s3://***@bucket/corpus"),
    ("s3://AKIAEXAMPLE:hu/sh+hush@bucket/corpus: denied", "s3://***@bucket/corpus: denied"),
    ("https://hush@host.org/a", "https://***@host.org/a"),
    ("https://x.org/a?X-Amz-Credential=hush%2F2026&X-Amz-Signature=hush", None),
    ("https://x.org/a.warc.gz?sv=2026&sig=hush%3D&se=9", "https://x.org/a.warc.gz?sv=2026&sig=***&se=9"),
    ("https://x.org/?access_token=hush#top", "https://x.org/?access_token=***#top"),
    ("https://x.org/?page=2&key=hush: 403", "https://x.org/?page=2&key=*** 403"),
    ("https://x.org/?AWSAccessKeyId=hush&a=b", "https://x.org/?AWSAccessKeyId=***&a=b"),
    ("cannot open with {'key': 'hush', 'secret': 'hush', 'anon': False}", None),
    ('{"client_kwargs": {"aws_secret_access_key": "hush"}}', None),
]
PLAIN = [
    "https://medium.com/@writer/a-story?page=2",
    "http://localhost:8080/@writer",
    "stage key=3: 4,265 records in 2 shards",
    "https://example.org/a?monk=1&q=tokens",
    "write to a@b.org: 中文　字, עברית, emoji 👩‍💻",
]


@pytest.mark.parametrize(("text", "shown"), SECRETS)
def test_credentials_are_masked_in_whatever_holds_them(text: str, shown: str | None) -> None:
    for found in (redaction.printable(text), redaction.values({"a": [text]})["a"][0]):
        assert "hush" not in found
        assert shown in (None, found)


@pytest.mark.parametrize("text", PLAIN)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redaction.printable(text) == text


def test_settings_that_are_secrets_by_their_name_are_masked() -> None:
    options = {"endpoint": "http://x", "secret": "hush", "client": {"account_key": "hush", "keys": 3, "token": None}}
    found = redaction.values(options)
    assert found == {
        "endpoint": "http://x",
        "secret": "***",
        "client": {"account_key": "***", "keys": 3, "token": None},
    }


@pytest.mark.parametrize("character", ["\x1b", "\x07", "\x00", "\r", "\x9b", "\u202e", "\u2066", "\u200f", "\ud880"])
def test_what_a_terminal_would_obey_is_an_escape(character: str) -> None:
    found = redaction.printable(f"a{character}b\tc\nd")
    assert character not in found
    assert found == f"a{character.encode('unicode_escape').decode()}b\tc\nd"


def test_a_name_is_shown_in_one_line_its_bytes_that_are_no_utf_8_as_escapes() -> None:
    assert redaction.escaped("caf\udce9\n") == "caf\\xe9\n"
    assert redaction.in_one_line("caf\udce9\n\t\x1b[2J.txt") == "caf\\xe9\\n\\t\\x1b[2J.txt"


def test_a_long_text_costs_time_in_proportion() -> None:
    for piece in ("a://", "?key", "'key'", "a:b", "x://a:", " \x1b"):
        assert "\x1b" not in redaction.printable(piece * 200_000)


def test_a_process_that_is_guarded_logs_and_ends_printable(tmp_path: Path) -> None:
    code = (
        "import logging\nfrom data_specs import redaction\nredaction.guard()\nredaction.guard()\n"
        f"hostile = {HOSTILE!r}\n"
        "log = logging.getLogger('any')\nlog.warning('page %s of s3://me:hush@bucket', hostile)\n"
        "try:\n    raise ValueError(hostile)\nexcept ValueError:\n    log.exception('it failed')\n"
        "raise RuntimeError(hostile + '?sig=hush')\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert ended.returncode == 1
    assert "\x1b" not in ended.stderr
    assert "hush@" not in ended.stderr
    assert ended.stderr.count("\\x1b[2J[red]") == 3
    assert ended.stderr.splitlines()[-1] == r"RuntimeError: https://example.org/[/bold]\x1b[2J[red]?sig=***"
