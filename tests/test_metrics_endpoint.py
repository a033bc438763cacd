"""The /metrics sub-app: who may see it, what it answers, and that a scrape is never stale. ASGI and WSGI alike."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest

from monitoring import Monitoring
from monitoring.cells import Totals
from monitoring.exposition import CLASSIC, OPENMETRICS
from monitoring.testing import use

TOKEN = "correct horse"
LOCAL = ("127.0.0.1", 50_000)
REMOTE = ("203.0.113.7", 50_000)


@dataclass
class Answer:
    """What a client got."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Call:
    """A request to the sub-app; a header that is given twice is two pairs."""

    method: str = "GET"
    headers: list[tuple[str, str]] = field(default_factory=lambda: [("host", "localhost:8000")])
    client: tuple[str, int] | None = LOCAL

    def with_headers(self, **headers: str) -> Call:
        """Return the same request with more headers; underscores stand for dashes."""
        more = [(name.replace("_", "-"), value) for name, value in headers.items()]
        return Call(self.method, [*self.headers, *more], self.client)


Ask = Callable[[Monitoring, Call], Answer]


def ask_asgi(m: Monitoring, call: Call) -> Answer:
    """Call the ASGI form."""
    messages: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        messages.append(message)

    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "method": call.method,
        "path": "/metrics",
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in call.headers],
        "client": call.client,
    }
    asyncio.run(m.metrics_app()(scope, receive, send))
    headers = {name.decode(): value.decode() for name, value in messages[0]["headers"]}
    return Answer(messages[0]["status"], headers, b"".join(message.get("body", b"") for message in messages[1:]))


def ask_wsgi(m: Monitoring, call: Call) -> Answer:
    """Call the WSGI form. Headers given twice are joined, as servers do."""
    environ: dict[str, Any] = {}
    setup_testing_defaults(environ)
    del environ["HTTP_HOST"]
    for name, value in call.headers:
        key = f"HTTP_{name.upper().replace('-', '_')}"
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    environ |= {"REQUEST_METHOD": call.method, "PATH_INFO": "/metrics", "wsgi.input": BytesIO()}
    if call.client:
        environ["REMOTE_ADDR"] = call.client[0]
    started: list[Any] = []
    body = b"".join(m.metrics_wsgi_app()(environ, lambda status, headers: started.extend((status, headers))))
    return Answer(int(started[0].split()[0]), {name.lower(): value for name, value in started[1]}, body)


