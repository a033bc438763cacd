"""One list of claims, run over both edges: request IDs, context, outcomes, numbers, and what a failure may not do."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

import monitoring as package
from monitoring import (
    Config,
    Monitoring,
    MonitoringMiddleware,
    WSGIMonitoringMiddleware,
    bind,
    outbound_headers,
    request_id,
    set_user,
)
from monitoring.context import bound_fields, current_record
from monitoring.observation import Observation
from monitoring.testing import MemorySink
from monitoring.utils.ids import parse_traceparent
from tests.middleware.twins import Answer, Headers, Reply, Twin, in_flight, using

INVALID_IDS = [
    "a\x1b[31mred",
    '<script>"\\',
    "a\tb",
    "\xff\xfe",
    "a b",
    "a,b",
    "id;DROP",
    "0" * 32,
    "00000000-0000-0000-0000-000000000000",
    "urn:uuid:5c1dc2f3-6f61-4b5f-9c4d-0e4d2ad4f6a1",
    "{5c1dc2f3-6f61-4b5f-9c4d-0e4d2ad4f6a1}",
    "x" * 129,
    "x" * 100_000,
]

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"

INVALID_TRACEPARENTS = [
    f"ff-{TRACE}-{PARENT}-01",
    f"00-{'0' * 32}-{PARENT}-01",
    f"00-{TRACE}-{'0' * 16}-01",
    f"00-{TRACE.upper()}-{PARENT}-01",
    f"00-{TRACE}-{PARENT}-01-more",
    f"cc-{TRACE}-{PARENT}-01.more",
    f"00-{TRACE[:-1]}-{PARENT}-01",
    f"00-{TRACE}-{PARENT}",
    f"{TRACE}",
    "",
]


def ask_with(twin: Twin, headers: Headers = (), peer: str | None = "192.0.2.7", **settings: Any) -> tuple[Answer, Any]:
    """Ask a plain app once under these settings; return the answer and the request's record."""
    sink = MemorySink()
    with using(sink, **settings):
        answer = twin.ask(twin.wrap(twin.app(Reply)), "/", headers, peer=peer)
    (observation,) = sink.of_kind("request")
    return answer, observation.request


# Request IDs: where they come from


def test_each_request_gets_a_fresh_id(twin: Twin, monitoring: Monitoring) -> None:
    """Without a header two requests have two IDs, each valid as a trace ID."""
    app = twin.wrap(twin.app(Reply))
    first, second = twin.ask(app).request_id, twin.ask(app).request_id
    assert first != second
    assert len(first) == len(second) == 32
    assert parse_traceparent(f"00-{first}-{PARENT}-01") is not None


def test_the_response_carries_the_id_that_the_app_saw(twin: Twin, monitoring: Monitoring, sink: MemorySink) -> None:
    """The app, the response's header and the observation have the same ID."""
    seen: list[str | None] = []

    def view() -> Reply:
        seen.append(request_id())
        return Reply()

    answer = twin.ask(twin.wrap(twin.app(view)))
    assert seen == [answer.request_id]
    assert sink.observations[0].request is not None
    assert sink.observations[0].request.request_id == answer.request_id


def test_nobody_is_trusted_by_default(twin: Twin) -> None:
    """Without trusted proxies an inbound ID is noted as the client's and another one is used."""
    answer, record = ask_with(twin, [("x-request-id", "from-the-caller")], peer="127.0.0.1")
    assert answer.request_id != "from-the-caller"
    assert record.client_request_id == "from-the-caller"


@pytest.mark.parametrize(
    ("network", "peer"),
    [
        ("10.0.0.0/8", "10.1.2.3"),
        ("10.1.2.3", "10.1.2.3"),
        ("10.1.2.3/8", "10.200.0.1"),
        ("10.0.0.0/8", "::ffff:10.1.2.3"),
        ("2001:db8::/32", "2001:db8::17"),
        ("fe80::/10", "fe80::1%eth0"),
        ("unix", None),
        ("unix", ""),
        ("*", "203.0.113.9"),
        ("*", None),
    ],
)
def test_a_trusted_proxy_s_id_is_taken_over(twin: Twin, network: str, peer: str | None) -> None:
    """Networks, single addresses, IPv6, IPv4 in IPv6, unix sockets and ``*`` are trusted when named."""
    answer, record = ask_with(twin, [("x-request-id", "from-the-proxy")], peer, trusted_proxies=(network,))
    assert answer.request_id == record.request_id == "from-the-proxy"
    assert record.client_request_id == ""


