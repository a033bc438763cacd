"""The error tracker: what counts as an error, what is kept of it, what a storm costs, and reporting by hand."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from monitoring.context import current_record
from monitoring.error_tracker import (
    CAPTURED,
    OVERFLOW,
    Errors,
    ErrorSettings,
    ErrorTracker,
    TokenBucket,
    capture_exception,
    capture_message,
)
from monitoring.observation import Observation, RequestRecord
from monitoring.outbox import Outbox
from monitoring.recorder import NullRecorder, Recorder
from monitoring.store.database import Database
from monitoring.store.errors import write_errors
from monitoring.store.facts import ErrorFact, Fact
from monitoring.testing import FakeClock, use

HERE = str(Path(__file__).parent)
NO_CONTEXT: dict[str, Any] = {}


def _raise(part: str, error: Exception) -> None:
    raise AssertionError(f"monitoring failed in {part}") from error


class Bench:
    """A tracker with its surroundings: a clock, an outbox, a recorder and the counts of the metric."""

    def __init__(self, **settings: Any) -> None:
        self.clock = FakeClock()
        self.outbox = Outbox()
        self.counted: list[str] = []
        self.failures: list[tuple[str, Exception]] = []
        self.tracker = ErrorTracker(
            self.outbox,
            self.counted.append,
            lambda part, error: self.failures.append((part, error)),
            ErrorSettings(project_root=HERE, **settings),
            self.clock,
        )
        self.recorder = Recorder([self.tracker], _raise)
        self.requests = 0

    def request(self, error: BaseException | None, outcome: str = "server_error") -> RequestRecord:
        """Report a request that ended with an error."""
        record = self.open_request()
        record.exception = error
        record.outcome = outcome
        record.finished = True
        self.recorder.record(record)
        return record

    def open_request(self) -> RequestRecord:
        """Return the record of a request that runs."""
        self.requests += 1
        record = RequestRecord()
        record.request_id = f"r{self.requests}"
        record.route = "/orders/{id}"
        record.user_id = "ada"
        return record

    def facts(self) -> list[ErrorFact]:
        """Return and remove what went to the store."""
        facts: list[Fact] = self.outbox.take(100_000)
        assert all(isinstance(fact, ErrorFact) for fact in facts)
        return facts  # type: ignore[return-value]

    def fact(self) -> ErrorFact:
        """Return the one fact that went to the store."""
        (fact,) = self.facts()
        return fact


@pytest.fixture
def bench() -> Bench:
    """A tracker with the usual settings."""
    return Bench()


def raised(error: BaseException) -> BaseException:
    """Return the exception with a traceback."""
    try:
        raise error
    except BaseException as caught:
        return caught


def is_whole(fact: ErrorFact) -> bool:
    """Say whether a fact is more than a count."""
    return bool(fact.stack)


def distinct(number: int) -> BaseException:
    """Return an error that has a group of its own: a class of its own."""
    return raised(type(f"Error{number}", (Exception,), {})("x"))


# What is an error


def test_an_unhandled_exception_is_captured(bench: Bench) -> None:
    """With its stack, its request and its user; the request gets to know the group."""
    record = bench.request(raised(ValueError("no funder")))
    fact = bench.fact()
    assert record.error_group == fact.keys[0]
    assert (fact.at, fact.count, fact.category, fact.level) == (bench.clock.now, 1, "code", "error")
    assert (fact.type, fact.title, fact.message) == ("ValueError", "ValueError: no funder", "no funder")
    assert fact.culprit.endswith("test_error_tracker.raised")
    assert (fact.request_id, fact.route, fact.user) == ("r1", "/orders/{id}", "ada")
    assert fact.stack[0]["frames"][-1]["in_app"] is True
    assert bench.counted == ["code"]


@pytest.mark.parametrize("outcome", ["ok", "client_error", "client_disconnected", "cancelled", "aborted"])
def test_other_outcomes_are_no_errors(bench: Bench, outcome: str) -> None:
    """A client that left, and a task that was cancelled, are no bugs."""
    record = bench.request(raised(asyncio.CancelledError()), outcome)
    assert bench.facts() == []
    assert record.error_group == ""
    assert bench.counted == []


def test_a_500_without_an_exception_is_not_captured(bench: Bench) -> None:
    """There is nothing to group it by."""
    assert bench.request(None).error_group == ""
    assert bench.facts() == []


def test_an_error_after_the_start_is_captured(bench: Bench) -> None:
    """Though the status was 200."""
    assert bench.request(raised(ValueError("x")), "error_after_start").error_group


@pytest.mark.parametrize(("kind", "outcome"), [("background", "background_error"), ("websocket", "server_error")])
def test_background_work_and_websockets_are_captured(bench: Bench, kind: Any, outcome: str) -> None:
    """With the request they belong to."""
    record = bench.open_request()
    bench.recorder.record(Observation(kind, "/x", outcome, 0.1, record, raised(ValueError("x"))))
    assert bench.fact().request_id == "r1"


# Once


def test_an_exception_is_captured_once(bench: Bench) -> None:
    """By hand, by the edge and after the response: one error, and all are told its group."""
    record = bench.open_request()
    error = raised(ValueError("x"))
    token = current_record.set(record)
    by_hand = capture_exception(bench.recorder, error, context=NO_CONTEXT)
    current_record.reset(token)
    record.exception, record.outcome = error, "server_error"
    bench.recorder.record(record)
    bench.recorder.record(Observation("background", "/x", "background_error", 0.1, record, error))
    assert bench.fact().keys[0] == by_hand == record.error_group
    assert bench.counted == ["code"]


def test_two_exceptions_taking_turns_are_two_errors(bench: Bench) -> None:
    """The mark is on the exception, so A, B, A are two."""
    first, second = raised(ValueError("a")), raised(KeyError("b"))
    for error in (first, second, first):
        capture_exception(bench.recorder, error, context=NO_CONTEXT)
    assert len(bench.facts()) == 2


def test_the_same_object_in_another_request_is_another_error(bench: Bench) -> None:
    """Some apps raise one ready-made exception again and again."""
    error = raised(ValueError("ready-made"))
    assert bench.request(error).error_group == bench.request(error).error_group
    assert sum(fact.count for fact in bench.facts()) == 2


def test_an_exception_that_forbids_attributes_is_marked_too(bench: Bench) -> None:
    """Such as a frozen dataclass."""

    @dataclass(frozen=True)
    class Frozen(Exception):
        code: int

    error = raised(Frozen(1))
    for _ in range(2):
        capture_exception(bench.recorder, error, context=NO_CONTEXT)
    assert CAPTURED in vars(error)
    assert len(bench.facts()) == 1


# Storms


def test_only_the_first_of_a_group_are_kept_whole(bench: Bench) -> None:
    """The others are counted, and no count is lost."""
    for _ in range(1000):
        bench.request(raised(ValueError("storm")))
    bench.tracker.flush()
    facts = bench.facts()
    assert sum(map(is_whole, facts)) == 10
    assert sum(fact.count for fact in facts) == 1000
    assert len({fact.keys for fact in facts}) == 1
    assert len(bench.counted) == 1000


def test_later_ones_are_kept_ever_more_rarely(bench: Bench) -> None:
    """The 20th, the 40th, the 80th: a storm that goes on stays visible as it changes."""
    kept = []
    for number in range(1, 1001):
        bench.clock.advance(1.0)
        bench.request(raised(ValueError("steady")))
        kept += [number for fact in bench.facts() if is_whole(fact)]
    assert kept == [*range(1, 11), 20, 40, 80, 160, 320, 640]


def test_after_an_hour_the_first_are_kept_anew(bench: Bench) -> None:
    """A group that lives for days shows what it looks like today."""
    for _ in range(1000):
        bench.clock.advance(1.0)
        bench.request(raised(ValueError("old")))
    bench.facts()
    bench.clock.advance(3000.0)
    bench.request(raised(ValueError("old")))
    assert is_whole(bench.fact())


def test_counts_are_told_once_a_second(bench: Bench) -> None:
    """With the next occurrence, or by the flusher when there is none."""
    for _ in range(50):
        bench.request(raised(ValueError("x")))
    bench.facts()
    bench.clock.advance(1.0)
    bench.request(raised(ValueError("x")))
    assert [(fact.count, is_whole(fact)) for fact in bench.facts()] == [(41, False)]
    bench.request(raised(ValueError("x")))
    assert bench.facts() == []
    bench.tracker.flush()
    assert [fact.count for fact in bench.facts()] == [1]
    bench.tracker.flush()
    assert bench.facts() == []


def test_all_groups_together_have_a_budget(bench: Bench) -> None:
    """Fifty at once and five a second, whatever the number of groups."""
    errors = [distinct(number) for number in range(30)]
    for _ in range(10):
        for error in errors:
            bench.request(error)
    assert sum(map(is_whole, bench.facts())) == 50
    bench.clock.advance(2.0)
    for error in errors:
        bench.request(error)
    assert sum(map(is_whole, bench.facts())) == 10


def test_a_storm_of_new_groups_is_one_group(bench: Bench) -> None:
    """Fifty new ones in a minute; what is known already goes on as before."""
    groups = [bench.request(distinct(number)).error_group for number in range(200)]
    assert len(set(groups)) == 51
    assert groups[50:] == [OVERFLOW] * 150
    assert bench.request(distinct(0)).error_group == groups[0]
    bench.tracker.flush()
    facts = bench.facts()
    assert sum(fact.count for fact in facts if fact.keys == (OVERFLOW,)) == 150
    assert {fact.title for fact in facts if fact.keys == (OVERFLOW,)} == {
        "More than 50 new groups of errors in a minute"
    }
    bench.clock.advance(60.0)
    assert bench.request(distinct(150)).error_group != OVERFLOW


def test_groups_are_forgotten_when_they_are_too_many() -> None:
    """The one seen longest ago goes, with no count lost."""
    bench = Bench(new_groups_per_minute=10_000, kept_per_second=0.0)
    lasting = distinct(0)
    for number in range(1500):
        bench.request(distinct(number))
        group = bench.request(lasting).error_group
    assert len(bench.tracker._groups) == 1000
    assert group in bench.tracker._groups
    bench.tracker.flush()
    assert sum(fact.count for fact in bench.facts()) == 3000


def test_counts_of_many_threads_are_exact(bench: Bench) -> None:
    """Eight threads meet one error."""

    def work() -> None:
        for _ in range(200):
            capture_exception(bench.recorder, raised(ValueError("x")), context=NO_CONTEXT)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    bench.tracker.flush()
    assert sum(fact.count for fact in bench.facts()) == 1600


def test_a_forked_child_begins_anew(bench: Bench) -> None:
    """What its parent has counted is the parent's to tell."""
    for _ in range(20):
        bench.request(raised(ValueError("x")))
    bench.facts()
    bench.tracker._lock.acquire()
    bench.tracker.start_anew()
    bench.tracker.flush()
    assert bench.facts() == []


