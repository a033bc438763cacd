"""LiteLLM's module and its routers as subjects of the contract."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import litellm
import pytest

import monitoring
from monitoring.observation import Kind
from tests.integrations.contract import SECRET, Subject
from tests.integrations.llm.subjects import GPT, says

litellm.suppress_debug_info = True
its_own_warnings = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings(r"ignore:Items? .* on TypedDict class:UserWarning"),
    pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:coroutine 'LoggingWorker:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning"),
]
"""What LiteLLM itself brings about, without us; it leaves event loops and connections open."""


def at(port: int, **more: Any) -> dict[str, Any]:
    """Return where a call goes that speaks OpenAI's protocol."""
    return {"api_base": f"http://127.0.0.1:{port}/v1", "api_key": f"sk-{SECRET}", "max_retries": 0, **more}


def router(*models: dict[str, Any], **more: Any) -> Any:
    """Return a router of groups by the name of the model, without the provider, or by ``group``."""
    groups = [
        {"model_name": one.pop("group", one["model"].rpartition("/")[2]), "litellm_params": one} for one in models
    ]
    return litellm.Router(model_list=groups, **{"num_retries": 0, "disable_cooldowns": True, **more})


class LiteLLMSubject(Subject):
    """The module: ``completion``."""

    client = "litellm, the module"
    library = "litellm"
    kind: Kind = "llm"
    error = litellm.RateLimitError

    def __init__(self, port: int, hanging_port: int = 0) -> None:
        self.where = at(port)
        self.hanging = {**self.where, "api_base": f"http://127.0.0.1:{hanging_port}/hang"}

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Any]:
        yield litellm
        monitoring.unwrap(litellm)
        await closed()

    def unused(self) -> Any:
        return litellm

    async def succeed(self, client: Any) -> object:
        return client.completion(GPT, says("hello"), **self.where).choices[0].message.content

    async def fail(self, client: Any) -> object:
        return client.completion(GPT, says("limit me"), **self.where)


class AsyncLiteLLMSubject(LiteLLMSubject):
    """The module: ``acompletion``."""

    client = "litellm, the module, async"

    async def succeed(self, client: Any) -> object:
        return (await client.acompletion(GPT, says("hello"), **self.where)).choices[0].message.content

    async def fail(self, client: Any) -> object:
        return await client.acompletion(GPT, says("limit me"), **self.where)

    async def hang(self, client: Any) -> object:
        return await client.acompletion(GPT, says("hello"), **self.hanging)


class RouterSubject(LiteLLMSubject):
    """``Router``: ``completion``."""

    client = "litellm `Router`"

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Any]:
        yield router({"model": GPT, **self.where}, {"model": GPT, "group": "slow", **self.hanging})
        await closed()

    def unused(self) -> Any:
        return None  # once one was used, none works in a forked child, by LiteLLM's own rule

    async def succeed(self, client: Any) -> object:
        return client.completion(GPT, says("hello")).choices[0].message.content

    async def fail(self, client: Any) -> object:
        return client.completion(GPT, says("limit me"))


class AsyncRouterSubject(RouterSubject):
    """``Router``: ``acompletion``."""

    client = "litellm `Router`, async"

    async def succeed(self, client: Any) -> object:
        return (await client.acompletion(GPT, says("hello"))).choices[0].message.content

    async def fail(self, client: Any) -> object:
        return await client.acompletion(GPT, says("limit me"))

    async def hang(self, client: Any) -> object:
        return await client.acompletion("slow", says("hello"))


async def closed() -> None:
    """Close the connections that LiteLLM keeps for this event loop."""
    await litellm.close_litellm_async_clients()


def close_clients() -> None:
    """Close the clients that LiteLLM keeps for good."""
    kept = litellm.in_memory_llm_clients_cache
    for client in [*kept.cache_dict.values(), litellm.module_level_client]:
        if not inspect.iscoroutinefunction(close := getattr(client, "close", None)) and close is not None:
            close()
    kept.flush_cache()