@pytest.mark.parametrize(
    ("network", "peer"),
    [
        ("10.0.0.0/8", "11.0.0.1"),
        ("10.0.0.0/8", "::ffff:11.0.0.1"),
        ("10.0.0.0/8", None),
        ("10.0.0.0/8", "2001:db8::17"),
        ("10.0.0.0/8", "not an address"),
        ("unix", "127.0.0.1"),
        ("2001:db8::/32", "2001:db9::1"),
    ],
)
def test_an_untrusted_peer_s_id_is_only_noted(twin: Twin, network: str, peer: str | None) -> None:
    """A peer outside the named networks cannot choose the request ID."""
    answer, record = ask_with(twin, [("x-request-id", "from-a-stranger")], peer, trusted_proxies=(network,))
    assert answer.request_id != "from-a-stranger"
    assert record.client_request_id == "from-a-stranger"


def test_trust_is_decided_for_each_peer_anew(twin: Twin, sink: MemorySink) -> None:
    """A trusted peer before it does not open the door to a stranger, nor the other way round."""
    with using(sink, trusted_proxies=("10.0.0.0/8",)):
        app = twin.wrap(twin.app(Reply))
        peers = ("10.0.0.1", "192.0.2.1", "10.0.0.1", "192.0.2.1")
        ids = [twin.ask(app, headers=[("x-request-id", "given")], peer=peer).request_id for peer in peers]
    assert [given == "given" for given in ids] == [True, False, True, False]


def test_a_client_s_id_is_clipped(twin: Twin) -> None:
    """What is noted of a stranger's ID is at most 64 characters long."""
    _, record = ask_with(twin, [("x-request-id", "x" * 128)])
    assert record.client_request_id == "x" * 64


@pytest.mark.parametrize("given", INVALID_IDS, ids=range(len(INVALID_IDS)))
def test_an_invalid_id_is_replaced_even_from_a_trusted_proxy(twin: Twin, given: str) -> None:
    """Only 1 to 128 of ``A-Za-z0-9._-`` that are not all zeros are taken over; the rest is noted harmlessly."""
    answer, record = ask_with(twin, [("x-request-id", given)], trusted_proxies=("*",))
    assert answer.status == 200
    assert answer.request_id != given
    assert len(record.client_request_id) <= 64
    assert re.fullmatch("[A-Za-z0-9._?-]*", record.client_request_id)


@pytest.mark.parametrize("given", ["x", "x" * 128, "A.b_c-9", "5c1dc2f3-6f61-4b5f-9c4d-0e4d2ad4f6a1", "0x0"])
def test_a_valid_id_is_taken_over_unchanged(twin: Twin, given: str) -> None:
    """IDs of 1 to 128 allowed characters pass as they are."""
    answer, _ = ask_with(twin, [("x-request-id", given)], trusted_proxies=("*",))
    assert answer.request_id == given


def test_an_empty_id_is_no_id(twin: Twin) -> None:
    """An empty header leads to a fresh ID and to no note."""
    answer, record = ask_with(twin, [("x-request-id", "")], trusted_proxies=("*",))
    assert len(answer.request_id) == 32
    assert record.client_request_id == ""


def test_an_invalid_id_is_warned_about_once_with_the_new_id(
    twin: Twin, caplog: pytest.LogCaptureFixture, monitoring: Monitoring
) -> None:
    """The warning names the ID that was used instead, and a flood of bad IDs is no flood of warnings."""
    app = twin.wrap(twin.app(Reply))
    with caplog.at_level(logging.WARNING, "monitoring.request"):
        answers = [twin.ask(app, headers=[("x-request-id", "bad id")]) for _ in range(3)]
    (warning,) = [record.getMessage() for record in caplog.records if record.name == "monitoring.request"]
    assert answers[0].request_id in warning
    assert "x-request-id" in warning
    assert "bad id" not in warning


def test_the_first_header_that_is_present_wins(twin: Twin) -> None:
    """The sources are read in their order, whatever the order of the headers."""
    headers = [("x-correlation-id", "second"), ("x-request-id", "first")]
    assert ask_with(twin, headers, trusted_proxies=("*",))[0].request_id == "first"
    assert ask_with(twin, headers[:1], trusted_proxies=("*",))[0].request_id == "second"
    settings = {"request_id_sources": ("x-correlation-id", "x-request-id"), "trusted_proxies": ("*",)}
    assert ask_with(twin, headers, **settings)[0].request_id == "second"


def test_a_header_that_is_no_source_is_not_read(twin: Twin) -> None:
    """Only the named sources count."""
    headers = [("x-request-id", "given"), ("cf-ray", "7d0-ams")]
    answer, record = ask_with(twin, headers, trusted_proxies=("*",), request_id_sources=())
    assert len(answer.request_id) == 32
    assert record.client_request_id == ""


