"""LiteLLM: the functions of its module, and its routers; sync, async and streamed.

Its callbacks would be the official seam, but they are not told of calls that are cancelled, nor of streams that nobody
reads to their end, and of the others in another thread and later. So the functions are replaced on the module, which
routers call them on, too. What LiteLLM does within one call is one call.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import wraps
from types import ModuleType
from typing import Any, Final

from monitoring.integrations.attachment import Detach, Link, inside_llm_call, replace_attributes
from monitoring.monitor import current

from . import content, methods, prices
from .calls import PendingCall, status_of
from .litellm_answers import OPERATIONS, UNKNOWN, Asked
from .litellm_calls import LiteLLMCall
from .rate_limits import RateLimits

Function = Callable[..., Any]

_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "completion": ("model", "messages"),
    "responses": ("input", "model"),
    "text_completion": ("prompt", "model"),
    "embedding": ("model", "input"),
    "image_generation": ("prompt", "model"),
    "image_edit": ("image", "prompt", "model"),
    "transcription": ("model", "file"),
    "speech": ("model", "input"),
}
"""The functions that are observed, and what their first arguments are."""
_ROUTERS_NAMES: Final = {**_NAMES, "text_completion": ("model", "prompt"), "transcription": ("file", "model")}
_RETRYING: Final = ("completion", "responses")
_AS_COROUTINE: Final = ("aimg_generation", *(f"a{name}" for name in _NAMES))
"""What makes a plain function return a coroutine, when it is given as true: LiteLLM's own way to its async side."""
_OTHERS: Final = ("fallbacks", "model_list")
"""What makes one call several, each through the module again."""
_TELLS_USAGE_IF_ASKED: Final = ("completion", "text_completion")


class _Attributes:
    """The attributes of a router: setting them on the router itself would set them deeper, where LiteLLM looks."""

    def __init__(self, router: Any) -> None:
        self.__dict__ = vars(router)


def carrier(client: Any) -> Any:
    """Return the module or the router itself. Raise TypeError for another module."""
    if isinstance(client, ModuleType) and client.__name__ != "litellm":
        raise TypeError(
            f"wrap() got the module {client.__name__}, and of modules it takes litellm alone; wrap a client instead."
        )
    return client


def attach(client: Any, link: Link) -> Detach:
    """Observe chat, responses, text completions, embeddings, images and audio."""
    prices.load()
    if isinstance(client, ModuleType):
        return replace_attributes(client, {**_observed(client, client, link), **_counting_retries(client)})
    module = sys.modules[type(client).__module__.partition(".")[0]]
    return replace_attributes(_Attributes(client), _observed(client, module, link))


def _observed(owner: Any, module: Any, link: Link) -> dict[str, object]:
    """Return what is put in the place of the functions of a module or a router, as far as it has them."""
    limits: dict[str, RateLimits] = {}
    replaced: dict[str, object] = {}
    for name in _NAMES:
        for full, seam in ((name, _plain), (f"a{name}", _coroutine)):
            function = getattr(owner, full, None)
            if function is not None:
                replaced[full] = seam(_Beginning(link, owner, module, name, limits), function)
    if not replaced:
        raise AttributeError("it has none of the functions that are observed")
    return replaced


