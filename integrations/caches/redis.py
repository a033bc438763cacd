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
from monitoring.integrations import wrap
from monitoring.integrations.attachment import (
    Detach,
    Link,
    attempt,
    observing,
    observing_async,
    replace_attributes,
    subclass_of,
)
from monitoring.integrations.layers import lies_below

from .keys import found, found_each, found_some

_WORDS_KEPT: Final = 500
_NAME_LENGTH: Final = 32

_UNTOLD: Final = object()
"""The reply to a command of a pipeline that raised."""

Tell = Callable[[CacheCall, Sequence[Any], Any], None]
"""Adds to a call what a command and its reply tell of hits, misses, entries put and removed."""

_words: dict[Any, tuple[str, Tell | None]] = {}
"""What the first words of commands mean: a name, and what its replies tell."""


def _one(call: CacheCall, command: Sequence[Any], reply: Any) -> None:
    is_there = reply is not None
    found(call, command[1], is_there, not is_there)


def _whether(call: CacheCall, command: Sequence[Any], reply: Any) -> None:
    found(call, command[1], bool(reply), not reply)


def _each_key(call: CacheCall, command: Sequence[Any], reply: Any) -> None:
    found_each(call, zip(command[1:], (value is not None for value in reply)))


def _each_field(call: CacheCall, command: Sequence[Any], reply: Any) -> None:
    misses = sum(value is None for value in reply)
    found(call, command[1], len(reply) - misses, misses)


def _how_many(call: CacheCall, command: Sequence[Any], reply: Any) -> None:
    found_some(call, command[1:], int(reply))


def _taken(call: CacheCall, command: Sequence[Any], reply: Any) -> None:
    _one(call, command, reply)
    call.removals += reply is not None


def _removed(call: CacheCall, _: Sequence[Any], reply: Any) -> None:
    call.removals += int(reply)


def _put(call: CacheCall, _: Sequence[Any], reply: Any) -> None:
    call.puts += bool(reply)


def _put_many(call: CacheCall, command: Sequence[Any], reply: Any) -> None:
    call.puts += (len(command) - 1) // 2 if reply else 0


def _put_fields(call: CacheCall, command: Sequence[Any], _: Any) -> None:
    call.puts += (len(command) - 2) // 2


def _exchanged(call: CacheCall, command: Sequence[Any], reply: Any) -> None:
    _one(call, command, reply)
    call.puts += 1


def _set(call: CacheCall, command: Sequence[Any], reply: Any) -> None:
    (_exchanged if "GET" in command[3:] else _put)(call, command, reply)


_TELLS: Final[dict[str, Tell]] = {
    **dict.fromkeys(("get", "getex", "hget", "json.get"), _one),
    **dict.fromkeys(("hexists", "hgetall"), _whether),
    **dict.fromkeys(("mget", "json.mget"), _each_key),
    **dict.fromkeys(("hmget", "hgetex", "hgetdel"), _each_field),
    "exists": _how_many,
    "getdel": _taken,
    **dict.fromkeys(("del", "unlink", "hdel"), _removed),
    "set": _set,
    "getset": _exchanged,
    **dict.fromkeys(("setex", "psetex", "setnx", "hsetnx", "json.set"), _put),
    **dict.fromkeys(("mset", "msetnx"), _put_many),
    **dict.fromkeys(("hset", "hmset"), _put_fields),
}
"""Commands that look something up, store or remove it. Nil is a miss; a hash without fields does not exist."""


def carrier(client: Any) -> Any:
    """Return the client itself."""
    return client


def attach(client: Any, link: Link) -> Detach:
    """Time the client's commands and its pipelines; a pipeline given by itself is timed alone."""
    lies_below("cache")
    if _is_pipeline(client):
        return _observe_pipeline(client, link)
    replacements: dict[str, Any] = {
        "execute_command": _timed(client.execute_command, link),
        "pipeline": partial(_observed_pipeline, client.pipeline, link),
    }
    if hasattr(client, "client"):  # a cluster has none
        replacements["client"] = partial(_wrapped_client, client.client, link)
    return replace_attributes(client, replacements)


def _timed(execute: Callable[..., Any], link: Link) -> Callable[..., Any]:
    timing: Callable[..., Any] = observing_async if inspect.iscoroutinefunction(execute) else observing
    timed: Callable[..., Any] = timing(link, partial(_call, link.name), execute)
    return timed


