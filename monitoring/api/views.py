"""The read endpoints: each puts one page's answer together from the read side."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, cast

from sqlalchemy import Connection

from ..alerting.reports import AlertsReport, EpisodeRow
from ..budgets import BudgetState
from ..performance_tracker import ModelStats, Stats
from ..store import errors, health, rollups, schema
from ..store.database import Database, StoreUnusable
from ..store.requests import LIMIT, KeptRequest, RequestFilter
from ..store.usage import OperationStats
from ..store.writer import hashed, user_key
from ..system_resources import PROCESS_CPU, PROCESS_MEMORY
from . import numbers, state
from .query import BadQuery, Query
from .readers import Readers
from .shapes import (
    ActiveSeriesShape,
    ActiveUsersShape,
    AgentShape,
    BudgetShape,
    CheckShape,
    CheckTimelineShape,
    CounterShape,
    EpisodeDetailShape,
    EventShape,
    FeatureShape,
    FoundShape,
    GroupDetailShape,
    GroupsShape,
    HealthShape,
    HealthStatus,
    HealthStatusShape,
    LLMSeriesShape,
    LLMShape,
    LLMTotalsShape,
    ModelShape,
    ModelUseShape,
    OperationShape,
    OperationsShape,
    OutcomesShape,
    OverviewShape,
    RepeatedShape,
    RequestDetailShape,
    RequestsShape,
    RouteDetailShape,
    RoutesShape,
    RunShape,
    SpentShape,
    StoreShape,
    SystemShape,
    TableShape,
    ToolShape,
    UsageShape,
    UseSeriesShape,
)

_BASELINE_SECONDS = 3600.0
_DAY = 86_400.0
_TOP = 10
_GROUPS_SHOWN = 5
_HALF = 25
"""Slowest, and again newest, requests shown of a route."""
_SPAN_KINDS: Final = ("db", "cache", "llm", "http", "span", "agent", "operation")


class NotFound(LookupError):
    """What was asked for is not there; the message says what it was and where to look."""


def overview(readers: Readers, query: Query) -> OverviewShape:
    """Say how it goes: numbers, the busiest routes, the slowest requests, new errors and open alerts."""
    try:
        return _overview(readers, query)
    except StoreUnusable as error:
        return _overview_without_store(readers, query, error)


def _overview(readers: Readers, query: Query) -> OverviewShape:
    performance, since, until = readers.performance, query.since, query.until
    now_requests = performance.requests(since, until)
    with readers.open_database().reading() as connection:
        groups = errors.list_groups(connection, "open", since, until)
        checks = health.latest(connection, query.now)
    alerts = readers.alerts.reports.open()
    models, queries = performance.models(since, until), performance.queries(since, until)
    said, word = state.sentence(now_requests, groups, alerts, since, until)
    return OverviewShape(
        sentence=said,
        state=word,
        requests=numbers.stats(now_requests),
        previous=numbers.stats(performance.requests_before(since, until)),
        series=numbers.points(performance.series(since, until)),
        routes=[numbers.route(one, queries) for one in performance.routes(since, until)[:_TOP]],
        slowest=_kept(readers, query, order="slowest", limit=_TOP),
        error_groups=groups[:_GROUPS_SHOWN],
        alerts=alerts,
        llm=_model_use(models),
        health=HealthStatusShape(status=_worst(checks)),
        meta=state.meta(readers, readers.metrics.totals(), query.now),
    )


def _overview_without_store(readers: Readers, query: Query, error: StoreUnusable) -> OverviewShape:
    """Return what is known all the same: that nothing can be read, and why."""
    nothing = numbers.stats(Stats(0, 0, query.until - query.since, None, None, None, None))
    return OverviewShape(
        sentence=state.unreadable(error),
        state="critical",
        requests=nothing,
        previous=nothing,
        series=numbers.points(()),
        routes=(),
        slowest=(),
        error_groups=(),
        alerts=(),
        llm=_model_use(()),
        health=HealthStatusShape(status="warn"),
        meta=state.meta(readers, readers.metrics.totals(), query.now),
    )


def routes(readers: Readers, query: Query) -> RoutesShape:
    """Return every route, and the statements, caches and servers that routes wait for."""
    performance, since, until = readers.performance, query.since, query.until
    found, queries = performance.routes(since, until), performance.queries(since, until)
    databases = performance.databases(since, until, slow_seconds=readers.config.slow_query_seconds)
    caches, http = performance.caches(since, until), performance.outgoing(since, until)
    return RoutesShape(
        routes=[numbers.route(one, queries) for one in found[: numbers.ROWS]],
        databases=[numbers.statement(one) for one in databases[: numbers.ROWS]],
        caches=[numbers.cache(one) for one in caches[: numbers.ROWS]],
        http=[numbers.call("http", one) for one in http[: numbers.ROWS]],
        truncated=max(len(found), len(databases), len(caches), len(http)) > numbers.ROWS,
    )


def route(readers: Readers, query: Query) -> RouteDetailShape:
    """Return one route over time, with the slowest and the newest requests behind its numbers."""
    name, method = query.text("route"), query.text("method")
    if not name:
        raise BadQuery("'route' must be a route's template such as '/items/{id}', got nothing.")
    performance, since, until = readers.performance, query.since, query.until
    status: Counter[str] = Counter()
    for one in performance.routes(since, until):
        if one.route == name and method in ("", one.method):
            status.update(one.status)
    return RouteDetailShape(
        route=name,
        method=method,
        stats=numbers.stats(performance.requests(since, until, method=method, route=name)),
        previous=numbers.stats(performance.requests_before(since, until, method=method, route=name)),
        series=numbers.points(performance.series(since, until, method=method, route=name)),
        status=status,
        queries=numbers.queries_of(name, performance.queries(since, until)),
        repeated=[RepeatedShape(name=one, requests=count) for one, count in performance.repeated(since, until, name)],
        requests=_slowest_and_newest(readers, query, route=name, method=method),
    )


def requests(readers: Readers, query: Query) -> RequestsShape:
    """Return the kept requests that fit: by route, status, outcome, user, what they called, or their error."""
    limit = min(max(1, int(query.number("limit", 50))), LIMIT)
    user, kind = query.text("user"), query.choice("kind", ("", *_SPAN_KINDS))
    if query.text("name") and not kind:
        raise BadQuery(f"'name' needs the 'kind' of the call, one of {', '.join(_SPAN_KINDS)}; got none.")
    wanted: dict[str, Any] = {
        "method": query.text("method"),
        "route": query.text("route"),
        "status": query.status(),
        "outcome": query.text("outcome"),
        "min_seconds": query.number("min_seconds", 0.0),
        "span_kind": kind,
        "span_name": query.text("name"),
        "error_group": query.text("error_group"),
        "order": query.choice("order", ("newest", "slowest")),
        "limit": limit + 1,
    }
    found = _kept(readers, query, user=user, **wanted)
    if user and not found:
        found = _kept(readers, query, user=_as_stored(readers, user), **wanted)
    return RequestsShape(requests=found[:limit], truncated=len(found) > limit)


def request(readers: Readers, query: Query) -> tuple[KeptRequest, RequestDetailShape]:
    """Return one kept request: what it called, its log lines, its error, and how its route does otherwise."""
    request_id = query.path["request_id"]
    found = readers.performance.request(request_id)
    if found is None:
        raise NotFound(f"The request {request_id} is not kept: only failed, slow and sampled ones are.")
    row = found.request
    error = None
    if row.error_group:
        with readers.open_database().reading() as connection:
            error = errors.event_of_request(connection, row.error_group, request_id)
    baseline = readers.performance.requests(row.at - _BASELINE_SECONDS, row.at + 60, method=row.method, route=row.route)
    return row, RequestDetailShape(
        trace_id=found.trace_id,
        path=found.path,
        bytes_sent=found.bytes_sent,
        process=found.process,
        spans=found.spans,
        spans_dropped=found.spans_dropped,
        lines=found.lines,
        findings=found.findings,
        error=error,
        baseline=numbers.stats(baseline),
    )


def error_groups(readers: Readers, query: Query) -> GroupsShape:
    """Return the groups of errors that were seen in a time."""
    status: Any = query.choice("status", ("open", "resolved", "all"))
    with readers.open_database().reading() as connection:
        found = errors.list_groups(connection, status, query.since, query.until, limit=numbers.ROWS + 1)
        series = errors.frequency(connection, None, query.since, query.until)
    return GroupsShape(groups=found[: numbers.ROWS], truncated=len(found) > numbers.ROWS, series=series)


def error_group(readers: Readers, query: Query) -> tuple[errors.GroupRow, GroupDetailShape]:
    """Return one group: why its errors belong together, how often it is seen, and its newest occurrences."""
    with readers.open_database().reading() as connection:
        found = errors.read_group(connection, query.path["id"], query.since, query.until)
        if found is None:
            raise NotFound(f"There is no error group {query.path['id']}; /errors lists them.")
        frequency = errors.frequency(connection, found.group.id, query.since, query.until)
    return found.group, GroupDetailShape(why=found.why, frequency=frequency, events=found.events)


def llm(readers: Readers, query: Query) -> LLMShape:
    """Return calls, tokens and cost of language models, by model and by agent, the tools of agents, and the budgets."""
    performance, since, until = readers.performance, query.since, query.until
    models, agents = performance.models(since, until), performance.agents(since, until)
    series = performance.model_series(since, until)
    return LLMShape(
        totals=LLMTotalsShape(
            calls=sum(model.stats.count for model in models),
            errors=sum(model.stats.errors for model in models),
            input_tokens=sum(model.input_tokens for model in models),
            output_tokens=sum(model.output_tokens for model in models),
            cost_usd=_known_cost(models),
            unpriced_calls=sum(model.unpriced_calls for model in models),
            usage_missing=sum(model.usage_missing for model in models),
        ),
        series=LLMSeriesShape(
            t=[point[0] for point in series],
            calls=[point[1] for point in series],
            tokens=[point[2] for point in series],
            cost_usd=[point[3] for point in series],
        ),
        models=[_model(model) for model in models[: numbers.ROWS]],
        agents=[
            AgentShape(
                agent=one.agent,
                runs=one.stats.count,
                errors=one.stats.errors,
                p50_seconds=one.stats.p50_seconds,
                p95_seconds=one.stats.p95_seconds,
                llm_calls=one.llm_calls,
                tokens=one.tokens,
                cost_usd=None if one.llm_calls and not one.cost_usd else one.cost_usd,
            )
            for one in agents[: numbers.ROWS]
        ],
        tools=[
            ToolShape(
                tool=tool,
                calls=stats.count,
                errors=stats.errors,
                p50_seconds=stats.p50_seconds,
                p95_seconds=stats.p95_seconds,
            )
            for tool, stats in performance.tools(since, until)[: numbers.ROWS]
        ],
        budgets=[_budget(state) for state in readers.budgets.states()],
    )


def _budget(state: BudgetState) -> BudgetShape:
    budget, spent = state.budget, state.values.values()
    return BudgetShape(
        name=budget.name,
        usd=budget.usd,
        per=budget.per,
        by=budget.by,
        refuse=budget.refuse,
        since=state.since,
        until=state.until,
        share=state.ratio,
        calls=sum(one.calls for one in spent),
        unpriced_calls=sum(one.unpriced_calls for one in spent),
        spent=[
            SpentShape(
                value=value,
                spent_usd=one.usd if one.usd or one.unpriced_calls < one.calls else None,
                share=one.usd / budget.usd,
                calls=one.calls,
                unpriced_calls=one.unpriced_calls,
            )
            for value, one in list(state.values.items())[:LIMIT]
        ],
    )


def usage(readers: Readers, query: Query) -> UsageShape:
    """Return active users, use of features and events, and how business operations ended."""
    analytics, since, until = readers.analytics, query.since, query.until
    by_day, active = analytics.active_by_day(), analytics.active_users()
    return UsageShape(
        active_users=ActiveUsersShape(day=active.day, week=active.week, month=active.month),
        active_series=ActiveSeriesShape(t=list(by_day), users=list(by_day.values())),
        features=[FeatureShape(**dataclasses.asdict(one)) for one in analytics.features(since, until)],
        events=[EventShape(event=event, count=count) for event, count in analytics.events(since, until).items()],
        operations=[_operation(one) for one in analytics.operations(since, until)],
    )


def operations(readers: Readers, query: Query) -> OperationsShape:
    """Return the newest operations of a name, each with the request it happened in."""
    name = query.text("name")
    if not name:
        raise BadQuery("'name' must be an operation's name, got nothing.")
    values = query.starting_with("value.")
    found = readers.analytics.latest_operations(name, query.since, query.until, values, numbers.ROWS + 1)
    shown = [RunShape(**{key: row[key] for key in RunShape.__slots__}) for row in found[: numbers.ROWS]]
    return OperationsShape(operations=shown, truncated=len(found) > numbers.ROWS)


def checks(readers: Readers, query: Query) -> HealthShape:
    """Return every health check, how it stands and how it stood in the last day."""
    since = query.now - _DAY
    started = [header.started_at for header in readers.metrics.totals().living if header.started_at]
    with readers.open_database().reading() as connection:
        latest = health.latest(connection, query.now)
        shown = [_check(connection, check, since, query.now) for check in latest]
    uptime = max(0.0, query.now - min(started)) if started else None
    return HealthShape(status=_worst(latest), uptime_seconds=uptime, checks=shown)


def check_timeline(readers: Readers, query: Query) -> CheckTimelineShape:
    """Return how a check stood over a time, in minutes, hours or days."""
    name, step = query.path["check"], rollups.resolution_for(query.since, query.until)
    with readers.open_database().reading() as connection:
        found = health.timeline(connection, name, query.since, query.until, step)
    if not any(one.up or one.warn or one.down for _, one in found):
        raise NotFound(f"There is no check {name!r} in this time; /health lists them.")
    return CheckTimelineShape(
        name=name, resolution_seconds=step, buckets=[{"t": begin, **dataclasses.asdict(one)} for begin, one in found]
    )


def alerts(readers: Readers, query: Query) -> AlertsReport:
    """Return open and recent alerts, and the rules, silences and channels behind them."""
    return readers.alerts.reports.report()


def alert(readers: Readers, query: Query) -> tuple[EpisodeRow, EpisodeDetailShape]:
    """Return one alert with its timeline and every attempt to tell of it."""
    found = readers.alerts.reports.episode(query.path["episode"])
    if found is None:
        raise NotFound(f"There is no alert {query.path['episode']}; /alerts lists them.")
    return found.episode, EpisodeDetailShape(events=found.events, notifications=found.notifications)


def system(readers: Readers, query: Query) -> SystemShape:
    """Return what the service and its host use, and how the pack itself is."""
    totals, resources = readers.metrics.totals(), readers.resources
    return SystemShape(
        meta=state.meta(readers, totals, query.now),
        processes=resources.processes(one.pid for one in totals.living),
        system=resources.host(),
        series=_use(readers, query),
        store=_store(readers),
        own=[CounterShape(name=name, value=state.total(totals, name)) for name in state.OWN_COUNTERS],
    )


def search(readers: Readers, query: Query) -> FoundShape:
    """Say whether a text is the ID of a kept request, or of an error group."""
    text = query.text("q").strip()
    if not text:
        return FoundShape()
    if readers.performance.request(text) is not None:
        return FoundShape(request_id=text)
    with readers.open_database().reading() as connection:
        found = errors.read_group(connection, text)
    return FoundShape(error_group=found.group.id if found is not None else None)


def _kept(readers: Readers, query: Query, **wanted: Any) -> list[KeptRequest]:
    return readers.performance.kept(RequestFilter(since=query.since, until=query.until, **wanted))


def _slowest_and_newest(readers: Readers, query: Query, **wanted: Any) -> list[KeptRequest]:
    slowest = _kept(readers, query, order="slowest", limit=_HALF, **wanted)
    newest = _kept(readers, query, order="newest", limit=_HALF, **wanted)
    return list({row.request_id: row for row in (*slowest, *newest)}.values())


def _as_stored(readers: Readers, user: str) -> str:
    """Return a user as the store has it, so that the app's own ID finds them, too."""
    if not readers.config.hash_users:
        return user
    with readers.open_database().reading() as connection:
        return hashed(user, user_key(connection))


