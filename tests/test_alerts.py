"""Alerts as a whole: rules over numbers, a real store, real receivers, and several evaluators."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import func, insert, select
from sqlalchemy.exc import IntegrityError

from monitoring.alerting.channels import Channel
from monitoring.alerting.deliveries import LOCK_SECONDS
from monitoring.alerting.reports import EpisodeRow
from monitoring.alerts import AlertEngine, Links, Rule, Sample
from monitoring.store import alerts as table
from monitoring.store import schema
from monitoring.store.database import Database, StoreUnusable
from monitoring.testing import FakeClock

from .support.receivers import Hooks, Mails, OwnChannel, hooks, mail_server, mail_to, webhook_to

COST = Rule("cost", "llm_cost_usd", above=10, for_seconds=0, repeat_seconds=3600)
SLOW = Rule("slow", "p99_seconds", above=2, for_seconds=60, labels={"route": "*"})


@dataclass
class Given:
    """Numbers that a test gives, by query."""

    values: dict[str, list[Sample]] = field(default_factory=dict)
    failures: dict[str, Exception] = field(default_factory=dict)

    def sample(self, query: str, labels: Mapping[str, str], window_seconds: float, now: float) -> Sequence[Sample]:
        if query in self.failures:
            raise self.failures[query]
        return self.values.get(query, [])

    def set(self, query: str, value: float | None, **labels: str) -> None:
        self.values[query] = [] if value is None else [Sample(labels, value, 100, "#/llm")]


@dataclass
class World:
    """A store, numbers and a clock; engines are made over them as processes would make them."""

    database: Database
    numbers: Given
    clock: FakeClock
    pool: ThreadPoolExecutor

    def engine(self, *channels: Channel, rules: Sequence[Rule] = (COST,), **options: Any) -> AlertEngine:
        return AlertEngine(self.database, self.numbers, rules, channels, clock=self.clock, **options)

    def round(self, engine: AlertEngine, after: float = 0.0) -> None:
        """Evaluate, and deliver what is due."""
        self.clock.advance(after)
        engine.evaluate(self.clock())
        for future in engine.deliver_due(self.clock(), self.pool):
            future.result()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    database = Database(str(tmp_path / "store"))
    with ThreadPoolExecutor(4) as pool:
        yield World(database, Given(), FakeClock(), pool)
    database.close()


@pytest.fixture
def receiver() -> Iterator[Hooks]:
    with hooks() as got:
        yield got


@pytest.fixture
def server() -> Iterator[Mails]:
    with mail_server() as got:
        yield got


def only(rows: Sequence[EpisodeRow]) -> EpisodeRow:
    (row,) = rows
    return row


def test_a_breach_is_mailed_and_posted_and_so_is_its_end(world: World, receiver: Hooks, server: Mails) -> None:
    """Fired and resolved, with links to the page, to every channel."""
    links = Links("https://app.example.org/", service="proposals")
    engine = world.engine(webhook_to(receiver), mail_to(server), links=links)
    world.numbers.set("llm_cost_usd", 12.5)
    world.round(engine)
    episode = only(engine.reports.open()).id
    world.numbers.set("llm_cost_usd", 1)
    world.round(engine, after=90)
    assert receiver.types == ["alert.firing", "alert.resolved"]
    assert receiver.data(0)["url"] == f"https://app.example.org/monitoring/#/alerts/{episode}"
    assert receiver.data(0)["numbers_url"] == "https://app.example.org/monitoring/#/llm"
    assert (receiver.data(1)["fired_at"], receiver.data(1)["resolved_at"]) == (1_800_000_000, 1_800_000_090)
    assert [got["Subject"] for got in server.mails] == [
        "[critical] proposals: cost of LLM calls: 12.50 USD, above 10.00 USD".replace("critical", "warning"),
        "[resolved] proposals: cost of LLM calls: 12.50 USD, above 10.00 USD (resolved after 1.5 min)",
    ]


def test_each_label_set_has_an_episode_of_its_own(world: World) -> None:
    """One route recovers while the other fires on."""
    engine = world.engine(rules=[SLOW])
    world.numbers.values["p99_seconds"] = [Sample({"route": route}, 3, 100) for route in ("/a", "/b")]
    world.round(engine)
    world.round(engine, after=60)
    assert {(row.labels["route"], row.state) for row in engine.reports.open()} == {("/a", "firing"), ("/b", "firing")}
    world.numbers.values["p99_seconds"] = [Sample({"route": "/a"}, 1, 100), Sample({"route": "/b"}, 3, 100)]
    world.round(engine, after=5)
    assert only(engine.reports.open()).labels == {"route": "/b"}
    assert only(engine.reports.recent()).labels == {"route": "/a"}


def test_a_critical_error_fires_at_the_next_evaluation(world: World) -> None:
    """A default rule, without any wait."""
    own = OwnChannel()
    engine = world.engine(own, rules=())
    world.round(engine)
    world.numbers.set("critical_errors", 1)
    world.round(engine, after=5)
    assert [(notice.rule, notice.severity) for notice in own.got[0].notices] == [("critical_errors", "critical")]


def test_two_engines_over_one_store_send_one_notice(world: World, receiver: Hooks) -> None:
    """Both evaluate and both deliver, as when a lease changes hands; one episode and one message come of it."""
    engines = [world.engine(webhook_to(receiver)) for _ in range(2)]
    world.numbers.set("llm_cost_usd", 12)
    for after in (0, 5, 5):
        world.clock.advance(after)
        with ThreadPoolExecutor(2) as both:
            for evaluated in [both.submit(engine.evaluate, world.clock()) for engine in engines]:
                evaluated.result()
        futures = [future for engine in engines for future in engine.deliver_due(world.clock(), world.pool)]
        for future in futures:
            future.result()
    only(engines[0].reports.open())
    assert receiver.types == ["alert.firing"]


def test_the_store_refuses_a_second_open_episode(world: World) -> None:
    """One open episode per rule and labels is a constraint, not a habit."""
    engine = world.engine()
    world.numbers.set("llm_cost_usd", 12)
    world.round(engine)
    with world.database.reading() as connection:
        row = dict(connection.execute(select(schema.episode)).one()._mapping)
    with pytest.raises(StoreUnusable) as caught, world.database.writing() as connection:
        connection.execute(insert(schema.episode).values({**row, "id": "another"}))
    assert isinstance(caught.value.__cause__, IntegrityError)


def test_another_process_goes_on_with_the_timers(world: World) -> None:
    """Pending since then, whoever evaluates: the breach counts from its start."""
    world.numbers.set("p99_seconds", 3, route="/a")
    world.round(world.engine(rules=[SLOW]))
    successor = world.engine(rules=[SLOW])
    world.round(successor, after=60)
    row = only(successor.reports.open())
    assert (row.state, row.active_since, row.fired_at) == ("firing", world.clock() - 60, world.clock())


def test_state_and_notice_are_one_transaction(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the notice cannot be queued, nothing has fired; the next evaluation does both."""
    own = OwnChannel()
    engine = world.engine(own)
    world.numbers.set("llm_cost_usd", 12)
    with monkeypatch.context() as broken:
        broken.setattr(table, "add_notification", _raise_oserror)
        with pytest.raises(StoreUnusable):
            engine.evaluate(world.clock())
    assert engine.reports.open() == ()
    world.round(engine, after=5)
    assert own.kinds == ["firing"]


