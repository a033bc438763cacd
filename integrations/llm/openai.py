"""OpenAI's SDK, sync and async, against OpenAI, Azure and any provider that speaks its protocol."""

from __future__ import annotations

from typing import Any, Final

from monitoring.integrations.attachment import Detach, Link

from . import sdk
from .calls import PendingCall, Provider
from .usage import fields, openai_usage

_OPERATIONS: Final = {
    "/chat/completions": "chat",
    "/responses": "chat",
    "/completions": "text_completion",
    "/embeddings": "embeddings",
}
_PROVIDERS: Final = {
    "anthropic.com": "anthropic",
    "azure-api.net": "azure.ai.openai",
    "cerebras.ai": "cerebras",
    "cognitiveservices.azure.com": "azure.ai.openai",
    "cohere.ai": "cohere",
    "cohere.com": "cohere",
    "deepseek.com": "deepseek",
    "fireworks.ai": "fireworks",
    "googleapis.com": "gcp.gemini",
    "groq.com": "groq",
    "mistral.ai": "mistral_ai",
    "moonshot.ai": "moonshot_ai",
    "moonshot.cn": "moonshot_ai",
    "openai.azure.com": "azure.ai.openai",
    "openrouter.ai": "openrouter",
    "perplexity.ai": "perplexity",
    "services.ai.azure.com": "azure.ai.openai",
    "together.ai": "together",
    "together.xyz": "together",
    "x.ai": "x_ai",
}
"""Domains whose hosts belong to a provider; all others, and gateways on loopback, count as ``openai``."""


def carrier(client: Any) -> Any:
    """Return the client itself."""
    return client


def attach(client: Any, link: Link) -> Detach:
    """Observe chat completions, responses, completions and embeddings."""
    provider = Provider(provider_of(client.base_url.host), _note, openai_usage)
    return sdk.attach(client, link, provider, _OPERATIONS)


def provider_of(host: str) -> str:
    """Return the provider's name by the host of its API."""
    parts = host.lower().split(".")
    domains = (".".join(parts[place:]) for place in range(len(parts)))
    return next((_PROVIDERS[domain] for domain in domains if domain in _PROVIDERS), "openai")


def _note(call: PendingCall, item: Any) -> None:
    told = fields(item)
    whole = told.get("response")
    if whole is not None:  # an event of the Responses API that carries all there is so far
        told = fields(whole)
    if (usage := told.get("usage")) is not None:
        call.usage = usage
    if model := told.get("model"):
        call.response_model = model
    tier = told.get("service_tier")
    if tier and tier != "default":
        call.price_context = {"service_tier": tier}
    if told.get("status") == "failed":
        call.failure = "ResponseFailed"
