"""asyncpg connections and pools.

The seam is a connection's protocol object: the connection's own methods, prepared statements and cursors all send by
it. The driver's query loggers see only the first of these, and are called so late that the request may be over.

Preparing is part of the execution that follows; alone it is observed only where it fails. What asyncpg sends for
itself is not: introspection of types, the reset of a connection that goes back to its pool, and transactions.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from time import perf_counter
from typing import Any, Final

from monitoring.calls import DatabaseCall
from monitoring.integrations.attachment import Detach, Link, attempt, report
from monitoring.integrations.layers import current_layer, lies_below
from monitoring.integrations.weak import replace_weakly
from monitoring.recorder import Recorder

from .cursors import method_of, statement_call
from .pools import Members

_SENT_BY_ITSELF: Final = re.compile(
    r"""
      (?: BEGIN[A-Z ]* | COMMIT | ROLLBACK | (?:SAVEPOINT|RELEASE[ ]SAVEPOINT|ROLLBACK[ ]TO)[ ]__asyncpg_\w+
        | SHOW[ ]transaction_isolation ) ;
    | MOVE[ ]FORWARD[ ]\d+[ ]__asyncpg_\w+
    """,
    re.VERBOSE,
)
"""What transactions and cursors send."""

_INLINING: Final = re.compile(r"SELECT quote_literal\(\$1::|\s+SELECT\s+(?:current_setting|set_config)\('jit'")
"""What ``copy_from_query`` sends to write parameters into its statement, and introspection to be quick."""

_IS_ALIVE: Final = ";"
"""What SQLAlchemy sends to see whether a connection is alive."""

_SEAMS: Final = (
    *("query", "prepare", "bind", "execute"),
    *("bind_execute", "bind_execute_many", "copy_in", "copy_out"),
)

_PORTALS_KEPT: Final = 100

Send = Callable[..., Awaitable[Any]]


def carrier(client: Any) -> Any:
    """Return a connection's protocol. A pool has neither ``__dict__`` nor weak references: its ``init`` carries."""
    if hasattr(client, "_holders"):
        return client._init if isinstance(client._init, _Init) else _Init(client._init)
    return getattr(getattr(client, "_con", client), "_protocol", None)


def attach(client: Any, link: Link) -> Detach:
    """Watch what a connection sends, or each connection of a pool: those that it has, and those to come."""
    lies_below("db")
    if hasattr(client, "_holders"):
        return _attach_pool(client, link)
    connection = getattr(client, "_con", client)
    statements = _Statements(connection, link)
    return replace_weakly(connection._protocol, {name: getattr(statements, name) for name in _SEAMS})


