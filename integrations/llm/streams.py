"""Watching a stream without replacing it: the SDK's own object stays, and what it iterates over is watched.

A stream ends in one of five ways, and is reported once: read to its end, broken off by an error, cancelled, closed by
its reader (``closed_early``), or dropped (``abandoned``).
"""

from __future__ import annotations

import weakref
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import suppress
from typing import Any

from monitoring.context import reset
from monitoring.integrations.attachment import Detach, inside_llm_call

from .calls import PendingCall

Begin = Callable[[], PendingCall | None]
IsClosed = Callable[[], bool]


def watch(stream: Any, call: PendingCall) -> None:
    """Let ``call`` see the chunks of a Stainless SDK's stream, and how it ends."""
    stream._iterator = watch_response(_independent_chunks(stream), stream.response, call)


def watch_response(chunks: Any, response: Any, call: PendingCall) -> Any:
    """Return a generator of the chunks of an HTTP response; who closes the response closes the stream."""
    watched = _reader(chunks)(chunks, lambda: call, lambda: bool(response.is_closed))
    reader, known = weakref.ref(watched), weakref.ref(call)  # the response goes later than a stream that is dropped

    def closed() -> None:
        """Tell a reader who closes the stream from the generator itself, which closes it at its end."""
        restore()
        reading, read = reader(), known()
        if reading is not None and read is not None and not _is_running(reading):
            read.end(None, "closed_early")

    restore = before_close(response, closed)
    return watched


def before_close(response: Any, act: Callable[[], None]) -> Detach:
    """Have ``act`` called before the response is closed: the SDKs' helpers close it, and not the stream."""
    close, aclose = response.close, response.aclose

    def closing() -> None:
        act()
        close()

    async def aclosing() -> None:
        act()
        await aclose()

    undo, undo_async = _put(response, "close", close, closing), _put(response, "aclose", aclose, aclosing)

    def restore() -> None:
        undo()
        undo_async()

    return restore


def _put(target: Any, name: str, former: Any, value: object) -> Detach:
    """Do what ``replace_attribute`` does without looking at the object's ``__dict__``.

    An object whose ``__dict__`` was looked at is slower in CPython, and so is code that meets both kinds: each response
    would cost the SDK more than all that is done with it here.
    """
    setattr(target, name, value)

    def restore() -> None:
        if getattr(target, name) is not value:
            return
        if getattr(former, "__self__", None) is target:
            delattr(target, name)  # it is a method of the class
        else:
            setattr(target, name, former)

    return restore


def watch_generator(chunks: Any, begin: Begin, is_closed: IsClosed | None = None) -> Any:
    """Return a generator of the chunks of a generator, which sends its request when it is first asked for one.

    One that is closed knows its own weak references; of one that is dropped they are gone. Where the reader has another
    generator, which reads this one, ``is_closed`` tells whether that one was closed.
    """
    if is_closed is not None:
        return _reader(chunks)(chunks, begin, is_closed)
    known: list[weakref.ref[Any]] = []
    watched = _reader(chunks)(chunks, begin, lambda: known[0]() is not None)
    known.append(weakref.ref(watched))
    return watched


class OuterGenerator:
    """What becomes of a generator that reads one of ours by way of another, which is its child.

    One that is closed lets go of its child while it is there itself, and one that is dropped is gone before its child.
    """

    __slots__ = ("_child", "_outer", "_was_closed")

    def __init__(self) -> None:
        self._outer: Callable[[], Any] | None = None
        self._child: Callable[[], Any] | None = None
        self._was_closed = False

    def follow(self, generator: Any) -> None:
        """See what becomes of a generator, if it is one."""
        with suppress(TypeError):
            self._outer = weakref.ref(generator, self._gone)

    def meet(self, child: Any) -> Any:
        """Return the child, which is its last so far."""
        self._child = weakref.ref(child)
        return child

    def is_closed(self) -> bool:
        """Tell whether it was closed, when one that it read is over before its end."""
        return self._was_closed or (self._outer is not None and self._outer() is not None)

    def _gone(self, _: object) -> None:
        self._was_closed = self._child is not None and self._child() is None


def watch_closable(chunks: Any, close: Callable[[], None], call: PendingCall) -> tuple[Any, Callable[[], None]]:
    """Return a generator of the chunks of a stream, and what to call in the place of its ``close``."""
    watched = _reader(chunks)(chunks, lambda: call, bool)
    reader = weakref.ref(watched)

    def closing() -> None:
        if reader() is not None:
            call.end(None, "closed_early")
        close()

    return watched, closing


def _reader(chunks: Any) -> Callable[..., Any]:
    return _read_async if hasattr(chunks, "__anext__") else _read


def _is_running(generator: Any) -> bool:
    return getattr(generator, "gi_running", False) or getattr(generator, "ag_running", False)


def _independent_chunks(stream: Any) -> Any:
    """Return a generator of the chunks that does not hold the stream, so that a dropped stream ends at once and not
    when the garbage collector finds it.
    """
    twin = object.__new__(type(stream))
    for name in _attributes(type(stream), stream):
        setattr(twin, name, getattr(stream, name))
    return twin.__stream__()


_of_class: dict[type, tuple[str, ...]] = {}


def _attributes(kind: type, stream: Any) -> tuple[str, ...]:
    """Return the names of what the streams of a class hold, without looking at each one's ``__dict__``."""
    names = _of_class.get(kind)
    if names is None:
        names = _of_class[kind] = tuple(name for name in vars(stream) if name != "_iterator")
    return names


def _read(chunks: Any, begin: Begin, is_closed: IsClosed) -> Generator[Any, None, None]:
    """Yield the chunks and show them to the call, which begins when the first is asked for."""
    call = begin()
    take = _ignored if call is None else call.take
    token = None if call is None else inside_llm_call.set(call)
    try:
        for chunk in chunks:
            if token is not None:
                inside_llm_call.reset(token)
                token = None
            if take(chunk):
                continue
            yield chunk
    except GeneratorExit:
        if call is not None:
            call.drop("closed_early" if is_closed() else "abandoned")
        raise
    except BaseException as error:
        if call is not None:
            call.end(error)
        raise
    else:
        if call is not None:
            call.end()
    finally:
        if token is not None:
            reset(inside_llm_call, token)
        chunks.close()


async def _read_async(chunks: Any, begin: Begin, is_closed: IsClosed) -> AsyncGenerator[Any, None]:
    """Do the same with a stream that is read by ``async for``."""
    call = begin()
    take = _ignored if call is None else call.take
    token = None if call is None else inside_llm_call.set(call)
    try:
        async for chunk in chunks:
            if token is not None:
                inside_llm_call.reset(token)
                token = None
            if take(chunk):
                continue
            yield chunk
    except GeneratorExit:
        if call is not None:
            call.drop("closed_early" if is_closed() else "abandoned")
        raise
    except BaseException as error:
        if call is not None:
            call.end(error)
        raise
    else:
        if call is not None:
            call.end()
    finally:
        if token is not None:
            reset(inside_llm_call, token)
        await chunks.aclose()


def _ignored(chunk: Any) -> object:
    """Take nothing: nobody listens."""
