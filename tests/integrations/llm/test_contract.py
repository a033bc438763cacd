"""The contract, for each kind of client."""

from __future__ import annotations

import pytest

from tests.integrations.contract import CancellableContract, Contract, Subject
from tests.integrations.llm.subjects import (
    AnthropicSubject,
    AsyncAnthropicSubject,
    AsyncCohereSubject,
    AsyncGoogleSubject,
    AsyncMistralSubject,
    AsyncOllamaSubject,
    AsyncOpenAISubject,
    BedrockSubject,
    CohereSubject,
    GoogleSubject,
    MistralSubject,
    OllamaSubject,
    OpenAISubject,
)


class TestSyncClients(Contract):
    """The contract, for the sync clients."""

    @pytest.fixture(
        params=[
            OpenAISubject,
            AnthropicSubject,
            GoogleSubject,
            BedrockSubject,
            OllamaSubject,
            MistralSubject,
            CohereSubject,
        ]
    )
    def subject(self, request: pytest.FixtureRequest, llm_port: int) -> Subject:
        made: Subject = request.param(llm_port)
        return made


class TestAsyncClients(CancellableContract):
    """The contract, for the async clients."""

    @pytest.fixture(params=[AsyncOpenAISubject, AsyncAnthropicSubject])
    def subject(self, request: pytest.FixtureRequest, llm_port: int, http_port: int) -> Subject:
        made: Subject = request.param(llm_port, http_port)
        return made


@pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")  # google-genai's
class TestOtherAsyncClients(CancellableContract):
    """The contract, for the async clients that cannot ask another address."""

    @pytest.fixture(params=[AsyncGoogleSubject, AsyncOllamaSubject, AsyncMistralSubject, AsyncCohereSubject])
    def subject(self, request: pytest.FixtureRequest, llm_port: int) -> Subject:
        made: Subject = request.param(llm_port)
        return made