def _raise_oserror(*_: object) -> None:
    raise OSError("disk full")


_CHILD = """
import os, signal, sys
from concurrent.futures import ThreadPoolExecutor
from monitoring.alerts import AlertEngine, Rule, Sample
from monitoring.alerting.channels import Webhook
from monitoring.store.database import Database

class Numbers:
    def sample(self, query, labels, window_seconds, now):
        return [Sample({}, 12, 100)] if query == "llm_cost_usd" else []

place, url, now, step = sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4]
rule = Rule("cost", "llm_cost_usd", above=10, for_seconds=0, repeat_seconds=3600)
channel = Webhook(url, allow_http=True, allow_private=True)
engine = AlertEngine(Database(place), Numbers(), [rule], [channel], clock=lambda: now)
engine.evaluate(now)
if step == "evaluated":
    os.kill(os.getpid(), signal.SIGKILL)
with ThreadPoolExecutor(1) as pool:
    engine.deliver_due(now, pool)[0].result()
"""


def _child(world: World, receiver: Hooks, step: str) -> subprocess.Popen[bytes]:
    assert world.database.path is not None
    place = str(world.database.path.parent)
    return subprocess.Popen([sys.executable, "-c", _CHILD, place, receiver.url, repr(world.clock()), step])


def test_killed_between_firing_and_sending_nothing_is_lost(world: World, receiver: Hooks) -> None:
    """The notice is in the store, and whoever comes next sends it, once."""
    child = _child(world, receiver, "evaluated")
    assert child.wait(30) == -signal.SIGKILL
    world.numbers.set("llm_cost_usd", 12)
    engine = world.engine(webhook_to(receiver))
    world.round(engine)
    world.round(engine, after=LOCK_SECONDS)
    assert receiver.types == ["alert.firing"]


