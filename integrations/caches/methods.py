"""Caches whose commands are methods: what each method is called, and what its result tells."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, NamedTuple

from monitoring.calls import CacheCall
from monitoring.integrations.attachment import Link

from .keys import found, found_each

Tell = Callable[[CacheCall, Any, Any], None]
"""Adds to a call what its first argument (a key, keys, entries) and its result tell."""
Timing = Callable[..., Any]
"""``observing``, or what does as much for a cache that works through others, or their async forms."""

ABSENT: Final = object()
"""What look-ups are asked to return for a key that is not there: None may have been stored."""


class Command(NamedTuple):
    """What is known of one method."""

    word: str
    tell: Tell | None = None
    parameter: str = "key"
    """The name of its first parameter."""
    has_default: bool = False
    """Whether its second parameter is what to return for a missing key."""


def looked_up(call: CacheCall, key: Any, result: Any) -> None:
    """Tell a look-up that returns ``ABSENT`` for a missing key."""
    if result is ABSENT:
        found(call, key, 0, 1)
    else:
        found(call, key, 1, 0)


def looked_for(call: CacheCall, key: Any, result: Any) -> None:
    """Tell a look-up that returns whether a key is there."""
    found(call, key, bool(result), not result)


def looked_up_many(call: CacheCall, keys: Any, result: Any) -> None:
    """Tell a look-up that returns the keys that were there with their values."""
    found_each(call, ((key, key in result) for key in keys))


def put(call: CacheCall, _: Any, result: Any) -> None:
    """Tell a method that returns whether it has stored its entry."""
    call.puts += bool(result)


def put_many(call: CacheCall, entries: Any, failed: Any) -> None:
    """Tell a method that returns the keys of the entries that it could not store."""
    call.puts += len(entries) - len(failed or ())


def removed(call: CacheCall, _: Any, result: Any) -> None:
    """Tell a method that returns whether it has removed something, or how much."""
    call.removals += int(result or 0)


def removed_many(call: CacheCall, keys: Any, _: Any) -> None:
    """Tell a method that does not say which of its keys were there."""
    call.removals += len(keys)


def observed_methods(
    client: Any, link: Link, system: str, commands: Mapping[str, Command], timing: Timing, timing_async: Timing
) -> dict[str, object]:
    """Return what stands for those of the methods that the client has. Raise AttributeError where it has none."""
    methods: dict[str, object] = {
        name: _observed_method(getattr(client, name), link, system, command, timing, timing_async)
        for name, command in commands.items()
        if hasattr(client, name)
    }
    if not methods:
        raise AttributeError(f"it has none of the methods {', '.join(sorted(commands))}")
    return methods


def _observed_method(
    method: Callable[..., Any], link: Link, system: str, command: Command, timing: Timing, timing_async: Timing
) -> Callable[..., Any]:
    describe = partial(_call, link, system, command)
    if inspect.iscoroutinefunction(method):
        make = _async_look_up if _takes_default(method, command) else _async_method
        return make(method, partial(timing_async, link), describe, command)
    make = _look_up if _takes_default(method, command) else _method
    return make(method, partial(timing, link), describe, command)


def _takes_default(method: Callable[..., Any], command: Command) -> bool:
    """Say whether the method can be asked to return ``ABSENT``: a subclass may have another signature."""
    names = list(inspect.signature(method).parameters)
    return command.has_default and "key" in names and names[names.index("key") + 1 :][:1] == ["default"]


def _look_up(method: Any, timed: Timing, describe: Callable[..., CacheCall], _: Command) -> Callable[..., Any]:
    look = timed(describe, method)

    def get(key: Any, default: Any = None, *args: Any, **kwargs: Any) -> Any:
        value = look(key, ABSENT, *args, **kwargs)
        return default if value is ABSENT else value

    return get


def _async_look_up(method: Any, timed: Timing, describe: Callable[..., CacheCall], _: Command) -> Callable[..., Any]:
    look = timed(describe, method)

    async def get(key: Any, default: Any = None, *args: Any, **kwargs: Any) -> Any:
        value = await look(key, ABSENT, *args, **kwargs)
        return default if value is ABSENT else value

    return get


def _method(method: Any, timed: Timing, describe: Callable[..., CacheCall], command: Command) -> Callable[..., Any]:
    act = timed(describe, method)

    def call(*args: Any, **kwargs: Any) -> Any:
        if args and not hasattr(args[0], "__next__"):
            return act(*args, **kwargs)
        args, kwargs, first = _kept(args, kwargs, command)
        return timed(partial(_described, describe, first), method)(*args, **kwargs)

    return call


def _async_method(
    method: Any, timed: Timing, describe: Callable[..., CacheCall], command: Command
) -> Callable[..., Any]:
    act = timed(describe, method)

    async def call(*args: Any, **kwargs: Any) -> Any:
        if args and not hasattr(args[0], "__next__"):
            return await act(*args, **kwargs)
        args, kwargs, first = _kept(args, kwargs, command)
        return await timed(partial(_described, describe, first), method)(*args, **kwargs)

    return call


def _kept(args: Any, kwargs: dict[str, Any], command: Command) -> tuple[tuple[Any, ...], dict[str, Any], Any]:
    """Return the arguments and the first of them, which can be read twice: an iterator becomes a list."""
    first: Any = args[0] if args else kwargs.get(command.parameter)
    if hasattr(first, "__next__"):
        first = list(first)
        if args:
            args = (first, *args[1:])
        else:
            kwargs = {**kwargs, command.parameter: first}
    return args, kwargs, first


def _described(describe: Callable[..., CacheCall], first: Any, _: tuple[Any, ...], *facts: Any) -> CacheCall:
    return describe((first,), *facts)


def _call(
    link: Link,
    system: str,
    command: Command,
    args: tuple[Any, ...],
    started: float,
    result: Any,
    error: BaseException | None,
) -> CacheCall:
    call = CacheCall(started, error)
    call.name = command.word
    call.system = system
    if link.name:
        call.cache = link.name
    if error is None and command.tell is not None:
        command.tell(call, args[0], result)
    return call
