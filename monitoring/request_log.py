"""The canonical line: one per request, written when its last byte is on its way.

Errors get a line of their own, with the stack.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import orjson

from .context import current_record
from .logs.levels import LEVELS
from .logs.lines import CANONICAL, LogLines
from .observation import UNMATCHED, Kind, Observation, RequestRecord
from .recorder import Fold
from .tasks import TaskRecord
from .utils.plain import clip
from .utils.time import THOUSANDTHS, second_of

_LEVEL_OF: Final[Mapping[str, str]] = {
    "ok": "info",
    "client_error": "warning",
    "server_error": "error",
    "error_after_start": "error",
    "background_error": "error",
    "error": "error",
    "client_disconnected": "info",
    "aborted": "info",
    "cancelled": "info",
    "time_limit": "error",
    "retry": "warning",
    "rejected": "warning",
    "missed": "warning",
    "revoked": "info",
    "ignored": "info",
}
_ERROR_LOGGER: Final = "monitoring.error"
_OF_SAMPLE: Final = frozenset(outcome for outcome, level in _LEVEL_OF.items() if level == "info")
_URGENT: Final = frozenset(outcome for outcome, level in _LEVEL_OF.items() if level == "error")
_PATH_LIMIT: Final = 256
_USUAL_REST: Final = (
    '"db_calls":0,"db_ms":0,"cache_hits":0,"cache_misses":0,"llm_calls":0,"llm_tokens":0,"llm_cost_usd":0'
)
_TEXTS_REMEMBERED: Final = 4096


class RequestLog:
    """The sink that writes requests, websockets, failed background work and jobs as lines."""

    def __init__(self, lines: LogLines) -> None:
        self._lines = lines
        self._writer = lines.writer
        self._service = _quoted(lines.service)
        self._second = (0.0, "")
        self._heads: dict[tuple[str, int, str], str] = {}
        self._routes: dict[str, str] = {}
        lines.levels.on_change.append(self._heads.clear)

    def folds(self) -> Mapping[Kind, Fold]:
        """Return which kinds of observation become lines."""
        return {
            "request": self._write_request,
            "websocket": self._write_other,
            "background": self._write_other,
            "job": self._write_job,
        }

    def _write_request(self, record: RequestRecord) -> None:
        """Write the line, put together from parts that are made once, which costs half of encoding a dict.

        What is kept for a route is short: it has left the processor's caches when the route's next request comes.
        """
        if self._lines.sample_rate < 1 and record.outcome in _OF_SAMPLE and not self._lines.is_sampled(record):
            return self._have_thread()
        rest = self._unusual_rest(record) if record.noted or record.called else _USUAL_REST
        kind = (record.method, record.status, record.outcome)
        head = self._heads.get(kind)
        if head is None:
            head = self._head(kind)
        if not head:
            return self._have_thread()
        route = self._routes.get(record.route) or self._quoted_route(record.route)
        seconds = record.duration_seconds
        ended = record.started + seconds
        began, second = self._second
        if not 0 <= ended - began < 1:
            began, second = self._second = second_of(ended)
        time, duration = int((ended - began) * 1e6), int(seconds * 1e6)
        line = (
            f'{{"timestamp":"{second}.{THOUSANDTHS[time // 1000]}{THOUSANDTHS[time % 1000]}Z",{head},"route":{route},'
            f'"request_id":"{record.request_id}","trace_id":"{record.trace_id}","span_id":"{record.span_id}",'
            f'"duration_ms":{duration // 1000}.{THOUSANDTHS[duration % 1000]},"bytes":{record.bytes_sent},{rest}}}\n'
        ).encode()
        if self._lines.is_plain:
            self._writer.write_of_request(line, record.outcome in _URGENT, ended)
        else:
            self._writer.start_queue()
            self._lines.send(LEVELS[_LEVEL_OF[record.outcome]], CANONICAL, line)

    def _have_thread(self) -> None:
        """Have the writer's thread run, also where no line is written by it: it is who follows a changed level."""
        if not self._writer.queues:
            self._writer.start_queue()

    def _unusual_rest(self, record: RequestRecord) -> str:
        self._release_held(record, record.outcome)
        if record.exception is not None and self._lines.levels.of(_ERROR_LOGGER) <= LEVELS["error"]:
            place = {"method": record.method, "route": record.route}
            self._lines.emit("error", _ERROR_LOGGER, "unhandled exception", place, record.exception)
        return _rest(record, self._lines.clean)

    def _release_held(self, request: RequestRecord | None, outcome: str) -> None:
        if request is not None and request.held is not None and outcome in _URGENT:
            self._lines.release(request)

    def _head(self, kind: tuple[str, int, str]) -> str:
        """Return what the lines of a kind begin with, "" when they are below the level that is written."""
        if len(self._heads) >= _TEXTS_REMEMBERED:
            self._heads.clear()
        changed = self._lines.levels.changed
        head = self._heads[kind] = self._new_head(*kind)
        if changed is not self._lines.levels.changed:  # by another thread, which may have forgotten all before that
            self._heads.pop(kind, None)
        return head

    def _new_head(self, method: str, status: int, outcome: str) -> str:
        if LEVELS[_LEVEL_OF[outcome]] < self._lines.levels.of(CANONICAL):
            return ""
        return (
            f'"level":"{_LEVEL_OF[outcome]}","logger":"{CANONICAL}","event":"request","service":{self._service},'
            f'"method":"{method}","status":{status},"outcome":"{outcome}"'
        )

    def _quoted_route(self, route: str) -> str:
        if len(self._routes) >= _TEXTS_REMEMBERED:
            self._routes.clear()
        quoted = self._routes[route] = _quoted(route)
        return quoted

    def _write_other(self, observation: Observation) -> None:
        fields = {
            "route": observation.name,
            "outcome": observation.outcome,
            "duration_ms": round(observation.duration_seconds * 1000, 3),
        }
        level, request = _LEVEL_OF[observation.outcome], observation.request
        self._have_thread()
        self._release_held(request, observation.outcome)
        if LEVELS[level] >= self._lines.levels.of(CANONICAL):
            token = current_record.set(request)  # it is over, and so is its context
            try:
                self._lines.emit(level, CANONICAL, observation.kind, fields, observation.exception)
            finally:
                current_record.reset(token)

    def _write_job(self, record: RequestRecord) -> None:
        level = _LEVEL_OF[record.outcome]
        self._have_thread()
        self._release_held(record, record.outcome)
        if LEVELS[level] >= self._lines.levels.of(CANONICAL):
            self._lines.emit(level, CANONICAL, record.kind, _of_job(record), record.exception)


