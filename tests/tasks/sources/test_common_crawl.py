"""data_specs/full.yaml against a server on loopback that lays files out as Common Crawl does."""

from __future__ import annotations

import gzip
import http.server
import itertools
import json
import random
import re
import threading
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from flows.cli import cli
from flows.run import Run
from tasks.engine.gates import GateError
from tasks.sources import far
from tests import small
from tests.whole import content, go, states

FULL = Path(__file__).parents[3] / "data_specs" / "full.yaml"
CRAWL = "crawl-data/CC-MAIN-2024-22"
SITES = (
    "en.wikipedia.org",
    "forum.example.org",
    "news.example.com",
    "shop.example.net",
    "docs.example.org",
    "a.edu.cn",
)
WEIGHTS = "{zh: 0.5, en: 0.5}"
SMALLER = [
    *("stages.duplicates.partitions=1", "stages.domain.dimensions=4", "stages.quality.dimensions=4"),
    *(
        "tokenizer={vocabulary: 320, reserved: 4, sample: 1M}",
        "mixture.tokens=20480",
        "mixture.phases.1.where=quality > percentile(quality, 1)",
    ),
    *(f"mixture.phases.0.weights={WEIGHTS}", f"mixture.phases.1.weights={WEIGHTS}", "mixture.epochs={default: 9}"),
    *("model={hidden: 32, layers: 2, heads: 2, kv_heads: 1, intermediate: 64}", "training.sequence=64"),
    *(
        "training.workers=1",
        "training.device=cpu",
        "training.batch={tokens: 1024, micro: 4}",
        "training.evaluate={held_out: 10%, tokens: 1024}",
    ),
]
WARCS = 4


