"""urllib3: retries, pools of a manager, proxies, and connections that are given back."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import cast

import pytest
import urllib3

import monitoring
from monitoring.calls import HTTPCall
from monitoring.testing import MemorySink, use


@pytest.fixture
def sink() -> Iterator[MemorySink]:
    sink = MemorySink()
    with use(sink):
        yield sink


@pytest.fixture
def url(http_port: int) -> str:
    return f"http://127.0.0.1:{http_port}"


def calls(sink: MemorySink) -> list[HTTPCall]:
    """Return the requests seen."""
    return cast("list[HTTPCall]", sink.of_kind("http"))


def test_each_attempt_is_a_request(sink: MemorySink, url: str) -> None:
    """The first is none that was sent again; the others say why they were."""
    retry = urllib3.Retry(total=2, status_forcelist=[503], backoff_factor=0, raise_on_status=False)
    with urllib3.PoolManager(retries=retry) as manager:
        monitoring.wrap(manager).request("GET", f"{url}/503")
    assert [(call.status, call.retries, call.redirects) for call in calls(sink)] == [
        (503, 0, 0),
        (503, 1, 0),
        (503, 1, 0),
    ]


def test_attempts_that_fail_are_told_too(sink: MemorySink, url: str) -> None:
    """Each time-out has its own error, although urllib3 raises one in the end."""
    retry = urllib3.Retry(total=1, backoff_factor=0)
    with urllib3.PoolManager() as manager, pytest.raises(urllib3.exceptions.MaxRetryError):
        monitoring.wrap(manager).request("GET", f"{url}/hang", timeout=0.02, retries=retry)
    assert [(call.error_type, call.retries) for call in calls(sink)] == [
        ("ReadTimeoutError", 0),
        ("ReadTimeoutError", 1),
    ]


def test_pools_that_were_there_before_are_observed(sink: MemorySink, url: str) -> None:
    """And left as they were, by ``unwrap``, also where somebody holds one."""
    with urllib3.PoolManager() as manager:
        pool = manager.connection_from_url(url)
        before = dict(vars(pool))
        monitoring.wrap(manager).request("GET", f"{url}/200")
        assert vars(pool).keys() != before.keys()
        monitoring.unwrap(manager)
        assert vars(pool).keys() == before.keys()
        pool.request("GET", "/200")
    assert len(calls(sink)) == 1


def test_a_pool_wrapped_by_itself_and_by_its_manager_counts_once(sink: MemorySink, url: str) -> None:
    """Whichever came first."""
    with urllib3.PoolManager() as manager:
        monitoring.wrap(manager.connection_from_url(url))
        monitoring.wrap(manager).request("GET", f"{url}/200")
        monitoring.wrap(manager.connection_from_url(url))
        manager.request("GET", f"{url}/200")
    assert len(calls(sink)) == 2


def test_a_pool_is_dropped_at_once(sink: MemorySink, url: str) -> None:
    """It closes its connections when nobody holds it: being observed, it is in no cycle."""
    gc.disable()
    try:
        pool = monitoring.wrap(urllib3.connection_from_url(url))
        pool.request("GET", "/200")
        dropped = weakref.ref(pool)
        del pool
        assert dropped() is None
    finally:
        gc.enable()


def test_a_dropped_response_is_told_at_once(sink: MemorySink, url: str) -> None:
    """It is in no cycle either."""
    gc.disable()
    try:
        with urllib3.PoolManager() as manager:
            response = monitoring.wrap(manager).request("GET", f"{url}/stuck", preload_content=False)
            assert calls(sink) == []
            del response
            assert len(calls(sink)) == 1
    finally:
        gc.enable()


def test_a_forwarding_proxy_is_not_the_host(sink: MemorySink, http_port: int) -> None:
    """What counts is whom the URL names."""
    with urllib3.ProxyManager(f"http://127.0.0.1:{http_port}") as manager:
        monitoring.wrap(manager).request("GET", "http://api.test:81/x", retries=False, timeout=5)
    assert [(call.host, call.port, call.status) for call in calls(sink)] == [("api.test", 81, 200)]


def test_a_response_is_still_a_response(sink: MemorySink, url: str) -> None:
    """Of its class, with its bytes as the user reads them."""
    with urllib3.PoolManager() as manager:
        response = monitoring.wrap(manager).request("GET", f"{url}/200", preload_content=False)
        assert isinstance(response, urllib3.HTTPResponse)
        assert (response.read(1), response.read(1), response.read(1)) == (b"o", b"k", b"")
        response.release_conn()
    assert [call.outcome for call in calls(sink)] == ["ok"]


def test_urllib3_1_is_refused() -> None:
    """Its pools are made otherwise, and the message says so."""

    class Old(urllib3.HTTPConnectionPool):
        def _make_request(self, conn, method, url, timeout=None, chunked=False, **rest):  # type: ignore[no-untyped-def, override]
            ...

    with pytest.raises(TypeError, match="urllib3 before"):
        monitoring.wrap(Old("127.0.0.1"))
