"""What a training begins with in the place of weights drawn from the seed (`training.start`): those of a folder as
transformers writes it, or of a checkpoint of another run, whose optimizer's state may come along.

A vocabulary may have grown. A row of embeddings that the weights lack is the mean of the rows of the tokens that their
own tokenizer makes of the new one; of a token that it makes nothing of, as a mask, the mean of all (Hewitt 2021).

What a folder or a checkpoint held is noted in the training's `run.json`, as either may hold something else later."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer as Encoder

from data_specs.spec import Spec
from data_specs.training import Start
from tasks.planning.files import read_plan
from tasks.planning.objectives import numbers
from tasks.sources.digests import remembered
from tasks.storage.checksums import checksum
from tasks.storage.pins import Pins, fetched
from tasks.storage.store import DamagedError, DeniedError, Store
from tasks.tokenization.tokenizer import Loaded
from training import checkpoint, log, weights
from training.checkpoint import Checkpoint, CheckpointError, Reader
from training.rows import Plan
from training.weights import Arrays

Read = Callable[[str, int, int], dict[str, np.ndarray]]
_WEIGHTS = re.compile(r"config\.json|.+\.(safetensors|bin)(\.index\.json)?")
"""The files of a folder that make a model's weights."""


def contents(store: Store, start: Start) -> dict[str, str]:
    """What there is to begin with: file -> digest of its content. Empty where there is nothing (any more)."""
    if start.folder:
        root = Path(start.folder).resolve()
        with remembered(f"{root}/") as digests:
            found = sorted(path for path in root.glob("*") if _WEIGHTS.fullmatch(path.name))
            return {path.name: digests.of(path.name, str(path))[1] for path in found}
    run, step = start.of_run
    path = f"{checkpoint.folder(run)}/{step:08d}.json"
    return {path: checksum(store.read(path))} if store.exists(path) else {}


def noted(store: Store, run: str) -> tuple[Start | None, dict[str, str]]:
    """What a training began with in the place of weights drawn from its seed, and what that held; nothing where that is
    not known: a killed run did not note it, or an earlier version, or it is another user's or damaged."""
    try:
        record = store.json(f"runs/{run}/run.json")
    except (FileNotFoundError, DeniedError, DamagedError):
        return None, {}
    settings = record["spec"]["training"].get("start")
    return Start.model_validate(settings) if settings else None, record.get("start", {})


def ancestors(store: Store, run: str) -> Iterator[tuple[str, int]]:
    """Which checkpoint of another training one began with (run, step), which that one began with, and so on: what they
    were trained on is in its weights, too. Of a folder that a training of this store was exported to, its last step."""
    before = {run}
    while (start := noted(store, run)[0]) and (of := _training_of(store, start)) and of[0] not in before:
        yield of
        run = of[0]
        before.add(run)


def trained_on(store: Store, child: str, run: str, step: int) -> list[log.Record]:
    """The steps of a run whose checkpoint of a step another training began with (`child`), as that checkpoint had them:
    the run may have gone back since, and taken others. Raises CheckpointError where some have no record."""
    began = next((record["time"] for record in log.records(store, child)), math.inf)
    before = [record for record in log.records(store, run) if record["time"] <= began]
    kept = [n for n, record in enumerate(before, 1) if (record["kind"], record["step"]) == ("checkpoint", step)]
    steps = [r for r in log.surviving(before[: max(kept, default=None)]) if r["kind"] == "step" and r["step"] <= step]
    whole = kept or step in checkpoint.steps(store, run)  # else nothing tells that there were more than are recorded
    until = step if whole else max((record["step"] for record in steps), default=0)
    if lost := log.missing((record["step"] for record in steps), until):
        raise CheckpointError(log.lacking(run, lost))
    return steps


def _training_of(store: Store, start: Start) -> tuple[str, int] | None:
    if start.run:
        return start.of_run
    root = store.local("runs")
    folder = Path(str(start.folder)).resolve()
    if root is None or not folder.is_relative_to(root.resolve()) or folder == root.resolve():
        return None
    name = folder.relative_to(root.resolve()).parts[0]
    return name, max((record["step"] for record in log.read(store, name)), default=0)


def other_tokens(store: Store, start: Start, loaded: Loaded, plan: Plan) -> str:
    """What to say where the weights' tokens have other numbers in this training, whose rows of embeddings would then
    stand for other tokens; "" where none has, or they are not known."""
    encoder, own_of_theirs = _theirs(store, start)
    theirs = encoder.get_vocab(with_added_tokens=True) | own_of_theirs if encoder else {}
    now = loaded.encoder.get_vocab(with_added_tokens=True) | numbers(plan.special, plan.vocabulary)
    moved = [
        (number, token)
        for token, number in theirs.items()
        if number < plan.vocabulary and now.get(token, number if number >= loaded.size else None) != number
    ]
    if not moved:
        return ""
    what, own = f"runs/{start.of_run[0]}", "its tokenizer"
    if start.folder:
        what, own = start.folder, f"tokenizer: {{kind: file, path: {start.folder}/tokenizer.json}}"
    number, token = min(moved)
    return (
        f"training.start: {what} was trained with other tokens: {len(moved):,} have other numbers here, the first is "
        f"{number}, {token!r}; train with {own}, or one that adds entries behind those"
    )


