"""The endpoints that change something: each does what it says, once, and is written into the audit."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from monitoring import Rule
from monitoring.store import alerts, schema
from monitoring.store.alert_records import Episode
from monitoring.store.errors import set_status
from tests.support.filled import Filled, filled

API = "/monitoring/api/v1"
COSTLY = Rule("costly", "llm_cost_usd", above=0.01, for_seconds=0)


@pytest.fixture
def done(tmp_path: Path) -> Iterator[Filled]:
    """A filled store, and a rule that is breached in it."""
    with filled(tmp_path / "store", rules=(COSTLY,)) as done:
        yield done


def audit(done: Filled) -> list[tuple[str, str, str]]:
    """Return who did what to what."""
    table = schema.audit
    query = select(table.c.actor, table.c.action, table.c.subject).order_by(table.c.id)
    with done.monitoring.open_database().reading() as connection:
        return [tuple(row) for row in connection.execute(query)]


def fired(done: Filled) -> str:
    """Return the ID of the alert about the costs, which fires."""
    done.monitoring.alerts.evaluate(time.time())
    (episode,) = [row["id"] for row in done.get("/alerts")["open"] if row["rule"] == "costly"]
    return str(episode)


def post(done: Filled, path: str, body: Any = None, **headers: str) -> Any:
    """Send a change, which must be answered with 200."""
    response = done.api().post(f"{API}{path}", json=body, headers=headers)
    assert response.status_code == 200, response.text
    return response.json()


def test_a_firing_alert_is_open_and_leads_to_its_numbers(done: Filled) -> None:
    """Its page has the timeline and the link to the time it is about."""
    episode = fired(done)
    found = done.get(f"/alerts/{episode}")
    assert (found["rule"], found["state"], found["severity"], found["threshold"]) == (
        "costly",
        "firing",
        "warning",
        0.01,
    )
    assert found["value"] == pytest.approx(0.0625)
    assert [event["what"] for event in found["events"]]
    assert found["notifications"] == []
    assert found["link"].startswith("#/llm?from=")
    overview = done.get("/overview")
    assert [row["id"] for row in overview["alerts"] if row["rule"] == "costly"] == [episode]
    assert overview["sentence"].count("alert") == 1


def test_an_alert_is_acknowledged_and_given_back(done: Filled) -> None:
    """Who has it in hand, why, and until when; then nobody."""
    episode = fired(done)
    asked = {"note": "on it", "minutes": 30}
    assert post(done, f"/alerts/{episode}/ack", asked, **{"x-monitoring-actor": "ana"}) == {"done": True, "note": ""}
    found = done.get(f"/alerts/{episode}")
    assert (found["acked_by"], found["ack_note"]) == ("ana", "on it")
    assert found["acked_until"] - time.time() == pytest.approx(1800, abs=60)
    assert post(done, f"/alerts/{episode}/unack") == {"done": True, "note": ""}
    assert done.get(f"/alerts/{episode}")["acked_by"] == ""
    assert audit(done) == [("ana", "acknowledge", episode), ("dashboard", "unacknowledge", episode)]


def test_an_acknowledgement_lasts_a_day_unless_told_otherwise(done: Filled) -> None:
    """A body is not needed."""
    episode = fired(done)
    post(done, f"/alerts/{episode}/ack")
    assert done.get(f"/alerts/{episode}")["acked_until"] - time.time() == pytest.approx(86_400, abs=60)


def test_what_is_over_is_not_acknowledged(done: Filled) -> None:
    """The answer says so, and nothing is in the audit."""
    episode = fired(done)
    with done.monitoring.open_database().writing() as connection:
        ended = schema.episode.update().where(schema.episode.c.id == episode)
        connection.execute(ended.values(state="resolved", resolved_at=time.time()))
    assert post(done, f"/alerts/{episode}/ack") == {"done": False, "note": "It does not fire any more."}
    assert post(done, f"/alerts/{episode}/unack") == {"done": False, "note": "Nobody has it in hand."}
    assert audit(done) == []


@pytest.mark.parametrize("action", ["ack", "unack"])
def test_an_alert_that_is_not_there_is_not_found(done: Filled, action: str) -> None:
    """Status 404, and where alerts are listed."""
    response = done.api().post(f"{API}/alerts/unknown/{action}")
    assert (response.status_code, response.json()) == (404, {"error": "There is no alert unknown; /alerts lists them."})


def test_a_rule_is_silenced_and_heard_again(done: Filled) -> None:
    """The silence is listed until it is ended; ended again it has ended already."""
    asked = {"rule": "costly", "minutes": 5, "comment": "known"}
    assert post(done, "/silences", asked, **{"x-monitoring-actor": "ana"})["done"] is True
    (silence,) = done.get("/alerts")["silences"]
    assert (silence["rule"], silence["author"], silence["comment"]) == ("costly", "ana", "known")
    assert silence["ends_at"] - silence["starts_at"] == pytest.approx(300)
    ended = done.api().delete(f"{API}/silences/{silence['id']}")
    assert ended.json() == {"done": True, "note": ""}
    assert done.get("/alerts")["silences"] == []
    again = done.api().delete(f"{API}/silences/{silence['id']}")
    assert again.json() == {"done": False, "note": "It has ended already, or never was."}
    assert audit(done) == [("ana", "silence", "costly"), ("dashboard", "end silence", silence["id"])]


def test_all_rules_are_silenced_with_a_star(done: Filled) -> None:
    """For an hour, when nothing else is said."""
    post(done, "/silences", {"rule": "*"})
    (silence,) = done.get("/alerts")["silences"]
    assert (silence["rule"], silence["ends_at"] - silence["starts_at"]) == ("*", pytest.approx(3600))


def test_a_group_is_resolved_and_opened_again(done: Filled) -> None:
    """Each answer is the group as it is now."""
    (group,) = done.get("/errors")["groups"]
    assert post(done, f"/errors/{group['id']}/resolve")["status"] == "resolved"
    assert [row["status"] for row in done.get("/errors", status="resolved")["groups"]] == ["resolved"]
    assert done.get("/errors")["groups"] == []
    assert post(done, f"/errors/{group['id']}/reopen")["status"] == "open"
    assert audit(done) == [("dashboard", "resolved", group["id"]), ("dashboard", "open", group["id"])]


def test_a_resolved_group_that_is_seen_again_has_regressed(done: Filled) -> None:
    """It is among the open ones again, and the overview says so."""
    (group,) = done.get("/errors")["groups"]
    with done.monitoring.open_database().writing() as connection:
        set_status(connection, group["id"], "resolved", time.time() - 60)
    done.ask("GET", "/crash", "/crash")
    done.monitoring.flush()
    assert [row["status"] for row in done.get("/errors")["groups"]] == ["regressed"]
    assert done.get("/overview")["state"] == "warning"


@pytest.mark.parametrize("action", ["resolve", "reopen"])
def test_a_group_that_is_not_there_is_not_found(done: Filled, action: str) -> None:
    """Status 404, and where groups are listed."""
    response = done.api().post(f"{API}/errors/unknown/{action}")
    expected = {"error": "There is no error group unknown; /errors lists them."}
    assert (response.status_code, response.json(), audit(done)) == (404, expected, [])


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        (
            "/silences",
            {"rule": "costly", "minutes": 0},
            "minutes must be above 0 and at most 43200 (30 days), got 0.0.",
        ),
        ("/silences", {"rule": "costly", "minutes": "soon"}, "'minutes' must be a number of 0 or more, got 'soon'."),
        ("/silences", {"rule": "costly", "minutes": [1]}, "'minutes' must be a number of 0 or more, got [1]."),
        ("/alerts/{episode}/ack", {"minutes": 1e9}, "minutes must be above 0 and at most 43200 (30 days), got"),
        ("/silences", {"rule": "nothing"}, "There is no rule 'nothing'; name one of "),
        ("/silences", {}, "There is no rule ''; name one of "),
        ("/silences", [], "The body must be a JSON object, got a list."),
        ("/silences", b"{", "The body must be a JSON object, got something else."),
        ("/silences", b'{"rule": "\\ud800"}', "The body must be a JSON object, got something else."),
        ("/silences", b" " * 70_000, "The body must have at most 65536 bytes, got more."),
        (
            "/silences",
            {"rule": "costly", "minutes": 10**15},
            "minutes must be above 0 and at most 43200 (30 days), got",
        ),
    ],
)
def test_a_change_that_cannot_be_made_is_one_sentence(done: Filled, path: str, body: Any, message: str) -> None:
    """Status 400, nothing done, nothing in the audit."""
    path = path.replace("{episode}", fired(done) if "{" in path else "")
    sent: dict[str, Any] = {"content": body} if isinstance(body, bytes) else {"json": body}
    response = done.api().post(f"{API}{path}", **sent)
    assert response.status_code == 400
    assert response.json()["error"].startswith(message)
    assert audit(done) == []


@pytest.mark.parametrize(("actor", "named"), [("", "dashboard"), (" ", "dashboard"), (" ana ", "ana")])
def test_whoever_says_no_name_is_the_dashboard(done: Filled, actor: str, named: str) -> None:
    """A name of spaces is none."""
    episode = fired(done)
    for action in ("ack", "unack"):
        post(done, f"/alerts/{episode}/{action}", **{"x-monitoring-actor": actor})
    assert [row[0] for row in audit(done)] == [named, named]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
PATHS = ("/silences", "/alerts/none/ack", "/alerts/none/unack", "/errors/none/resolve", "/errors/none/reopen")


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    path=st.sampled_from(PATHS),
    body=st.dictionaries(st.sampled_from(["rule", "minutes", "comment", "note"]), JSON, max_size=4),
)
def test_no_body_is_answered_with_a_failure(done: Filled, path: str, body: Any) -> None:
    """Whatever is sent, the answer is 200, 400 or 404."""
    response = done.api().post(f"{API}{path}", content=json.dumps(body).encode())
    assert response.status_code in (200, 400, 404), response.text


def test_an_episode_that_ended_is_among_the_recent_ones(done: Filled) -> None:
    """With the time it was resolved."""
    now = time.time()
    episode = Episode(
        id="e" * 32,
        rule="costly",
        rule_hash="h",
        labels={"model": "gpt-4o"},
        severity="critical",
        summary="It was dear",
        state="resolved",
        active_since=now - 600,
        fired_at=now - 500,
        resolved_at=now - 100,
        evaluated_at=now - 100,
    )
    with done.monitoring.open_database().writing() as connection:
        alerts.add_episode(connection, episode)
    (found,) = done.get("/alerts")["recent"]
    assert (found["summary"], found["labels"], found["resolved_at"]) == ("It was dear", {"model": "gpt-4o"}, now - 100)
