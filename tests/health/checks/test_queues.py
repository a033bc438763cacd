"""The check of a queue's length, told by a function that is sync or async."""

from __future__ import annotations

import pytest

from monitoring.health.checks import queue_depth
from tests.health.checks.support import outcome, status_of


@pytest.mark.parametrize(("length", "status"), [(0, "pass"), (99, "pass"), (100, "warn"), (1000, "fail")])
def test_the_length_decides(length: int, status: str) -> None:
    """By both kinds of functions."""

    async def tell() -> int:
        return length

    for function in (lambda: length, tell):
        found = outcome(queue_depth(function, 100, 1000))
        assert (found.status, found.value, found.measurement) == (status, length, "queue_depth")
        assert found.output == ("" if status == "pass" else f"{length} are waiting")


def test_without_a_limit_to_fail_it_only_warns() -> None:
    """However long it is."""
    assert status_of(queue_depth(lambda: 10**9, 10)) == "warn"


def test_a_function_that_raises_fails() -> None:
    """Sync and async."""

    def gone() -> int:
        raise ConnectionError("the broker is gone")

    async def gone_too() -> int:
        return gone()

    for function in (gone, gone_too):
        assert outcome(queue_depth(function, 1)).output == "ConnectionError: the broker is gone"
