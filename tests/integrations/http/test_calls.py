"""What every HTTP client tells of its requests, whichever library it is of."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from monitoring.calls import HTTPCall
from monitoring.context import current_record, muted
from monitoring.integrations.attachment import inside_llm_call
from monitoring.integrations.http import url_template
from monitoring.observation import RequestRecord
from monitoring.testing import MemorySink, use
from tests.integrations.http.drivers import DRIVERS, Driver, told
from tests.support.processes import free_port

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> Driver:
    """Each of the clients."""
    return DRIVERS[request.param]


@pytest.fixture
def sink() -> Iterator[MemorySink]:
    sink = MemorySink()
    with use(sink, propagate_to=("127.0.0.1",)):
        yield sink


@pytest.fixture
def url(http_port: int) -> str:
    return f"http://127.0.0.1:{http_port}"


def calls(sink: MemorySink) -> list[HTTPCall]:
    """Return the requests seen."""
    return cast("list[HTTPCall]", sink.of_kind("http"))


def run(driver: Driver, scenario: Callable[[Any], Any], **settings: Any) -> Any:
    """Run a scenario with an open, wrapped client."""

    async def with_client() -> Any:
        async with driver.opened(**settings) as client:
            return await scenario(client)

    return asyncio.run(with_client())


def in_request(driver: Driver, scenario: Callable[[Any], Any], **settings: Any) -> Any:
    """Run it within a request."""
    record = RequestRecord()
    record.request_id, record.trace_id, record.span_id = "the-request", TRACE, "b7ad6b7169203331"
    record.tracestate = "vendor=1"
    token = current_record.set(record)
    try:
        return run(driver, scenario, **settings)
    finally:
        current_record.reset(token)


def test_a_request_tells_where_it_went_and_how_long_it_took(
    driver: Driver, sink: MemorySink, url: str, http_port: int
) -> None:
    """The time until the headers is not that until the body's end."""
    body = run(driver, lambda client: driver.get(client, f"{url}/200/some/path?and=more"))
    (call,) = calls(sink)
    assert (call.name, call.method, call.host, call.port) == ("GET 127.0.0.1", "GET", "127.0.0.1", http_port)
    assert (body, call.status, call.outcome, call.error_type) == (b"ok", 200, "ok", "")
    assert 0 < call.duration_seconds <= call.response_seconds


def test_a_body_is_reported_when_it_was_read(driver: Driver, sink: MemorySink, url: str) -> None:
    """A stream lasts as long as its reader reads."""

    async def scenario(client: Any) -> None:
        response = await driver.open(client, f"{url}/stuck", timeout=0.5)
        assert calls(sink) == []
        with pytest.raises(driver.failures):
            await driver.read(response)

    run(driver, scenario)
    (call,) = calls(sink)
    assert (call.status, call.outcome) == (200, "error")
    assert "Timeout" in call.error_type
    assert call.response_seconds > call.duration_seconds


def test_a_body_in_pieces_is_read_as_it_comes(driver: Driver, sink: MemorySink, url: str) -> None:
    """Pieces arrive as they are, and the last ends the call."""

    async def scenario(client: Any) -> bytes:
        return await driver.read(await driver.open(client, f"{url}/chunks"))

    assert run(driver, scenario) == b"onetwo"
    assert [call.outcome for call in calls(sink)] == ["ok"]


def test_a_reader_may_leave_early(driver: Driver, sink: MemorySink, url: str) -> None:
    """A response that is closed before its end is told as such, and is no error."""

    async def scenario(client: Any) -> None:
        await driver.close(await driver.open(client, f"{url}/stuck"))

    run(driver, scenario)
    assert [(call.outcome, call.error_type) for call in calls(sink)] == [("closed_early", "")]


@pytest.mark.filterwarnings("ignore:Unclosed:ResourceWarning")  # aiohttp's
def test_a_response_may_be_dropped(driver: Driver, sink: MemorySink, url: str) -> None:
    """What nobody holds any more is reported, at the latest when its session has closed."""

    async def scenario(client: Any) -> None:
        await driver.open(client, f"{url}/stuck")

    run(driver, scenario)
    gc.collect()
    (call,) = calls(sink)
    assert call.outcome in ("abandoned", "closed_early")


