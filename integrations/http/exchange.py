"""One request on its way: what is told of it, when its response began, and when the body of that had come to its end.

The call is claimed and described at the response's headers, and reported when the body was read, closed or dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from time import perf_counter
from types import MappingProxyType
from typing import Any, Final

from monitoring.calls import HTTPCall
from monitoring.context import reset
from monitoring.integrations.attachment import Link, inside_llm_call
from monitoring.integrations.dropped import report_dropped, report_waiting, waiting
from monitoring.integrations.layers import Layer, claim, current_layer
from monitoring.monitor import current
from monitoring.observation import outcome_of_exception
from monitoring.recorder import Recorder

Describe = Callable[..., None]
"""Puts on a call what a library's request says, and its response where one came (None where not)."""

METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"))
PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_TEMPLATE_LENGTH: Final = 200

_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})

_template: Final[ContextVar[str]] = ContextVar("monitoring_url_template", default="")
_is_redirect: Final[ContextVar[bool]] = ContextVar("monitoring_is_redirect", default=False)
"""Whether a client further out follows a redirect by the request that it sends now."""
_added_around: Final[ContextVar[Mapping[str, str]]] = ContextVar("monitoring_added_headers", default=_NOTHING)
"""What a client further out has put into the headers of the request: no wish of the caller's."""


class url_template:  # noqa: N801  (reads as a clause: ``with url_template("/users/{id}"):``)
    """Say which template the URLs of the requests in a block are made from: the label ``url_template``.

    200 templates are told apart, past them ``(other)``.
    """

    __slots__ = ("_template", "_token")

    def __init__(self, template: str) -> None:
        self._template = str(template)[:_TEMPLATE_LENGTH]
        self._token: Token[str] | None = None

    def __enter__(self) -> None:
        self._token = _template.set(self._template)

    def __exit__(self, *_: object) -> None:
        if self._token is not None:
            reset(_template, self._token)
            self._token = None


def listens(link: Link) -> bool:
    """Say whether what is sent now is of interest to anybody."""
    return not inside_llm_call.get() and link.recorder() is not None


def begin(link: Link) -> Exchange | None:
    """Return the exchange that a request begins; None when nobody listens, or when an LLM adapter reports it."""
    if inside_llm_call.get():
        return None
    recorder = link.recorder()
    return None if recorder is None else Exchange(recorder)


