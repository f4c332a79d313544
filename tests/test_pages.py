"""The pages for readers: their links and anchors, and the commands that they name."""

from __future__ import annotations

import re
from pathlib import Path

from flows.cli import cli

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """What GitHub calls the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_relative_link_and_anchor_leads_somewhere() -> None:
    links = [(page, link) for page in PAGES for link in re.findall(r"\]\(([^)\s]+)\)", prose(page))]
    assert links
    broken = []
    for page, link in links:
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if "://" not in link and not (target.exists() and (not anchor or anchor in anchors(target))):
            broken.append(f"{page.name}: {link}")
    assert not broken


def test_every_command_is_on_the_page_of_commands() -> None:
    told = re.findall(r"^\$ sluice ([a-z-]+)", (ROOT / "docs" / "commands.md").read_text(), re.MULTILINE)
    assert {*told} == {*cli.commands}
