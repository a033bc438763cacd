"""The demo's LLM client: chat completions over HTTP from any OpenAI-compatible server."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import httpx

import monitoring

ATTEMPTS = 3
PAUSE_SECONDS = 0.2


class LLMUnavailable(Exception):
    """The LLM server kept failing; trying again later may help."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What the model wrote, and how many tokens that took."""

    text: str
    input_tokens: int
    output_tokens: int


class ChatClient:
    """Ask for chat completions through an HTTP client that knows the server's address."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def complete(self, *, model: str, system: str, prompt: str) -> Completion:
        """Return the model's answer. Raise LLMUnavailable once a busy or failing server was asked `ATTEMPTS` times."""
        messages = [{"role": "system", "content": system}, {"role": "user", "content": prompt}]
        with monitoring.observe("llm.chat", model=model):
            answer = await self._ask({"model": model, "messages": messages})
        return Completion(
            text=answer["choices"][0]["message"]["content"],
            input_tokens=answer["usage"]["prompt_tokens"],
            output_tokens=answer["usage"]["completion_tokens"],
        )

    async def close(self) -> None:
        """Close the connections to the server."""
        await self._http.aclose()

    async def _ask(self, body: dict[str, Any]) -> dict[str, Any]:
        reason = ""
        for attempt in range(ATTEMPTS):
            await asyncio.sleep(PAUSE_SECONDS * attempt)
            try:
                response = await self._http.post(
                    "/v1/chat/completions", json=body, headers=monitoring.outbound_headers()
                )
            except httpx.TransportError as error:
                reason = repr(error)
                continue
            if response.is_success:
                answer: dict[str, Any] = response.json()
                return answer
            reason = f"status {response.status_code}"
        raise LLMUnavailable(f"the LLM server failed {ATTEMPTS} times, the last time with {reason}; try again later")
