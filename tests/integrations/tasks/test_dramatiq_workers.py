"""Dramatiq's processes and threads on a real Redis."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integrations.tasks.workers import Workplace, publish, workplace
from tests.support.processes import poll

pytest.importorskip("dramatiq")

N = 12
APP = "tests.integrations.tasks.apps.dramatiq_app"


@pytest.fixture
def place(tmp_path: Path, redis_port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workplace]:
    with workplace(tmp_path, redis_port, 3, monkeypatch) as place:
        yield place


def test_processes_and_threads_count_each_message_once(place: Workplace) -> None:
    """Also one that is delivered again, because the first process that had it was killed.

    No message is delayed: Dramatiq delivers one twice if it is killed while it moves it.
    """
    publish(
        place,
        "dramatiq_app",
        [
            "app.redelivered.send('.', 1)",
            f"for number in range({N}): app.ask.send(number)",
            "for number in range(2): app.fail.send(number)",
            "app.flaky.send('.', 0)",
        ],
    )
    with place.worker("dramatiq", APP, "--processes", "1", "--threads", "1", ready=lambda _: True) as first:
        poll(lambda: first.exit_code is not None, "the end of the worker whose process was killed")
    with place.worker("dramatiq", APP, "--processes", "2", "--threads", "2", ready=lambda _: True):
        ended = place.wait_for(N + 2 + 3 + 1)
    assert (
        ended
        == place.ended()
        == {
            ("ask", "ok", ""): N,
            ("fail", "error", "LookupError"): 2,
            ("flaky", "retry", "ConnectionError"): 2,
            ("flaky", "ok", ""): 1,
            ("redelivered", "ok", ""): 1,
        }
    )
    assert place.total("messaging_client_sent_messages_total") == N + 2 + 3 + 1
    assert place.total("monitoring_tasks_in_progress") == 0
    jobs = [line for line in place.lines() if line["event"] == "job" and line["route"] != "publisher"]
    assert len(jobs) == N + 2 + 3 + 1
    assert {(line["request_id"], line["user_id"]) for line in jobs} == {("the-request", "ada")}
    assert sorted(line["attempt"] for line in jobs if line["task"] == "flaky") == [1, 2, 3]
    assert place.errors() == ["ConnectionError", "LookupError"]
