"""The contract, for the clients of both SDKs."""

from __future__ import annotations

import pytest

from tests.integrations.contract import CancellableContract, Contract, Subject
from tests.integrations.llm.subjects import (
    AnthropicSubject,
    AsyncAnthropicSubject,
    AsyncOpenAISubject,
    OpenAISubject,
)


class TestSyncClients(Contract):
    """The contract, for the sync clients."""

    @pytest.fixture(params=[OpenAISubject, AnthropicSubject])
    def subject(self, request: pytest.FixtureRequest, llm_port: int) -> Subject:
        made: Subject = request.param(llm_port)
        return made


class TestAsyncClients(CancellableContract):
    """The contract, for the async clients."""

    @pytest.fixture(params=[AsyncOpenAISubject, AsyncAnthropicSubject])
    def subject(self, request: pytest.FixtureRequest, llm_port: int, http_port: int) -> Subject:
        made: Subject = request.param(llm_port, http_port)
        return made
