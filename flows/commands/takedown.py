"""`sluice takedown`: documents leave the corpus, and every file of the store that holds them.

First what goes is found, and nothing is changed: documents of every lineage by address, domain or id, of this one by
an expression, too, and those that are in their clusters of duplicates; and what was made with them: trainings with
their checkpoints, exports, pins, versions. Then the takedown is committed, which readers know from then on, and then
the store is purged. One that was stopped goes on by the same command; it ends as if it had not been.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from data_specs.load import SpecError
from flows import record
from flows.commands import export_records, lineage
from flows.commands.takedown_request import Asked
from flows.commands.takedown_search import Found, Progress, find, newest_corpus, tokens_of, unknown_tokens
from flows.run import Run
from tasks.engine import purge, worker
from tasks.engine.job import inputs
from tasks.engine.pipeline import Pipeline
from tasks.engine.reading import refused_path
from tasks.engine.stage import Estimator
from tasks.engine.takedowns import Takedown, Takedowns, ids_of
from tasks.engine.versions import Versions
from tasks.planning.files import purge_plan
from tasks.storage import columns
from tasks.storage.pinned_texts import SUFFIX, without_texts
from tasks.storage.pins import Pins, forget_copy, learned_digest
from tasks.storage.store import Store, StoreError
from training import checkpoint, start

# -- what was made with them -------------------------------------------------------------------------------------------


def named(run: Run, found: Found) -> dict[str, Any]:
    """What was learned from documents that go, holds them or shows them: "trainings", "exports", "pins" and
    "other_pins", "versions"; "unsought": shards among whose documents no near-copies could be sought; "unknown_tokens":
    token files, by plan, of which it cannot be told whether they hold some."""
    store = run.store
    read = {path: rows for path, rows in tokens_of(run, found).items() if rows}
    lineages = {name: Versions(store, name) for name in store.folders("versions")}
    versions = {name: [*each.naming(found.documents_paths)] for name, each in lineages.items()}
    trainings = _with_descendants(run, read, {name: _training(run, name, read) for name in _trainings(store)})
    return {
        "trainings": trainings,
        "exports": export_records.holding(store, versions, found.documents_paths, read.keys(), trainings),
        "pins": _pins(run, found),
        "other_pins": _other_pins(run, found),
        "versions": {name: numbers for name, numbers in versions.items() if numbers},
        "unsought": found.unsought,
        "unknown_tokens": unknown_tokens(store),
    }


def _trainings(store: Store) -> list[str]:
    """Every folder of a training, also of one of which nothing says what it was begun with."""
    return [name for name in store.folders("runs") if name != "records"]


def _training(run: Run, name: str, read: Mapping[str, Sequence[int]]) -> dict[str, Any] | None:
    """How a training used documents; None where it did not. Of one that cannot be looked into, that it may have."""
    try:
        used = lineage.use(run, name, read)
    except (StoreError, ValueError, RuntimeError) as error:
        return {"run": name, "unknown": str(error), "checkpoints": _checkpoints(run.store, name)}
    steps = [each["step"] for each in used["steps"]]
    if not steps:
        return {"run": name, "steps": 0, "checkpoints": [], "evaluated": True} if used["held_out"] else None
    seen = sorted(step for step in checkpoint.steps(run.store, name) if step >= steps[0])
    return {
        "run": name,
        "steps": len(steps),
        "first_step": steps[0],
        "tokens": used["tokens"],
        "checkpoints": [checkpoint.path_of(name, step) for step in seen],
        **_given_out(run.store, name),
        "evaluated": used["held_out"],
    }


def _checkpoints(store: Store, name: str) -> list[str]:
    """All of a training's, by their paths."""
    return [checkpoint.path_of(name, step) for step in sorted(checkpoint.steps(store, name))]


def _given_out(store: Store, name: str) -> dict[str, str | None]:
    """Where the model of a training lies, beside its checkpoints: in the store, and where its spec had it uploaded."""
    summary = f"runs/{name}/summary.json"
    made = store.json(summary).get("exported_with", {}) if store.exists(summary) else {}
    return {
        "exported": f"runs/{name}/export" if store.list(f"runs/{name}/export") else None,
        "uploaded": f"{made['upload'].rstrip('/')}/{name}" if made.get("upload") else None,
    }


def _with_descendants(
    run: Run, read: Mapping[str, Sequence[int]], used: Mapping[str, dict[str, Any] | None]
) -> list[dict[str, Any]]:
    """What trainings have of documents, and those, with all their checkpoints, that began with a checkpoint of one that
    had read them."""
    store, found = run.store, list[dict[str, Any]]()
    for name, own in used.items():
        child = name
        for before, step in start.ancestors(store, name):
            why = _had(run, child, before, step, read, (used.get(before) or {}).get("unknown"))
            if why is not None:
                own = {"run": name, "steps": 0, "evaluated": False, **(own or {}), "began_with": f"{before}@{step}"}
                own |= {"unknown": why} if why else {}
                own["checkpoints"] = _checkpoints(store, name)
                own |= _given_out(store, name)
                break
            child = before
        found += [own] if own else []
    return found


