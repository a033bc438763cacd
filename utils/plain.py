"""Turning any value into plain JSON values, whatever it does: no cycle, no broken ``__repr__`` and no huge value
gets through.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

DEPTH: Final = 6
WIDTH: Final = 50
LENGTH: Final = 4096
_MAX_INT: Final = 2**63 - 1


def to_plain(value: Any, depth: int = DEPTH) -> Any:
    """Return ``value`` as dict, list, str, int, float, bool or None.

    Never raises; what is too deep, wide or long is cut with a mark.
    """
    try:
        return _to_plain(value, depth)
    except Exception as error:
        return f"<{_type_name(value)}: {type(error).__name__} while reading it>"


def safe_repr(value: object, limit: int = LENGTH) -> str:
    """Return ``repr(value)``, clipped, or a stand-in when it raises."""
    try:
        return clip(repr(value), limit)
    except Exception as error:
        return f"<{_type_name(value)}: repr raised {type(error).__name__}>"


def safe_str(value: object, limit: int = LENGTH) -> str:
    """Return ``str(value)``, clipped, or a stand-in when it raises."""
    try:
        return clip(str(value), limit)
    except Exception as error:
        return f"<{_type_name(value)}: str raised {type(error).__name__}>"


def clip(text: str, limit: int = LENGTH) -> str:
    """Return ``text`` of at most ``limit`` characters with what UTF-8 cannot encode replaced."""
    if len(text) > limit:
        text = f"{text[:limit]}... ({len(text)} characters)"
    return text.encode("utf-8", "replace").decode()


def _to_plain(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return clip(value)
    if isinstance(value, int):
        return int(value) if abs(value) <= _MAX_INT else clip(str(value))
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, (bytes, bytearray, memoryview)):
        return clip(bytes(value[:LENGTH]).decode("utf-8", "replace"))
    if isinstance(value, (Mapping, list, tuple, set, frozenset)) and depth <= 0:
        return f"<{_type_name(value)} too deep>"
    if isinstance(value, Mapping):
        return _mapping(value, depth)
    if isinstance(value, (list, tuple, set, frozenset)):
        return _sequence(value, depth)
    return safe_repr(value)


def _mapping(value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for count, key in enumerate(list(value)):
        if count == WIDTH:
            plain["..."] = f"{len(value) - WIDTH} more"
            break
        name = clip(key, 200) if isinstance(key, str) else safe_repr(key, 200)
        plain[name] = to_plain(value[key], depth - 1)
    return plain


def _sequence(value: Iterable[Any], depth: int) -> list[Any]:
    items = list(value)
    plain = [to_plain(item, depth - 1) for item in items[:WIDTH]]
    return [*plain, f"... {len(items) - WIDTH} more"] if len(items) > WIDTH else plain


def _type_name(value: object) -> str:
    return type(value).__name__
