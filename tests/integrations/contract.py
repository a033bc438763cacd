"""What every adapter owes to the app, as one list of claims. A test class for an adapter inherits them all."""

from __future__ import annotations

import asyncio
import os
import traceback
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

import pytest

import monitoring
from monitoring import integrations
from monitoring.calls import Call
from monitoring.context import current_record, muted
from monitoring.observation import Kind, RequestRecord
from monitoring.recorder import Recorder
from monitoring.testing import MemorySink, use

T = TypeVar("T")
PATIENCE_SECONDS = 0.25
SECRET = "hunter2-the-planted-secret"
"""Every subject sends it where secrets go: as a parameter, a key, a value, a header, a prompt."""


CLAIMS = {
    "test_wrap_returns_the_same_object_of_the_same_type": "same object",
    "test_the_result_is_unchanged": "same result",
    "test_the_exception_is_unchanged": "same error",
    "test_a_success_is_observed": "observed",
    "test_an_error_is_observed": "errors",
    "test_a_cancellation_is_observed": "cancelled",
    "test_wrapping_twice_is_wrapping_once": "once",
    "test_unwrap_restores_what_was_there": "restored",
    "test_a_client_can_be_wrapped_again": "again",
    "test_wrapping_may_come_before_configure": "any order",
    "test_it_is_observed_in_a_forked_child": "fork",
    "test_nothing_is_observed_when_muted": "muted",
    "test_no_secret_is_kept": "no payload",
    "test_request_and_block_are_attached": "context",
    "test_the_request_travels_with_a_task": "context",
    "test_a_bug_of_the_adapter_does_not_reach_the_caller": "guarded",
}
"""The claims by the tests that show them, and the columns in which the README's table tells of them."""


class Subject(Protocol):
    """One kind of client, and the things that the claims need it to do: derive from it.

    Sync clients are called from coroutines, too.
    """

    client: str
    """What users call it: ``redis.Redis``. Its row in the README's table."""
    library: str
    """The distribution that it is of, as in oldest.toml; ``Python`` for the standard library."""
    exceptions: Mapping[str, str] = MappingProxyType({})
    """Tests of claims that do not hold for it, and why. Each must fail."""
    kind: Kind
    error: type[Exception]
    """What `fail` raises."""

    def opened(self) -> AbstractAsyncContextManager[Any]:
        """Return a block with a fresh client, not wrapped, that is closed at its end."""
        ...

    def unused(self) -> Any | None:
        """Return a client that has not connected yet, None where there is none without a connection."""
        ...

    async def succeed(self, client: Any) -> object:
        """Make one call that succeeds and carries the secret; return what can be compared of its result."""
        ...

    async def fail(self, client: Any) -> object:
        """Make one call that fails and carries the secret."""
        ...


class CancellableSubject(Subject, Protocol):
    """A client whose calls can be cancelled."""

    async def hang(self, client: Any) -> object:
        """Make one call that does not end by itself while the test waits."""
        ...


