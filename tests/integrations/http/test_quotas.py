"""What is read of a response's headers on quotas."""

from __future__ import annotations

import pytest

from monitoring.integrations.http.quotas import quotas_of


@pytest.mark.parametrize(
    ("headers", "quotas"),
    [
        (
            {"X-RateLimit-Limit": "60", "X-RateLimit-Remaining": "59"},
            {("limit", "default", 60), ("remaining", "default", 59)},
        ),
        ({"x-ratelimit-remaining-tokens": "149984"}, {("remaining", "tokens", 149984)}),
        ({"anthropic-ratelimit-requests-remaining": "5"}, set()),
        ({"x-ratelimit-requests-remaining": "5"}, {("remaining", "requests", 5)}),
        ({"X-Rate-Limit-Limit": "100, 100;w=60"}, {("limit", "default", 100)}),
        ({"RateLimit-Remaining": "3", "RateLimit-Reset": "7"}, {("remaining", "default", 3)}),
        ({"RateLimit": '"burst";r=9;t=1, "day";r=900'}, {("remaining", "burst", 9), ("remaining", "day", 900)}),
        ({"RateLimit-Policy": '"day";q=1000;w=86400'}, {("limit", "day", 1000)}),
        ({"RateLimit": "limit=10, remaining=4, reset=50"}, {("limit", "default", 10), ("remaining", "default", 4)}),
        ({"x-ratelimit-remaining": "many"}, set()),
        ({"x-ratelimit-remaining": "1" * 40}, set()),
        ({"x-ratelimit-remaining-" + "n" * 100: "1"}, set()),
        ({"x-ratelimit-remaining": "-1"}, set()),
        ({"x-request-id": "7", "retry-after": "30"}, set()),
    ],
)
def test_numbers_are_read_under_short_names(headers: dict[str, str], quotas: set[tuple[str, str, float]]) -> None:
    """In the forms that APIs use; what is no number, or of no short name, is nothing. So are headers as bytes."""
    assert set(quotas_of(headers.items(), 200)) == quotas
    assert set(quotas_of([(name.encode(), value.encode()) for name, value in headers.items()], 200)) == quotas


def test_a_wait_is_read_where_the_answer_asks_for_one() -> None:
    """With a redirect it means something else."""
    assert quotas_of([("Retry-After", "30")], 429) == (("retry_after", "", 30.0),)
    assert quotas_of([("Retry-After", "30")], 301) == ()
    assert quotas_of([("Retry-After", "soon")], 503) == ()


def test_they_are_few() -> None:
    """An API that names a thousand quotas has sixteen."""
    assert len(quotas_of([(f"x-ratelimit-limit-{number}", "1") for number in range(1_000)], 200)) == 16
