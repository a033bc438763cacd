"""Statistics that are asked for now and then: gains, sizes, forks and what dies."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitoring import Monitoring, families, polled
from monitoring.cells import Declaration
from monitoring.polled import PolledCache, Reading
from monitoring.testing import use


class Memo:
    """A cache in memory whose statistics a test sets."""

    def __init__(self) -> None:
        self.told = Reading()
        self.readers: set[int] = set()

    def read(self) -> Reading:
        self.readers.add(threading.get_ident())
        return self.told


@pytest.fixture
def m() -> Iterator[Monitoring]:
    with use(metrics_public=True) as m:
        yield m


def known(memo: Memo, m: Monitoring, *, name: str = "memo", can_read_in_fork: bool = True) -> PolledCache:
    """Have a memo read for a Monitoring."""
    cache = PolledCache(
        memo,
        Memo.read,
        name=name,
        system="memory",
        recorder_of=lambda: m.recorder,
        can_read_in_fork=can_read_in_fork,
    )
    polled.add(cache)
    return cache


def values(m: Monitoring, declaration: Declaration) -> dict[tuple[str, ...], float]:
    """Return what was counted by label values."""
    metric = m.metrics.snapshot().get(declaration.name)
    return {tuple(one.labels.values()): one.value for one in metric.series} if metric else {}


HIT, MISS = ("memo", "memory", "hit"), ("memo", "memory", "miss")


def test_gains_are_counted_once(m: Monitoring) -> None:
    """What it had counted before it was known is not the service's."""
    memo = Memo()
    memo.told = Reading(hits=100, misses=50)
    known(memo, m)
    memo.told = Reading(hits=103, misses=51, puts=2, removals=1, evictions=4, size=7)
    m.polled.read()
    m.polled.read()
    assert values(m, families.CACHE_GETS) == {HIT: 3, MISS: 1}
    assert values(m, families.CACHE_PUTS) == {("memo", "memory"): 2}
    assert values(m, families.CACHE_REMOVALS) == {("memo", "memory"): 1}
    assert values(m, families.CACHE_EVICTIONS) == {("memo", "memory"): 4}
    assert values(m, families.CACHE_SIZE) == {("memo", "memory"): 7}


def test_statistics_that_fall_have_begun_anew(m: Monitoring) -> None:
    """``cache_clear()`` sets them to 0."""
    memo = Memo()
    known(memo, m)
    for told in (Reading(hits=10, misses=5, size=5), Reading(hits=2, misses=3, size=3)):
        memo.told = told
        m.polled.read()
    assert values(m, families.CACHE_GETS) == {HIT: 12, MISS: 8}
    assert values(m, families.CACHE_SIZE) == {("memo", "memory"): 3}


def test_caches_of_one_name_add_up(m: Monitoring) -> None:
    """Also their sizes."""
    memos = [Memo(), Memo()]
    for memo in memos:
        known(memo, m)
        memo.told = Reading(hits=1, size=2)
    m.polled.read()
    assert values(m, families.CACHE_GETS) == {HIT: 2}
    assert values(m, families.CACHE_SIZE) == {("memo", "memory"): 4}


def test_a_cache_that_is_gone_has_no_size(m: Monitoring) -> None:
    """It is held weakly."""
    before = len(polled._known)
    memo = Memo()
    known(memo, m)
    memo.told = Reading(hits=1, size=2)
    m.polled.read()
    del memo
    m.polled.read()
    assert values(m, families.CACHE_SIZE) == {("memo", "memory"): 0}
    assert len(polled._known) <= before


def test_a_cache_that_cannot_be_read_holds_up_no_other(m: Monitoring) -> None:
    """Its failure is the pack's own, and is counted as such."""
    failures: list[str] = []
    m.polled._on_failure = lambda part, error: failures.append(part)  # type: ignore[method-assign]
    broken, memo = Memo(), Memo()
    known(broken, m)
    known(memo, m)
    broken.told = None  # type: ignore[assignment]
    memo.told = Reading(hits=1)
    m.polled.read()
    assert failures == ["polled"]
    assert values(m, families.CACHE_GETS) == {HIT: 1}


def test_each_monitoring_reads_its_own(m: Monitoring) -> None:
    """As each wrapped client reports to one recorder."""
    memo = Memo()
    known(memo, m)
    memo.told = Reading(hits=1)
    with use() as other:
        other.polled.read()
        assert values(other, families.CACHE_GETS) == {}
    m.polled.read()
    assert values(m, families.CACHE_GETS) == {HIT: 1}


def test_readings_at_once_count_a_gain_once(m: Monitoring) -> None:
    """A scrape and the flusher's round may come together."""
    memo = Memo()
    known(memo, m)
    memo.told = Reading(hits=5)
    threads = [threading.Thread(target=m.polled.read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert values(m, families.CACHE_GETS) == {HIT: 5}


def gained_in_child(m: Monitoring, memo: Memo) -> int:
    """Return the exit code of a child that uses the memo twice between two readings: its gain."""
    child = os.fork()
    if child == 0:
        m.polled.read()
        memo.told = memo.told._replace(hits=memo.told.hits + 2)
        m.polled.read()
        os._exit(int(values(m, families.CACHE_GETS).get(HIT, 0)))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("can_read_in_fork", [True, False])
def test_a_forked_child_counts_what_it_does_itself(m: Monitoring, can_read_in_fork: bool) -> None:
    """What the parent gained and has not counted yet stays the parent's."""
    memo = Memo()
    known(memo, m, can_read_in_fork=can_read_in_fork)
    memo.told = Reading(hits=40)
    assert gained_in_child(m, memo) == 2
    m.polled.read()
    assert values(m, families.CACHE_GETS) == {HIT: 40}


def test_a_reading_that_a_fork_cuts_off_does_not_hold_the_child(m: Monitoring) -> None:
    """Another thread may hold the lock at that moment."""
    memo = Memo()
    known(memo, m)
    with polled._lock:
        assert gained_in_child(m, memo) == 2


def test_a_scrape_reads_first(m: Monitoring) -> None:
    """So that it works without a store."""
    from starlette.testclient import TestClient

    memo = Memo()
    known(memo, m)
    memo.told = Reading(hits=3)
    text = TestClient(m.metrics_app()).get("/metrics").text
    assert 'cache_gets_total{cache="memo",cache_system="memory",result="hit"} 3' in text


def test_the_background_reads_in_its_rounds(tmp_path: Path) -> None:
    """What is flushed can be read afterwards."""
    with use(store=str(tmp_path / "store")) as m:
        memo = Memo()
        known(memo, m)
        memo.told = Reading(hits=3)
        m.background.flush()
        assert values(m, families.CACHE_GETS) == {HIT: 3}


def test_the_last_gain_is_counted_when_the_process_ends(tmp_path: Path) -> None:
    """A worker's numbers stay with the service."""
    with use(cells_folder=str(tmp_path)) as m, use(cells_folder=str(tmp_path)) as other:
        other.counter("jobs_total", "Jobs.").inc()  # it lives
        memo = Memo()
        known(memo, m)
        memo.told = Reading(hits=3)
        m.close()
        assert values(other, families.CACHE_GETS) == {HIT: 3}
