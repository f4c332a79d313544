"""Readers' fingerprints: a reader that makes other documents says so by its version."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from data_specs.sources import FolderSource, HtmlSource, SourceSettings, WarcSource
from data_specs.stages import Extract
from tasks import sources
from tasks.sources import Reader, reader
from tests.golden import check_golden
from tests.tasks.sources.test_sources import archive, read_all

TEXTS = {
    "cp1251": "Вода течёт по гравию в старую долину, и зимой её слышно во всей деревне. " * 9,
    "gb18030": "河水流过砾石，冬天的早晨整个村庄都能听见它的声音。" * 12,
    "shift_jis": "川の水は砂利の上を流れ、冬の朝には村中でその音が聞こえます。" * 12,
    "big5": "河水流過礫石，冬天的早晨整個村莊都能聽見它的聲音。" * 12,
    "iso-8859-1": "L'eau coule sur le gravier, et l'hiver on l'entend dans tout le village à côté du château. " * 9,
    "cp949": "강물은 자갈 위로 흐르고 겨울 아침이면 온 마을에서 그 소리를 들을 수 있습니다. " * 9,
}
"""Encoding -> what is written in it where nothing names it."""
KINDS = {sources._kind(settings): settings for settings in sources._READERS}
"""Readers, and the kind of source that each is of."""


def made(kind: type[Reader]) -> Reader:
    """A reader of a kind, of settings that say no more than they have to."""
    settings = KINDS[kind]
    fields: dict[str, Any] = {"paths": "files/*", "kind": settings.model_fields["kind"].annotation.__args__[0]}
    required = [name for name, field in settings.model_fields.items() if field.is_required() and name not in fields]
    return reader("web", settings.model_validate(fields | dict.fromkeys(required, "files/index")), Extract())


@pytest.mark.parametrize("kind", sorted(KINDS, key=lambda kind: kind.__name__))
def test_a_raised_version_of_a_reader_or_of_what_all_share_is_another_fingerprint(
    kind: type[Reader], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = made(kind).fingerprint
    assert made(kind).fingerprint == before
    with monkeypatch.context() as raised:
        raised.setattr(kind, "version", kind.version + 1)
        own = made(kind).fingerprint
    with monkeypatch.context() as raised:
        raised.setattr(Reader, "of_all", Reader.of_all + 1)
        shared = made(kind).fingerprint
    assert len({before, own, shared}) == 3
    assert made(kind).fingerprint == before


def test_texts_in_encodings_that_nothing_names_change_only_with_the_readers_version(tmp_path: Path) -> None:
    for name, text in TEXTS.items():
        page = f"<html><body><article><p>{text}</p></article></body></html>"
        (tmp_path / f"{name}.html").write_bytes(page.encode(name))
        (tmp_path / f"{name}.txt").write_bytes(text.encode(name))
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n"
    pages: list[bytes | str] = [head + path.read_bytes() for path in sorted(tmp_path.glob("*.html"))]
    (tmp_path / "crawl.warc.gz").write_bytes(archive(pages))
    settings: dict[str, SourceSettings] = {
        "text": FolderSource(kind="text", paths=f"{tmp_path}/*.txt", groups=1),
        "html": HtmlSource(kind="html", paths=f"{tmp_path}/*.html", groups=1),
        "warc": WarcSource(kind="warc", paths=f"{tmp_path}/*.warc.gz"),
    }
    read = {name: reader("web", each, Extract()) for name, each in settings.items()}
    found = {
        name: pa.array([row["text"] for part in read_all(each) for row in part.documents.to_pylist()])
        for name, each in read.items()
    }
    texts = {text.strip() for text in TEXTS.values()}
    for name in read:
        assert {text.strip() for text in found[name].to_pylist()} == texts, name
    check_golden("encodings", sum(each.version for each in read.values()), pa.table(found))
