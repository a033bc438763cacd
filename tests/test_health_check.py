"""Health: what checks find, when they run, and what the probes answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import httpx
import pytest

from monitoring import Config
from monitoring.health_check import HealthChecks
from monitoring.health_endpoint import health_app
from monitoring.testing import use


def _fails() -> None:
    raise ConnectionError("postgresql://user:secret@db is gone")


async def _fails_async() -> None:
    raise ConnectionError("no route")


def _get(checks: HealthChecks, path: str, config: Config | None = None, **headers: str) -> httpx.Response:
    app = health_app(checks, config or Config(token="secret-token"))

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get(path, headers=headers)

    return asyncio.run(ask())


@pytest.mark.parametrize("function", [_fails, _fails_async])
def test_a_critical_failure_is_fail_and_another_one_warn(function: Callable[[], object]) -> None:
    """Only critical checks take the app out of service; sync and async ones count alike."""
    checks = HealthChecks()
    checks.add("extra", function)
    assert checks.report().status == "warn"
    checks.add("database", function, critical=True)
    report = checks.report()
    assert report.status == "fail"
    assert {result.name: result.status for result in report.checks} == {"extra": "fail", "database": "fail"}


def test_a_check_runs_once_per_interval() -> None:
    """Probes that ask often do not make the check run often."""
    runs: list[int] = []
    checks = HealthChecks()
    checks.add("counted", lambda: runs.append(1), interval_seconds=60)
    checks.report()
    checks.report()
    assert len(runs) == 1


def test_a_hanging_check_times_out_and_is_not_started_twice() -> None:
    """A stuck dependency costs one thread, not one per probe, and says since when it runs."""
    release, runs = threading.Event(), []

    def hang() -> None:
        runs.append(1)
        release.wait(10)

    checks = HealthChecks()
    checks.add("stuck", hang, timeout_seconds=0.05, interval_seconds=0)
    first, second = checks.report(), checks.report()
    release.set()
    assert first.checks[0].output == "timeout after 0.05 s"
    assert second.checks[0].output.startswith("still running for")
    assert len(runs) == 1


@pytest.mark.parametrize(
    ("path", "code", "body"),
    [
        ("/", 503, '{"status": "fail"}'),
        ("/live", 200, '{"status": "pass"}'),
        ("/ready", 503, '{"status": "fail"}'),
        ("/startup", 503, '{"status": "fail"}'),
    ],
)
def test_strangers_get_the_bare_status(path: str, code: int, body: str) -> None:
    """Names, causes and times stay inside; live does not look at dependencies at all."""
    checks = HealthChecks()
    checks.add("database", _fails, critical=True)
    response = _get(checks, path)
    assert (response.status_code, response.text) == (code, body)
    assert response.headers["content-type"] == "application/health+json"
    assert response.headers["cache-control"] == "no-store"


def test_readiness_ignores_what_is_not_critical() -> None:
    """A lost extra does not take the app out of service."""
    checks = HealthChecks()
    checks.add("extra", _fails)
    assert _get(checks, "/ready").json() == {"status": "pass"}
    assert _get(checks, "/").json() == {"status": "warn"}


def test_startup_passes_for_good_once_it_has_passed() -> None:
    """A dependency that fails later is a matter of readiness."""
    failing = [True]

    def dependency() -> None:
        if failing[0]:
            raise ConnectionError

    checks = HealthChecks()
    checks.add("database", dependency, critical=True, interval_seconds=0)
    assert _get(checks, "/startup").status_code == 503
    failing[0] = False
    assert _get(checks, "/startup").status_code == 200
    failing[0] = True
    assert _get(checks, "/startup").status_code == 200
    assert _get(checks, "/ready").status_code == 503


def test_details_are_for_those_with_the_token() -> None:
    """?verbose gives the document of the health+json draft, to bearers of the token only."""
    checks = HealthChecks("proposals")
    checks.add("database", _fails, critical=True)
    assert _get(checks, "/?verbose").json() == {"status": "fail"}
    document = _get(checks, "/?verbose", authorization="Bearer secret-token").json()
    assert (document["status"], document["serviceId"]) == ("fail", "proposals")
    assert document["checks"]["database:responseTime"][0]["output"].startswith("ConnectionError")


def test_an_unknown_probe_is_not_found_and_other_methods_are_refused() -> None:
    """Wrong paths and methods get a sentence."""
    assert _get(HealthChecks(), "/nothing").status_code == 404


@pytest.mark.parametrize("times", [{"timeout_seconds": 0}, {"timeout_seconds": 100}, {"interval_seconds": -1}])
def test_unusable_times_are_refused_with_the_check_and_the_value(times: dict[str, float]) -> None:
    """The sentence names the check, the setting and what was given."""
    with pytest.raises(ValueError, match=r"of check 'x' must .* got "):
        HealthChecks().add("x", _fails, **times)  # type: ignore[arg-type]


def test_a_check_registered_before_configure_is_kept() -> None:
    """@monitoring.check at import time belongs to the Monitoring that comes later."""
    import monitoring

    @monitoring.check("early-bird")
    def early() -> None:
        """Pass."""

    with use() as active:
        assert "early-bird" in {result.name for result in active.health.report().checks}
