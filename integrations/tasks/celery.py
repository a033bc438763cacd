"""Celery apps. Seams: the app's ``send_task`` leads to its ``amqp.send_task_message``; a worker tells by signals.

Signals are of the whole process; those of other apps' tasks are passed over. Under prefork a task is told by the child
that runs it, except where the child is lost with it, or is not let finish: then the parent tells.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from typing import Any, Final

from monitoring.integrations.attachment import Detach, Link, attempt, replace_attribute
from monitoring.monitor import import_for_children, write_what_waits
from monitoring.tasks import TaskOutcome

from .runs import Ending, Work, begin, end, ending_of, held_run, leave, put_run, report_sent, report_unrun, take_run
from .stamps import KEY, new_stamp

_SYSTEM: Final = "celery"
_OUTCOMES: Final[dict[str, TaskOutcome]] = {"SUCCESS": "ok", "REJECTED": "rejected", "IGNORED": "ignored"}
_TIME_LIMITS: Final = frozenset({"SoftTimeLimitExceeded", "TimeLimitExceeded"})


def carrier(app: Any) -> Any:
    """Return the app itself."""
    return app


def attach(app: Any, link: Link) -> Detach:
    """See what the app sends, and what its workers make of it."""
    sender = _Sender(app, link)
    restore = replace_attribute(app, "send_task", partial(sender.send_task, app.send_task))
    disconnect = _connect(_Worker(app, link))

    def detach() -> None:
        disconnect()
        restore()
        sender.detach()

    return detach


class _Sender:
    """Sees the messages that an app sends.

    Its ``amqp`` is looked at when the first one is sent, not before: to make it settles the app's settings.
    """

    def __init__(self, app: Any, link: Link) -> None:
        self._app = app
        self._link = link
        self._seam: Any = None
        self._lock = threading.Lock()
        self.detach: Detach = lambda: None

    def send_task(self, send: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        attempt(self._link, self._see_messages)
        return send(*args, **kwargs)

    def _see_messages(self) -> None:
        amqp = self._app.amqp
        if amqp.send_task_message is self._seam:
            return
        with self._lock:
            if amqp.send_task_message is not self._seam:
                self._seam = partial(self._send_message, amqp.send_task_message)
                self.detach = replace_attribute(amqp, "send_task_message", self._seam)

    def _send_message(
        self, send: Callable[..., Any], producer: Any, name: str, message: Any, *args: Any, **kwargs: Any
    ) -> Any:
        recorder = self._link.recorder()
        if recorder is None:
            return send(producer, name, message, *args, **kwargs)
        attempt(self._link, _stamp, kwargs)
        result = send(producer, name, message, *args, **kwargs)
        report_sent(recorder, self._describe, name, kwargs)
        return result

    def _describe(self, name: str, options: dict[str, Any]) -> tuple[str, str, str]:
        queue = options.get("queue") or options.get("routing_key") or self._app.conf.task_default_queue
        return _SYSTEM, str(getattr(queue, "name", queue)), name


def _stamp(options: dict[str, Any]) -> None:
    """Add the stamp to the message's headers; those of a retry hold the former one."""
    options["headers"] = {**(options.get("headers") or {}), KEY: new_stamp()}


class _Worker:
    """What is heard of an app's tasks where they run, and in the parent of the processes in which they do."""

    def __init__(self, app: Any, link: Link) -> None:
        self._app = app
        self._link = link
        self._received: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
        """The requests of a worker's main process, for as long as it has them."""
        self._is_child = False
        self._runs_tasks = False

    def task_prerun(self, sender: Any, **_: Any) -> None:
        if sender.app is self._app:
            self._runs_tasks = True
            attempt(self._link, lambda: put_run(sender.request, begin(self._link, _work, sender, sender.request)))

    def task_postrun(self, sender: Any, state: str | None = None, retval: Any = None, **_: Any) -> None:
        if sender.app is self._app:
            attempt(self._link, self._end, sender, state, retval)

    def _end(self, task: Any, state: str | None, result: Any) -> None:
        run = take_run(task.request)
        if run is None:
            return
        if state is None and self._is_child:
            leave(run)  # something other than an Exception ends the child: the parent tells of the task
        else:
            end(run, _ending, task, state, sys.exc_info()[1] if state is None else result)

    def task_received(self, request: Any, **_: Any) -> None:
        if request.task.app is self._app:
            self._received[request.id] = request

    def task_failure(self, sender: Any, task_id: str = "", exception: Any = None, **_: Any) -> None:
        """Hear of a task that failed without running to its end here: its child was lost, or too slow."""
        if sender.app is self._app and held_run(sender.request) is None and type(exception).__name__ != "Reject":
            request = self._received.pop(task_id, None)  # a task that is out of time is told of twice
            if request is not None:
                self._report_lost(sender, request, _outcome_of(exception), exception)

    def task_revoked(self, sender: Any, request: Any = None, **_: Any) -> None:
        if getattr(sender, "app", None) is self._app:
            self._report_lost(sender, self._received.pop(request.id, request), "revoked", None)

    def _report_lost(self, task: Any, request: Any, outcome: TaskOutcome, error: BaseException | None) -> None:
        context = getattr(request, "_context", request)
        began = getattr(request, "time_start", None)
        report_unrun(self._link, outcome, _work, task, context, error=error, ran_since=began)
        if not self._runs_tasks:
            attempt(self._link, write_what_waits)  # now: the leases of a thread that lived on would hold up children

    def worker_init(self, **_: Any) -> None:
        attempt(self._link, import_for_children)

    def worker_process_init(self, **_: Any) -> None:
        self._is_child = True

    def worker_process_shutdown(self, **_: Any) -> None:
        attempt(self._link, write_what_waits)


def _ending(task: Any, state: str | None, result: Any) -> Ending:
    if state is None:
        return ending_of(result)
    if state == "RETRY":
        return Ending("retry", getattr(result, "exc", None) or result, is_expected=True)
    if state in _OUTCOMES:
        return Ending(_OUTCOMES[state])
    return Ending(_outcome_of(result), result, is_expected=isinstance(result, tuple(task.throws or ())))


def _outcome_of(error: object) -> TaskOutcome:
    return "time_limit" if type(error).__name__ in _TIME_LIMITS else "error"


def _work(task: Any, request: Any) -> Work:
    place = request.delivery_info or {}
    attempt_number = 1 + int(request.retries or 0)
    queue = str(place.get("routing_key") or ("(eager)" if request.is_eager else ""))
    stamp = getattr(request, KEY, None)
    return Work(_SYSTEM, queue, task.name, attempt_number, stamp, _unix_time(request.eta) if stamp else None)


def _unix_time(eta: object) -> float | None:
    if not isinstance(eta, (str, datetime)):
        return None
    moment = datetime.fromisoformat(eta) if isinstance(eta, str) else eta
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _connect(worker: _Worker) -> Detach:
    signals: Any = import_module("celery.signals")
    own = f"monitoring-{id(worker)}"
    names = [name for name in vars(_Worker) if not name.startswith("_")]
    heard = [(getattr(signals, name), getattr(worker, name)) for name in names]
    for signal, receiver in heard:
        signal.connect(receiver, weak=False, dispatch_uid=own)

    def disconnect() -> None:
        for signal, receiver in heard:
            signal.disconnect(receiver, dispatch_uid=own)

    return disconnect