def test_killed_while_sending_it_is_sent_once_more(world: World, receiver: Hooks) -> None:
    """The receiver had it, but nobody knows: it comes again under the same ID, and then no more."""
    receiver.hold = threading.Event()
    child = _child(world, receiver, "sending")
    assert receiver.arrived.wait(30)
    os.kill(child.pid, signal.SIGKILL)
    child.wait(30)
    receiver.hold.set()
    world.numbers.set("llm_cost_usd", 12)
    engine = world.engine(webhook_to(receiver))
    for after in (0, LOCK_SECONDS, LOCK_SECONDS):
        world.round(engine, after=after)
    assert receiver.types == ["alert.firing", "alert.firing"]
    assert len(set(receiver.ids)) == 1


# --- notices ----------------------------------------------------------------------------------------------------------


def test_repeats_are_numbered_and_stop_with_an_acknowledgement(world: World) -> None:
    """Every hour until somebody has it in hand; they who were told hear of that, and of the end."""
    own = OwnChannel()
    engine = world.engine(own)
    world.numbers.set("llm_cost_usd", 12)
    world.round(engine)
    world.round(engine, after=3600)
    assert "still firing for 1 h, 2nd notice" in own.got[-1].title
    assert engine.ack(only(engine.reports.open()).id, "ana", "on it") is True
    world.round(engine, after=3600)
    world.numbers.set("llm_cost_usd", 1)
    world.round(engine, after=5)
    assert own.kinds == ["firing", "repeat", "ack", "resolved"]
    assert "Acknowledged  by ana: on it" in own.got[-1].text


def test_an_acknowledgement_that_is_too_late_is_refused(world: World) -> None:
    """It binds to the episode: what is over stays over, and the next episode is not acknowledged."""
    engine = world.engine(OwnChannel())
    world.numbers.set("llm_cost_usd", 12)
    world.round(engine)
    episode = only(engine.reports.open()).id
    world.numbers.set("llm_cost_usd", 1)
    world.round(engine, after=5)
    assert engine.ack(episode, "ana") is False
    world.numbers.set("llm_cost_usd", 12)
    world.round(engine, after=5)
    assert only(engine.reports.open()).acked_by == ""
    report = engine.reports.episode(episode)
    assert report is not None
    assert [event.what for event in report.events] == ["firing", "resolved"]


