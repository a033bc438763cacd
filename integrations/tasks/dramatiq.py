"""Dramatiq brokers. The seam: a middleware at the head of the list, the first to hear of a message and the last of its
end, when the others have decided whether it is tried again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any, Final

from monitoring.integrations.attachment import Detach, Link, attempt
from monitoring.monitor import write_what_waits
from monitoring.tasks import TaskOutcome

from .runs import Ending, Work, begin, end, put_run, report_sent, take_run
from .stamps import KEY, new_stamp

_SYSTEM: Final = "dramatiq"
_DELAYED: Final = ".DQ"
_MOVES: Final = "moves"
"""In the stamp of a message that was delayed, and now goes to the queue that it was sent to."""


def carrier(broker: Any) -> Any:
    """Return the broker itself."""
    return broker


def attach(broker: Any, link: Link) -> Detach:
    """Put our middleware before all others."""
    middleware = _middleware_class()(link)
    broker.middleware.insert(0, middleware)

    def detach() -> None:
        if middleware in broker.middleware:
            broker.middleware.remove(middleware)

    return detach


@cache
def _middleware_class() -> Any:
    """Return our middleware as a class of the library's: it has more hooks in each version."""
    base: Any = import_module("dramatiq.middleware").Middleware
    hooks = {name: hook for name, hook in vars(_Hooks).items() if not name.startswith("__") or name == "__init__"}
    return type("MonitoringMiddleware", (base,), {**hooks, "__module__": __name__})


class _Hooks:
    """The hooks of the middleware."""

    _link: Link

    def __init__(self, link: Link) -> None:
        self._link = link

    def before_enqueue(self, broker: Any, message: Any, delay: int | None) -> None:
        if self._link.recorder() is not None:
            attempt(self._link, _stamp, message, delay)

    def after_enqueue(self, broker: Any, message: Any, delay: int | None) -> None:
        recorder = self._link.recorder()
        if recorder is not None and not _moves(message):
            report_sent(recorder, _describe, message)

    def before_delay_message(self, broker: Any, message: Any) -> None:
        attempt(self._link, _note_move, message)

    def before_process_message(self, broker: Any, message: Any) -> None:
        attempt(self._link, _note_arrival, message)
        attempt(self._link, lambda: put_run(message, begin(self._link, _work, message)))

    def after_process_message(
        self, broker: Any, message: Any, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        attempt(self._link, _end, _ending, message, broker, exception)

    def after_skip_message(self, broker: Any, message: Any) -> None:
        attempt(self._link, _end, _ending_of_skipped, message)

    def after_worker_shutdown(self, broker: Any, worker: Any) -> None:
        attempt(self._link, write_what_waits)


def _stamp(message: Any, delay: int | None) -> None:
    former = message.options.get(KEY)
    if isinstance(former, dict) and former.get(_MOVES) is True:
        return
    stamp = message.options[KEY] = new_stamp()
    if delay:
        stamp["queued_at"] += delay / 1000


def _note_move(message: Any) -> None:
    stamp = message.options.get(KEY)
    message.options[KEY] = {**(stamp if isinstance(stamp, dict) else {}), _MOVES: True}


def _note_arrival(message: Any) -> None:
    if _moves(message):
        message.options[KEY] = {name: value for name, value in message.options[KEY].items() if name != _MOVES}


def _moves(message: Any) -> bool:
    stamp = message.options.get(KEY)
    return isinstance(stamp, dict) and stamp.get(_MOVES) is True


def _describe(message: Any) -> tuple[str, str, str]:
    return _SYSTEM, message.queue_name.removesuffix(_DELAYED), message.actor_name


def _work(message: Any) -> Work:
    attempt_number = 1 + int(message.options.get("retries") or 0)
    system, queue, task = _describe(message)
    return Work(system, queue, task, attempt_number, message.options.get(KEY), _sent_at(message))


def _sent_at(message: Any) -> float | None:
    """Return when a message without a stamp was made."""
    made_at = message.message_timestamp
    return made_at / 1000 if KEY not in message.options and isinstance(made_at, (int, float)) else None


def _end(judge: Callable[..., Ending], message: Any, *facts: Any) -> None:
    run = take_run(message)
    if run is not None:
        end(run, judge, message, *facts, run.record.attempt)


def _ending(message: Any, broker: Any, error: BaseException | None, attempt_number: int) -> Ending:
    if error is None:
        return Ending("error" if message.failed else "ok")
    return Ending(_outcome_of(message, error, attempt_number), error, _is_expected(broker, message, error))


def _ending_of_skipped(message: Any, attempt_number: int) -> Ending:
    return Ending("rejected" if message.failed else "ignored")


def _outcome_of(message: Any, error: BaseException, attempt_number: int) -> TaskOutcome:
    name = type(error).__name__
    if not message.failed and int(message.options.get("retries") or 0) >= attempt_number:
        return "retry"
    if name == "TimeLimitExceeded":
        return "time_limit"
    return "cancelled" if name == "Shutdown" else "error"


def _is_expected(broker: Any, message: Any, error: BaseException) -> bool:
    """Say whether the actor declares this exception, or asks by it to be tried again, now or at a lower rate."""
    if type(error).__name__ in ("Retry", "RateLimitExceeded"):
        return True
    actor = broker.actors.get(message.actor_name)
    throws: Any = message.options.get("throws") or (actor.options.get("throws") if actor is not None else ())
    return isinstance(error, throws or ())