class Exchange:
    """One request and its response. Whoever watches the body holds it; when that is dropped, so is this."""

    __slots__ = (
        "__weakref__", "_added", "_layer", "_open", "_recorder", "_span_id", "_tokens",
        "redirects", "retries", "started",
    )  # fmt: skip

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._open: HTTPCall | None = None
        self._layer: Layer | None = None
        self._tokens: tuple[Token[Layer | None], Token[Mapping[str, str]]] | None = None
        self._added: Mapping[str, str] = _NOTHING
        self._span_id = ""
        self.redirects = 1 if _is_redirect.get() else 0
        """1 for a request that follows a redirect."""
        self.retries = 0
        """How often it was sent before, as far as that is known."""
        if waiting:
            report_waiting()
        self.started = perf_counter()

    @staticmethod
    def carries_on() -> bool:
        """Say whether there are hosts that the running request is carried on to."""
        return current().propagation is not None

    def headers_to(self, host: str, has: Callable[[str], bool]) -> Mapping[str, str] | None:
        """Return the headers that carry the running request on to ``host``; None for none."""
        propagation = current().propagation
        if propagation is None:
            return None
        ours = _added_around.get()
        carried = propagation.carried_to(host, (lambda name: name not in ours and has(name)) if ours else has)
        if carried is None:
            return None
        self._span_id, self._added = carried.span_id, carried.headers
        return carried.headers

    def prepared(self, prepare: Callable[[Exchange, Any], Any], request: Any) -> Any:
        """Return what is sent in the place of ``request``: that itself, or its twin. Never raises."""
        try:
            return prepare(self, request)
        except Exception as error:
            self._recorder.failed(f"{prepare.__module__}.{prepare.__qualname__}", error)
            return request

    def take_back(self, request: Any, twin: Any, result: Any) -> None:
        """Put the user's request object where its twin was seen, in a response or an exception. Never raises."""
        try:
            _take_back(request, twin, result)
        except Exception as error:
            self._recorder.failed(f"{__name__}._take_back", error)

    def open_layer(self) -> None:
        """Let a wrapped client below count what it sends for this request."""
        self._layer = Layer("http", None)
        self._tokens = current_layer.set(self._layer), _added_around.set(self._added)

    def _close_layer(self) -> bool:
        """Say whether the request is still to be counted: nobody below has."""
        layer, tokens = self._layer, self._tokens
        if layer is None or tokens is None:
            return True
        layer.is_over = True
        reset(current_layer, tokens[0])
        reset(_added_around, tokens[1])
        return not layer.is_counted

    def answered(self, describe: Describe, request: Any, response: Any) -> bool:
        """Take what the headers of a response tell. Return whether its body is to be watched; never raise."""
        if self._close_layer():
            try:
                self._open = self._described(None, describe, request, response)
            except Exception as error:
                self._recorder.failed(f"{describe.__module__}.{describe.__qualname__}", error)
        return self._open is not None

    def failed(self, describe: Describe, request: Any, error: BaseException) -> None:
        """Report a request that got no response. Never raises."""
        if not self._close_layer():
            return
        try:
            call = self._described(error, describe, request, None)
        except Exception as bug:
            self._recorder.failed(f"{describe.__module__}.{describe.__qualname__}", bug)
        else:
            if call is not None:
                self._recorder.record(call)

    def watched(self, watch: Callable[[Any, Exchange], None], body: Any) -> None:
        """Have the body tell when it ends; where that fails, it has ended now. Never raises."""
        try:
            watch(body, self)
        except Exception as error:
            self._recorder.failed(f"{watch.__module__}.{watch.__qualname__}", error)
            self.end()

    def end(self, error: BaseException | None = None, outcome: str = "") -> None:
        """Report that the body has ended: all of it, by an error, or by who lost interest. The first time counts."""
        call, self._open = self._open, None
        if call is None:
            return
        call.response_seconds = perf_counter() - self.started
        if error is not None:
            call.outcome = outcome_of_exception(error)
            if call.outcome != "closed_early":
                call.error_type = type(error).__name__
        elif outcome:
            call.outcome = outcome
        self._recorder.record(call)

    def close_early(self) -> None:
        """Report that the body's reader has closed it before its end, if it has not ended."""
        self.end(None, "closed_early")

    def __del__(self) -> None:
        if self._open is not None:
            report_dropped(self._abandon)

    def _abandon(self) -> None:
        self.end(None, "abandoned")

    def _described(
        self, error: BaseException | None, describe: Describe, request: Any, response: Any
    ) -> HTTPCall | None:
        call = HTTPCall(self.started, error)
        call.retries, call.redirects = self.retries, self.redirects
        describe(call, request, response)
        if call.method not in METHODS:
            call.method = "_OTHER"
        call.name = f"{call.method} {call.host}"
        template = _template.get()
        if template:
            call.url_template = template
        if self._span_id:
            call.span_id = self._span_id
        return call if current_layer.get() is None or claim(call) else None


class following_redirect:  # noqa: N801
    """Tell the clients below that what they send in this block follows a redirect."""

    __slots__ = ("_token",)

    def __enter__(self) -> None:
        self._token = _is_redirect.set(True)

    def __exit__(self, *_: object) -> None:
        reset(_is_redirect, self._token)


def become(body: Any, observed_class: Callable[[Any], Any], exchange: Exchange) -> None:
    """Make an object one of the observed subclass of its class: the same object, that tells ``exchange`` how it ends.

    Attributes of its own would tie it into a cycle, and many a body gives its connection back when it is dropped.
    """
    kind: Any = type(body)
    body.__class__ = observed_class(kind)
    body._monitoring_exchange = exchange


def with_headers(request: Any, added: Mapping[str, str]) -> Any:
    """Return a twin of a request object that has more headers: the user's own never sees them."""
    twin = object.__new__(type(request))
    vars(twin).update(vars(request))
    twin.headers = request.headers.copy()
    twin.headers.update(added)
    return twin


def _take_back(request: Any, twin: Any, result: Any) -> None:
    """Sending may have changed more of the request than its headers, such as a body that was read for it."""
    vars(request).update({name: value for name, value in vars(twin).items() if name != "headers"})
    attributes = getattr(result, "__dict__", {})
    for name in ("_request", "request"):
        if attributes.get(name) is twin:
            attributes[name] = request
