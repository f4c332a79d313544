"""Repositories as tarfile, zipfile and git write them; licences against what packages say of themselves."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest

from data_specs.extract import Extract
from data_specs.sources import RepositorySource
from tasks.engine.reading import Read
from tasks.sources import Reader, licenses, programming, reader

MIT = """MIT License\n\nCopyright (c) 2024 Jane Washer\n
Permission is hereby granted, free of charge, to any person obtaining a copy of this software ...
The above copyright notice and this permission notice shall be included in all copies."""
CODE = "def wash(gravel):\n    return [each for each in gravel if each.gold]\n"
FILES = {
    "LICENSE": MIT,
    "README.md": "# Washing\n\nGold is washed.\n",
    "src/wash.py": CODE,
    "src/kernel.h": "#pragma once\nnamespace gold { class Pan { public: int size; }; }\n",
    "src/plain.h": "#ifndef A\n#define A\nint wash(int gravel);\n#endif\n",
    "src/own.c": "// SPDX-License-Identifier: GPL-2.0-only\nint main(void) { return 0; }\n",
    "bin/run": "#!/usr/bin/env python3\nprint('gold')\n",
    "lib/apart/COPYING": "Licensed under the Apache License, Version 2.0 (the License)\n",
    "lib/apart/a.go": "package apart\n\nfunc Wash() int { return 1 }\n",
    "vendor/other/b.go": "package other\n",
    "api/wash_pb2.py": "x = 1\n",
    "api/parser.c": "/* A Bison parser, made by GNU Bison. Do not edit. */\nint yyparse(void);\n",
    "web/app.min.js": "var a=1;",
    "web/packed.js": "function a(b){return b+1};" * 200,
    "data/points.json": "[1, 2]",
    "data/table.py": "T = [" + "1, 2, 3,\n" * 200 + "]\n",
    "data/logo.png": b"\x89PNG\0\0",
    "data/strange.qqq": "what is this\n",
    "empty.py": "",
    "large.py": "# a\n" * 2000,
}
DROPPED = {
    **{"license_file": 2, "vendored": 1, "generated": 2, "minified": 2, "data_file": 2, "not_text": 1},
    **{"unknown_language": 1, "empty": 1, "too_large": 1},
}
KEPT = {
    "README.md": ("markdown", None, "MIT"),
    "src/wash.py": ("code", "Python", "MIT"),
    "src/kernel.h": ("code", "C++", "MIT"),
    "src/plain.h": ("code", "C", "MIT"),
    "src/own.c": ("code", "C", "GPL-2.0-only"),
    "bin/run": ("code", "Python", "MIT"),
    "lib/apart/a.go": ("code", "Go", "Apache-2.0"),
}


def data(name: str) -> bytes:
    content = FILES[name]
    return content.encode() if isinstance(content, str) else content


def tarred(top: str = "") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in FILES:
            member = tarfile.TarInfo(top + name)
            member.size = len(data(name))
            archive.addfile(member, io.BytesIO(data(name)))
    return out.getvalue()


def zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in FILES:
            archive.writestr(name, data(name))
    return out.getvalue()


def lay_out(folder: Path) -> None:
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data(name))


def bundle(folder: Path) -> bytes:
    lay_out(folder / "tree")
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    for arguments in (["init", "-q"], ["add", "-f", "."], [*who, "commit", "-q", "-m", "a"]):
        subprocess.run(["git", *arguments], cwd=folder / "tree", check=True)
    subprocess.run(["git", "bundle", "create", "-q", "../made.bundle", "HEAD"], cwd=folder / "tree", check=True)
    return (folder / "made.bundle").read_bytes()


def read(pattern: str, **settings: Any) -> tuple[Reader, list[Read]]:
    source = reader("git", RepositorySource(kind="repository", paths=pattern, largest=6000, **settings), Extract())
    return source, [source.read(shard) for shard in source.shards(None)[0]]


def check(source: Reader, reads: list[Read], top: str = "") -> None:
    rows = [row for each in reads for row in each.documents.to_pylist()]
    told = {row["path"]: (row["kind"], row["programming_language"], row["spdx"]) for row in rows}
    assert told == {top + name: said for name, said in KEPT.items()}
    assert {row["path"]: row["text"] for row in rows} == {top + n: data(n).decode().strip() for n in KEPT}
    dropped: dict[str, int] = {}
    for each in reads:
        assert each.ledger["quarantined"] == {}
        for reason, count in each.ledger["dropped"].items():
            dropped[reason] = dropped.get(reason, 0) + count
    assert dropped == DROPPED
    assert sum(each.ledger["in"] for each in reads) == len(FILES)
    assert len({row["id"] for row in rows}) == len(rows)
    assert all(hashlib.sha256(source.reread(row)).hexdigest() == row["payload"] for row in rows)


@pytest.mark.parametrize("form", ["a.tar", "a.tar.gz", "a.tgz", "a.zip"])
def test_an_archive_gives_the_files_that_people_wrote_with_language_and_licence(tmp_path: Path, form: str) -> None:
    packed = zipped() if form == "a.zip" else tarred()
    (tmp_path / form).write_bytes(packed if form in ("a.tar", "a.zip") else gzip.compress(packed))
    source, reads = read(f"{tmp_path}/a.*")
    check(source, reads)
    assert {row["repository"] for row in reads[0].documents.to_pylist()} == {"a"}
    [vendored] = [row for row in reads[0].refused.to_pylist() if row["reason"] == "vendored"]
    assert json.loads(vendored["measures"])["path"] == "vendor/other/b.go"


def test_an_archive_with_a_folder_at_its_top_is_the_same(tmp_path: Path) -> None:
    (tmp_path / "gold-1.0.tar").write_bytes(tarred("gold-1.0/"))
    check(*read(f"{tmp_path}/*.tar"), "gold-1.0/")


@pytest.mark.skipif(not shutil.which("git"), reason="git makes bundles")
def test_a_git_bundle_gives_what_its_commit_holds(tmp_path: Path) -> None:
    (tmp_path / "gold.bundle").write_bytes(bundle(tmp_path / "made"))
    source, reads = read(f"{tmp_path}/gold.bundle")
    check(source, reads)


def test_a_folder_gives_the_same_and_what_a_licence_says_is_read_for_all_files_below_it(tmp_path: Path) -> None:
    lay_out(tmp_path)
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_text("[core]")
    pattern = [f"{tmp_path}/**/*", f"{tmp_path}/.git/*"]
    source, reads = read(pattern)  # type: ignore[arg-type]
    check(source, reads)
    before = [shard.digest for shard in source.shards(None)[0]]
    (tmp_path / "LICENSE").write_text("Boost Software License - Version 1.0")
    again, reads = read(pattern)  # type: ignore[arg-type]
    assert not set(before) & {shard.digest for shard in again.shards(None)[0]}
    [wash] = [row for each in reads for row in each.documents.to_pylist() if row["path"] == "src/wash.py"]
    assert wash["spdx"] == "BSL-1.0"


@pytest.mark.parametrize(
    ("path", "text", "language"),
    [
        ("a.m", "x = [1 2 3];\nplot(x)\n", "MATLAB"),
        ("a.m", "#import <Foundation/Foundation.h>\n", "Objective-C"),
        ("a.m", "/* of Apple */\nint main(void) { return 0; }\n", "Objective-C"),
        ("a.m", "(* a package *)\nf[x_] := x\n", "Mathematica"),
        ("a.pl", "use strict;\nmy $x = $y ? 1:-1;\n", "Perl"),
        ("a.pl", "print 1;\n", "Perl"),
        ("a.pl", "mortal(X) :- man(X).\n", "Prolog"),
        ("a.cl", "(defun wash (gravel) gravel)\n", "Common Lisp"),
        ("a.cl", "__kernel void wash(__global float *gravel) {}\n", "OpenCL"),
    ],
)
def test_a_suffix_that_several_languages_share_is_told_by_the_content(path: str, text: str, language: str) -> None:
    assert programming.language_of(path, text) == language


def test_a_link_in_a_zip_is_no_file(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        link = zipfile.ZipInfo("link.py")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "src/wash.py")
        archive.writestr("src/wash.py", CODE)
    [found] = read(f"{tmp_path}/*")[1]
    assert (found.documents["path"].to_pylist(), found.ledger["in"]) == (["src/wash.py"], 1)


APACHE = "Licensed under the Apache License, Version 2.0 (the License)\n"
GPL = "GNU GENERAL PUBLIC LICENSE\nVersion 3, 29 June 2007\n"
LGPL = "GNU LESSER GENERAL PUBLIC LICENSE\nVersion 3, 29 June 2007\n"


@pytest.mark.parametrize(
    ("files", "name"),
    [
        ({"LICENSE-MIT": MIT, "LICENSE-APACHE": APACHE}, "Apache-2.0 OR MIT"),
        ({"COPYING": GPL, "COPYING.LESSER": LGPL}, "LGPL-3.0-only"),
        ({"LICENSE": MIT, "COPYING": GPL}, None),
        ({"LICENSE": MIT, "LICENSE.txt": MIT, "COPYRIGHT": "Copyright 2024 Jane Washer"}, "MIT"),
        ({"LICENSE": MIT, "license.py": "NAME = 'gold'\n", "copyright.go": "package gold\n"}, "MIT"),
    ],
)
@pytest.mark.parametrize("order", [1, -1])
def test_of_several_licences_in_a_folder_none_is_guessed(
    tmp_path: Path, files: dict[str, str], name: str | None, order: int
) -> None:
    (tmp_path / "loose").mkdir()
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for path, text in [*(files | {"wash.py": CODE}).items()][::order]:
            archive.writestr(path, text)
            (tmp_path / "loose" / path).write_text(text)
    for pattern in ("a.zip", "loose/*"):
        rows = [row for each in read(f"{tmp_path}/{pattern}")[1] for row in each.documents.to_pylist()]
        assert {row["spdx"] for row in rows} == {name}
        assert len(rows) == 1 + sum(path.endswith((".py", ".go")) for path in files)


@pytest.mark.parametrize("cut", [0.3, 0.7])
def test_an_archive_that_breaks_off_is_quarantined_and_keeps_what_came_before(tmp_path: Path, cut: float) -> None:
    packed = gzip.compress(tarred())
    (tmp_path / "a.tar.gz").write_bytes(packed[: int(cut * len(packed))])
    _, [found] = read(f"{tmp_path}/*.gz")
    assert found.ledger["quarantined"] == {"truncated": 1}
    assert found.documents.num_rows + sum(found.ledger["dropped"].values()) + 1 == found.ledger["in"]


def test_an_archive_that_breaks_off_between_two_files_or_before_its_end_is_quarantined(tmp_path: Path) -> None:
    whole = tarred()
    with tarfile.open(fileobj=io.BytesIO(whole)) as archive:
        cuts = [member.offset for member in archive][3:]
    for cut in (*cuts, len(whole.rstrip(b"\0")) // 512 * 512 + 512):
        (tmp_path / "a.tar").write_bytes(whole[:cut])
        _, [found] = read(f"{tmp_path}/a.tar")
        assert found.ledger["quarantined"] == {"truncated": 1}
        told = len([each for each in cuts if each < cut]) + 3
        assert found.documents.num_rows + sum(found.ledger["dropped"].values()) == told


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_archives_that_stand_one_behind_another_are_all_read_and_what_is_none_is_said(
    tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    name = f"a.tar{'' if pack is bytes else '.gz'}"
    one, other = tarred(), tarred("other/")
    (tmp_path / name).write_bytes(pack(one + other) + (pack(one) if pack is not bytes else b""))
    source, [found] = read(f"{tmp_path}/{name}")
    assert not found.ledger["quarantined"]
    paths = found.documents["path"].to_pylist()
    assert set(paths) == {*KEPT, *(f"other/{path}" for path in KEPT)}
    assert len(set(found.documents["id"].to_pylist())) == len(paths) == (2 + (pack is not bytes)) * len(KEPT)
    rows = found.documents.to_pylist()
    assert all(hashlib.sha256(source.reread(row)).hexdigest() == row["payload"] for row in rows)
    (tmp_path / name).write_bytes(pack(one + b"gravel" * 999))
    _, [found] = read(f"{tmp_path}/{name}")
    assert found.ledger["quarantined"] == {"unreadable": 1}
    assert found.documents.num_rows == len(KEPT)


@pytest.mark.parametrize("name", ["a.tar.gz", "a.zip", "a.bundle", "a.tar"])
def test_what_is_no_archive_is_quarantined(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(
        {"a.zip": b"PK\3\4", "a.bundle": b"# v2 git bundle\n"}.get(name, b"") + b"nothing" * 99
    )
    _, [found] = read(f"{tmp_path}/*")
    assert sum(found.ledger["quarantined"].values()) == found.ledger["in"] == 1


def test_files_are_refused_by_their_language(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tarred())
    _, [found] = read(f"{tmp_path}/a.tar", refuse={"not_python": "programming_language <> 'Python'"})
    assert found.ledger["dropped"]["not_python"] == 4


DEBIAN = {
    **{name: name for name in ("Apache-2.0", "MPL-1.1", "MPL-2.0", "CC0-1.0")},
    **{"GPL-1": "GPL-1.0-only", "GPL-2": "GPL-2.0-only", "GPL-3": "GPL-3.0-only", "LGPL-2": "LGPL-2.0-only"},
    **{"LGPL-2.1": "LGPL-2.1-only", "LGPL-3": "LGPL-3.0-only", "GFDL-1.2": "GFDL-1.2-only"},
    **{"GFDL-1.3": "GFDL-1.3-only", "BSD": "BSD-3-Clause"},
}


@pytest.mark.parametrize(("file", "name"), DEBIAN.items())
def test_licences_that_debian_installs_are_known(file: str, name: str) -> None:
    path = Path("/usr/share/common-licenses") / file
    if not path.exists():
        pytest.skip("Debian's licences are not here")
    assert licenses.spdx(path.read_text()) == name


BSD = (
    "Redistributions of source code must retain the above copyright notice. Redistributions in binary form must "
    "reproduce the above copyright notice. "
)
ENDORSED = "Neither the name of X may be used to endorse or promote products derived from this software. "
ADVERTISED = "All advertising materials mentioning features or use of this software must display the following "
MIT = (
    "Permission is hereby granted, free of charge, to any person obtaining a copy. "
    "The above copyright notice and this permission notice shall be included. "
)
CALLED = 'Products derived from this software may not be called "{}", nor may "{}" appear in their name. '


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (BSD + ENDORSED, "BSD-3-Clause"),
        (BSD + ADVERTISED + "acknowledgement: X. " + ENDORSED, "BSD-4-Clause"),
        (BSD + ADVERTISED + 'acknowledgment: "for use in the OpenSSL Toolkit." ' + ENDORSED, "OpenSSL"),
        ("The Apache Software License, Version 1.1 " + BSD + ENDORSED + CALLED.format(*["Apache"] * 2), "Apache-1.1"),
        (BSD + ENDORSED + CALLED.format("Washpan", "Washpan"), None),
        ("The PHP License, version 3.01 " + BSD + 'The name "PHP" must not be used to ' + ENDORSED, "PHP-3.01"),
        (BSD + ENDORSED + "NO EXPRESS OR IMPLIED LICENSES TO ANY PARTY'S PATENT RIGHTS ARE GRANTED BY THIS LICENSE.",
         "BSD-3-Clause-Clear"),
        (BSD + "PROVIDED AS IS WITHOUT WARRANTY. " * 40 + "A part: " + BSD + ADVERTISED + ENDORSED, "BSD-2-Clause"),
        (BSD + "each copyright holder grants a worldwide, non-exclusive patent license", None),
        (MIT, "MIT"),
        (MIT + "The Software shall be used for Good, not Evil.", "JSON"),
        ('"Commons Clause" License Condition v1.0 ... License: MIT. ' + MIT, None),
        ("Business Source License 1.1. Change License: Mozilla Public License Version 2.0", "BUSL-1.1"),
    ],
)  # fmt: skip
def test_a_licence_with_a_clause_more_is_not_taken_for_the_one_without(text: str, name: str | None) -> None:
    assert licenses.spdx(text) == name


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("// SPDX-License-Identifier: MIT", "MIT"),
        ("/* SPDX-License-Identifier: (GPL-2.0-only WITH Linux-syscall-note) OR MIT */",
         "(GPL-2.0-only WITH Linux-syscall-note) OR MIT"),
        ("# put SPDX-License-Identifier: MIT in the first line of each file", None),
    ],
)  # fmt: skip
def test_a_sentence_about_a_tag_is_no_tag(line: str, name: str | None) -> None:
    assert licenses.named(f"{line}\nx = 1\n") == name


def test_installed_packages_have_the_licence_that_they_say() -> None:
    said = found = 0
    for each in distributions():
        expression = each.metadata.get("License-Expression") or ""
        files = [file for file in each.files or () if licenses.FILES.fullmatch(file.name) and ".dist-info" in str(file)]
        if re.fullmatch(r"[\w.-]+", expression) and len(files) == 1:
            text = Path(str(each.locate_file(files[0]))).read_text(errors="replace")
            known = licenses.spdx(text)
            said += 1
            found += known is not None
            assert known is None or re.sub("-only|-or-later", "", known) == re.sub("-only|-or-later", "", expression), (
                each
            )
    assert said > 50
    assert found / said > 0.95


def test_the_standard_library_is_python_whatever_its_files_are_called() -> None:
    files = sorted(Path(re.__file__).parents[1].glob("*.py"))
    texts = [file.read_text(errors="replace") for file in files]
    assert {programming.kind("wash.py", text).language for text in texts} == {"Python"}
    kept = [programming.kind(file.name, text).reason is None for file, text in zip(files, texts, strict=True)]
    assert sum(kept) / len(kept) > 0.95
