"""pymongo clients, sync and async, on a stand-in for a MongoDB server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import monitoring
from monitoring.observation import Kind
from tests.integrations.contract import SECRET, CancellableContract, Contract, Subject
from tests.integrations.databases.drivers import names, observed, observed_async
from tests.support.mongodb import DOCUMENTS, mongodb

pymongo = pytest.importorskip("pymongo")

HEAR_OF_CANCELLATIONS = pymongo.version_tuple[:3] >= (4, 20, 1)
OPTIONS: dict[str, Any] = {"serverSelectionTimeoutMS": 5_000, "retryReads": False, "retryWrites": False}


class SyncClient(Subject):
    """``MongoClient``."""

    client = "pymongo `MongoClient`"
    library = "pymongo"
    kind: Kind = "db"
    error = pymongo.errors.OperationFailure

    def __init__(self, port: int) -> None:
        self._port = port

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Any]:
        with pymongo.MongoClient("127.0.0.1", self._port, **OPTIONS) as client:
            yield client

    def unused(self) -> Any:
        return pymongo.MongoClient("127.0.0.1", self._port, connect=False, **OPTIONS)

    async def succeed(self, client: Any) -> object:
        return list(client.app.funders.find({"name": SECRET}))

    async def fail(self, client: Any) -> object:
        return client.app.funders.aggregate([{"$nothing": SECRET}])


class AsynchronousClient(Subject):
    """``AsyncMongoClient``. Its listeners hear of cancellations since 4.20.1."""

    client = "pymongo `AsyncMongoClient`"
    library = "pymongo"
    exceptions = {} if HEAR_OF_CANCELLATIONS else {"test_a_cancellation_is_observed": "PyMongo does not tell"}
    kind: Kind = "db"
    error = pymongo.errors.OperationFailure

    def __init__(self, port: int) -> None:
        self._port = port

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Any]:
        async with pymongo.AsyncMongoClient("127.0.0.1", self._port, **OPTIONS) as client:
            yield client

    def unused(self) -> Any:
        return pymongo.AsyncMongoClient("127.0.0.1", self._port, connect=False, **OPTIONS)

    async def succeed(self, client: Any) -> object:
        return await client.app.funders.find({"name": SECRET}).to_list()

    async def fail(self, client: Any) -> object:
        return await client.app.funders.aggregate([{"$nothing": SECRET}])

    async def hang(self, client: Any) -> object:
        return await client.app.hang.find_one({"name": SECRET})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The port of the stand-in."""
    with mongodb() as port:
        yield port


class TestClient(Contract):
    """The contract, for a client."""

    @pytest.fixture
    def subject(self, port: int) -> Subject:
        return SyncClient(port)


class TestAsyncClient(CancellableContract):
    """The contract, for an async client."""

    @pytest.fixture
    def subject(self, port: int) -> Subject:
        return AsynchronousClient(port)


@pytest.fixture
def client(port: int) -> Iterator[Any]:
    with pymongo.MongoClient("127.0.0.1", port, **OPTIONS) as client:
        yield monitoring.wrap(client)


def failing(act: Callable[[], object]) -> None:
    with pytest.raises(pymongo.errors.OperationFailure):
        act()


@pytest.mark.parametrize(
    ("work", "operation", "name", "rows"),
    [
        (lambda c: list(c.app.funders.find({"name": SECRET})), "find", "find funders", -1),
        (lambda c: c.app.funders.find_one({"name": SECRET}), "find", "find funders", -1),
        (lambda c: c.app.funders.insert_many([{"name": SECRET}, {"name": SECRET}]), "insert", "insert funders", 2),
        (lambda c: c.app.funders.update_many({}, {"$set": {"name": SECRET}}), "update", "update funders", 2),
        (lambda c: failing(lambda: c.app.a.aggregate([{"$nothing": SECRET}])), "aggregate", "aggregate a", -1),
        (lambda c: c.admin.command("ping"), "ping", "ping", -1),
        (lambda c: failing(lambda: c.admin.command("createUser", SECRET, pwd=SECRET)), "createUser", "createUser", -1),
        (lambda c: failing(lambda: c.admin.command(f"no {SECRET}")), "OTHER", "OTHER", -1),
    ],
)  # fmt: skip
def test_a_command_is_named_after_its_collection(
    client: Any, work: Callable[[Any], object], operation: str, name: str, rows: int
) -> None:
    """Name and collection are kept where the one is a command's and the other a collection's; a filter never is."""
    (call,) = observed(lambda: work(client))
    assert (call.system, call.operation, call.name, call.rows) == ("mongodb", operation, name, rows)
    assert SECRET not in repr(vars(call))


def test_an_error_is_named_after_what_the_caller_catches(client: Any) -> None:
    """The class of the exception, and not the server's code."""
    (call,) = observed(lambda: failing(lambda: client.app.funders.aggregate([{"$nothing": 1}])))
    assert (call.outcome, call.error_type) == ("error", "OperationFailure")


def test_batches_of_a_cursor_belong_to_its_command(client: Any) -> None:
    """However many are fetched, it is one observation."""
    found: list[Any] = []
    calls = observed(lambda: found.extend(client.app.many.find(batch_size=2)))
    assert (names(calls), found) == (["find many"], DOCUMENTS * 2)


def test_listeners_of_the_users_go_on_hearing(port: int) -> None:
    """Ours comes after theirs, and leaves their list as it was."""
    heard: list[str] = []

    class Theirs(pymongo.monitoring.CommandListener):  # type: ignore[misc, name-defined, unused-ignore]
        def started(self, event: Any) -> None:
            heard.append(event.command_name)

        def succeeded(self, event: Any) -> None:
            pass

        def failed(self, event: Any) -> None:
            pass

    theirs = Theirs()
    with pymongo.MongoClient("127.0.0.1", port, event_listeners=[theirs], **OPTIONS) as client:
        monitoring.wrap(client)
        assert names(observed(lambda: client.admin.command("ping"))) == ["ping"]
        monitoring.unwrap(client)
        assert client.options.event_listeners == [theirs]
        assert observed(lambda: client.admin.command("ping")) == []
    assert heard == ["ping", "ping", "endSessions"]


def test_a_client_can_be_made_with_the_listener(port: int) -> None:
    """The way for clients that cannot be wrapped yet."""
    from monitoring.integrations.databases.pymongo import Listener

    with pymongo.MongoClient("127.0.0.1", port, event_listeners=[Listener()], **OPTIONS) as client:
        assert names(observed(lambda: client.app.funders.find_one())) == ["find funders"]


def test_a_client_without_servers_yet_is_refused_with_what_to_do_instead(port: int) -> None:
    """An async client of a ``mongodb+srv`` address makes its listeners when it looks up its servers."""
    client = pymongo.MongoClient("127.0.0.1", port, connect=False)
    client._event_listeners = None
    with pytest.raises(TypeError, match=r"event_listeners=\[monitoring\.integrations\.databases\.pymongo\.Listener"):
        monitoring.wrap(client)


def test_commands_at_the_same_time_are_told_apart(port: int) -> None:
    """Each task has its own."""

    async def work() -> None:
        async with pymongo.AsyncMongoClient("127.0.0.1", port, **OPTIONS) as client:
            monitoring.wrap(client)
            await asyncio.gather(
                client.app.first.find_one(), client.app.second.find_one(), client.app.first.insert_one({"a": 1})
            )

    assert sorted(names(observed_async(work))) == ["find first", "find second", "insert first"]
