"""Roll-ups: what every series gained in each minute, hour and day.

One process per host writes them: it takes the sums of all the host's cells, subtracts what is rolled up already (the
baseline, kept in the same transaction), and adds the rest to the running minute. So the dashboard equals
``/metrics``, nothing is counted twice, and the last second of a killed worker is not lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import orjson
from sqlalchemy import Connection, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from ..cells import Declaration, Total, Totals
from . import schema, sketches
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
        self.count += other.count
        self.total += other.total
        self.high = max(self.high, other.high)
        sketches.add(self.counts, other.counts)


class RollupWriter:
    """Writes one host's roll-ups. Not thread-safe: it belongs to the flusher's thread."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._known: dict[_Key, _Series] = {}
        self._baseline: dict[str, Gained] = {}
        self._generation: str | None = None
        self._identity = 0

    def forget(self) -> None:
        """Read the baseline again at the next write: another process may have written meanwhile."""
        self._generation = None

    def write(self, connection: Connection, totals: Totals, now: float, identity: int = 0) -> None:
        """Add to the running minute what the cells gained since the last write, in the caller's transaction.

        ``identity`` tells one database file from another at the same place: where the old one was deleted, the new
        one goes on from what was rolled up there, and counts nothing again.
        """
        if self._generation != totals.generation:
            self._load_baseline(connection, totals.generation)
        replaced = self._identity != identity
        if replaced:
            self._known, self._identity = {}, identity
        gains: dict[int, Gained] = {}
        sums: dict[str, Gained] = {}
        for declaration, values, total in _each(totals):
            series = self._series(connection, declaration, values)
            if declaration.kind == "gauge":
                gains[series.id] = Gained(1.0, total.value, total.value)
                continue
            now_at = _sum_of(declaration, total)
            gained = _since(now_at, self._baseline.get(series.name))
            if gained is not None:
                gains[series.id] = gained
            if gained is not None or replaced:
                sums[series.name] = now_at
        _add_to_bucket(connection, self._host, MINUTE, int(now // MINUTE) * MINUTE, gains)
        self._store_baseline(connection, totals.generation, sums)

    def _series(self, connection: Connection, declaration: Declaration, values: tuple[str, ...]) -> _Series:
        key = (declaration.name, values)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = _find_or_make(connection, declaration, values)
        return known

    def _load_baseline(self, connection: Connection, generation: str) -> None:
        table = schema.baseline
        connection.execute(delete(table).where(table.c.host == self._host, table.c.generation != generation))
        rows = connection.execute(select(table).where(table.c.host == self._host))
        self._baseline = {row.series: Gained(total=row.total, counts=sketches.decode(row.sketch)) for row in rows}
        self._generation = generation

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
        self._baseline.update(sums)


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
            begin = int(end)


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


def _sum_of(declaration: Declaration, total: Total) -> Gained:
    counts = total.counts() if declaration.kind == "histogram" else {}
    return Gained(sum(counts.values()), total.value, 0.0, counts)


def _since(now_at: Gained, before: Gained | None) -> Gained | None:
    """Return what was gained since ``before``, None for nothing."""
    if before is None:
        return now_at if now_at.count or now_at.total else None
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
    insert: Any = (postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert)(table)
    keys = [column.name for column in table.primary_key]
    others = {name: insert.excluded[name] for name in rows[0] if name not in keys}
    connection.execute(insert.on_conflict_do_update(index_elements=keys, set_=others), rows)


def _find_or_make(connection: Connection, declaration: Declaration, values: tuple[str, ...]) -> _Series:
    table = schema.series
    labels = orjson.dumps(dict(zip(declaration.labels, values)), option=orjson.OPT_SORT_KEYS).decode()
    same = (table.c.metric == declaration.name) & (table.c.labels == labels)
    found = connection.scalar(select(table.c.id).where(same))
    if found is None:
        made = {"kind": declaration.kind, "unit": sketches.scale_name(declaration)}
        connection.execute(table.insert().values(metric=declaration.name, labels=labels, **made))
        found = connection.scalar(select(table.c.id).where(same))
    assert found is not None
    return _Series(int(found), f"{declaration.name}{labels}")


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