@pytest.mark.parametrize(
    ("source", "value", "expected"),
    [
        ("cf-ray", "7d0f2a5c1b2e0c3d-AMS", "7d0f2a5c1b2e0c3d-AMS"),
        ("x-amzn-trace-id", "Root=1-67891233-abcdef012345678912345678", "1-67891233-abcdef012345678912345678"),
        ("x-amzn-trace-id", "Self=1-6-b; Root=1-67891233-abc;Sampled=1", "1-67891233-abc"),
        ("traceparent", f"00-{TRACE}-{PARENT}-01", TRACE),
        ("X-My-Id", "mine", "mine"),
    ],
)
def test_other_headers_can_be_sources(twin: Twin, source: str, value: str, expected: str) -> None:
    """``cf-ray``, the root of ``x-amzn-trace-id``, the trace of ``traceparent`` and any other header work."""
    answer, _ = ask_with(twin, [(source, value)], trusted_proxies=("*",), request_id_sources=(source,))
    assert answer.request_id == expected


def test_an_amazon_trace_without_a_root_is_invalid(twin: Twin) -> None:
    """A trace header that names no root is noted and not taken over."""
    headers = [("x-amzn-trace-id", "Self=1-67891233-abc")]
    answer, record = ask_with(twin, headers, trusted_proxies=("*",), request_id_sources=("x-amzn-trace-id",))
    assert len(answer.request_id) == 32
    assert record.client_request_id == "Self?1-67891233-abc"


@pytest.mark.parametrize("value", INVALID_TRACEPARENTS)
def test_an_invalid_traceparent_is_no_source_of_an_id(twin: Twin, value: str) -> None:
    """A ``traceparent`` that the W3C refuses is not taken over as a text either."""
    answer, _ = ask_with(twin, [("traceparent", value)], trusted_proxies=("*",), request_id_sources=("traceparent",))
    assert answer.request_id not in (value, TRACE)
    assert len(answer.request_id) == 32


def test_reject_answers_400_and_says_what_to_send(twin: Twin, sink: MemorySink) -> None:
    """With ``reject`` an invalid ID is the caller's error: one sentence, the answer's ID, and no call of the app."""
    called: list[bool] = []

    def view() -> Reply:
        called.append(True)
        return Reply()

    with using(sink, on_invalid_request_id="reject"):
        answer = twin.ask(twin.wrap(twin.app(view)), headers=[("x-correlation-id", "bad id")])
    assert (answer.status, called) == (400, [])
    assert len(answer.request_id) == 32
    assert answer.body.decode().startswith("The header x-correlation-id is not usable as a request ID: send ")
    assert answer.values("content-type") == ["text/plain; charset=utf-8"]
    assert answer.values("content-length") == [str(len(answer.body))]


def test_a_rejected_request_is_counted(twin: Twin, sink: MemorySink) -> None:
    """It is a client error like any other, and nothing of it stays in flight."""
    with using(sink, on_invalid_request_id="reject") as monitoring:
        twin.ask(twin.wrap(twin.app(Reply)), "/there", headers=[("x-request-id", "bad id")], method="POST")
        (observation,) = sink.of_kind("request")
        assert in_flight(monitoring, "POST") == 0
    assert observation.outcome == "client_error"
    assert observation.request is not None
    assert (observation.request.status, observation.request.path, observation.request.method) == (400, "/there", "POST")


def test_reject_lets_valid_and_missing_ids_pass(twin: Twin) -> None:
    """Only a present and invalid ID is rejected."""
    assert ask_with(twin, [("x-request-id", "good")], on_invalid_request_id="reject")[0].status == 200
    assert ask_with(twin, [], on_invalid_request_id="reject")[0].status == 200


# Trace context


def test_a_trace_is_continued(twin: Twin) -> None:
    """The caller's trace and span are on record, whoever sent them, and the request ID stays its own."""
    answer, record = ask_with(twin, [("traceparent", f"00-{TRACE}-{PARENT}-00"), ("tracestate", "vendor=1")])
    assert (record.trace_id, record.parent_span_id, record.trace_flags) == (TRACE, PARENT, "00")
    assert record.tracestate == "vendor=1"
    assert record.span_id not in ("", PARENT)
    assert answer.request_id == record.request_id != TRACE


