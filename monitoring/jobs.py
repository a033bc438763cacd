"""What the flusher does besides writing facts: the assembly's list of jobs, each with its lease."""

from __future__ import annotations

import platform
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from . import families
from .alerts import AlertEngine
from .cells import Declaration, Totals
from .daemon_pool import DaemonPool
from .flusher import Flusher, Job
from .health.results import CheckResult
from .health_check import HealthChecks
from .outbox import Outbox
from .store import health, rollups
from .store.database import Database
from .store.health import CheckState
from .store.leases import Lease
from .store.retention import Retention, trim
from .system_resources import SystemResources

if TYPE_CHECKING:
    from .monitor import Monitoring

ROLL_UP_SECONDS: Final = 5.0
EVALUATE_SECONDS: Final = 5.0
CHECK_SECONDS: Final = 1.0
HOUSEKEEPING_SECONDS: Final = 15.0

_STEPS: Final = 5
_STANDS_SECONDS: Final = health.STALE_SECONDS / 2
_POOL_THREADS: Final = 4


def make_flusher(monitoring: Monitoring) -> Flusher:
    """Return the flusher of this process with all its jobs. Imports the store, so call it in the background."""
    config, database = monitoring.config, monitoring.open_database()
    host = config.host or platform.node() or "localhost"
    pool = DaemonPool(_POOL_THREADS, "monitoring-pool")
    alerting = Alerting(monitoring.alerts, pool, monitoring.background_failed)
    retention = Retention(
        facts_days=config.keep_facts_days, minutes_days=config.keep_minutes_days, max_bytes=config.store_max_bytes
    )

    def flush_sinks(lease: Lease, now: float) -> None:
        monitoring.analytics.flush()
        monitoring.error_tracker.flush()

    def abandon(lease: Lease, now: float) -> None:
        monitoring.analytics.abandon_overdue(now)

    def exchange(lease: Lease, now: float) -> None:
        monitoring.budgets.exchange(database, now)

    def read_polled(lease: Lease, now: float) -> None:
        monitoring.polled.read()

    jobs = (
        Job("sinks", flush_sinks, 1.0, final=True),
        Job("budgets", exchange, 1.0, final=True),
        Job("dropped", Counted(monitoring.outbox, monitoring.metrics.add).run, 1.0, final=True),
        Job("polled", read_polled, 1.0, final=True),
        Job("abandoned", abandon, EVALUATE_SECONDS, "store"),
        Job("checks", CheckHistory(database, monitoring.health).run, CHECK_SECONDS, "store"),
        Job(
            "roll-ups",
            RollUps(database, monitoring.metrics.totals_with_state, monitoring.resources, host).run,
            ROLL_UP_SECONDS,
            "host",
            final=True,
        ),
        Job("alerts", alerting.evaluate, EVALUATE_SECONDS, "store"),
        Job("deliveries", alerting.deliver, 1.0, "store"),
        Job("housekeeping", Housekeeping(database, retention).run, HOUSEKEEPING_SECONDS, "store"),
    )
    return Flusher(
        database,
        monitoring.outbox,
        jobs,
        host=host,
        hash_users=config.hash_users,
        on_failure=monitoring.background_failed,
    )


class RollUps:
    """Rolls the host's cells up, and the minutes into hours and days."""

    def __init__(
        self, database: Database, read_totals: Callable[[], Totals], resources: SystemResources, host: str
    ) -> None:
        self._read_totals = read_totals
        self._resources = resources
        self._writer = rollups.RollupWriter(database, host)

    def run(self, lease: Lease, now: float) -> None:
        """Write what was gained since the last time; the lease of the host is held."""
        totals = self._read_totals()
        self._resources.add_gauges(totals)
        self._writer.write(lease, totals, now)


class Housekeeping:
    """Rolls minutes up into hours and days, and removes what is too old; the store's lease is held."""

    def __init__(self, database: Database, retention: Retention) -> None:
        self._database = database
        self._retention = retention

    def run(self, lease: Lease, now: float) -> None:
        """Do a bounded number of steps."""
        for _ in range(_STEPS):
            with self._database.writing() as connection:
                lease.require(connection)
                if not rollups.roll_up(connection, now):
                    break
        for _ in range(_STEPS):
            if not trim(self._database, self._retention, now):
                break


class CheckHistory:
    """Keeps how the app's checks stand; the store's lease is held."""

    def __init__(self, database: Database, checks: HealthChecks) -> None:
        self._database = database
        self._checks = checks
        self._noted: set[CheckResult] = set()
        self._noted_at = 0.0

    def run(self, lease: Lease, now: float) -> None:
        """Note what is new, and every now and then what stands: between two runs a check stands as it was found."""
        self._checks.start()
        known = self._checks.known()
        states = [_state(result) for result in known if result not in self._noted]
        if not 0 <= now - self._noted_at < _STANDS_SECONDS:
            states = [replace(_state(result), until=max(now, result.checked_at)) for result in known]
            self._noted_at = now
        if states:
            with self._database.writing() as connection:
                lease.require(connection)
                health.note(connection, states)
        self._noted = set(known)


class Alerting:
    """Evaluates the rules and has what is due delivered; the store's lease is held."""

    def __init__(self, engine: AlertEngine, pool: Executor, on_failure: Callable[[str, Exception], None]) -> None:
        self._engine = engine
        self._pool = pool
        self._on_failure = on_failure

    def evaluate(self, lease: Lease, now: float) -> None:
        """Evaluate all rules once."""
        self._engine.evaluate(now)

    def deliver(self, lease: Lease, now: float) -> None:
        """Send the notices that are due, in the pool."""
        for sending in self._engine.deliver_due(now, self._pool):
            sending.add_done_callback(self._report)

    def _report(self, sending: Future[int]) -> None:
        error = sending.exception()
        if isinstance(error, Exception):
            self._on_failure("deliveries", error)


class Counted:
    """Counts in the cells what this process dropped since the last time."""

    def __init__(self, outbox: Outbox, add: Callable[[Declaration, tuple[str, ...], float], None]) -> None:
        self._outbox = outbox
        self._add = add
        self._dropped = 0

    def run(self, lease: Lease, now: float) -> None:
        """Count."""
        dropped = self._outbox.dropped
        if dropped != self._dropped:
            self._add(families.FACTS_DROPPED, (), float(dropped - self._dropped))
            self._dropped = dropped


def _state(result: CheckResult) -> CheckState:
    return CheckState(
        name=result.name,
        since=result.checked_at,
        until=result.checked_at,
        status=result.status,
        critical=result.critical,
        duration_seconds=result.duration_seconds,
        output=result.output,
    )