def test_a_clock_that_goes_back_does_no_harm(bench: Bench) -> None:
    """Errors are told and kept as before."""
    bench.request(raised(ValueError("x")))
    bench.clock.advance(-7200.0)
    bench.request(raised(ValueError("x")))
    assert [is_whole(fact) for fact in bench.facts()] == [True, True]


def test_a_bucket_refills_to_its_capacity() -> None:
    """And no further, and not by a clock that goes back."""
    bucket = TokenBucket(2, 1.0, 0.0)
    assert [bucket.take(0.0) for _ in range(3)] == [True, True, False]
    assert bucket.take(1.0)
    assert not bucket.take(0.5)
    assert [bucket.take(100.0) for _ in range(3)] == [True, True, False]


# Secrets


def test_nothing_secret_leaves(bench: Bench) -> None:
    """Not by message, note, cause, member, context, title, source line or readable key."""

    def fail() -> None:
        error = ValueError("token=hunter2 for ada@example.org")
        error.add_note("password: hunter2")
        raise error from ExceptionGroup("sk-hunter2hunter2hunter2", [KeyError("Bearer hunter2hunter2")])

    with pytest.raises(ValueError, match="token") as caught:
        fail()
    context = {"api_key": "hunter2", "to": "ada@example.org", "headers": [("Cookie", "hunter2")]}
    capture_exception(bench.recorder, caught.value, context=context)
    capture_message(bench.recorder, "secret=hunter2", context={"password": "hunter2"})
    text = repr(bench.facts())
    assert "hunter2" not in text
    assert "ada@example.org" not in text
    assert "[scrubbed: email]" in text
    assert context["api_key"] == "hunter2"


