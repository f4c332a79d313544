"""The corpus as a version names it: that of a pipeline as it stands, and that of a version for those who read it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from tasks.engine.corpus import Corpus
from tasks.engine.outputs import Output
from tasks.engine.pipeline import Pipeline
from tasks.engine.reading import RAW_LANGUAGE
from tasks.engine.stage import digest
from tasks.engine.versions import COUNTS, SHARDS, Facts, Versions, shard_of
from tasks.storage.manifest import MISSING, QUARANTINED, Index, Manifest

Name = tuple[str, str, str]
"""What a shard is known by from version to version: source, name, digest of its input."""


@dataclass
class Present:
    """The corpus of a pipeline as a version would name it."""

    generations: list[Facts]
    """Of each: "names" (digest of its list of shards), "shards", "rows", "keys" (stage -> digest of its outputs' keys),
    "values" (stage -> digest of their columns' values)."""
    places: list[list[int]]
    """Of each generation the shards, as the pipeline numbers them."""
    stages: dict[str, Facts]
    digest: str
    """Of shards, outputs and pins: what has the same one is the same corpus."""
    new: bool
    """Whether the last generation came since the version before."""
    left: int
    """Shards of the version before that are not in it: their source was taken out, or their files changed."""


def present(pipeline: Pipeline, versions: Versions) -> Present:
    """The corpus as it stands: shards of the last accepted version in their generations, what came since in a new one;
    all in one in a rebase. Lists of shards and keys are written where they are new."""
    base = None if pipeline.rebasing else versions.accepted
    place_of: dict[Name, int] = {
        (shard.source, shard.name, shard.digest): place for place, shard in enumerate(pipeline.shards)
    }
    places: list[list[int]] = []
    left = 0
    for generation in base["generations"] if base else ():
        names = versions.shards(generation["names"]).select(["source", "name", "digest"])
        numbers = [
            place_of.pop(name, None) for name in zip(*(names[n].to_pylist() for n in names.column_names), strict=True)
        ]
        places.append([place for place in numbers if place is not None])
        left += len(numbers) - len(places[-1])
    new = sorted(place_of.values())
    places = [each for each in [*places, new] if each]
    stages = _stages(pipeline)
    generations = []
    for each in places:
        table = _list(pipeline, each)
        keys = {name: _keys(pipeline.outputs[name], each) for name in stages}
        rows = int(pipeline.outputs["documents"].index.rows[each].sum())
        named = {name: versions.put_keys(found) for name, found in keys.items()}
        values = {
            name: _values(pipeline.outputs[name].index, made["columns"].values(), each) for name, made in stages.items()
        }
        names = versions.put_shards(table)
        generations.append({"names": names, "shards": len(each), "rows": rows, "keys": named, "values": values})
    pins = {name: history[-1].get("sha256") for name, history in sorted(pipeline.pins.history.items())}
    made = {name: [found["folder"], found["columns"]] for name, found in stages.items()}
    whole = digest([[[each["names"], each["keys"]] for each in generations], pins, made])
    return Present(generations, places, stages, whole, bool(new) and not pipeline.rebasing, left)


def _keys(output: Output, places: Sequence[int]) -> list[str | None]:
    """Keys of what is there."""
    done = output.index.done
    return [output.index.keys[place] if done[place] else None for place in places]


def _values(index: Index, names: Iterable[str], places: Sequence[int]) -> str:
    """The digest of the values of some columns of some shards, as manifests have them."""
    state = hashlib.blake2b(digest_size=16)
    for name in names:
        state.update(np.where(index.done[places, None], index.digests[name][places], np.uint8(0)).tobytes())
    return state.hexdigest()


def _list(pipeline: Pipeline, places: Sequence[int]) -> pa.Table:
    folders = pipeline.outputs["documents"].folders
    rows = []
    for place in places:
        shard = pipeline.shards[place]
        parts = [{"key": p.key, "start": p.start, "end": p.end, "digest": p.digest} for p in shard.parts]
        row = {"source": shard.source, "name": shard.name, "digest": shard.digest}
        rows.append(row | {"folder": folders[place], "parts": parts})
    return pa.Table.from_pylist(rows, SHARDS)


def _stages(pipeline: Pipeline) -> dict[str, Facts]:
    """Documents, and every stage that writes columns: where its outputs lie and what its columns are."""
    read = pipeline.outputs["documents"].index
    lacking = [name for name in RAW_LANGUAGE if name in read.digests and not read.has(name)]
    schema = pa.schema([field for field in pipeline.documents_schema if field.name not in lacking])
    found: dict[str, Facts] = {"documents": stage_facts("", ".parquet", schema)}
    for node in pipeline.nodes:
        if node.writes:
            roles = dict(zip(node.writes, node.stage.writes.names, strict=True))
            suffix = pipeline.outputs[node.name].suffix
            found[node.name] = stage_facts(pipeline.folder(node.stage), suffix, node.schema, roles)
    return found


def stage_facts(folder: str, suffix: str, schema: pa.Schema, roles: Mapping[str, str] | None = None) -> Facts:
    """Where a stage's outputs lie, and its columns: what they are called there, and their types."""
    plain = base64.b64encode(schema.remove_metadata().serialize()).decode()
    names = {name: name for name in schema.names} if roles is None else dict(roles)
    return {"folder": folder, "suffix": suffix, "columns": names, "schema": plain}


@dataclass(frozen=True)
class _Node:
    """A stage of a version, as views see it."""

    name: str
    schema: pa.Schema

    @property
    def writes(self) -> tuple[str, ...]:
        return tuple(self.schema.names)


class Snapshot(Corpus):
    """The corpus of one version, for those who read columns (`tasks.engine.views`), whatever has come or changed since.
    Its shards are in order of sources, then of generations. `replaced` are stages of which outputs have other values
    now, as they were computed again (`--from STAGE --replace`)."""

    def __init__(self, versions: Versions, facts: Facts) -> None:
        self.store, self.versions, self.facts = versions.store, versions, facts
        tables = [versions.shards(generation["names"]) for generation in facts["generations"]]
        listed = pa.concat_tables(tables) if tables else SHARDS.empty_table()
        rank = {name: number for number, name in enumerate(facts["sources"])}
        sources = listed["source"].to_pylist()
        order = sorted(range(len(sources)), key=lambda place: rank[sources[place]])
        rows = listed.take(order).to_pylist() if order else []
        self.shards = [shard_of(row) for row in rows]
        self.provider: dict[str, str] = {}
        self.role: dict[str, str] = {}
        self.nodes: list[_Node] = []
        self.outputs: dict[str, Output] = {}
        replaced = set()
        for name, made in facts["stages"].items():
            schema = _schema(made)
            keys = [key for generation in facts["generations"] for key in versions.keys(generation["keys"][name])]
            keys = [keys[place] for place in order]
            folders = [row["folder"] for row in rows] if name == "documents" else [made["folder"]] * len(rows)
            entries = (e for folder in dict.fromkeys(folders) for e in Manifest(self.store, folder).entries())
            index = Index(entries, keys, list(made["columns"].values()))
            if not self._as_made(name, index, order):
                replaced.add(name)
            index.state[[place for place, key in enumerate(keys) if key is None]] = QUARANTINED
            self.outputs[name] = Output(folders, made["suffix"], index)
            if name == COUNTS:
                continue
            self.provider |= dict.fromkeys(schema.names, name)
            self.role |= made["columns"]
            if name == "documents":
                self.documents_schema = schema
            else:
                self.nodes.append(_Node(name, schema))
        self.replaced = frozenset(replaced)

    def _as_made(self, name: str, index: Index, order: Sequence[int]) -> bool:
        """Whether a stage's outputs have the values that they had when the version was made; what is not there, and
        what an earlier version of Sluice did not note, has no others. `order`: the generations' shards as they are
        here."""
        place_of = np.argsort(np.array(order, int))
        names, first = list(self.facts["stages"][name]["columns"].values()), 0
        for generation in self.facts["generations"]:
            places = place_of[first : first + generation["shards"]].tolist()
            first += generation["shards"]
            whole = all(index.done[place] or index.keys[place] is None for place in places)
            noted = generation.get("values", {}).get(name)
            if whole and noted is not None and noted != _values(index, names, places):
                return False
        return True

    def unavailable(self, names: Sequence[str]) -> np.ndarray:
        """Shards of which the version has not all `names`: they were quarantined there or further up."""
        providers = {"documents", *(self.provider[name] for name in names)}
        return np.logical_or.reduce([self.outputs[name].index.state == QUARANTINED for name in providers])

    def altered(self, names: Iterable[str]) -> list[str]:
        """The stages of some columns of whose outputs some are gone, or have other values than the version had."""
        stages = dict.fromkeys(self.provider[name] for name in names)
        return [
            stage for stage in stages if stage in self.replaced or (self.outputs[stage].index.state == MISSING).any()
        ]


def _schema(made: Facts) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(made["schema"])))
