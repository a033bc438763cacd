"""Lines in the form of Loki's push API."""

from __future__ import annotations

import gzip
import json
import socket
from typing import Any

import pytest

from monitoring.logs.shipping import Loki
from tests.support.log_lines import Drops, line
from tests.support.log_receiver import loki_lines
from tests.support.receivers import hooks

HOST = socket.gethostname()


def _pushed(lines: list[bytes], **settings: Any) -> tuple[dict[str, str], bytes]:
    """Return the headers and the body of the push of lines."""
    with hooks() as receiver:
        receiver.status = 204
        outlet = Loki(receiver.url, **settings).open("shop", Drops())
        for one in lines:
            outlet.write(one)
        outlet.close()
        ((headers, body),) = receiver.requests
    return headers, gzip.decompress(body)


def test_lines_go_in_streams_by_service_level_host_and_the_labels_that_are_given() -> None:
    """Each as it is, with its time in nanoseconds."""
    lines = [line(1), line(2, "error"), line(3), line(4, service="other")]
    _, body = _pushed(lines, labels={"env": "test"})
    texts = [one.decode().rstrip("\n") for one in lines]
    times = [str(1_795_514_400_000_000_000 + number * 1000) for number in range(1, 5)]
    common = {"host": HOST, "env": "test"}
    assert json.loads(body)["streams"] == [
        {
            "stream": {"service": "shop", "level": "info", **common},
            "values": [[times[0], texts[0]], [times[2], texts[2]]],
        },
        {"stream": {"service": "shop", "level": "error", **common}, "values": [[times[1], texts[1]]]},
        {"stream": {"service": "other", "level": "info", **common}, "values": [[times[3], texts[3]]]},
    ]
    assert sorted(loki_lines(body)) == sorted(texts)


def test_within_a_stream_times_rise_and_no_two_are_the_same() -> None:
    """Loki takes two equal lines of one time for one, and threads may hand lines over out of order."""
    _, body = _pushed([line(5), line(5), line(3), line(5), line(4)])
    (stream,) = json.loads(body)["streams"]
    first = 1_795_514_400_000_000_000
    assert [int(time) - first for time, _ in stream["values"]] == [3000, 4000, 5000, 5001, 5002]
    assert len(loki_lines(body)) == 5


def test_the_same_lines_give_the_same_push() -> None:
    """So Loki knows them again where a batch is sent once more because its answer was lost."""
    lines = [line(number % 7) for number in range(50)]
    assert _pushed(lines)[1] == _pushed(lines)[1]


def test_a_line_that_is_no_json_is_pushed_all_the_same() -> None:
    """As information of the present."""
    _, body = _pushed([b"plain \xff text\n", b"[1]\n"])
    (stream,) = json.loads(body)["streams"]
    assert stream["stream"] == {"service": "shop", "level": "info", "host": HOST}
    assert loki_lines(body) == ["plain \ufffd text", "[1]"]


def test_the_tenant_is_named_in_its_header() -> None:
    """Loki keeps tenants apart by it."""
    headers, _ = _pushed([line(1)], tenant="team-a")
    assert headers["x-scope-orgid"] == "team-a"
    headers, _ = _pushed([line(1)])
    assert "x-scope-orgid" not in headers


@pytest.mark.parametrize("labels", [{"a-b": "x"}, {"1a": "x"}, {"__a": "x"}, {"": "x"}, {"level": "x"}, {"n": 1}])
def test_a_label_that_loki_would_not_take_is_told(labels: dict[str, Any]) -> None:
    """One sentence, when it is given."""
    with pytest.raises(ValueError, match=r"^labels of Loki must be names such as 'env', .*, got '.*'\.$"):
        Loki("http://h", labels=labels)