def test_context_is_kept_as_plain_data(bench: Bench) -> None:
    """Whatever the app gives."""
    capture_exception(bench.recorder, raised(ValueError("x")), context={"order": 7, "path": Path("/a"), "s": {1}})
    assert bench.fact().context == {"order": 7, "path": repr(Path("/a")), "s": [1]}


class Unprintable(Exception):
    """Has a broken ``__str__``."""

    def __str__(self) -> str:
        raise RuntimeError("no")


def test_a_broken_exception_is_captured_all_the_same(bench: Bench) -> None:
    """With a stand-in for its text."""
    bench.request(raised(Unprintable()))
    assert bench.fact().message == "<str raised RuntimeError>"


# By hand


def test_the_exception_being_handled_is_the_default(bench: Bench) -> None:
    """Outside of ``except`` there is none, and nothing happens."""
    try:
        raise ValueError("x")
    except ValueError:
        assert capture_exception(bench.recorder, context=NO_CONTEXT) == bench.fact().keys[0]
    assert capture_exception(bench.recorder, context=NO_CONTEXT) == ""
    assert bench.facts() == []


def test_an_error_by_hand_is_on_the_line_of_its_request(bench: Bench) -> None:
    """Though the request ends well."""
    record = bench.open_request()
    token = current_record.set(record)
    group = capture_message(bench.recorder, "quota used up", context=NO_CONTEXT)
    current_record.reset(token)
    assert record.error_group == group
    assert record.noted
    assert bench.fact().request_id == "r1"


