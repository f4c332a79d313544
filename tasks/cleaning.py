"""Taking things out of a store: forgetting a stage's outputs, and finding what nothing refers to."""

from __future__ import annotations

import orjson

from tasks.manifest import DONE, Manifest
from tasks.pipeline import Pipeline
from tasks.stage import CorpusStage, Learned


def invalidate(pipeline: Pipeline, stage: str) -> int:
    """Forget the outputs of one stage, maps and reductions of a corpus stage with them; returns how many."""
    if stage != "documents":
        node = pipeline.node(stage)
        if isinstance(node.stage, Learned):
            folders = {f"models/{node.stage.name}/samples@{node.stage.recipe}"}
        else:
            top = pipeline.folder(node.stage)
            folders = {top, f"{top}/map", f"{top}/reduce"} if isinstance(node.stage, CorpusStage) else {top}
    else:
        folders = set(pipeline.outputs["documents"].folders)
    count = 0
    for folder in sorted(folders):
        entries = {entry["key"]: entry for entry in Manifest(pipeline.store, folder).entries()}
        present = [key for key, entry in entries.items() if not entry.get("removed")]
        Manifest(pipeline.store, folder).append([{"key": key, "removed": True} for key in present])
        for name in pipeline.store.list(folder):
            if name != "recipe.json":
                pipeline.store.remove(f"{folder}/{name}")
        count += len(present)
    return count


def unreferenced(pipeline: Pipeline) -> dict[str, int]:
    """Path -> bytes of files that neither this spec's current outputs, nor any pin, plan or run refers to.

    Other lineages of the same store are kept whole: their specs are not known here, so only folders whose recipe this
    spec has another version of are looked at, unless a record of another lineage names them."""
    files = pipeline.store.walk()
    current: set[str] = set()
    for name, output in pipeline.outputs.items():
        current |= {
            output.path(place) for place, done in enumerate(output.index.state == DONE) if done and output.folders
        }
        if name != "documents" and isinstance(pipeline.node(name).stage, CorpusStage):
            folder = pipeline.folder(pipeline.node(name).stage)
            current |= {path for path in files if path.startswith((f"{folder}/map/", f"{folder}/reduce/"))}
    for path in files:
        if path.startswith("pins/"):
            history = orjson.loads(pipeline.store.read(path))
            current |= {pin["path"] for pins in history.values() for pin in pins if "path" in pin}
    folders = {path.rsplit("/", 1)[0] for path in current}
    shared = _other_lineages(pipeline, files)
    return {
        path: size
        for path, size in files.items()
        if path.startswith(("documents/", "columns/", "tokens/", "models/"))
        and path not in current
        and path.removesuffix("/recipe.json") not in folders
        and not any(path.startswith(f"{folder}/manifest/") for folder in folders)
        and not any(path.startswith(f"{folder}/") for folder in shared)
    }


def _other_lineages(pipeline: Pipeline, files: dict[str, int]) -> set[str]:
    """Folders that the newest record of each other lineage names."""
    newest: dict[str, dict[str, object]] = {}
    for path in files:
        if path.startswith("runs/records/") and path.endswith("/run.json"):
            record = orjson.loads(pipeline.store.read(path))
            newest[record["spec"]] = record
    newest.pop(pipeline.spec.name, None)
    return {str(folder) for record in newest.values() for folder in record.get("folders", [])}  # type: ignore[attr-defined]
