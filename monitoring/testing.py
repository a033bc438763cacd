"""For tests of your own app: see what it reported, move its clock, and let no failure of the monitoring hide."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from .config import with_settings
from .context import current_record
from .monitor import Monitoring, make_current
from .observation import KINDS, Kind, Observation
from .recorder import Fold


class MemorySink:
    """Keeps every observation in a list, for a test to look at."""

    def __init__(self) -> None:
        self.observations: list[Observation] = []

    def folds(self) -> Mapping[Kind, Fold]:
        """Return a fold that keeps, for every kind."""
        return {kind: self._keep for kind in KINDS}

    def _keep(self, observation: Observation) -> None:
        self.observations.append(copy.copy(observation))  # a request's own goes on changing after its end

    def of_kind(self, kind: Kind) -> list[Observation]:
        """Return the observations of one kind, in the order they ended."""
        return [observation for observation in self.observations if observation.kind == kind]


class FakeClock:
    """A clock that stands still until a test moves it. Call it for the time in seconds."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Move the time on."""
        self.now += seconds


@contextmanager
def use(*sinks: MemorySink, **settings: Any) -> Iterator[Monitoring]:
    """Make a fresh Monitoring the current one for a block; it reports to ``sinks`` too, and its own failures are
    raised.

    Cells stay in memory unless ``cells_folder`` is set, nothing is stored unless ``store`` is, and the lines of
    requests and jobs go to stderr unless ``log_destination`` is set. Loggers write where they wrote before.
    """
    config = with_settings(None, {"log_destination": "stderr", "store": None, **settings})
    monitoring = Monitoring(config, sinks=sinks, on_failure=_raise)
    if config.cells_folder is None:
        monitoring.registry.keep_in_memory()
    token = current_record.set(None)
    former = make_current(monitoring)
    monitoring.health.adopt(former.health)
    try:
        yield monitoring
    finally:
        current_record.reset(token)
        make_current(former).close()


def _raise(part: str, error: Exception) -> None:
    raise AssertionError(f"monitoring failed in {part}") from error
