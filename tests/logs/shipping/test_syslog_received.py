"""What a real rsyslog receives, by all ways, and through being killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from monitoring.logs.outlets import Outlet
from monitoring.logs.shipping import Limits, Syslog
from tests.support.log_lines import SPAN_ID, TRACE_ID, Drops, line, lines, number_of
from tests.support.processes import poll
from tests.support.rsyslog import Rsyslog, Way

WAYS: tuple[Way, ...] = ("udp", "tcp", "tls", "unix")


def _opened(server: Rsyslog, way: Way, drops: Drops, **settings: Any) -> Outlet:
    limits = Limits(batch_seconds=0.05, batch_lines=50, retry_seconds=0.05, timeout_seconds=5)
    if way == "unix":
        return Syslog(server.path, limits=limits, **settings).open("shop", drops)
    if way == "tls":
        settings["ca_file"] = str(server.authority)
    address = f"localhost:{server.port}" if way == "tls" else f"127.0.0.1:{server.port}"
    return Syslog(address, protocol=way, limits=limits, **settings).open("shop", drops)


def _numbers(server: Rsyslog) -> list[int]:
    return [number_of(one.message) for one in server.received]


def _await(server: Rsyslog, count: int) -> None:
    poll(lambda: len(server.received) >= count, f"{count} messages")


@pytest.mark.parametrize("way", ["udp", "tcp", "tls"])
def test_rsyslog_reads_every_field_of_a_message(tmp_path: Path, way: Way) -> None:
    """Priority, host, app name, message ID and structured data; and the line is the message, byte for byte."""
    sent = line(
        1,
        "error",
        logger="shop.cart",
        event='said "é]" \\ and more',
        request_id='a"]\\b',
        trace_id=TRACE_ID,
        span_id=SPAN_ID,
        user_id=7,
    )
    with Rsyslog(tmp_path, way) as server:
        outlet = _opened(server, way, Drops(), facility="local3", app_name="my app")
        outlet.write(sent, urgent=True)
        outlet.close()
        _await(server, 1)
        (got,) = server.received
    assert (got.priority, got.version, got.app_name, got.message_id) == (str(19 * 8 + 3), "1", "my_app", "shop.cart")
    assert got.structured_data == (
        f'[monitoring@32473 request_id="a\\"\\]\\\\b" trace_id="{TRACE_ID}" span_id="{SPAN_ID}" user_id="7"]'
    )
    assert got.message.encode() + b"\n" == sent


def test_rsyslog_reads_what_comes_by_its_local_socket(tmp_path: Path) -> None:
    """There it wants the older form, and takes the rest of RFC 5424's header for the message."""
    sent = line(1, "warning")
    with Rsyslog(tmp_path, "unix") as server:
        outlet = _opened(server, "unix", Drops())
        outlet.write(sent)
        outlet.close()
        _await(server, 1)
        (got,) = server.received
    assert (got.priority, got.app_name, got.message.strip().encode() + b"\n") == (str(8 + 4), "shop", sent)


@pytest.mark.parametrize("way", WAYS)
def test_every_line_arrives_once_though_rsyslog_is_killed_and_started_again(tmp_path: Path, way: Way) -> None:
    """Those written while it is away wait in the spool; those before and after go through; the order stays.

    By UDP they are few: a kernel drops datagrams that are read too slowly, and says nothing.
    """
    drops = Drops()
    many = 30 if way == "udp" else 200
    with Rsyslog(tmp_path, way) as server:
        outlet = _opened(server, way, drops, spool=tmp_path / "spool")
        for one in lines(range(many)):
            outlet.write(one)
        outlet.flush()
        _await(server, many)
        server.kill()
        for one in lines(range(many, 2 * many)):
            outlet.write(one)
        outlet.flush()
        assert list((tmp_path / "spool").rglob("*.lines.gz"))
        server.start()
        for one in lines(range(2 * many, 3 * many)):
            outlet.write(one)
        outlet.close()
        _await(server, 3 * many)
        assert _numbers(server) == list(range(3 * many))
    assert drops == {}
    assert not list((tmp_path / "spool").rglob("*.lines.gz"))


def test_rsyslog_gets_lines_of_any_length_by_a_stream(tmp_path: Path) -> None:
    """Counted octets: a message ends where its count says, whatever is in it."""
    long = line(1, text="x" * 30_000)
    with Rsyslog(tmp_path, "tcp") as server:
        outlet = _opened(server, "tcp", Drops())
        for one in (line(0), long, line(2, text="12 <13>1 - - - - - -")):
            outlet.write(one)
        outlet.close()
        _await(server, 3)
        assert _numbers(server) == [0, 1, 2]
        assert server.received[1].message.encode() + b"\n" == long


def test_datagrams_are_cut_to_the_stated_size(tmp_path: Path) -> None:
    """Not in the middle of a character."""
    with Rsyslog(tmp_path, "udp") as server:
        outlet = _opened(server, "udp", Drops(), max_datagram_bytes=500)
        outlet.write(line(1, text="é" * 1000))
        outlet.close()
        _await(server, 1)
        (got,) = server.received
    assert got.message.endswith("é")
    assert 200 < len(got.message.encode()) < 500


def test_a_certificate_that_nobody_vouches_for_is_not_accepted(tmp_path: Path) -> None:
    """Nothing of the lines reaches the receiver."""
    drops = Drops()
    with Rsyslog(tmp_path, "tls") as server:
        limits = Limits(batch_seconds=0.05, retry_seconds=0.05)
        outlet = Syslog(f"localhost:{server.port}", protocol="tls", limits=limits).open("shop", drops)
        outlet.write(line(1))
        outlet.close(0.5)
        assert server.received == []
    assert drops == {"undelivered": 1}


@pytest.mark.parametrize("has_certificate", [True, False])
def test_a_receiver_that_asks_for_a_certificate_gets_the_one_that_is_named(
    tmp_path: Path, has_certificate: bool
) -> None:
    """Without it the lines are not delivered, and not taken for delivered."""
    drops = Drops()
    with Rsyslog(tmp_path, "tls", asks_for_certificate=True) as server:
        certificate = str(server.client_certificate) if has_certificate else None
        outlet = _opened(server, "tls", drops, client_certificate=certificate)
        outlet.write(line(1))
        outlet.close(5 if has_certificate else 0.5)
        if has_certificate:
            _await(server, 1)
        assert len(server.received) == has_certificate
    assert drops == ({} if has_certificate else {"undelivered": 1})