@pytest.mark.parametrize("version", ["00", "01", "cc"])
def test_a_trace_of_a_future_version_is_continued(twin: Twin, version: str) -> None:
    """Versions above 00 are read by the rules of 00, as the W3C asks for."""
    suffix = "" if version == "00" else "-what-the-future-will-bring"
    _, record = ask_with(twin, [("traceparent", f"{version}-{TRACE}-{PARENT}-01{suffix}")])
    assert record.trace_id == TRACE


@pytest.mark.parametrize("value", INVALID_TRACEPARENTS)
def test_an_invalid_traceparent_starts_a_new_trace(twin: Twin, value: str) -> None:
    """Version ff, zeros, upper case and wrong lengths are refused, and their ``tracestate`` with them."""
    _, record = ask_with(twin, [("traceparent", value), ("tracestate", "vendor=1")])
    assert record.trace_id == record.request_id
    assert (record.parent_span_id, record.tracestate) == ("", "")


def test_the_trace_goes_on_to_other_services(twin: Twin, monitoring: Monitoring) -> None:
    """Outbound headers carry the request ID, the trace with this request's own span, and the state."""
    seen: list[dict[str, str]] = []

    def view() -> Reply:
        seen.append(outbound_headers())
        return Reply()

    headers = [("traceparent", f"00-{TRACE}-{PARENT}-01"), ("tracestate", "a=1,b=2")]
    answer = twin.ask(twin.wrap(twin.app(view)), headers=headers)
    (outbound,) = seen
    assert outbound["x-request-id"] == answer.request_id
    assert outbound["tracestate"] == "a=1,b=2"
    version, trace, span, flags = outbound["traceparent"].split("-")
    assert (version, trace, flags) == ("00", TRACE, "01")
    assert span != PARENT


@pytest.mark.parametrize("tracestate", ["vendor=\xe9", "vendor=a\x7fb", "a=\x01"])
def test_a_tracestate_that_cannot_be_sent_is_dropped(twin: Twin, tracestate: str) -> None:
    """What a stranger sends never makes the app's own outbound call fail: HTTP clients refuse such header values."""
    _, record = ask_with(twin, [("traceparent", f"00-{TRACE}-{PARENT}-01"), ("tracestate", tracestate)])
    assert record.trace_id == TRACE
    assert record.tracestate == ""


def test_a_long_tracestate_is_cut_between_its_members(twin: Twin) -> None:
    """At most 512 characters go on, and no member of the list is cut in two."""
    members = [f"vendor{number}={'x' * 60}" for number in range(20)]
    _, record = ask_with(twin, [("traceparent", f"00-{TRACE}-{PARENT}-01"), ("tracestate", ",".join(members))])
    kept = record.tracestate.split(",")
    assert len(record.tracestate) <= 512
    assert kept == members[: len(kept)]


def test_flags_that_have_no_meaning_yet_are_not_passed_on(twin: Twin, monitoring: Monitoring) -> None:
    """Of the caller's flags only what the W3C has defined goes on to other services: sampled, and random."""
    seen: list[str] = []

    def view() -> Reply:
        seen.append(outbound_headers()["traceparent"])
        return Reply()

    twin.ask(twin.wrap(twin.app(view)), headers=[("traceparent", f"00-{TRACE}-{PARENT}-ff")])
    assert seen[0].rpartition("-")[2] in ("01", "03")


# The response's header


def test_the_app_s_own_request_id_header_is_replaced(twin: Twin, monitoring: Monitoring) -> None:
    """The header is set and not appended: there is one, and it is the one in the logs."""
    app = twin.wrap(twin.app(lambda: Reply(headers=[("x-request-id", "from-the-app"), ("x-other", "kept")])))
    answer = twin.ask(app)
    assert answer.request_id != "from-the-app"
    assert answer.values("x-other") == ["kept"]


def test_the_app_s_own_header_is_replaced_in_any_case(twin: Twin, monitoring: Monitoring) -> None:
    """Header names are the same in every case, also where a framework keeps the app's spelling, as Django does."""
    answer = twin.ask(twin.wrap(twin.app(lambda: Reply(headers=[("X-Request-ID", "from-the-app")]))))
    assert answer.request_id != "from-the-app"


def test_a_response_that_is_sent_twice_does_not_collect_ids(twin: Twin, monitoring: Monitoring) -> None:
    """Each time it has one ID, that of the request, and its own headers are left alone."""
    headers = [("x-kind", "cached")]
    app = twin.wrap(twin.app(lambda: Reply(headers=headers)))
    first, second = twin.ask(app), twin.ask(app)
    assert first.request_id != second.request_id
    assert headers == [("x-kind", "cached")]


