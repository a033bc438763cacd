"""The built page over canned answers, one scenario per mount prefix, under the headers it must live with.

``python -m tests.dashboard.stub [PORT]`` serves it for looking at: ``http://127.0.0.1:8099/full/``.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

STATIC = Path(__file__).parents[2] / "monitoring" / "static"
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
HOSTILE = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>\' OR 1=1 --' + "A" * 300
TOKEN = "open-sesame"
SPANS = {"m": 60, "h": 3600, "d": 86400}

Data = dict[str, Any]


def seconds(value: str, now: float) -> float:
    """Read a bound of a range: unix seconds, ``now``, or ``-15m``."""
    if value == "now":
        return now
    return now - int(value[1:-1]) * SPANS[value[-1]] if value.startswith("-") else float(value)


class Answers:
    """What one scenario answers. ``points`` is the length of every series, ``gap`` cuts a hole into it."""

    def __init__(
        self,
        *,
        points: int = 60,
        rows: int = 6,
        gap: bool = False,
        name: str = "",
        quiet: bool = False,
        now: float = 0.0,
    ):
        self.fixed_now = now
        self.points, self.rows, self.gap, self.name, self.quiet = points, rows, gap, name, quiet
        self.acked: Data = {}
        self.resolved = False
        self.silenced: list[Data] = []

    def now(self) -> float:
        """Tell the time: the real one, unless the scenario stands still."""
        return self.fixed_now or time.time()

    def named(self, text: str) -> str:
        return self.name or text

    def range(self, query: Data) -> tuple[float, float, float]:
        now = self.now()
        start, end = seconds(query.get("from", "-1h"), now), seconds(query.get("to", "now"), now)
        step = max(1, math.ceil((end - start) / 60)) if self.points > 1 else 60
        return start // step * step, end, step

    def times(self, query: Data) -> list[float]:
        start, _, step = self.range(query)
        return [start + index * step for index in range(self.points)]

    def series(self, query: Data, **curves: Callable[[float], float]) -> Data:
        """Make parallel arrays; a curve is a function of the place, 0 to 1."""
        holes = set(range(self.points // 3, self.points // 2)) if self.gap else set()
        places = [index / max(1, self.points - 1) for index in range(self.points)]
        values = {
            key: [None if index in holes else curve(place) for index, place in enumerate(places)]
            for key, curve in curves.items()
        }
        return {"t": self.times(query), **values}

    def traffic(self, query: Data) -> Data:
        return self.series(
            query,
            count=lambda x: round(40 + 25 * math.sin(9 * x) + 9 * math.sin(71 * x)),
            errors=lambda x: 3 if 0.71 < x < 0.78 else int(int(x * 97) % 23 == 0),
            p50_seconds=lambda x: 0.046 + 0.008 * math.sin(13 * x),
            p95_seconds=lambda x: 0.18 + 0.05 * math.sin(7 * x) + (0.3 if 0.7 < x < 0.8 else 0),
            p99_seconds=lambda x: 0.42 + 0.1 * math.sin(5 * x) + (0.9 if 0.7 < x < 0.8 else 0),
        )

    def stats(self, scale: float = 1.0, errors: int = 2) -> Data:
        if self.quiet:
            return {"count": 0, "rate_per_second": 0.0, "errors": 0, "error_rate": None, "mean_seconds": None}
        count = round(1204 * scale)
        return {
            "count": count,
            "rate_per_second": count / 3600,
            "errors": errors,
            "error_rate": errors / count,
            "mean_seconds": 0.071 * scale,
            "p50_seconds": 0.048 * scale,
            "p95_seconds": 0.182 * scale,
            "p99_seconds": 0.940 * scale,
        }

    def request(self, index: int) -> Data:
        slow = index % 3 == 0
        return {
            "request_id": f"{index:04x}5c1e9f0b4a7d8e21c6b39d0f7a{index:04x}"[:32],
            "at": self.now() - 40 - 61 * index,
            "method": "POST" if slow else "GET",
            "route": self.named(["/proposals/{id}/generate", "/proposals/{id}", "/funders"][index % 3]),
            "status": 500 if index % 4 == 3 else 200,
            "outcome": "server_error" if index % 4 == 3 else "ok",
            "duration_seconds": 4.213 / (index + 1) if slow else 0.182 / (index + 1),
            "reason": "error" if index % 4 == 3 else "slow" if slow else "sampled",
            "user": self.named(f"u-{index * 7919 % 97:02d}f3a9"),
            "error_group": "e41d8cd98f00b204" if index % 4 == 3 else "",
            "db_calls": 7 + index,
            "db_seconds": 0.0412,
            "cache_hits": 3,
            "cache_misses": 1,
            "llm_calls": 1 if slow else 0,
            "llm_tokens": 1830 if slow else 0,
            "llm_cost_usd": (None if index == 3 else 0.011) if slow else None,
        }

    def requests(self) -> list[Data]:
        return [self.request(index) for index in range(self.rows)]

    def group(self, index: int = 0) -> Data:
        titles = [
            "KeyError: 'budget'",
            "TimeoutError: the model did not answer in 30 s",
            "IntegrityError: UNIQUE failed",
        ]
        status = "resolved" if self.resolved else ["open", "regressed", "open"][index % 3]
        return {
            "id": f"e{index}1d8cd98f00b204",
            "title": self.named(titles[index % 3]),
            "type": "KeyError",
            "category": "code",
            "level": "error",
            "culprit": self.named("proposals.budget.total in app/budget.py"),
            "status": status,
            "first_seen": self.now() - 86400 * 3,
            "last_seen": self.now() - 130,
            "count": 41,
            "recent_count": 2 + index,
        }

    def event(self) -> Data:
        message = self.named("'budget'")
        frames = [
            {"file": "/venv/starlette/routing.py", "line": 78, "function": "app", "in_app": False, "source": []},
            {
                "file": "app/budget.py",
                "line": 42,
                "function": self.named("total"),
                "in_app": True,
                "source": [
                    [40, "def total(proposal):"],
                    [41, "    lines = proposal.lines"],
                    [42, self.named('    return sum(line["budget"] for line in lines)')],
                    [43, ""],
                ],
            },
        ]
        cause = {"type": "LookupError", "message": message, "is": "cause", "frames": frames[:1], "members": []}
        return {
            "at": self.now() - 130,
            "level": "error",
            "message": message,
            "request_id": self.request(3)["request_id"],
            "route": self.named("/proposals/{id}"),
            "user": self.named("u-07f3a9"),
            "context": {"funder": self.named("NSF"), "attempt": 2},
            "stack": [
                {"type": "KeyError", "message": message, "is": "", "frames": frames, "members": []},
                cause,
            ],
        }

    def episode(self, number: int = 1, state: str = "firing") -> Data:
        now = self.now()
        return {
            "id": f"{number}",
            "rule": self.named(["slow requests", "error rate", "disk almost full"][number % 3]),
            "labels": {"route": self.named("/proposals/{id}/generate")},
            "severity": ["warning", "critical"][number % 2],
            "summary": self.named("5.1 % of requests failed over 5 min, more than the 2 % of the rule."),
            "state": state,
            "active_since": now - 900,
            "fired_at": now - 600,
            "resolved_at": now - 60 if state == "resolved" else None,
            "value": 0.051,
            "threshold": 0.02,
            "acked_by": "",
            "ack_note": "",
            "acked_until": None,
            "silenced_by": "",
            "link": "javascript:window.hacked=1" if self.name else "#/routes?from=-1h&to=now",
            **(self.acked if state != "resolved" else {}),
        }

    def meta(self) -> Data:
        now = self.now()
        return {
            "service": self.named("proposals"),
            "environment": "production",
            "version": "1.4.2",
            "now": math.floor(now),
            "workers": 2,
            "leader": "web-1:4123",
            "last_flush_seconds": 0.6,
            "facts_dropped": 0,
            "lines_dropped": 0,
            "store_bytes": 48_211_968,
            "degraded": [] if self.quiet else [self.named("The channel ops-mail has failed 3 times in a row.")],
        }

    def overview(self, query: Data) -> Data:
        sentence = "Degraded. 1,204 requests in 1 h, p95 182 ms, 2 errors (new: KeyError in /proposals/{id})."
        return {
            "sentence": "Healthy. No requests yet." if self.quiet else self.named(sentence),
            "state": "ok" if self.quiet else "warning",
            "requests": self.stats(),
            "previous": self.stats(0.88, 1),
            "series": self.traffic(query),
            "routes": self.routes(),
            "slowest": self.requests()[:10],
            "error_groups": [self.group(index) for index in range(min(3, self.rows))],
            "alerts": [] if self.quiet else [self.episode()],
            "llm": {"calls": 0, "tokens": 0, "cost_usd": 0.0, "errors": 0}
            if self.quiet
            else {"calls": 57, "tokens": 104_310, "cost_usd": 0.627, "errors": 1},
            "health": {"status": "pass" if self.quiet else "warn"},
            "meta": self.meta(),
        }

    def queries(self, repeated: bool) -> Data:
        if not repeated:
            return {"requests": 0, "mean": None, "p50": None, "p95": None, "repeated": 0}
        return {"requests": 900, "mean": 14.2, "p50": 12, "p95": 40, "repeated": 31}

    def routes(self) -> list[Data]:
        names = ["/proposals/{id}/generate", "/proposals/{id}", "/funders", "/proposals", "/login", "/search"]
        return [
            {
                "method": "POST" if index % 5 == 0 else "GET",
                "route": self.named(names[index] if index < len(names) else f"/reports/{{id}}/part-{index}"),
                "status": {"200": 1180, "404": 20, "500": 2},
                "bytes_sent": 48_211 * (index + 1),
                "queries": self.queries(index == 0),
                **self.stats(1 / (index + 1), 2 if index < 2 else 0),
            }
            for index in range(self.rows)
        ]

    def all_routes(self, query: Data) -> Data:
        if not self.rows:
            return {"routes": [], "databases": [], "caches": [], "http": []}
        db = {"kind": "db", "name": self.named("SELECT funders"), "system": "sqlite", "operation": "SELECT"}
        http = {"kind": "http", "name": self.named("POST api.crossref.org"), "system": "", "operation": "POST"}
        cache = {"cache": self.named("default"), "system": "redis", "hits": 812, "misses": 90, "hit_rate": 0.9}
        prefixes = [{"prefix": "users", "hits": 800, "misses": 40, "hit_rate": 0.952}]
        return {
            "routes": self.routes(),
            "truncated": self.rows >= 100,
            "databases": [
                {**db, "slow": 3, "repeated": 31, **self.stats(0.4, 0)},
                {**db, "name": "INSERT proposals", "slow": 0, "repeated": 0, **self.stats(0.1, 0)},
            ],
            "caches": [{**cache, "prefixes": prefixes, **self.stats(0.7, 0)}],
            "http": [{**http, **self.stats(0.05, 1)}],
        }

    def route(self, query: Data) -> Data:
        return {
            "route": query.get("route"),
            "method": query.get("method"),
            "stats": self.stats(0.5),
            "previous": self.stats(0.6, 0),
            "series": self.traffic(query),
            "status": {"200": 590, "404": 10, "500": 2},
            "queries": self.queries(True),
            "repeated": [{"name": self.named("SELECT funders"), "requests": 31}] if self.rows else [],
            "requests": self.requests(),
        }

    def kept(self, query: Data) -> Data:
        return {"requests": self.requests(), "truncated": self.rows >= 100}

    def spans(self) -> list[Data]:
        statement = self.named("SELECT funders.id, funders.name FROM funders WHERE funders.id = ?")
        query = {"system": "sqlite", "operation": "SELECT", "statement": statement, "rows": 1}

        def span(
            kind: str, name: str, at: float, took: float, parent: int = -1, outcome: str = "ok", **detail: Any
        ) -> Data:
            return {
                "kind": kind,
                "name": self.named(name),
                "outcome": outcome,
                "offset_seconds": at,
                "duration_seconds": took,
                "parent": parent,
                "detail": detail,
            }

        chat = {
            "provider": "openai",
            "model": self.named("gpt-4o"),
            "response_model": "gpt-4o-2024-08-06",
            "operation": "chat",
            "input_tokens": 1412,
            "output_tokens": 418,
            "cache_read_tokens": 0,
            "reasoning_tokens": 0,
            "cost_usd": 0.011,
            "streamed": True,
            "first_chunk_seconds": 0.61,
            "agent": "writer",
        }
        head = [
            span("operation", "proposal.generate", 0.004, 4.19, funder="NSF"),
            span("cache", "get", 0.006, 0.0009, 0, cache="default", system="redis", hits=0, misses=1),
            span("span", "load funders", 0.009, 0.31, 0),
        ]
        loop = [span("db", "SELECT funders", 0.012 + 0.033 * number, 0.028, 2, **query) for number in range(9)]
        tail = [
            span("agent", "writer", 0.33, 3.8, 0),
            span("llm", "chat gpt-4o", 0.34, 2.9, 12, **chat),
            span("llm", "chat local-model", 3.26, 0.8, 12, **{**chat, "model": "local-model", "cost_usd": None}),
            span(
                "http",
                "POST api.crossref.org",
                4.09,
                0.06,
                12,
                "error",
                method="POST",
                host="api.crossref.org",
                status=503,
            ),
            span("cache", "set", 4.17, 0.0011, 0, cache="default", system="redis", hits=0, misses=0),
        ]
        return head + loop + tail

    def line(self, level: str, event: str, at: float, **fields: Any) -> Data:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(self.now() - 100 + at))
        return {
            "timestamp": f"{stamp}.{int(at * 1000) % 1000:03d}000Z",
            "level": level,
            "event": self.named(event),
            **fields,
        }

    def one_request(self, identity: str) -> Data:
        if identity == "gone":
            raise LookupError("This request is not kept.")
        failed = identity.startswith("0003")
        return {
            **self.request(3 if failed else 0),
            "request_id": identity,
            "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
            "path": self.named("/proposals/17/generate"),
            "bytes_sent": 18_211,
            "process": "web-1:4124",
            "spans": self.spans(),
            "spans_dropped": 0,
            "findings": [
                {
                    "kind": "repeated",
                    "name": self.named("SELECT funders"),
                    "statement": self.named("SELECT funders.id, funders.name FROM funders WHERE funders.id = ?"),
                    "place": self.named("app/funders.py:42 in load"),
                    "times": 12,
                    "seconds": 0.31,
                }
            ],
            "lines": [
                self.line("info", "funder chosen", 0.31, funder=self.named("NSF"), logger="app.proposals"),
                self.line("warning", "model was slow", 3.24, seconds=2.9, logger="app.llm"),
                self.line("info", "request", 4.21, method="POST", status=200, duration_ms=4213.1, db_calls=9),
            ],
            "error": self.event() if failed else None,
            "baseline": self.stats(0.5),
        }

    def errors(self, query: Data) -> Data:
        groups = [self.group(index) for index in range(self.rows)]
        curve = self.series(query, count=lambda x: 3 if 0.71 < x < 0.78 else int(int(x * 97) % 23 == 0))
        return {"groups": groups, "series": curve}

    def error(self, identity: str, query: Data) -> Data:
        return {
            **self.group(),
            "id": identity,
            "why": [self.named("KeyError"), "app/budget.py in total", 'return sum(line["budget"] for line in lines)'],
            "frequency": self.series(query, count=lambda x: int(x * 31) % 7),
            "events": [self.event(), {**self.event(), "at": self.now() - 4000, "stack": []}],
        }

    def llm(self, query: Data) -> Data:
        models = [
            ("openai", "gpt-4o", 0.52, 0),
            ("anthropic", "claude-sonnet-4-5", 0.107, 2),
            ("ollama", "local-model", None, 12),
        ]
        rows = [
            {
                "provider": provider,
                "model": self.named(model),
                "operation": "chat",
                "calls": 34,
                "errors": index,
                "input_tokens": 61_200,
                "output_tokens": 14_100,
                "cost_usd": cost,
                "unpriced_calls": unpriced,
                "p50_seconds": 2.1,
                "p95_seconds": 6.4,
                "first_chunk_p50_seconds": 0.6 if index else None,
            }
            for index, (provider, model, cost, unpriced) in enumerate(models)
        ]
        agent = {"agent": self.named("writer"), "runs": 21, "errors": 1, "p50_seconds": 4.0, "p95_seconds": 9.2}
        return {
            "totals": {
                "calls": 57,
                "errors": 1,
                "input_tokens": 83_200,
                "output_tokens": 21_110,
                "cost_usd": 0.627,
                "unpriced_calls": 14,
                "usage_missing": 1,
            },
            "series": self.series(
                query,
                calls=lambda x: int(3 + 3 * math.sin(11 * x)),
                tokens=lambda x: round(2200 + 1800 * math.sin(11 * x)),
                cost_usd=lambda x: 0.011 + 0.009 * math.sin(11 * x),
            ),
            "models": rows if self.rows else [],
            "agents": [{**agent, "llm_calls": 44, "tokens": 80_400, "cost_usd": 0.55}] if self.rows else [],
            "tools": [{"tool": self.named("search"), "calls": 61, "errors": 4, "p50_seconds": 0.2, "p95_seconds": 1.4}]
            if self.rows
            else [],
            "budgets": [self.budget()] if self.rows else [],
        }

    def budget(self) -> Data:
        spent = {
            "value": self.named("9f86d081884c7d65"),
            "spent_usd": 0.91,
            "share": 0.91,
            "calls": 40,
            "unpriced_calls": 2,
        }
        window = {"since": self.now() - 1_800, "until": self.now() + 1_800}
        budget = {"name": "user/hour", "usd": 1.0, "per": "hour", "by": "user", "refuse": True, **window}
        return {**budget, "share": 0.91, "calls": 44, "unpriced_calls": 2, "spent": [spent]}

    def usage(self, query: Data) -> Data:
        if not self.rows:
            return {"active_users": {"day": 0, "week": 0, "month": 0}, "active_series": {"t": [], "users": []}}
        ages = range(min(30, self.points) - 1, -1, -1)
        outcome = {"ok": 121, "failed": 6, "abandoned": 3, "success_rate": 0.931, "p50_seconds": 60, "p95_seconds": 306}
        funders = [
            {**outcome, "value": self.named("NSF")},
            {**outcome, "value": "ERC", "ok": 40, "failed": 9, "success_rate": 0.81},
            {**outcome, "value": "(other)", "ok": 0, "failed": 0, "abandoned": 0, "success_rate": None},
        ]
        return {
            "active_users": {"day": 31, "week": 118, "month": 402},
            "active_series": {
                "t": [time.strftime("%Y-%m-%d", time.gmtime(self.now() - 86400 * age)) for age in ages],
                "users": [22 + 11 * (age % 7 < 5) + age % 4 for age in ages],
            },
            "features": [
                {
                    "feature": self.named("export"),
                    "uses": 88,
                    "users": 13,
                    "share_of_active": 0.42,
                    "first_used": "2026-11-02",
                }
            ],
            "events": [{"event": self.named("proposal.shared"), "count": 57}],
            "operations": [
                {**outcome, "operation": self.named("proposal.generate"), "open": 2, "dimensions": {"funder": funders}}
            ],
        }

    def operations(self, query: Data) -> Data:
        runs = [
            {
                "id": f"op{index}",
                "name": query.get("name"),
                "started_at": self.now() - 300 * index,
                "outcome": ["ok", "failed", "abandoned"][index % 3],
                "duration_seconds": 61.0 + index,
                "reason": self.named("model timeout") if index % 3 == 1 else "",
                "user": self.named("u-07f3a9"),
                "dimensions": {"funder": self.named("NSF")},
                "request_id": self.request(index)["request_id"],
            }
            for index in range(self.rows)
        ]
        return {"operations": runs}

    def health(self, query: Data) -> Data:
        now = self.now()
        good = {"from": now - 86400, "to": now, "status": "pass"}
        dip = [{**good, "to": now - 30000}, {"from": now - 30000, "to": now - 26000, "status": "fail"}]
        times = {"up": 82_740.0, "warn": 60.0, "down": 0.0, "unknown": 3600.0}
        check: Data = {"duration_seconds": 0.0021, "checked_at": now - 4, "uptime_24h": 0.9993}
        check |= {"uptime_30d": 0.99991, "uptime_365d": 0.9987, "times": {"24h": times, "30d": times, "365d": times}}
        return {
            "status": "pass" if self.quiet else "warn",
            "uptime_seconds": 93_211.0,
            "checks": [
                {
                    **check,
                    "name": self.named("database"),
                    "status": "pass",
                    "critical": True,
                    "output": "",
                    "history": [good],
                },
                {
                    **check,
                    "name": "redis",
                    "status": "warn",
                    "critical": False,
                    "output": self.named("Answered after 0.7 s."),
                    "history": [*dip, {**good, "from": now - 26000}],
                },
            ][: self.rows],
        }

    def check(self, name: str, query: Data) -> Data:
        """One check, by the hour: a warning, a failure, and a time that nobody looked at."""
        step = 86400 if query.get("from") == "-365d" else 3600
        end = (int(self.now()) // step + 1) * step
        begins = range(end - step * self.points, end, step)
        well = {"up": float(step), "warn": 0.0, "down": 0.0, "unknown": 0.0}
        other = {
            5: {"up": step - 60.0, "warn": 60.0},
            9: {"up": step / 2, "down": step / 2},
            12: {"up": 0.0, "unknown": float(step)},
        }
        buckets = [{"t": at, **well, **other.get(index, {})} for index, at in enumerate(begins)]
        return {"name": name, "resolution_seconds": step, "buckets": buckets}

    def alerts(self, query: Data) -> Data:
        rules = [
            ("error rate", "firing"),
            ("slow requests", "ok"),
            ("disk almost full", "no data"),
            ("cost", "pending"),
        ]
        return {
            "open": [] if self.quiet else [self.episode()],
            "recent": [self.episode(number, "resolved") for number in range(2, 2 + min(self.rows, 3))],
            "rules": [
                {
                    "name": self.named(name),
                    "description": "More than 2 % of requests fail over 5 min.",
                    "severity": "critical",
                    "state": state,
                    "value": None if state == "no data" else 0.051,
                    "threshold": 0.02,
                }
                for name, state in rules
            ][: self.rows],
            "silences": self.silenced,
            "channels": [
                {
                    "name": "ops-mail",
                    "kind": "email",
                    "state": "failing",
                    "last_error": self.named("Connection refused."),
                },
                {"name": "hook", "kind": "webhook", "state": "ok", "last_error": ""},
            ][: self.rows],
        }

    def alert(self, identity: str) -> Data:
        now = self.now()
        what = [("became active", "value above the threshold"), ("fired", "held for 5 min"), ("notified", "ops-mail")]
        attempts = [
            {
                "at": now - 590,
                "outcome": "failed",
                "error": self.named("Connection refused."),
                "duration_seconds": 0.02,
            },
            {"at": now - 530, "outcome": "delivered", "error": "", "duration_seconds": 0.31},
        ]
        return {
            **self.episode(),
            "id": identity,
            "events": [
                {"at": now - 900 + 150 * index, "what": name, "why": why, "value": 0.051, "actor": ""}
                for index, (name, why) in enumerate(what)
            ],
            "notifications": [{"channel": "ops-mail", "kind": "firing", "status": "delivered", "attempts": attempts}],
        }

    def system(self, query: Data) -> Data:
        now = self.now()
        return {
            "meta": self.meta(),
            "processes": [
                {
                    "pid": 4123 + index,
                    "cpu_share": None if index else 0.21,
                    "memory_bytes": 148_000_000,
                    "threads": 9,
                    "open_files": 31,
                    "started_at": now - 93_211,
                }
                for index in range(min(self.rows, 2))
            ],
            "system": {
                "cpu_share": 0.34,
                "memory_used_bytes": 6.1e9,
                "memory_total_bytes": 8e9,
                "disk_used_bytes": 91e9,
                "disk_total_bytes": 100e9,
                "load": [0.91, 0.72, 0.4],
            },
            "series": self.series(
                query, cpu_share=lambda x: 0.3 + 0.2 * math.sin(8 * x), memory_bytes=lambda x: 2.9e8 + 2e7 * x
            ),
            "store": {
                "place": ".monitoring/store.db",
                "bytes": 48_211_968,
                "tables": [
                    {"name": "requests", "rows": 61_204, "oldest": now - 86400 * 6},
                    {"name": "spans", "rows": 402_113, "oldest": None},
                ],
            },
            "own": [
                {"name": "monitoring_log_lines_dropped_total", "value": 0},
                {"name": "monitoring_flush_seconds_sum", "value": 12.0412},
            ],
        }

    def search(self, query: Data) -> Data:
        asked = query.get("q", "")
        found = asked == self.request(0)["request_id"]
        return {"request_id": asked if found else None, "error_group": asked if asked == self.group()["id"] else None}


class Stub:
    """One scenario as an app: the page, the canned API, and what the page asked of it."""

    def __init__(self, answers: Answers, *, locked: bool = False, broken: bool = False, bare: bool = False) -> None:
        self.answers = answers
        self.locked = locked
        self.broken = broken
        self.bare = bare
        self.seen: list[Data] = []
        self.reads: dict[str, Callable[[Data], Data]] = {
            "overview": answers.overview,
            "routes": answers.all_routes,
            "route": answers.route,
            "requests": answers.kept,
            "errors": answers.errors,
            "llm": answers.llm,
            "usage": answers.usage,
            "operations": answers.operations,
            "health": answers.health,
            "alerts": answers.alerts,
            "system": answers.system,
            "search": answers.search,
        }

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/", self.page),
                Route("/api/v1/{path:path}", self.api, methods=["GET", "POST", "DELETE"]),
                Mount("/static", StaticFiles(directory=STATIC)),
            ]
        )

    async def page(self, request: Request) -> Response:
        return Response((STATIC / "index.html").read_bytes(), media_type="text/html")

    async def api(self, request: Request) -> Response:
        path = request.path_params["path"]
        body = await request.body()
        self.seen.append(
            {
                "method": request.method,
                "path": path,
                "query": dict(request.query_params),
                "headers": dict(request.headers),
                "body": body,
            }
        )
        if path in ("login", "logout"):
            return self.session(path, body)
        if self.locked:
            return JSONResponse({"error": "Sign in first."}, 401)
        if self.broken:
            return JSONResponse({"error": "The store is locked."}, 500)
        if request.method != "GET":
            return self.write(request, path, body)
        return self.read(request, path)

    def session(self, path: str, body: bytes) -> Response:
        if path == "login" and json.loads(body).get("token") != TOKEN:
            return JSONResponse({"error": "Wrong token."}, 401)
        self.locked = path == "logout"
        return Response(status_code=204)

    def read(self, request: Request, path: str) -> Response:
        try:
            data = self.lookup(path, dict(request.query_params))
        except LookupError as error:
            return JSONResponse({"error": str(error)}, 404)
        body = json.dumps(data)
        tag = f'"{hashlib.sha256(body.encode()).hexdigest()[:16]}"'
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers={"ETag": tag})
        return Response(body, media_type="application/json", headers={"ETag": tag, "Cache-Control": "no-store"})

    def lookup(self, path: str, query: Data) -> Data:
        if self.bare:
            return {}
        name, _, identity = path.partition("/")
        if not identity:
            return self.reads[name](query)
        identity = unquote(identity)
        if name == "errors":
            return self.answers.error(identity, query)
        if name == "health":
            return self.answers.check(identity, query)
        return {"requests": self.answers.one_request, "alerts": self.answers.alert}[name](identity)

    def write(self, request: Request, path: str, body: bytes) -> Response:
        if request.headers.get("x-monitoring") != "1":
            return JSONResponse({"error": "The header X-Monitoring is missing."}, 403)
        data = json.loads(body) if body else {}
        verb = path.rsplit("/", 1)[-1]
        if verb == "ack":
            self.answers.acked = {
                "acked_by": "token",
                "ack_note": data["note"],
                "acked_until": time.time() + 60 * data["minutes"],
            }
        elif verb == "unack":
            self.answers.acked = {}
        elif verb in ("resolve", "reopen"):
            self.answers.resolved = verb == "resolve"
        elif request.method == "DELETE":
            self.answers.silenced = []
        else:
            self.answers.silenced = [
                {"id": "1", "author": "token", "ends_at": time.time() + 60 * data["minutes"], **data}
            ]
        return JSONResponse({})


class Headers:
    """Put the page's headers on every answer, as the real dashboard does."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    *((k.lower().encode(), v.encode()) for k, v in HEADERS.items()),
                ]
            await send(message)

        await self.app(scope, receive, with_headers)


def scenarios() -> dict[str, Stub]:
    """Make each scenario anew; the name is its mount prefix."""
    return {
        "full": Stub(Answers()),
        "still": Stub(Answers(now=time.time())),
        "empty": Stub(Answers(points=0, rows=0, quiet=True)),
        "one": Stub(Answers(points=1, rows=1)),
        "gaps": Stub(Answers(gap=True)),
        "many": Stub(Answers(points=180, rows=100)),
        "hostile": Stub(Answers(name=HOSTILE)),
        "bare": Stub(Answers(), bare=True),
        "locked": Stub(Answers(), locked=True),
        "broken": Stub(Answers(), broken=True),
    }


def site(stubs: dict[str, Stub]) -> Starlette:
    """Mount every scenario under its name."""
    mounts = [Mount(f"/{name}", stub.app()) for name, stub in stubs.items()]
    return Starlette(routes=mounts, middleware=[Middleware(Headers)])


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(site(scenarios()), port=int(sys.argv[1]) if len(sys.argv) > 1 else 8099, log_level="warning")
