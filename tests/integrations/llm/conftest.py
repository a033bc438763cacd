"""What the tests of model clients share; and what LiteLLM needs: no request of its own when it is imported, and its
module as it was after each test.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

import monitoring
from monitoring.testing import MemorySink, use
from tests.support.llm_server import Server, llm_server

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server of recorded answers."""
    with llm_server() as server:
        yield server


@pytest.fixture
def sink() -> Iterator[MemorySink]:
    """What is observed, in a Monitoring of the test's own."""
    sink = MemorySink()
    with use(sink):
        yield sink


@pytest.fixture(autouse=True)
def bare_module() -> Iterator[None]:
    """Unwrap LiteLLM's module, which all tests share."""
    yield
    if "litellm" in sys.modules:
        monitoring.unwrap(sys.modules["litellm"])