def test_two_cookies_survive(twin: Twin, monitoring: Monitoring) -> None:
    """A header that comes twice still does, in its order."""
    cookies = [("set-cookie", "a=1"), ("set-cookie", "b=2")]
    answer = twin.ask(twin.wrap(twin.app(lambda: Reply(headers=cookies))))
    assert answer.values("set-cookie") == ["a=1", "b=2"]


def test_the_response_header_has_the_name_that_is_set(twin: Twin) -> None:
    """``request_id_header`` names the header of the response and of outbound calls."""
    with using(request_id_header="X-Correlation-ID") as monitoring:
        seen: list[dict[str, str]] = []

        def view() -> Reply:
            seen.append(monitoring.outbound_headers())
            return Reply()

        answer = twin.ask(twin.wrap(twin.app(view)))
    assert answer.values("x-request-id") == []
    (value,) = answer.values("x-correlation-id")
    assert {name.lower(): given for name, given in seen[0].items()}["x-correlation-id"] == value


# Context


def test_a_streaming_body_sees_the_request(twin: Twin, monitoring: Monitoring) -> None:
    """Code that makes the pieces of a body has the context of its request."""

    def pieces() -> Iterator[bytes]:
        for _ in range(3):
            yield f"{request_id()} ".encode()

    answer = twin.ask(twin.wrap(twin.app(lambda: Reply(pieces()))))
    assert answer.body.decode().split() == [answer.request_id] * 3


@pytest.mark.parametrize("fails", [False, True])
def test_the_context_is_reset_after_the_request(twin: Twin, monitoring: Monitoring, fails: bool) -> None:
    """Outside a request there is no ID, no user, and nothing to send along."""

    def view() -> Reply:
        if fails:
            raise RuntimeError("boom")
        return Reply(iter([b"a", b"b"]))

    twin.ask(twin.wrap(twin.app(view)))
    assert current_record.get() is None
    assert request_id() is None
    assert outbound_headers() == {}


def test_a_user_that_is_set_in_the_view_is_on_the_observation(
    twin: Twin, monitoring: Monitoring, sink: MemorySink
) -> None:
    """The user may become known late; what is not a text is made one."""

    def view() -> Reply:
        set_user(17)
        return Reply()

    twin.ask(twin.wrap(twin.app(view)))
    assert sink.observations[0].request is not None
    assert sink.observations[0].request.user_id == "17"


def test_a_user_that_is_set_while_streaming_is_on_the_observation(
    twin: Twin, monitoring: Monitoring, sink: MemorySink
) -> None:
    """Even the last piece of the body is early enough."""

    def pieces() -> Iterator[bytes]:
        yield b"a"
        set_user("late")
        yield b"b"

    twin.ask(twin.wrap(twin.app(lambda: Reply(pieces()))))
    assert sink.observations[0].request is not None
    assert sink.observations[0].request.user_id == "late"


def test_fields_that_are_bound_in_a_view_end_with_it(twin: Twin, monitoring: Monitoring) -> None:
    """A block of ``bind`` in one request is not seen by the next."""
    seen: list[dict[str, Any]] = []

    def view() -> Reply:
        seen.append(dict(bound_fields()))
        with bind(funder="NSF"):
            seen.append(dict(bound_fields()))
        return Reply()

    app = twin.wrap(twin.app(view))
    twin.ask(app)
    twin.ask(app)
    assert seen == [{}, {"funder": "NSF"}] * 2


# Outcomes and numbers


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, "ok"),
        (204, "ok"),
        (304, "ok"),
        (307, "ok"),
        (400, "client_error"),
        (404, "client_error"),
        (499, "client_error"),
        (500, "server_error"),
        (503, "server_error"),
    ],
)
def test_the_status_of_a_complete_response_is_its_outcome(
    twin: Twin, monitoring: Monitoring, sink: MemorySink, status: int, outcome: str
) -> None:
    """A 404 is finished and not failed; 5xx is the server's."""
    answer = twin.ask(twin.wrap(twin.app(lambda: Reply(status=status))))
    (observation,) = sink.observations
    assert answer.status == status
    assert (observation.kind, observation.outcome, observation.exception) == ("request", outcome, None)


def test_an_exception_before_the_response_is_a_server_error(
    twin: Twin, monitoring: Monitoring, sink: MemorySink
) -> None:
    """It reaches the server as the same object, and the observation has it, with status 500."""
    error = RuntimeError("boom")

    def view() -> Reply:
        raise error

    answer = twin.ask(twin.wrap(twin.app(view)))
    assert answer.error is error
    (observation,) = sink.observations
    assert (observation.kind, observation.outcome) == ("request", "server_error")
    assert observation.exception is error
    assert observation.request is not None
    assert observation.request.status == 500


