"""What is remembered of the app's own calls: by dependency, by second, within bounds."""

from __future__ import annotations

import asyncio
import os
from typing import Any, get_args

import pytest

from monitoring.calls import CacheCall, Call, DatabaseCall, HTTPCall, LLMCall
from monitoring.health.traffic import _NAMES, RECENT, DependencyKind, Recent, RecentTraffic, has_failed
from monitoring.testing import FakeClock


def error_named(name: str) -> Exception:
    """Return an exception of a class of that name."""
    return type(name, (Exception,), {})()  # type: ignore[no-any-return]


def watching(clock: FakeClock) -> RecentTraffic:
    """Return what counts all kinds of calls."""
    traffic = RecentTraffic(clock)
    for kind in get_args(DependencyKind):
        traffic.watch(kind)
    return traffic


def http_call(host: str = "api", status: int = 200, seconds: float = 0.1) -> HTTPCall:
    """Return a call to a server."""
    call = HTTPCall(0.0)
    call.host, call.status, call.duration_seconds = host, status, seconds
    return call


def test_each_kind_is_counted_by_its_own_name() -> None:
    """A database by its system, a cache by its name, a server by its host, an LLM by its provider."""
    traffic = watching(FakeClock())
    named: list[tuple[DependencyKind, type[Call], str]] = [
        ("db", DatabaseCall, "system"),
        ("cache", CacheCall, "cache"),
        ("http", HTTPCall, "host"),
        ("llm", LLMCall, "provider"),
    ]
    for kind, type_of_call, name in named:
        call: Any = type_of_call(0.0)
        setattr(call, name, f"my {kind}")
        traffic.folds()[kind](call)
    assert [traffic.of(kind, f"my {kind}", 60).calls for kind, _, _ in named] == [1, 1, 1, 1]
    assert traffic.of("db", "my cache", 60) == Recent()


def test_what_nobody_watches_is_not_counted() -> None:
    """It would cost each call something."""
    traffic = RecentTraffic(FakeClock())
    traffic.watch("db")
    traffic.folds()["http"](http_call())
    assert traffic.of("http", "api", 60) == Recent()


def test_calls_leave_the_window() -> None:
    """Second by second."""
    clock = FakeClock()
    traffic = watching(clock)
    fold = traffic.folds()["http"]
    fold(http_call(status=500, seconds=1.0))
    clock.advance(30)
    fold(http_call(seconds=3.0))
    both = traffic.of("http", "api", 60)
    assert both == Recent(2, 1, 4.0)
    assert (both.error_rate, both.mean_seconds) == (0.5, 2.0)
    assert traffic.of("http", "api", 30) == Recent(1, 0, 3.0)
    clock.advance(40)
    assert traffic.of("http", "api", 60) == Recent(1, 0, 3.0)
    clock.advance(60)
    assert traffic.of("http", "api", 60) == Recent()


def test_a_place_is_used_again_when_the_window_has_gone_round() -> None:
    """What was there is not added to."""
    clock = FakeClock()
    traffic = watching(clock)
    for _ in range(3):
        traffic.folds()["http"](http_call())
        clock.advance(300)
    traffic.folds()["http"](http_call())
    assert traffic.of("http", "api", 300).calls == 1


def test_names_are_bounded() -> None:
    """Those that come too late are not remembered; the others go on."""
    traffic = watching(FakeClock())
    fold = traffic.folds()["http"]
    for number in range(_NAMES + 1):
        fold(http_call(str(number)))
    fold(http_call("0"))
    assert traffic.of("http", "0", 60).calls == 2
    assert traffic.of("http", str(_NAMES - 1), 60).calls == 1
    assert traffic.of("http", str(_NAMES), 60).calls == 0


@pytest.mark.parametrize(
    ("error", "failed"),
    [
        ("OperationalError", True),
        ("APITimeoutError", True),
        ("RateLimitError", True),
        ("ConnectionError", True),
        ("UniqueViolation", False),
        ("IntegrityError", False),
        ("BadRequestError", False),
    ],
)
def test_what_the_caller_did_wrong_is_no_failure_of_the_dependency(error: str, failed: bool) -> None:
    """It refused what it was asked, and is well."""
    assert has_failed(DatabaseCall(0.0, error_named(error))) is failed


@pytest.mark.parametrize(("status", "failed"), [(200, False), (404, False), (429, False), (500, True), (503, True)])
def test_a_servers_own_errors_are_failures(status: int, failed: bool) -> None:
    """From 500 on."""
    assert has_failed(http_call(status=status)) is failed


def test_a_call_that_was_cancelled_is_no_failure() -> None:
    """Nor is a stream that was closed early."""
    assert not has_failed(LLMCall(0.0, asyncio.CancelledError()))
    assert not has_failed(LLMCall(0.0, outcome="closed_early"))


def test_a_forked_child_begins_anew() -> None:
    """Also when its parent was counting just then."""
    traffic = watching(FakeClock())
    traffic.folds()["http"](http_call())
    with traffic._lock:
        traffic.forget()
        assert traffic.of("http", "api", 60) == Recent()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_the_traffic_of_a_process_is_not_that_of_its_child() -> None:
    """That of this process is forgotten by itself."""
    name = "forked.example.org"
    RECENT.watch("http")
    RECENT.folds()["http"](http_call(name))
    child = os.fork()
    if child == 0:
        os._exit(RECENT.of("http", name, 300).calls)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert RECENT.of("http", name, 300).calls == 1
