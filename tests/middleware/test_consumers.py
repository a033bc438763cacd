"""Who calls the app: what is kept of a header, and what the app says itself; the same over both edges."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

import monitoring
from monitoring import Monitoring
from monitoring.consumers import UNKNOWN
from monitoring.families import CONSUMER_REQUESTS
from monitoring.testing import use
from tests.middleware.twins import Reply, Twin

KEY = "sk-the-secret-of-acme"


def quiet(**settings: Any) -> AbstractContextManager[Monitoring]:
    """Return a block with a Monitoring whose lines go nowhere unless told."""
    return use(**{"log_destination": os.devnull, **settings})


def counted(active: Monitoring) -> dict[tuple[str, ...], float]:
    """Return what was counted, by label values."""
    found = active.metrics.snapshot().get(CONSUMER_REQUESTS.name)
    return {} if found is None else {tuple(one.labels.values()): one.value for one in found.series}


def consumers(active: Monitoring) -> set[str]:
    """Return the names that were counted under."""
    return {consumer for consumer, *_ in counted(active)}


def test_of_a_header_a_keyed_hash_is_kept(twin: Twin, tmp_path: Path) -> None:
    """It is neither in the line nor in the metrics, and tells two consumers apart."""
    log = tmp_path / "log"
    with quiet(consumer="X-API-Key", log_destination=str(log)) as active:
        app = twin.wrap(twin.app(Reply))
        for key in (KEY, KEY, "another"):
            assert twin.ask(app, headers=[("x-api-key", key)]).status == 200
        active.flush()
        found = counted(active)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    first, second, third = (line["consumer"] for line in lines if line["event"] == "request")
    assert found == {(first, "(unmatched)", "200"): 2, (third, "(unmatched)", "200"): 1}
    assert (first == second, first == third, first[:4]) == (True, False, "key:")
    assert KEY not in log.read_text()


def test_a_consumer_keeps_its_name(twin: Twin, tmp_path: Path) -> None:
    """Over workers and restarts: the key lies in the store's folder, for its owner alone, or is made of the token."""
    settings: list[dict[str, Any]] = [{"store": str(tmp_path / "kept")}, {"token": "of-the-service"}, {}]
    names = []
    for setting in settings:
        for _ in range(2):
            with quiet(consumer="x-api-key", **setting) as active:
                twin.ask(twin.wrap(twin.app(Reply)), headers=[("x-api-key", KEY)])
                names.append(consumers(active))
    assert names[0] == names[1]
    assert names[2] == names[3]
    assert len({next(iter(name)) for name in names}) == 4  # without either each process has its own
    assert (tmp_path / "kept" / "consumers.key").stat().st_mode & 0o777 == 0o600


def test_a_key_that_nothing_succeeded_with_is_nobody(twin: Twin) -> None:
    """Who guesses keys takes no consumer's place; a known one is counted whatever it gets."""
    answers = iter([401, 401, 200, 500])
    with quiet(consumer="x-api-key") as active:
        app = twin.wrap(twin.app(lambda: Reply(status=next(answers))))
        for key in ("guess 1", "guess 2", KEY, KEY):
            twin.ask(app, headers=[("x-api-key", key)])
        found = counted(active)
    (known,) = {consumer for consumer, *_ in found} - {UNKNOWN}
    assert found == {
        (UNKNOWN, "(unmatched)", "401"): 2,
        (known, "(unmatched)", "200"): 1,
        (known, "(unmatched)", "500"): 1,
    }


def test_the_app_may_name_consumers_by_the_headers(twin: Twin) -> None:
    """A function gets them in lower case, and its names are kept as they are."""

    def owner(headers: Mapping[str, str]) -> str | None:
        return {KEY: "acme"}.get(headers.get("x-api-key", ""))

    with quiet(consumer=owner) as active:
        app = twin.wrap(twin.app(lambda: Reply(status=403)))
        twin.ask(app, headers=[("X-API-Key".lower(), KEY)])
        twin.ask(app, headers=[("x-api-key", "another's")])
        twin.ask(app)
        assert counted(active) == {("acme", "(unmatched)", "403"): 1}


def test_a_function_that_fails_does_not_stop_the_request(twin: Twin) -> None:
    """It is the pack's failure, and counted as such."""

    def owner(headers: Mapping[str, str]) -> str:
        raise LookupError

    failures: list[str] = []
    active = Monitoring(monitoring.Config(consumer=owner, store=None), on_failure=lambda part, _: failures.append(part))
    active.registry.keep_in_memory()
    former = monitoring.monitor.make_current(active)
    try:
        assert twin.ask(twin.wrap(twin.app(Reply))).status == 200
    finally:
        monitoring.monitor.make_current(former)
    assert failures == ["consumer: LookupError"]


def test_a_view_may_say_it_late(twin: Twin) -> None:
    """Without any setting; the last word counts, and 64 characters of it."""

    def view() -> Reply:
        monitoring.set_consumer("x" * 100)
        return Reply()

    with quiet() as active:
        twin.ask(twin.wrap(twin.app(view)))
        assert counted(active) == {("x" * 64, "(unmatched)", "200"): 1}


def test_without_a_consumer_nothing_is_counted(twin: Twin) -> None:
    """Also of a request that is noted for something else."""

    def view() -> Reply:
        monitoring.set_consumer("acme")
        monitoring.set_consumer(None)
        return Reply()

    with quiet(consumer="x-api-key") as active:
        twin.ask(twin.wrap(twin.app(view)))
        assert counted(active) == {}


def test_consumers_are_capped(twin: Twin) -> None:
    """At 200 names; the others are counted together."""
    numbers = iter(range(250))

    def view() -> Reply:
        monitoring.set_consumer(f"c{next(numbers)}")
        return Reply()

    with quiet() as active:
        app = twin.wrap(twin.app(view))
        for _ in range(250):
            twin.ask(app)
        assert len(consumers(active)) == 201
        assert counted(active)["(other)", "(unmatched)", "200"] == 50


@pytest.mark.parametrize("consumer", ["x api key", "", 7])
def test_a_setting_that_is_neither_is_refused(consumer: Any) -> None:
    """The message says what it may be."""
    with pytest.raises(monitoring.ConfigError, match="consumer must be a header's name"):
        monitoring.Config(consumer=consumer)


def test_the_header_may_be_a_variable() -> None:
    """A function may not."""
    assert monitoring.Config.from_env({"MONITORING_CONSUMER": "x-api-key"}).consumer == "x-api-key"