class Contract:
    """The claims that hold for every adapter."""

    @pytest.fixture
    def sink(self) -> MemorySink:
        return MemorySink()

    @pytest.fixture(autouse=True)
    def exception(self, request: pytest.FixtureRequest, subject: Subject) -> None:
        """Expect a claim that does not hold to fail."""
        reason = subject.exceptions.get(request.node.originalname)
        if reason is not None:
            request.applymarker(pytest.mark.xfail(reason=reason, strict=True))

    def test_wrap_returns_the_same_object_of_the_same_type(self, subject: Subject) -> None:
        """The client is instrumented in place."""

        async def scenario(client: Any) -> None:
            kind = type(client)
            assert monitoring.wrap(client) is client
            assert type(client) is kind

        run(subject, scenario)

    def test_the_result_is_unchanged(self, subject: Subject, sink: MemorySink) -> None:
        """A wrapped client returns what a bare one does."""

        async def scenario(client: Any) -> None:
            bare = await subject.succeed(client)
            monitoring.wrap(client)
            with use(sink):
                assert await subject.succeed(client) == bare
            assert sink.observations

        run(subject, scenario)

    def test_the_exception_is_unchanged(self, subject: Subject, sink: MemorySink) -> None:
        """A wrapped client raises what a bare one does, with the same causes and no notes."""

        async def scenario(client: Any) -> None:
            bare = await raised(subject, client)
            monitoring.wrap(client)
            with use(sink):
                assert described(await raised(subject, client)) == described(bare)
            assert sink.observations

        run(subject, scenario)

    def test_a_success_is_observed(self, subject: Subject, sink: MemorySink) -> None:
        """One call, one observation, with a name and a duration."""
        with use(sink):
            run(subject, lambda client: subject.succeed(monitoring.wrap(client)))
        (call,) = sink.of_kind(subject.kind)
        assert (call.outcome, call.name != "", call.duration_seconds > 0) == ("ok", True, True)
        assert sink.observations == [call]

    def test_an_error_is_observed(self, subject: Subject, sink: MemorySink) -> None:
        """A call that raises ends as an error, with the name of the exception's class and without the exception."""
        with use(sink):
            run(subject, lambda client: raised(subject, monitoring.wrap(client)))
        (call,) = of_subject(sink, subject)
        assert (call.outcome, call.exception) == ("error", None)
        assert call.error_type

    def test_wrapping_twice_is_wrapping_once(self, subject: Subject, sink: MemorySink) -> None:
        """No call is counted double."""
        with use(sink):
            run(subject, lambda client: subject.succeed(monitoring.wrap(monitoring.wrap(client))))
        assert len(sink.observations) == 1

    def test_unwrap_restores_what_was_there(self, subject: Subject, sink: MemorySink) -> None:
        """The client's own attributes are as before, and nothing is observed any more."""

        async def scenario(client: Any) -> None:
            carrier = integrations._adapter_for(client, "test").carrier(client)
            before = dict(vars(carrier))
            monitoring.wrap(client)
            assert dict(vars(carrier)) != before
            assert monitoring.unwrap(client) is client
            assert dict(vars(carrier)) == before
            with use(sink):
                await subject.succeed(client)

        run(subject, scenario)
        assert sink.observations == []

    def test_a_client_can_be_wrapped_again(self, subject: Subject, sink: MemorySink) -> None:
        """After unwrap a wrap attaches anew."""
        with use(sink):
            run(subject, lambda client: subject.succeed(monitoring.wrap(monitoring.unwrap(monitoring.wrap(client)))))
        assert len(sink.observations) == 1

    def test_wrapping_may_come_before_configure(self, subject: Subject, sink: MemorySink) -> None:
        """The recorder is asked for at each call."""

        async def scenario(client: Any) -> None:
            monitoring.wrap(client)
            await subject.succeed(client)
            with use(sink):
                await subject.succeed(client)
            await subject.succeed(client)

        run(subject, scenario)
        assert len(sink.observations) == 1

    def test_it_is_observed_in_a_forked_child(self, subject: Subject) -> None:
        """A client that was wrapped before a fork and is used after it counts in the child."""

        def use_in_child() -> None:
            sink = MemorySink()
            with use(sink):
                asyncio.run(_awaited(subject.succeed(client)))
            assert len(sink.observations) == 1

        client = subject.unused()
        if client is None:
            pytest.skip("it is nothing without a connection, which belongs to one process")
        monitoring.wrap(client)
        assert in_child(use_in_child) == 0

    def test_nothing_is_observed_when_muted(self, subject: Subject, sink: MemorySink) -> None:
        """What happens under ``muted`` is invisible."""

        async def scenario(client: Any) -> None:
            monitoring.wrap(client)
            with muted():
                await subject.succeed(client)
                await raised(subject, client)
            await subject.succeed(client)

        with use(sink):
            run(subject, scenario)
        assert [call.outcome for call in sink.observations] == ["ok"]

    def test_no_secret_is_kept(self, subject: Subject, sink: MemorySink) -> None:
        """Neither a success nor an error holds a parameter, a key, a value, a prompt or an answer."""

        async def scenario(client: Any) -> None:
            monitoring.wrap(client)
            await subject.succeed(client)
            await raised(subject, client)

        with use(sink):
            run(subject, scenario)
        assert len(sink.observations) == 2
        assert [SECRET in repr(vars(call)) for call in sink.observations] == [False, False]

    def test_request_and_block_are_attached(self, subject: Subject, sink: MemorySink) -> None:
        """The call belongs to the request and to the block of code that it was made in."""

        async def scenario(client: Any) -> None:
            monitoring.wrap(client)
            token = current_record.set(record)
            with monitoring.agent("writer"):
                await subject.succeed(client)
            current_record.reset(token)

        record = RequestRecord()
        with use(sink):
            run(subject, scenario)
        (call,) = sink.of_kind(subject.kind)
        assert call.request is record
        assert call.block is not None
        assert (call.block.name, call.block.agent) == ("writer", "writer")

    def test_a_bug_of_the_adapter_does_not_reach_the_caller(
        self, subject: Subject, sink: MemorySink, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What fails in making an observation is counted as the pack's own failure, and the call goes on."""
        failures: list[str] = []
        recorder = Recorder([sink], on_failure=lambda part, error: failures.append(part))

        def broken(*_: object, **__: object) -> None:
            raise RuntimeError("a bug")

        async def scenario(client: Any) -> None:
            expected, error = await subject.succeed(client), await raised(subject, client)
            integrations.wrap(client, recorder_of=lambda: recorder)
            monkeypatch.setattr(Call, "__init__", broken)
            assert await subject.succeed(client) == expected
            assert described(await raised(subject, client)) == described(error)

        run(subject, scenario)
        assert sink.observations == []
        assert len(failures) == 2


class CancellableContract(Contract):
    """What holds for asynchronous clients besides."""

    def test_a_cancellation_is_observed(self, subject: CancellableSubject, sink: MemorySink) -> None:
        """A call that is cancelled ends as ``cancelled``, and the cancellation goes on."""

        async def scenario(client: Any) -> None:
            monitoring.wrap(client)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(subject.hang(client), PATIENCE_SECONDS)

        with use(sink):
            run(subject, scenario)
        (call,) = sink.of_kind(subject.kind)
        assert call.outcome == "cancelled"


def run(subject: Subject, scenario: Callable[[Any], Awaitable[T]]) -> T:
    """Run a scenario with a fresh client of the subject."""

    async def with_client() -> T:
        async with subject.opened() as client:
            return await scenario(client)

    return asyncio.run(with_client())


async def _awaited(awaitable: Awaitable[T]) -> T:
    return await awaitable


def in_child(act: Callable[[], object]) -> int:
    """Do something in a forked child, and return 0 unless it raised."""
    child = os.fork()
    if child == 0:
        try:
            act()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


async def raised(subject: Subject, client: Any) -> Exception:
    """Return what the failing call raised."""
    with pytest.raises(subject.error) as caught:
        await subject.fail(client)
    return caught.value


def described(error: BaseException) -> tuple[object, ...]:
    """Return what a caller can tell of an exception."""
    return (
        type(error),
        str(error),
        type(error.__cause__),
        type(error.__context__),
        getattr(error, "__notes__", None),
    )


def of_subject(sink: MemorySink, subject: Subject) -> list[Any]:
    """Return the calls of the subject's kind."""
    return list(sink.of_kind(subject.kind))