def _had(
    run: Run, child: str, before: str, step: int, read: Mapping[str, Sequence[int]], unknown: str | None
) -> str | None:
    """ "" where the weights that a training began with had read documents, why where that is not known, None where they
    had not."""
    if unknown is not None:
        return unknown
    try:
        return "" if lineage.was_read(run, child, before, step, read) else None
    except (StoreError, ValueError, RuntimeError) as error:
        return str(error)


def _pins(run: Run, found: Found) -> dict[str, int | None]:
    """What is pinned -> how many of the documents it was learned from, by the settings of now; None where the columns
    that would tell are not computed. What came after the run that learned it is not counted."""
    pipeline = newest_corpus(run)
    result: dict[str, int | None] = {}
    seen: dict[str, set[bytes] | None] = {}
    if not isinstance(pipeline, Pipeline):
        return {name: None for name, pins in run.pipeline.pins.history.items() if "path" in pins[-1] and found.rows}
    for node in pipeline.nodes:
        learned = node.stage
        pin = pipeline.pins.get(learned.label) if isinstance(learned, Estimator) else None
        if not isinstance(learned, Estimator) or pin is None:
            continue
        if (learner := pin["run"]) not in seen:
            seen[learner] = _seen(pipeline, found, learner)
        names = pipeline.columns_read(learned, learned.inputs)
        ready = dict(pipeline.files(names)) if _computed(pipeline, names) else {}
        count, missing = 0, False
        for place, path in enumerate(map(pipeline.outputs["documents"].path, range(len(pipeline.shards)))):
            rows = _of_these(pipeline.store, path, found.rows.get(path, []), seen[learner])
            if not rows:
                continue
            if place not in ready:
                missing = True
                continue
            job = pipeline.job(learned, "sample", "", "", place, learned.inputs)
            table = inputs(job, pipeline.store)
            count += documents_of(learned, table.take(pa.array(rows)))
        if count or missing:
            result[learned.label] = None if missing else count
    return result


def _other_pins(run: Run, found: Found) -> list[dict[str, Any]]:
    """What was learned beside the newest pins of this lineage, by earlier runs of it and in other lineages, and is in
    the store: "lineage", "pin", "path", and whether the run that learned it "had" documents that go, by the version
    that it made (true; null where it made none). Which of them it learned from is not looked into."""
    result: list[dict[str, Any]] = []
    for name in Pins.lineages(run.store) if found.rows else ():
        history = Pins(run.store, name).history
        versions = Versions(run.store, name)
        had = {
            facts["run"]: not found.documents_paths.isdisjoint(versions.files(facts, "documents"))
            for facts in versions.all()
        }
        pinned_by_spec = {pins[-1].get("path") for pins in history.values()} if name == run.spec.name else set[str]()
        for pin, learned in history.items():
            files = {each["path"]: had.get(each.get("run", "")) for each in learned if "path" in each}
            result += [
                {"lineage": name, "pin": pin, "path": path, "had": known}
                for path, known in files.items()
                if path not in pinned_by_spec
                and known is not False
                and not path.endswith(SUFFIX)
                and run.store.exists(path)
            ]
    return result


def documents_of(learned: Estimator, table: pa.Table) -> int:
    """How many documents are learned from, of rows of what is read for it: a sample may have several rows of one."""
    return len(pc.unique(worker.sampled(learned, table)["id"]))


def _seen(pipeline: Pipeline, found: Found, learner: str) -> set[bytes] | None:
    """Ids of the documents that go which a run had when it learned, by the version that it made; None where it made
    none, or the store no longer has all documents of that version."""
    versions = Versions(pipeline.store, pipeline.spec.name)
    made = next((facts for facts in versions.all() if facts["run"] == learner), None)
    if made is None:
        return None
    had = {path for path in versions.files(made, "documents") if not path.endswith(refused_path(""))}
    now = {*map(pipeline.outputs["documents"].path, range(len(pipeline.shards)))}
    if not all(map(pipeline.store.exists, had - now)):
        return None
    return {each for path in had & found.rows.keys() for each in _ids(pipeline.store, path, found.rows[path])}


def _ids(store: Store, path: str, rows: Sequence[int]) -> list[bytes]:
    return columns.read(store, path, ["id"])["id"].take(pa.array(rows)).to_pylist()


def _of_these(store: Store, path: str, rows: list[int], ids: set[bytes] | None) -> list[int]:
    """Those of some rows of a file of documents that have one of these ids; all of them without ids."""
    if ids is None or not rows:
        return rows
    return [row for row, each in zip(rows, _ids(store, path, rows), strict=True) if each in ids]


def _computed(pipeline: Pipeline, names: Sequence[str]) -> bool:
    return all(pipeline.provider.get(name) in pipeline.outputs for name in names)


# -- doing it ----------------------------------------------------------------------------------------------------------


