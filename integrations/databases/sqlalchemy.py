"""SQLAlchemy engines, sync and async, Core and ORM.

The seam is the engine's own dialect object: everything that reaches the driver goes through its ``do_execute``,
whatever connection, session or ``execution_options`` engine it comes from. It costs a fraction of what events do.
Statements sent on a raw driver connection do not pass here. Transactions are those that the dialect begins and ends;
of the pool, see ``sqlalchemy_pool``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from monitoring.calls import DatabaseCall
from monitoring.context import muted
from monitoring.integrations.attachment import Detach, Link, observing, replace_attributes

from .sqlalchemy_pool import Pools, observe_transactions, pool_name
from .statements import describe

_SYSTEMS: Final = {"mssql": "microsoft.sql_server", "oracle": "oracle.db"}
"""Dialects whose name differs from that in OpenTelemetry's ``db.system.name``."""


def carrier(client: Any) -> Any:
    """Return the dialect: an engine shares it with those that its ``execution_options()`` made."""
    return getattr(client, "sync_engine", client).dialect


def attach(client: Any, link: Link) -> Detach:
    """Time the three ways in which the engine's dialect executes a statement, its transactions, and its pool."""
    engine = getattr(client, "sync_engine", client)
    dialect = engine.dialect
    system = _SYSTEMS.get(dialect.name, dialect.name)
    describe_call = partial(_call, system)
    pools = Pools(link, pool_name(link, engine.url, dialect), system)
    replacements = {
        "do_execute": observing(link, describe_call, dialect.do_execute, through="db"),
        "do_executemany": observing(link, describe_call, dialect.do_executemany, through="db"),
        "do_execute_no_params": observing(link, describe_call, dialect.do_execute_no_params, through="db"),
        "initialize": partial(_unseen, dialect.initialize),
        **observe_transactions(dialect, pools),
    }
    pools.observe(engine.pool)
    restore = replace_attributes(dialect, replacements)

    def detach() -> None:
        restore()
        pools.leave()

    return detach


def _unseen(initialize: Callable[..., None], connection: Any) -> None:
    """Keep out what SQLAlchemy asks the server for itself when it connects for the first time."""
    with muted():
        initialize(connection)


def _call(system: str, args: tuple[Any, ...], started: float, _: None, error: BaseException | None) -> DatabaseCall:
    call = DatabaseCall(started, error)
    call.system = system
    call.name, call.operation, call.statement = describe(args[1])
    if error is None:
        rows = args[0].rowcount
        if rows.__class__ is int and rows >= 0:
            call.rows = rows
    return call
