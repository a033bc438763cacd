"""The demo's language model: chat completions by the OpenAI SDK from any OpenAI-compatible server."""

from __future__ import annotations

from dataclasses import dataclass

import openai

import monitoring

ATTEMPTS = 3


class LLMUnavailable(Exception):
    """The LLM server kept failing; trying again later may help."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What the model wrote, and how many tokens that took."""

    text: str
    input_tokens: int
    output_tokens: int

    @property
    def tokens(self) -> int:
        """The number of tokens in all."""
        return self.input_tokens + self.output_tokens


def connect(url: str) -> openai.AsyncOpenAI:
    """Return a client of the server at `url`, with its calls, tokens and cost monitored."""
    http = openai.DefaultAsyncHttpxClient(timeout=30, trust_env=False)
    client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="demo", max_retries=ATTEMPTS - 1, http_client=http)
    return monitoring.wrap(client)


async def complete(client: openai.AsyncOpenAI, *, model: str, system: str, prompt: str) -> Completion:
    """Return the model's answer, read as a stream. Raise LLMUnavailable when the server kept failing."""
    try:
        stream = await client.chat.completions.create(
            model=model,
            messages=[{"role": "system", "content": system}, {"role": "user", "content": prompt}],
            stream=True,
            stream_options={"include_usage": True},
            extra_headers=monitoring.outbound_headers(),
        )
        words: list[str] = []
        usage = (0, 0)
        async for chunk in stream:
            words.extend(choice.delta.content or "" for choice in chunk.choices)
            if chunk.usage is not None:
                usage = (chunk.usage.prompt_tokens, chunk.usage.completion_tokens)
    except openai.APIError as error:
        raise LLMUnavailable(f"the LLM server failed {ATTEMPTS} times, the last time with {error!r}") from error
    return Completion("".join(words), *usage)
