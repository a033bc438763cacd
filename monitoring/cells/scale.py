"""Fine bucket bounds: one logarithmic scale from which percentiles and every exposed bucket come.

The bounds grow by 4 % and contain each exposed ``le`` bound exactly, so that a classic Prometheus bucket is a plain
sum of fine ones, two processes' histograms add element by element, and a percentile is off by at most
``RELATIVE_ERROR``.
"""

from __future__ import annotations

import math
import zlib
from array import array
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

GROWTH: Final = 1.04
RELATIVE_ERROR: Final = (GROWTH - 1) / (GROWTH + 1)
"""Largest relative error of a percentile inside the scale's range: 1.96 %."""

PAGE: Final = 64
"""Buckets in a page, a factor of 12: a histogram takes only the pages that its values touch, mostly one or two."""

HTTP_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Advised by OpenTelemetry's semantic conventions for HTTP server and client durations."""
DB_SECONDS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)
CACHE_SECONDS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
LLM_SECONDS: Final = tuple(round(0.01 * 2**step, 2) for step in range(14))
BODY_BYTES: Final = tuple(64.0 * 4**step for step in range(11))
TOKENS: Final = tuple(4.0**step for step in range(14))

_RANGES: Final[Mapping[str, tuple[float, float]]] = {"seconds": (1e-6, 1e3), "quantity": (1.0, 1e12)}
_STANDARD: Final[Mapping[str, frozenset[float]]] = {
    "seconds": frozenset({*HTTP_SECONDS, *DB_SECONDS, *CACHE_SECONDS, *LLM_SECONDS}),
    "quantity": frozenset({0.0, *BODY_BYTES, *TOKENS}),
}
UNITS: Final = tuple(_RANGES)


@lru_cache(maxsize=256)
def fine_bounds(unit: str, le: tuple[float, ...] = ()) -> tuple[float, ...]:
    """Return the upper bounds of the fine buckets for ``unit``, with each exposed bound of ``le`` among them.

    The last bucket, above the last bound, is not listed: a value there has index ``len(bounds)``. ``seconds``
    reaches from 1 µs to 1,000 s, ``quantity`` (bytes, tokens, rows) from 0 and 1 to 10^12.
    """
    low, high = _RANGES[unit]
    steps = math.ceil(math.log(high / low) / math.log(GROWTH))
    geometric = (low * GROWTH**step for step in range(steps + 1))
    return tuple(sorted({*geometric, *_STANDARD[unit], *(bound for bound in le if math.isfinite(bound))}))


def fingerprint() -> int:
    """Return a checksum of all standard bounds: files with another one cannot be added to ours."""
    return zlib.crc32(b"".join(array("d", fine_bounds(unit)).tobytes() for unit in UNITS) + bytes([PAGE]))


def quantile(bounds: Sequence[float], counts: Mapping[int, float], q: float) -> float | None:
    """Return the value below which the share ``q`` (0 to 1) of the samples lies, or None without samples.

    ``counts`` maps a fine bucket's index to its number of samples. Above the scale the last bound is returned.
    """
    total = sum(counts.values())
    if not total:
        return None
    rank = q * total
    seen = 0.0
    index = 0
    for index in sorted(counts):
        seen += counts[index]
        if seen >= rank and counts[index]:
            break
    if index >= len(bounds):
        return bounds[-1]
    high = bounds[index]
    low = bounds[index - 1] if index else 0.0
    return 2 * low * high / (low + high) if low > 0 else high