def test_an_exception_in_the_middle_of_a_body_is_an_error_after_the_start(
    twin: Twin, monitoring: Monitoring, sink: MemorySink
) -> None:
    """The client saw a 200, so the status stays; the outcome does not lie."""
    error = RuntimeError("boom")

    def pieces() -> Iterator[bytes]:
        yield b"first"
        raise error

    answer = twin.ask(twin.wrap(twin.app(lambda: Reply(pieces()))))
    assert answer.error is error
    (observation,) = sink.observations
    assert (observation.outcome, observation.exception) == ("error_after_start", error)
    assert observation.request is not None
    assert (observation.request.status, observation.request.bytes_sent) == (200, 5)


def test_an_exception_remembers_its_request(twin: Twin, monitoring: Monitoring) -> None:
    """What a server logs about it after the request can still name the ID."""

    def view() -> Reply:
        seen.append(request_id())
        raise RuntimeError("boom")

    seen: list[str | None] = []
    answer = twin.ask(twin.wrap(twin.app(view)))
    assert answer.error is not None
    assert answer.error.__monitoring_request__.request_id == seen[0]  # type: ignore[attr-defined]


def test_a_client_that_leaves_in_the_middle_is_no_error(twin: Twin, monitoring: Monitoring, sink: MemorySink) -> None:
    """ASGI apps are told and end, WSGI bodies are closed: no error, and the bytes are those that went out."""
    twin.leave(twin.wrap(twin.app(lambda: Reply(iter([b"first", b"second"])))))
    (observation,) = sink.observations
    assert (observation.outcome, observation.exception) == (twin.left, None)
    assert observation.request is not None
    assert (observation.request.status, observation.request.bytes_sent) == (200, 5)


@pytest.mark.parametrize("body", [[], [b""], [b"hello"], [b"a", b"bc", b"def"], [b"x" * 100_000]])
@pytest.mark.parametrize("streams", [False, True])
def test_the_bytes_of_the_body_are_counted(
    twin: Twin, monitoring: Monitoring, sink: MemorySink, body: list[bytes], streams: bool
) -> None:
    """However the body is cut, its size is that of all pieces, and the pieces arrive unchanged."""
    answer = twin.ask(twin.wrap(twin.app(lambda: Reply(iter(body) if streams else body))))
    assert answer.body == b"".join(body)
    assert sink.observations[0].request is not None
    assert sink.observations[0].request.bytes_sent == len(answer.body)


def test_the_answer_to_head_has_no_bytes(twin: Twin, monitoring: Monitoring, sink: MemorySink) -> None:
    """Servers drop the body of such an answer, so nothing of it was sent."""
    twin.ask(twin.wrap(twin.app(Reply)), method="HEAD")
    assert sink.observations[0].request is not None
    assert sink.observations[0].request.bytes_sent == 0


def test_the_first_byte_is_measured_at_the_start_of_the_response(
    twin: Twin, monitoring: Monitoring, sink: MemorySink
) -> None:
    """A slow body makes the duration long, not the time to first byte."""

    def pieces() -> Iterator[bytes]:
        yield b"a"
        time.sleep(0.02)
        yield b"b"

    twin.ask(twin.wrap(twin.app(lambda: Reply(pieces()))))
    (observation,) = sink.observations
    assert observation.request is not None
    assert 0 < observation.request.first_byte_seconds <= observation.duration_seconds - 0.02


def test_the_time_to_first_byte_is_never_above_the_duration(
    twin: Twin, monitoring: Monitoring, sink: MemorySink
) -> None:
    """Not even for the smallest response that is streamed; only of these it is taken."""
    app = twin.wrap(twin.app(lambda: Reply(iter([b"a", b"b"]))))
    for _ in range(20):
        twin.ask(app)
    for observation in sink.observations:
        assert observation.request is not None
        assert 0 < observation.request.first_byte_seconds <= observation.duration_seconds


@pytest.mark.parametrize(
    ("method", "label"), [("PATCH", "PATCH"), ("QUERY", "QUERY"), ("get", "_OTHER"), ("BREW", "_OTHER")]
)
def test_a_method_that_nobody_defined_is_other(
    twin: Twin, monitoring: Monitoring, sink: MemorySink, method: str, label: str
) -> None:
    """A caller cannot invent label values."""
    twin.ask(twin.wrap(twin.app(Reply)), method=method)
    assert sink.observations[0].request is not None
    assert sink.observations[0].request.method == label