def test_an_acknowledgement_expires_with_a_reminder(world: World) -> None:
    """After its minutes it is open again, and everybody hears why."""
    own = OwnChannel()
    engine = world.engine(own)
    world.numbers.set("llm_cost_usd", 12)
    world.round(engine)
    engine.ack(only(engine.reports.open()).id, "ana", minutes=10)
    world.round(engine)
    world.round(engine, after=600)
    assert own.kinds == ["firing", "ack", "repeat"]
    assert "Because  the acknowledgement by ana expired" in own.got[-1].text
    assert only(engine.reports.open()).acked_by == ""


def test_a_reminder_takes_the_place_of_an_acknowledgement_that_waits(world: World) -> None:
    """The notice of the acknowledgement never got out; when it has expired only the reminder is true."""
    own = OwnChannel()
    engine = world.engine(own)
    world.numbers.set("llm_cost_usd", 12)
    world.round(engine)
    engine.ack(only(engine.reports.open()).id, "ana", minutes=10)
    world.round(engine, after=600)
    assert own.kinds == ["firing", "repeat"]


def test_an_acknowledgement_does_not_push_aside_what_was_not_told_yet(world: World, receiver: Hooks) -> None:
    """Whoever has not heard that it fires hears that first, not that somebody has it in hand."""
    engine = world.engine(webhook_to(receiver))
    receiver.status = 503
    world.numbers.set("llm_cost_usd", 12)
    world.round(engine)
    engine.ack(only(engine.reports.open()).id, "ana")
    receiver.status = 200
    world.round(engine, after=900)
    assert receiver.types == ["alert.firing", "alert.firing"]


def test_an_acknowledgement_can_be_withdrawn(world: World) -> None:
    """Repeats count from then on; withdrawing twice changes nothing."""
    own = OwnChannel()
    engine = world.engine(own)
    world.numbers.set("llm_cost_usd", 12)
    world.round(engine)
    episode = only(engine.reports.open()).id
    engine.ack(episode, "ana", minutes=600)
    world.round(engine, after=5000)
    assert (engine.unack(episode, "bo"), engine.unack(episode, "bo")) == (True, False)
    world.round(engine, after=3599)
    assert own.kinds == ["firing", "ack"]
    world.round(engine, after=1)
    assert own.kinds == ["firing", "ack", "repeat"]


def test_the_evaluator_does_not_write_over_an_acknowledgement(world: World) -> None:
    """Another process acknowledges between two evaluations; the next evaluation keeps it."""
    engine, page = world.engine(), world.engine()
    world.numbers.set("llm_cost_usd", 12)
    world.round(engine)
    page.ack(only(page.reports.open()).id, "ana")
    world.round(engine, after=5)
    assert only(engine.reports.open()).acked_by == "ana"


@pytest.mark.parametrize("minutes", [0, -5, 1e9])
def test_a_time_that_makes_no_sense_is_refused(world: World, minutes: float) -> None:
    """Neither an acknowledgement nor a silence is for ever."""
    engine = world.engine()
    with pytest.raises(ValueError, match="minutes must be above 0 and at most 43200"):
        engine.ack("e", "ana", minutes=minutes)
    with pytest.raises(ValueError, match="minutes must be above 0 and at most 43200"):
        engine.silence("*", minutes, "ana")


def test_nobody_acts_without_a_name(world: World) -> None:
    """The history says who it was."""
    with pytest.raises(ValueError, match="The name of who does it must not be empty"):
        world.engine().ack("e", " \n")


def test_resolved_is_told_to_those_who_were_told(world: World, receiver: Hooks) -> None:
    """A channel that refused the firing notice does not hear of its end; the other does."""
    own = OwnChannel()
    engine = world.engine(webhook_to(receiver), own)
    receiver.status = 400
    world.numbers.set("llm_cost_usd", 12)
    world.round(engine)
    world.numbers.set("llm_cost_usd", 1)
    world.round(engine, after=5)
    report = engine.reports.episode(only(engine.reports.recent()).id)
    assert report is not None
    assert {(row.channel, row.kind, row.status) for row in report.notifications} == {
        ("webhook", "firing", "dead"),
        ("own", "firing", "sent"),
        ("own", "resolved", "sent"),
    }


