"""The custom metrics of the test apps, and what they read of their own numbers."""

from __future__ import annotations

import monitoring

proposals = monitoring.counter("proposals_total", "Proposals written.", labels=("funder",))
drafts = monitoring.gauge("drafts_open", "Drafts that are open.", labels=("funder",))
pages = monitoring.histogram("proposal_pages", "Pages of a proposal.", labels=("funder",), buckets=(1, 5, 10, 50))


def record(funder: str) -> None:
    """Change every kind of custom metric for `funder`."""
    proposals.labels(funder).inc()
    drafts.labels(funder).inc()
    pages.labels(funder).observe(7)


def percentiles(route: str) -> dict[str, float | None]:
    """Return the p50, p95 and p99 of the requests of `route`, in seconds."""
    requests = monitoring.current().metrics.snapshot()["http_server_request_duration_seconds"]
    (series,) = (series for series in requests.series if series.labels["http_route"] == route)
    return {"p50": series.p50, "p95": series.p95, "p99": series.p99}
