"""Replacing methods of an object without tying it into a cycle: pools and sessions are closed when they are dropped."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Mapping
from typing import Any

from monitoring.integrations.attachment import Detach, replace_attributes


def replace_weakly(target: Any, values: Mapping[str, object]) -> Detach:
    """Do what ``replace_attributes`` does, and hold the object neither meanwhile nor to put back what was there."""
    proxy = weakref.proxy(target)
    restore = replace_attributes(proxy, dict(values))
    known = weakref.ref(target)

    def restore_living() -> None:
        if known() is not None:
            restore()

    return restore_living


def weakly(method: Any) -> Callable[..., Any]:
    """Return what calls a bound method without holding its object."""
    if not inspect.ismethod(method):
        made: Callable[..., Any] = method
        return made
    find = weakref.WeakMethod(method)

    def call(*args: Any, **kwargs: Any) -> Any:
        found = find()
        assert found is not None  # who calls has the object
        return found(*args, **kwargs)

    return call