def test_a_channel_that_refuses_is_an_alert_on_the_others(world: World, receiver: Hooks) -> None:
    """The page shows it broken, and another channel says so; once it takes a notice again, it is over."""
    own = OwnChannel()
    engine = world.engine(webhook_to(receiver), own)
    receiver.status = 404
    world.numbers.set("llm_cost_usd", 12)
    world.round(engine)
    world.round(engine, after=5)
    assert [(row.name, row.state, row.last_error) for row in engine.reports.channels()] == [
        ("webhook", "broken", "answered 404 Not Found"),
        ("own", "ok", ""),
    ]
    assert own.got[-1].notices[0].summary == "The channel webhook refuses notices"
    receiver.status = 200
    world.round(engine, after=3600)
    world.round(engine, after=5)
    assert [row.rule for row in engine.reports.recent()] == ["channel_broken"]


def test_over_before_it_was_told_is_one_message(world: World, receiver: Hooks) -> None:
    """The receiver was down all the time: it hears once, and that it is late."""
    engine = world.engine(webhook_to(receiver))
    receiver.status = 503
    world.numbers.set("llm_cost_usd", 12)
    world.round(engine)
    world.numbers.set("llm_cost_usd", 1)
    receiver.status = 200
    world.round(engine, after=3000)
    assert receiver.types == ["alert.firing", "alert.resolved"]
    assert (receiver.data()["is_late"], receiver.data()["fired_at"]) == (True, 1_800_000_000)
    report = engine.reports.episode(only(engine.reports.recent()).id)
    assert report is not None
    assert [row.status for row in report.notifications] == ["superseded", "sent"]


def test_no_repeat_while_a_notice_waits(world: World, receiver: Hooks) -> None:
    """A receiver that is down gets one notice when it is back, not one for each hour."""
    engine = world.engine(webhook_to(receiver))
    receiver.status = 503
    world.numbers.set("llm_cost_usd", 12)
    for _ in range(3):
        world.round(engine, after=3600)
    assert set(receiver.types) == {"alert.firing"}


def test_a_rule_tells_only_its_channels(world: World) -> None:
    """Others hear nothing of it."""
    loud, quiet = OwnChannel("loud"), OwnChannel("quiet")
    rule = Rule("cost", "llm_cost_usd", above=10, for_seconds=0, channels=("loud",))
    world.numbers.set("llm_cost_usd", 12)
    world.round(world.engine(loud, quiet, rules=[rule]))
    assert (len(loud.got), len(quiet.got)) == (1, 0)


def test_it_says_how_often_it_came_back(world: World) -> None:
    """The third time within a day is called that."""
    own = OwnChannel()
    engine = world.engine(own)
    for value in (12, 1, 12, 1, 12):
        world.numbers.set("llm_cost_usd", value)
        world.round(engine, after=60)
    assert own.got[-1].notices[0].recurrence == 3


# --- silences ---------------------------------------------------------------------------------------------------------


def test_a_silence_shows_what_it_would_match_and_keeps_quiet(world: World) -> None:
    """Preview, quiet, and a notice at its end for what still fires."""
    own = OwnChannel()
    engine = world.engine(own)
    engine.silence("cost", 10, "bo", "deploy")
    world.numbers.set("llm_cost_usd", 12)
    world.round(engine)
    row = only(engine.reports.open())
    assert (row.state, row.silenced_by != "", own.got) == ("firing", True, [])
    assert [found.id for found in engine.reports.silenced_by("*")] == [row.id]
    assert engine.reports.silenced_by("p95") == ()
    assert engine.reports.silenced_by("cost", {"model": "x"}) == ()
    world.round(engine, after=600)
    assert own.kinds == ["firing"]
    assert "was silenced until" in own.got[0].notices[0].why