def test_a_body_that_is_cut_is_an_error(driver: Driver, sink: MemorySink, url: str) -> None:
    """It has a status all the same."""

    async def scenario(client: Any) -> None:
        with pytest.raises(driver.failures):
            await driver.read(await driver.open(client, f"{url}/cut"))

    run(driver, scenario)
    (call,) = calls(sink)
    assert (call.status, call.outcome, call.error_type != "") == (200, "error", True)


def test_a_time_out_is_an_error(driver: Driver, sink: MemorySink, url: str) -> None:
    """No response came, so there is no status and no time of its body."""

    async def scenario(client: Any) -> None:
        with pytest.raises(driver.failures):
            await driver.get(client, f"{url}/hang", timeout=0.05)

    run(driver, scenario)
    (call,) = calls(sink)
    assert (call.status, call.outcome, call.response_seconds) == (0, "error", 0.0)
    assert "Timeout" in call.error_type


def test_a_refused_connection_is_an_error(driver: Driver, sink: MemorySink) -> None:
    """It is told with the host that was meant."""

    async def scenario(client: Any) -> None:
        with pytest.raises(driver.failures):
            await driver.get(client, f"http://127.0.0.1:{port}/")

    port = free_port()
    run(driver, scenario)
    (call,) = calls(sink)
    assert (call.host, call.port, call.status, call.outcome) == ("127.0.0.1", port, 0, "error")


def test_each_redirect_is_a_request(driver: Driver, sink: MemorySink, url: str) -> None:
    """The second says that it follows one."""
    run(driver, lambda client: driver.get(client, f"{url}/elsewhere"))
    assert [(call.host, call.status, call.redirects, call.retries) for call in calls(sink)] == [
        ("127.0.0.1", 302, 0, 0),
        ("localhost", 200, 1, 0),
    ]


def test_the_connection_is_kept(driver: Driver, sink: MemorySink, url: str) -> None:
    """A body that was read to its end gives its connection back."""

    async def scenario(client: Any) -> list[str]:
        return [told(await driver.get(client, f"{url}/headers"))["peer"] for _ in range(3)]

    assert len(set(run(driver, scenario))) == 1
    assert len(calls(sink)) == 3


def test_an_upload_in_pieces_is_not_collected(driver: Driver, sink: MemorySink, url: str) -> None:
    """The library takes the pieces one by one, and sends them as such."""

    def pieces() -> Iterator[bytes]:
        yield b"a"
        yield b"b"

    answer = run(driver, lambda client: driver.post_pieces(client, f"{url}/headers", pieces()))
    assert told(answer)["transfer-encoding"] == "chunked"
    assert [call.method for call in calls(sink)] == ["POST"]


def test_the_request_goes_on_to_a_named_host(driver: Driver, sink: MemorySink, url: str) -> None:
    """The callee gets the request's ID, and the call's own span as its parent."""
    headers = told(in_request(driver, lambda client: driver.get(client, f"{url}/headers")))
    (call,) = calls(sink)
    assert (headers["x-request-id"], headers["tracestate"]) == ("the-request", "vendor=1")
    assert headers["traceparent"] == f"00-{TRACE}-{call.span_id}-01"
    assert call.span_id != "b7ad6b7169203331"


def test_each_call_has_a_span_of_its_own(driver: Driver, sink: MemorySink, url: str) -> None:
    """A redirect to a named host is a call, too."""
    headers = told(in_request(driver, lambda client: driver.get(client, f"{url}/moved")))
    first, second = calls(sink)
    assert "" not in (first.span_id, second.span_id)
    assert first.span_id != second.span_id
    assert headers["traceparent"] == f"00-{TRACE}-{second.span_id}-01"


def test_a_redirect_takes_nothing_to_another_host(driver: Driver, sink: MemorySink, url: str) -> None:
    """Neither the ID nor the trace reaches who is not named."""
    headers = told(in_request(driver, lambda client: driver.get(client, f"{url}/elsewhere")))
    assert not {"x-request-id", "traceparent", "tracestate"} & set(headers)
    assert [call.span_id != "" for call in calls(sink)] == [True, False]


def test_a_redirect_from_another_host_is_told(driver: Driver, url: str, http_port: int) -> None:
    """Each host is judged by itself."""
    sink = MemorySink()
    with use(sink, propagate_to=("localhost",)):
        headers = told(in_request(driver, lambda client: driver.get(client, f"{url}/elsewhere")))
    assert headers["x-request-id"] == "the-request"
    assert [call.span_id != "" for call in calls(sink)] == [False, True]


