"""What a run says of its progress, and when."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from flows import prefect_ui


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is shown of the progress of runs, outside of Prefect."""
    found: list[str] = []
    bar: Any = SimpleNamespace(create=lambda **_: SimpleNamespace(id="bar"))
    monkeypatch.setattr(prefect_ui, "_started", lambda: SimpleNamespace(id="run"))
    monkeypatch.setattr(prefect_ui, "ProgressArtifact", lambda **_: bar)
    monkeypatch.setattr(prefect_ui, "get_run_logger", lambda: SimpleNamespace(info=lambda _: None))
    monkeypatch.setattr(
        prefect_ui, "update_progress_artifact", lambda bar, share, text: found.append(f"{share:.0f} {text}")
    )
    return found


def test_a_trainings_first_loss_is_said_at_once_and_later_ones_now_and_then(said: list[str]) -> None:
    run: Any = SimpleNamespace(spec=SimpleNamespace(name="small"))
    progress = prefect_ui.Progress(run, 2)
    progress.begin()
    for done in range(3):
        progress("signals", done, 3)
    progress.begin()
    progress("train: loading torch and DeepSpeed, workers: 2", 0, 40)
    for step in range(1, 4):
        progress(f"train: loss {9 - step / 10:.3f}", step, 40)
    assert said == [
        "0 stage 1 of 2, signals: 0 of 3",
        "0 stage 2 of 2, train: loading torch and DeepSpeed, workers: 2: 0 of 40",
        "2 stage 2 of 2, train: loss 8.900: 1 of 40",
    ]