def test_what_comes_and_goes_in_a_silence_is_never_told(world: World) -> None:
    """It is in the history all the same."""
    own = OwnChannel()
    engine = world.engine(own)
    engine.silence("*", 10, "bo")
    for value in (12, 1, 1):
        world.numbers.set("llm_cost_usd", value)
        world.round(engine, after=300)
    assert own.got == []
    assert only(engine.reports.recent()).rule == "cost"


def test_the_end_of_what_was_told_is_told_in_a_silence(world: World) -> None:
    """Whoever was called hears that it is over."""
    own = OwnChannel()
    engine = world.engine(own)
    world.numbers.set("llm_cost_usd", 12)
    world.round(engine)
    engine.silence("*", 10, "bo")
    world.numbers.set("llm_cost_usd", 1)
    world.round(engine, after=5)
    assert own.kinds == ["firing", "resolved"]


def test_a_silence_can_be_ended(world: World) -> None:
    """At once, and only once; it is not listed any more."""
    own = OwnChannel()
    engine = world.engine(own)
    silence = engine.silence("cost", 10, "bo")
    assert engine.reports.silences() == (silence,)
    world.numbers.set("llm_cost_usd", 12)
    world.round(engine)
    assert (engine.end_silence(silence.id), engine.end_silence(silence.id)) == (True, False)
    assert engine.reports.silences() == ()
    world.round(engine, after=5)
    assert own.kinds == ["firing"]


def test_a_silence_of_an_unknown_rule_is_refused(world: World) -> None:
    """A typing error must not look like quiet."""
    with pytest.raises(ValueError, match=r"There is no rule 'cots'; name one of .*cost.*, or '\*' for all"):
        world.engine().silence("cots", 10, "bo")


# --- evaluation -------------------------------------------------------------------------------------------------------


def test_a_number_that_fails_leaves_its_rule_alone(world: World) -> None:
    """The others are evaluated, nothing is resolved for it, and the failure is not hidden."""
    engine = world.engine(rules=[COST, SLOW])
    world.numbers.set("p99_seconds", 3, route="/a")
    world.round(engine)
    world.numbers.failures["p99_seconds"] = ZeroDivisionError("bug")
    world.numbers.set("llm_cost_usd", 12)
    with pytest.raises(ZeroDivisionError):
        world.round(engine, after=5)
    assert {(row.rule, row.state) for row in engine.reports.open()} == {("slow", "pending"), ("cost", "firing")}


def test_a_store_that_cannot_be_read_is_no_missing_data(world: World) -> None:
    """The round is skipped as a whole: nothing is resolved for it, and nothing opened."""
    engine = world.engine(rules=[COST, SLOW])
    world.numbers.set("llm_cost_usd", 12)
    world.round(engine)
    world.numbers.failures["llm_cost_usd"] = StoreUnusable("the database stayed locked for 5 s")
    world.numbers.set("p99_seconds", 3, route="/a")
    with pytest.raises(StoreUnusable):
        world.round(engine, after=5)
    assert only(engine.reports.open()).rule == "cost"


def test_no_data_may_be_an_alert_of_its_own(world: World) -> None:
    """It fires after the rule's own duration, and ends when there is data again."""
    own = OwnChannel()
    rule = Rule("cost", "llm_cost_usd", above=10, for_seconds=60, no_data="alert")
    engine = world.engine(own, rules=[rule])
    world.round(engine)
    world.round(engine, after=60)
    row = only(engine.reports.open())
    assert (row.state, row.summary, row.labels) == ("firing", "There is no data for cost", {"alert": "no data"})
    world.numbers.set("llm_cost_usd", 1)
    world.round(engine, after=5)
    assert own.kinds == ["firing", "resolved"]


