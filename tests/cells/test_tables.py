"""Look-ups of series: what is asked for is made, and remembered only where it stands for itself."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from monitoring.cells import NullRegistry
from monitoring.cells import registry as registry_module

from .conftest import Join
from .support import JOBS, SECONDS, metric, read


def test_a_series_is_made_when_it_is_first_asked_for(join: Join) -> None:
    """From then on the look-up returns the same cell."""
    cells = join().cells(JOBS)
    assert cells.get(("a",)) is None
    cells["a",][0] += 2.0
    assert cells["a",][0] == 2.0
    assert cells.get(("a",)) is cells["a",]


def test_without_space_it_counts_nowhere() -> None:
    """Nothing is raised, and it is asked for anew the next time."""
    registry = NullRegistry()
    cells, histograms = registry.cells(JOBS), registry.histograms(SECONDS)
    cells["a",][0] += 1.0
    histograms["a",].observe(0.1)
    assert cells["a",][0] == 0.0
    assert (len(cells), len(histograms)) == (0, 0)


def test_without_the_gil_each_thread_has_cells_of_its_own(join: Join, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads count under the same label in two cells, and the sum has both."""
    monkeypatch.setattr(registry_module, "_gil_is_on", lambda: False)
    registry = join()
    cells = registry.cells(JOBS)
    found: list[Any] = []
    both = threading.Barrier(2)

    def work() -> None:
        cells["a",][0] += 1.0
        found.append(cells["a",])
        both.wait(10)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] is not found[1]
    assert metric(read(registry)).series["a",].value == 2.0