def _of_job(record: RequestRecord) -> dict[str, object]:
    told: dict[str, object] = {
        "route": record.route,
        "outcome": record.outcome,
        "duration_ms": round(record.duration_seconds * 1000, 3),
        "db_calls": record.db_calls,
        "db_ms": round(record.db_seconds * 1000, 3),
        "cache_hits": record.cache_hits,
        "cache_misses": record.cache_misses,
        "http_calls": record.http_calls or "",
        "http_ms": round(record.http_seconds * 1000, 3) or "",
        "llm_calls": record.llm_calls,
        "llm_tokens": record.llm_tokens,
        "llm_cost_usd": round(record.llm_cost_usd, 9),
        "client_request_id": record.client_request_id,
        "parent_span_id": record.parent_span_id,
        "error_type": type(record.exception).__name__ if record.exception is not None else "",
        "error_group": record.error_group,
        "repeated_queries": record.found("repeated") or "",
        "slow_queries": record.found("slow") or "",
    }
    if isinstance(record, TaskRecord):
        told |= _of_task(record)
    return {name: value for name, value in told.items() if value != ""}


def _of_task(record: TaskRecord) -> dict[str, object]:
    wait = record.wait_seconds
    return {
        "task": record.task,
        "messaging_system": record.system,
        "queue": record.queue,
        "queue_wait_ms": "" if wait is None else round(wait * 1000, 3),
        "attempt": record.attempt,
        "error_type": record.error_type,
    }


def _rest(record: RequestRecord, clean: Callable[[str], str]) -> str:
    """Return what a line ends with: the sums of calls, and what most requests do not have."""
    rest = _calls(record) if record.called else _USUAL_REST
    if record.http_calls:
        rest += f',"http_calls":{record.http_calls},"http_ms":{record.http_seconds * 1000:.3f}'
    if record.findings:
        rest += _findings(record)
    if record.streamed:
        rest += f',"first_byte_ms":{record.first_byte_seconds * 1000:.3f}'
    if record.user_id:
        rest += f',"user_id":{_quoted(record.user_id)}'
    if record.consumer:
        rest += f',"consumer":{_quoted(record.consumer)}'
    if record.client_request_id:
        rest += f',"client_request_id":"{record.client_request_id}"'
    if record.parent_span_id:
        rest += f',"parent_span_id":"{record.parent_span_id}"'
    if record.exception is not None:
        rest += f',"error_type":{_quoted(type(record.exception).__name__)}'
    if record.error_group:
        rest += f',"error_group":{_quoted(record.error_group)}'
    if record.route == UNMATCHED:
        rest += f',"path":{_quoted(clean(record.path[:_PATH_LIMIT]))}'
    return rest


def _calls(record: RequestRecord) -> str:
    return (
        f'"db_calls":{record.db_calls},"db_ms":{record.db_seconds * 1000:.3f},"cache_hits":{record.cache_hits},'
        f'"cache_misses":{record.cache_misses},"llm_calls":{record.llm_calls},"llm_tokens":{record.llm_tokens},'
        f'"llm_cost_usd":{record.llm_cost_usd:.9f}'
    )


def _findings(record: RequestRecord) -> str:
    found = ((f"{kind}_queries", record.found(kind)) for kind in ("repeated", "slow"))
    return "".join(f',"{name}":{number}' for name, number in found if number)


def _quoted(text: str) -> str:
    """Return ``text`` as a JSON string."""
    try:
        return orjson.dumps(text).decode()
    except Exception:
        return orjson.dumps(clip(text)).decode()
