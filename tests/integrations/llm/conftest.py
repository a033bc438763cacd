"""What LiteLLM needs: no request of its own when it is imported, and its module as it was after each test."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

import monitoring

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")


@pytest.fixture(autouse=True)
def bare_module() -> Iterator[None]:
    """Unwrap LiteLLM's module, which all tests share."""
    yield
    if "litellm" in sys.modules:
        monitoring.unwrap(sys.modules["litellm"])
