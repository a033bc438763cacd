"""The fine scale: every exposed bound is one of its bounds, and its percentiles are within 2 % of the exact ones."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.cells import CellRegistry, Declaration, HistogramSeries, Total, scale

from .conftest import Join
from .support import SECONDS, die, metric, read

SAMPLES = 200_000
QUANTILES = (0.01, 0.5, 0.9, 0.95, 0.99, 0.999)
EXPOSED = [
    ("seconds", scale.HTTP_SECONDS),
    ("seconds", scale.DB_SECONDS),
    ("seconds", scale.CACHE_SECONDS),
    ("seconds", scale.LLM_SECONDS),
    ("quantity", scale.BODY_BYTES),
    ("quantity", scale.TOKENS),
]


def lognormal(chance: random.Random) -> float:
    """Return a request's time: most take some 20 ms, few take long."""
    return chance.lognormvariate(math.log(0.02), 1.1)


def bimodal(chance: random.Random) -> float:
    """Return a cached answer of about 1 ms or, for one in five, a computed one of about 800 ms."""
    return abs(chance.gauss(0.001, 0.0002)) + 1e-5 if chance.random() < 0.8 else abs(chance.gauss(0.8, 0.1))


def pareto(chance: random.Random) -> float:
    """Return a time with a heavy tail."""
    return 0.004 * chance.paretovariate(1.3)


Distribution = Callable[[random.Random], float]
DISTRIBUTIONS = [lognormal, bimodal, pareto]


@lru_cache(maxsize=len(DISTRIBUTIONS))
def drawn(distribution: Distribution) -> tuple[float, ...]:
    """Return the same samples in every run."""
    chance = random.Random(20_240_607)
    return tuple(distribution(chance) for _ in range(SAMPLES))


def exact_quantile(ordered: list[float], q: float) -> float:
    """Return the smallest sample that at least the share ``q`` of all does not exceed."""
    return ordered[max(math.ceil(q * len(ordered)) - 1, 0)]


def histogram_of(registry: CellRegistry, declaration: Declaration) -> HistogramSeries:
    """Return a histogram to count in."""
    histogram = registry.series(declaration, ("a",)).histogram
    assert histogram is not None
    return histogram


def largest_error(total: Total, declaration: Declaration, values: tuple[float, ...]) -> float:
    """Return the largest relative error over QUANTILES against the sorted values."""
    bounds, counts, ordered = scale.fine_bounds(declaration.unit, declaration.le), total.counts(), sorted(values)
    errors = []
    for q in QUANTILES:
        estimate, exact = scale.quantile(bounds, counts, q), exact_quantile(ordered, q)
        assert estimate is not None
        errors.append(abs(estimate - exact) / exact)
    return max(errors)


@pytest.mark.parametrize(("unit", "le"), EXPOSED)
def test_every_exposed_bound_is_a_fine_bound_exactly(unit: str, le: tuple[float, ...]) -> None:
    """A classic bucket is a plain sum of fine ones."""
    assert set(le) <= set(scale.fine_bounds(unit))


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=20).map(tuple), st.sampled_from(scale.UNITS))
def test_every_custom_bound_is_a_fine_bound_exactly(le: tuple[float, ...], unit: str) -> None:
    """Buckets of the user's own are exact too, wherever they lie."""
    bounds = scale.fine_bounds(unit, le)

    assert set(le) <= set(bounds)
    assert list(bounds) == sorted(set(bounds))


@pytest.mark.parametrize("unit", scale.UNITS)
def test_fine_bounds_never_lie_further_apart_than_the_promised_error_allows(unit: str) -> None:
    """Each bound is at most 4 % above the one below it, all over the scale's range."""
    positive = [bound for bound in scale.fine_bounds(unit) if bound > 0]

    assert max(high / low for low, high in pairwise(positive)) <= scale.GROWTH * (1 + 1e-12)
    assert scale.RELATIVE_ERROR < 0.02


@pytest.mark.parametrize(("unit", "low", "high"), [("seconds", 10e-6, 1000.0), ("quantity", 1.0, 1e12)])
def test_the_scales_reach_from_queries_to_model_calls_and_over_all_bodies(unit: str, low: float, high: float) -> None:
    """Queries of 10 µs and model calls of 1,000 s lie inside the scale; bodies and tokens do up to 10^12."""
    bounds = scale.fine_bounds(unit)

    assert bounds[1] <= low
    assert bounds[-1] >= high


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_percentiles_are_within_2_percent_of_the_exact_ones(distribution: Distribution) -> None:
    """The median, p95 and p99 hold for one hump, two humps and a heavy tail."""
    registry, values = CellRegistry(), drawn(distribution)
    histogram = histogram_of(registry, SECONDS)
    for each in values:
        histogram.observe(each)
    total = metric(read(registry), SECONDS).series["a",]

    assert total.count() == SAMPLES
    assert total.value == pytest.approx(sum(values), rel=1e-9)
    assert largest_error(total, SECONDS, values) <= 0.02


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_percentiles_merged_over_processes_are_as_exact_as_those_of_one(distribution: Distribution, join: Join) -> None:
    """Four processes with unequal shares, one of them dead and folded, answer like one that counted everything."""
    declaration = Declaration(
        name="job_seconds", kind="histogram", help="Time.", labels=("kind",), le=(0.003, 0.0421, 0.77)
    )
    registries, values = [join() for _ in range(4)], drawn(distribution)
    histograms = [histogram_of(registry, declaration) for registry in registries]
    for number, each in enumerate(values):
        histograms[min(number % 7, 3)].observe(each)
    die(registries[0])
    total = metric(read(registries[1]), declaration).series["a",]

    assert total.count() == SAMPLES
    assert largest_error(total, declaration, values) <= 0.02


