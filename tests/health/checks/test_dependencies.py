"""The check that reads the app's own traffic."""

from __future__ import annotations

import httpx
import pytest

import monitoring
from monitoring.calls import DatabaseCall
from monitoring.health.checks import dependencies, traffic
from monitoring.health.traffic import RecentTraffic
from monitoring.testing import FakeClock, use
from tests.health.checks.support import outcome


@pytest.fixture
def recent(monkeypatch: pytest.MonkeyPatch) -> RecentTraffic:
    """Return traffic of the test's own."""
    recent = RecentTraffic(FakeClock())
    recent.watch("db")
    recent.watch("http")
    monkeypatch.setattr(dependencies, "RECENT", recent)
    return recent


def calls(recent: RecentTraffic, good: int, bad: int) -> None:
    """Make calls to a database, of 40 ms."""
    for error in [None] * good + [ConnectionError()] * bad:
        call = DatabaseCall(0.0, error)
        call.system, call.duration_seconds = "postgresql", 0.04
        recent.folds()["db"](call)


@pytest.mark.parametrize(
    ("good", "bad", "status", "output"),
    [
        (0, 0, "pass", "no traffic"),
        (0, 4, "pass", "no traffic"),
        (5, 0, "pass", ""),
        (99, 1, "pass", ""),
        (19, 1, "warn", "1 of 20 calls failed in 60 s, 40 ms on average"),
        (5, 5, "fail", "5 of 10 calls failed in 60 s, 40 ms on average"),
    ],
)
def test_the_share_of_failed_calls_decides(
    recent: RecentTraffic, good: int, bad: int, status: str, output: str
) -> None:
    """From five calls on: a twentieth warns, half fails."""
    calls(recent, good, bad)
    found = outcome(traffic("db", "postgresql"))
    assert (found.status, found.output) == (status, output)


def test_the_share_is_its_reading(recent: RecentTraffic) -> None:
    """Of a datastore, as databases and caches are."""
    calls(recent, 3, 1)
    found = outcome(traffic("db", "postgresql", min_calls=1))
    assert (found.value, found.unit, found.measurement, found.component_type) == (
        0.25,
        "ratio",
        "error_rate",
        "datastore",
    )


def test_a_wrapped_clients_calls_are_seen(recent: RecentTraffic) -> None:
    """Once the sink is one of the recorder's; a server that fails, and no call of the check's own."""
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(500 if len(asked) > 4 else 200)

    with use() as made, httpx.Client(transport=httpx.MockTransport(answer)) as client:
        made.recorder.add(recent)
        monitoring.wrap(client)
        for _ in range(8):
            client.get("http://api.example.org/")
        found = outcome(traffic("http", "api.example.org", window_seconds=30))
    assert found.status == "fail"
    assert found.output.startswith("4 of 8 calls failed in 30 s")
    assert len(asked) == 8


def test_unusable_settings_are_refused() -> None:
    """With what to pass."""
    with pytest.raises(ValueError, match="pass 'db', 'cache', 'http' or 'llm'"):
        traffic("disk", "x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="pass 1 to 300 seconds"):
        traffic("db", "x", window_seconds=301)
    with pytest.raises(ValueError, match="pass 0 <= warn <= fail"):
        traffic("db", "x", warn_error_rate=0.9)
