"""`sluice takedown`: documents out of the corpus, and out of the store."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import click

from flows.cli.command import cli, of_spec, print_json

if TYPE_CHECKING:
    from flows.run import Run
    from tasks.storage.store import Store


@cli.command()
@of_spec
@click.option("--url", "urls", multiple=True, metavar="URL", help="The document at this address.")
@click.option("--domain", "domains", multiple=True, metavar="DOMAIN", help="All of this domain, and of those below it.")
@click.option("--id", "ids", multiple=True, metavar="ID", help="The document of this id: 32 hexadecimal digits.")
@click.option("--list", "lists", multiple=True, metavar="FILE", help="A file of these, one a line; # makes a comment.")
@click.option("--where", metavar="SQL", help="All for which an expression over columns is true.")
@click.option("--only", is_flag=True, help="Leave near-copies where they are.")
@click.option("--yes", is_flag=True, help="Do it.")
def takedown(
    current: Run,
    urls: tuple[str, ...],
    domains: tuple[str, ...],
    ids: tuple[str, ...],
    lists: tuple[str, ...],
    where: str | None,
    only: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Take documents down: without --yes, say which would go and what was made with them; with it, purge them.

    Text and tokens of these documents, and of what is in their clusters of duplicates, leave every file of the store,
    of all its lineages; an empty row stays in the place of each. What later crawls bring at their addresses, or with
    the same words, is refused, with the reason `takedown`; a near-copy at another address is not. `sluice run SPEC`
    then makes a version without them. Checkpoints, exports and pins that were made with them are named: they are yours
    to remove or to keep. One that was stopped goes on by `sluice takedown SPEC --yes`. While a run is working on the
    store, --yes is refused. Such as:

    \b
    sluice takedown SPEC --url https://example.org/page
    sluice takedown SPEC --domain example.org --list requests.txt --yes
    sluice takedown SPEC --where "not allowed" --yes
    """
    from flows import terminal
    from flows.commands import takedown as takedowns
    from flows.commands import takedown_printed, takedown_search
    from flows.commands import takedown_request as request
    from tasks.engine import garbage_collection

    with garbage_collection.alone(current.store) if yes else nullcontext():
        if where is not None:
            ids += takedown_search.matching(current, where)
        wanted = request.asked(urls, domains, ids, lists, only)
        if wanted is None and where is not None:  # of no document it is true
            wanted = request.Asked(only=only)
        with terminal.progress("files of documents looked through") as progress:
            found = takedowns.take_down(current.reloaded(), wanted, yes, progress)
    found["named"] = _as_they_open(found["named"], current.store)
    if as_json:
        print_json(found)
    else:
        takedown_printed.show(found)


def _as_they_open(named: dict[str, Any], store: Store) -> dict[str, Any]:
    """What was made with documents, with what lies in the store named as it opens from here."""
    from flows import summary

    def placed(facts: dict[str, Any], *keys: str) -> dict[str, Any]:
        return facts | {key: summary.place(store, facts[key]) for key in keys if facts.get(key)}

    trainings = []
    for each in named["trainings"]:
        kept = [path for path in each["checkpoints"] if isinstance(path, str)]  # an earlier version wrote numbers
        trainings.append(placed(each, "exported") | {"checkpoints": [summary.place(store, path) for path in kept]})
    return named | {"trainings": trainings, "exports": [placed(each, "plan", "inside") for each in named["exports"]]}
