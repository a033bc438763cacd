"""What adapters share: the way to the recorder, the guard around their own code, and replacing an attribute."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextvars import ContextVar, Token
from time import perf_counter
from typing import Any, Final, TypeVar

from monitoring.calls import Call
from monitoring.context import is_muted, reset
from monitoring.observation import Kind
from monitoring.recorder import NullRecorder, Recorder

from .layers import Describe, Layer, claim, current_layer, has_clients_below

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


def observing(
    link: Link, describe: Describe, function: Callable[..., T], through: Kind | None = None
) -> Callable[..., T]:
    """Return ``function`` with each call reported as it ended. Result and exception are the caller's as they are.

    A client may work ``through`` others of a kind: what a wrapped one below reports is not reported again. It is one
    closure, which reports a success by itself: passing on what it needs would double what it costs.
    """

    def observed(*args: Any, **kwargs: Any) -> T:
        recorder = link.recorder()
        if recorder is None:
            return function(*args, **kwargs)
        if through is not None and has_clients_below(through):
            return within(Layer(through, link.name), recorder, describe, function, *args, **kwargs)
        started = perf_counter()
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            report(recorder, describe, args, started, None, error)
            raise
        try:
            call = describe(args, started, result, None)
            if call is not None and (current_layer.get() is None or claim(call)):
                recorder.record(call)
        except Exception as error:
            recorder.failed(_name(describe), error)
        return result

    return observed


def observing_async(
    link: Link, describe: Describe, function: Callable[..., Awaitable[T]], through: Kind | None = None
) -> Callable[..., Coroutine[Any, Any, T]]:
    """Do the same with a function that is awaited."""

    async def observed(*args: Any, **kwargs: Any) -> T:
        recorder = link.recorder()
        if recorder is None:
            return await function(*args, **kwargs)
        if through is not None and has_clients_below(through):
            return await within_async(Layer(through, link.name), recorder, describe, function, *args, **kwargs)
        started = perf_counter()
        try:
            result = await function(*args, **kwargs)
        except BaseException as error:
            report(recorder, describe, args, started, None, error)
            raise
        report(recorder, describe, args, started, result, None)
        return result

    return observed


def within(
    layer: Layer, recorder: Recorder, describe: Describe, function: Callable[..., T], *args: Any, **kwargs: Any
) -> T:
    """Call ``function`` in a layer that was made for it, and report the call unless a client below does."""
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


async def within_async(
    layer: Layer,
    recorder: Recorder,
    describe: Describe,
    function: Callable[..., Awaitable[T]],
    *args: Any,
    **kwargs: Any,
) -> T:
    """Do the same with a function that is awaited."""
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


def report(recorder: Recorder, describe: Callable[..., Call | None], *facts: Any) -> None:
    """Record the call that ``describe(*facts)`` makes, unless it is counted already by a client around this one.

    Never raises: a bug in there is the pack's own failure.
    """
    try:
        call = describe(*facts)
        if call is not None and (current_layer.get() is None or claim(call)):
            recorder.record(call)
    except Exception as error:
        recorder.failed(_name(describe), error)


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


def subclass_of(kind: Any, members: Mapping[str, Any]) -> Any:
    """Return a subclass that calls itself what ``kind`` does."""
    return type(kind.__name__, (kind,), {"__module__": kind.__module__, "__doc__": kind.__doc__, **members})