def test_a_path_without_a_route_is_unmatched(twin: Twin, monitoring: Monitoring, sink: MemorySink) -> None:
    """The raw path never becomes a label; it stays on the request's record."""
    twin.ask(twin.wrap(twin.app(Reply)), "/users/17")
    (observation,) = sink.observations
    assert observation.name == "(unmatched)"
    assert observation.request is not None
    assert observation.request.path == "/users/17"


def test_a_request_is_in_flight_until_it_ends(twin: Twin, monitoring: Monitoring) -> None:
    """The gauge is 1 inside the app and 0 after every way to end."""
    seen: list[float] = []

    def fails() -> Reply:
        seen.append(in_flight(monitoring))
        raise RuntimeError("boom")

    def breaks() -> Iterator[bytes]:
        seen.append(in_flight(monitoring))
        yield b"first"
        raise RuntimeError("boom")

    twin.ask(twin.wrap(twin.app(fails)))
    twin.ask(twin.wrap(twin.app(lambda: Reply(breaks()))))
    twin.leave(twin.wrap(twin.app(lambda: Reply(breaks()))))
    assert seen == [1, 1, 1]
    assert in_flight(monitoring) == 0


def test_the_metrics_count_what_was_observed(twin: Twin, monitoring: Monitoring) -> None:
    """Requests are counted by method, route, status and error."""

    def fails() -> Reply:
        raise KeyError("boom")

    twin.ask(twin.wrap(twin.app(Reply)))
    twin.ask(twin.wrap(twin.app(Reply)))
    twin.ask(twin.wrap(twin.app(fails)))
    counts = {
        tuple(one.labels.values()): one.count
        for one in monitoring.metrics.snapshot()["http_server_request_duration_seconds"].series
    }
    assert counts == {("GET", "(unmatched)", "200", ""): 2, ("GET", "(unmatched)", "500", "KeyError"): 1}


# Who acts, and when


def test_without_a_monitoring_everything_passes_through(twin: Twin) -> None:
    """Before ``configure`` the edge adds nothing to a response."""
    assert package.current().edge is None
    answer = twin.ask(twin.wrap(twin.app(Reply)))
    assert (answer.status, answer.headers, answer.body) == (200, [], b"hello")


def test_an_edge_inside_an_edge_does_nothing(twin: Twin, monitoring: Monitoring, sink: MemorySink) -> None:
    """Installed twice it acts once: one ID, one observation."""
    answer = twin.ask(twin.wrap(twin.wrap(twin.app(Reply))))
    assert answer.request_id
    assert len(sink.observations) == 1


def test_an_edge_acts_for_the_monitoring_it_was_given(twin: Twin, monitoring: Monitoring, sink: MemorySink) -> None:
    """Two apps in one process can have a Monitoring each."""
    own_sink = MemorySink()
    own = Monitoring(Config(log_destination=os.devnull, store=None), sinks=[own_sink])
    own.registry.keep_in_memory()
    wrap = MonitoringMiddleware if twin.name == "asgi" else WSGIMonitoringMiddleware
    twin.ask(wrap(twin.app(Reply), own))
    own.close()
    assert (len(own_sink.observations), len(sink.observations)) == (1, 0)


def test_the_edge_follows_the_current_monitoring(twin: Twin) -> None:
    """One that was given none uses the process's at the time of each request."""
    app = twin.wrap(twin.app(Reply))
    first, second = MemorySink(), MemorySink()
    with using(first):
        twin.ask(app)
    with using(second):
        twin.ask(app)
        twin.ask(app)
    assert (len(first.observations), len(second.observations)) == (1, 2)


@pytest.mark.parametrize("root", ["", "/mounted"])
def test_the_own_paths_are_answered_and_not_observed(
    twin: Twin, monitoring: Monitoring, sink: MemorySink, root: str
) -> None:
    """Health and metrics come from the edge, also below a mount, and are no requests of the app."""
    app = twin.wrap(twin.app(Reply))
    assert twin.ask(app, "/health", root=root).body == b'{"status": "pass"}'
    assert twin.ask(app, "/health/live", root=root).status == 200
    assert twin.ask(app, "/metrics", root=root).status == 401
    assert sink.observations == []


def test_a_path_that_only_begins_like_an_own_one_is_the_app_s(
    twin: Twin, monitoring: Monitoring, sink: MemorySink
) -> None:
    """``/healthy`` is not ``/health``."""
    app = twin.wrap(twin.app(Reply))
    assert twin.ask(app, "/healthy").body == b"hello"
    assert twin.ask(app, "/metrics-of-ours").body == b"hello"
    assert len(sink.observations) == 2


