"""A crawl by its index: what is found is what reading whole files finds, and no more bytes are had than that."""

from __future__ import annotations

import gzip
import json
import random
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from warcio.archiveiterator import ArchiveIterator

from data_specs.extract import Extract
from data_specs.sources import CdxSource, WarcSource
from data_specs.sql_parser import ExpressionError
from tasks.engine.reading import SourceError
from tasks.sources import Read, crawl_index, reader
from tasks.sources.cdx import CdxReader, one_request_each
from tasks.sources.crawl_index import COLUMNS, select
from tests.commands import ask, told
from tests.tasks.sources.test_common_crawl import Crawl, served, warc
from tests.whole import go

FILES = [f"crawl/segments/0/warc/{number}.warc.gz" for number in range(3)]


def captures(name: str, data: bytes) -> list[dict[str, Any]]:
    """What an index says of a WARC file, by warcio."""
    rows = []
    walk = ArchiveIterator(BytesIO(data))
    for record in walk:
        record.content_stream().read()
        kind = record.rec_type
        if kind in ("response", "revisit"):
            status = int(record.http_headers.get_statuscode()) if record.http_headers else None
            facts = {
                "url": record.rec_headers["WARC-Target-URI"],
                "crawled": record.rec_headers["WARC-Date"][:10],
                "status": status if kind == "response" else None,
                "mime": "warc/revisit" if kind == "revisit" else "text/html",
                "languages": "eng" if "/en/" in record.rec_headers["WARC-Target-URI"] else "zho",
            }
            rows.append({**facts, "filename": name, "offset": walk.get_record_offset(), "length": 0})
        if rows and rows[-1]["length"] == 0 and kind in ("response", "revisit"):
            walk.read_to_end()
            rows[-1]["length"] = walk.get_record_length()
    return rows


def cdxj(rows: list[dict[str, Any]]) -> str:
    lines = ["!OpenWayback-CDXJ 1.0\n"]
    for row in rows:
        facts = {name: str(value) for name, value in row.items() if value is not None and name != "crawled"}
        lines.append(f"com,example)/ {row['crawled'].replace('-', '')}000000 {json.dumps(facts)}\n")
    return "".join(lines)


def columnar(path: Path, rows: list[dict[str, Any]]) -> str:
    names = crawl_index._PARQUET
    table = [
        {names[name]: datetime.fromisoformat(value) if name == "crawled" else value for name, value in row.items()}
        for row in rows
    ]
    pq.write_table(pa.Table.from_pylist(table), path)
    return str(path)


