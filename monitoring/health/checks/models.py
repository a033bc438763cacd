"""Whether a provider of language models answers: its list of models costs no tokens."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from .patience import PATIENCE_SECONDS
from .telling import Answer, answered, telling


def llm(client: Any) -> Callable[[], Answer]:
    """Check a provider by listing its models, one where it can be asked for one. No retries, three seconds.

    For the clients of openai and anthropic and those like them, sync or async. It proves that the key is taken, and not
    that a model answers: ``traffic`` tells that.
    """
    return telling(lambda: answered(lambda: _list(client)))


def _list(client: Any) -> Any:
    if hasattr(client, "with_options"):
        client = client.with_options(max_retries=0, timeout=PATIENCE_SECONDS)
    models = client.models
    limit = {"limit": 1} if "limit" in inspect.signature(models.list).parameters else {}
    return models.list(**limit)