def test_a_message_is_grouped_by_its_template(bench: Bench) -> None:
    """It has a level, no stack, and a category of its own."""
    first = capture_message(bench.recorder, "quota of user 1 used up", "warning", context={"user": 1})
    second = capture_message(bench.recorder, "quota of user 2 used up", "warning", context={"user": 2})
    assert first == second
    fact, other = bench.facts()
    assert (fact.type, fact.title, fact.category, fact.level) == (
        "message",
        "quota of user 1 used up",
        "message",
        "warning",
    )
    assert (fact.message, other.message) == ("quota of user 1 used up", "quota of user 2 used up")
    assert fact.stack == ()


def test_a_fingerprint_by_hand_decides(bench: Bench) -> None:
    """One text or several; the edge then reports the same group."""
    one = capture_exception(bench.recorder, raised(ValueError("x")), fingerprint="payments", context=NO_CONTEXT)
    other = capture_exception(bench.recorder, raised(KeyError("y")), fingerprint=["payments"], context=NO_CONTEXT)
    message = capture_message(bench.recorder, "z", fingerprint=("payments",), context=NO_CONTEXT)
    assert one == other == message


def test_a_level_by_hand_decides(bench: Bench) -> None:
    """Over what the exception would have."""
    capture_exception(bench.recorder, raised(MemoryError()), level="warning", context=NO_CONTEXT)
    assert bench.fact().level == "warning"


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            lambda recorder: capture_message(recorder, "x", "fatal", context={}),
            "level must be one of warning, error, critical, got 'fatal'.",
        ),
        (
            lambda recorder: capture_exception(recorder, ValueError(), level="debug", context={}),
            "level must be one of warning, error, critical, got 'debug'.",
        ),
        (
            lambda recorder: capture_exception(recorder, "text", context={}),
            "capture_exception takes an exception, got str; use capture_message for a text.",
        ),
        (
            lambda recorder: capture_exception(recorder, ValueError(), fingerprint=[1], context={}),
            r"fingerprint must be a text or a list of texts, got \[1\].",
        ),
        (
            lambda recorder: capture_message(recorder, "x", fingerprint=[], context={}),
            r"fingerprint must be a text or a list of texts, got \[\].",
        ),
    ],
)
def test_a_mistake_is_one_sentence(bench: Bench, call: Callable[[Recorder], str], sentence: str) -> None:
    """What was given, and what is accepted."""
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        call(bench.recorder)


