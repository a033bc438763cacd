"""Lines to Loki, by its push API."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping, Sequence
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

_PATH: Final = "/loki/api/v1/push"
_LABEL: Final = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")
_OWN: Final = frozenset({"service", "level", "host"})


@dataclass(frozen=True)
class Loki:
    """Pushes lines as they are, in streams by ``service``, ``level``, ``host`` and your labels.

    Other fields stay in the line, where LogQL's ``| json`` finds them: a label per request would make a stream each.
    Raise ValueError for a setting that cannot be used.
    """

    url: str = field(repr=False)
    """Of the server; the path of the push API is added. A user in it becomes Basic credentials."""
    _: KW_ONLY
    labels: Mapping[str, str] = field(default_factory=dict)
    """The same for all lines, such as the environment."""
    tenant: str | None = None
    """Sent as ``X-Scope-OrgID``."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    level: str = "debug"
    spool: str | Path | None = None
    """Folder that keeps what cannot be delivered; several destinations and processes may share it."""
    ca_file: str | None = None
    """Trust the authorities in this PEM file, instead of the system's."""
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        check_level("Loki", self.level)
        for name, value in self.labels.items():
            if not _LABEL.fullmatch(name) or name in _OWN or not isinstance(value, str):
                raise ValueError(
                    f"labels of Loki must be names such as 'env', other than {', '.join(sorted(_OWN))}, with text, "
                    f"got {name!r}."
                )
        if self._endpoint.is_secure:
            tls_context("Loki", self.ca_file)

    def __repr__(self) -> str:
        return f"Loki({self._endpoint}, level={self.level!r})"

    def open(self, service: str, on_dropped: OnDropped) -> Outlet:
        """Return what pushes the lines of this process."""
        place = self._endpoint
        streams = _Streams(service, self.labels)
        tls = tls_context("Loki", self.ca_file) if place.is_secure else None
        return ShippingOutlet(
            f"Loki at {place}",
            lambda: HttpTransport(place, streams.encode, lambda answer: 0, self.limits.timeout_seconds, tls),
            spool_folder(self.spool, "loki", place.id, self.tenant, sorted(self.labels.items())),
            self.limits,
            on_dropped,
        )

    @property
    def _endpoint(self) -> Endpoint:
        tenant = {} if self.tenant is None else {"x-scope-orgid": self.tenant}
        return endpoint("Loki", self.url, _PATH, {**tenant, **self.headers})


class _Streams:
    """Brings lines into the form of the push API."""

    def __init__(self, service: str, labels: Mapping[str, str]) -> None:
        self._service = service
        self._labels: dict[str, str] = {"host": socket.gethostname(), **labels}

    def encode(self, lines: Sequence[bytes]) -> bytes:
        """Return the body of a push. The same lines always give the same, by which Loki knows them again."""
        streams: dict[tuple[str, str], list[Line]] = {}
        for line in parsed(lines):
            streams.setdefault((line.text_of("service", self._service), line.level), []).append(line)
        return orjson.dumps({"streams": [self._stream(*labels, found) for labels, found in streams.items()]})

    def _stream(self, service: str, level: str, lines: Sequence[Line]) -> dict[str, Any]:
        return {"stream": {"service": service, "level": level, **self._labels}, "values": _values(lines)}


def _values(lines: Sequence[Line]) -> list[tuple[str, str]]:
    """Return pairs of time and line, in order of time. No two of them have the same: Loki takes those for one."""
    values = []
    last = 0
    for line in sorted(lines, key=lambda line: line.nanoseconds):
        last = max(last + 1, line.nanoseconds)
        values.append((str(last), line.text))
    return values