@pytest.fixture(params=[ask_asgi, ask_wsgi], ids=["ASGI", "WSGI"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Return the way to call one of the two forms."""
    way: Ask = request.param
    return way


@pytest.fixture
def public() -> Iterator[Monitoring]:
    """Return a Monitoring whose metrics are open to anybody, with one job counted."""
    with use(metrics_public=True) as m:
        m.counter("jobs_total", "Jobs.").inc()
        yield m


def test_metrics_are_closed_by_default(ask: Ask) -> None:
    """Without a token, a setting or an authorize function nobody sees them, in production not even from here."""
    with use() as m:
        answer = ask(m, Call())

    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert b"MONITORING_TOKEN" in answer.body
    assert b"monitoring_" not in answer.body


def test_the_token_opens_them(ask: Ask) -> None:
    """From anywhere, with the scheme in any case."""
    with use(token=TOKEN) as m:
        m.counter("jobs_total", "Jobs.").inc()
        for scheme in ("Bearer", "bearer", "BEARER"):
            call = Call(client=REMOTE).with_headers(authorization=f"{scheme} {TOKEN}")
            answer = ask(m, call)
            assert answer.status == 200
            assert b"jobs_total 1.0" in answer.body


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer ", "Bearer wrong horse", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}",
     f"Bearer {TOKEN.upper()}", "Bearer ü"],
)  # fmt: skip
def test_anything_but_the_token_does_not(ask: Ask, authorization: str) -> None:
    """Near misses and other schemes are refused like no token at all."""
    with use(token=TOKEN) as m:
        assert ask(m, Call().with_headers(authorization=authorization)).status == 401


def test_without_a_token_set_no_token_opens_them(ask: Ask) -> None:
    """An empty or guessed bearer is nobody's."""
    with use() as m:
        for authorization in ("Bearer", "Bearer ", "Bearer None", "Bearer null"):
            assert ask(m, Call().with_headers(authorization=authorization)).status == 401


def test_metrics_public_opens_them_to_anybody(ask: Ask, public: Monitoring) -> None:
    """The setting asks for nothing."""
    assert ask(public, Call(client=REMOTE, headers=[])).status == 200


def test_a_caller_on_this_machine_sees_them_in_development(ask: Ask) -> None:
    """The developer needs no token, in IPv4 or IPv6, with or without a port in Host."""
    with use(environment="development") as m:
        for client in ("127.0.0.1", "127.8.9.10", "::1"):
            for host in ("localhost", "localhost:8000", "LOCALHOST:8000", "127.0.0.1:8000", "[::1]:8000", "[::1]"):
                answer = ask(m, Call(client=(client, 1), headers=[("host", host)]))
                assert answer.status == 200, (client, host)


@pytest.mark.parametrize(
    "header",
    [
        ("forwarded", "for=192.0.2.60"),
        ("x-forwarded-for", "192.0.2.60"),
        ("X-Forwarded-For", ""),
        ("x-forwarded-host", "example.org"),
        ("x-forwarded-proto", "https"),
        ("via", "1.1 proxy"),
    ],
)
def test_a_proxy_on_this_machine_is_no_caller_on_it(ask: Ask, header: tuple[str, str]) -> None:
    """Behind a proxy everybody comes from loopback; its headers give it away."""
    with use(environment="development") as m:
        assert ask(m, Call(headers=[("host", "localhost"), header])).status == 401


@pytest.mark.parametrize(
    "host", ["example.org", "example.org:8000", "localhost.example.org", "127.0.0.1.example.org", "0x7f.1", ""]
)
def test_a_foreign_host_is_refused_in_development(ask: Ask, host: str) -> None:
    """DNS rebinding makes any web page a caller on this machine, but cannot hide its Host."""
    with use(environment="development") as m:
        assert ask(m, Call(headers=[("host", host)])).status == 401


def test_no_host_and_two_hosts_are_refused_in_development(ask: Ask) -> None:
    """Who does not say where it thinks to be, or says it twice, is not trusted."""
    with use(environment="development") as m:
        assert ask(m, Call(headers=[])).status == 401
        assert ask(m, Call(headers=[("host", "localhost"), ("host", "example.org")])).status == 401


@pytest.mark.parametrize(
    "client", [REMOTE, ("10.0.0.1", 1), ("testclient", 1), ("", 0), None, ("::ffff:203.0.113.7", 1)]
)
def test_a_caller_elsewhere_is_refused_in_development(ask: Ask, client: tuple[str, int] | None) -> None:
    """Another machine, an unknown one and a unix socket's are not this one."""
    with use(environment="development") as m:
        assert ask(m, Call(client=client)).status == 401


def test_the_token_opens_them_in_development_too(ask: Ask) -> None:
    """A proxied or remote caller with the token is let in."""
    with use(environment="development", token=TOKEN) as m:
        call = Call(client=REMOTE).with_headers(via="1.1 proxy", authorization=f"Bearer {TOKEN}")
        assert ask(m, call).status == 200


def test_authorize_decides_by_the_scope(ask: Ask) -> None:
    """The app's own function sees the request and has the say, also over callers on this machine."""
    seen: list[Any] = []

    def authorize(scope: Any) -> bool:
        seen.append((scope["path"], scope["client"][0], threading.current_thread() is threading.main_thread()))
        return dict(scope["headers"]).get(b"x-staff") == b"yes"

    with use(environment="development", authorize=authorize) as m:
        assert ask(m, Call()).status == 401
        assert ask(m, Call().with_headers(x_staff="yes")).status == 200

    assert seen == [("/metrics", "127.0.0.1", False)] * 2, "a blocking function must not run on the event loop"


def test_authorize_may_be_async(ask: Ask) -> None:
    """A coroutine function is awaited, and so is what a plain function returns to be awaited."""

    async def authorize(scope: Any) -> bool:
        await asyncio.sleep(0)
        return dict(scope["headers"]).get(b"x-staff") == b"yes"

    for form in (authorize, lambda scope: authorize(scope)):
        with use(authorize=form) as m:
            assert ask(m, Call()).status == 401
            assert ask(m, Call().with_headers(x_staff="yes")).status == 200


def test_the_token_needs_no_leave_of_authorize(ask: Ask) -> None:
    """A scraper with the token is let in without asking the app."""
    with use(token=TOKEN, authorize=lambda scope: False) as m:
        assert ask(m, Call().with_headers(authorization=f"Bearer {TOKEN}")).status == 200


def test_an_authorize_that_fails_lets_nobody_in(ask: Ask) -> None:
    """Its exception goes to the app's server and is no answer."""

    def authorize(scope: Any) -> bool:
        raise KeyError("session")

    with use(authorize=authorize) as m, pytest.raises(KeyError, match="session"):
        ask(m, Call())


@pytest.mark.parametrize(
    ("accept", "content_type", "last"),
    [
        ("application/openmetrics-text;version=1.0.0,text/plain;q=0.5", OPENMETRICS, b"# EOF\n"),
        ("text/plain", CLASSIC, b"\n"),
        ("*/*", CLASSIC, b"\n"),
    ],
)
def test_the_answer_is_in_the_format_asked_for(
    ask: Ask, public: Monitoring, accept: str, content_type: str, last: bytes
) -> None:
    """The content type says which, and is what Prometheus expects."""
    answer = ask(public, Call().with_headers(accept=accept))

    assert answer.status == 200
    assert answer.headers["content-type"] == content_type
    assert answer.headers["content-length"] == str(len(answer.body))
    assert answer.body.endswith(last)
    assert (b"# EOF" in answer.body) == (content_type == OPENMETRICS)


def test_head_answers_like_get(ask: Ask, public: Monitoring) -> None:
    """A probe of the path sees the status and the type."""
    answer = ask(public, Call(method="HEAD"))

    assert answer.status == 200
    assert answer.headers["content-type"] == CLASSIC
    assert int(answer.headers["content-length"]) > 100


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"])
def test_other_methods_are_refused_with_those_that_work(ask: Ask, public: Monitoring, method: str) -> None:
    """405 names what is allowed."""
    answer = ask(public, Call(method=method))

    assert (answer.status, answer.headers["allow"], answer.body) == (405, "GET, HEAD", b"Use GET.")


def test_both_forms_give_the_same_answer() -> None:
    """The WSGI form is the ASGI form: same status, headers and families, for everything a client may send."""
    calls = [
        Call(),
        Call(method="POST"),
        Call(client=REMOTE),
        Call().with_headers(authorization=f"Bearer {TOKEN}"),
        Call().with_headers(authorization=f"Bearer {TOKEN}", accept="application/openmetrics-text"),
        Call(method="HEAD").with_headers(authorization=f"Bearer {TOKEN}"),
    ]
    with use(token=TOKEN) as m:
        m.counter("jobs_total", "Jobs.", ["kind"]).labels("Zürich").inc()
        for call in calls:
            asgi, wsgi = ask_asgi(m, call), ask_wsgi(m, call)
            assert asgi.status == wsgi.status
            for volatile in ("content-length",):
                asgi.headers.pop(volatile), wsgi.headers.pop(volatile)
            assert asgi.headers == wsgi.headers
            sent = b"" if call.method == "HEAD" else asgi.body  # ASGI servers drop it themselves, WSGI servers do not
            assert _without_numbers(sent) == _without_numbers(wsgi.body)


def _without_numbers(body: bytes) -> list[str]:
    return [line.rpartition(" ")[0] for line in body.decode().splitlines()]


def test_each_scrape_is_of_its_own_moment(ask: Ask, public: Monitoring) -> None:
    """Nothing is served from before the scrape came: a count that is done is in the next scrape, at once."""
    jobs = public.counter("jobs_total", "Jobs.")
    for expected in range(2, 12):
        jobs.inc()
        assert f"jobs_total {expected}.0\n".encode() in ask(public, Call()).body


class SlowTotals:
    """Stands in for ``totals_with_state``: sums, then holds the sum back until told."""

    def __init__(self, m: Monitoring, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = 0
        self.summed, self.go_on = threading.Event(), threading.Event()
        self._sum = m.metrics.totals_with_state
        monkeypatch.setattr(m.metrics, "totals_with_state", self)

    def __call__(self) -> Totals:
        totals = self._sum()
        self.calls += 1
        self.summed.set()
        assert self.go_on.wait(10)
        return totals


def test_waiting_scrapes_share_the_next_rendering_and_never_a_stale_one(
    public: Monitoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten scrapes that come during one cost one rendering more, which holds what was counted before they came."""
    slow, app = SlowTotals(public, monkeypatch), public.metrics_app()

    def scrape() -> bytes:
        return asyncio.run(_get(app))

    with ThreadPoolExecutor(11) as threads:
        first: Future[bytes] = threads.submit(scrape)
        assert slow.summed.wait(10)
        public.counter("jobs_total", "Jobs.").inc()
        waiting = [threads.submit(scrape) for _ in range(10)]
        time.sleep(0.2)
        slow.go_on.set()
        bodies = [scrape_of_ten.result(10) for scrape_of_ten in waiting]

    assert b"jobs_total 1.0\n" in first.result()
    assert all(b"jobs_total 2.0\n" in body for body in bodies)
    assert slow.calls == 2


async def _get(app: Any, accept: str = "text/plain") -> bytes:
    body = bytearray()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        body.extend(message.get("body", b""))

    await app({"type": "http", "method": "GET", "path": "/", "headers": [(b"accept", accept.encode())]}, receive, send)
    return bytes(body)


def test_the_two_formats_are_not_mixed_up(public: Monitoring) -> None:
    """A shared rendering is shared among scrapers of one format only."""

    async def both() -> list[bytes]:
        app = public.metrics_app()
        accepts = ["text/plain", "application/openmetrics-text"] * 10
        return list(await asyncio.gather(*(_get(app, accept) for accept in accepts)))

    bodies = asyncio.run(both())
    assert [b"# EOF" in body for body in bodies] == [False, True] * 10


def test_a_rendering_does_not_stop_the_event_loop(public: Monitoring, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests are served while a scrape is summed and written."""
    slow = SlowTotals(public, monkeypatch)

    async def scrape_and_tick() -> int:
        scrape = asyncio.create_task(_get(public.metrics_app()))
        ticks = 0
        while not slow.summed.is_set():
            await asyncio.sleep(0.001)
        for _ in range(20):
            await asyncio.sleep(0.001)
            ticks += 1
        slow.go_on.set()
        await scrape
        return ticks

    assert asyncio.run(scrape_and_tick()) == 20


def test_a_rendering_that_fails_does_not_block_the_next(public: Monitoring, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is the failed scrape's alone."""
    app = public.metrics_app()
    with monkeypatch.context() as patched:
        patched.setattr(public.metrics, "totals_with_state", lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            asyncio.run(_get(app))

    assert b"jobs_total 1.0\n" in asyncio.run(_get(app))
