"""Watching a stream without replacing it: the SDK's own object stays, and what it iterates over is watched.

A stream ends in one of five ways, and is reported once: read to its end, broken off by an error, cancelled, closed by
its reader (``closed_early``), or dropped (``abandoned``).
"""

from __future__ import annotations

import copy
import inspect
import weakref
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

from monitoring.integrations.attachment import Detach, replace_attributes

from .calls import PendingCall


def watch(stream: Any, call: PendingCall) -> None:
    """Let ``call`` see the chunks of an SDK's stream, and how it ends."""
    chunks, response = _independent_chunks(stream), stream.response
    watched = (_watched_async if inspect.isasyncgen(chunks) else _watched)(chunks, response, call)
    reader = weakref.ref(watched)

    def closed() -> None:
        """Tell a reader who closes the stream from the generator itself, which closes it at its end."""
        restore()
        reading = reader()
        if reading is not None and not _is_running(reading):
            call.end(None, "closed_early")

    restore = before_close(response, closed)
    stream._iterator = watched


def before_close(response: Any, act: Callable[[], None]) -> Detach:
    """Have ``act`` called before the response is closed: the SDKs' helpers close it, and not the stream."""
    close, aclose = response.close, response.aclose

    def closing() -> None:
        act()
        close()

    async def aclosing() -> None:
        act()
        await aclose()

    return replace_attributes(response, {"close": closing, "aclose": aclosing})


def _is_running(generator: Any) -> bool:
    return getattr(generator, "gi_running", False) or getattr(generator, "ag_running", False)


def _independent_chunks(stream: Any) -> Any:
    """Return a generator of the chunks that does not hold the stream, so that a dropped stream ends at once and not
    when the garbage collector finds it.
    """
    twin = copy.copy(stream)
    vars(twin).pop("_iterator", None)
    return twin.__stream__()


def _watched(chunks: Any, response: Any, call: PendingCall) -> Generator[Any, None, None]:
    try:
        for chunk in chunks:
            call.note(chunk)
            yield chunk
    except GeneratorExit:
        call.drop(_lost_interest(response))
        raise
    except BaseException as error:
        call.end(error)
        raise
    else:
        call.end()
    finally:
        chunks.close()


async def _watched_async(chunks: Any, response: Any, call: PendingCall) -> AsyncGenerator[Any, None]:
    try:
        async for chunk in chunks:
            call.note(chunk)
            yield chunk
    except GeneratorExit:
        call.drop(_lost_interest(response))
        raise
    except BaseException as error:
        call.end(error)
        raise
    else:
        call.end()
    finally:
        await chunks.aclose()


def _lost_interest(response: Any) -> str:
    return "closed_early" if response.is_closed else "abandoned"
