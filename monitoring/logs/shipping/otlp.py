"""Lines as OpenTelemetry's log records, by OTLP over HTTP, in JSON."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from ..outlets import OnDropped, Outlet
from .http import Endpoint, HttpTransport, endpoint
from .limits import Limits
from .outlet import ShippingOutlet
from .parsing import Line, parsed
from .settings import check_level, spool_folder
from .tls import tls_context

_PATH: Final = "/v1/logs"
_SEVERITIES: Final = {"debug": 5, "info": 9, "warning": 13, "error": 17, "critical": 21}
"""By the log data model of OpenTelemetry: the first of DEBUG, INFO, WARN, ERROR and FATAL."""
_ELSEWHERE: Final = frozenset({"timestamp", "level", "logger", "event", "service", "trace_id", "span_id", "exception"})
_TRACE_ID: Final = re.compile(r"(?!0{32})[0-9a-f]{32}")
_SPAN_ID: Final = re.compile(r"(?!0{16})[0-9a-f]{16}")
_LARGEST_INTEGER: Final = 2**63 - 1


@dataclass(frozen=True)
class OTLP:
    """Posts lines to a collector as log records: the event is the body, fields are attributes, loggers are scopes.

    Raise ValueError for a setting that cannot be used.
    """

    url: str = field(repr=False)
    """Of the collector, such as ``http://localhost:4318``; ``/v1/logs`` is added. A user in it becomes Basic
    credentials.
    """
    _: KW_ONLY
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    resource: Mapping[str, str] = field(default_factory=dict)
    """Attributes besides ``service.name`` and ``host.name``, such as ``deployment.environment.name``."""
    level: str = "debug"
    spool: str | Path | None = None
    """Folder that keeps what cannot be delivered; several destinations and processes may share it."""
    ca_file: str | None = None
    """Trust the authorities in this PEM file, instead of the system's."""
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        check_level("OTLP", self.level)
        if self._endpoint.is_secure:
            tls_context("OTLP", self.ca_file)

    def __repr__(self) -> str:
        return f"OTLP({self._endpoint}, level={self.level!r})"

    def open(self, service: str, on_dropped: OnDropped) -> Outlet:
        """Return what posts the lines of this process."""
        place = self._endpoint
        records = _Records(service, self.resource)
        tls = tls_context("OTLP", self.ca_file) if place.is_secure else None
        return ShippingOutlet(
            f"OTLP at {place}",
            lambda: HttpTransport(place, records.encode, rejected_by, self.limits.timeout_seconds, tls),
            spool_folder(self.spool, "otlp", place.id, sorted(self.resource.items())),
            self.limits,
            on_dropped,
        )

    @property
    def _endpoint(self) -> Endpoint:
        return endpoint("OTLP", self.url, _PATH, self.headers)


class _Records:
    """Brings lines into the form of an ``ExportLogsServiceRequest``."""

    def __init__(self, service: str, resource: Mapping[str, str]) -> None:
        self._service = service
        self._resource = {"host.name": socket.gethostname(), **resource}

    def encode(self, lines: Sequence[bytes]) -> bytes:
        """Return the body of an export."""
        services: dict[str, dict[str, list[dict[str, Any]]]] = {}
        for line in parsed(lines):
            scopes = services.setdefault(line.text_of("service", self._service), {})
            scopes.setdefault(line.text_of("logger"), []).append(_record(line))
        return orjson.dumps({"resourceLogs": [self._resource_logs(*found) for found in services.items()]})

    def _resource_logs(self, service: str, scopes: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any]:
        return {
            "resource": {"attributes": _attributes({"service.name": service, **self._resource})},
            "scopeLogs": [{"scope": {"name": name}, "logRecords": records} for name, records in scopes.items()],
        }


def rejected_by(answer: bytes) -> int:
    """Return how many records a collector says it has rejected for good; 0 for an answer that is no JSON."""
    try:
        return int(orjson.loads(answer)["partialSuccess"]["rejectedLogRecords"])
    except (ValueError, TypeError, KeyError):
        return 0


def _record(line: Line) -> dict[str, Any]:
    record: dict[str, Any] = {
        "timeUnixNano": str(line.nanoseconds),
        "observedTimeUnixNano": str(line.nanoseconds),
        "severityNumber": _SEVERITIES.get(line.level, 0),
        "severityText": line.level,
        "body": _value(line.fields.get("event")),
        "attributes": _attributes({**_others(line), **_exception(line.fields.get("exception"))}),
    }
    trace_id, span_id = line.text_of("trace_id"), line.text_of("span_id")
    if _TRACE_ID.fullmatch(trace_id):
        record["traceId"] = trace_id
        if _SPAN_ID.fullmatch(span_id):
            record["spanId"] = span_id
    return record


def _others(line: Line) -> dict[str, Any]:
    others = {name: value for name, value in line.fields.items() if name not in _ELSEWHERE}
    if not _is_described(line.fields.get("exception")) and "exception" in line.fields:
        others["exception"] = line.fields["exception"]
    return others


def _attributes(fields: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return attributes, no two of one name; a mapping becomes one for each of its members, by dotted names."""
    return [{"key": name, "value": _value(value)} for name, value in dict(_flattened(fields, "")).items()]


def _flattened(fields: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in fields.items():
        if isinstance(value, dict) and value:
            yield from _flattened(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _value(value: Any) -> dict[str, Any]:
    """Return an ``AnyValue`` in protobuf's JSON form, where integers of 64 bits are text."""
    if value is None:
        return {}
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)} if value <= _LARGEST_INTEGER else {"stringValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list):
        return {"arrayValue": {"values": list(map(_value, value))}}
    if isinstance(value, dict):
        return {"kvlistValue": {"values": [{"key": name, "value": _value(one)} for name, one in value.items()]}}
    return {"stringValue": str(value)}


def _is_described(exception: Any) -> bool:
    return isinstance(exception, list) and bool(exception) and all(isinstance(one, dict) for one in exception)


def _exception(exception: Any) -> dict[str, str]:
    """Return the attributes that OpenTelemetry's conventions name for exceptions."""
    if not _is_described(exception):
        return {}
    return {
        "exception.type": str(exception[0].get("type", "")),
        "exception.message": str(exception[0].get("message", "")),
        "exception.stacktrace": "\n".join(_stacktrace(exception)),
    }


def _stacktrace(chain: Sequence[Mapping[str, Any]], indent: str = "") -> Iterator[str]:
    """Yield the lines of an exception, then of what led to it, and of the members of a group, further in."""
    for one in chain:
        link = f"{one['is']}: " if one.get("is") else ""
        yield f"{indent}{link}{one.get('type', '')}: {one.get('message', '')}"
        for place in (*one.get("notes", ()), *one.get("frames", ())):
            yield f"{indent}  {place}"
        for member in one.get("members", ()):
            yield from _stacktrace(member, f"{indent}  | ")
