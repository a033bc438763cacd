"""Caps: label sets and values are bounded, what is refused is counted under (other) and not remembered."""

from __future__ import annotations

import random
from collections.abc import Sized

import pytest

from monitoring.cells import OTHER, CellReader, CellRegistry, Declaration
from monitoring.testing import use

from .conftest import Join
from .support import DROPPED, QUEUE, count, die, metric, observe, read, samples, value

DISTINCT = 20_000

PAIRS = Declaration(name="pairs_total", kind="counter", help="Pairs.", labels=("left", "right"))


def add_pair(registry: CellRegistry, left: object, right: object) -> None:
    """Count one pair."""
    cell = registry.series(PAIRS, (str(left), str(right))).cell
    assert cell is not None
    cell[0] += 1.0


def test_values_past_the_cap_of_a_label_are_counted_under_other() -> None:
    """The first values keep their names, the rest share one, and the total is exact."""
    registry = CellRegistry(max_label_values=3)
    for kind in range(10):
        count(registry, kind=str(kind))
    series = metric(read(registry)).series

    assert {values: total.value for values, total in series.items()} == {
        ("0",): 1,
        ("1",): 1,
        ("2",): 1,
        (OTHER,): 7,
    }


def test_each_label_has_its_own_cap() -> None:
    """A label that overflows leaves the others readable."""
    registry = CellRegistry(max_label_values=2)
    for left in ("a", "b"):
        for right in range(5):
            add_pair(registry, left, right)
    series = metric(read(registry), PAIRS).series

    assert sorted(series) == sorted((left, right) for left in ("a", "b") for right in ("0", "1", OTHER))
    assert value(read(registry), PAIRS) == 10


def test_a_metric_may_limit_a_label_itself() -> None:
    """Routes, hosts and models have limits of their own."""
    hosts = Declaration(name="calls_total", kind="counter", help="Calls.", labels=("host", "path"), limits={"host": 2})
    registry = CellRegistry()
    for host in range(5):
        cell = registry.series(hosts, (str(host), "/")).cell
        assert cell is not None
        cell[0] += 1.0

    assert sorted(metric(read(registry), hosts).series) == [(OTHER, "/"), ("0", "/"), ("1", "/")]


def test_label_sets_past_the_cap_of_a_metric_are_counted_under_other() -> None:
    """Few values per label still make many sets: past the cap the whole set is (other)."""
    registry = CellRegistry(max_series=10)
    for left in range(6):
        for right in range(6):
            add_pair(registry, left, right)
    series = metric(read(registry), PAIRS).series

    assert len(series) == 11
    assert series[OTHER, OTHER].value == 26
    assert value(read(registry), PAIRS) == 36


def test_each_metric_has_its_own_cap() -> None:
    """One metric that overflows costs the others nothing."""
    registry = CellRegistry(max_series=5)
    for kind in range(20):
        count(registry, kind=str(kind))
    for kind in range(5):
        count(registry, kind=str(kind), declaration=QUEUE)

    assert len(metric(read(registry), QUEUE).series) == 5


def test_drops_are_counted_by_metric_and_shown() -> None:
    """monitoring_series_dropped_total says which metric lost how many look-ups to a cap."""
    registry = CellRegistry(max_label_values=3)
    for kind in range(10):
        count(registry, kind=str(kind))
        observe(registry, 0.1, kind=str(kind))
    series = read(registry).metrics[DROPPED].series

    assert {values: total.value for values, total in series.items()} == {("jobs_total",): 7, ("job_seconds",): 7}


def test_histograms_past_the_cap_lose_no_sample() -> None:
    """Buckets of (other) hold what the refused sets would have held."""
    registry = CellRegistry(max_label_values=3)
    for kind in range(10):
        observe(registry, 0.001 * 2**kind, kind=str(kind))

    assert samples(read(registry)) == 10