def _theirs(store: Store, start: Start) -> tuple[Encoder | None, dict[str, int]]:
    """The tokenizer that the weights were trained with, and what their objectives added to it; None where a folder has
    none, or that of a run is not pinned any more."""
    if start.folder:
        path = Path(start.folder) / "tokenizer.json"
        return (Encoder.from_file(str(path)) if path.is_file() else None), {}
    try:
        record = store.json(f"runs/{start.of_run[0]}/run.json")
        plan = read_plan(store, record["plan"])
        named = {path.split("/")[1].partition("@")[0] for path in plan["files"]}
        for pin in reversed(Pins(store, record["spec"]["name"]).history.get("tokenizer", ())):
            if named == {pin["sha256"][:8]}:
                file = fetched(store, pin["path"], pin["sha256"])
                return Encoder.from_file(str(file)), numbers(plan.get("special", ()), plan["vocabulary"])
    except (FileNotFoundError, DeniedError, DamagedError):
        pass
    return None, {}


def pieces(store: Store, start: Start, loaded: Loaded) -> dict[int, list[int]]:
    """Entry of a tokenizer that the weights' own lacks -> the entries that this one makes of it. Not of special
    tokens."""
    theirs, _ = _theirs(store, start)
    if theirs is None:
        return {}
    known, special = theirs.get_vocab(with_added_tokens=True), loaded.encoder.get_added_tokens_decoder()
    added = {token: number for token, number in loaded.encoder.get_vocab().items() if token not in known}
    found = {n: [piece.id for piece in theirs.model.tokenize(t)] for t, n in added.items() if n not in special}
    return {number: made_of for number, made_of in found.items() if made_of}


def is_known(store: Store, run: str) -> bool:
    """Whether the weights that a training began with can be told from others: those drawn from its seed, and those
    whose content was noted."""
    start, before = noted(store, run)
    return not start or bool(before)


def other(store: Store, run: str) -> str:
    """What to say where the weights that a training began with are others now; "" where they are the same, gone, or not
    noted."""
    start, before = noted(store, run)
    if not start or not before:
        return ""
    now = contents(store, start)
    changed = [name for name in sorted(before.keys() | now.keys()) if before.get(name) != now.get(name)]
    if not now or not changed:
        return ""
    where = f"{start.folder}/{changed[0]}" if start.folder else changed[0]
    return (
        f"runs/{run} began with other weights than training.start has now: {where} has changed; bring it back, give "
        f"the new weights another name, or remove runs/{run} to train from them"
    )


def reader(
    store: Store, spec: Spec, start: Start, shapes: dict[str, tuple[int, ...]], loaded: Loaded | None = None
) -> tuple[Read, int]:
    """(parameter, start in it, elements) -> its weight, with `state` what the optimizer keeps of it, float32, as
    `engine.restore` takes them; and after how many updates. `shapes`: of the model's parameters; `loaded`: the
    training's tokenizer, by which rows that the weights lack are known. Raises CheckpointError where the weights are
    another model's."""
    if start.folder:
        has, steps, what = weights.of_folder(spec, start.folder), 0, start.folder
    else:
        run, step = start.of_run
        found = checkpoint.verified(store, run, step)
        weights.same_function(spec, weights.config_of_run(store, run, found.checkpoint), f"runs/{run} at step {step}")
        has = _of_run(found, start.state)
        what, steps = f"runs/{run} at step {step}", updates(found.checkpoint) if start.state else 0
    if wrong := sorted(shapes.keys() ^ has.keys()):
        raise CheckpointError(
            f"training.start: {what} is of another architecture than `model`: {wrong[0]} is of one alone"
        )
    for name, shape in shapes.items():
        size, row = has[name]["weight"].size, int(np.prod(shape[1:]))
        grown = size < np.prod(shape) and size % row == 0 and _of_vocabulary(name)
        if size != np.prod(shape) and not grown:
            raise CheckpointError(
                f"training.start: {what} has {size:,} elements of {name}, `model` {shape}: give its sizes"
            )

    made_of = pieces(store, start, loaded) if loaded else {}

    def read(name: str, first: int, count: int) -> dict[str, np.ndarray]:
        whole = {kind: _grown(each, shapes[name], made_of) for kind, each in has[name].items()}
        return {kind: each.ravel()[first : first + count] for kind, each in whole.items()}

    return read, steps


def updates(found: Checkpoint, start: Start | None = None) -> int:
    """How often the optimizer had moved the weights of a checkpoint, by which AdamW corrects its means; of one by an
    earlier version its steps, and those of what its training began with."""
    if found.updates is not None:
        return found.updates
    return found.cursor.step + (start.of_run[1] if start and start.state else 0)


def _of_run(found: Reader, state: bool) -> Arrays:
    """The weights of a checkpoint, or all that it has of them; what it has no average of, the weights are the average
    of."""
    sizes = {name: max(at + len(part["weight"]) for at, part in parts) for name, parts in found.parts.items()}
    whole = {name: found.read(name, 0, size) for name, size in sizes.items()}
    if state:
        return {name: {"average": arrays["weight"], **arrays} for name, arrays in whole.items()}
    return {name: {"weight": arrays["weight"]} for name, arrays in whole.items()}


def _of_vocabulary(name: str) -> bool:
    """Whether a parameter has a row for each token; one for each position, as a BERT's, is another matter."""
    return "position" not in name and any(
        part in name for part in ("embed", "shared", "lm_head", "lm_loss", "decoder.weight", "predictions.bias")
    )


def _grown(array: np.ndarray, shape: tuple[int, ...], pieces: dict[int, list[int]]) -> np.ndarray:
    """The array in a shape, where it lacks rows with the mean of those of their pieces, or of all."""
    rows = array.reshape(-1, *shape[1:])
    if len(rows) == shape[0]:
        return rows
    mean, made_of = rows.mean(0), (pieces.get(number, []) for number in range(len(rows), shape[0]))
    more = [rows[each].mean(0) if each and max(each) < len(rows) else mean for each in made_of]
    return np.concatenate([rows, more])