def _facts(run: Run, asked: Asked, found: Found) -> Takedown:
    """What is committed of a takedown."""
    return {
        "spec": run.spec.name,
        "asked": asked.json(),
        "ids": sorted(found.documents.keys() - found.standing),
        "payloads": found.payloads,
        "urls": sorted({each["url"] for each in found.documents.values() if each["url"]}),
        "texts": [] if asked.only else sorted(found.texts),
        "words": [] if asked.only else sorted(found.words),
        "documents": found.rows,
        "shards": found.shards,
        "tokens": tokens_of(run, found),
        "named": named(run, found),
    }


def finish(store: Store, takedown: Takedown) -> None:
    """Purge the store of what a takedown names, wherever that stands, and end it."""
    number, shards = takedown["takedown"], takedown["shards"]
    purge.documents(store, takedown["documents"])
    files = purge.tokens(store, shards, takedown.get("tokens", {}))
    for name in store.folders("plans"):
        if store.exists(f"plans/{name}/plan.json"):
            purge_plan(store, f"plans/{name}", number, files)
    _pinned_texts(store, takedown)
    purge.answers(store, ids_of(takedown))
    purge.derived(store, shards)
    for name, versions in takedown["named"]["versions"].items():
        for version in versions:
            Versions(store, name).purge(version, number)
    export_records.remove_inside(store, takedown["named"]["exports"])
    record.forget_documents(store)
    Takedowns(store).end(takedown)


def _pinned_texts(store: Store, takedown: Takedown) -> None:
    """Take texts out of what is pinned of them: held-out documents, and texts that were made of documents. The newest
    of each lineage is pinned again without them, and nothing that was learned before moves; older ones go, with the
    copies that this machine has of those of an object store. A held-out document may have been read by another name of
    its source, and be in the table alone by now: it is known by its payload, unless copies stay."""
    ids, current = ids_of(takedown), set()
    known = takedown.get("payloads", {}) if not takedown["asked"]["only"] else {}
    payloads = {each for found in known.values() for each in found if each}
    for lineage_name in Pins.lineages(store):
        pins = Pins(store, lineage_name)
        for name, history in pins.history.items():
            pin = history[-1]
            if not pin.get("path", "").endswith(SUFFIX):
                continue
            data = without_texts(store.read(pin["path"]), ids, payloads)
            if data is not None:
                digest = hashlib.sha256(data).hexdigest()
                path = f"{pin['path'].rpartition('/')[0]}/{digest[:32]}{SUFFIX}"
                pin = pin | {"path": path, "sha256": digest, "was": learned_digest(pin)}
                store.commit(path, data)
                pins.set(name, pin | {"run": f"takedown {takedown['takedown']}"})
            current.add(pin["path"])
            for old in history:
                if old["sha256"] != pin["sha256"]:
                    forget_copy(old["path"], old["sha256"])
    for folder in (f"models/{name}" for name in store.folders("models")):
        for path in (f"{folder}/{name}" for name in store.list(folder) if name.endswith(SUFFIX)):
            if path not in current and without_texts(store.read(path), ids, payloads) is not None:
                store.remove(path)


# -- the command -------------------------------------------------------------------------------------------------------


def take_down(run: Run, wanted: Asked | None, yes: bool, progress: Progress = lambda *_: None) -> dict[str, Any]:
    """What is asked for, said or, with `yes`, done; first a takedown that was stopped is gone on with. Raises SpecError
    where there is nothing to do."""
    takedowns = run.takedowns
    pending = takedowns.pending
    if pending and not yes:
        takedowns.settled()
    if pending:
        finish(run.store, pending)
        if wanted is None or wanted.known(takedowns):
            return _answer(pending, "ended")
        run = run.reloaded()
    if wanted is None and not run.takedowns:
        raise SpecError(["takedown: name what goes: --url, --domain, --id, --list or --where"])
    wanted = wanted or Asked()  # what the store has of earlier takedowns, such as by earlier versions, goes
    found = find(run, wanted, progress)
    if not found.documents and wanted.known(run.takedowns):
        return _answer(_facts(run, wanted, found) | {"takedown": None, "time": None}, "known")
    unmet = wanted.unmet(run.takedowns, found.documents)
    if not yes:
        return _answer(_facts(run, wanted, found) | {"takedown": None, "time": None}, "found", found, unmet)
    begun = Takedowns(run.store).begin(_facts(run, wanted, found))
    finish(run.store, begun)
    return _answer(begun, "ended", found, unmet)


def _answer(facts: Takedown, state: str, found: Found | None = None, unmet: Sequence[str] = ()) -> dict[str, Any]:
    """What is said: "state" is found (nothing was changed), ended, or known (all of it was taken down before); "unmet"
    is what was asked for and names no document, of those taken down before neither."""
    named = ("takedown", "time", "asked", "named")
    answer = {
        "state": state,
        **{name: facts[name] for name in named},
        "count": len(found.documents if found else facts["ids"]),
        "unmet": [*unmet],
    }
    documents = found.documents if found else {each: {} for each in facts["ids"]}
    return answer | {"documents": [{"id": name, **about} for name, about in sorted(documents.items())]}
