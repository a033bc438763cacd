"""Roll-ups: what every series gained in each minute, hour and day.

One process per host writes them: it takes the sums of all the host's cells, subtracts what is rolled up already (the
baseline, kept in the same transaction), and adds the rest to the running minute. So the dashboard equals
``/metrics``, nothing is counted twice, and the last second of a killed worker is not lost.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import orjson
from sqlalchemy import Connection, and_, delete, func, select, update

from ..cells import Declaration, Total, Totals
from . import schema, sketches
from .database import Database
from .dialects import insert
from .leases import Lease
from .sketches import Counts

MINUTE: Final = 60
HOUR: Final = 3600
DAY: Final = 86400
RESOLUTIONS: Final = (MINUTE, HOUR, DAY)

_POINTS: Final = 400
"""Most points a series is read with; a longer range is read from coarser roll-ups."""

_Key = tuple[str, tuple[str, ...]]


class _Series(NamedTuple):
    """A series in the store: its id, and the name that it keeps in any other store."""

    id: int
    name: str


@dataclass(slots=True)
class Gained:
    """What a series gained in a time: see ``schema.rollup``."""

    count: float = 0.0
    total: float = 0.0
    high: float = 0.0
    counts: Counts = field(default_factory=dict)

    def add(self, other: Gained) -> None:
        """Add another time's or series' gain."""
        if other.count:
            self.high = max(self.high, other.high) if self.count else other.high
        self.count += other.count
        self.total += other.total
        sketches.add(self.counts, other.counts)


@dataclass(slots=True)
class _Memory:
    """What a writer knows of the store, as of its last commit there."""

    store: str = ""
    epoch: int = 0
    """Of the lease under which it was read; 0 when it may be out of date."""
    generation: str = ""
    series: dict[_Key, _Series] = field(default_factory=dict)
    baseline: dict[str, Gained] = field(default_factory=dict)


class RollupWriter:
    """Writes one host's roll-ups. Not thread-safe: it belongs to the flusher's thread."""

    def __init__(self, database: Database, host: str) -> None:
        self._database = database
        self._host = host
        self._memory = _Memory()

    def write(self, lease: Lease, totals: Totals, now: float) -> None:
        """Add to the running minute what the cells gained since the last write.

        Raise LeaseLost or StoreUnusable: then nothing is written, and the next write makes up for it.
        """
        try:
            with self._database.writing() as connection:
                lease.require(connection)
                memory = self._recall(connection, lease.epoch, totals.generation)
                sums = self._add_gains(connection, memory, totals, now)
        except BaseException:
            self._memory.epoch = 0
            raise
        memory.baseline.update(sums)
        self._memory = memory

    def _recall(self, connection: Connection, epoch: int, generation: str) -> _Memory:
        """Return what is rolled up already: as remembered, or as stored where others may have written meanwhile.

        Where somebody deleted the database, the new one goes on from what this process last rolled up in the old one.
        """
        former, store = self._memory, _store_id(connection)
        if (former.store, former.epoch, former.generation) == (store, epoch, generation):
            return former
        table = schema.baseline
        connection.execute(delete(table).where(table.c.host == self._host, table.c.generation != generation))
        rows = connection.execute(select(table).where(table.c.host == self._host))
        baseline = {row.series: Gained(total=row.total, counts=sketches.decode(row.sketch)) for row in rows}
        if not baseline and former.generation == generation:
            baseline = dict(former.baseline)
            self._store_baseline(connection, generation, baseline)
        return _Memory(store, epoch, generation, {}, baseline)

    def _add_gains(self, connection: Connection, memory: _Memory, totals: Totals, now: float) -> dict[str, Gained]:
        """Write what was gained, and return the new sums of the series that gained anything."""
        gains: dict[int, Gained] = {}
        sums: dict[str, Gained] = {}
        for declaration, values, total in _each(totals):
            series = _series(connection, memory.series, declaration, values)
            if declaration.kind == "gauge":
                if math.isfinite(total.value):  # no database compares NaN or adds it up
                    gains[series.id] = Gained(1.0, total.value, total.value)
                continue
            before = memory.baseline.get(series.name, _NOTHING)
            now_at = _sum_of(declaration, total, before)
            gained = _since(now_at, before)
            if gained is not None:
                gains[series.id], sums[series.name] = gained, now_at
        self._add_to_buckets(connection, int(now // MINUTE) * MINUTE, gains)
        self._store_baseline(connection, memory.generation, sums)
        return sums

    def _add_to_buckets(self, connection: Connection, minute: int, gains: Mapping[int, Gained]) -> None:
        """Add to the minute, and where a clock was set back, to the hour and the day that are summed up already."""
        _add_to_bucket(connection, self._host, MINUTE, minute, gains)
        for step in (HOUR, DAY):
            if minute < _rolled_until(connection, step):
                _add_to_bucket(connection, self._host, step, minute // step * step, gains)

    def _store_baseline(self, connection: Connection, generation: str, sums: Mapping[str, Gained]) -> None:
        rows = [
            {
                "host": self._host,
                "series": series,
                "generation": generation,
                "total": gained.total,
                "sketch": sketches.encode(gained.counts) if gained.counts else None,
            }
            for series, gained in sums.items()
        ]
        _upsert(connection, schema.baseline, rows)


@dataclass(frozen=True, slots=True)
class SeriesGains:
    """One label set over a time: its gain in each bucket, ascending; buckets without any are left out."""

    labels: Mapping[str, str]
    kind: str
    unit: str
    buckets: Mapping[int, Gained]

    def sum(self) -> Gained:
        """Return the gain of the whole time."""
        whole = Gained()
        for gained in self.buckets.values():
            whole.add(gained)
        return whole


_NOTHING: Final = Gained()


def resolution_for(since: float, until: float) -> int:
    """Return the finest resolution that needs at most 400 points for this time."""
    return next((step for step in RESOLUTIONS if (until - since) / step <= _POINTS), DAY)


def read(
    connection: Connection, metric: str, since: float, until: float, resolution: int | None = None
) -> list[SeriesGains]:
    """Return every label set of a metric with its gains in buckets of ``resolution`` seconds.

    Buckets are whole: the first is the one that ``since`` lies in. Hours and days that are not rolled up yet are read
    from what is finer.
    """
    step = resolution or resolution_for(since, until)
    known = {
        row.id: SeriesGains(orjson.loads(row.labels), row.kind, row.unit, {})
        for row in connection.execute(select(schema.series).where(schema.series.c.metric == metric))
    }
    gathered: dict[int, dict[int, Gained]] = {series: {} for series in known}
    for part, begin, end in _parts(connection, step, int(since // step) * step, until):
        for row in _rows(connection, list(known), part, begin, end):
            bucket = row.bucket // step * step
            _add_gain(gathered[row.series], bucket, _gained(row))
    return [
        SeriesGains(one.labels, one.kind, one.unit, dict(sorted(gathered[series].items())))
        for series, one in known.items()
        if gathered[series]
    ]


def roll_up(connection: Connection, now: float) -> bool:
    """Sum the next complete hour's minutes, or day's hours. Return whether there may be more to do."""
    for fine, coarse in ((MINUTE, HOUR), (HOUR, DAY)):
        done = _rolled_until(connection, coarse)
        if not done:
            first = connection.scalar(
                select(func.min(schema.rollup.c.bucket)).where(schema.rollup.c.resolution == fine)
            )
            if first is None:
                continue
            done = int(first) // coarse * coarse
        complete = int(now - MINUTE) // coarse * coarse  # a minute late: its last write may still be on its way
        if fine == HOUR:
            complete = min(complete, _rolled_until(connection, HOUR) // coarse * coarse)
        if done + coarse <= complete:
            _sum_up(connection, fine, coarse, done)
            _note_rolled(connection, coarse, done + coarse)
            return True
    return False


def _sum_up(connection: Connection, fine: int, coarse: int, begin: int) -> None:
    table = schema.rollup
    inside = (table.c.resolution == fine) & (table.c.bucket >= begin) & (table.c.bucket < begin + coarse)
    by_host: dict[str, dict[int, Gained]] = {}
    for row in connection.execute(select(table).where(inside)):
        _add_gain(by_host.setdefault(row.host, {}), row.series, _gained(row))
    for host, gains in by_host.items():
        _upsert(connection, table, [_row(host, coarse, begin, series, gained) for series, gained in gains.items()])


def _parts(connection: Connection, step: int, begin: int, until: float) -> Iterator[tuple[int, int, float]]:
    """Yield which resolution holds which part of a time: coarse ones as far as they are made, the rest finer."""
    for resolution in sorted((one for one in RESOLUTIONS if one <= step), reverse=True):
        end = until if resolution == MINUTE else min(_rolled_until(connection, resolution), until)
        if end > begin:
            yield resolution, begin, end
            begin = -int(-end // resolution) * resolution  # the last bucket is whole: nothing finer adds to it


def _rows(connection: Connection, series: Sequence[int], resolution: int, begin: int, end: float) -> Iterable[Any]:
    table = schema.rollup
    for start in range(0, len(series), 500):
        wanted = table.c.series.in_(series[start : start + 500])
        inside = (table.c.resolution == resolution) & (table.c.bucket >= begin) & (table.c.bucket < end)
        yield from connection.execute(select(table).where(wanted & inside))


def _each(totals: Totals) -> Iterator[tuple[Declaration, tuple[str, ...], Total]]:
    for metric in totals.metrics.values():
        for values, total in metric.series.items():
            yield metric.declaration, values, total


def _sum_of(declaration: Declaration, total: Total, before: Gained) -> Gained:
    """Return a series' sum of now; one that was spoilt by an infinite value stands still, its counts go on."""
    counts = total.counts() if declaration.kind == "histogram" else {}
    return Gained(sum(counts.values()), total.value if math.isfinite(total.value) else before.total, 0.0, counts)


