"""`sluice versions`: what was made of a corpus when."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.cli.command import cli, of_spec, print_json, print_warning

if TYPE_CHECKING:
    from flows.run import Run


@cli.command()
@of_spec
def versions(current: Run, as_json: bool) -> None:
    """List the versions of SPEC's corpus: `sluice run` makes one where something changed. A refused one says why."""
    from flows import versions as shown
    from tasks.engine.versions import Versions

    found = shown.summaries(Versions(current.store, current.spec.name))
    if not found:
        print_warning(f"{current.spec.name} has no version in {current.store.url} yet; `sluice run` makes one")
    if as_json:
        print_json({"versions": found})
    elif found:
        shown.show(found)
