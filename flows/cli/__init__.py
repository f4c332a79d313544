"""The command line. Every command but `learn`, `index` and `find` reads or runs one spec; `--json` prints one JSON
object as the last line of output.

Exit codes: 0; 1 failure; 2 bad spec or usage; 3 a gate stopped the run; 130 interrupted.
"""

from flows.cli import (  # noqa: F401 (each adds its command)
    blame,
    diff,
    duplicates,
    export,
    export_model,
    export_plan,
    find,
    funnel,
    gc,
    index,
    inspect,
    invalidate,
    learn,
    lineage,
    plan,
    query,
    rebase,
    rules,
    run,
    sample,
    takedown,
    tokenizers,
    versions,
    whatif,
)
from flows.cli.command import cli, main

__all__ = ["cli", "main"]
