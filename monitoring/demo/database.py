"""The demo's database: schema, seed data and the few queries that the app asks, on SQLite through SQLAlchemy Core."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from monitoring.demo.world import AIMS, FUNDERS, SEEDED_PROPOSALS, TOPICS, USERS

Row = dict[str, Any]

metadata = sa.MetaData()
funders = sa.Table(
    "funders",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("focus", sa.String, nullable=False),
)
users = sa.Table(
    "users",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("name", sa.String, nullable=False),
)
proposals = sa.Table(
    "proposals",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("funder", sa.ForeignKey("funders.id"), nullable=False, index=True),
    sa.Column("author", sa.String, nullable=False),
    sa.Column("title", sa.String, nullable=False),
    sa.Column("draft", sa.Text, nullable=False),
    sa.Column("receipt", sa.String),
    sa.Column("created_at", sa.String, nullable=False),
)

_SUMMARY = (proposals.c.id, proposals.c.funder, proposals.c.author, proposals.c.title, proposals.c.receipt)


def connect(path: Path) -> sa.Engine:
    """Return an engine on the SQLite file at `path`, in WAL mode so that several workers share it."""
    engine = sa.create_engine(f"sqlite:///{path}")
    sa.event.listen(engine, "connect", _share_between_workers)
    return engine


def prepare(engine: sa.Engine) -> None:
    """Create the tables and fill them. Call it once, on an empty file, before any worker starts."""
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(
            funders.insert(), [{"id": funder.id, "name": funder.name, "focus": funder.focus} for funder in FUNDERS]
        )
        connection.execute(users.insert(), [{"id": user.id, "name": user.name} for user in USERS])
        connection.execute(proposals.insert(), list(_earlier_proposals()))


def ping(engine: sa.Engine) -> None:
    """Raise unless the database answers."""
    with engine.connect() as connection:
        connection.execute(sa.select(1))


def list_funders(engine: sa.Engine) -> list[Row]:
    """Return every funder with the number of proposals written to it."""
    written = sa.func.count(proposals.c.id).label("proposals")
    query = sa.select(funders, written).outerjoin(proposals).group_by(funders.c.id).order_by(funders.c.id)
    return _rows(engine, query)


def latest_proposals(engine: sa.Engine, limit: int = 20) -> list[Row]:
    """Return the newest proposals, without their drafts."""
    return _rows(engine, sa.select(*_SUMMARY).order_by(proposals.c.id.desc()).limit(limit))


def similar_proposals(engine: sa.Engine, limit: int = 20) -> list[Row]:
    """Return the newest proposals with the most look-alikes first: a join that no index helps, slow on purpose."""
    recent = sa.select(proposals).order_by(proposals.c.id.desc()).limit(SEEDED_PROPOSALS).subquery()
    one, other = recent.alias("one"), recent.alias("other")
    alike = sa.func.count(other.c.id).label("alike")
    query = (
        sa.select(one.c.id, one.c.funder, one.c.author, one.c.title, one.c.receipt, alike)
        .join(other, other.c.draft.contains(one.c.title))
        .group_by(one.c.id)
        .order_by(alike.desc(), one.c.id.desc())
        .limit(limit)
    )
    return _rows(engine, query)


def search_proposals(engine: sa.Engine, text: str, limit: int = 20) -> list[Row]:
    """Return the newest proposals whose title contains `text`, without their drafts."""
    matching = proposals.c.title.contains(text, autoescape=True)
    return _rows(engine, sa.select(*_SUMMARY).where(matching).order_by(proposals.c.id.desc()).limit(limit))


def find_proposal(engine: sa.Engine, proposal_id: int) -> Row | None:
    """Return one proposal with its draft, or None."""
    found = _rows(engine, sa.select(proposals).where(proposals.c.id == proposal_id))
    return found[0] if found else None


def add_proposal(engine: sa.Engine, *, funder: str, author: str, title: str, draft: str) -> int:
    """Store a proposal and return its id."""
    values = {
        "funder": funder,
        "author": author,
        "title": title,
        "draft": draft,
        "created_at": _text(datetime.now(UTC)),
    }
    with engine.begin() as connection:
        return int(connection.execute(proposals.insert().values(values).returning(proposals.c.id)).scalar_one())


def mark_submitted(engine: sa.Engine, proposal_id: int, receipt: str) -> None:
    """Write down the receipt that the funder gave for a proposal."""
    with engine.begin() as connection:
        connection.execute(sa.update(proposals).where(proposals.c.id == proposal_id).values(receipt=receipt))


def _rows(engine: sa.Engine, query: sa.Select[Any]) -> list[Row]:
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def _share_between_workers(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA busy_timeout = 5000")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")


def _earlier_proposals() -> Iterator[Row]:
    chance = random.Random(SEEDED_PROPOSALS)
    now = datetime.now(UTC)
    for age_hours in range(SEEDED_PROPOSALS, 0, -1):
        author = chance.choice(USERS)
        title = f"{chance.choice(TOPICS).capitalize()}: {chance.choice(AIMS)}"
        yield {
            "funder": chance.choice(author.funders),
            "author": author.id,
            "title": title,
            "draft": " ".join([f"We propose {title}."] * 30),
            "created_at": _text(now - timedelta(hours=age_hours)),
        }


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
