"""LiteLLM: the contract."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integrations.contract import CancellableContract, Contract, Subject
from tests.integrations.llm.litellm_subjects import (
    AsyncLiteLLMSubject,
    AsyncRouterSubject,
    LiteLLMSubject,
    RouterSubject,
    close_clients,
    its_own_warnings,
)

pytestmark = its_own_warnings


@pytest.fixture(scope="module", autouse=True)
def closed_clients() -> Iterator[None]:
    """Leave no connection open."""
    yield
    close_clients()


class TestFunctions(Contract):
    """The contract, for plain functions and methods."""

    @pytest.fixture(params=[LiteLLMSubject, RouterSubject])
    def subject(self, request: pytest.FixtureRequest, llm_port: int, http_port: int) -> Subject:
        made: Subject = request.param(llm_port, http_port)
        return made


class TestCoroutines(CancellableContract):
    """The contract, for coroutines."""

    @pytest.fixture(params=[AsyncLiteLLMSubject, AsyncRouterSubject])
    def subject(self, request: pytest.FixtureRequest, llm_port: int, http_port: int) -> Subject:
        made: Subject = request.param(llm_port, http_port)
        return made
