"""redis-py clients and their pipelines, sync and async. A key is never kept, nor is a value.

Commands are seen at ``execute_command`` of the client. A pipeline becomes one of a subclass made here, rather than
getting attributes of its own: those would tie it into a cycle, and it has to give its connection back when dropped.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, Final

from monitoring.calls import CacheCall
from monitoring.integrations.attachment import Detach, Link, attempt, observing, observing_async, replace_attributes
from monitoring.integrations.layers import lies_below

_NAMES_KEPT: Final = 500
_NAME_LENGTH: Final = 32

_names: dict[str, str] = {}

HitsAndMisses = tuple[int, int]


def _one(_: Sequence[Any], reply: Any) -> HitsAndMisses:
    return (0, 1) if reply is None else (1, 0)


def _many(_: Sequence[Any], reply: Any) -> HitsAndMisses:
    misses = sum(value is None for value in reply)
    return len(reply) - misses, misses


def _how_many(command: Sequence[Any], reply: Any) -> HitsAndMisses:
    return int(reply), len(command) - 1 - int(reply)


def _whether(_: Sequence[Any], reply: Any) -> HitsAndMisses:
    return (1, 0) if reply else (0, 1)


_LOOKUPS: Final[dict[Any, Callable[[Sequence[Any], Any], HitsAndMisses]]] = {
    "GET": _one,
    "GETEX": _one,
    "GETDEL": _one,
    "HGET": _one,
    "MGET": _many,
    "HMGET": _many,
    "EXISTS": _how_many,
    "HEXISTS": _whether,
    "HGETALL": _whether,
}
"""Commands that look something up, and how their reply tells hits from misses. Nil is a miss; a hash without fields
does not exist.
"""


def carrier(client: Any) -> Any:
    """Return the client itself."""
    return client


def attach(client: Any, link: Link) -> Detach:
    """Time the client's commands and its pipelines; a pipeline given by itself is timed alone."""
    lies_below("cache")
    if hasattr(client, "command_stack"):
        return _observe_pipeline(client, link)
    return replace_attributes(
        client,
        {
            "execute_command": _timed(client.execute_command, link),
            "pipeline": partial(_observed_pipeline, client.pipeline, link),
        },
    )


def _timed(execute: Callable[..., Any], link: Link) -> Callable[..., Any]:
    timing: Callable[..., Any] = observing_async if inspect.iscoroutinefunction(execute) else observing
    timed: Callable[..., Any] = timing(link, partial(_call, link.name), execute)
    return timed


def _observed_pipeline(make: Callable[..., Any], link: Link, *args: Any, **kwargs: Any) -> Any:
    made = make(*args, **kwargs)
    attempt(link, _observe_pipeline, made, link)
    return made


def _observe_pipeline(pipeline: Any, link: Link) -> Detach:
    kind: Any = type(pipeline)
    pipeline.__class__ = _observed_class(kind)
    pipeline._monitoring_link = link

    def restore() -> None:
        pipeline.__class__ = kind
        del pipeline._monitoring_link

    return restore


@cache
def _observed_class(kind: Any) -> Any:
    """Return a subclass of a pipeline class whose pipelines report what they send."""
    timing: Callable[..., Any] = observing_async if inspect.iscoroutinefunction(kind.execute) else observing

    def execute(self: Any, raise_on_error: bool = True) -> Any:
        link, commands = self._monitoring_link, self.command_stack
        if not commands:
            return kind.execute(self, raise_on_error)
        return timing(link, partial(_pipeline_call, link.name, commands), kind.execute)(self, raise_on_error)

    def immediate_execute_command(self: Any, *command: Any, **options: Any) -> Any:
        return _timed(partial(kind.immediate_execute_command, self), self._monitoring_link)(*command, **options)

    members = {"execute": execute, "immediate_execute_command": immediate_execute_command}
    return type(kind.__name__, (kind,), {"__module__": kind.__module__, "__doc__": kind.__doc__, **members})


def _call(
    cache: str | None, command: tuple[Any, ...], started: float, reply: Any, error: BaseException | None
) -> CacheCall:
    call = CacheCall(started, error)
    call.system = "redis"
    if cache:
        call.cache = cache
    word = command[0]
    call.name = _names.get(word) or _name(word)
    count = _LOOKUPS.get(word)
    if count is not None and error is None:
        call.hits, call.misses = count(command, reply)
    return call


def _pipeline_call(
    cache: str | None,
    commands: Sequence[Any],
    _: tuple[Any, ...],
    started: float,
    replies: Sequence[Any] | None,
    error: BaseException | None,
) -> CacheCall:
    call = CacheCall(started, error)
    call.system, call.name = "redis", "pipeline"
    if cache:
        call.cache = cache
    for (command, _options), reply in zip(commands, replies or ()):
        count = _LOOKUPS.get(command[0])
        if count is not None and not isinstance(reply, Exception):
            hits, misses = count(command, reply)
            call.hits += hits
            call.misses += misses
    return call


def _name(word: Any) -> str:
    """Return the command's first word, lower case: redis-py takes ``"GET the-key"`` as one word too."""
    text = word.decode("ascii", "replace") if isinstance(word, bytes) else str(word)
    name = text.split(" ", 1)[0].lower()[:_NAME_LENGTH]
    if len(_names) < _NAMES_KEPT and " " not in text and isinstance(word, str):
        _names[word] = name
    return name
