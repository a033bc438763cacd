"""The flusher: in rounds it carries facts to the store and does the work that leases give this process.

What fails is tried again in the next round; the app never waits for it. ``background`` runs it in a thread.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from .outbox import Outbox
from .store import leases
from .store.database import Database, FactRefused, StoreUnusable
from .store.facts import Fact
from .store.leases import Lease, LeaseLost
from .store.writer import FactWriter

BATCH: Final = 1_000
_CLOSING_PAUSE_SECONDS: Final = 0.05
_CLOSING_TRIES: Final = int((leases.SECONDS + 0.5) / _CLOSING_PAUSE_SECONDS)
"""Enough for a lease to run out whose holder was killed."""

LeaseName = Literal["", "host", "store"]


@dataclass(frozen=True, slots=True)
class Job:
    """Something done every ``interval_seconds`` by the process that holds a lease, or, without one, by each.

    ``run`` gets the lease and the time. A job that is ``final`` runs once more when the process ends.
    """

    name: str
    run: Callable[[Lease, float], None]
    interval_seconds: float
    lease: LeaseName = ""
    final: bool = False


class Flusher:
    """One process's rounds of work for the store. Thread-safe: one round at a time."""

    def __init__(
        self,
        database: Database,
        outbox: Outbox,
        jobs: Sequence[Job],
        *,
        host: str,
        hash_users: bool = True,
        on_failure: Callable[[str, Exception], None] = lambda part, error: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.process = f"{host}:{os.getpid()}"
        self.last_flush_at: float | None = None
        """Unix seconds of the last round in which the store took everything."""
        self.failing = ""
        """Why the store cannot be used now, "" when it can."""
        self._database = database
        self._outbox = outbox
        self._jobs = tuple(jobs)
        self._on_failure = on_failure
        self._clock = clock
        self._writer = FactWriter(database, self.process, hash_users=hash_users)
        self._leases: dict[LeaseName, Lease] = {
            "host": Lease(f"host:{host}", self.process),
            "store": Lease("store", self.process),
        }
        self._held: set[LeaseName] = set()
        self._due: dict[str, float] = {}
        self._batch: tuple[str, list[Fact]] | None = None
        self._batches = 0
        self._work = threading.Lock()

    def holds(self, lease: LeaseName) -> bool:
        """Say whether this process holds a lease."""
        return lease in self._held

    def flush(self) -> None:
        """Do one round, in this thread. Never raises: what fails is reported and tried again."""
        with self._work:
            self._run_due([job for job in self._jobs if not job.lease])  # first: they may have facts to write
            try:
                self._write_facts()
                self._take_leases(self._clock())
                self.failing = ""
            except StoreUnusable as error:
                return self._fail(error)
            self._run_due([job for job in self._jobs if job.lease])

    def flush_all(self) -> None:
        """Do one round in which every final job is due: whatever was counted until now can be read afterwards."""
        for job in self._jobs:
            if job.final:
                self._due.pop(job.name, None)
        self.flush()

    def finish(self) -> None:
        """Write what waits, run the final jobs as soon as their leases are free, and give the leases up."""
        final = [job for job in self._jobs if job.final]
        with self._work:
            try:
                for job in final:
                    if not job.lease:
                        self._run(job, self._clock())
                self._write_facts()
                for job in final:
                    if job.lease:
                        self._run_finally(job)
                self._release()
            except StoreUnusable as error:
                self._fail(error)

    def _write_facts(self) -> None:
        while True:
            if self._batch is None:
                facts = self._outbox.take(BATCH)
                if not facts:
                    break
                self._batches += 1
                self._batch = (f"{time.time_ns():x}-{self.process}-{self._batches}", facts)
            try:
                self._writer.write(*self._batch)
            except StoreUnusable as error:
                if not isinstance(error, FactRefused):
                    raise
                self._write_one_by_one(*self._batch)
            except Exception:
                self._write_one_by_one(*self._batch)
            self._batch = None
        self.last_flush_at = self._clock()

    def _write_one_by_one(self, batch_id: str, facts: Sequence[Fact]) -> None:
        """Write a batch without those of its facts that no store takes: one bad value must not hold up the rest."""
        for number, fact in enumerate(facts):
            try:
                self._writer.write(f"{batch_id}-{number}", [fact])
            except FactRefused as error:
                self._on_failure("facts", error)
            except StoreUnusable:
                raise
            except Exception as error:
                self._on_failure("facts", error)

    def _take_leases(self, now: float) -> None:
        wanted = {job.lease for job in self._jobs if job.lease}
        with self._database.reading() as connection:
            free = [name for name in wanted if self._leases[name].is_free(connection, now)]
        self._held = set()
        if free:
            with self._database.writing() as connection:
                self._held = {name for name in free if self._leases[name].acquire(connection, now)}

    def _run_due(self, jobs: Sequence[Job]) -> None:
        now = self._clock()
        for job in jobs:
            if self._is_due(job, now):
                self._due[job.name] = now + job.interval_seconds
                self._run(job, now)

    def _is_due(self, job: Job, now: float) -> bool:
        if job.lease and job.lease not in self._held:
            return False
        due = self._due.get(job.name, now)
        return now >= due or due - now > job.interval_seconds  # the clock was set back

    def _run(self, job: Job, now: float) -> None:
        try:
            job.run(self._leases.get(job.lease, _NO_LEASE), now)
        except LeaseLost:
            self._held.discard(job.lease)
        except StoreUnusable as error:
            self._fail(error)
        except Exception as error:
            self._on_failure(job.name, error)

    def _run_finally(self, job: Job) -> None:
        """Run a job once more, as soon as its lease is given up or has run out.

        A holder that renews it meanwhile lives, and will run the job itself.
        """
        lease, first_until = self._leases[job.lease], math.inf
        for _ in range(_CLOSING_TRIES):
            now = self._clock()
            with self._database.reading() as connection:
                free, until = lease.is_free(connection, now), lease.until(connection)
            if free and self._acquired(lease, now):
                return self._run(job, now)
            if until > first_until:
                return
            first_until = min(first_until, until)
            time.sleep(_CLOSING_PAUSE_SECONDS)

    def _acquired(self, lease: Lease, now: float) -> bool:
        with self._database.writing() as connection:
            return lease.acquire(connection, now)

    def _release(self) -> None:
        with self._database.writing() as connection:
            for lease in self._leases.values():
                lease.release(connection)
        self._held = set()

    def _fail(self, error: Exception) -> None:
        self.failing = str(error)
        self._on_failure("store", error)


_NO_LEASE: Final = Lease("", "")
