"""The canonical line: what it sums up of the calls of its request."""

from __future__ import annotations

import json
from pathlib import Path
from time import perf_counter
from typing import Any

from monitoring.calls import DatabaseCall, HTTPCall
from monitoring.context import current_record
from monitoring.testing import use


def http_call(seconds: float, response_seconds: float) -> HTTPCall:
    """Return a request to another server that has ended."""
    call = HTTPCall(perf_counter() - seconds)
    call.name, call.duration_seconds, call.response_seconds = "GET api.test", seconds, response_seconds
    return call


def lines_of(folder: Path, *calls: list[Any]) -> list[dict[str, Any]]:
    """Serve a request for each list of calls, and return the requests' lines."""
    with use(log_destination=str(folder / "log")) as made:
        assert made.edge is not None
        for some in calls:
            record = made.edge.begin("GET", "/")
            token = current_record.set(record)
            for make in some:
                made.recorder.record(make())
            current_record.reset(token)
            record.status = 200
            made.edge.finish(record, "/")
        made.flush()
    told = map(json.loads, (folder / "log").read_text().splitlines())
    return [line for line in told if line["event"] == "request"]


def test_requests_to_others_are_summed_up_to_the_end_of_their_bodies(tmp_path: Path) -> None:
    """``http_calls`` and ``http_ms`` stand there where there are any; one without a body lasts to its headers."""
    sent = [lambda: http_call(0.1, 0.25), lambda: http_call(0.05, 0.0)]
    with_calls, with_query, without = lines_of(tmp_path, sent, [lambda: DatabaseCall(perf_counter())], [])
    assert (with_calls["http_calls"], with_calls["http_ms"]) == (2, 300.0)
    assert with_query["db_calls"] == 1
    assert ["http_calls" in line for line in (with_query, without)] == [False, False]