@pytest.fixture(scope="module")
def crawl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three WARC files, and their index in both forms, lines in no order."""
    folder = tmp_path_factory.mktemp("cdx")
    rows = []
    for number, name in enumerate(FILES):
        data = warc(number, 20)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        rows += captures(name, data)
    random.Random(1).shuffle(rows)
    (folder / "cdx-00000.gz").write_bytes(gzip.compress(cdxj(rows).encode()))
    columnar(folder / "part-0.parquet", rows)
    return folder


def source(folder: Path, selection: Path, base: str = "", **settings: Any) -> CdxReader:
    made = CdxSource(kind="cdx", paths=str(selection), base=base or str(folder), **settings)
    found = reader("web", made, Extract())
    assert isinstance(found, CdxReader)
    return found


def read_all(found: Any) -> list[Read]:
    return [found.read(shard) for shard in found.shards(None)[0]]


def pages(reads: list[Read]) -> dict[tuple[str, int], dict[str, Any]]:
    return {(row["file"], row["offset"]): row for read in reads for row in read.documents.to_pylist()}


def test_both_forms_of_an_index_give_the_same_selection(crawl: Path, tmp_path: Path) -> None:
    where = "languages like 'zho%' and status = 200"
    lines, table = (select([str(crawl / name)], where) for name in ("cdx-00000.gz", "part-0.parquet"))
    assert lines.table.num_rows > 10
    assert lines.table.drop_columns(["host"]).equals(table.table.drop_columns(["host"]))
    assert set(lines.table["host"].to_pylist()) <= {url.split("/")[2] for url in lines.table["url"].to_pylist()}
    both = select([str(crawl / name) for name in ("cdx-00000.gz", "part-0.parquet")], where)
    assert both.table.num_rows == lines.table.num_rows  # a record that is named twice is selected once
    told_now = told("find", tmp_path / "some.parquet", crawl / "cdx-*.gz", "--where", where)
    assert told_now["selected"] == lines.table.num_rows == pq.read_metadata(tmp_path / "some.parquet").num_rows
    assert told_now["captures"] == 60


def test_a_selection_makes_the_documents_that_whole_files_make(crawl: Path, tmp_path: Path) -> None:
    selection = tmp_path / "all.parquet"
    crawl_index.write(select([str(crawl / "cdx-00000.gz")], "true"), str(selection))
    whole = read_all(reader("web", WarcSource(kind="warc", paths=f"{crawl}/crawl/segments/0/warc/*.gz"), Extract()))
    some = read_all(source(crawl, selection))
    expected = {(f"crawl/segments/0/warc/{file}", at): row for (file, at), row in pages(whole).items()}
    found = pages(some)
    assert found.keys() == expected.keys()
    assert len(found) > 40
    for place, row in found.items():
        assert {**row, "id": 0, "file": 0} == {**expected[place], "id": 0, "file": 0}
    dropped = [
        {name: sum(read.ledger["dropped"].get(name, 0) for read in reads) for name in ("status", "not_html")}
        for reads in (some, whole)
    ]
    assert dropped[0] == dropped[1]
    reread = source(crawl, selection)
    assert all(reread.reread(row) for row in [*found.values()][:3])


@pytest.mark.parametrize("shard", [2**26, 8000])
def test_tasks_are_packed_by_size_and_each_record_is_in_one(crawl: Path, tmp_path: Path, shard: int) -> None:
    selection = tmp_path / "zh.parquet"
    table = select([str(crawl / "cdx-00000.gz")], "languages like 'zho%'").table
    crawl_index.write(crawl_index.Selection(table), str(selection))
    found = source(crawl, selection, shard=shard)
    shards = found.shards(None)[0]
    sizes = [sum(part.end - part.start for part in each.parts) for each in shards]
    assert sum(sizes) == sum(table["length"].to_pylist())
    assert max(sizes) <= shard
    reads = [found.read(each) for each in shards]
    assert sum(read.ledger["in"] for read in reads) == len(table)
    assert len(pages(reads)) == sum(read.documents.num_rows for read in reads)


def test_over_http_near_records_are_one_request_and_no_more_is_had(crawl: Path, tmp_path: Path) -> None:
    selection = tmp_path / "two.parquet"
    rows = select([str(crawl / "cdx-00000.gz")], f"filename = '{FILES[0]}'").table
    near, far = rows.slice(0, 3), rows.slice(17, 1)
    crawl_index.write(crawl_index.Selection(pa.concat_tables([near, far])), str(selection))
    with served(crawl) as base:
        Crawl.asked.clear()
        reads = read_all(source(crawl, selection, base, gap=3000))
        ranges = [asked for method, name, asked in Crawl.asked if name == "0.warc.gz" and asked]
    assert sum(read.ledger["in"] for read in reads) == 4
    bounds = [(each["offset"], each["offset"] + each["length"] - 1) for each in rows.to_pylist()]
    assert ranges == [f"bytes={bounds[0][0]}-{bounds[2][1]}", f"bytes={bounds[17][0]}-{bounds[17][1]}"]


def test_records_are_put_together_by_the_gap_between_them() -> None:
    places = [(0, 10), (12, 10), (30, 5), (35, 1)]
    assert [*one_request_each(places, 2)] == [[(0, 10), (12, 10)], [(30, 5), (35, 1)]]
    assert [*one_request_each(places, 0)] == [[(0, 10)], [(12, 10)], [(30, 5), (35, 1)]]
    assert [*one_request_each([], 5)] == []


def test_what_is_not_where_the_index_says_is_quarantined_and_a_changed_selection_read_anew(
    crawl: Path, tmp_path: Path
) -> None:
    selection = tmp_path / "bad.parquet"
    good = select([str(crawl / "cdx-00000.gz")], f"filename = '{FILES[0]}' and status = 200").table
    rows = good.to_pylist()
    rows[1]["offset"] += 1
    rows[2]["length"] -= 30
    rows[3]["offset"], rows[3]["length"] = 10**9, 50
    crawl_index.write(crawl_index.Selection(pa.Table.from_pylist(rows, COLUMNS)), str(selection))
    found = source(crawl, selection)
    [shard], reads = found.shards(None)[0], read_all(found)
    assert reads[0].ledger["in"] == len(rows)
    assert sum(reads[0].ledger["quarantined"].values()) == 3
    assert found.chooses(FILES[0])
    assert not found.chooses(FILES[1])
    crawl_index.write(crawl_index.Selection(good), str(selection))
    [now] = source(crawl, selection).shards(None)[0]
    assert (now.name, now.digest != shard.digest) == (shard.name, True)


def test_a_run_reads_a_selection_once_and_of_a_larger_one_what_is_new(crawl: Path, tmp_path: Path) -> None:
    selection, spec = tmp_path / "some.parquet", tmp_path / "spec.yaml"
    kind = f"{{kind: cdx, paths: {selection}, base: {crawl}, shard: 20KB}}"
    spec.write_text(f"name: s\nstore: {tmp_path}/store\nsources: {{web: {kind}}}\nchannels: {{all: 'true'}}\n")
    states, counts = [], []
    for files in (FILES[:2], FILES[:2], FILES):
        names = ", ".join(f"'{name}'" for name in files)
        told("find", selection, crawl / "cdx-00000.gz", "--where", f"filename in ({names})")
        run = go(spec, until="documents")
        states.append(run.record["stages"][0]["state"])
        counts.append(sum(run.pipeline.outputs["documents"].index.rows.tolist()))
    assert states == ["computed", "cached", "computed"]
    assert counts[0] == counts[1] < counts[2]


def test_a_record_that_two_selections_name_with_other_lengths_is_one_document(crawl: Path, tmp_path: Path) -> None:
    """Of two documents of one place each would have the other's id. The longer one is whole."""
    rows = select([str(crawl / "cdx-00000.gz")], "status = 200").table.to_pylist()
    for name, length in (("good", 0), ("short", -20), ("long", 20)):
        some = [{**row, "length": row["length"] + length} for row in rows]
        crawl_index.write(crawl_index.Selection(pa.Table.from_pylist(some, COLUMNS)), f"{tmp_path}/{name}.parquet")
    whole, all_of_them = source(crawl, tmp_path / "good.parquet"), source(crawl, tmp_path / "*.parquet")
    expected, found = (read_all(each) for each in (whole, all_of_them))
    assert sum(read.ledger["in"] for read in found) == sum(read.ledger["in"] for read in expected) == len(rows)
    assert {place: row["text"] for place, row in pages(found).items()} == {
        place: row["text"] for place, row in pages(expected).items()
    }
    (tmp_path / "index").write_text(cdxj([{**row, "length": row["length"] + n} for row in rows for n in (-20, 0, -1)]))
    assert select([str(tmp_path / "index")], "true").table["length"].to_pylist() == [row["length"] for row in rows]