def test_a_removed_rule_ends_its_episodes(world: World) -> None:
    """What fired under it is resolved, with the reason, to those who were told."""
    own = OwnChannel()
    world.numbers.set("llm_cost_usd", 12)
    world.round(world.engine(own))
    world.round(world.engine(own, rules=()), after=5)
    assert own.kinds == ["firing", "resolved"]
    assert own.got[-1].notices[0].why == "the rule was removed"


def test_a_fresh_store_needs_no_warm_up(world: World) -> None:
    """The first evaluation may fire."""
    own = OwnChannel()
    world.numbers.set("llm_cost_usd", 12)
    world.round(world.engine(own))
    assert own.kinds == ["firing"]


def test_after_a_long_pause_nothing_changes_for_a_minute(world: World) -> None:
    """The numbers need time to be true again: neither fired nor resolved in the first 60 s."""
    own = OwnChannel()
    world.numbers.set("llm_cost_usd", 12)
    world.round(world.engine(own))
    world.numbers.set("llm_cost_usd", None)
    restarted = world.engine(own)
    world.round(restarted, after=7200)
    world.round(restarted, after=59)
    assert own.kinds == ["firing"]
    world.round(restarted, after=1)
    assert own.kinds == ["firing", "resolved"]


def test_a_take_over_needs_no_warm_up(world: World) -> None:
    """Rules were evaluated a minute ago by another process."""
    own = OwnChannel()
    world.round(world.engine(own))
    world.numbers.set("llm_cost_usd", 12)
    world.round(world.engine(own), after=60)
    assert own.kinds == ["firing"]


def test_a_warm_up_can_be_set(world: World) -> None:
    """For an app whose numbers need longer."""
    own = OwnChannel()
    engine = world.engine(own, warm_up_seconds=30)
    world.numbers.set("llm_cost_usd", 12)
    world.round(engine)
    assert own.kinds == []
    world.round(engine, after=30)
    assert own.kinds == ["firing"]


def test_a_quiet_evaluation_writes_once_a_minute(world: World) -> None:
    """With nothing breached and nothing open, the store is left alone but for a trace."""
    engine = world.engine()
    world.numbers.set("llm_cost_usd", 1)
    traces = set()
    for _ in range(12):
        world.round(engine, after=5)
        with world.database.reading() as connection:
            traces.add(table.last_evaluated(connection))
    assert len(traces) == 1
    world.round(engine, after=5)
    with world.database.reading() as connection:
        assert table.last_evaluated(connection) not in traces


# --- settings and reports ---------------------------------------------------------------------------------------------


def test_a_rule_with_an_unknown_channel_is_refused(world: World) -> None:
    """Its notices would go nowhere."""
    rule = Rule("cost", "llm_cost_usd", above=10, channels=("mail",))
    with pytest.raises(ValueError, match=r"Rule 'cost' tells the channel 'mail'; the channels are: own."):
        world.engine(OwnChannel(), rules=[rule])


def test_two_channels_of_one_name_are_refused(world: World) -> None:
    """Their notices would be taken for each other's."""
    with pytest.raises(ValueError, match=r"Two channels are named 'own'; give one of them another name."):
        world.engine(OwnChannel(), OwnChannel())


def test_links_need_a_url() -> None:
    """A host alone makes no link."""
    with pytest.raises(ValueError, match="base_url must be a URL such as"):
        Links("app.example.org")


def test_the_rules_show_how_they_stand(world: World) -> None:
    """Worst value and state: fine, pending, firing, or without data."""
    engine = world.engine(rules=[COST, SLOW])
    world.numbers.set("llm_cost_usd", 12)
    world.numbers.set("error_rate", 0.01)
    world.numbers.values["p99_seconds"] = [
        Sample({"route": route}, value, 100) for route, value in (("/a", 3), ("/b", 1))
    ]
    world.round(engine)
    rows = {row.name: (row.state, row.value, row.threshold) for row in engine.reports.rules()}
    assert rows["cost"] == ("firing", 12, 10)
    assert rows["slow"] == ("pending", 3, 2)
    assert rows["error_rate"] == ("ok", 0.01, 0.05)
    assert rows["disk_share"] == ("no data", None, 0.9)