def _model_use(models: Sequence[ModelStats]) -> ModelUseShape:
    return ModelUseShape(
        calls=sum(model.stats.count for model in models),
        tokens=sum(model.input_tokens + model.output_tokens for model in models),
        cost_usd=_known_cost(models),
        errors=sum(model.stats.errors for model in models),
    )


def _known_cost(models: Sequence[ModelStats]) -> float | None:
    """Return the cost as far as prices are known, None where none is: an unknown cost is not 0."""
    cost = sum(model.cost_usd for model in models)
    return None if not cost and any(model.unpriced_calls for model in models) else cost


def _model(given: ModelStats) -> ModelShape:
    return ModelShape(
        provider=given.provider,
        model=given.model,
        operation=given.operation,
        calls=given.stats.count,
        errors=given.stats.errors,
        input_tokens=given.input_tokens,
        output_tokens=given.output_tokens,
        cost_usd=_known_cost([given]),
        unpriced_calls=given.unpriced_calls,
        usage_missing=given.usage_missing,
        p50_seconds=given.stats.p50_seconds,
        p95_seconds=given.stats.p95_seconds,
        first_chunk_p50_seconds=given.first_chunk_p50_seconds,
    )


def _operation(given: OperationStats) -> OperationShape:
    values = {
        dimension: [
            OutcomesShape(
                value=one.name,
                ok=one.ok,
                failed=one.failed,
                abandoned=one.abandoned,
                success_rate=one.success_rate,
                p50_seconds=one.p50_seconds,
                p95_seconds=one.p95_seconds,
            )
            for one in members
        ]
        for dimension, members in given.dimensions.items()
    }
    return OperationShape(
        operation=given.name,
        ok=given.ok,
        failed=given.failed,
        abandoned=given.abandoned,
        open=given.open,
        success_rate=given.success_rate,
        p50_seconds=given.p50_seconds,
        p95_seconds=given.p95_seconds,
        dimensions=values,
    )