def test_records_of_a_file_that_is_not_there_whole_yet_are_read_once_it_is(crawl: Path, tmp_path: Path) -> None:
    selection, spec, part = tmp_path / "some.parquet", tmp_path / "spec.yaml", tmp_path / "base" / FILES[0]
    told("find", selection, crawl / "cdx-00000.gz", "--where", f"filename = '{FILES[0]}' and status = 200")
    kind = f"{{kind: cdx, paths: {selection}, base: {tmp_path}/base}}"
    spec.write_text(
        f"name: s\nstore: {tmp_path}/store\nsources: {{web: {kind}}}\nchannels: {{all: 'true'}}\n"
        "gates: {quarantined: 100%}\n"
    )
    data, funnels = (crawl / FILES[0]).read_bytes(), []
    part.parent.mkdir(parents=True)
    for size in (len(data) // 3, len(data) // 2, len(data), len(data)):
        part.write_bytes(data[:size])
        run = go(spec, until="documents")
        funnels.append((run.record["stages"][0]["state"], run.record["funnel"]["sources"]["web"]))
    assert [state for state, _ in funnels] == ["computed", "computed", "computed", "cached"]
    counts = [funnel["pending"] for _, funnel in funnels]
    assert 0 < counts[0] < counts[1] < counts[2] == counts[3]
    assert funnels[3][1]["quarantined"] == {}


@pytest.mark.parametrize(
    "wrong",
    [{"offset": None}, {"filename": None}, {"offset": -5}, {"length": 0}, {"length": 10**17}],
    ids=str,
)
def test_a_selection_that_does_not_say_where_a_record_lies_is_refused(
    crawl: Path, tmp_path: Path, wrong: dict[str, Any]
) -> None:
    rows = select([str(crawl / "cdx-00000.gz")], "status = 200").table.to_pylist()
    rows[3] |= wrong
    pq.write_table(pa.Table.from_pylist(rows, COLUMNS), tmp_path / "some.parquet")
    with pytest.raises(SourceError, match=r"some\.parquet: row 3 does not say where a record lies"):
        source(crawl, tmp_path / "some.parquet").shards(None)
    if {*wrong} == {"length"}:
        (tmp_path / "index").write_text(cdxj(rows))
        assert select([str(tmp_path / "index")], "true").unreadable == 1


def test_what_is_no_index_is_named(crawl: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x\n" * 10)
    (tmp_path / "b.gz").write_bytes((crawl / "cdx-00000.gz").read_bytes()[:-20])
    pq.write_table(pa.table({"url": ["x"]}), tmp_path / "c.parquet")
    for name, message in (("a.txt", "is no index"), ("b.gz", "damaged"), ("c.parquet", "no column warc_filename")):
        with pytest.raises(SourceError, match=message):
            select([str(tmp_path / name)], "true")
    with pytest.raises(ExpressionError):
        select([str(crawl / "cdx-00000.gz")], "langs = 'x'")
    with pytest.raises(SourceError, match="is no selection of a crawl's pages"):
        source(crawl, tmp_path / "c.parquet").shards(None)
    assert "ends in .parquet" in ask("find", tmp_path / "x.json", crawl / "cdx-00000.gz", code=2).output
    line = '{"url": "http://x/", "filename": "f", "offset": "-1", "length": "x"}'
    (tmp_path / "d.cdxj").write_text(f"com,x)/ 20240101000000 {line}\nbroken\n\n" + cdxj([]))
    assert select([str(tmp_path / "d.cdxj")], "true").as_json() | {"hosts": 0} == {
        "captures": 2, "unreadable": 2, "selected": 0, "revisits": 0, "files": 0, "bytes": 0, "hosts": 0,
    }  # fmt: skip
