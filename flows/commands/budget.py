"""A budget of tokens in the place of thresholds: what each threshold of duplicates would leave, and which to choose.

Asked of the last accepted version's columns, as `sluice whatif` asks (flows/commands/whatif.py), so no text is read and
nothing is written, but the pin of a budget that says `apply`. Tokens are `token_estimate`. Duplicates come before
quality: of the thresholds that leave enough the lowest is chosen, which removes most, and then the strictest percentile
of the rule that still leaves enough: the highest where it drops what is below, the lowest where it drops what is above.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Mapping
from typing import Any

from data_specs.amounts import digits, plural
from data_specs.spec import Spec
from flows import chosen_thresholds
from flows.commands import whatif
from flows.corpus_run import CorpusRun
from flows.terminal import cell, console, line, percent, rounded, table
from tasks import registry
from tasks.dedup import minhash
from tasks.engine.runner import StageResult
from tasks.engine.stage import digest
from tasks.engine.versions import Versions

THRESHOLDS = tuple(percent / 100 for percent in range(50, 100, 5))
PERCENTILES = (0.1, *range(5, 100, 5))
"""Of a rule that drops what is below one; of the other kind what they lack to 100."""

Progress = Callable[[int, int], None]


def table_of(as_is: CorpusRun, spec: Spec, progress: Progress = lambda *_: None) -> list[dict[str, Any]]:
    """[{"threshold", "recall", "documents", "tokens", "channels": {name: [documents, tokens]}}] of each threshold from
    the floor on, the spec's own among them; `recall` is the share of the pairs right at it that are found. Raises
    SpecError and StageError."""
    duplicates = spec.duplicates
    bands, rows = minhash.bands_and_rows(duplicates.compared_from, duplicates.hashes)
    known = [each for each in sorted({*THRESHOLDS, duplicates.threshold}) if each >= duplicates.compared_from]
    asked = [each for each in (with_threshold(spec, threshold) for threshold in known) if each.duplicates.keeps_pairs]
    found = []
    for number, each in enumerate(asked):
        progress(number, len(asked))
        threshold = each.duplicates.threshold
        recall = minhash.found_share(threshold, bands, rows)
        found.append({"threshold": threshold, "recall": recall, **left(as_is, each)})
    progress(len(asked), len(asked))
    return found


def left(as_is: CorpusRun, spec: Spec) -> dict[str, Any]:
    """What another spec would leave: {"documents", "tokens", "channels"}."""
    kept = whatif.judged(as_is, spec, 0)["kept"]
    documents, tokens = (sum(row[place] for row in kept["source"].values()) for place in (1, 3))
    channels = {name: [row[1], row[3]] for name, row in kept["channel"].items()}
    return {"documents": documents, "tokens": tokens, "channels": channels}


def of_channels(as_is: CorpusRun, spec: Spec) -> dict[str, dict[str, Any]]:
    """Channel -> {"tokens": [of the version, left], "epochs": how often the mixture would read what another spec leaves
    (null where that is not known), "cap": how often it may, "short": whether that is more often than it may, or
    nothing is left to read}: a budget is of all channels together, and one of them may starve."""
    answer = whatif.judged(as_is, spec, 0)
    weights = registry.weights(spec)
    found = {}
    for name, (_, epochs) in answer["epochs"].items():
        tokens = answer["kept"]["channel"].get(name, [0, 0, 0, 0])[2:]
        read = not spec.mixture.phases or weights.get(name)
        cap = answer["cap"][name]
        short = bool(epochs is not None and epochs > cap) or bool(read and tokens[0] and not tokens[1])
        found[name] = {"tokens": tokens, "epochs": epochs, "cap": cap, "short": short}
    return found


def choice(as_is: CorpusRun, spec: Spec) -> dict[str, Any]:
    """{"tokens": the budget, "rows": the table, "threshold", "percentile": null without a rule, "left": tokens,
    "enough", "settings": what to set, "channels": what that leaves of each} of a spec with a budget."""
    budget = spec.budget
    assert budget is not None  # who asks has looked
    rows = table_of(as_is, spec)
    chosen = next((row for row in rows if row["tokens"] >= budget.tokens), rows[-1])
    settings, percentile, tokens = [f"stages.duplicates.threshold={chosen['threshold']!r}"], None, chosen["tokens"]
    fixed = with_threshold(spec, chosen["threshold"])
    if budget.rule is not None:
        known = dict[float, int]()

        def left_by(percentile: float) -> int:
            if percentile not in known:
                known[percentile] = left(as_is, with_percentile(fixed, budget.rule or "", percentile))["tokens"]
            return known[percentile]

        drops_low = left_by(PERCENTILES[0]) >= left_by(PERCENTILES[-1])
        gentle_first = PERCENTILES if drops_low else tuple(100 - each for each in PERCENTILES)
        enough = bisect_left(gentle_first, True, key=lambda each: left_by(each) < budget.tokens)
        percentile = gentle_first[max(0, enough - 1)]
        tokens = left_by(percentile)
        fixed = with_percentile(fixed, budget.rule, percentile)
        [rule] = [each for each in fixed.rules if each.name == budget.rule]
        settings.append(f"rules.{budget.rule}={rule.drop}")
    return {
        "tokens": budget.tokens,
        "rows": rows,
        "threshold": chosen["threshold"],
        "percentile": percentile,
        "left": tokens,
        "enough": tokens >= budget.tokens,
        "settings": settings,
        "channels": of_channels(as_is, fixed),
    }


def choose(run: CorpusRun) -> StageResult:
    """Choose thresholds by a run's budget, of the last accepted version, and pin them. Raises SpecError, and StageError
    where what they would leave is not known."""
    started = time.perf_counter()
    found = choice(run, run.spec)
    facts = Versions(run.store, run.spec.name).accepted
    about = {name: found[name] for name in ("tokens", "left", "enough")}
    pin = {"value": found["settings"], **about, "version": facts["version"] if facts else None, "run": run.name}
    run.pipeline.pins.set(chosen_thresholds.PIN, pin)
    only = "" if found["enough"] else "only "
    note = f"{only}{plural(found['left'], 'token is', 'tokens are')} left by {', '.join(found['settings'])}"
    note = "; ".join([note, *short(found["channels"])])
    seconds = round(time.perf_counter() - started, 3)
    result = StageResult("budget", digest(found["settings"])[:16], "computed", 0, 0, seconds, note)
    run.execution.results.append(result)
    return result


def short(channels: Mapping[str, dict[str, Any]]) -> list[str]:
    """What to know of channels of which too little is left."""
    found = []
    for name, each in channels.items():
        if each["short"] and each["epochs"] is None:
            found.append(f"{name} starves: nothing is left of its {plural(each['tokens'][0], 'token')}")
        elif each["short"]:
            read = f"the mixture reads {digits(each['epochs'], 3, each['cap'])} times, of at most {each['cap']:g}"
            found.append(f"{name} starves: {plural(each['tokens'][1], 'token is', 'tokens are')} left, which {read}")
    return found


def with_threshold(spec: Spec, threshold: float) -> Spec:
    """The spec with another threshold of duplicates."""
    duplicates = spec.duplicates.model_copy(update={"threshold": threshold})
    return spec.model_copy(update={"stages": spec.stages | {"duplicates": duplicates}})


def with_percentile(spec: Spec, name: str, percentile: float) -> Spec:
    """The spec with another percentile in one of its rules."""
    rules = [
        each.model_copy(update={"drop": chosen_thresholds.with_percentile(each.drop, percentile)})
        if each.name == name
        else each
        for each in spec.rules
    ]
    return spec.model_copy(update={"rules": tuple(rules)})


def show_rows(rows: list[dict[str, Any]], threshold: float) -> None:
    """Print what each threshold would leave, of all documents, and of each channel's tokens."""
    names = [f"{row['threshold']:g}{' *' if row['threshold'] == threshold else ''}" for row in rows]
    grid = table("threshold", "found", "documents", "tokens", title="What a threshold would leave")
    for name, row in zip(names, rows, strict=True):
        grid.add_row(name, percent(row["recall"]), cell(row["documents"]), cell(row["tokens"]))
    console().print(grid)
    console().print(
        "found: the share of the pairs right at a threshold that the bands find; * the spec's threshold", soft_wrap=True
    )
    grid = table("channel", *names, title="Tokens that it would leave of channels (documents by --json)")
    for channel in dict.fromkeys(channel for row in rows for channel in row["channels"]):
        grid.add_row(line(channel), *(rounded(row["channels"].get(channel, [0, 0])[1]) for row in rows))
    console().print(grid)


def show(found: dict[str, Any], threshold: float) -> None:
    """Print the table, and the choice."""
    show_rows(found["rows"], threshold)
    leaves = ("" if found["enough"] else "only ") + plural(found["left"], "token is", "tokens are")
    console().print(f"Budget of {plural(found['tokens'], 'token')}: {leaves} left by", soft_wrap=True)
    for each in found["settings"]:
        console().print(f"  --set {each!r}", soft_wrap=True, markup=False)
    grid = table("channel", "tokens", "left", "epochs", "of at most", title="What that leaves of channels")
    for name, each in found["channels"].items():
        grid.add_row(line(name), *map(cell, each["tokens"]), cell(each["epochs"]), cell(each["cap"]))
    console().print(grid)
    for each in short(found["channels"]):
        console().print(each, soft_wrap=True, markup=False)
    if pin := found["pinned"]:
        what = f"{', '.join(pin['value'])}, for {plural(pin['tokens'], 'token')}, of version {pin['version']}"
        console().print(f"pinned: {what}; --retrain budget chooses anew", soft_wrap=True, markup=False)
    elif found["apply"]:
        console().print("the next run that makes a version chooses and pins them", soft_wrap=True)
