"""What adapters share: the way to the recorder, the guard around their own code, and replacing an attribute."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar, Token
from time import perf_counter
from typing import Any, Final, TypeVar

from monitoring.calls import Call
from monitoring.context import is_muted, reset
from monitoring.observation import Kind
from monitoring.recorder import NullRecorder, Recorder

from .layers import Layer, claim, current_layer

T = TypeVar("T")
Detach = Callable[[], None]

inside_llm_call: ContextVar[Any] = ContextVar("monitoring_inside_llm_call", default=False)
"""The LLM call that an adapter further out reports, so that the HTTP adapter below keeps quiet; False outside."""

_MISSING: Final = object()


class Link:
    """The way from one wrapped client to the recorder. Thread-safe."""

    __slots__ = ("_attached", "name", "recorder_of")

    def __init__(self, recorder_of: Callable[[], Recorder], name: str | None = None) -> None:
        self.name = name
        """What the user called the client."""
        self.recorder_of = recorder_of
        self._attached = True

    def recorder(self) -> Recorder | None:
        """Return the recorder to report this call to; None when nobody listens: muted, not configured, unwrapped."""
        if is_muted() or not self._attached:
            return None
        recorder = self.recorder_of()
        return None if recorder.__class__ is NullRecorder else recorder

    def cut(self) -> None:
        """Let nothing through any more: what is left of the adapter in other hands passes calls on unseen."""
        self._attached = False


Describe = Callable[[tuple[Any, ...], float, Any, BaseException | None], Call]
"""Makes the observation of a call from its arguments, its start, its result and what it raised."""


def observed(link: Link, describe: Describe, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Call ``function`` and report how it ended. Its result, or the exception it raised, is the caller's as it is."""
    recorder = link.recorder()
    if recorder is None:
        return function(*args, **kwargs)
    started = perf_counter()
    try:
        result = function(*args, **kwargs)
    except BaseException as error:
        report(recorder, describe, args, started, None, error)
        raise
    report(recorder, describe, args, started, result, None)
    return result


async def observed_async(
    link: Link, describe: Describe, function: Callable[..., Awaitable[T]], *args: Any, **kwargs: Any
) -> T:
    """Do the same with a function that is awaited."""
    recorder = link.recorder()
    if recorder is None:
        return await function(*args, **kwargs)
    started = perf_counter()
    try:
        result = await function(*args, **kwargs)
    except BaseException as error:
        report(recorder, describe, args, started, None, error)
        raise
    report(recorder, describe, args, started, result, None)
    return result


def layered(kind: Kind, link: Link, describe: Describe, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Do the same for a client that works through others: report the call unless a wrapped one below does."""
    recorder = link.recorder()
    if recorder is None:
        return function(*args, **kwargs)
    layer = Layer(kind, link.name, current_layer.get())
    token = current_layer.set(layer)
    started = perf_counter()
    try:
        result = function(*args, **kwargs)
    except BaseException as error:
        _end(layer, token)
        if not layer.is_counted:
            report(recorder, describe, args, started, None, error)
        raise
    _end(layer, token)
    if not layer.is_counted:
        report(recorder, describe, args, started, result, None)
    return result


async def layered_async(
    kind: Kind, link: Link, describe: Describe, function: Callable[..., Awaitable[T]], *args: Any, **kwargs: Any
) -> T:
    """Do the same with a function that is awaited."""
    recorder = link.recorder()
    if recorder is None:
        return await function(*args, **kwargs)
    layer = Layer(kind, link.name, current_layer.get())
    token = current_layer.set(layer)
    started = perf_counter()
    try:
        result = await function(*args, **kwargs)
    except BaseException as error:
        _end(layer, token)
        if not layer.is_counted:
            report(recorder, describe, args, started, None, error)
        raise
    _end(layer, token)
    if not layer.is_counted:
        report(recorder, describe, args, started, result, None)
    return result


def _end(layer: Layer, token: Token[Layer | None]) -> None:
    layer.is_over = True
    reset(current_layer, token)


def report(recorder: Recorder, describe: Callable[..., Call], *facts: Any) -> None:
    """Record the call that ``describe(*facts)`` makes, unless it is counted already by a client around this one.

    Never raises: a bug in there is the pack's own failure.
    """
    try:
        call = describe(*facts)
        counts = current_layer.get() is None or claim(call)
    except Exception as error:
        recorder.failed(_name(describe), error)
    else:
        if counts:
            recorder.record(call)


def attempt(link: Link, act: Callable[..., object], *args: Any) -> None:
    """Do what is the pack's own business beside a call. Never raises."""
    try:
        act(*args)
    except Exception as error:
        recorder = link.recorder()
        if recorder is not None:
            recorder.failed(_name(act), error)


def _name(function: Any) -> str:
    function = getattr(function, "func", function)
    return f"{function.__module__}.{function.__qualname__}"


def replace_attribute(target: Any, name: str, value: object) -> Detach:
    """Set an attribute of the object itself, and return the function that puts the former state back.

    Where somebody has replaced it again since, it is left to them.
    """
    former = vars(target).get(name, _MISSING)
    setattr(target, name, value)

    def restore() -> None:
        if vars(target).get(name) is not value:
            return
        if former is _MISSING:
            delattr(target, name)
        else:
            setattr(target, name, former)

    return restore


def replace_attributes(target: Any, values: dict[str, object]) -> Detach:
    """Replace several attributes at once."""
    restores = [replace_attribute(target, name, value) for name, value in values.items()]

    def restore_all() -> None:
        for restore in restores:
            restore()

    return restore_all