def test_the_callers_own_headers_win(driver: Driver, sink: MemorySink, url: str) -> None:
    """Whoever sets them, in whatever case, has them sent, and a trace of his own is not mixed with ours."""
    own = {"X-Request-ID": "mine", "Traceparent": f"00-{TRACE[::-1]}-00f067aa0ba902b7-01"}
    before = dict(own)
    headers = told(in_request(driver, lambda client: driver.get(client, f"{url}/headers", own)))
    assert (headers["x-request-id"], headers["traceparent"]) == ("mine", own["Traceparent"])
    assert "tracestate" not in headers
    assert own == before


def test_the_users_headers_are_not_changed(driver: Driver, sink: MemorySink, url: str) -> None:
    """A mapping that is used for many requests does not collect ours."""
    own = {"accept": "text/plain"}
    headers = told(in_request(driver, lambda client: driver.get(client, f"{url}/headers", own)))
    assert "x-request-id" in headers
    assert own == {"accept": "text/plain"}


def test_outside_a_request_nothing_goes_on(driver: Driver, sink: MemorySink, url: str) -> None:
    """There is nothing to send."""
    headers = told(run(driver, lambda client: driver.get(client, f"{url}/headers")))
    assert not {"x-request-id", "traceparent"} & set(headers)
    assert [call.span_id for call in calls(sink)] == [""]


def test_the_template_of_a_url_is_a_label(driver: Driver, sink: MemorySink, url: str) -> None:
    """It holds for the block."""

    async def scenario(client: Any) -> None:
        with url_template("/200/{id}"):
            await driver.get(client, f"{url}/200/7")
        await driver.get(client, f"{url}/200/8")

    run(driver, scenario)
    assert [call.url_template for call in calls(sink)] == ["/200/{id}", ""]


def test_quotas_are_read(driver: Driver, sink: MemorySink, url: str) -> None:
    """Numbers of the response's headers."""
    run(driver, lambda client: driver.get(client, f"{url}/limited"))
    (call,) = calls(sink)
    assert set(call.quotas) == {("limit", "default", 100), ("remaining", "default", 42), ("limit", "burst", 10)}


def test_what_a_model_is_asked_by_is_not_counted(driver: Driver, sink: MemorySink, url: str) -> None:
    """The LLM adapter reports the call."""

    async def scenario(client: Any) -> None:
        token = inside_llm_call.set(True)
        await driver.get(client, f"{url}/200")
        inside_llm_call.reset(token)

    run(driver, scenario)
    assert calls(sink) == []


def test_a_muted_request_carries_nothing_on(driver: Driver, sink: MemorySink, url: str) -> None:
    """The pack's own requests are nobody's business."""

    async def scenario(client: Any) -> bytes:
        with muted():
            return await driver.get(client, f"{url}/headers")

    assert "traceparent" not in told(in_request(driver, scenario))


@pytest.mark.parametrize("name", [name for name in DRIVERS if name == "aiohttp" or name.endswith("async")])
def test_a_reader_may_be_cancelled(name: str, sink: MemorySink, url: str) -> None:
    """The body of a cancelled reader ends as cancelled."""
    driver = DRIVERS[name]

    async def scenario(client: Any) -> None:
        response = await driver.open(client, f"{url}/stuck")
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(driver.read(response), 0.05)
        await driver.close(response)

    run(driver, scenario)
    assert [(call.status, call.outcome) for call in calls(sink)] == [(200, "cancelled")]


@pytest.mark.parametrize("name", [name for name in DRIVERS if name == "aiohttp" or name.endswith("async")])
def test_requests_at_the_same_time_do_not_mix(name: str, sink: MemorySink, url: str) -> None:
    """Each task's template is on its own call."""
    driver = DRIVERS[name]

    async def one(client: Any, number: int) -> None:
        with url_template(f"/{number}"):
            await driver.get(client, f"{url}/{200 + number}")

    async def scenario(client: Any) -> None:
        await asyncio.gather(*(one(client, number) for number in range(1, 4)))

    run(driver, scenario)
    assert sorted((call.url_template, call.status) for call in calls(sink)) == [("/1", 201), ("/2", 202), ("/3", 203)]
