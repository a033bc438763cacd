"""Pydantic AI's agents: runs, tools, and what its models used where no wrapped client reports that."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from monitoring.integrations.attachment import Detach, Link, replace_attribute
from monitoring.integrations.llm import prices
from monitoring.integrations.llm.usage import Usage

from .running import ModelAnswer, ModelCall, block, text_of

Handler = Callable[[Any], Awaitable[Any]]


def carrier(agent: Any) -> Any:
    """Return the agent itself."""
    return agent


def attach(agent: Any, link: Link) -> Detach:
    """Observe ``iter``, which every way to run an agent goes through, and let each run have hooks of ours."""
    hooks = sys.modules["pydantic_ai.capabilities"].Hooks(
        model_request=_around_model_requests(link), tool_execute=_around_tools(link)
    )
    prices.load()
    return replace_attribute(agent, "iter", _observed(agent, agent.iter, link, hooks))


def _observed(
    agent: Any, run: Callable[..., AbstractAsyncContextManager[Any]], link: Link, hooks: Any
) -> Callable[..., AbstractAsyncContextManager[Any]]:
    @asynccontextmanager
    async def observed(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        if link.recorder() is None:
            async with run(*args, **kwargs) as running:
                yield running
            return
        kwargs["capabilities"] = [*(kwargs.get("capabilities") or ()), hooks]
        with block(link, text_of(agent.name) or "agent"):
            async with run(*args, **kwargs) as running:
                yield running

    return observed


def _around_tools(link: Link) -> Callable[..., Awaitable[Any]]:
    async def tool_execute(ctx: Any, *, call: Any, tool_def: Any, args: Any, handler: Handler) -> Any:
        if link.recorder() is None:
            return await handler(args)
        with block(link, text_of(call.tool_name), tool=True):
            return await handler(args)

    return tool_execute


def _around_model_requests(link: Link) -> Callable[..., Awaitable[Any]]:
    async def model_request(ctx: Any, *, request_context: Any, handler: Handler) -> Any:
        recorder = link.recorder()
        if recorder is None:
            return await handler(request_context)
        recorder.before_llm_call()
        model = request_context.model
        call = ModelCall(link, recorder, text_of(model.system), text_of(model.model_name))
        try:
            response = await handler(request_context)
        except BaseException as error:
            call.end(None, error)
            raise
        try:
            answer = _answer(response)
        except Exception as error:
            recorder.failed(f"{__name__}.answer", error)
            answer = None
        call.end(answer, None)
        return response

    return model_request


def _answer(response: Any) -> ModelAnswer:
    told = response.usage
    usage = Usage(
        input_tokens=told.input_tokens,
        output_tokens=told.output_tokens,
        cache_read_tokens=told.cache_read_tokens,
        cache_write_tokens=told.cache_write_tokens,
        reasoning_tokens=(told.details or {}).get("reasoning_tokens", 0),
    )
    return ModelAnswer(
        usage if told.has_values() else None,
        text_of(response.model_name),
        text_of(response.provider_name),
        text_of(getattr(response, "finish_reason", "")),
        sum(part.part_kind == "tool-call" for part in response.parts),
    )
