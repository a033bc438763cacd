"""What the endpoints read: one Monitoring's read side, without the rest of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ..alerts import AlertEngine
    from ..analytics import Analytics
    from ..background import Background
    from ..budgets import Budgets
    from ..cells import CellRegistry, Totals
    from ..config import Config
    from ..performance_tracker import PerformanceTracker
    from ..store.database import Database
    from ..system_resources import SystemResources


class ReadsTotals(Protocol):
    """The metrics, as far as they are read here."""

    @property
    def registry(self) -> CellRegistry:
        """Return the process's series."""
        ...

    def totals(self) -> Totals:
        """Return the sums of all cells over all processes of the service."""
        ...


class Readers(Protocol):
    """A Monitoring, as far as the API reads it."""

    @property
    def config(self) -> Config:
        """Return the settings."""
        ...

    @property
    def metrics(self) -> ReadsTotals:
        """Return the sums of the cells."""
        ...

    @property
    def performance(self) -> PerformanceTracker:
        """Return the read side of rates, errors and percentiles."""
        ...

    @property
    def analytics(self) -> Analytics:
        """Return the read side of usage."""
        ...

    @property
    def budgets(self) -> Budgets:
        """Return the budgets for calls to language models."""
        ...

    @property
    def alerts(self) -> AlertEngine:
        """Return the rules, what they raised, and what can be done about it."""
        ...

    @property
    def background(self) -> Background:
        """Return the thread of the store."""
        ...

    @property
    def resources(self) -> SystemResources:
        """Return what reads the use of the host and the processes."""
        ...

    def open_database(self) -> Database:
        """Return the store's database. Raise ConfigError when there is none."""
        ...

    def background_failed(self, part: str, error: Exception) -> None:
        """Count a failure of the pack, and log the first of its kind."""
        ...