def _wrapped_client(make: Callable[[], Any], link: Link) -> Any:
    """Return a client with a connection of its own, wrapped as the one that made it."""
    made = make()
    attempt(link, partial(wrap, made, name=link.name, recorder_of=link.recorder_of))
    return made


def _observed_pipeline(make: Callable[..., Any], link: Link, *args: Any, **kwargs: Any) -> Any:
    made = make(*args, **kwargs)
    attempt(link, _observe_pipeline, made, link)
    return made


def _is_pipeline(client: Any) -> bool:
    return any(hasattr(client, name) for name in ("command_stack", "_command_stack", "_execution_strategy"))


def _queue(pipeline: Any) -> Sequence[Any]:
    """Return what waits in a pipeline; a cluster's keeps it in a place of its own, which has changed with 6.0."""
    strategy = getattr(pipeline, "_execution_strategy", None)
    if strategy is not None:
        queue: Sequence[Any] = strategy._command_queue
        return queue
    queue = pipeline.command_stack if hasattr(pipeline, "command_stack") else pipeline._command_stack
    return queue


def _observe_pipeline(pipeline: Any, link: Link) -> Detach:
    _queue(pipeline)  # raises where there is none
    restores = [_with_class(pipeline, _observed_class, link)]
    strategy = getattr(pipeline, "_execution_strategy", None)
    if hasattr(strategy, "_immediate_execute_command"):
        restores.append(_with_class(strategy, _observed_strategy, link))

    def restore() -> None:
        for undo in restores:
            undo()

    return restore


def _with_class(part: Any, observed_class: Callable[[Any], Any], link: Link) -> Detach:
    former: Any = type(part)
    part.__class__ = observed_class(former)
    part._monitoring_link = link

    def restore() -> None:
        part.__class__ = former
        del part._monitoring_link

    return restore


@cache
def _observed_class(kind: Any) -> Any:
    """Return a subclass of a pipeline class whose pipelines report what they send."""
    members = {"execute": _execute(kind)}
    if hasattr(kind, "immediate_execute_command"):
        members["immediate_execute_command"] = _immediate(kind.immediate_execute_command)
    return subclass_of(kind, members)


@cache
def _observed_strategy(kind: Any) -> Any:
    """Return a subclass of what sends the transactions of a cluster's pipeline, as far as it does so at once."""
    return subclass_of(kind, {"_immediate_execute_command": _immediate(kind._immediate_execute_command)})


def _execute(kind: Any) -> Callable[..., Any]:
    timing: Callable[..., Any] = observing_async if inspect.iscoroutinefunction(kind.execute) else observing

    def execute(self: Any, *args: Any, **kwargs: Any) -> Any:
        link, commands = self._monitoring_link, _queue(self)
        if not commands:
            return kind.execute(self, *args, **kwargs)
        return timing(link, partial(_pipeline_call, link.name, commands), kind.execute)(self, *args, **kwargs)

    return execute


def _immediate(send: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method that times what goes out at once: what a pipeline asks between WATCH and MULTI."""

    def immediate(self: Any, *command: Any, **options: Any) -> Any:
        return _timed(partial(send, self), self._monitoring_link)(*command, **options)

    return immediate


def _call(
    cache: str | None, command: tuple[Any, ...], started: float, reply: Any, error: BaseException | None
) -> CacheCall:
    call = CacheCall(started, error)
    call.system = "redis"
    if cache:
        call.cache = cache
    call.name, tell = _words.get(command[0]) or _meaning(command[0])
    if tell is not None and error is None and len(command) > 1:
        tell(call, command, reply)
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
    inner: dict[str, int] = {}
    told = replies if replies is not None and len(replies) == len(commands) else [_UNTOLD] * len(commands)
    for queued, reply in zip(commands, told):
        command = queued[0] if isinstance(queued, tuple) else queued.args
        name, tell = _words.get(command[0]) or _meaning(command[0])
        inner[name] = inner.get(name, 0) + 1
        if tell is not None and reply is not _UNTOLD and not isinstance(reply, Exception) and len(command) > 1:
            tell(call, command, reply)
    call.inner = inner
    return call


def _meaning(word: Any) -> tuple[str, Tell | None]:
    """Return the command that a first word stands for, lower case: redis-py takes ``"GET the-key"`` as one word too."""
    text = word.decode("ascii", "replace") if isinstance(word, bytes) else str(word)
    name = text.split(" ", 1)[0].lower()[:_NAME_LENGTH]
    meaning = name, _TELLS.get(name)
    if len(_words) < _WORDS_KEPT and " " not in text and isinstance(word, str):
        _words[word] = meaning
    return meaning
