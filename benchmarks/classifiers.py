"""What classifiers of labelled texts reach on real sets, and how many documents a second they score.

    python -m benchmarks.classifiers FOLDER [cold] [topic] [format]

FOLDER is that of real data. COLD's settings are chosen on its dev part and told of its test part; of WebOrganizer's
pages a fifth is held back, by seed 0, and the address is read, too.
"""

from __future__ import annotations

import hashlib
import sys
import time
from pathlib import Path

from tasks.scoring import labelled
from tasks.scoring.labelled import Rows


def cold(labels: Path) -> tuple[Rows, Rows, Rows]:
    paths = (labels / f"coldataset_{part}.jsonl.gz" for part in ("train", "dev", "test"))
    train, dev, test = (labelled.read(str(path), "text", "label") for path in paths)
    return train, dev, test


def pages(labels: Path, field: str) -> tuple[Rows, Rows, Rows]:
    rows = labelled.read(str(labels / "weborganizer_dclm_pages.jsonl.gz"), "text", field, "url")
    rest, test = labelled.split(rows, 0.2, 0)
    train, dev = labelled.split(rest, 0.1, 1)
    return train, dev, test


def main(folder: str, *names: str) -> None:
    for name in names or ("cold", "topic", "format"):
        parts = cold(Path(folder) / "labels") if name == "cold" else pages(Path(folder) / "labels", name)
        begun = time.process_time()
        data, facts = labelled.learn(*parts, 0)
        learned = time.process_time() - begun
        path = Path(f"{name}.bin")
        path.write_bytes(data)
        model = labelled.load(str(path), hashlib.sha256(data).hexdigest())
        path.unlink()
        texts, urls = [row[0] for row in parts[2]], [row[1] for row in parts[2]]
        begun = time.process_time()
        labelled.probabilities(model, texts, urls, len(facts["labels"]))
        rate = len(texts) / (time.process_time() - begun)
        curves = [value for value in facts["test"]["auc"].values() if value is not None]
        print(f"{name}: accuracy {facts['test']['accuracy']:.4f}, mean area under the curve", end=" ")
        print(f"{sum(curves) / len(curves):.4f}, {rate:,.0f} documents/s, learned in {learned:.0f} CPU s")
        print(*facts["tried"], sep="\n", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
