"""Lines as syslog messages, and the settings of where they go. What a real daemon reads: test_syslog_received.py."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from monitoring.logs.shipping import Limits, Syslog
from monitoring.logs.shipping.parsing import parsed
from monitoring.logs.shipping.syslog_messages import FACILITIES, cut, local_message, message, name
from tests.support.log_lines import Drops, line


def _message(**fields: Any) -> bytes:
    (read,) = parsed([line(1, **fields)])
    return message(read, FACILITIES["user"], "host-1", "shop")


def test_a_message_has_every_field_of_rfc_5424() -> None:
    """Priority and version, time, host, app, no process, the logger as message ID, IDs, and the line."""
    text = line(1, request_id="r1", user_id="u").rstrip(b"\n")
    assert _message(request_id="r1", user_id="u") == (
        b'<14>1 2026-11-24T10:00:00.000001Z host-1 shop - app [monitoring@32473 request_id="r1" user_id="u"] ' + text
    )


def test_a_line_without_ids_has_no_structured_data() -> None:
    """Nothing is a dash."""
    assert b" - app - {" in _message()


def test_values_of_structured_data_are_escaped() -> None:
    """Quotes, backslashes and closing brackets, and nothing else."""
    assert rb'request_id="a\"\]\\[b"' in _message(request_id='a"]\\[b')


@pytest.mark.parametrize(
    ("level", "severity"), [("debug", 7), ("info", 6), ("warning", 4), ("error", 3), ("critical", 2), ("odd", 6)]
)
def test_levels_are_severities(level: str, severity: int) -> None:
    """By RFC 5424, with the facility times eight."""
    assert _message(level=level).startswith(b"<%d>1 " % (8 + severity))


def test_facilities_have_their_numbers() -> None:
    """All 24 of them."""
    assert len(FACILITIES) == 24
    assert [FACILITIES[one] for one in ("kern", "user", "cron", "authpriv", "local0", "local7")] == [
        0,
        1,
        9,
        10,
        16,
        23,
    ]


def test_fields_of_the_header_are_printable_and_bounded() -> None:
    """A space would begin another field."""
    assert name("my app\né", 48) == "my_app__"
    assert name("x" * 100, 48) == "x" * 48
    assert name("", 48) == "-"


def test_the_local_form_has_time_tag_and_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tag ends at a colon or a bracket, so that it has none itself."""
    import time

    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    (read,) = parsed([line(1, "error", timestamp="2026-03-04T05:06:07.000001Z")])
    assert local_message(read, FACILITIES["daemon"], "a:b[c]") == (b"<27>Mar  4 05:06:07 a_b_c_: " + read.text.encode())


def test_a_cut_leaves_no_character_in_parts() -> None:
    """And what is short enough as it is."""
    text = "aé".encode()
    assert [cut(text, size) for size in (1, 2, 3, 4)] == [b"a", b"a", text, text]


def test_a_datagram_that_nobody_takes_any_more_is_not_lost(tmp_path: Path) -> None:
    """The socket of a daemon that is gone refuses; the next one is connected anew."""
    path = str(tmp_path / "log")
    drops = Drops()
    outlet = Syslog(path, spool=tmp_path / "spool", limits=Limits(retry_seconds=0.01)).open("shop", drops)
    outlet.write(line(1))
    outlet.flush()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.settimeout(15)
        daemon.bind(path)
        outlet.flush()
        outlet.write(line(2))
        outlet.close()
        received = [daemon.recv(65_536) for _ in range(2)]
    assert [one.rpartition(b'"event":"')[2][:7] for one in received] == [b"event 1", b"event 2"]
    assert drops == {}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"address": ""}, "address of Syslog must be 'host', 'host:port' or a path, got ''"),
        ({"address": "h:x"}, "got 'h:x'"),
        ({"address": "h:0"}, "got 'h:0'"),
        ({"address": "h:70000"}, "got 'h:70000'"),
        ({"protocol": "sctp"}, "protocol of Syslog must be 'udp', 'tcp' or 'tls', got 'sctp'"),
        ({"address": "/dev/log", "protocol": "tcp"}, "must be 'udp' for the path of a Unix socket, got 'tcp'"),
        ({"facility": "shop"}, "facility of Syslog must be one of kern, user, .*, got 'shop'"),
        ({"level": "loud"}, "level of Syslog must be one of .*, got 'loud'"),
        ({"max_datagram_bytes": 100}, "max_datagram_bytes of Syslog must be between 480 and 65507, got 100"),
        ({"protocol": "tls", "ca_file": "/no.pem"}, "Syslog cannot use '/no.pem'"),
        ({"protocol": "tls", "client_certificate": "/no.pem"}, "Syslog cannot use '/no.pem'"),
    ],
)
def test_settings_that_cannot_be_used_are_told_in_one_sentence(settings: dict[str, Any], said: str) -> None:
    """When they are given."""
    with pytest.raises(ValueError, match=said):
        Syslog(**{"address": "h", **settings})


@pytest.mark.parametrize(
    ("address", "protocol", "place"),
    [
        ("h", "udp", ("h", 514)),
        ("h", "tcp", ("h", 601)),
        ("h", "tls", ("h", 6514)),
        ("h:5140", "udp", ("h", 5140)),
        ("[::1]:5140", "tcp", ("::1", 5140)),
        ("[::1]", "udp", ("::1", 514)),
        ("/dev/log", "udp", "/dev/log"),
    ],
)
def test_addresses_and_their_ports(address: str, protocol: Any, place: object) -> None:
    """Each protocol has its own."""
    assert Syslog(address, protocol=protocol)._place == place