def test_an_episode_shows_its_history_and_every_attempt(world: World, receiver: Hooks) -> None:
    """What happened, who did it, what was sent, and what came of it."""
    engine = world.engine(webhook_to(receiver))
    receiver.status = 503
    world.numbers.set("llm_cost_usd", 12)
    world.round(engine)
    receiver.status = 200
    world.round(engine, after=900)
    episode = only(engine.reports.open()).id
    engine.ack(episode, "ana", "on it")
    report = engine.reports.episode(episode)
    assert report is not None
    assert [(event.what, event.actor) for event in report.events] == [("firing", ""), ("acknowledged", "ana")]
    (firing, ack) = report.notifications
    assert (firing.channel, firing.kind, firing.status) == ("webhook", "firing", "sent")
    assert [(attempt.outcome, attempt.error) for attempt in firing.attempts] == [
        ("failed", "answered 503 Service Unavailable"),
        ("sent", ""),
    ]
    assert (ack.kind, ack.status, ack.attempts) == ("ack", "queued", ())
    assert engine.reports.episode("nothing") is None


def test_everything_at_a_glance(world: World) -> None:
    """The page needs one call."""
    engine = world.engine(OwnChannel())
    world.numbers.set("llm_cost_usd", 12)
    world.round(engine)
    report = engine.reports.report()
    assert [row.rule for row in report.open] == ["cost"]
    assert [row.name for row in report.channels] == ["own"]
    assert len(report.rules) == len(engine.rules)
    assert (report.recent, report.silences) == ((), ())


def test_what_never_fired_is_not_listed(world: World) -> None:
    """A breach that recovered in time leaves its history, and no row."""
    engine = world.engine(rules=[SLOW])
    for value in (3, 1):
        world.numbers.set("p99_seconds", value, route="/a")
        world.round(engine, after=5)
    assert (engine.reports.open(), engine.reports.recent()) == ((), ())


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([0.0, 5.0, 61.0, 4000.0]),
            st.lists(st.sampled_from([1.0, 3.0, None]), min_size=2, max_size=2),
            st.integers(0, 1),
            st.sampled_from(["", "ack", "silence"]),
        ),
        max_size=12,
    )
)
def test_one_open_episode_per_rule_and_labels(moves: list[tuple[float, list[float | None], int, str]]) -> None:
    """Whatever is seen, whoever evaluates, and whatever people do meanwhile."""
    with tempfile.TemporaryDirectory() as place, ThreadPoolExecutor(1) as pool:
        world = World(Database(place), Given(), FakeClock(), pool)
        own = OwnChannel()
        engines = [world.engine(own, rules=[SLOW, COST]) for _ in range(2)]
        for after, values, turn, action in moves:
            world.numbers.values["p99_seconds"] = [
                Sample({"route": route}, value, 100) for route, value in zip("ab", values) if value is not None
            ]
            world.numbers.set("llm_cost_usd", None if values[0] is None else values[0] * 5)
            world.round(engines[turn], after=after)
            for row in engines[turn].reports.open() if action == "ack" else ():
                assert engines[turn].ack(row.id, "ana", minutes=1) is (row.state == "firing")
            if action == "silence":
                engines[turn].silence("*", 1, "bo")
            with world.database.reading() as connection:
                per_label = select(func.count()).where(schema.episode.c.state != "resolved")
                counts = connection.scalars(per_label.group_by(schema.episode.c.rule, schema.episode.c.labels)).all()
            assert all(count == 1 for count in counts)
        world.database.close()
    ended = {notice.episode for message in own.got for notice in message.notices if notice.kind == "resolved"}
    fired = {notice.episode for message in own.got for notice in message.notices if notice.kind == "firing"}
    assert ended <= fired
