"""The table of endpoints: what may be asked, who answers it, and how it is described."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from . import actions, views
from .query import Query
from .readers import Readers

RANGE: Final[Mapping[str, str]] = {
    "from": "Start of the time: unix seconds, or a time ago such as -15m, -1h, -7d. By default an hour before its end.",
    "to": "End of the time; by default now.",
}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One path and method, the function that answers, and its parameters with their meaning."""

    method: Literal["GET", "POST", "DELETE"]
    path: str
    answer: Callable[[Readers, Query], Any]
    parameters: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, str] = field(default_factory=dict)


def _get(path: str, answer: Callable[[Readers, Query], Any], **parameters: str) -> Endpoint:
    return Endpoint("GET", path, answer, {**RANGE, **parameters})


ENDPOINTS: Final = (
    _get("/overview", views.overview),
    _get("/routes", views.routes),
    _get("/route", views.route, route="Template of the route.", method="HTTP method; by default all of them."),
    _get(
        "/requests",
        views.requests,
        route="Template of the route.",
        method="HTTP method.",
        status="A status such as 404, or a class such as 5xx.",
        outcome="How it ended, such as server_error.",
        min_seconds="Shortest duration.",
        user="The user: the app's own ID, or as the store has it.",
        kind="Kind of what happened in it: db, cache, llm, http, span, agent or operation.",
        name="Name of such a call or block.",
        error_group="Its error's group.",
        order="newest or slowest first.",
        limit="How many, 100 at most.",
    ),
    _get("/requests/{request_id}", views.request),
    _get("/errors", views.error_groups, status="open, resolved or all."),
    _get("/errors/{id}", views.error_group),
    Endpoint("POST", "/errors/{id}/resolve", actions.resolve),
    Endpoint("POST", "/errors/{id}/reopen", actions.reopen),
    _get("/llm", views.llm),
    _get("/usage", views.usage),
    _get("/operations", views.operations, name="The operation's name. 'value.<dimension>' filters by a value."),
    _get("/health", views.checks),
    _get("/health/{check}", views.check_timeline),
    _get("/alerts", views.alerts),
    _get("/alerts/{episode}", views.alert),
    Endpoint(
        "POST",
        "/alerts/{episode}/ack",
        actions.acknowledge,
        body={"note": "What is done about it.", "minutes": "For how long; a day by default."},
    ),
    Endpoint("POST", "/alerts/{episode}/unack", actions.unacknowledge),
    Endpoint(
        "POST",
        "/silences",
        actions.silence,
        body={"rule": "A rule's name, or * for all.", "minutes": "For how long.", "comment": "Why."},
    ),
    Endpoint("DELETE", "/silences/{id}", actions.end_silence),
    _get("/system", views.system),
    _get("/search", views.search, q="ID of a request or of an error group."),
)
