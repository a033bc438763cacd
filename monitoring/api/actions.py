"""The endpoints that change something: acknowledging, silencing, resolving. Each is written into the audit."""

from __future__ import annotations

from typing import Literal

from sqlalchemy import Insert

from ..alerts import ACK_MINUTES
from ..store import errors, schema
from ..store.errors import GroupRow
from .query import BadQuery, Query
from .readers import Readers
from .shapes import DoneShape
from .views import NotFound


def resolve(readers: Readers, query: Query) -> GroupRow:
    """Resolve an error group: seen again, it has regressed."""
    return _set_status(readers, query, "resolved")


def reopen(readers: Readers, query: Query) -> GroupRow:
    """Open a resolved error group again."""
    return _set_status(readers, query, "open")


def acknowledge(readers: Readers, query: Query) -> DoneShape:
    """Take a firing alert in hand: its repeats stop for ``minutes``, a day by default."""
    episode, minutes = query.path["episode"], query.body_number("minutes", ACK_MINUTES)
    _require_alert(readers, episode)
    try:
        done = readers.alerts.ack(episode, query.actor, query.field("note"), minutes)
    except ValueError as error:
        raise BadQuery(str(error)) from None
    return _done(readers, query, "acknowledge", episode, done, "It does not fire any more.")


def unacknowledge(readers: Readers, query: Query) -> DoneShape:
    """Give a firing alert out of hand: its repeats go on."""
    episode = query.path["episode"]
    _require_alert(readers, episode)
    done = readers.alerts.unack(episode, query.actor)
    return _done(readers, query, "unacknowledge", episode, done, "Nobody has it in hand.")


def silence(readers: Readers, query: Query) -> DoneShape:
    """Send no notices of a rule, or with ``*`` of any, for some minutes."""
    rule = query.field("rule")
    try:
        readers.alerts.silence(rule, query.body_number("minutes", 60.0), query.actor, query.field("comment"))
    except ValueError as error:
        raise BadQuery(str(error)) from None
    return _done(readers, query, "silence", rule, True)


def end_silence(readers: Readers, query: Query) -> DoneShape:
    """End a silence now."""
    done = readers.alerts.end_silence(query.path["id"])
    return _done(readers, query, "end silence", query.path["id"], done, "It has ended already, or never was.")


def _set_status(readers: Readers, query: Query, status: Literal["open", "resolved"]) -> GroupRow:
    with readers.open_database().writing() as connection:
        group = errors.set_status(connection, query.path["id"], status, query.now)
        if group is None:
            raise NotFound(f"There is no error group {query.path['id']}; /errors lists them.")
        connection.execute(_audit(query, status, group.id))
    return group


def _require_alert(readers: Readers, episode: str) -> None:
    if readers.alerts.reports.episode(episode) is None:
        raise NotFound(f"There is no alert {episode}; /alerts lists them.")


def _done(readers: Readers, query: Query, action: str, subject: str, done: bool, otherwise: str = "") -> DoneShape:
    if done:
        with readers.open_database().writing() as connection:
            connection.execute(_audit(query, action, subject))
    return DoneShape(done=done, note="" if done else otherwise)


def _audit(query: Query, action: str, subject: str) -> Insert:
    return schema.audit.insert().values(at=query.now, actor=query.actor, action=action, subject=subject)