def _check(connection: Connection, check: health.CheckState, since: float, now: float) -> CheckShape:
    spans = {"24h": _DAY, "30d": 30 * _DAY, "365d": 365 * _DAY}
    found = {span: health.times(connection, check.name, now - seconds, now) for span, seconds in spans.items()}
    history = health.history(connection, check.name, since)
    return CheckShape(
        name=check.name,
        status=cast(HealthStatus, check.status),
        critical=check.critical,
        duration_seconds=check.duration_seconds,
        checked_at=check.until,
        output=check.output,
        uptime_24h=found["24h"].uptime,
        uptime_30d=found["30d"].uptime,
        uptime_365d=found["365d"].uptime,
        times={span: dataclasses.asdict(one) for span, one in found.items()},
        history=[{"from": max(one.since, since), "to": one.until, "status": one.status} for one in history],
    )


def _use(readers: Readers, query: Query) -> UseSeriesShape:
    """Return what the processes used over time; nothing when the store cannot be read: ``meta`` says so."""
    try:
        cpu, memory = (
            readers.performance.gauge_series(gauge, query.since, query.until) for gauge in (PROCESS_CPU, PROCESS_MEMORY)
        )
    except StoreUnusable:
        return UseSeriesShape(t=(), cpu_share=(), memory_bytes=())
    return UseSeriesShape(
        t=[at for at, _ in cpu],
        cpu_share=[value for _, value in cpu],
        memory_bytes=[value for _, value in memory],
    )


def _worst(states: Sequence[health.CheckState]) -> HealthStatus:
    if any(one.status == "fail" and one.critical for one in states):
        return "fail"
    return "warn" if any(one.status != "pass" for one in states) else "pass"


def place_of(database: Database) -> str:
    """Return the path of the embedded database, or the URL of another one without its password."""
    return str(database.path) if database.path else database.url.render_as_string(hide_password=True)


def _store(readers: Readers) -> StoreShape:
    """Return the store; without its tables when it cannot be read: ``meta`` says so."""
    database = readers.open_database()
    tables: list[TableShape] = []
    try:
        with database.reading() as connection:
            tables = [TableShape(**table) for table in schema.sizes(connection)]
    except StoreUnusable:
        pass
    return StoreShape(place=place_of(database), bytes=database.size_bytes(), tables=tables)
