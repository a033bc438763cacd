"""Ways to a syslog receiver: what is noticed of one that is gone, slow, or closing."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from monitoring.logs.shipping import syslog_transports
from monitoring.logs.shipping.retries import NotDelivered
from monitoring.logs.shipping.syslog_transports import Datagrams, Stream, connect_datagram, connect_stream
from monitoring.testing import FakeClock
from tests.support.processes import free_port


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """Listen for streams."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(15)
        yield listening


@pytest.fixture
def opened() -> Iterator[Callable[..., Stream]]:
    """Return a maker of streams, which are closed at the end."""
    made: list[Stream] = []

    def stream(
        server: socket.socket, encode: Callable[[Sequence[bytes]], list[bytes]] = list, seconds: float = 15
    ) -> Stream:
        place = server.getsockname()
        made.append(Stream(lambda: connect_stream(place, seconds, None), encode, seconds))
        return made[-1]

    yield stream
    for one in made:
        one.close()


def _accepted(server: socket.socket) -> socket.socket:
    connected, _ = server.accept()
    connected.settimeout(15)
    return connected


def test_messages_are_counted_and_go_over_one_connection(server: socket.socket, opened: Callable[..., Stream]) -> None:
    """It is kept from batch to batch."""
    stream = opened(server)
    assert stream.send([b"one", b"two\n2"]) == 0
    assert stream.send([b"three"]) == 0
    with _accepted(server) as connected:
        assert connected.recv(100) == b"3 one5 two\n25 three"


def test_a_receiver_that_has_hung_up_is_connected_to_anew(server: socket.socket, opened: Callable[..., Stream]) -> None:
    """Before anything is sent to a connection that nobody reads any more."""
    stream = opened(server)
    stream.send([b"one"])
    _accepted(server).close()
    assert stream.send([b"two"]) == 0
    with _accepted(server) as connected:
        assert connected.recv(100) == b"3 two"


def test_a_receiver_that_hangs_up_while_a_batch_is_sent_has_not_taken_it(
    server: socket.socket, opened: Callable[..., Stream]
) -> None:
    """The system takes the bytes all the same, and only later says that nobody wanted them."""
    accepted: list[socket.socket] = []

    def hang_up_then_encode(lines: Sequence[bytes]) -> list[bytes]:
        while accepted:
            accepted.pop().close()
        return list(lines)

    stream = opened(server, hang_up_then_encode)
    stream.send([b"one"])
    accepted.append(_accepted(server))
    accepted[0].recv(100)
    with pytest.raises(NotDelivered) as raised:
        stream.send([b"two"])
    assert raised.value.delivered == 0


def test_of_a_stream_that_stalls_only_what_it_has_not_been_given_is_sent_again(
    server: socket.socket, opened: Callable[..., Stream]
) -> None:
    """What the system has taken is delivered when the receiver reads on."""
    stream = opened(server, seconds=0.1)
    large = b"x" * 100_000
    with pytest.raises(NotDelivered, match="TimeoutError") as raised:
        stream.send([large] * 500)
    stream.close()
    assert 0 < raised.value.delivered < 500
    received = 0
    with _accepted(server) as connected:
        while piece := connected.recv(1_000_000):
            received += len(piece)
    assert received // len(b"100000 " + large) == raised.value.delivered


def test_an_aborted_stream_fails_at_once_and_for_good(server: socket.socket, opened: Callable[..., Stream]) -> None:
    """As when the outlet is closed."""
    stream = opened(server)
    stream.send([b"one"])
    stream.abort()
    for _ in range(2):
        with pytest.raises(NotDelivered):
            stream.send([b"two"])


def test_one_datagram_to_nobody_on_this_machine_is_not_delivered() -> None:
    """The answer to it comes after the sending, and is looked for."""
    port = free_port()
    transport = Datagrams(lambda: connect_datagram(("127.0.0.1", port), 5), list, 1000)
    for _ in range(2):
        with pytest.raises(NotDelivered, match="Connection refused"):
            transport.send([b"one"])


def test_an_answer_to_earlier_datagrams_is_no_failure_of_these() -> None:
    """They are another batch's, which is in other hands already."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        place = server.getsockname()
        transport = Datagrams(lambda: connected, list, 1000)
        connected = connect_datagram(place, 5)
        assert transport.send([b"one"]) == 0
        server.close()
        connected.send(b"to nobody")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as successor:
            successor.settimeout(15)
            successor.bind(place)
            assert transport.send([b"two"]) == 0
            assert successor.recv(100) == b"two"
        transport.close()


def test_a_host_is_looked_up_again_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Datagrams go on for ever to where a receiver was, and nothing says that it has moved."""
    clock = FakeClock()
    monkeypatch.setattr(syslog_transports, "monotonic", clock)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        connections = 0

        def connect() -> socket.socket:
            nonlocal connections
            connections += 1
            return connect_datagram(server.getsockname(), 5)

        transport = Datagrams(connect, list, 1000)
        for _ in range(10):
            clock.advance(20)
            transport.send([b"one"])
        transport.close()
    assert connections == 3


def test_of_a_slow_daemon_only_what_it_did_not_take_is_sent_again(tmp_path: Path) -> None:
    """The socket of one that reads nothing is full after a few datagrams."""
    path = str(tmp_path / "log")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind(path)
        transport = Datagrams(lambda: connect_datagram(path, 0.05), list, 8192)
        lines = [b"%d" % number for number in range(5000)]
        with pytest.raises(NotDelivered) as raised:
            transport.send(lines)
        transport.close()
        taken = raised.value.delivered
        assert 0 < taken < 5000
        assert [daemon.recv(100) for _ in range(taken)] == lines[:taken]
        daemon.setblocking(False)
        with pytest.raises(BlockingIOError):
            daemon.recv(100)


def test_a_child_that_lets_go_leaves_the_connection_to_its_parent(
    server: socket.socket, opened: Callable[..., Stream]
) -> None:
    """Closing a copy after a fork says nothing to the receiver."""
    stream = opened(server)
    stream.send([b"one"])
    child = os.fork()
    if not child:
        stream.close()
        os._exit(0)
    os.waitpid(child, 0)
    stream.send([b"two"])
    with _accepted(server) as connected:
        assert connected.recv(100) == b"3 one3 two"