def test_before_configure_nothing_is_captured() -> None:
    """The group is ""."""
    assert capture_exception(NullRecorder(), ValueError("x"), context=NO_CONTEXT) == ""
    assert capture_message(NullRecorder(), "x", context=NO_CONTEXT) == ""


def test_errors_are_counted_by_category_in_the_metrics() -> None:
    """Over all of the ways they are reported."""
    with use() as monitoring:
        monitoring.capture_exception(ConnectionResetError())
        monitoring.capture_message("quota used up")
        series = monitoring.metrics.snapshot()["monitoring_errors_total"].series
    assert {one.labels["category"]: one.value for one in series} == {"network": 1.0, "message": 1.0}


# Categories


def test_the_app_has_its_own_say_over_categories() -> None:
    """None leaves it to the pack."""
    bench = Bench(categorize=lambda error: "funder portal" if isinstance(error, KeyError) else None)
    bench.request(raised(KeyError("x")))
    bench.request(raised(ConnectionResetError()))
    assert [fact.category for fact in bench.facts()] == bench.counted == ["funder portal", "network"]


def test_a_categorize_that_raises_costs_only_itself() -> None:
    """The error is captured, and the failure is told."""

    def categorize(error: BaseException) -> str:
        raise RuntimeError("broken")

    bench = Bench(categorize=categorize)
    bench.request(raised(KeyError("x")))
    assert bench.fact().category == "code"
    assert [(part, str(error)) for part, error in bench.failures] == [("categorize", "broken")]


# The read side


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """An empty store."""
    database = Database(str(tmp_path / "store"))
    yield database
    database.close()


def test_what_was_captured_can_be_read_resolved_and_regresses(bench: Bench, database: Database) -> None:
    """From the request to the group and back."""

    def flush() -> None:
        bench.tracker.flush()
        with database.writing() as connection:
            write_errors(connection, bench.facts())

    errors = Errors(lambda: database, bench.clock)
    record = bench.request(raised(ValueError("x")))
    flush()
    bench.clock.advance(10.0)
    (group,) = errors.groups()
    assert (group.id, group.count, group.status) == (record.error_group, 1, "open")
    detail = errors.group(group.id)
    assert detail is not None
    assert detail.events[0].stack[0]["type"] == "ValueError"
    event = errors.event(group.id, "r1")
    assert event is not None
    assert event.user == "ada"
    resolved = errors.resolve(group.id)
    assert resolved is not None
    assert resolved.status == "resolved"
    assert errors.groups() == []
    bench.clock.advance(10.0)
    bench.request(raised(ValueError("x")))
    flush()
    bench.clock.advance(10.0)
    assert [one.status for one in errors.groups()] == ["regressed"]
    reopened = errors.reopen(group.id)
    assert reopened is not None
    assert reopened.status == "open"
    counts = errors.frequency(group.id, since=bench.clock.now - 3600.0, until=bench.clock.now)
    assert sum(counts.count) == 2