class _Statements:
    """The statements of one connection, as its protocol sends them."""

    def __init__(self, connection: Any, link: Link) -> None:
        self._link = link
        self._own = {text for text in vars(sys.modules["asyncpg"].introspection).values() if isinstance(text, str)}
        reset_query = getattr(connection, "get_reset_query", None) or connection._get_reset_query
        self._own |= {reset_query(), _IS_ALIVE}
        self._before: tuple[object, float] = (None, 0.0)
        """What was prepared or bound last, and how long that took: the statement goes on with it."""
        self._unread: set[str] = set()
        """Portals of cursors that nobody has read yet."""
        self._is_in_transaction = method_of(connection._protocol, "is_in_transaction")
        self._send: dict[str, Send] = {name: method_of(connection._protocol, name) for name in _SEAMS}

    async def query(self, query: str, *args: Any, **kwargs: Any) -> Any:
        """Send statements without parameters."""
        if isinstance(query, str) and _SENT_BY_ITSELF.fullmatch(query):
            return await self._send["query"](query, *args, **kwargs)
        return await self._observed(query, None, "query", query, *args, **kwargs)

    async def prepare(self, stmt_name: str, query: str, *args: Any, **kwargs: Any) -> Any:
        """Prepare a statement that may be executed next."""
        recorder = self._recorder(query)
        started = perf_counter()
        try:
            state = await self._send["prepare"](stmt_name, query, *args, **kwargs)
        except BaseException as error:
            _failed(recorder, query, started, error)
            raise
        self._before = (state, perf_counter() - started)
        return state

    async def bind_execute(self, state: Any, *args: Any, **kwargs: Any) -> Any:
        """Execute a prepared statement; of a cursor that is iterated, read its first rows."""
        return await self._observed(state.query, state, "bind_execute", state, *args, **kwargs)

    async def bind_execute_many(self, state: Any, *args: Any, **kwargs: Any) -> Any:
        """Execute a prepared statement with many rows of parameters."""
        return await self._observed(state.query, state, "bind_execute_many", state, *args, **kwargs)

    async def bind(self, state: Any, args: Any, portal_name: str, timeout: Any) -> Any:
        """Open a cursor. It counts when it is first read, unless a client around this one knows only now of it."""
        if current_layer.get() is not None:
            return await self._observed(state.query, state, "bind", state, args, portal_name, timeout)
        recorder = self._recorder(state.query)
        started = self._start(state)
        try:
            bound = await self._send["bind"](state, args, portal_name, timeout)
        except BaseException as error:
            _failed(recorder, state.query, started, error)
            raise
        if recorder is not None and len(self._unread) < _PORTALS_KEPT:
            self._unread.add(portal_name)
        self._before = (portal_name, perf_counter() - started)
        return bound

    async def execute(self, state: Any, portal_name: str, *args: Any, **kwargs: Any) -> Any:
        """Read rows of a cursor."""
        if portal_name not in self._unread:
            return await self._send["execute"](state, portal_name, *args, **kwargs)
        self._unread.discard(portal_name)
        return await self._observed(state.query, portal_name, "execute", state, portal_name, *args, **kwargs)

    async def copy_in(self, copy_stmt: str, *args: Any, **kwargs: Any) -> Any:
        """Send rows with COPY."""
        return await self._observed(copy_stmt, None, "copy_in", copy_stmt, *args, **kwargs)

    async def copy_out(self, copy_stmt: str, *args: Any, **kwargs: Any) -> Any:
        """Read rows with COPY."""
        return await self._observed(copy_stmt, None, "copy_out", copy_stmt, *args, **kwargs)

    async def _observed(self, statement: str, step: object, method: str, *args: Any, **kwargs: Any) -> Any:
        recorder = self._recorder(statement)
        if recorder is None:
            return await self._send[method](*args, **kwargs)
        started = self._start(step)
        try:
            result = await self._send[method](*args, **kwargs)
        except BaseException as error:
            if not self._is_repeated(error):
                _failed(recorder, statement, started, error)
            raise
        report(recorder, _call, statement, started, result, None)
        return result

    def _is_repeated(self, error: BaseException) -> bool:
        """Say whether the connection will send the statement again: it was prepared before its table was altered."""
        return type(error).__name__ == "InvalidCachedStatementError" and not self._is_in_transaction()

    def _recorder(self, statement: str) -> Recorder | None:
        recorder = self._link.recorder()
        if recorder is None or not isinstance(statement, str):
            return None
        return None if statement in self._own or _INLINING.match(statement) else recorder

    def _start(self, step: object) -> float:
        """Return when the statement began, were it sent without a pause after the step that came before."""
        before, seconds = self._before
        self._before = (None, 0.0)
        return perf_counter() - (seconds if step is not None and before is step else 0.0)


def _failed(recorder: Recorder | None, statement: str, started: float, error: BaseException) -> None:
    if recorder is not None:
        report(recorder, _call, statement, started, None, error)


def _call(statement: str, started: float, result: Any, error: BaseException | None) -> DatabaseCall:
    call = statement_call("postgresql", statement, started, error)
    if error is None:
        call.rows = _rows(call.operation, result)
    return call


def _rows(operation: str, result: Any) -> int:
    """Return the rows that a status like ``INSERT 0 3`` tells of, or those that came; -1 where neither is known."""
    if result.__class__ is tuple:
        result = result[1] or result[0]
    if isinstance(result, bytes):
        result = result.decode()
    if isinstance(result, str):
        count = result.rpartition(" ")[2]
        return int(count) if count.isdecimal() else -1
    return len(result) if result or (operation == "SELECT" and result is not None) else -1


class _Init:
    """What a pool does with a new connection: wrap it, then what it did before. It carries the pool's mark."""

    def __init__(self, former: Callable[[Any], Awaitable[object]] | None) -> None:
        self.former = former
        self.wrap: Callable[[Any], None] = _leave

    async def __call__(self, connection: Any) -> None:
        self.wrap(connection)
        if self.former is not None:
            await self.former(connection)


def _leave(_: Any) -> None:
    pass


def _attach_pool(pool: Any, link: Link) -> Detach:
    members = Members(link, attach, carrier)
    init = _Init(pool._init)
    init.wrap = partial(attempt, link, members.wrap)
    for holder in pool._holders:
        if holder.is_connected():
            members.wrap(holder._con)
    pool._init = init

    def detach() -> None:
        if pool._init is init:
            pool._init = init.former
        members.unwrap_all()

    return detach
