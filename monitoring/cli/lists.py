"""``monitoring status``, ``errors`` and ``alerts``: what the store knows, as text or JSON."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from ..api import BadQuery, Query, views
from ..api.encoding import encode
from ..api.state import unreadable
from ..store.database import StoreUnusable
from . import text
from .readers import StoreReaders, add_store_option, config_of


def add_to(commands: Any) -> None:
    """Add the commands."""
    for name, help, ask, show in (
        ("status", "how the service does, in a sentence, by route and by component", _ask_status, _status),
        ("errors", "error groups, the one seen last first", views.error_groups, _errors),
        ("alerts", "open alerts, and the rules behind them", views.alerts, _alerts),
    ):
        parser = commands.add_parser(name, help=help)
        parser.add_argument("--since", default="1h", help="how far back, such as 15m, 1h, 7d (default %(default)s)")
        add_store_option(parser)
        parser.set_defaults(run=_runner(name, ask, show))


Ask = Callable[[Any, Query], Any]
Show = Callable[[Any], None]


def _runner(name: str, ask: Ask, show: Show) -> Callable[[argparse.Namespace], int]:
    def run(chosen: argparse.Namespace) -> int:
        try:
            readers = StoreReaders(config_of(chosen))
            with readers.open_database().reading():
                pass  # the overview has an answer without a store, too, and here that is a failure
            answer = ask(readers, Query(time.time(), {"from": f"-{chosen.since.removeprefix('-')}"}))
        except BadQuery:
            print(
                f"monitoring {name}: --since must be a time such as 15m, 1h or 7d, of 400 days at most, "
                f"got {chosen.since!r}.",
                file=sys.stderr,
            )
            return 2
        except StoreUnusable as error:
            print(f"monitoring {name}: {unreadable(error)}", file=sys.stderr)
            return 1
        if chosen.json:
            print(encode(answer).decode())
        else:
            show(answer)
        return 0

    return run


def _ask_status(readers: Any, query: Query) -> dict[str, Any]:
    """Return what the overview tells, with how each component stands."""
    overview = views.overview(readers, query)
    return {
        **{one.name: getattr(overview, one.name) for one in fields(overview)},
        "checks": views.checks(readers, query).checks,
    }


def _status(answer: dict[str, Any]) -> None:
    print(answer["sentence"])
    if answer["routes"]:
        rows = [
            [
                f"{one.method} {one.route}",
                f"{one.count:,}",
                share_of(one.errors, one.count),
                text.seconds(one.p50_seconds),
                text.seconds(one.p95_seconds),
                text.seconds(one.p99_seconds),
            ]
            for one in answer["routes"]
        ]
        print(f"\n{text.table(('route', 'requests', 'errors', 'p50', 'p95', 'p99'), rows)}")
    if answer["checks"]:
        rows = [
            [one.name, one.status, *map(text.share, (one.uptime_24h, one.uptime_30d, one.uptime_365d)), one.output]
            for one in answer["checks"]
        ]
        print(f"\n{text.table(('component', 'status', 'up 24h', 'up 30d', 'up 365d', 'why'), rows)}")


def share_of(part: int, whole: int) -> str:
    """Return how many of a whole, with the share."""
    return f"{part:,} ({text.share(part / whole)})" if part else "0"


def _errors(answer: Any) -> None:
    if not answer.groups:
        return print("No errors in this time.")
    rows = [
        [one.id, one.status, f"{one.recent_count:,}", text.moment(one.last_seen), one.title, one.culprit]
        for one in answer.groups
    ]
    print(text.table(("group", "status", "seen", "last", "title", "where"), rows))


def _alerts(answer: Any) -> None:
    if answer.open:
        rows = [
            [one.id, one.state, one.severity, text.moment(one.active_since), one.rule, one.summary]
            for one in answer.open
        ]
        print(text.table(("alert", "state", "severity", "since", "rule", "summary"), rows))
    else:
        print("No open alerts.")
    rows = [[one.name, one.state, one.severity, one.description] for one in answer.rules]
    print(f"\n{text.table(('rule', 'state', 'severity', 'meaning'), rows)}")
