"""`sluice learn`: a classifier from a file of labelled texts."""

from __future__ import annotations

import click

from flows import embedded
from flows.cli.command import JSON, cli, plain_errors, print_json


@cli.command()
@click.argument("model", metavar="MODEL.bin", type=click.Path())
@click.option("--train", required=True, metavar="FILE", help="Labelled texts: JSONL or CSV, plain or .gz, or Parquet.")
@click.option("--dev", metavar="FILE", help="Those that settings are chosen by; without it, a tenth of --train.")
@click.option("--test", metavar="FILE", help="Those that are never learned from; without it, a fifth of --train.")
@click.option("--text", default="text", show_default=True, metavar="FIELD", help="The field of the text.")
@click.option("--label", default="label", show_default=True, metavar="FIELD", help="The field of the label.")
@click.option("--url", metavar="FIELD", help="The field of the address, where the model is to read it, too.")
@click.option("--rename", multiple=True, metavar="LABEL=NAME", help="What a label is called, such as 1=offensive.")
@click.option("--seed", default=0, show_default=True, help="What is held back, and the order of lessons.")
@JSON
@plain_errors
def learn(
    model: str,
    train: str,
    dev: str | None,
    test: str | None,
    text: str,
    label: str,
    url: str | None,
    rename: tuple[str, ...],
    seed: int,
    as_json: bool,
) -> None:
    """Learn a classifier from labelled texts, for a stage of the kind `classify`: fastText's, or a linear one.

    Settings are chosen on --dev; the confusion matrix is of --test. Beside the model are written MODEL.json, which the
    stage reads, and MODEL.md, the page that Prefect shows. Such as:

    \b
    sluice learn harmful.bin --train posts.jsonl.gz --rename 1=offensive --rename 0=fine
    sluice learn topics.bin --train pages.jsonl --label topic --url url
    """
    from data_specs.load import SpecError

    names = dict(each.partition("=")[::2] for each in rename)
    if wrong := [label for label, name in names.items() if not name]:
        raise SpecError([f"--rename: {wrong[0]!r} is not LABEL=NAME"])
    with embedded.server():
        from flows import learn as learning
    with embedded.answering():
        facts = learning.learn(model, train, dev, test, text, label, url, names, seed)
    if as_json:
        print_json(facts)
    else:
        click.echo(learning.card(model.removesuffix(".bin"), facts))
