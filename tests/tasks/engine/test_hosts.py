"""Hosts: one name for each, however addresses spell it, wherever hosts are told apart or asked for."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from data_specs.load import SpecError
from data_specs.sources import UrlList
from flows.commands import takedown_request
from tasks.dedup.boilerplate import _lines
from tasks.engine.hosts import as_one, site, sites, split
from tasks.planning.inputs import hosts
from tasks.sources.canonical_url import canonical_url
from tasks.sources.robots import _host
from tasks.sources.taken_down import TakenDown
from tasks.sources.url_lists import Listed

SAME = [
    ["http://example.com/a", "HTTPS://Example.COM./a", "http://me:p@ss@example.com:8080/a", "http://example.com:/a"],
    ["http://[::1]/a", "http://[::1]:8080/a", "https://user@[0:0:0:0:0:0:0:1]/a", "http://[0::1]/a"],
    ["http://[2001:db8::A]/a", "http://[2001:DB8:0::a]:80/a"],
    ["http://bücher.example/a", "http://xn--bcher-kva.example./a", "http://BÜCHER.example:80/a"],
]
NAMES = ["example.com", "[::1]", "[2001:db8::a]", "xn--bcher-kva.example"]


@pytest.mark.parametrize(("urls", "name"), [*zip(SAME, NAMES, strict=True)])
def test_a_host_has_one_name_however_an_address_spells_it(urls: list[str], name: str, tmp_path: Path) -> None:
    assert {split(url)[0] for url in urls} == {name}
    with_www = [url.replace("://example.", "://WWW.example.") for url in urls]
    assert set(sites(pa.chunked_array([urls, with_www])).to_pylist()) == {name}
    assert {site(url) for url in with_www} == {name}
    assert len(set(hosts(pa.chunked_array([urls])).to_pylist())) == 1
    assert len(set(_lines(pa.table({"url": urls, "text": ["Home"] * len(urls)})).hash.tolist())) == 1
    assert {_host(url).removesuffix(":8080") for url in urls} == {name}
    assert len({canonical_url(url) for url in urls}) == 1
    (tmp_path / "list.txt").write_text(f"{name}\n")
    assert all(Listed("x", UrlList(domains=str(tmp_path / "list.txt"))).matches(urls))
    for given in (name, name.upper(), name if name.startswith("[") else f"{name}."):
        wanted = takedown_request.asked((), (given,), (), (), False)
        assert wanted is not None
        assert wanted.domains == (name,)
        assert all(map(TakenDown(domains=wanted.domains).names, urls))


def test_what_is_no_host_is_none_and_hosts_that_were_counted_under_several_spellings_are_one() -> None:
    urls = pa.array(["no address", "http:///path", "http://./", "mailto:a@b.example", None, "ftp://a.b/c"])
    assert sites(urls).to_pylist() == [None, None, None, None, None, "a.b"]
    assert [*map(site, urls.to_pylist())] == [None] * 6
    lacking = ["http://user:pw@/", "http://user@?q", "http://:80/", "https://@/a"]
    assert sites(pa.array(lacking)).to_pylist() == [*map(site, lacking)] == [None] * 4
    assert {split(url)[0] for url in lacking} == {""}
    counted = pa.array(["example.com.", "Example.com", "bücher.example", None])
    assert as_one(counted).to_pylist() == ["example.com", "example.com", "xn--bcher-kva.example", None]
    with pytest.raises(SpecError, match="is no domain"):
        takedown_request.asked((), ("com",), (), (), False)
