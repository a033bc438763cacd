"""RQ's workers on a real Redis: work-horses of one job each, forked and spawned, some of them killed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integrations.tasks.workers import Workplace, publish, workplace

rq = pytest.importorskip("rq")

N = 8


@pytest.fixture
def place(tmp_path: Path, redis_port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workplace]:
    with workplace(tmp_path, redis_port, 2, monkeypatch) as place:
        yield place


def _enqueue(place: Workplace, *code: str) -> None:
    publish(
        place,
        "rq_app",
        [
            "import os, redis, rq",
            "queue = monitoring.wrap(rq.Queue('jobs', connection=redis.Redis.from_url(os.environ['BROKER'])))",
            *code,
        ],
    )


def _work(place: Workplace, kind: str, attempts: int) -> dict[tuple[str, str, str], int]:
    app = "tests.integrations.tasks.apps.rq_app"
    program = ["rq.cli", "worker", "--worker-class", f"{app}.{kind}", "--url", place.env["BROKER"], "--burst", "jobs"]
    with place.worker(*program, ready=lambda _: True):
        return place.wait_for(attempts)


def test_work_horses_count_each_job_once(place: Workplace) -> None:
    """They end past ``atexit``, or are killed; their lines, errors and counts are there all the same."""
    _enqueue(
        place,
        f"for number in range({N}): queue.enqueue(app.ask, number)",
        "queue.enqueue(app.fail, 1)",
        "queue.enqueue(app.fail, 2, retry=rq.Retry(max=1))",
        "queue.enqueue(app.killed)",
        "queue.enqueue(app.hang, job_timeout=1)",
    )
    assert _work(place, "Worker", N + 5) == {
        ("ask", "ok", ""): N,
        ("fail", "error", "LookupError"): 2,
        ("fail", "retry", "LookupError"): 1,
        ("killed", "error", "WorkHorseLost"): 1,
        ("hang", "time_limit", "JobTimeoutException"): 1,
    }
    assert place.total("messaging_client_sent_messages_total") == N + 4
    assert place.total("monitoring_tasks_in_progress") == 0
    jobs = [line for line in place.lines() if line["event"] == "job" and line["route"] != "publisher"]
    assert len(jobs) == N + 5
    assert {(line["request_id"], line["user_id"]) for line in jobs} == {("the-request", "ada")}
    assert sorted(line["attempt"] for line in jobs if line["task"].endswith("fail")) == [1, 1, 2]
    asked = [line for line in place.lines() if line["event"].startswith("asked")]
    assert [line["request_id"] for line in asked] == ["the-request"] * N
    assert place.errors() == ["JobTimeoutException", "LookupError", "WorkHorseLost"]


@pytest.mark.skipif(not hasattr(rq.worker, "SpawnWorker"), reason="this RQ spawns none")
def test_spawned_work_horses_are_told_by_their_worker_class(place: Workplace) -> None:
    """They inherit nothing: the class wraps the worker that each of them makes."""
    _enqueue(place, "queue.enqueue(app.ask, 1)")
    assert _work(place, "Spawning", 1) == {("ask", "ok", ""): 1}