class Crawl(http.server.SimpleHTTPRequestHandler):
    """Static files with ranges; it notes what it was asked for, and misbehaves as `ill` says."""

    asked: list[tuple[str, str, str | None]] = []
    ill: dict[str, Any] = {}

    def log_message(self, *args: Any) -> None:
        pass

    def answer(self, body: bool) -> None:
        name, asked = self.path.rpartition("/")[2], self.headers.get("Range")
        self.asked.append((self.command, name, asked))
        illness = next((ill for part, ill in self.ill.items() if part in name), None)
        if callable(illness):
            illness = illness(self.command)
        path = Path(self.translate_path(self.path))
        if isinstance(illness, int) or not path.is_file():
            return self.send_error(illness or 404)
        data = path.read_bytes()
        first, last = 0, len(data) - 1
        if asked and illness != "no ranges" and (bounds := re.fullmatch(r"bytes=(\d+)-(\d+)", asked)):
            first, last = int(bounds[1]), min(int(bounds[2]), last)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        else:
            self.send_response(200)
        part = data[first : last + 1]
        self.send_header("Content-Length", str(len(part)))
        self.send_header("ETag", f'"{zlib.crc32(data)}"')
        self.end_headers()
        if body:
            self.wfile.write(part[: len(part) // 2] if illness == "short" else part)
        return None

    def do_GET(self) -> None:
        self.answer(body=True)

    def do_HEAD(self) -> None:
        self.answer(body=False)


def page(rng: random.Random, number: int) -> tuple[str, bytes]:
    """Address and HTML of a page, English or Chinese, some of them short."""
    make, language = (small.english, "en") if number % 2 else (small.chinese, "zh")
    paragraphs = make(rng, 2 if number % 9 == 0 else 28).split("\n")
    text = "".join(f"<p>{paragraph}</p>" for paragraph in paragraphs)
    html = (
        f"<html lang={language}><head><meta charset=utf-8><title>Page {number}</title></head><body>{text}</body></html>"
    )
    return f"https://{SITES[number % len(SITES)]}/{language}/{number}", html.encode()


def warc(number: int, pages: int) -> bytes:
    """A WARC as Common Crawl has it: a gzip member per record, requests between the responses, some not HTML."""
    rng, out = random.Random(number), BytesIO()
    writer = WARCWriter(out, gzip=True)
    for index in range(pages):
        url, html = page(rng, number * pages + index)
        request = StatusAndHeaders("GET / HTTP/1.1", [("Host", "x")], is_http_request=True)
        status = "404 Not Found" if index == 7 else "200 OK"
        kind = "application/pdf" if index == 5 else "text/html"
        response = StatusAndHeaders(status, [("Content-Type", kind)], protocol="HTTP/1.1")
        for part, body, headers in (("request", b"", request), ("response", html, response)):
            record_id = f"<urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, url + part)}>"
            more = {"WARC-Date": "2024-05-18T00:00:00Z", "WARC-Record-ID": record_id}
            given = {"payload": BytesIO(body), "http_headers": headers, "warc_headers_dict": more}
            writer.write_record(writer.create_warc_record(url, part, **given))
    return out.getvalue()


@contextmanager
def served(root: Path) -> Iterator[str]:
    """The address of a server of a folder."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *args: Crawl(*args, directory=str(root))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def crawl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The server's address and folder."""
    root = tmp_path_factory.mktemp("crawl")
    names = []
    for number in range(WARCS):
        segment = f"segments/17159{number % 2}.{number}/warc/CC-MAIN-20240518000000-{number:05d}.warc.gz"
        names.append(f"{CRAWL}/{segment}")
        (root / names[-1]).parent.mkdir(parents=True)
        (root / names[-1]).write_bytes(warc(number, 30))
    (root / CRAWL / "warc.paths.gz").write_bytes(gzip.compress("\n".join(reversed(names)).encode() + b"\n"))
    with served(root) as base:
        yield base, root


@pytest.fixture(autouse=True)
def well(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is well, and short waits."""
    monkeypatch.setattr(Crawl, "ill", {})
    monkeypatch.setattr(far, "_WAITS", (0.01, 0.01, 0.01, 0.01))
    Crawl.asked.clear()


def settings(base: object, store: Path, **source: object) -> list[str]:
    """Overrides of full.yaml for a crawl under `base`."""
    chosen = {"listing": f"{base}/{CRAWL}/warc.paths.gz", "paths": f"{base}/", "count": WARCS, "shard": 40_000} | source
    return [*SMALLER, f"store={store}", *(f"sources.commoncrawl.{name}={value}" for name, value in chosen.items())]


def listed(base: object, store: Path, **source: object) -> list[str]:
    """Keys of the files whose shards a run would read."""
    run = Run.of(str(FULL), None, settings(base, store, **source))
    run.resolve()
    return sorted({shard.parts[0].key.rpartition("-")[2] for shard in run.pipeline.shards})


def refused(base: object, store: Path) -> str:
    """What `sluice plan` says of a crawl that cannot be listed."""
    options = [part for setting in settings(base, store) for part in ("--set", setting)]
    result = CliRunner().invoke(cli, ["plan", str(FULL), *options])
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    return result.stderr


@pytest.fixture(scope="module")
def local(crawl: tuple[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run over the same files in a folder."""
    return go(FULL, settings(crawl[1], tmp_path_factory.mktemp("local")))


def test_files_are_listed_by_count_and_by_pattern_and_only_those_are_asked_for(
    crawl: tuple[str, Path], tmp_path: Path
) -> None:
    url, _ = crawl
    assert listed(url, tmp_path, count=2) == ["00000.warc.gz", "00002.warc.gz"]
    assert {name for method, name, _ in Crawl.asked if method == "HEAD"} == {
        *(f"CC-MAIN-20240518000000-0000{number}.warc.gz" for number in (0, 2)),
        "warc.paths.gz",
    }
    assert listed(url, tmp_path, match="'/17159[1][.]'") == ["00001.warc.gz", "00003.warc.gz"]
    assert listed(url, tmp_path, match="'-0000[13][.]'", count=1) == ["00001.warc.gz"]
    assert not [name for method, name, _ in Crawl.asked if method == "GET" and "paths" not in name]


def test_a_crawl_read_by_ranges_has_the_content_of_the_same_files_in_a_folder(
    crawl: tuple[str, Path], local: Run, tmp_path: Path
) -> None:
    url, root = crawl
    run = go(FULL, settings(url, tmp_path))
    assert set(states(run).values()) == {"computed"}
    assert len(run.pipeline.shards) > WARCS
    assert content(run) == content(local)
    ranges = [asked for method, name, asked in Crawl.asked if method == "GET" and "CC-MAIN" in name]
    assert ranges
    assert all(ranges)
    counts = run.record["funnel"]
    assert counts["in"] == WARCS * 30
    assert counts["dropped"]["not_html"] == counts["dropped"]["status"] == WARCS
    assert counts["kept"] > 30
    assert run.plan_facts["usage"].keys() >= {"zh", "en"}
    Crawl.asked.clear()
    again = go(FULL, settings(url, tmp_path))
    assert set(states(again).values()) == {"cached"}
    assert not [name for method, name, _ in Crawl.asked if method == "GET" and "CC-MAIN" in name]
    changed = root / CRAWL / "segments/171591.3/warc/CC-MAIN-20240518000000-00003.warc.gz"
    whole = changed.read_bytes()
    try:
        changed.write_bytes(warc(9, 30))
        again.resolve()
        stale = [again.pipeline.shards[place] for place in again.pipeline.outputs["documents"].index.pending()]
        assert {shard.parts[0].key.rpartition("-")[2] for shard in stale} == {"00003.warc.gz"}
    finally:
        changed.write_bytes(whole)


@pytest.mark.parametrize(
    ("illness", "message"),
    [
        ({"warc.paths": 404}, "{url}/" + CRAWL + "/warc.paths.gz cannot be read: it does not exist; correct `listing`"),
        ({"warc.paths": 503}, "{url}/" + CRAWL + "/warc.paths.gz cannot be read: 503, message='Service Unavailable'"),
        ({"warc.paths": "short"}, "{url}/" + CRAWL + "/warc.paths.gz cannot be read: "),
        ({"-00002": 404}, "-00002.warc.gz cannot be read: it does not exist; correct `paths`"),
        ({"-00002": 503}, "-00002.warc.gz cannot be read: 503, message='Service Unavailable'"),
    ],
)
def test_what_cannot_be_listed_is_told_with_address_and_remedy(
    crawl: tuple[str, Path], tmp_path: Path, illness: dict[str, Any], message: str
) -> None:
    url, _ = crawl
    Crawl.ill = illness
    said = refused(url, tmp_path)
    assert said.startswith("sluice: source commoncrawl: http://127.0.0.1")
    assert message.format(url=url) in said
    assert "or try later" in said
    assert not any(tmp_path.iterdir())


def test_a_server_that_is_not_there_and_a_list_that_is_none_are_told(crawl: tuple[str, Path], tmp_path: Path) -> None:
    assert "http://127.0.0.1:9/" in refused("http://127.0.0.1:9", tmp_path)
    _, root = crawl
    listing = root / CRAWL / "warc.paths.gz"
    whole = listing.read_bytes()
    for data, message in (
        (b"", "lists no file"),
        (whole[: len(whole) // 2], "Compressed file ended"),
        (b"\xff\xfe\xfd", "decode"),
    ):
        try:
            listing.write_bytes(data)
            assert message in refused(crawl[0], tmp_path)
        finally:
            listing.write_bytes(whole)


def stumbling() -> Any:
    """Two of three requests are answered with 503."""
    asked = itertools.count()
    return lambda method: 503 if next(asked) % 3 else None


@pytest.mark.parametrize("illness", [{"": stumbling()}, {"-00002": "no ranges"}])
def test_a_server_that_stumbles_or_sends_whole_files_costs_nothing(
    crawl: tuple[str, Path], local: Run, tmp_path: Path, illness: dict[str, Any]
) -> None:
    Crawl.ill = illness
    run = go(FULL, settings(crawl[0], tmp_path), until="documents")
    assert states(run)["documents"] == "computed"
    assert run.record["funnel"]["quarantined"] == {}
    for name, digests in run.pipeline.outputs["documents"].index.digests.items():
        assert (digests == local.pipeline.outputs["documents"].index.digests[name]).all()


@pytest.mark.parametrize(
    ("illness", "message"),
    [
        (lambda method: 503 if method == "GET" else None, "-00002.warc.gz: 503, message='Service Unavailable'"),
        (lambda method: 404 if method == "GET" else None, "-00002.warc.gz: 404, message='Not Found'"),
        ("short", "-00002.warc.gz: "),
    ],
)
def test_a_file_that_cannot_be_read_is_quarantined_by_name_and_read_by_the_next_run(
    crawl: tuple[str, Path], local: Run, tmp_path: Path, illness: Any, message: str
) -> None:
    Crawl.ill = {"-00002": illness}
    with pytest.raises(GateError, match=r"shards? quarantined, more than gates\.quarantined = 1%") as stopped:
        go(FULL, settings(crawl[0], tmp_path), until="documents")
    assert f"{crawl[0]}/{CRAWL}/segments/171590.2/warc/CC-MAIN-20240518000000" in str(stopped.value)
    assert message in str(stopped.value)
    run = go(FULL, [*settings(crawl[0], tmp_path), "gates.quarantined=50%"], until="documents")
    counts = run.record["funnel"]
    assert states(run)["documents"] == "partial"
    assert counts["quarantined"].keys() == {"reading"}
    assert counts["in"] == counts["pending"] + sum(counts["dropped"].values()) + counts["quarantined"]["reading"]
    Crawl.ill = {}
    well = go(FULL, settings(crawl[0], tmp_path), until="documents")
    assert well.record["funnel"]["quarantined"] == {}
    ids = well.pipeline.outputs["documents"].index.digests["id"]
    assert (ids == local.pipeline.outputs["documents"].index.digests["id"]).all()


def test_the_plan_of_the_full_spec_is_told_before_anything_is_read(crawl: tuple[str, Path], tmp_path: Path) -> None:
    given = [f"store={tmp_path}", f"sources.commoncrawl.listing={crawl[0]}/{CRAWL}/warc.paths.gz"]
    given.append(f"sources.commoncrawl.paths={crawl[0]}/")
    options = [part for setting in given for part in ("--set", setting)]
    result = CliRunner().invoke(cli, ["plan", str(FULL), "--json", *options])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout.splitlines()[-1])
    assert 140e6 < found["training"]["parameters"] < 180e6
    assert 18 < found["training"]["tokens_per_parameter"] < 22
    assert found["stages"][0]["to_do"] == WARCS
