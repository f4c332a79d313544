"""A small corpus and spec of our own, on which whole runs are cheap. Texts are made from word lists, by a seed."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

ENGLISH = (
    "the of and to with that have be river valley water gravel gold miner box channel stream winter morning sound "
    "heavy sand wash letter small garden build stone bridge carry north summer weather travel village market "
    "evening family story number answer question reading writing table paper window light field "
    "harvest engine signal record measure"
).split()
CHINESE = (
    "我们 他们 的 在 是 有 和 河流 山谷 水 沙子 黄金 矿工 箱子 渠道 溪流 冬天 早晨 声音 沉重 "
    "清洗 信件 花园 建造 石头 桥梁 北方 夏天 天气 "
    "旅行 村庄 市场 晚上 家庭 故事 数字 回答 问题 阅读 写作 桌子 纸张 窗户 光线 田野 收获 机器 信号 记录 测量"
).split()


def english(rng: random.Random, sentences: int) -> str:
    lines = [" ".join(rng.choices(ENGLISH, k=rng.randint(8, 16))).capitalize() + "." for _ in range(sentences)]
    return "\n".join(" ".join(lines[i : i + 4]) for i in range(0, len(lines), 4))


def chinese(rng: random.Random, sentences: int) -> str:
    lines = ["".join(rng.choices(CHINESE, k=rng.randint(8, 16))) + "。" for _ in range(sentences)]
    return "\n".join("".join(lines[i : i + 4]) for i in range(0, len(lines), 4))


def code(rng: random.Random, functions: int) -> str:
    parts = ["import sys\n"]
    for _ in range(functions):
        name, one, two = rng.choices(ENGLISH, k=3)
        signature = f"def {name}_{rng.randint(0, 999)}({one}, {two}):"
        parts.append(f"{signature}\n    if {one}:\n        return {two} + 1\n    return sys.path\n")
    return "\n\n".join(parts)


def web(folder: Path, number: int, documents: int, seed: int) -> Path:
    """One JSONL file: English and Chinese in turn, some short, some near copies of their neighbour."""
    rng = random.Random(seed * 1000 + number)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"web-{number:02d}.jsonl.gz"
    rows = []
    for index in range(documents):
        make = english if index % 2 else chinese
        text = make(rng, 2 if index % 11 == 0 else rng.randint(20, 40))
        if index % 7 == 6:
            text = rows[-2]["text"] + "\n" + make(rng, 1)
        rows.append({"text": text, "url": f"https://example.org/{number}/{index}"})
    with gzip.GzipFile(path, "wb", mtime=0) as file:
        file.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())
    return path


def corpus(folder: Path, files: int = 3, documents: int = 60, seed: int = 1) -> Path:
    """JSONL files and a folder of code under `folder`; returns the path of a spec that trains on them."""
    for number in range(files):
        web(folder / "web", number, documents, seed)
    rng = random.Random(seed)
    for number in range(24):
        path = folder / "code" / f"module_{number:02d}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code(rng, rng.randint(4, 12)))
    spec = folder / "small.yaml"
    spec.write_text(SPEC.format(folder=folder))
    return spec


SPEC = """
name: small
store: {folder}/store
seed: 7
sources:
  web: {{kind: jsonl, paths: "{folder}/web/*.jsonl.gz"}}
  code: {{kind: code, paths: "{folder}/code/*.py", groups: 2}}
stages:
  domain: {{labels: {{code: "source = 'code'", prose: "source = 'web'"}}, dimensions: 8, epochs: 3}}
  quality: {{reference: "length(text) > 1500", dimensions: 8, epochs: 3}}
  duplicates: {{threshold: 0.8, partitions: 2}}
rules:
  - short: "domain <> 'code' and words < 40"
  - foreign: "domain <> 'code' and language not in ('zh', 'en')"
  - low_quality: "quality < percentile(quality, 2)"
channels:
  code: "domain = 'code'"
  zh: "language = 'zh'"
  en: "language = 'en'"
tokenizer: {{vocabulary: 400, sample: 1M, reserved: 4}}
mixture:
  tokens: 8192
  epochs: {{default: 4}}
  phases:
    - {{until: 50%, weights: {{zh: 0.4, en: 0.4, code: 0.2}}}}
    - {{until: 100%, weights: {{zh: 0.3, en: 0.3, code: 0.4}}}}
model: {{hidden: 32, layers: 2, heads: 2, kv_heads: 1, intermediate: 64}}
training:
  workers: 1
  precision: fp32
  sequence: 64
  batch: {{tokens: 1024, micro: 4}}
  learning_rate: {{peak: 1e-3, warmup: 2 steps}}
  evaluate: {{every: 4 steps, held_out: 10%, tokens: 1024}}
  checkpoint: {{every: 2 steps, keep: 2}}
cluster: {{cpus: 2}}
"""
