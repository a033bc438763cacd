"""What a real Prometheus and its own promtool make of /metrics."""

from __future__ import annotations

import http.client
import json
import random
import subprocess
import urllib.parse
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.openmetrics import parser as openmetrics

from tests.support.components import require
from tests.support.load import Target
from tests.support.processes import poll, running
from tests.support.scrape import OPEN_METRICS, REQUESTS, fetch_metrics
from tests.support.service import TOKEN, Service, serve, uvicorn

FIRST_SCRAPE_LIMIT_SECONDS = 20
VARIED_PATHS = (
    "/items/{n}",
    "/nowhere",
    "/fail",
    "/background/failure",
    "/outer/inner/leaf/x",
    "/custom/NSF-{n}",
    "/custom/quote%22d",
)
SLOW = "/slow/{milliseconds}"
SLOW_REQUESTS = 600
SAME_ERROR = 0.02
"""Our percentiles may be off by this share of their value; a value that close to a bound may lie beyond it."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The ASGI app behind uvicorn after a varied run: errors, custom metrics, and a spread of durations."""
    with serve(uvicorn(), tmp_path_factory.mktemp("service")) as service:
        service.load([Target(path, path) for path in VARIED_PATHS], 70)
        service.load([Target(f"/slow/{milliseconds}", SLOW) for milliseconds in _spread()], SLOW_REQUESTS)
        yield service


@pytest.fixture(scope="module")
def prometheus(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A Prometheus that scrapes the service with its token every second; the port it listens on."""
    folder = tmp_path_factory.mktemp("prometheus")
    program = require("prometheus")
    configuration = folder / "prometheus.yml"
    configuration.write_text(_scrape_config(service.port))

    def command(port: int) -> list[str]:
        tsdb = f"--storage.tsdb.path={folder / 'tsdb'}"
        listen = f"--web.listen-address=127.0.0.1:{port}"
        return [program, f"--config.file={configuration}", tsdb, listen, "--log.level=warn"]

    with running(command, lambda port: _get(port, "/-/ready")[0] == 200, folder / "log", cwd=folder) as (_, port):
        poll(
            lambda: _value(port, f"sum({REQUESTS})") is not None,
            "the first scrape",
            limit_seconds=FIRST_SCRAPE_LIMIT_SECONDS,
        )
        yield port


def test_prometheus_scrapes_with_the_token_and_reads_our_counts(service: Service, prometheus: int) -> None:
    """The target is up, and every series of requests has the value that a scrape by hand shows."""
    counted = {
        (row["metric"]["http_route"], int(row["metric"]["http_response_status_code"])): int(float(row["value"][1]))
        for row in _query(prometheus, f"sum by (http_route, http_response_status_code) ({REQUESTS})")
    }

    assert _value(prometheus, 'up{job="app"}') == 1
    assert counted == service.scrape().requests_by_route()
    assert counted[SLOW, 200] == SLOW_REQUESTS


def test_prometheus_without_the_token_is_refused(service: Service) -> None:
    """A scrape with a wrong token gets nothing."""
    with pytest.raises(AssertionError, match=r"answered 40[13]"):
        fetch_metrics(service.port, "wrong")


@pytest.mark.parametrize(("quantile", "name"), [(0.5, "p50"), (0.95, "p95"), (0.99, "p99")])
def test_our_percentiles_agree_with_histogram_quantile(
    service: Service, prometheus: int, quantile: float, name: str
) -> None:
    """Both values lie in the same exposed bucket; ours is the finer of the two."""
    buckets = f'sum by (le) (http_server_request_duration_seconds_bucket{{http_route="{SLOW}"}})'
    theirs = _value(prometheus, f"histogram_quantile({quantile}, {buckets})")
    ours = json.loads(service.get(f"/percentiles{SLOW}")[2])[name]
    bounds = [float(row["metric"]["le"]) for row in _query(prometheus, buckets)]

    assert theirs is not None
    lower = max((bound for bound in bounds if bound < theirs), default=0.0)
    upper = min(bound for bound in bounds if bound >= theirs)
    assert lower * (1 - SAME_ERROR) <= ours <= upper * (1 + SAME_ERROR), (ours, theirs, lower, upper)


def test_promtool_finds_nothing_to_complain_about(service: Service) -> None:
    """`promtool check metrics` on the classic text of a varied run ends well and prints nothing."""
    text = fetch_metrics(service.port, TOKEN)

    checked = subprocess.run(
        [require("promtool"), "check", "metrics"], input=text, text=True, capture_output=True, timeout=60, check=False
    )

    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
    for custom in ("proposals_total", "drafts_open", "proposal_pages_bucket"):
        assert f"\n{custom}{{" in text


def test_the_openmetrics_form_reads_the_same_counts(service: Service) -> None:
    """The strict OpenMetrics parser accepts the other form of the same numbers."""
    text = fetch_metrics(service.port, TOKEN, accept=OPEN_METRICS)

    families = openmetrics.text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
    samples = [s for family in families for s in family.samples]

    assert sum(sample.value for sample in samples if sample.name == REQUESTS) == service.scrape().requests()


def _spread() -> list[int]:
    """Durations in milliseconds with a long tail, the same in every run."""
    draw = random.Random(1)
    return [min(300, round(draw.lognormvariate(3.0, 0.9))) for _ in range(SLOW_REQUESTS)]


def _scrape_config(port: int) -> str:
    return f"""
scrape_configs:
  - job_name: app
    scrape_interval: 1s
    authorization:
      type: Bearer
      credentials: {TOKEN}
    static_configs:
      - targets: ["127.0.0.1:{port}"]
"""


def _value(port: int, expression: str) -> float | None:
    """Return the one value of an expression, or None where it has none."""
    rows = _query(port, expression)
    return float(rows[0]["value"][1]) if rows else None


def _query(port: int, expression: str) -> list[dict[str, Any]]:
    status, body = _get(port, "/api/v1/query?" + urllib.parse.urlencode({"query": expression}))
    assert status == 200, body
    rows: list[dict[str, Any]] = json.loads(body)["data"]["result"]
    return rows


def _get(port: int, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()