def test_bodies_are_read_back_within_2_percent() -> None:
    """The scale of quantities holds the same promise for whole numbers of bytes from 1 to a terabyte."""
    declaration = Declaration(name="body_bytes", kind="histogram", help="Bytes.", labels=("kind",), unit="quantity")
    chance = random.Random(7)
    values = tuple(float(max(1, int(chance.lognormvariate(9.0, 3.0)))) for _ in range(20_000))
    registry = CellRegistry()
    histogram = histogram_of(registry, declaration)
    for each in values:
        histogram.observe(each)

    assert largest_error(metric(read(registry), declaration).series["a",], declaration, values) <= 0.02


@pytest.mark.parametrize("le", [scale.HTTP_SECONDS, (0.0123, 0.2, 3.7, 11.0)], ids=["standard", "custom"])
def test_classic_buckets_are_exact_even_for_values_on_their_bounds(le: tuple[float, ...]) -> None:
    """A value equal to a bound is counted in that bound's bucket; its neighbours a hair away fall on their own side."""
    declaration = Declaration(name="job_seconds", kind="histogram", help="Time.", labels=("kind",), le=le)
    near = [beside for bound in le for beside in (math.nextafter(bound, 0), bound, math.nextafter(bound, math.inf))]
    values = [*near, *drawn(lognormal)[:5_000], 0.0, 5_000.0]
    registry = CellRegistry()
    histogram = histogram_of(registry, declaration)
    for each in values:
        histogram.observe(each)
    counts = metric(read(registry), declaration).series["a",].counts()
    fine = scale.fine_bounds(declaration.unit, le)

    for bound in le:
        below = sum(number for index, number in counts.items() if index < len(fine) and fine[index] <= bound)
        assert below == sum(each <= bound for each in values), bound


def test_a_histogram_takes_only_the_pages_that_its_values_touch() -> None:
    """A thousand times around 20 ms cost a page or two, not the whole scale."""
    registry = CellRegistry()
    histogram = histogram_of(registry, SECONDS)
    for step in range(1_000):
        histogram.observe(0.02 + step * 1e-6)

    assert len(metric(read(registry), SECONDS).series["a",].pages) <= 2


def test_the_count_is_derived_from_the_buckets_and_the_sum_is_a_cell_of_its_own() -> None:
    """A kill between the two stores of an observation can tear the sum, never the count from the buckets."""
    registry = CellRegistry()
    histogram = histogram_of(registry, SECONDS)
    for each in (0.1, 0.2, 0.4):
        histogram.observe(each)
    total = metric(read(registry), SECONDS).series["a",]

    assert total.count() == sum(total.counts().values()) == 3
    assert total.value == pytest.approx(0.7)


def test_there_is_no_percentile_without_samples() -> None:
    """Nothing was counted, so nothing is claimed."""
    assert scale.quantile(scale.fine_bounds("seconds"), {}, 0.5) is None
    assert scale.quantile(scale.fine_bounds("seconds"), {3: 0.0}, 0.5) is None


@pytest.mark.parametrize(("observed", "reported"), [(5_000.0, 1_000.0), (0.0, 1e-6), (-1.0, 1e-6)])
def test_values_beyond_the_scale_count_at_its_ends(observed: float, reported: float) -> None:
    """A value past the last bound or below the first is counted, and reported as that end."""
    registry = CellRegistry()
    histogram_of(registry, SECONDS).observe(observed)
    total = metric(read(registry), SECONDS).series["a",]

    assert total.count() == 1
    assert scale.quantile(scale.fine_bounds("seconds", SECONDS.le), total.counts(), 0.5) == pytest.approx(
        reported, rel=0.04
    )


def test_a_percentile_of_one_sample_is_that_sample() -> None:
    """Every share of one sample is the sample, within the scale's error."""
    registry = CellRegistry()
    histogram_of(registry, SECONDS).observe(0.0333)
    counts = metric(read(registry), SECONDS).series["a",].counts()

    for q in (0.0, 0.5, 1.0):
        assert scale.quantile(scale.fine_bounds("seconds", SECONDS.le), counts, q) == pytest.approx(0.0333, rel=0.02)
