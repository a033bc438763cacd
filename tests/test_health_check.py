"""Health checks: registering them, and how all of them stand together."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import monitoring
from monitoring.health_check import HealthChecks, Reading
from monitoring.testing import FakeClock, use


def _fails() -> None:
    raise ConnectionError("postgresql://user:secret@db is gone")


async def _fails_async() -> None:
    raise ConnectionError("no route")


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


def test_before_its_first_run_a_component_is_not_known_to_be_well() -> None:
    """A critical one keeps the app from starting; another is warned of."""
    checks = HealthChecks()
    assert (checks.standing().status, checks.readiness(), checks.has_started()) == ("pass", "pass", True)
    checks = HealthChecks()
    checks.add("database", lambda: None, critical=True)
    assert (checks.standing().status, checks.readiness(), checks.has_started()) == ("warn", "fail", False)
    checks.report()
    assert (checks.standing().status, checks.readiness(), checks.has_started()) == ("pass", "pass", True)


def test_what_has_started_has_started_for_good() -> None:
    """A dependency that fails later is a matter of readiness."""
    up = [True]

    def dependency() -> None:
        if not up[0]:
            raise ConnectionError

    clock = FakeClock()
    checks = HealthChecks(unix_clock=clock)
    checks.add("database", dependency, critical=True, failures_allowed=1, interval_seconds=0.01)
    checks.report()
    assert checks.has_started()
    up[0] = False
    threading.Event().wait(0.03)  # the interval
    checks.report()
    assert (checks.has_started(), checks.readiness()) == (True, "fail")


def test_a_component_that_is_warned_of_takes_nothing_out_of_service() -> None:
    """Also a critical one."""
    checks = HealthChecks()
    checks.add("disk", lambda: Reading("warn", "nearly full"), critical=True)
    checks.report()
    assert (checks.readiness(), checks.standing().status) == ("warn", "warn")


def test_one_component_can_be_asked_for() -> None:
    """None where there is no such."""
    checks = HealthChecks()
    checks.add("extra", _fails)
    checks.report()
    found = checks.of("extra")
    assert found is not None
    assert found.status == "fail"
    assert checks.of("other") is None


def test_what_is_known_leaves_out_what_is_not() -> None:
    """What was not checked yet, and what was checked too long ago."""
    clock = FakeClock()
    checks = HealthChecks(unix_clock=clock)
    checks.add("database", lambda: None)
    assert checks.known() == []
    checks.report()
    assert [result.name for result in checks.known()] == ["database"]
    clock.advance(3_600)
    assert checks.known() == []


@pytest.mark.parametrize(
    "settings", [{"timeout_seconds": 0}, {"timeout_seconds": 100}, {"interval_seconds": 0}, {"failures_allowed": 0}]
)
def test_unusable_settings_are_refused_with_the_check_and_the_value(settings: dict[str, float]) -> None:
    """The sentence names the check, the setting and what was given."""
    with pytest.raises(ValueError, match=r"of check 'x' must .* got "):
        HealthChecks().add("x", _fails, **settings)  # type: ignore[arg-type]


def test_a_check_registered_before_configure_is_kept() -> None:
    """With its settings."""
    before = monitoring.current()
    monitoring.check("early", critical=True, interval_seconds=3.0)(lambda: None)
    try:
        with use() as made:
            check = made.health._checks["early"]
            assert (check.critical, check.interval_seconds) == (True, 3.0)
    finally:
        del before.health._checks["early"]


def test_texts_of_exceptions_are_scrubbed() -> None:
    """Also for those who may see them."""
    with use() as made:
        made.health.add("database", _fails)
        made.health.report()
        result = made.health.of("database")
    assert result is not None
    assert "secret" not in result.output
    assert "is gone" in result.output


def test_a_forked_child_runs_its_checks_itself(tmp_path: Path) -> None:
    """The thread and the lead are its parent's; what is known goes with it."""
    checks = HealthChecks(folder=lambda: tmp_path)
    runs = tmp_path / "runs"

    def note() -> None:
        with runs.open("a") as file:
            file.write(f"{os.getpid()}\n")

    checks.add("per process", note, per_process=True, interval_seconds=0.05)
    checks.start()
    child = os.fork()
    if child == 0:
        os.environ.pop("PYTEST_CURRENT_TEST", None)
        checks.start()
        threading.Event().wait(1.0)
        os._exit(0)
    os.waitpid(child, 0)
    checks.stop()
    assert {str(os.getpid()), str(child)} <= set(runs.read_text().split())


def test_a_worker_that_is_asked_first_knows_at_once_what_another_has_found(tmp_path: Path) -> None:
    """A probe must not find it starting for want of a look."""
    leader, other = (HealthChecks(folder=lambda: tmp_path) for _ in range(2))
    for checks in (leader, other):
        checks.add("database", lambda: None, critical=True)
    leader.report()
    other.start()
    assert other.readiness() == "pass"
    for checks in (leader, other):
        checks.stop()
