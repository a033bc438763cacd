"""Celery's prefork workers on a real Redis: exact counts with recycled, killed and timed-out children."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integrations.tasks.workers import Workplace, publish, workplace
from tests.support.processes import poll

pytest.importorskip("celery")

N = 12


@pytest.fixture
def place(tmp_path: Path, redis_port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workplace]:
    with workplace(tmp_path, redis_port, 1, monkeypatch) as place:
        yield place


def test_prefork_workers_count_each_task_once(place: Workplace) -> None:
    """Children are recycled, some are killed in the middle of a task, one takes too long; lines and errors are kept."""
    publish(
        place,
        "celery_app",
        [
            f"for number in range({N}): app.ask.delay(number)",
            "for number in range(3): app.fail.delay(number)",
            "app.flaky.delay(0)",
            "app.hang.delay()",
            "for number in range(2): app.redelivered.delay('.', number)",
            "app.killed.delay('.', 9)",
        ],
    )
    app = "tests.integrations.tasks.apps.celery_app"
    program = f"celery -A {app} worker -c 2 -P prefork --max-tasks-per-child 5 --without-gossip --without-mingle"
    with place.worker(*program.split(), ready=lambda output: True):
        ended = place.wait_for(N + 3 + 3 + 1 + 2 + 1)
        poll(lambda: place.total("monitoring_tasks_in_progress") == 0, "the children that were killed to be forgotten")
    assert (
        ended
        == place.ended()
        == {
            ("ask", "ok", ""): N,
            ("fail", "error", "LookupError"): 3,
            ("flaky", "retry", "ConnectionError"): 2,
            ("flaky", "ok", ""): 1,
            ("hang", "time_limit", "TimeLimitExceeded"): 1,
            ("redelivered", "ok", ""): 2,
            ("killed", "error", "WorkerLostError"): 1,
        }
    )
    assert place.total("messaging_client_sent_messages_total") == N + 3 + 3 + 1 + 2 + 1
    assert place.total("monitoring_task_retries_total") == 2
    jobs = [line for line in place.lines() if line["event"] == "job" and line["route"] != "publisher"]
    assert {(line["request_id"], line["user_id"]) for line in jobs} == {("the-request", "ada")}
    asked = [line for line in place.lines() if line["event"].startswith("asked")]
    assert [line["request_id"] for line in asked] == ["the-request"] * N
    assert sum(line["task"].endswith("ask") for line in jobs) == N
    assert place.errors() == ["LookupError", "TimeLimitExceeded", "WorkerLostError"]
