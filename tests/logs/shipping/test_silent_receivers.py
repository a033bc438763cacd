"""Receivers that accept a connection and never say a word: they cost the app nothing but the bounded queue."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from monitoring.logs.outlets import Handler, is_handler
from monitoring.logs.shipping import OTLP, Limits, Loki, Syslog
from monitoring.logs.shipping.spool import Spool, lines_of
from tests.support.log_lines import Drops, lines

SENT = 5_000
LIMITS = Limits(queue_lines=100, batch_lines=10, timeout_seconds=60)

HANDLERS = [
    pytest.param(lambda port, spool: Loki(f"http://127.0.0.1:{port}", limits=LIMITS, spool=spool), id="loki"),
    pytest.param(lambda port, spool: OTLP(f"http://127.0.0.1:{port}", limits=LIMITS, spool=spool), id="otlp"),
    pytest.param(lambda port, spool: OTLP(f"https://127.0.0.1:{port}", limits=LIMITS, spool=spool), id="https"),
    pytest.param(
        lambda port, spool: Syslog(f"127.0.0.1:{port}", protocol="tls", limits=LIMITS, spool=spool), id="syslog-tls"
    ),
]
Make = Callable[[int, Path | None], Handler]


@pytest.fixture
def port() -> Iterator[int]:
    """Listen, and leave every connection unanswered."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def _threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("monitoring-logs-")]


@pytest.mark.parametrize("make", HANDLERS)
def test_each_line_that_is_not_kept_is_counted(port: int, make: Make) -> None:
    """No write waits for the receiver: all of them return while it hangs, for it never does anything else."""
    handler, drops = make(port, None), Drops()
    assert is_handler(handler)
    outlet = handler.open("shop", drops)
    for one in lines(range(SENT)):
        outlet.write(one)
    outlet.close(0.3)
    assert _threads() == []
    kept = drops["undelivered"]
    assert LIMITS.queue_lines <= kept <= LIMITS.queue_lines + LIMITS.batch_lines
    assert drops == {"queue_full": SENT - kept, "undelivered": kept}


@pytest.mark.parametrize("make", HANDLERS)
def test_with_a_spool_what_is_kept_is_on_disk_when_close_returns(port: int, make: Make, tmp_path: Path) -> None:
    """For the next process; sent = dropped + spooled."""
    drops = Drops()
    outlet = make(port, tmp_path).open("shop", drops)
    for one in lines(range(SENT)):
        outlet.write(one)
    outlet.close(0.3)
    (folder,) = tmp_path.iterdir()
    assert sum(map(lines_of, Spool(folder, 1).batches())) == SENT - drops["queue_full"]
    assert set(drops) == {"queue_full"}
