"""What every adapter for tasks owes to the app, as one list of claims. A test class for an adapter inherits them all.

Tasks are no calls: they are sent here and run there. Claims that are the same have the same names as in the contract
for calls, so that they share its table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from types import MappingProxyType
from typing import Any, Protocol, cast

import pytest

import monitoring
from monitoring.context import current_record, muted
from monitoring.monitor import current
from monitoring.observation import Observation, RequestRecord
from monitoring.tasks import TaskRecord
from monitoring.testing import MemorySink, use
from tests.integrations.contract import SECRET

REQUEST_ID = "0" * 24 + "5eedbeef"
SPAN_ID = "00f067aa0ba902b7"

seen: list[tuple[str | None, str | None]] = []
"""In which request, and of which user, each task ran, in order."""


class TaskError(Exception):
    """What a task raises that is to fail."""


def double(value: str) -> str:
    """Succeed."""
    record = current_record.get()
    seen.append((monitoring.request_id(), record.user_id if record is not None else None))
    return value * 2


def fail(value: str) -> str:
    """Raise."""
    raise TaskError("failed on purpose")


class TaskSubject(Protocol):
    """One library, and the things that the claims need it to do in this process: derive from it."""

    client: str
    library: str
    system: str
    exceptions: Mapping[str, str] = MappingProxyType({})

    def opened(self) -> AbstractContextManager[Any]:
        """Return a block with fresh clients, not wrapped. What the claims wrap is ``ends`` of it."""
        ...

    def ends(self, client: Any) -> tuple[Any, Any]:
        """Return what sends and what works, which may be one object."""
        ...

    def send(self, client: Any, task: Any) -> Any:
        """Queue ``double`` or ``fail`` with the secret as its argument, and return a handle."""
        ...

    def work(self, client: Any) -> None:
        """Run what is queued, in this process, and return when it has ended."""
        ...

    def result(self, client: Any, handle: Any) -> object:
        """Return what became of a task, to be compared: its result, or the type and text of what it raised."""
        ...

    def seams(self, client: Any) -> object:
        """Return what is replaced or added to, to be compared."""
        ...


def wrapped(subject: TaskSubject, client: Any) -> Any:
    """Wrap both ends of a subject."""
    for end in subject.ends(client):
        monitoring.wrap(end)
    return client


def unwrapped(subject: TaskSubject, client: Any) -> Any:
    """Unwrap both ends of a subject."""
    for end in subject.ends(client):
        monitoring.unwrap(end)
    return client


def run(subject: TaskSubject, client: Any, *tasks: Any) -> list[object]:
    """Send tasks, have them run, and return what became of them."""
    handles = [subject.send(client, task) for task in tasks]
    subject.work(client)
    return [subject.result(client, handle) for handle in handles]


@contextmanager
def in_request() -> Iterator[RequestRecord]:
    """Be in a request of a user for the length of the block."""
    record = RequestRecord()
    record.request_id = record.trace_id = REQUEST_ID
    record.span_id, record.user_id = SPAN_ID, "ada"
    token = current_record.set(record)
    try:
        yield record
    finally:
        current_record.reset(token)


def tasks_of(sink: MemorySink) -> list[TaskRecord]:
    """Return the records of the tasks that ended."""
    return cast("list[TaskRecord]", sink.of_kind("job"))


class TaskContract:
    """The claims."""

    @pytest.fixture
    def sink(self) -> MemorySink:
        seen.clear()
        return MemorySink()

    @pytest.fixture(autouse=True)
    def exception(self, request: pytest.FixtureRequest, subject: TaskSubject) -> None:
        """Expect a claim that does not hold to fail."""
        reason = subject.exceptions.get(request.node.originalname)
        if reason is not None:
            request.applymarker(pytest.mark.xfail(reason=reason, strict=True))

    def test_wrap_returns_the_same_object_of_the_same_type(self, subject: TaskSubject) -> None:
        """The client is instrumented in place."""
        with subject.opened() as client:
            for end in subject.ends(client):
                kind = type(end)
                assert monitoring.wrap(end) is end
                assert type(end) is kind

    def test_the_result_is_unchanged(self, subject: TaskSubject, sink: MemorySink) -> None:
        """A task returns what it does without us."""
        with subject.opened() as client, use(sink):
            bare = run(subject, client, double)
            assert run(subject, wrapped(subject, client), double) == bare
        assert sink.observations

    def test_the_exception_is_unchanged(self, subject: TaskSubject, sink: MemorySink) -> None:
        """A task that fails does so with the same exception."""
        with subject.opened() as client, use(sink):
            bare = run(subject, client, fail)
            assert run(subject, wrapped(subject, client), fail) == bare
        assert sink.observations

    def test_a_success_is_observed(self, subject: TaskSubject, sink: MemorySink) -> None:
        """It was sent once, it began once, and it ended once, with a duration."""
        with subject.opened() as client, use(sink):
            run(subject, wrapped(subject, client), double)
        assert sorted(one.kind for one in sink.observations) == ["job", "task_sent", "task_start"]
        (task,) = tasks_of(sink)
        assert (task.system, task.outcome, task.attempt, task.error_type) == (subject.system, "ok", 1, "")
        assert task.name.endswith("double")
        assert task.queue != ""
        assert task.duration_seconds > 0
        assert task.wait_seconds is not None
        assert task.wait_seconds >= 0

    def test_an_error_is_observed(self, subject: TaskSubject, sink: MemorySink) -> None:
        """A task that raises ends as an error, and is in a group of errors as a request's would be."""
        with subject.opened() as client, use(sink):
            run(subject, wrapped(subject, client), fail)
        (task,) = tasks_of(sink)
        assert (task.outcome, task.error_type) == ("error", "TaskError")
        assert task.error_group != ""

    def test_wrapping_twice_is_wrapping_once(self, subject: TaskSubject, sink: MemorySink) -> None:
        """No task is counted double."""
        with subject.opened() as client, use(sink):
            run(subject, wrapped(subject, wrapped(subject, client)), double)
        assert len(sink.observations) == 3

    def test_unwrap_restores_what_was_there(self, subject: TaskSubject, sink: MemorySink) -> None:
        """What was replaced or added is as before, and nothing is observed any more."""
        with subject.opened() as client, use(sink):
            run(subject, client, double)
            before = subject.seams(client)
            wrapped(subject, client)
            assert subject.seams(client) != before
            run(subject, client, double)
            unwrapped(subject, client)
            assert subject.seams(client) == before
            observed = len(sink.observations)
            run(subject, client, double)
        assert len(sink.observations) == observed

    def test_a_client_can_be_wrapped_again(self, subject: TaskSubject, sink: MemorySink) -> None:
        """After unwrap a wrap attaches anew."""
        with subject.opened() as client, use(sink):
            run(subject, wrapped(subject, unwrapped(subject, wrapped(subject, client))), double)
        assert len(sink.observations) == 3

    def test_wrapping_may_come_before_configure(self, subject: TaskSubject, sink: MemorySink) -> None:
        """The recorder is asked for at each task."""
        with subject.opened() as client:
            wrapped(subject, client)
            run(subject, client, double)
            with use(sink):
                run(subject, client, double)
            run(subject, client, double)
        assert len(sink.observations) == 3

    def test_nothing_is_observed_when_muted(self, subject: TaskSubject, sink: MemorySink) -> None:
        """What is sent under ``muted`` is sent unseen, and of no request."""
        with subject.opened() as client, use(sink):
            wrapped(subject, client)
            with in_request(), muted():
                subject.send(client, double)
            assert sink.observations == []
            subject.work(client)
        assert seen[0][0] != REQUEST_ID

    def test_no_secret_is_kept(self, subject: TaskSubject, sink: MemorySink) -> None:
        """Neither a success nor an error holds an argument or a result."""
        with subject.opened() as client, use(sink):
            run(subject, wrapped(subject, client), double, fail)
        assert len(tasks_of(sink)) == 2
        assert not any(SECRET in repr(_fields(one)) for one in sink.observations)

    def test_the_request_travels_with_a_task(self, subject: TaskSubject, sink: MemorySink) -> None:
        """The task runs as part of the request that queued it, for its user, and in its trace."""
        with subject.opened() as client, use(sink):
            wrapped(subject, client)
            with in_request():
                subject.send(client, double)
            subject.work(client)
        assert seen == [(REQUEST_ID, "ada")]
        (task,) = tasks_of(sink)
        assert (task.trace_id, task.parent_span_id) == (REQUEST_ID, SPAN_ID)
        assert task.span_id != SPAN_ID

    def test_a_task_of_an_uninstrumented_publisher_is_observed(self, subject: TaskSubject, sink: MemorySink) -> None:
        """It has an ID of its own."""
        with subject.opened() as client, use(sink):
            publisher, worker = subject.ends(client)
            if publisher is worker:
                subject.send(client, double)
                monitoring.wrap(worker)
            else:
                monitoring.wrap(worker)
                subject.send(client, double)
            subject.work(client)
        (task,) = tasks_of(sink)
        assert (task.outcome, seen) == ("ok", [(task.request_id, "")])

    def test_an_uninstrumented_worker_runs_the_tasks_of_an_instrumented_publisher(
        self, subject: TaskSubject, sink: MemorySink
    ) -> None:
        """What travels with a task is in nobody's way."""
        with subject.opened() as client, use(sink):
            publisher, _ = subject.ends(client)
            monitoring.wrap(publisher)
            with in_request():
                handle = subject.send(client, double)
            monitoring.unwrap(publisher)
            subject.work(client)
            assert subject.result(client, handle) == SECRET * 2
        assert [one.kind for one in sink.observations] == ["task_sent"]

    def test_a_bug_of_the_adapter_does_not_reach_the_caller(
        self, subject: TaskSubject, sink: MemorySink, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What fails in making an observation is counted as the pack's own failure, and the task goes on."""

        def broken(*_: object, **__: object) -> None:
            raise RuntimeError("a bug")

        failures: list[str] = []
        with subject.opened() as client:
            expected = run(subject, client, double, fail)
            with use(sink):
                recorder = current().recorder
                monkeypatch.setattr(recorder, "_on_failure", lambda part, error: failures.append(part))
                wrapped(subject, client)
                monkeypatch.setattr(Observation, "__init__", broken)
                monkeypatch.setattr(TaskRecord, "__init__", broken)
                assert run(subject, client, double, fail) == expected
        assert sink.observations == []
        assert failures


def _fields(observation: Observation) -> dict[str, object]:
    return {name: value for name, value in vars(observation).items() if name != "lines"}
