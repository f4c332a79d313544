"""Listings: names of any bytes, and digests that are remembered while a file is what it was."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from pathlib import Path
from typing import Any

import fsspec
import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from data_specs.extract import Extract
from data_specs.sources import FolderSource, JsonlSource, UrlList, WarcSource
from tasks.sources import Reader, SourceError, digests, files, reader, url_lists
from tests import small
from tests.commands import told
from tests.tasks.sources.test_sources import archive, read_all, warc, words
from tests.whole import go

NAMES = [
    *(b"plain.txt", b"caf\xe9.txt", b"caf\\xe9.txt", b"\xe9", b"\xe9\xe8.txt", b"\xe9e8.txt", b"d\xff/\xfe/\xe9.txt"),
    *(
        b"new\nline.txt",
        b"end\n",
        b"\x1b[2J.txt",
        b"-rf",
        b"--help",
        b"a[1].txt",
        b"a*b?.txt",
        b"{a,b}.txt",
        b"x::y.txt",
    ),
    *(b"s3:.txt", b"%20#?.txt", b"~", b"n" * 255, "\u202e中é.txt".encode(), "e\u0301.txt".encode(), b" ", b"..txt"),
]


def folder(path: Path, names: list[bytes]) -> Path:
    for name in names:
        file = os.path.join(os.fsencode(path), name)
        os.makedirs(os.path.dirname(file), exist_ok=True)
        with open(file, "wb") as opened:
            opened.write(b"text of " + name.hex().encode())
    return path


def text(path: Path, **settings: Any) -> Reader:
    return reader("notes", FolderSource(kind="text", paths=f"{path}/**", groups=2, **settings), Extract())


# -- names -------------------------------------------------------------------------------------------------------------


def test_files_of_any_name_are_read_and_read_again_by_their_keys(tmp_path: Path) -> None:
    source = text(folder(tmp_path, NAMES))
    rows = [row for read in read_all(source) for row in read.documents.to_pylist()]
    assert {row["text"] for row in rows} == {f"text of {name.hex()}" for name in NAMES}
    assert len({row["file"] for row in rows}) == len({row["id"] for row in rows}) == len(NAMES)
    assert all(source.reread(row).decode() == row["text"] for row in rows)
    keys = {row["text"]: row["file"] for row in rows}
    assert keys[f"text of {NAMES[1].hex()}"] == "caf//e9.txt"
    assert keys[f"text of {NAMES[6].hex()}"] == "d//ff///fe///e9.txt"


@given(
    names=st.lists(st.binary(min_size=1, max_size=8).filter(lambda n: not set(n) & set(b"\0/") and n != b"." * len(n)))
)
@example(names=[b"..\x80"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_key_leads_back_to_its_file_whatever_its_name(tmp_path_factory: Any, names: list[bytes]) -> None:
    path = folder(tmp_path_factory.mktemp("names"), [b"one", *names])
    listing = text(path).listing
    found = listing.files()
    assert {os.fsencode(listing.path(file.key)) for file in found} == {
        os.path.join(os.fsencode(path), name) for name in [b"one", *names]
    }
    assert len({file.key for file in found}) == len({b"one", *names})
    assert all(file.key.encode() for file in found)


def test_files_behind_links_are_read_and_links_that_lead_nowhere_or_in_circles_are_named(tmp_path: Path) -> None:
    notes = folder(tmp_path / "notes", [b"own.txt", b"deep/one.txt"])
    folder(tmp_path / "cache", [b"blob", b"more/x.txt"])
    for name, target in {
        "linked.txt": "../cache/blob",
        "deep/twice.txt": "../linked.txt",
        "gone.txt": "../cache/nothing",
        "itself.txt": "itself.txt",
        "more": "../cache/more",
        "deep/up": "..",
    }.items():
        (notes / name).symlink_to(target)
    reader = text(notes)
    found = {file.key: Path(file.path).read_bytes() for file in reader.listing.files()}
    expected = {path for path in notes.rglob("*") if path.is_file() and "x.txt" not in path.name}
    assert found == {str(path.relative_to(notes)): path.read_bytes() for path in expected}
    assert set(found) == {"own.txt", "linked.txt", "deep/one.txt", "deep/twice.txt"}
    assert reader.unreadable == dict.fromkeys(["gone.txt", "itself.txt"], "a link that leads nowhere")
    (file,) = text(notes / "more").listing.files()
    assert (file.key, file.size) == ("x.txt", (tmp_path / "cache/more/x.txt").stat().st_size)


@pytest.mark.parametrize(
    ("patterns", "passed"),
    [
        (["web/**"], ["web/a/up", "web/more"]),
        (["web/**/*.txt"], ["web/a/up", "web/more"]),
        (["web/*/*.txt"], ["web/more"]),
        (["web/**", "web/more/*.txt"], ["web/a/up"]),
        *((each, []) for each in (["web/*.txt"], ["web/more/*.txt"], ["web/a/*.txt"])),
    ],
)
def test_links_to_folders_that_wildcards_pass_over_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, patterns: list[str], passed: list[str]
) -> None:
    web = folder(tmp_path / "web", [b"a.txt", b"a/b.txt"])
    folder(tmp_path / "other", [b"c.txt"])
    (web / "more").symlink_to("../other")
    (web / "a/up").symlink_to("..")
    paths = [str(tmp_path / pattern) for pattern in patterns]
    source = reader("web", FolderSource(kind="text", paths=paths), Extract())
    source.listing.files()
    more = " and 1 more" if passed[1:] else ""
    assert passed == [] or f"nothing is read below {tmp_path / passed[0]}{more};" in caplog.text
    assert bool(passed) == ("source web: wildcards do not follow links to folders" in caplog.text)


def test_every_kind_of_source_takes_files_of_any_name(tmp_path: Path) -> None:
    for name in (b"a\xe9.warc.gz", b"b\n\x1b.warc.gz", b"c::d.warc.gz"):
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).write_bytes(archive([words(80)]))
    reads = read_all(warc(tmp_path / "*.warc.gz"))
    assert [read.documents["file"].to_pylist() for read in reads] == [
        ["a//e9.warc.gz"],
        ["b\n\x1b.warc.gz"],
        ["c::d.warc.gz"],
    ]
    names = [shard.name for shard in warc(tmp_path / "*.warc.gz").shards(None)[0]]
    assert all(name.isascii() and name.isprintable() and "/" not in name for name in names)
    Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), b"\xe9.jsonl"))).write_bytes(b'{"text": "gold"}\n' * 100)
    source = reader("lines", JsonlSource(kind="jsonl", paths=str(tmp_path / "*.jsonl"), shard=300), Extract())
    assert sum(read.documents.num_rows for read in read_all(source)) == 100


def test_names_in_messages_are_escaped(tmp_path: Path) -> None:
    [name] = [b"caf\xe9\n\x1b[2J.txt"]
    path = folder(tmp_path, [name]) / os.fsdecode(name)
    source = text(tmp_path)
    (read,) = read_all(source)
    path.write_text("lead")
    with pytest.raises(SourceError) as error:
        source.reread(read.documents.to_pylist()[0])
    assert "caf\\xe9\\n\\x1b[2J.txt no longer holds the record" in str(error.value)
    orjson.dumps(str(error.value))
    path.unlink()
    path.symlink_to(path)
    nowhere = reader("notes", FolderSource(kind="text", paths=str(path)), Extract())
    assert nowhere.shards(None)[0] == []
    assert nowhere.unreadable == {"caf//e9\n\x1b[2J.txt": "a link that leads nowhere"}


def test_a_whole_run_takes_files_of_broken_names(tmp_path: Path) -> None:
    spec = small.corpus(tmp_path, files=1)
    (tmp_path / "code" / os.fsdecode(b"caf\xe9.py")).write_text("def f():\n    return 1\n" * 20)
    run = go(spec, until="verdict")
    assert run.record["funnel"]["sources"]["code"]["in"] == 25
    found = told("query", spec, "select file from documents where contains(file, 'caf')")
    assert found["rows"] == [["caf//e9.py"]]


def test_a_list_of_local_paths_gives_digests_of_contents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("crawl").mkdir()
    Path("crawl/a.warc.gz").write_bytes(b"gold")
    Path("paths").write_text("crawl/a.warc.gz\n")
    for base in (".", str(tmp_path), f"file://{tmp_path}/"):
        (file,) = reader("web", WarcSource(kind="warc", paths=base, listing="paths"), Extract()).listing.files()
        assert (file.key, file.path) == ("crawl/a.warc.gz", str(tmp_path / "crawl/a.warc.gz"))
        assert file.digest == hashlib.blake2b(b"gold", digest_size=16).hexdigest()


# -- digests -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder, on a clock on which the files of a test are no longer fresh."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    later(monkeypatch, 10)
    return tmp_path / "cache" / "sluice" / "digests"


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Put the clock forward, from what it is."""

    class Clock:
        time = staticmethod(lambda: time.time() + seconds)
        time_ns = staticmethod(lambda: time.time_ns() + int(seconds * 10**9))

    monkeypatch.setattr(digests, "time", Clock)


