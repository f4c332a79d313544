"""The small spec of the tests, as a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data_specs.small_spec import GOPHER, SMALL


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small spec, `spec.yaml`, in the working directory."""
    monkeypatch.chdir(tmp_path)
    Path("spec.yaml").write_text(SMALL)
    return Path("spec.yaml")


@pytest.fixture
def including(spec: Path) -> Path:
    Path("rules").mkdir()
    Path("rules/gopher.yaml").write_text(GOPHER)
    spec.write_text(
        SMALL.replace("rules:\n", "rules:\n  - include: rules/gopher.yaml\n    where: \"source = 'pages'\"\n")
    )
    return spec
