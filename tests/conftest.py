"""A clean slate for every test: no Monitoring, no context and no handler of the test before."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

import monitoring

pytest.register_assert_rewrite("tests.integrations.contract")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the table of integrations/README.md be written."""
    parser.addoption("--contract-table", action="store_true", help="write the table of integrations/README.md")


def pytest_configure(config: pytest.Config) -> None:
    """Collect what the tests find of each adapter."""
    from tests.integrations.contract_table import ContractTable

    config.pluginmanager.register(ContractTable(is_to_write=config.getoption("contract_table")))


@pytest.fixture(autouse=True)
def clean_slate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Start in a folder of the test's own, and put the pack and the root logger back afterwards."""
    monkeypatch.chdir(tmp_path)
    level = logging.getLogger().level
    yield
    monitoring.shutdown()
    before_configure = monitoring.current().health
    before_configure.stop()
    before_configure._checks.clear()
    logging.getLogger().setLevel(level)
