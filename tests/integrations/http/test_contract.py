"""The contract, for the HTTP clients whose tests have no file of their own for it."""

from __future__ import annotations

import pytest

from tests.integrations.contract import CancellableContract, Contract, Subject
from tests.integrations.http.subjects import ClientSessionSubject, PoolManagerSubject, PoolSubject, SessionSubject


class TestRequests(Contract):
    """Sessions."""

    @pytest.fixture
    def subject(self, http_port: int) -> Subject:
        return SessionSubject(http_port)


class TestPoolManager(Contract):
    """Managers of pools."""

    @pytest.fixture
    def subject(self, http_port: int) -> Subject:
        return PoolManagerSubject(http_port)


class TestPool(Contract):
    """Pools."""

    @pytest.fixture
    def subject(self, http_port: int) -> Subject:
        return PoolSubject(http_port)


class TestClientSession(CancellableContract):
    """Sessions of aiohttp."""

    @pytest.fixture
    def subject(self, http_port: int) -> Subject:
        return ClientSessionSubject(http_port)
