"""Memory of a training step, measured and as the planner says it: `python -m benchmarks.memory`.

Each line is a process of its own on one core that takes two steps of a seeded plan; its peak is the most memory that it
held beyond what it held before the model was built. The allocator gives back at once what is freed, as otherwise the
peak would be that of its pools. CPU seconds are of the second step. The planner (`training/memory.py`) is to be within
15 % of the peak; of models of folders between 10 % below and 50 % above it. `--only` takes cases by their names.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from typing import Any

LOSS = {"hidden": 256, "layers": 2, "heads": 4, "kv_heads": 2, "intermediate": 640}
"""A model whose output matrix is most of it."""
CASES: dict[str, dict[str, Any]] = {
    f"{'chunked' if chunked else 'whole'} logits, vocabulary {vocabulary:,}, {precision}": {
        "model": LOSS,
        "vocabulary": vocabulary,
        "sequence": 512,
        "micro": 4,
        "training": {"chunked_loss": chunked, "precision": precision},
    }
    for vocabulary in (8192, 32_768, 65_536)
    for precision in ("fp32", "bf16")
    for chunked in (False, True)
}
LAYERS = {"hidden": 512, "layers": 8, "heads": 8, "kv_heads": 4, "intermediate": 1408}
"""A model whose layers are most of it: 25M parameters."""
SETTINGS: dict[str, dict[str, Any]] = {
    **{f"ZeRO {stage}": {"zero": stage} for stage in range(4)},
    "activation checkpointing": {"zero": 1, "activation_checkpointing": True},
    "Muon": {"zero": 1, "muon": {}},
    "averaged weights": {"zero": 1, "average": {}},
}
CASES |= {
    f"8 layers, {name}, {precision}": {
        "model": LAYERS,
        "vocabulary": 8192,
        "sequence": 1024,
        "micro": 2,
        "training": {"precision": precision, **settings},
    }
    for name, settings in SETTINGS.items()
    for precision in ("fp32", "bf16")
}
FOLDERS: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 256, "n_layer": 6, "n_head": 4, "n_positions": 1024},
    "qwen2": {
        **{"hidden_size": 256, "num_hidden_layers": 6, "num_attention_heads": 4, "num_key_value_heads": 2},
        **{"intermediate_size": 704, "tie_word_embeddings": True},
    },
    "gpt_neox": {"hidden_size": 256, "num_hidden_layers": 6, "num_attention_heads": 4, "intermediate_size": 1024},
}
"""Of models of folders, by their type, what the `config.json` says."""
CASES |= {
    f"{kind}, {name}": {
        "folder": {"model_type": kind, **sizes},
        "vocabulary": 8192,
        "sequence": 512,
        "micro": 4,
        "training": settings,
    }
    for kind, sizes in FOLDERS.items()
    for name, settings in {
        "fp32": {"zero": 1, "precision": "fp32"},
        "bf16": {"zero": 1, "precision": "bf16"},
        "activation checkpointing": {"zero": 0, "precision": "fp32", "activation_checkpointing": True},
    }.items()
}
TINY = {"hidden": 16, "layers": 1, "heads": 2, "intermediate": 24}
SMALL = {"hidden": 256, "layers": 6, "heads": 4, "intermediate": 1024}
WIDE = {"hidden": 512, "layers": 8, "heads": 8, "intermediate": 2048}
CASES |= {
    f"{kind}, {size}{name}, {precision}": {
        "objective": kind,
        "model": model,
        "vocabulary": vocabulary,
        "sequence": sequence,
        "micro": micro,
        "training": {"precision": precision, **settings},
    }
    for kind in ("masked", "span_corruption", "permutation")
    for size, model, vocabulary, sequence, micro in (("", SMALL, 8192, 512, 4), ("wide, ", WIDE, 16_384, 1024, 2))
    for name, settings in {key: SETTINGS[key] for key in ("ZeRO 0", "ZeRO 1", "activation checkpointing")}.items()
    for precision in ("fp32", "bf16")
    if (kind, name) != ("permutation", "activation checkpointing")  # which an XLNet does not have
}
"""The other objectives' models."""


