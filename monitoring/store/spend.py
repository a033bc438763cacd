"""What each process spent of each budget: whole sums, so that writing one again changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from sqlalchemy import Connection, func, select

from . import schema
from .dialects import insert

Row = tuple[str, float, str, float, int, int]
"""Budget, start of its hour or day, value, US dollars, calls, calls without a price."""


def write(connection: Connection, process: str, rows: Sequence[Row], now: float) -> None:
    """Write the sums of a process, in the place of its former ones."""
    table = schema.spend
    inserted = insert(connection, table)
    names = ("usd", "calls", "unpriced_calls", "at")
    replaced = inserted.on_conflict_do_update(
        index_elements=["budget", "since", "value", "process"], set_={name: inserted.excluded[name] for name in names}
    )
    columns = ("budget", "since", "value", "usd", "calls", "unpriced_calls")
    connection.execute(replaced, [{**dict(zip(columns, row)), "process": process, "at": now} for row in rows])


def of_others(connection: Connection, process: str, periods: Iterable[tuple[str, float]]) -> Iterator[Row]:
    """Yield what all processes but this one spent, by budget, start and value."""
    table = schema.spend
    for budget, since in periods:
        query = (
            select(
                table.c.value, *(func.sum(column) for column in (table.c.usd, table.c.calls, table.c.unpriced_calls))
            )
            .where(table.c.budget == budget, table.c.since == since, table.c.process != process)
            .group_by(table.c.value)
        )
        for value, usd, calls, unpriced in connection.execute(query):
            yield budget, since, value, float(usd), int(calls), int(unpriced)
