"""OpenAI's responses in the background: asked for now, and fetched when they are complete."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from time import perf_counter
from typing import Final

from .calls import PendingCall
from .fetched import Fetched

_CALLS: Final = 500
_SECONDS: Final = 3_600.0
UNDER_WAY: Final = frozenset({"queued", "in_progress"})


class Waiting:
    """The calls of this process whose responses are under way, by the response's id. Thread-safe.

    Those that are not fetched within an hour, or not before 500 newer ones, count as abandoned, at the next look.
    """

    def __init__(self, clock: Callable[[], float] = perf_counter) -> None:
        self._clock = clock
        self._lock = Lock()
        self._calls: OrderedDict[str, tuple[float, PendingCall]] = OrderedDict()

    def hold(self, response_id: str, call: PendingCall) -> None:
        """Keep a call until its response is complete."""
        call.hold()
        with self._lock:
            self._calls[response_id] = (self._clock(), call)
        self._let_go()

    def take(self, response_id: str) -> PendingCall | None:
        """Return the call whose response is complete, to whoever is the first to know."""
        with self._lock:
            _, call = self._calls.pop(response_id, (0.0, None))
        self._let_go()
        return call

    def _let_go(self) -> None:
        while (call := self._outdated()) is not None:
            call.resume()
            call.drop("abandoned")

    def _outdated(self) -> PendingCall | None:
        with self._lock:
            for response_id, (since, call) in self._calls.items():
                if len(self._calls) > _CALLS or self._clock() - since > _SECONDS:
                    del self._calls[response_id]
                    return call
                break
        return None


waiting: Final = Waiting()
"""Of all clients: a response may be fetched by another than the one that asked for it."""


def note(fetched: Fetched) -> None:
    """End the call whose response is complete, the first time that somebody sees it."""
    told = fetched.told
    status, response_id = told.get("status"), told.get("id")
    if status is None or response_id is None or status in UNDER_WAY:
        return
    call = waiting.take(response_id)
    if call is not None:
        call.resume()
        call.tool_calls = 0
        call.note(told)
        call.end(None, "cancelled" if status == "cancelled" else "")
