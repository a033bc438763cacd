"""What a provider's headers say is left of its limits."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from time import perf_counter
from types import MappingProxyType
from typing import Any, Final

_EVERY_SECONDS: Final = 1.0
_LITELLM: Final = "x-litellm-call-id"
_NOTHING: Final[Mapping[str, float]] = MappingProxyType({})
_REMAINING: Final = re.compile(
    r"x-ratelimit-remaining-(?P<openai>[a-z][a-z-]{0,29})|anthropic-(?:priority-)?ratelimit-(?P<anthropic>[a-z][a-z-]{0,29})-remaining",
)


class RateLimits:
    """Reads the limits from the headers of one client's answers, once a second at most: headers are slow to search."""

    __slots__ = ("_clock", "_next", "is_litellm")

    def __init__(self, clock: Callable[[], float] = perf_counter) -> None:
        self._clock = clock
        self._next = float("-inf")
        self.is_litellm = False
        """Whether the answers come from LiteLLM's proxy, as of the last look."""

    def of(self, headers: Any) -> Mapping[str, float]:
        """Return what is left by limit, nothing where the last look is less than a second ago."""
        now = self._clock()
        if now < self._next:
            return _NOTHING
        self._next = now + _EVERY_SECONDS
        self.is_litellm = _LITELLM in headers
        return remaining(headers)


def remaining(headers: Mapping[str, str]) -> Mapping[str, float]:
    """Return what OpenAI's, Anthropic's and their likes' headers tell, by the limit's name."""
    found = {}
    for name, value in headers.items():
        known = _REMAINING.fullmatch(name.lower())
        if known and value.isdecimal():
            found[known["openai"] or known["anthropic"]] = float(value)
    return found
