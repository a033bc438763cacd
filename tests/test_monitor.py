"""Assembly: the process's current Monitoring, and what is made of a config."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

import monitoring
from monitoring import Config, ConfigError, Monitoring, Rule
from monitoring.testing import MemorySink, use


def test_before_configure_the_verbs_act_on_one_that_records_nothing() -> None:
    """Libraries may use the verbs whether or not an app has set the pack up."""
    with monitoring.observe("early"):
        monitoring.counter("too_early_total", "Counted nowhere.").inc()
    assert monitoring.current().metrics.snapshot() == {}
    assert monitoring.current().edge is None
    monitoring.current().flush()


@pytest.mark.parametrize(
    "read",
    [
        lambda m: m.performance.requests(0, 1),
        lambda m: m.errors.groups(),
        lambda m: m.analytics.active_users(),
        lambda m: m.alerts,
    ],
    ids=["performance", "errors", "analytics", "alerts"],
)
def test_before_configure_there_is_nothing_to_read(read: Callable[[Monitoring], object]) -> None:
    """One sentence says why, and what to do."""
    with pytest.raises(ConfigError, match=r"not set up.*configure\(\)"):
        read(monitoring.current())


def test_configure_makes_its_monitoring_the_current_one_and_shutdown_takes_it_back(tmp_path: Path) -> None:
    """One process has one current Monitoring at a time."""
    active = monitoring.configure(log_destination=str(tmp_path / "log"))
    assert monitoring.current() is active
    monitoring.shutdown()
    assert monitoring.current() is not active
    assert monitoring.current().edge is None


def test_a_sub_app_can_be_asked_for_again() -> None:
    """Asking for the apps does not hide the functions that give them."""
    for _ in range(2):
        assert callable(monitoring.health_app())
        assert callable(monitoring.metrics_app())


def test_a_server_of_another_kind_asks_a_function(tmp_path: Path) -> None:
    """It gets status, headers and body; the first probe has the checks run, and whoever has the token learns more."""
    made = monitoring.configure(store=None, token="secret-token", cells_folder=str(tmp_path))
    ran = threading.Event()
    made.health.add("database", ran.set)
    try:
        status, headers, body = monitoring.health_answer("GET", "/live")
        assert ran.wait(10)
        told = made.health_answer("GET", "database/", "verbose", {"Authorization": "Bearer secret-token"}, "10.0.0.7")
        unknown = made.health_answer("head", "nothing", headers={"Authorization": "Bearer secret-token"})
    finally:
        made.health.stop()
        monitoring.shutdown()
    assert (status, body, headers["content-type"]) == (200, b'{"status": "pass"}', "application/health+json")
    assert b'"database:responseTime"' in told.body
    assert (unknown.status, unknown.body) == (404, b"")


def test_a_service_that_only_probes_ask_keeps_the_history_of_its_checks(tmp_path: Path) -> None:
    """The background starts with the first probe where there are checks, and not without any."""
    with_checks, without = (
        Monitoring(Config(store=str(tmp_path / name), cells_folder=str(tmp_path / name))) for name in ("a", "b")
    )
    with_checks.health.add("disk", lambda: None)
    for made in (with_checks, without):
        made.health_answer("GET", "/ready")
    assert (with_checks.background._thread is None, without.background._thread is None) == (False, True)
    for made in (with_checks, without):
        made.close()


def test_what_was_counted_is_there_until_the_service_ends(tmp_path: Path) -> None:
    """A Monitoring that is closed hands its counts over to the living; a new one of the service goes on."""
    settings = {"cells_folder": str(tmp_path / "cells"), "log_destination": str(tmp_path / "log")}
    (tmp_path / "cells").mkdir(mode=0o700)
    first = monitoring.Monitoring(monitoring.Config(**settings))
    second = monitoring.Monitoring(monitoring.Config(**settings))
    for one in (first, second):
        one.counter("jobs_total", "Jobs.").inc()
    first.close()
    assert second.metrics.snapshot()["jobs_total"].series[0].value == 2


def test_an_explicit_monitoring_wraps_clients_for_itself(tmp_path: Path) -> None:
    """Two in one process: each hears of its own clients only."""
    sinks = [MemorySink(), MemorySink()]
    monitors = [
        monitoring.Monitoring(monitoring.Config(log_destination=str(tmp_path / "log"), store=None), sinks=[sink])
        for sink in sinks
    ]
    engine = monitors[0].wrap(create_engine("sqlite://"))
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    assert monitors[0].unwrap(engine) is engine
    assert [len(sink.of_kind("db")) for sink in sinks] == [1, 0]
    for one in monitors:
        one.close()


def test_a_monitoring_without_a_store_keeps_nothing_and_starts_no_thread(tmp_path: Path) -> None:
    """store=None: no file, no dashboard, no background work."""
    with use(store=None) as active:
        active.track("something")
        active.flush()
    assert list(tmp_path.iterdir()) == []
    assert active.background.flusher is None


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"rules": [Rule("twice", "p95_seconds", above=1), Rule("twice", "p95_seconds", above=2)]}, "twice"),
        ({"rules": [Rule("told", "p95_seconds", above=1, channels=("nobody",))]}, "nobody"),
        ({"base_url": "https://x", "rules": ["p95 > 1"]}, "p95 > 1"),
        ({"store": "nonsense://x"}, "'nonsense'"),
    ],
)
def test_what_would_fail_in_the_background_is_refused_at_the_start(settings: dict[str, Any], says: str) -> None:
    """A bad rule, channel or store is one sentence to whoever configures."""
    with pytest.raises(ConfigError, match=re.escape(says)):
        monitoring.configure(**settings)
