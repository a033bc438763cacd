"""A clean slate for every test: no Monitoring, no context and no handler of the test before."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

import monitoring


@pytest.fixture(autouse=True)
def clean_slate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Start in a folder of the test's own, and put the pack and the root logger back afterwards."""
    monkeypatch.chdir(tmp_path)
    level = logging.getLogger().level
    yield
    monitoring.shutdown()
    logging.getLogger().setLevel(level)
