"""What the tests of all frameworks use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import monitoring
from tests.integrations.web.installer import Installer


@pytest.fixture
def install(tmp_path: Path) -> Iterator[Installer]:
    """Install into apps; whatever fails in the monitoring fails the test."""
    installer = Installer(tmp_path)
    yield installer
    failures = installer.monitoring.recorder.failures if installer.monitoring is not None else {}
    monitoring.shutdown()
    assert failures == {}
