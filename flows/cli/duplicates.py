"""`sluice duplicates`: clusters, pairs near a threshold, and what other thresholds would leave."""

from __future__ import annotations

import click

from flows import embedded
from flows.cli.command import JSON, SET, SPEC, STORE, cli, plain_errors, print_json, print_warning


@cli.command()
@SPEC
@click.argument("document", required=False)
@STORE
@SET
@JSON
@click.option("--largest", type=click.IntRange(1), metavar="N", help="The N largest clusters, with their members.")
@click.option("--near", type=click.FloatRange(0, 1), metavar="SIMILARITY", help="The pairs nearest to a similarity.")
@click.option("--pairs", default=5, show_default=True, help="With --near, pairs on each side of it.")
@click.option("--page", metavar="FILE.md", help="Write a page with pairs side by side, which Prefect shows, too.")
@click.option("--matches", metavar="FILE.parquet", help="Write which removed document matches which kept one.")
@click.option("--thresholds", is_flag=True, help="Documents and tokens that each threshold would leave, by channel.")
@plain_errors
def duplicates(
    spec: str,
    document: str | None,
    store: str | None,
    settings: tuple[str, ...],
    as_json: bool,
    largest: int | None,
    near: float | None,
    pairs: int,
    page: str | None,
    matches: str | None,
    thresholds: bool,
) -> None:
    """Show the duplicates of SPEC: how large clusters are and how similar what was removed is. Or the cluster of
    DOCUMENT (its URL, or the beginning of its id), the largest clusters, or pairs near a similarity, with the words in
    which their texts differ; or what each threshold would leave; or a page of all that.
    """
    from data_specs.load import SpecError
    from flows import duplicates as asked
    from flows import exported
    from flows.corpus_run import CorpusRun

    given = (document, None if page else largest, None if page else near, matches, thresholds)
    if sum(each is not None and each is not False for each in given) > 1 or (page and (matches or thresholds)):
        raise SpecError(["duplicates: one of DOCUMENT, --largest, --near, --matches and --thresholds at a time"])
    if thresholds:
        found = asked.thresholds(spec, store, settings)
        return print_json(found) if as_json else asked.show_thresholds(found)
    current = CorpusRun.of(spec, store, settings)
    current.resolve()
    print_warning(asked.partial(current.pipeline))
    if page is not None:
        if document is not None:
            raise SpecError(["duplicates: a page is of the corpus, not of one DOCUMENT"])
        similarity = near or current.spec.duplicates.threshold
        found = {
            **asked.summary(current.pipeline),
            "largest": asked.largest(current.pipeline, largest or 5),
            "pairs": asked.near(current.pipeline, similarity, pairs),
        }
        with embedded.server():
            from flows import duplicates_page as made
        with embedded.answering():
            made.publish(
                current.spec.name,
                made.page(current.spec.name, found, found["largest"], found["pairs"], similarity),
                page,
            )
        exported.note_file(current.store, page, current.spec.name, "page", current.pipeline.outputs["documents"])
        return print_json(found | {"page": page}) if as_json else click.echo(page)
    if matches is not None:
        count = asked.matches(current.pipeline, matches)
        exported.note_file(current.store, matches, current.spec.name, "matches", current.pipeline.outputs["documents"])
        found = {"matches": count, "to": matches}
        return print_json(found) if as_json else click.echo(f"{count:,} matches in {matches}")
    if document is not None:
        cluster = asked.of(current.pipeline, document)
        return print_json(cluster) if as_json else asked.show_cluster(cluster)
    if largest is not None:
        clusters = asked.largest(current.pipeline, largest)
        return print_json({"clusters": clusters}) if as_json else asked.show_clusters(clusters)
    if near is not None:
        nearest = asked.near(current.pipeline, near, pairs)
        return (
            print_json({"pairs": nearest})
            if as_json
            else asked.show_pairs(nearest, near, current.spec.duplicates.compared_from)
        )
    counted = asked.summary(current.pipeline)
    return print_json(counted) if as_json else asked.show_summary(counted)