def test_own_paths_can_be_moved_and_switched_off(twin: Twin) -> None:
    """None leaves a path to the app; another prefix answers there."""
    with using(health_path="/internal/health", metrics_path=None):
        app = twin.wrap(twin.app(Reply))
        assert twin.ask(app, "/internal/health").body == b'{"status": "pass"}'
        assert twin.ask(app, "/health").body == b"hello"
        assert twin.ask(app, "/metrics").body == b"hello"


# Failures of the pack itself


class BrokenSink(MemorySink):
    """A sink that cannot take anything."""

    def folds(self) -> dict[Any, Any]:
        """Return a fold that fails, for every kind."""

        def fail(observation: Observation) -> None:
            raise OSError("the sink is full")

        return {kind: fail for kind in super().folds()}


def test_a_broken_sink_changes_no_response(twin: Twin, unguarded: Monitoring, sink: MemorySink) -> None:
    """The response is whole, the other sinks get theirs, and the failure is counted."""
    unguarded.recorder.add(BrokenSink())
    answer = twin.ask(twin.wrap(twin.app(lambda: Reply(iter([b"a", b"b"])))))
    assert (answer.status, answer.body, answer.error) == (200, b"ab", None)
    assert len(sink.observations) == 1
    assert sum(unguarded.recorder.failures.values()) == 1
    assert "monitoring_internal_failures_total" in unguarded.metrics.snapshot()


def test_a_broken_sink_does_not_hide_the_app_s_exception(twin: Twin, unguarded: Monitoring) -> None:
    """The app's exception reaches the server, not the sink's."""
    unguarded.recorder.add(BrokenSink())
    error = RuntimeError("boom")

    def view() -> Reply:
        raise error

    assert twin.ask(twin.wrap(twin.app(view))).error is error


def test_a_broken_policy_changes_no_response(
    twin: Twin, unguarded: Monitoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request whose IDs cannot be made is served without them, and the failure is counted."""
    assert unguarded.edge is not None
    monkeypatch.setattr(unguarded.edge.policy, "take_over", _fail)
    answer = twin.ask(twin.wrap(twin.app(Reply)), headers=[("x-request-id", "given")])
    assert (answer.status, answer.body, answer.error) == (200, b"hello", None)
    assert sum(unguarded.recorder.failures.values()) == 1


@pytest.mark.parametrize("fails_in_app", [False, True])
def test_broken_cells_change_no_response(
    twin: Twin, unguarded: Monitoring, monkeypatch: pytest.MonkeyPatch, sink: MemorySink, fails_in_app: bool
) -> None:
    """Where nothing can be counted, not even the failure, the request is served and observed all the same."""
    monkeypatch.setattr(unguarded.registry, "series", _fail)
    error = RuntimeError("boom")

    def view() -> Reply:
        if fails_in_app:
            raise error
        return Reply()

    answer = twin.ask(twin.wrap(twin.app(view)))
    assert answer.error is (error if fails_in_app else None)
    assert fails_in_app or answer.body == b"hello"
    assert len(sink.observations) == 1
    assert unguarded.recorder.failures


def test_the_first_failure_of_a_kind_is_logged_with_its_traceback(
    twin: Twin, unguarded: Monitoring, caplog: pytest.LogCaptureFixture
) -> None:
    """Every one is counted, only the first makes a line."""
    unguarded.recorder.add(BrokenSink())
    app = twin.wrap(twin.app(Reply))
    twin.ask(app)
    twin.ask(app)
    (line,) = [record for record in caplog.records if record.name == "monitoring"]
    assert "the app goes on" in line.getMessage()
    assert line.exc_info is not None
    assert isinstance(line.exc_info[1], OSError)
    assert list(unguarded.recorder.failures.values()) == [2]


def test_in_tests_a_broken_sink_is_not_hidden(twin: Twin, monitoring: Monitoring) -> None:
    """Under ``testing.use`` the failure is raised, naming the part."""
    monitoring.recorder.add(BrokenSink())
    answer = twin.ask(twin.wrap(twin.app(Reply)), headers=[("x-request-id", "given")])
    assert isinstance(answer.error, AssertionError)
    assert "BrokenSink" in str(answer.error)


def test_in_tests_a_broken_policy_is_not_hidden(
    twin: Twin, monitoring: Monitoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under ``testing.use`` the failure is raised, not logged away."""
    assert monitoring.edge is not None
    monkeypatch.setattr(monitoring.edge.policy, "take_over", _fail)
    answer = twin.ask(twin.wrap(twin.app(Reply)), headers=[("x-request-id", "given")])
    assert isinstance(answer.error, AssertionError)


def _fail(*_: Any) -> None:
    raise OSError("broken on purpose")