def _since(now_at: Gained, before: Gained) -> Gained | None:
    """Return what was gained since ``before``, None for nothing."""
    counts = sketches.difference(now_at.counts, before.counts)
    total = now_at.total - before.total
    return Gained(sum(counts.values()), total, 0.0, counts) if counts or total else None


def _add_to_bucket(connection: Connection, host: str, step: int, bucket: int, gains: Mapping[int, Gained]) -> None:
    table = schema.rollup
    if not gains:
        return
    merged = {
        series: Gained(gained.count, gained.total, gained.high, dict(gained.counts)) for series, gained in gains.items()
    }
    for row in _rows(connection, list(gains), step, bucket, bucket + 1):
        if row.host == host:
            merged[row.series].add(_gained(row))
    _upsert(connection, table, [_row(host, step, bucket, series, gained) for series, gained in merged.items()])


def _gained(row: Any) -> Gained:
    """Return a row's gain; its ``count`` is asked for by key, because a row has a method of that name."""
    return Gained(row._mapping["count"], row.total, row.high, sketches.decode(row.sketch))


def _row(host: str, resolution: int, bucket: int, series: int, gained: Gained) -> dict[str, Any]:
    return {
        "series": series,
        "resolution": resolution,
        "bucket": bucket,
        "host": host,
        "count": gained.count,
        "total": gained.total,
        "high": gained.high,
        "sketch": sketches.encode(gained.counts) if gained.counts else None,
    }


