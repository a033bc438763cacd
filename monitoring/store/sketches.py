"""Sketches: a histogram's fine buckets as a small blob, and what is read from them.

A sketch holds only the buckets that have counts, so sketches of different times and hosts add up exactly, and a
percentile of the sum is as good as one of the parts: within 2 % (``scale.RELATIVE_ERROR``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import orjson

from ..cells import Declaration, scale

Counts = dict[int, float]
"""Samples by the index of their fine bucket."""

_SEPARATOR: Final = "|"


def encode(counts: Mapping[int, float]) -> bytes:
    """Return the sketch of these buckets: a flat JSON list of index and count in turn."""
    return orjson.dumps([number for index in sorted(counts) for number in (index, int(counts[index]))])


def decode(sketch: bytes | None) -> Counts:
    """Return the buckets of a sketch; none for None."""
    if not sketch:
        return {}
    numbers = orjson.loads(sketch)
    return dict(zip(numbers[::2], numbers[1::2]))


def add(counts: Counts, others: Mapping[int, float]) -> None:
    """Add other buckets to ``counts``, in place."""
    for index, count in others.items():
        counts[index] = counts.get(index, 0) + count


def difference(counts: Mapping[int, float], before: Mapping[int, float]) -> Counts:
    """Return what was gained since ``before``."""
    return {index: gained for index, count in counts.items() if (gained := count - before.get(index, 0)) > 0}


def scale_name(declaration: Declaration) -> str:
    """Return what says in the store which bounds a metric's sketches have: its unit and its own exposed bounds."""
    own = [repr(bound) for bound in declaration.le if bound not in scale.fine_bounds(declaration.unit)]
    return _SEPARATOR.join([declaration.unit, *own])


def quantiles(counts: Mapping[int, float], unit: str, shares: Iterable[float]) -> list[float | None]:
    """Return the values below which these shares (0 to 1) of the samples lie; None without samples.

    ``unit`` is a ``scale_name``.
    """
    name, *own = unit.split(_SEPARATOR)
    bounds = scale.fine_bounds(name, tuple(map(float, own)))
    return [scale.quantile(bounds, counts, share) for share in shares]


def share_above(counts: Mapping[int, float], unit: str, threshold: float) -> float | None:
    """Return the share of samples above a threshold, as far as buckets tell; None without samples."""
    total = sum(counts.values())
    if not total:
        return None
    name, *own = unit.split(_SEPARATOR)
    bounds = scale.fine_bounds(name, tuple(map(float, own)))
    above = sum(count for index, count in counts.items() if index >= len(bounds) or bounds[index] > threshold)
    return above / total
