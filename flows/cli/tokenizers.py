"""`sluice tokenizers`: kinds and sizes of tokenizers, on the documents that a corpus keeps."""

from __future__ import annotations

import click

from flows import embedded
from flows.cli.command import JSON, SET, SPEC, STORE, cli, plain_errors, print_json


@cli.command()
@SPEC
@click.argument("to", type=click.Path(file_okay=False))
@STORE
@SET
@click.option("--kind", "kinds", multiple=True, default=["byte-bpe"], show_default=True, help="A kind to try.")
@click.option(
    "--vocabulary", "vocabularies", multiple=True, type=int, default=[8192, 32768], show_default=True, help="A size."
)
@click.option("--digits", type=click.Choice(["one", "threes"]), default="one", show_default=True)
@click.option("--dirty", metavar="FILE", help="Phrases that no entry should hold, one a line.")
@click.option("--dirty-where", metavar="SQL", help='Documents whose own entries are dirty, such as "harmful > 0.8".')
@click.option("--extend", metavar="FILE.json", help="A tokenizer.json (BPE) that gets more entries.")
@click.option("--more", type=click.IntRange(1), default=1000, show_default=True, help="With --extend, how many.")
@click.option("--words", metavar="FILE", help="With --extend, what is to be one entry each, one a line.")
@JSON
@plain_errors
def tokenizers(
    spec: str,
    to: str,
    store: str | None,
    settings: tuple[str, ...],
    kinds: tuple[str, ...],
    vocabularies: tuple[int, ...],
    digits: str,
    dirty: str | None,
    dirty_where: str | None,
    extend: str | None,
    more: int,
    words: str | None,
    as_json: bool,
) -> None:
    """Learn tokenizers from the documents that SPEC keeps, and measure how each spells documents it never saw.

    The folder TO gets each as KIND-SIZE.json, which `tokenizer: {kind: file, path: ...}` takes, and tokenizers.md and
    tokenizers.svg, the page that Prefect shows. With --dirty a BPE is written without such entries, too, and with
    --extend one that is there is measured as it is and with more entries, which leave those that it had as they were.
    Such as:

    \b
    sluice tokenizers spec.yaml tried --kind byte-bpe --kind unigram --vocabulary 8192 --vocabulary 32768
    sluice tokenizers spec.yaml tried --vocabulary 32768 --extend qwen/tokenizer.json --more 5000
    """
    with embedded.server():
        from flows import tokenizer_sweep as trying
    with embedded.answering():
        found = trying.tokenizers(
            spec,
            to,
            list(kinds),
            list(vocabularies),
            store,
            list(settings),
            dirty,
            digits,
            extend,
            more,
            words,
            dirty_where,
        )
    if as_json:
        print_json({"tokenizers": found})
    else:
        click.echo(trying.as_table(found))
