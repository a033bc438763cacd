"""The one record that every edge makes: something happened, it took this long, and it ended like this."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from .context import RequestRecord

Kind = Literal["request", "websocket", "background", "span"]
"""What happened: a request served, a websocket's life, work after a response, a piece of the user's code."""

KINDS: Final[tuple[Kind, ...]] = ("request", "websocket", "background", "span")

UNMATCHED: Final = "(unmatched)"


@dataclass(slots=True)
class Observation:
    """One thing that happened, made when it has ended. Sinks read it; nobody changes it."""

    kind: Kind
    name: str
    """A template, never raw input: the route, the name given to ``observe``."""
    outcome: str
    """One word of the kind's closed set, such as ``ok`` or ``client_error``."""
    duration_seconds: float
    request: RequestRecord | None = None
    """The request in which it happened."""
    exception: BaseException | None = None
    attributes: Mapping[str, Any] | None = None


def outcome_of_status(status: int) -> str:
    """Return how a complete response with this status ended."""
    if status < 400:
        return "ok"
    return "client_error" if status < 500 else "server_error"
