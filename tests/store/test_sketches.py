"""Sketches: small, exact to add up, and within 2 % of the exact percentiles."""

from __future__ import annotations

import math
import random
from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.cells import Declaration, scale
from monitoring.store import sketches

Counts = st.dictionaries(st.integers(0, 600), st.integers(1, 2**40))


def sketch_of(values: list[float], unit: str = "seconds") -> sketches.Counts:
    """Return the buckets that these values fall into."""
    bounds, counts = scale.fine_bounds(unit), {}
    for value in values:
        index = bisect_left(bounds, value)
        counts[index] = counts.get(index, 0) + 1
    return counts


def exact(values: list[float], share: float) -> float:
    """Return the value below which a share of the values lies."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


@given(Counts)
def test_what_was_encoded_is_read_back(counts: sketches.Counts) -> None:
    """Every bucket with its count."""
    assert sketches.decode(sketches.encode(counts)) == counts


def test_no_sketch_has_no_buckets() -> None:
    """Counters and gauges have none."""
    assert sketches.decode(None) == {}


@given(Counts, Counts)
def test_a_difference_is_what_was_added(before: sketches.Counts, gained: sketches.Counts) -> None:
    """Subtracting what was there gives what came since."""
    now = dict(before)
    sketches.add(now, gained)
    assert sketches.difference(now, before) == gained


@pytest.mark.parametrize("share", [0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("seed", range(5))
def test_percentiles_of_merged_sketches_are_within_two_percent(seed: int, share: float) -> None:
    """The sum of a hundred minutes is as good as one sketch of all of them."""
    chance = random.Random(seed)
    values, merged = [], {}
    for _ in range(100):
        minute = [chance.lognormvariate(-3, 1.5) for _ in range(chance.randrange(1, 60))]
        values.extend(minute)
        sketches.add(merged, sketches.decode(sketches.encode(sketch_of(minute))))
    (found,) = sketches.quantiles(merged, "seconds", [share])
    assert found == pytest.approx(exact(values, share), rel=0.02)


def test_without_samples_there_is_no_percentile() -> None:
    """None, and not 0."""
    assert sketches.quantiles({}, "seconds", [0.5, 0.99]) == [None, None]
    assert sketches.share_above({}, "seconds", 1.0) is None


def test_bounds_of_the_standard_scale_need_no_name() -> None:
    """Only bounds that are not on the scale anyway are kept with the unit."""
    standard = Declaration(name="a_seconds", kind="histogram", help=".", le=scale.HTTP_SECONDS)
    own = Declaration(name="b_seconds", kind="histogram", help=".", le=(0.0123, 0.5, 3.21))
    assert sketches.scale_name(standard) == "seconds"
    assert sketches.scale_name(own) == "seconds|0.0123|3.21"


def test_the_share_above_an_exposed_bound_is_exact() -> None:
    """A bound of the scale divides the buckets."""
    counts = sketch_of([0.1, 0.2, 0.25, 0.26, 3.0])
    assert sketches.share_above(counts, "seconds", 0.25) == pytest.approx(2 / 5)
    assert sketches.share_above(counts, "seconds", 10.0) == 0
