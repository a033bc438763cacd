"""The canonical line: one per request, written when its last byte is on its way.

Errors get a line of their own, with the stack.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import orjson

from .logging_config import LEVELS, LogLines
from .observation import UNMATCHED, Kind, Observation, RequestRecord
from .recorder import Fold
from .utils.plain import clip
from .utils.time import THOUSANDTHS, utc_now

_LEVEL_OF: Final[Mapping[str, str]] = {
    "ok": "info",
    "client_error": "warning",
    "server_error": "error",
    "error_after_start": "error",
    "background_error": "error",
    "client_disconnected": "info",
    "aborted": "info",
    "cancelled": "info",
}
_PATH_LIMIT: Final = 256
_NO_CALLS: Final = (
    '"db_calls":0,"db_ms":0,"cache_hits":0,"cache_misses":0,"llm_calls":0,"llm_tokens":0,"llm_cost_usd":0'
)
_TEXTS_REMEMBERED: Final = 4096


class RequestLog:
    """The sink that writes requests, websockets and failed background work as lines."""

    def __init__(self, lines: LogLines) -> None:
        self._lines = lines
        self._service = _quoted(lines.service)
        self._written = {outcome: level for outcome, level in _LEVEL_OF.items() if LEVELS[level] >= lines.level}
        self._texts: dict[tuple[str, str, int, str], str] = {}

    def folds(self) -> Mapping[Kind, Fold]:
        """Return which kinds of observation become lines."""
        return {"request": self._write_request, "websocket": self._write_other, "background": self._write_other}

    def _write_request(self, record: RequestRecord) -> None:
        writer = self._lines.writer
        if not writer.queues:
            writer.start_queue()
        if record.exception is not None and "server_error" in self._written:
            self._write_exception(record)
        level = self._written.get(record.outcome)
        if level is not None:
            writer.write(self._request_line(record, level), level == "error")

    def _request_line(self, record: RequestRecord, level: str) -> bytes:
        """Return the line.

        It is put together from parts that are made once per route, which costs half of encoding a dict.
        """
        key = (record.method, record.route, record.status, record.outcome)
        text = self._texts.get(key) or self._text(key, level)
        calls = _calls(record) if record.called else _NO_CALLS
        extras = ""
        if record.noted or record.streamed or record.exception is not None or record.route == UNMATCHED:
            extras = self._extras(record)
        duration = int(record.duration_seconds * 1e6)
        return (
            f'{{"timestamp":"{utc_now()}",{text},"request_id":"{record.request_id}","trace_id":"{record.trace_id}",'
            f'"span_id":"{record.span_id}","duration_ms":{duration // 1000}.{THOUSANDTHS[duration % 1000]},'
            f'"bytes":{record.bytes_sent},{calls}{extras}}}\n'
        ).encode()

    def _text(self, key: tuple[str, str, int, str], level: str) -> str:
        method, route, status, outcome = key
        if len(self._texts) >= _TEXTS_REMEMBERED:
            self._texts.clear()
        text = self._texts[key] = (
            f'"level":"{level}","logger":"monitoring.request","event":"request","service":{self._service},'
            f'"method":"{method}","route":{_quoted(route)},"status":{status},"outcome":"{outcome}"'
        )
        return text

    def _extras(self, record: RequestRecord) -> str:
        extras = f',"first_byte_ms":{record.first_byte_seconds * 1000:.3f}' if record.streamed else ""
        if record.user_id:
            extras += f',"user_id":{_quoted(record.user_id)}'
        if record.client_request_id:
            extras += f',"client_request_id":"{record.client_request_id}"'
        if record.parent_span_id:
            extras += f',"parent_span_id":"{record.parent_span_id}"'
        if record.exception is not None:
            extras += f',"error_type":{_quoted(type(record.exception).__name__)}'
        if record.error_group:
            extras += f',"error_group":{_quoted(record.error_group)}'
        if record.route == UNMATCHED:
            extras += f',"path":{_quoted(record.path[:_PATH_LIMIT])}'
        return extras

    def _write_exception(self, record: RequestRecord) -> None:
        fields = {"method": record.method, "route": record.route}
        self._lines.emit("error", "monitoring.error", "unhandled exception", fields, record.exception)

    def _write_other(self, observation: Observation) -> None:
        fields = {
            "route": observation.name,
            "outcome": observation.outcome,
            "duration_ms": round(observation.duration_seconds * 1000, 3),
        }
        level = self._written.get(observation.outcome)
        if level is not None:
            self._lines.emit(level, "monitoring.request", observation.kind, fields, observation.exception)


def _calls(record: RequestRecord) -> str:
    return (
        f'"db_calls":{record.db_calls},"db_ms":{record.db_seconds * 1000:.3f},"cache_hits":{record.cache_hits},'
        f'"cache_misses":{record.cache_misses},"llm_calls":{record.llm_calls},"llm_tokens":{record.llm_tokens},'
        f'"llm_cost_usd":{record.llm_cost_usd:.9f}'
    )


def _quoted(text: str) -> str:
    """Return ``text`` as a JSON string."""
    try:
        return orjson.dumps(text).decode()
    except Exception:
        return orjson.dumps(clip(text)).decode()
