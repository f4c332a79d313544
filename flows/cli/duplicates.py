"""`sluice duplicates`: clusters, pairs near a threshold, and what other thresholds would leave."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from flows import embedded
from flows.cli.command import JSON, SET, SPEC, STORE, cli, plain_errors, print_json, print_warning

if TYPE_CHECKING:
    from flows.corpus_run import CorpusRun


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
    from data_specs.amounts import plural
    from data_specs.load import SpecError
    from flows.commands import duplicates as asked
    from flows.commands import export_records
    from flows.corpus_run import CorpusRun

    given = (document, None if page else largest, None if page else near, matches, thresholds)
    if sum(each is not None and each is not False for each in given) > 1 or (page and (matches or thresholds)):
        raise SpecError(["duplicates: one of DOCUMENT, --largest, --near, --matches and --thresholds at a time"])
    if thresholds:
        found = asked.thresholds(spec, store, settings)
        return print_json(found) if as_json else asked.show_thresholds(found)
    current = CorpusRun.of(spec, store, settings)
    current.resolve()
    print_warning(asked.not_computed(current.pipeline))
    if page is not None:
        if document is not None:
            raise SpecError(["duplicates: a page is of the corpus, not of one DOCUMENT"])
        as_is = CorpusRun.of(spec, store)
        found = _write_page(current, as_is, page, largest or 5, near or current.spec.duplicates.threshold, pairs)
        return print_json(found) if as_json else click.echo(page)
    if matches is not None:
        count = asked.matches(current.pipeline, matches)
        export_records.note_file(
            current.store, matches, current.spec.name, "matches", current.pipeline.outputs["documents"]
        )
        found = {"matches": count, "to": matches}
        return print_json(found) if as_json else click.echo(f"{plural(count, 'match', 'matches')} in {matches}")
    if document is not None:
        cluster = asked.of(current.pipeline, document)
        return print_json(cluster) if as_json else asked.show_cluster(cluster)
    if largest is not None:
        clusters = asked.largest(current.pipeline, largest)
        return print_json({"clusters": clusters}) if as_json else asked.show_clusters(clusters)
    if near is not None:
        nearest, known_from = asked.near(current.pipeline, near, pairs), current.spec.duplicates.compared_from
        return print_json({"pairs": nearest}) if as_json else asked.show_pairs(nearest, near, known_from)
    counted = asked.summary(current.pipeline)
    return print_json(counted) if as_json else asked.show_summary(counted)


def _write_page(
    current: CorpusRun, as_is: CorpusRun, path: str, largest: int, similarity: float, pairs: int
) -> dict[str, Any]:
    """Write the page of a corpus's duplicates, and show it in Prefect; what stands on it. Other thresholds are asked of
    the corpus as it is without settings that the command is given."""
    from flows.commands import duplicates as asked
    from flows.commands import export_records
    from tasks.engine.versions import Versions

    found = {
        **asked.summary(current.pipeline),
        "largest": asked.largest(current.pipeline, largest),
        "pairs": asked.near(current.pipeline, similarity, pairs),
        "thresholds": None,
    }
    if current.spec.duplicates.keeps_pairs and Versions(current.store, current.spec.name).accepted is not None:
        found["thresholds"] = asked.left_by_thresholds(as_is, current.spec)
    with embedded.server():  # which starts meanwhile
        from flows import duplicates_page
    name = current.spec.name
    with embedded.answering():
        page = duplicates_page.page(name, found, found["largest"], found["pairs"], similarity, found["thresholds"])
        duplicates_page.publish(name, page, path)
    export_records.note_file(current.store, path, name, "page", current.pipeline.outputs["documents"])
    return found | {"page": path}