def _upsert(connection: Connection, table: Any, rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    inserted = insert(connection, table)
    keys = [column.name for column in table.primary_key]
    others = {name: inserted.excluded[name] for name in rows[0] if name not in keys}
    connection.execute(inserted.on_conflict_do_update(index_elements=keys, set_=others), rows)


def _series(
    connection: Connection, known: dict[_Key, _Series], declaration: Declaration, values: tuple[str, ...]
) -> _Series:
    key = (declaration.name, values)
    found = known.get(key)
    if found is None:
        found = known[key] = _find_or_make(connection, declaration, values)
    return found


def _find_or_make(connection: Connection, declaration: Declaration, values: tuple[str, ...]) -> _Series:
    """Return the series of a label set; one whose buckets or kind are others now is another series."""
    table = schema.series
    labels = orjson.dumps(dict(zip(declaration.labels, values)), option=orjson.OPT_SORT_KEYS).decode()
    row = {
        "metric": declaration.name,
        "labels": labels,
        "kind": declaration.kind,
        "unit": sketches.scale_name(declaration),
    }
    same = and_(*(table.c[column] == value for column, value in row.items()))
    found = connection.scalar(select(table.c.id).where(same))
    if found is None:
        connection.execute(insert(connection, table).values(**row).on_conflict_do_nothing())
        found = connection.scalar(select(table.c.id).where(same))
    assert found is not None
    return _Series(int(found), f"{declaration.name}{labels}{row['unit']}")


def _store_id(connection: Connection) -> str:
    """Return what tells this database from another one at the same place."""
    return str(connection.scalar(select(schema.meta.c.value).where(schema.meta.c.key == "user_key")))


def _add_gain(gains: dict[int, Gained], key: int, gained: Gained) -> None:
    if key in gains:
        gains[key].add(gained)
    else:
        gains[key] = gained


def _rolled_until(connection: Connection, resolution: int) -> int:
    value = connection.scalar(select(schema.meta.c.value).where(schema.meta.c.key == f"rolled_{resolution}"))
    return int(value or 0)


def _note_rolled(connection: Connection, resolution: int, until: int) -> None:
    key, table = f"rolled_{resolution}", schema.meta
    changed = connection.execute(update(table).where(table.c.key == key).values(value=str(until)))
    if not changed.rowcount:
        connection.execute(table.insert().values(key=key, value=str(until)))