def case(given: dict[str, Any]) -> dict[str, float]:
    """In this process: two steps -> bytes and CPU seconds."""
    import time

    import torch

    from tasks.storage.store import Store
    from training import log, loop, memory, ranks
    from training.begin import begin
    from training.peak import Peak

    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        spec, plan = _made(given, store)
        ranks.join("cpu")
        torch.set_num_threads(1)
        import deepspeed  # noqa: F401  # what it holds is no part of a training's memory

        _warm(given)
        peak = Peak(torch.device("cpu"))
        trainer = loop.Trainer(spec, store, plan, "measured")
        begin(trainer, resume=False)
        trainer.step()
        began = time.process_time()
        trainer.step()
        seconds, taken = time.process_time() - began, peak.most() - peak.before
        trainer.save()  # the log, too
        loss = log.read(store, "measured")[-1]["loss"]
        [phase] = plan.phases
        sizes = plan.vocabulary, phase.sequence, phase.targets_of_a_row
        planned = memory.estimate(spec.model, spec.training, *sizes, trainer.bf16).total
        return {"bytes": taken, "planned": planned, "seconds": seconds, "loss": loss}


def _made(given: dict[str, Any], store: Any) -> tuple[Any, Any]:
    """Spec and run plan."""
    return _of_objective(given, store) if "objective" in given else _causal(given, store)


def _causal(given: dict[str, Any], store: Any) -> tuple[Any, Any]:
    """Of a Llama, or a folder's model."""
    from data_specs.training import Model
    from tests import training_plan
    from training.rows import Plan

    rows = {"rows": given["micro"], "sequence": given["sequence"]}
    spec = training_plan.spec(1, given["micro"], **rows, **given["training"])
    if "folder" in given:
        store.commit("config.json", json.dumps(given["folder"]).encode())
    model = Model(**given.get("model", {"folder": store.url}))
    training_plan.write(store, (2,), **rows, vocabulary=given["vocabulary"], longest=2000)
    return spec.model_copy(update={"model": model}), Plan.read(store, training_plan.PLAN)


def _of_objective(given: dict[str, Any], store: Any) -> tuple[Any, Any]:
    """Of a model that another objective trains."""
    from benchmarks import objectives

    micro, sequence = given["micro"], given["sequence"]
    of_steps = {"sequence": sequence, "batch": {"tokens": micro * sequence, "micro": micro}}
    spec = objectives.spec(given["objective"], 2, given["model"], **of_steps, **given["training"])
    return spec, objectives.planned(spec, store, given["vocabulary"])


def _warm(given: dict[str, Any]) -> None:
    """What libraries load at their first use is no part of a step."""
    from tasks.storage.store import Store
    from training import loop
    from training.begin import begin

    tiny = {"model": TINY, "vocabulary": 8192, "sequence": 16, "micro": 2, "training": {"precision": "fp32"}}
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        spec, plan = _made({"objective": given["objective"], **tiny} if "objective" in given else tiny, store)
        small = loop.Trainer(spec, store, plan, "small")
        begin(small, resume=False)
        small.step()
        small.engine.destroy()


def measured(given: dict[str, Any]) -> dict[str, float]:
    """In a process of its own."""
    command = [sys.executable, "-m", "benchmarks.memory", "--case", json.dumps(given)]
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--only", default="", help="cases whose names begin so")
    options = parser.parse_args()
    if options.case:
        print(json.dumps(case(options.case)))
        return
    for name, given in CASES.items():
        if not name.startswith(options.only):
            continue
        found = measured(given)
        taken, planned = found["bytes"] / 2**20, found["planned"] / 2**20
        print(
            f"{name}: {taken:,.0f} MiB, planned {planned:,.0f} ({planned / taken - 1:+.0%}), "
            f"{found['seconds']:.2f} CPU s, loss {found['loss']:.6f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
