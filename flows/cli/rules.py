"""`sluice rules`: what each rule drops, and what lies nearest to its threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from flows.cli.command import cli, print_json, print_warning, reading

if TYPE_CHECKING:
    from flows.commands.rules import Answer
    from flows.run import Run


_MEANING = (
    "documents that a rule is true of, their share of all and of all tokens; alone: those of which no other rule is "
    "true; first: those of which none before it is, and whose text was not emptied, for which it is the reason in the "
    "funnel"
)


@cli.command()
@reading
@click.option("--rule", metavar="NAME", help="Show examples of this rule alone; without it, of none but in JSON.")
@click.option("--examples", default=10, show_default=True, help="Examples on each side of the threshold.")
@click.option(
    "--sample", default=500, show_default=True, help="Documents a source, where the store has no columns yet."
)
def rules(current: Run, rule: str | None, examples: int, sample: int, as_json: bool) -> None:
    """Say what each rule of SPEC drops: documents and tokens, alone and first, by source, channel and language.

    Over the columns that the store has, or, before a run is paid for, over documents that are spread over each source
    and its files, of which nothing is stored. With --set rules.NAME="..." another threshold is tried.
    """
    from data_specs.amounts import plural
    from flows.commands import rules as judging

    answer = judging.judge(current.pipeline, examples if as_json or rule else 0, sample, rule)
    if as_json:
        print_json(judging.as_json(answer))
        return
    for rule_note in [*answer.unmatched, *(f"rules: {each}" for each in answer.nothing_of())]:
        print_warning(rule_note)
    if answer.missing:
        print_warning(f"rules: not known without a run: {', '.join(answer.missing)}")
    if answer.quarantined:
        print_warning(f"rules: without {plural(answer.quarantined, 'quarantined shard')}, as in the funnel")
    if not answer.sample and answer.shards[0] < answer.shards[1] - answer.quarantined:
        judged_of = f"{answer.shards[0]:,} of {plural(answer.shards[1], 'shard')}"
        print_warning(f"rules: over {judged_of}, as columns of the others are not computed with these settings")
    _show(answer)
    for judged in answer.rules:
        if judged.rule.name == rule:
            _show_examples(
                judged.rule.name,
                judged.rule.drop,
                judged.column,
                *(judging.nearest(judged, side) for side in (True, False)),
            )


def _show(answer: Answer) -> None:
    from data_specs.amounts import plural
    from flows import terminal
    from flows.commands.rules import ALL

    documents, tokens = answer.documents, answer.tokens
    what = f"a sample of {plural(documents[ALL], 'document')}" if answer.sample else "the store"
    terminal.console().print(f"Rules, over {what}")
    grid = terminal.table("rule", "documents", "share", "tokens", "alone", "first")
    for judged in answer.rules:
        counts = {name: found[ALL] for name, found in judged.counts.items()}
        share, size = counts["dropped"] / documents[ALL], counts["dropped_tokens"] / max(1, tokens[ALL])
        cells = (counts["dropped"], terminal.percent(share), terminal.percent(size), counts["alone"], counts["first"])
        grid.add_row(judged.rule.name, *map(terminal.cell, cells))
    grid.add_section()
    grid.add_row("any", terminal.cell(answer.dropped[ALL]), terminal.percent(answer.dropped[ALL] / documents[ALL]))
    terminal.console().print(grid)
    terminal.console().print(_MEANING)
    grid = terminal.table("of", "documents", "dropped", "most by")
    for group in sorted(set(documents) - {ALL}):
        most = sorted((-j.counts["dropped"][group], j.rule.name) for j in answer.rules if j.counts["dropped"][group])
        named = ", ".join(f"{name} {terminal.percent(-count / documents[group])}" for count, name in most[:3])
        whole = terminal.percent(answer.dropped[group] / documents[group])
        grid.add_row(terminal.line(group), terminal.cell(documents[group]), whole, named)
    terminal.console().print(grid)


def _show_examples(
    name: str, drop: str, column: str | None, dropped: list[dict[str, object]], others: list[dict[str, object]]
) -> None:
    from flows import terminal

    terminal.console().print(f"{name}: {terminal.line(drop)}", soft_wrap=True)
    order = f"by {column}, nearest to the threshold first" if column else "the first ones, as no column has a threshold"
    for side, documents in ((f"{name} drops", dropped), (f"{name} does not drop", others)):
        grid = terminal.table("values", "document", "text", title=f"{side} ({order})")
        for document in documents:
            values = document["values"]
            assert isinstance(values, dict)
            shown = "\n".join(terminal.named_values({each: value}) for each, value in values.items())
            name = f"{terminal.line(document['url'] or document['file'])}\n{document['id']}"
            grid.add_row(shown, name, terminal.line(document["text"]))
        terminal.console().print(grid if grid.row_count else f"{side}: no document")
