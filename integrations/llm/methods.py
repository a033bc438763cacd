"""The seam of clients whose calls are methods: each is replaced on the object that has it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from monitoring.integrations.attachment import Detach, Link, inside_llm_call, replace_attributes

from . import content
from .calls import Operation, PendingCall, status_of
from .streams import watch_generator

Ask = Callable[[tuple[Any, ...], Mapping[str, Any]], tuple[Operation, object] | None]
"""Reads a call's arguments: what is asked of which model. None for a call of no interest."""
Begin = Callable[[tuple[Any, ...], Mapping[str, Any]], PendingCall | None]
Function = Callable[..., Any]
Seam = Callable[[Begin, Function], Function]


def beginning(link: Link, provider: str, ask: Ask, *, streamed: bool = False) -> Begin:
    """Return a function that makes the call that is about to start; None when nobody listens."""

    def begin(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> PendingCall | None:
        recorder = link.recorder()
        if recorder is None:
            return None
        try:
            asked = ask(args, kwargs)
            if asked is None:
                return None
        except Exception as error:
            recorder.failed(f"{ask.__module__}.ask", error)
            return None
        recorder.before_llm_call()
        try:
            call = PendingCall(link, recorder, provider, *asked)
            call.content = content.begin(kwargs or args[:1])
            if streamed:
                call.stream()
            return call
        except Exception as error:
            recorder.failed(f"{ask.__module__}.ask", error)
            return None

    return begin


def by_model(operation: Operation) -> Ask:
    """Return how to read the arguments of methods that take the model by its name."""
    return lambda args, kwargs: (operation, kwargs.get("model"))


def plain(begin: Begin, function: Function) -> Function:
    """Observe calls that return their answer."""

    def observed(*args: Any, **kwargs: Any) -> Any:
        call = begin(args, kwargs)
        if call is None:
            return function(*args, **kwargs)
        token = inside_llm_call.set(call)
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            call.end(error)
            raise
        finally:
            inside_llm_call.reset(token)
        call.note(result)
        call.end()
        return result

    return observed


def plain_async(begin: Begin, function: Function) -> Function:
    """Do the same with coroutines."""

    async def observed(*args: Any, **kwargs: Any) -> Any:
        call = begin(args, kwargs)
        if call is None:
            return await function(*args, **kwargs)
        token = inside_llm_call.set(call)
        try:
            result = await function(*args, **kwargs)
        except BaseException as error:
            call.end(error)
            raise
        finally:
            inside_llm_call.reset(token)
        call.note(result)
        call.end()
        return result

    return observed


def generator(begin: Begin, function: Function) -> Function:
    """Observe calls that return a generator, sync or async, which sends its request when it is read."""

    def observed(*args: Any, **kwargs: Any) -> Any:
        return watch_generator(function(*args, **kwargs), partial(begin, args, kwargs))

    return observed


def opened(follow: Callable[[PendingCall, Any], Any]) -> Seam:
    """Return a seam for calls that return a stream whose answer has begun; ``follow`` lets the call watch it."""

    def seam(begin: Begin, function: Function) -> Function:
        def observed(*args: Any, **kwargs: Any) -> Any:
            call = begin(args, kwargs)
            if call is None:
                return function(*args, **kwargs)
            token = inside_llm_call.set(call)
            try:
                result = function(*args, **kwargs)
            except BaseException as error:
                call.end(error)
                raise
            finally:
                inside_llm_call.reset(token)
            return followed(follow, call, result)

        return observed

    return seam


def opened_async(follow: Callable[[PendingCall, Any], Any]) -> Seam:
    """Do the same with coroutines."""

    def seam(begin: Begin, function: Function) -> Function:
        async def observed(*args: Any, **kwargs: Any) -> Any:
            call = begin(args, kwargs)
            if call is None:
                return await function(*args, **kwargs)
            token = inside_llm_call.set(call)
            try:
                result = await function(*args, **kwargs)
            except BaseException as error:
                call.end(error)
                raise
            finally:
                inside_llm_call.reset(token)
            return followed(follow, call, result)

        return observed

    return seam


def followed(follow: Callable[[PendingCall, Any], Any], call: PendingCall, result: Any) -> Any:
    """Return what the reader gets, which is the result as it is if watching it fails."""
    try:
        return follow(call, result)
    except Exception as error:
        call.stumble(error)
        return result


def counting_attempts(function: Function) -> Function:
    """Observe what is called for each attempt of one call: all but the first are retries."""

    def observed(*args: Any, **kwargs: Any) -> Any:
        call: Any = inside_llm_call.get()
        if call.__class__ is not PendingCall:
            return function(*args, **kwargs)
        call.begin_attempt()
        try:
            result = function(*args, **kwargs)
        except Exception as error:
            call.failed_attempt = _reason(error)
            raise
        call.failed_attempt = _refusal(result)
        return result

    return observed


def counting_attempts_async(function: Function) -> Function:
    """Do the same with coroutines."""

    async def observed(*args: Any, **kwargs: Any) -> Any:
        call: Any = inside_llm_call.get()
        if call.__class__ is not PendingCall:
            return await function(*args, **kwargs)
        call.begin_attempt()
        try:
            result = await function(*args, **kwargs)
        except Exception as error:
            call.failed_attempt = _reason(error)
            raise
        call.failed_attempt = _refusal(result)
        return result

    return observed


def counting_sends(http: Any) -> list[tuple[Any, dict[str, object]]]:
    """Return what to replace so that the requests that an HTTP client sends for one call are its attempts.

    That is nothing where it is replaced already: several clients may share it.
    """
    if http is None or "send" in getattr(http, "__dict__", {"send": None}):
        return []
    counting = counting_attempts_async if inspect.iscoroutinefunction(http.send) else counting_attempts
    return [(http, {"send": counting(http.send)})]


def _reason(error: Exception) -> str:
    return str(status_of(error) or "connection")


def _refusal(answer: Any) -> str:
    """Return the status of an HTTP response that tells of an error, "" for any other answer."""
    status = getattr(answer, "status_code", None)
    return str(status) if status.__class__ is int and status >= 400 else ""


def replace_all(targets: list[tuple[Any, dict[str, object]]]) -> Detach:
    """Replace attributes of several objects, and return the function that puts all of them back."""
    detaches = [replace_attributes(target, values) for target, values in targets]

    def detach() -> None:
        for one in detaches:
            one()

    return detach
