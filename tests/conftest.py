"""Fixtures shared by all tests, and which tests are slow."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
"""Threads of torch that wait sleep, here and in all that tests start. By default they spin, and where two workers share
the cores a training of eight steps takes three times as many seconds of them."""
TESTS = Path(__file__).parent
SLOW = frozenset(
    {
        "flows/commands/test_export.py",
        "flows/commands/test_lineage.py",
        "flows/commands/test_takedown.py",
        "flows/commands/test_takedown_texts.py",
        "flows/commands/test_whatif.py",
        "flows/test_augmentation.py",
        "flows/test_cli.py",
        "flows/test_deployment.py",
        "flows/test_ending.py",
        "flows/test_nightly.py",
        "flows/test_read_only_store.py",
        "flows/test_rebase.py",
        "flows/test_resuming.py",
        "flows/test_runs.py",
        "flows/test_supervisor.py",
        "flows/test_versions.py",
        "tasks/dedup/test_survivors.py",
        "tasks/engine/test_fanout.py",
        "tasks/engine/test_garbage_collection.py",
        "tasks/engine/test_rounds.py",
        "tasks/extraction/test_work.py",
        "tasks/filters/test_signals.py",
        "tasks/sources/test_common_crawl.py",
        "tasks/sources/test_flipped_bits.py",
        "tasks/sources/test_hostile_files.py",
        "tasks/sources/test_mutations.py",
        "tasks/storage/test_object_store.py",
        "tasks/tokenization/test_tokenizer.py",
        "training/test_causal_models.py",
        "training/test_cluster.py",
        "training/test_faults.py",
        "training/test_metrics.py",
        "training/test_objective_runs.py",
        "training/test_parallel.py",
        "training/test_runs.py",
        "training/test_settings_runs.py",
        "training/test_spikes.py",
        "training/test_state.py",
        "training/test_torchrun.py",
    }
)
"""Files of tests that start Ray, Prefect, servers or ranks of training, compute whole corpora or try much: `make check`
leaves them to `make test`."""


def pytest_make_parametrize_id(val: object) -> str | None:
    """Bytes are named by their number: a compressed file holds the time it was made, and a test keeps its name."""
    return f"{len(val)} bytes" if isinstance(val, bytes) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow files are marked, and come first: what is left to the end are files of seconds, for either worker."""
    assert all((TESTS / name).exists() for name in SLOW)
    quick = [item for item in items if item.path.relative_to(TESTS).as_posix() not in SLOW]
    slow = [item for item in items if item.path.relative_to(TESTS).as_posix() in SLOW]
    for item in slow:
        item.add_marker(pytest.mark.slow)
    items[:] = slow + quick


@pytest.fixture(scope="session", autouse=True)
def _nothing_waits_for_the_disk() -> Iterator[None]:
    """What a process commits is there for whoever reads it, but for a loss of power, which no test has; and a corpus
    waits for its files some 800 times. That the store does wait, a test of it shows by what it asks for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(scope="module", autouse=True)
def _no_process_group_stays() -> Iterator[None]:
    """A training or a sample in the tests' own process leaves its process group behind, and DeepSpeed one of its own,
    which the next file of tests in the same worker would meet: whichever files share a worker, none does."""
    yield
    comm, dist = sys.modules.get("deepspeed.comm"), sys.modules.get("torch.distributed")
    if comm is not None and comm.is_initialized():
        comm.destroy_process_group()
    if dist is not None and dist.is_initialized():
        dist.destroy_process_group()


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real data beside the checkout; tests that need it skip, saying so, where it is absent."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("real data (../shared/data) is not beside the checkout")
    return folder


@pytest.fixture(scope="session")
def computed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The spec of a small corpus, one document of it with a hostile address, and the run that computed it up to the
    plan; neither is to be changed."""
    from tests import commands, small, whole

    folder = tmp_path_factory.mktemp("computed")
    spec = small.corpus(folder, files=2)
    row = {"text": "The [red]river[/red] runs [/blue] over the gravel. " * 9, "url": commands.HOSTILE}
    (folder / "web" / "web-90.jsonl.gz").write_bytes(gzip.compress(json.dumps(row).encode()))
    return spec, whole.go(spec)


@pytest.fixture
def copied(computed: Any, tmp_path: Path) -> Path:
    """That corpus and its store again, elsewhere, to be changed; the path of its spec."""
    from tests import small

    subprocess.run(["cp", "-r", f"{computed[0].parent}/.", tmp_path], check=True)
    spec = tmp_path / "small.yaml"
    spec.write_text(small.SPEC.format(folder=tmp_path))
    return spec
