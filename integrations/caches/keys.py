"""What a look-up tells of its keys: hits and misses by the kind of key. A key itself is never kept.

``users:42`` is a key of the kind ``users``. What stands before the first colon is one if it looks like a word that a
programmer chose: letters, ``_`` and ``-``, and no digits but those of a version (``users-v2``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Final

from monitoring.calls import CacheCall
from monitoring.integrations.layers import KeySpace, current_layer

_KINDS_KEPT: Final = 500
_LENGTH: Final = 40
_VERSIONS_KEPT: Final = 50
_KIND: Final = re.compile(r"(?=.*[A-Za-z])(?:[A-Za-z_-]|(?<![A-Za-z])v\d{1,2}(?![A-Za-z0-9]))+")

_kinds: dict[str, str] = {}


def kind_of(key: Any) -> str:
    """Return the kind of a key, "" where it names none.

    What an outer cache puts in front of the keys it is given (Django's prefix and version) is passed over.
    """
    layer = current_layer.get()
    return _kind_of(key, layer.keys if layer is not None else None)


def _kind_of(key: Any, space: KeySpace | None) -> str:
    if not isinstance(key, str):
        key = key.decode("utf-8", "replace") if isinstance(key, bytes) else ""
    if space is not None:
        key = key.removeprefix(space.lead)
    if ":" not in key:
        return ""
    head = key.partition(":")[0]
    return _kinds.get(head) or _checked(head)


def _checked(head: str) -> str:
    if len(head) > _LENGTH or not _KIND.fullmatch(head):
        return ""
    if len(_kinds) < _KINDS_KEPT:
        _kinds[head] = head
    return head


def found(call: CacheCall, key: Any, hits: int, misses: int) -> None:
    """Add what was looked up under one key."""
    layer = current_layer.get()
    space = layer.keys if layer is not None else None
    if space is not None and space.is_repeated:
        return
    if hits:
        call.hits += hits
    if misses:
        call.misses += misses
    kind = _kind_of(key, space)
    if kind:
        told = call.by_prefix
        if told:
            former = told.get(kind, (0, 0))
            call.by_prefix = {**told, kind: (former[0] + hits, former[1] + misses)}
        else:
            call.by_prefix = {kind: (hits, misses)}


def found_each(call: CacheCall, answers: Iterable[tuple[Any, bool]]) -> None:
    """Add several keys, each with whether it was there."""
    for key, is_there in answers:
        found(call, key, is_there, not is_there)


def found_some(call: CacheCall, keys: Iterable[Any], hits: int) -> None:
    """Add several keys of which it is known how many were there, but not which: told by kind if all are of one."""
    keys = list(keys)
    misses = len(keys) - hits
    kinds = {kind_of(key) for key in keys}
    if len(kinds) == 1:
        found(call, keys[0], hits, misses)
    else:
        call.hits += hits
        call.misses += misses


class KeySpaces:
    """What a cache does with keys, by what that depends on: a version, a namespace."""

    def __init__(self, client: object, make_key: Callable[[str, Any], Any]) -> None:
        self._client = client
        self._make_key = make_key
        self._known: dict[Any, KeySpace] = {}

    def of(self, version: Any) -> KeySpace:
        """Return what it does with them under one version or namespace."""
        known = self._known.get(version)
        if known is None:
            known = KeySpace(self._client, self._lead(version))
            if len(self._known) < _VERSIONS_KEPT:
                self._known[version] = known
        return known

    def _lead(self, version: Any) -> str:
        """Return how a key is begun; "" where the function that makes keys does something else with them."""
        try:
            probe = str(self._make_key("key", version))
        except Exception:
            return ""
        return probe.removesuffix("key") if probe.endswith("key") else ""
