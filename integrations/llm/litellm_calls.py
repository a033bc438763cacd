"""One call through LiteLLM under way, and its stream: LiteLLM's own object, which becomes one of a subclass made here.

A wrapped client of the provider's that LiteLLM goes through reports the call itself; then nothing is said here.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from contextvars import Token
from functools import cache, partial
from typing import Any

from monitoring.context import reset
from monitoring.integrations.attachment import inside_llm_call, subclass_of
from monitoring.integrations.layers import Layer, current_layer

from . import litellm_answers as answers
from .calls import PendingCall
from .litellm_answers import Asked
from .rate_limits import RateLimits, remaining
from .streams import watch_generator

_NAME = "_monitoring_call"


class LiteLLMCall:
    """What is known of a call before and besides its answer. Used as a block around what LiteLLM does for it."""

    __slots__ = ("_asked", "_layer", "_limits", "_module", "_raw", "_seen", "_tokens", "call", "is_inside")

    def __init__(self, call: PendingCall, module: Any, asked: Asked, limits: dict[str, RateLimits]) -> None:
        self.call = call
        self.is_inside = False
        """Whether LiteLLM is at work, which closes its streams itself when they end."""
        self._module = module
        self._asked = asked
        self._limits = limits
        self._layer = Layer("llm", None)
        self._raw: list[Any] = []
        self._seen = 0

    def __enter__(self) -> None:
        self.is_inside = True
        self._tokens: tuple[Token[Any], Token[Layer | None]] = (
            inside_llm_call.set(self.call),
            current_layer.set(self._layer),
        )

    def __exit__(self, *_: object) -> None:
        reset(current_layer, self._tokens[1])
        reset(inside_llm_call, self._tokens[0])
        self.is_inside = False

    def __del__(self) -> None:
        if not self.call.is_over:
            if self._layer.is_counted:
                self.call.discard()
            self.call.drop("abandoned")
            self._layer.is_over = True

    def answered(self, answer: Any) -> Any:
        """Follow the call to where it ends, and return what the caller gets: the answer as it is."""
        try:
            return self._follow(answer)
        except Exception as error:
            self.call.stumble(error)
            return answer

    def failed(self, error: BaseException) -> None:
        """End with what was raised."""
        try:
            told = answers.told_of(error)
            self._place(told)
            response = getattr(error, "response", None)
            if response is not None:
                self.call.rate_limits = remaining(response.headers)
            self.call.was_answered = self.call.was_answered or bool(self._raw)
        except Exception as mistake:
            self.call.stumble(mistake)
        self.end(error)

    def end(self, error: BaseException | None = None, outcome: str = "") -> None:
        """Report it once, unless a client below has done so."""
        if self._layer.is_counted:
            self.call.discard()
        self.call.end(error, outcome)
        self._layer.is_over = True

    def finish(self) -> None:
        """End a stream that was read to its end."""
        self._note_raw()
        self.call.is_final = True
        self.end()

    def take(self, chunk: Any) -> object:
        """Take what a chunk tells, and say whether it is to be kept from the reader."""
        usage = self.call.usage
        is_ours = self.call.take(chunk)
        if self._raw:
            self.call.usage = usage  # what the reader is told may be an estimate
            self._note_raw()
        else:
            self._note(partial(answers.note_last, knows_estimates=answers.knows_estimates(self._module)), chunk)
        return is_ours

    def _note_raw(self) -> None:
        """Take what came since the last chunk that the reader got."""
        for one in self._raw[self._seen :]:
            self._note(answers.note_raw, one)
        self._seen = len(self._raw)

    def _note(self, note: Any, chunk: Any) -> None:
        try:
            note(self.call, chunk)
        except Exception as error:
            self.call.stumble(error)

    def _follow(self, answer: Any) -> Any:
        told = answers.told_of(answer)
        if answers.is_from_cache(answer, told):
            self.call.discard()
            return answer
        self._place(told)
        self._heed_limits(told)
        if _is_stream(answer):
            return self._watch(answer)
        self.call.streamed = False
        self.call.note(answer)
        self.end()
        return answer

    def _watch(self, stream: Any) -> Any:
        if not self.call.streamed:
            self.call.stream()
        self.call.is_final = False
        if inspect.isgenerator(stream) or inspect.isasyncgen(stream):
            return watch_generator(stream, lambda: self.call)
        self._raw = answers.raw_chunks(stream)
        kind: Any = type(stream)
        make = _observed_class.__wrapped__ if "<locals>" in kind.__qualname__ else _observed_class
        stream.__class__ = make(kind)
        vars(stream)[_NAME] = self
        return stream

    def _place(self, told: Mapping[str, Any]) -> None:
        self.call.provider, self.call.model = answers.provider_and_model(self._module, self._asked, told)

    def _heed_limits(self, told: Mapping[str, Any]) -> None:
        headers = told.get("additional_headers")
        if headers:
            limits = self._limits.setdefault(self.call.provider, RateLimits())
            named = {str(name).removeprefix("llm_provider-"): str(value) for name, value in headers.items()}
            self.call.rate_limits = limits.of(named)


def _is_stream(answer: Any) -> bool:
    return hasattr(type(answer), "__next__") or hasattr(type(answer), "__anext__")


@cache
def _observed_class(kind: Any) -> Any:
    """Return a subclass of a stream's class that shows its chunks to the call, and tells it how the stream ends. Not
    for classes that are made anew for each stream.
    """
    seams = {"__next__": _next, "__anext__": _anext, "close": _close, "aclose": _aclose}
    return subclass_of(kind, {name: seam(getattr(kind, name)) for name, seam in seams.items() if hasattr(kind, name)})


def _next(read: Any) -> Any:
    def __next__(self: Any) -> Any:  # noqa: N807  (it becomes a method)
        call = _of(self)
        while call is not None:
            try:
                with call:
                    chunk = read(self)
            except StopIteration:
                call.finish()
                raise
            except BaseException as error:
                call.failed(error)
                raise
            if not call.take(chunk):
                return chunk
        return read(self)

    return __next__


def _anext(read: Any) -> Any:
    async def __anext__(self: Any) -> Any:  # noqa: N807
        call = _of(self)
        while call is not None:
            try:
                with call:
                    chunk = await read(self)
            except StopAsyncIteration:
                call.finish()
                raise
            except BaseException as error:
                call.failed(error)
                raise
            if not call.take(chunk):
                return chunk
        return await read(self)

    return __anext__


def _close(close: Any) -> Any:
    def closed(self: Any) -> Any:
        call = _of(self)
        try:
            return close(self)
        finally:
            if call is not None and not call.is_inside:
                call.end(None, "closed_early")

    return closed


def _aclose(close: Any) -> Any:
    async def aclosed(self: Any) -> Any:
        call = _of(self)
        try:
            return await close(self)
        finally:
            if call is not None and not call.is_inside:
                call.end(None, "closed_early")

    return aclosed


def _of(stream: Any) -> LiteLLMCall | None:
    """Return the call that a stream belongs to, None when that is over."""
    call: LiteLLMCall | None = vars(stream).get(_NAME)
    return None if call is None or call.call.is_over else call