class _Beginning:
    """Makes the call that a function is about to make."""

    __slots__ = ("_limits", "_link", "_module", "_name", "_names", "_operation", "_owner")

    def __init__(self, link: Link, owner: Any, module: Any, name: str, limits: dict[str, RateLimits]) -> None:
        self._link = link
        self._owner = owner
        self._module = module
        self._name = name
        self._names = (_NAMES if owner is module else _ROUTERS_NAMES)[name]
        self._operation = OPERATIONS[name]
        self._limits = limits

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> LiteLLMCall | None:
        """Return it; None for what is no call of its own, or when nobody listens. Add to ``kwargs`` what is asked for
        by our settings.
        """
        recorder = self._link.recorder()
        if recorder is None or any(kwargs.get(name) is True for name in _AS_COROUTINE):
            return None
        recorder.before_llm_call()
        try:
            if self._is_several(kwargs):
                return None
            asked = {**dict(zip(self._names, args)), **kwargs}
            where = self._asked(asked)
            call = PendingCall(self._link, recorder, where.provider or UNKNOWN, self._operation, where.model)
            call.content = content.begin(asked)
            if asked.get("stream"):
                call.stream()
                if self._may_ask_for_usage(args, asked):
                    kwargs["stream_options"] = {**(asked.get("stream_options") or {}), "include_usage": True}
                    call.hides_usage = True
            return LiteLLMCall(call, self._module, where, self._limits)
        except Exception as error:
            recorder.failed(f"{__name__}.begin", error)
            return None

    def _is_several(self, kwargs: Mapping[str, Any]) -> bool:
        return (
            self._name == "completion"
            and self._owner is self._module
            and (any(kwargs.get(name) for name in _OTHERS) or bool(getattr(self._module, "model_fallbacks", None)))
        )

    def _asked(self, asked: Mapping[str, Any]) -> Asked:
        return Asked(
            str(asked.get("model") or ""),
            str(asked.get("custom_llm_provider") or ""),
            str(asked.get("api_base") or asked.get("base_url") or ""),
            is_group=self._owner is not self._module,
        )

    def _may_ask_for_usage(self, args: tuple[Any, ...], asked: Mapping[str, Any]) -> bool:
        """Say whether a stream is to be asked for its usage, and can be: what a router will take nobody knows."""
        return (
            current().config.llm_stream_usage
            and self._owner is self._module
            and self._name in _TELLS_USAGE_IF_ASKED
            and len(args) <= len(self._names)
            and "include_usage" not in (asked.get("stream_options") or {})
            and "stream_options"
            in (
                self._module.get_supported_openai_params(
                    model=asked.get("model"), custom_llm_provider=asked.get("custom_llm_provider")
                )
                or ()
            )
        )


def _plain(begin: _Beginning, function: Function) -> Function:
    counted = methods.counting_attempts(function)

    @wraps(function)
    def observed(*args: Any, **kwargs: Any) -> Any:
        if _is_within_a_call():
            return counted(*args, **kwargs)
        call = begin(args, kwargs)
        if call is None:
            return function(*args, **kwargs)
        try:
            with call:
                answer = function(*args, **kwargs)
        except BaseException as error:
            call.failed(error)
            raise
        return call.answered(answer)

    return observed


def _coroutine(begin: _Beginning, function: Function) -> Function:
    counted = methods.counting_attempts_async(function)

    @wraps(function)
    async def observed(*args: Any, **kwargs: Any) -> Any:
        if _is_within_a_call():
            return await counted(*args, **kwargs)
        call = begin(args, kwargs)
        if call is None:
            return await function(*args, **kwargs)
        try:
            with call:
                answer = await function(*args, **kwargs)
        except BaseException as error:
            call.failed(error)
            raise
        return call.answered(answer)

    return observed


def _is_within_a_call() -> bool:
    """Say whether this is what LiteLLM itself does for a call: another attempt, or a translation."""
    call: Any = inside_llm_call.get()
    return call.__class__ is PendingCall and not call.is_over


def _counting_retries(module: Any) -> dict[str, object]:
    """Return what is put in the place of the functions that repeat a call of the module which has failed."""
    seams = {f"{name}_with_retries": _retrying for name in _RETRYING}
    seams |= {f"a{name}_with_retries": _retrying_async for name in _RETRYING}
    return {name: seam(getattr(module, name)) for name, seam in seams.items() if hasattr(module, name)}


def _retrying(function: Function) -> Function:
    @wraps(function)
    def retried(*args: Any, **kwargs: Any) -> Any:
        _count_what_is_repeated(function, kwargs, methods.counting_attempts)
        return function(*args, **kwargs)

    return retried


def _retrying_async(function: Function) -> Function:
    @wraps(function)
    async def retried(*args: Any, **kwargs: Any) -> Any:
        _count_what_is_repeated(function, kwargs, methods.counting_attempts_async)
        return await function(*args, **kwargs)

    return retried


def _count_what_is_repeated(
    function: Function, kwargs: dict[str, Any], counting: Callable[[Function], Function]
) -> None:
    """Count the attempts from the second on; the exception of the first is being handled now."""
    call: Any = inside_llm_call.get()
    error = sys.exc_info()[1]
    repeated = kwargs.get("original_function") or _default(function)
    if call.__class__ is PendingCall and error is not None and callable(repeated):
        call.failed_attempt = str(status_of(error) or "connection")
        kwargs["original_function"] = counting(repeated)


def _default(function: Function) -> Any:
    """Return what LiteLLM repeats unless it is told: the function of that name in the same module."""
    return getattr(function, "__globals__", {}).get(function.__name__.partition("_")[0])