class Hashed:
    """The digests of a folder's files as a new listing finds them, and how many of them were hashed for it."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path, self.count, lock = path, 0, threading.Lock()
        real = hashlib.file_digest

        def counted(file: Any, method: Any) -> Any:
            with lock:
                self.count += 1
            return real(file, method)

        monkeypatch.setattr(digests.hashlib, "file_digest", counted)

    def __call__(self) -> tuple[int, dict[str, str]]:
        self.count = 0
        files = text(self.path).listing.files()
        found = {file.key: file.digest for file in files}
        expected = {key: hashlib.blake2b((self.path / key).read_bytes(), digest_size=16).hexdigest() for key in found}
        assert found == expected
        assert [file.size for file in files] == [(self.path / key).stat().st_size for key in found]
        return self.count, found


@pytest.fixture
def hashed(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Hashed:
    return Hashed(folder(tmp_path / "notes", [b"a", b"b", b"c"]), monkeypatch)


def test_a_second_listing_hashes_nothing_and_then_only_what_changed(hashed: Hashed, monkeypatch: Any) -> None:
    assert hashed()[0] == 3
    assert hashed()[0] == 0
    (hashed.path / "b").write_text("lead")
    (hashed.path / "d").write_text("new")
    assert hashed()[0] == 2
    later(monkeypatch, 20)
    assert hashed()[0] == 0
    (hashed.path / "c").unlink()
    assert set(hashed()[1]) == {"a", "b", "d"}


def test_a_file_hashed_within_seconds_of_its_change_is_not_trusted(hashed: Hashed, monkeypatch: Any) -> None:
    later(monkeypatch, 1)
    assert (hashed()[0], hashed()[0]) == (3, 3)
    later(monkeypatch, 10)
    assert (hashed()[0], hashed()[0]) == (3, 0)


def test_touch_alone_costs_a_hash_and_gives_the_same_digest(hashed: Hashed) -> None:
    _, before = hashed()
    os.utime(hashed.path / "a")
    assert hashed() == (1, before)


def test_content_of_the_same_size_under_a_restored_time_is_seen(hashed: Hashed) -> None:
    hashed()
    file = hashed.path / "a"
    stat = file.stat()
    file.write_bytes(file.read_bytes()[::-1])
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert file.stat().st_mtime_ns == stat.st_mtime_ns
    assert hashed()[0] == 1
    other = hashed.path / "other"
    other.write_bytes(file.read_bytes()[::-1])
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    os.replace(other, file)
    assert hashed()[0] == 1


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "garbage", "forge", "gone"])
def test_memory_that_is_damaged_costs_hashing_alone(hashed: Hashed, cache: Path, damage: str) -> None:
    hashed()
    [memory] = cache.iterdir()
    data = memory.read_bytes()
    wrong = {"flip": data[:-9] + b"7" + data[-8:], "cut": data[:-1], "empty": b"", "garbage": b"\xff\n{"}
    wrong["forge"] = data.partition(b"\n")[0] + b"\n" + data.partition(b"\n")[2].replace(b"[", b"{")
    if damage == "gone":
        memory.unlink()
    else:
        memory.write_bytes(wrong[damage])
    assert (hashed()[0], hashed()[0]) == (3, 0)


def test_without_a_place_to_write_every_listing_hashes(
    hashed: Hashed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    for place in (str(tmp_path / "file"), "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", place)
        monkeypatch.setenv("HOME", str(tmp_path / "file"))
        assert (hashed()[0], hashed()[0]) == (3, 3)


def test_commands_at_once_leave_a_whole_memory_of_right_digests(tmp_path: Path, cache: Path) -> None:
    path = folder(tmp_path / "notes", [b"%d" % number for number in range(100)])
    threads = [threading.Thread(target=text(path, match=f"^{n}").listing.files) for n in range(10) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [memory] = cache.iterdir()
    checksum, body = memory.read_bytes().split(b"\n")
    assert checksum.decode() == hashlib.blake2b(body, digest_size=16).hexdigest()
    found = {key: digest for key, (_, digest, _) in orjson.loads(body).items()}
    whole = {file.key: file.digest for file in text(path).listing.files()}
    assert len(found) >= 10
    assert found.items() <= whole.items()


def test_what_is_no_longer_listed_is_forgotten(hashed: Hashed, cache: Path, tmp_path: Path, monkeypatch: Any) -> None:
    hashed()
    other = Hashed(folder(tmp_path / "others", [b"x"]), monkeypatch)
    assert other()[0] == 1
    assert len(list(cache.iterdir())) == 2
    (hashed.path / "c").unlink()
    for days in (20, 40, 61, 80):
        later(monkeypatch, days * 86400)
        assert hashed()[0] == 0
    [memory] = cache.iterdir()
    assert set(orjson.loads(memory.read_bytes().partition(b"\n")[2])) == {"a", "b"}


def test_commands_that_only_ask_remember_but_leave_the_store(tmp_path: Path, cache: Path) -> None:
    spec = small.corpus(tmp_path, files=1)
    told("plan", spec)
    assert not (tmp_path / "store").exists()
    assert len(list(cache.iterdir())) == 2


def test_the_cache_of_digests_is_its_owners_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "a").write_text("x")
    os.utime(tmp_path / "a", (1, 1))
    monkeypatch.setattr(digests, "_RACY", -(10**12))
    with digests.remembered(str(tmp_path)) as known:
        known.of("a", str(tmp_path / "a"))
    folders = [path for path in (tmp_path / "cache" / "sluice").rglob("*") if path.is_dir()]
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / "cache" / "sluice", *folders)] == [0o700, 0o700]


def test_what_is_special_in_the_name_of_the_working_directory_is_no_pattern(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("crawl [12] *?", "crawl 1 xy"):
        (tmp_path / folder / "web").mkdir(parents=True)
        (tmp_path / folder / "web" / "a.txt").write_text(f"Text of {folder}.")
    monkeypatch.chdir(tmp_path / "crawl [12] *?")
    for pattern in ("web/*.txt", "web/a.txt", "./**/*.txt", "*/a.txt", "../crawl [[]12] [*][?]/web/*"):
        found = reader("notes", FolderSource(kind="text", paths=pattern), Extract())
        [shard] = found.shards(None)[0]
        assert found.read(shard).documents["text"].to_pylist() == ["Text of crawl [12] *?."]
        assert found.listing.chooses(shard.parts[0].key)
    with pytest.raises(SourceError, match=r"\.txt matches no file"):
        reader("notes", FolderSource(kind="text", paths="none/*.txt"), Extract()).shards(None)


def _write_memory(path: Path, data: bytes) -> str:
    fsspec.filesystem("memory").pipe(f"{path}/a.jsonl", data)
    return f"memory://{path}/*.jsonl"


def test_a_file_that_changes_and_keeps_its_size_is_another_also_where_no_server_tells_of_versions(
    tmp_path: Path,
) -> None:
    found = []
    for data in (b'{"text": "one"}', b'{"text": "two"}', b'{"text": "two"}'):
        source = reader("web", JsonlSource(kind="jsonl", paths=_write_memory(tmp_path / "files", data)), Extract())
        shards, _ = source.shards(None)
        assert [row["text"] for row in source.read(shards[0]).documents.to_pylist()] == [data[10:-2].decode()]
        found.append(shards[0].digest)
    assert found[0] != found[1]


def test_files_of_whose_versions_nothing_is_known_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(files, "_VALIDATORS", ())
    monkeypatch.setattr(files, "_MORE", ())
    source = reader("web", JsonlSource(kind="jsonl", paths=_write_memory(tmp_path / "files", b"{}")), Extract())
    source.shards(None)
    assert "source web: nothing tells the versions of memory:///" in caplog.text
    assert "a change that keeps a file's size goes unseen" in caplog.text


@pytest.mark.parametrize("shard", [20, 10**6])
def test_another_file_of_the_same_size_and_time_in_the_place_of_one_that_was_listed_is_an_error(
    tmp_path: Path, shard: int
) -> None:
    """As `cp -p` and `rsync -t` leave it; rights and links alone make no other file of it."""
    path, other = tmp_path / "a.jsonl", tmp_path / "other"
    for number, each in enumerate((path, other)):
        each.write_text(f'{{"text": "text {number}"}}\n' * 3)
        os.utime(each, (1, 1))
    source = reader("web", JsonlSource(kind="jsonl", paths=str(path), shard=shard), Extract())
    listed = source.shards(None)[0]
    path.chmod(0o600)
    os.link(path, tmp_path / "link")
    assert [text for each in listed for text in source.read(each).documents["text"].to_pylist()] == ["text 0"] * 3
    other.replace(path)
    with pytest.raises(SourceError, match=r"/a\.jsonl was written to since it was listed"):
        source.read(listed[0])


def test_a_file_far_away_that_changes_while_it_is_read_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = _write_memory(tmp_path / "files", b'{"text": "old"}\n')
    source = reader("web", JsonlSource(kind="jsonl", paths=path), Extract())
    [shard, *_], _ = source.shards(None)
    assert source.read(shard).documents["text"].to_pylist() == ["old"]
    _write_memory(tmp_path / "files", b'{"text": "new"}\n')
    with pytest.raises(SourceError, match=r"/files/a\.jsonl was written to since it was listed.*the next run reads"):
        source.read(shard)
    changed = pytest.raises(SourceError, match=r"a\.jsonl changed while it was read; run again")
    with changed, files.steady(path.replace("*", "a")) as file:
        assert file.read() == b'{"text": "new"}\n'
        _write_memory(tmp_path / "files", b'{"text": "odd"}\n')


def test_a_list_that_changes_while_it_is_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "games.txt"
    path.write_text("a.example\n")
    given_list = UrlList(domains=str(path))
    before = url_lists.list_digest("games", given_list)
    assert url_lists.same("games", given_list, before).matches(["https://a.example/"]) == [True]
    entries = url_lists.Listed._entries

    def slowly(self: Any, file: Any) -> Any:
        path.write_text("b.example\n")
        return entries(self, file)

    monkeypatch.setattr(url_lists.Listed, "_entries", slowly)
    with pytest.raises(SourceError, match=r"games\.txt has changed since this run began"):
        url_lists.same("games", given_list, before)