def test_rejected_values_are_not_remembered() -> None:
    """20,000 hostile values leave every table of the process as small as the caps say."""
    with use(max_label_values=50, max_series=100) as m:
        jobs = m.counter("jobs_total", "Jobs.", ["kind"])
        waiting = m.gauge("waiting", "Jobs that wait.", ["kind"])
        seconds = m.histogram("job_seconds", "Time.", ["kind"])
        pairs = m.counter("pairs_total", "Pairs.", ["left", "right"])
        for number in range(DISTINCT):
            jobs.labels(number).inc()
            waiting.labels(number).set(1)
            seconds.labels(f"x{number}" * 100).observe(0.1)
            pairs.labels(number % 40, number // 40).inc()
        (writer,), admitted = m.registry._writers, m.registry._admitted
        tables: dict[str, Sized] = {
            **{f"cells of {name}": cells for name, cells in m.metrics._cells.items()},
            **{f"histograms of {name}": series for name, series in m.metrics._histograms.items()},
            "made": writer._made,
            "declared": writer._declared,
            **{f"sets of {name}": sets for name, sets in admitted._sets.items()},
            **{f"values of {name}": values for name, values in admitted._values.items()},
        }
        sizes = {name: len(table) for name, table in tables.items()}
        totals = m.metrics.totals()

    assert totals.metrics["jobs_total"].series[OTHER,].value == DISTINCT - 50
    assert sum(total.value for total in totals.metrics["pairs_total"].series.values()) == DISTINCT
    assert sum(total.count() for total in totals.metrics["job_seconds"].series.values()) == DISTINCT
    assert max(sizes.values()) <= 3 * 51 + 101 + 4, sizes


def test_values_are_clipped(join: Join) -> None:
    """A label value of a megabyte is no way to fill the memory; its first 200 characters stand for it."""
    registry = join()
    count(registry, kind="x" * 1_000_000)
    count(registry, kind="x" * 200)

    assert {values: total.value for values, total in metric(read(registry)).series.items()} == {("x" * 200,): 2}


@pytest.mark.parametrize(
    ("settings", "most"),
    [({"max_series": 4}, 5), ({"max_label_values": 4}, 5), ({"max_series": 6, "max_label_values": 4}, 5)],
    ids=["sets", "values", "both"],
)
def test_the_union_over_processes_is_capped_again(join: Join, settings: dict[str, int], most: int) -> None:
    """Five processes with values of their own expose no more series than one may, and lose no count."""
    registries = [join(**settings) for _ in range(5)]
    for number, registry in enumerate(registries):
        for kind in range(4):
            count(registry, kind=f"{number}-{kind}")
    totals = read(registries[0])

    assert len(metric(totals).series) <= most
    assert value(totals) == 20


def test_the_union_respects_the_limits_of_a_metrics_own(join: Join) -> None:
    """A limit declared for a label holds for the sum too, also in a process that never used the metric."""
    hosts = Declaration(name="calls_total", kind="counter", help="Calls.", labels=("host",), limits={"host": 2})
    registries = [join() for _ in range(3)]
    for number, registry in enumerate(registries):
        for host in range(2):
            cell = registry.series(hosts, (f"{number}-{host}",)).cell
            assert cell is not None
            cell[0] += 1.0

    for reader in (registries[0], join()):
        totals = read(reader)
        assert len(metric(totals, hosts).series) <= 3
        assert value(totals, hosts) == 6


def test_every_process_shows_the_same_union(join: Join) -> None:
    """Which sets keep their names does not depend on who answers the scrape."""
    registries = [join(max_label_values=4) for _ in range(3)]
    for number, registry in enumerate(registries):
        for kind in range(4):
            count(registry, kind=f"{kind}-{number}")
    shown = [set(metric(read(registry)).series) for registry in registries]

    assert shown[0] == shown[1] == shown[2]


@pytest.mark.parametrize(("merge", "expected"), [("sum", 15.0), ("max", 5.0), ("min", 1.0)])
def test_gauges_that_share_other_are_merged_as_declared(join: Join, merge: str, expected: float) -> None:
    """The largest of five queues stays the largest, also among those that lost their names."""
    lengths = Declaration(name="length", kind="gauge", help="Length.", labels=("kind",), merge=merge)  # type: ignore[arg-type]
    registries = [join(max_label_values=1) for _ in range(6)]
    for number, registry in enumerate(registries):
        cell = registry.series(lengths, (f"kind {number}",)).cell
        assert cell is not None
        cell[0] = float(number)
    series = metric(read(registries[0]), lengths).series

    assert set(series) == {("kind 0",), (OTHER,)}
    assert series[OTHER,].value == expected


def test_no_shown_counter_falls_while_the_union_grows(join: Join) -> None:
    """New sets push others into (other); what is shown under a name never shrinks while it is shown."""
    chance = random.Random(4)
    watcher = join(max_label_values=6)
    reader = CellReader(watcher)
    count(watcher, 0, kind="m")
    before: dict[tuple[str, ...], float] = {}
    for _ in range(40):
        registry = join(max_label_values=6)
        for _ in range(5):
            count(registry, kind=chance.choice("abcdefghijklmnopqrstuvwxyz"))
        if chance.random() < 0.5:
            die(registry)
        now = {values: total.value for values, total in metric(reader.read()).series.items()}
        assert all(now.get(values, shown) >= shown for values, shown in before.items())
        assert sum(now.values()) == sum(before.values()) + 5
        before = now
