"""requests: adapters, subclasses, hooks, and urllib3 below."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest
import requests
import urllib3
from requests.adapters import BaseAdapter, HTTPAdapter
from requests.auth import HTTPDigestAuth

import monitoring
from monitoring.calls import HTTPCall
from monitoring.context import current_record
from monitoring.observation import RequestRecord
from monitoring.testing import MemorySink, use


@pytest.fixture
def sink() -> Iterator[MemorySink]:
    sink = MemorySink()
    with use(sink, propagate_to=("*",)):
        record = RequestRecord()
        record.request_id = record.trace_id = "a" * 32
        record.span_id = "b" * 16
        token = current_record.set(record)
        yield sink
        current_record.reset(token)


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        yield monitoring.wrap(session)


@pytest.fixture
def url(http_port: int) -> str:
    return f"http://127.0.0.1:{http_port}"


def calls(sink: MemorySink) -> list[HTTPCall]:
    """Return the requests seen."""
    return cast("list[HTTPCall]", sink.of_kind("http"))


class Canned(BaseAdapter):
    """An adapter that is no HTTPAdapter, and answers without a server."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[requests.PreparedRequest] = []

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        self.sent.append(request)
        response = requests.Response()
        response.status_code, response.request, response.url = 204, request, request.url or ""
        return response

    def close(self) -> None:
        pass


def test_an_adapter_stays_what_it_is(session: requests.Session, sink: MemorySink) -> None:
    """Who asks the session for one gets it, before and after; another session that shares it is not observed."""
    adapter = Canned()
    session.mount("canned://", adapter)
    session.get("canned://host/x")
    with requests.Session() as other:
        other.mount("canned://", adapter)
        other.get("canned://host/x")
    assert session.get_adapter("canned://host/x") is adapter
    assert [(call.host, call.status) for call in calls(sink)] == [("host", 204)]


def test_the_users_request_is_not_changed(session: requests.Session, sink: MemorySink) -> None:
    """What was added was sent, and is neither in the prepared request nor in that of the response, which is it."""
    adapter = Canned()
    session.mount("canned://", adapter)
    prepared = session.prepare_request(requests.Request("GET", "canned://host/x"))
    before = dict(prepared.headers)
    response = session.send(prepared)
    assert "traceparent" in adapter.sent[0].headers
    assert response.request is prepared
    assert dict(prepared.headers) == before


def test_an_exception_holds_the_users_request(session: requests.Session, sink: MemorySink, url: str) -> None:
    """And not the twin that was sent."""
    prepared = session.prepare_request(requests.Request("GET", f"{url}/hang"))
    with pytest.raises(requests.ReadTimeout) as caught:
        session.send(prepared, timeout=0.02)
    assert caught.value.request is prepared
    assert "traceparent" not in prepared.headers


def test_a_subclass_is_observed(sink: MemorySink, url: str) -> None:
    """Its own ``send`` is called as before, and each request that it sends counts."""

    class Twice(requests.Session):
        def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
            super().send(request, **kwargs)
            return super().send(request, **kwargs)

    with Twice() as session:
        monitoring.wrap(session).get(f"{url}/200")
    assert [call.status for call in calls(sink)] == [200, 200]


def test_a_subclass_may_look_at_its_adapter(sink: MemorySink, url: str) -> None:
    """While it sends it gets a stand-in, which is of the adapter's class and has its attributes."""

    class Looking(requests.Session):
        def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
            adapter = self.get_adapter(request.url or "")
            assert isinstance(adapter, HTTPAdapter)
            seen.append(adapter.max_retries.total)
            return super().send(request, **kwargs)

    seen: list[Any] = []
    with Looking() as session:
        monitoring.wrap(session).get(f"{url}/200")
    assert seen == [0]
    assert [call.status for call in calls(sink)] == [200]


def test_hooks_are_called_once(session: requests.Session, sink: MemorySink, url: str) -> None:
    """A request that a hook sends is one of its own, and follows no redirect."""

    def again(response: requests.Response, *_: Any, **__: Any) -> None:
        seen.append(response.url)
        if len(seen) == 1:
            session.get(f"{url}/201")

    seen: list[str] = []
    session.hooks["response"].append(again)
    session.get(f"{url}/200")
    assert seen == [f"{url}/200", f"{url}/201"]
    assert [(call.status, call.redirects) for call in calls(sink)] == [(201, 0), (200, 0)]


def test_the_answer_to_a_challenge_is_a_request(session: requests.Session, sink: MemorySink, url: str) -> None:
    """It is sent past the session, and no redirect."""
    response = session.get(f"{url}/secret", auth=HTTPDigestAuth("u", "p"))
    assert [(call.status, call.redirects) for call in calls(sink)] == [(401, 0), (200, 0)]
    assert isinstance(response.connection, HTTPAdapter)  # type: ignore[attr-defined]


def test_retries_below_are_told(session: requests.Session, sink: MemorySink, url: str) -> None:
    """Where urllib3 is not wrapped, a request that succeeded tells how often it was sent before."""
    retry = urllib3.Retry(total=2, status_forcelist=[503], backoff_factor=0, raise_on_status=False)
    session.mount("http://", HTTPAdapter(max_retries=retry))
    session.get(f"{url}/503")
    assert [(call.status, call.retries) for call in calls(sink)] == [(503, 2)]


def test_with_urllib3_wrapped_each_attempt_counts_once(sink: MemorySink, url: str) -> None:
    """The inner client counts."""
    retry = urllib3.Retry(total=2, status_forcelist=[503], backoff_factor=0, raise_on_status=False)
    adapter = HTTPAdapter(max_retries=retry)
    monitoring.wrap(adapter.poolmanager)
    with requests.Session() as session:
        session.mount("http://", adapter)
        monitoring.wrap(session).get(f"{url}/503")
    assert [(call.status, call.retries) for call in calls(sink)] == [(503, 0), (503, 1), (503, 1)]
    assert len({call.span_id for call in calls(sink)}) == 3


def test_a_redirect_that_is_not_followed_is_one_request(session: requests.Session, sink: MemorySink, url: str) -> None:
    """Also where its successor is prepared for the user, which carries nothing of ours."""
    response = session.get(f"{url}/moved", allow_redirects=False)
    assert [call.status for call in calls(sink)] == [302]
    assert response.next is not None
    assert "traceparent" not in response.next.headers
