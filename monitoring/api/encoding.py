"""Answers as JSON."""

from __future__ import annotations

from typing import Any

import orjson


def encode(answer: Any) -> bytes:
    """Return an answer as JSON. Several records in a tuple become one object."""
    if isinstance(answer, tuple):
        merged: dict[str, Any] = {}
        for part in answer:
            merged.update(orjson.loads(orjson.dumps(part)))
        return orjson.dumps(merged)
    return orjson.dumps(answer)
