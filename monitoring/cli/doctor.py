"""``monitoring doctor``: looks whether everything that monitoring needs is there, and says what to do where not."""

from __future__ import annotations

import argparse
import json
import smtplib
import stat
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import psutil
from sqlalchemy import func, select

from ..alerting.channels import Email, Webhook
from ..alerting.channels.addresses import AddressRefused, connect
from ..api.views import place_of
from ..cells import FolderUnusable
from ..config import Config
from ..monitor import folder_of
from ..store import leases, schema
from ..store.database import Database, StoreUnusable
from .apps import import_app
from .readers import add_store_option, check_url, config_of

Verdict = Literal["ok", "note", "bad"]

_NETWORK_FILE_SYSTEMS: Final = frozenset({"nfs", "nfs4", "cifs", "smb", "smbfs", "smb2", "9p", "fuse.sshfs", "afs"})
_CLOCK_TOLERANCE_SECONDS: Final = 5.0
_PATIENCE_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: ``note`` is worth knowing, ``bad`` needs a remedy."""

    what: str
    verdict: Verdict
    says: str


def add_to(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "doctor", help="check the store, its file system, the workers, the clock, the channels"
    )
    parser.add_argument("--app", help="import this first, such as myapp:app, and look at what it has wired")
    add_store_option(parser)
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """Print what was found; the exit status is 1 when something is bad."""
    config = _config_of_app(chosen.app) if chosen.app else config_of(chosen)
    found = list(findings(config))
    if chosen.json:
        print(json.dumps([asdict(one) for one in found]))
    else:
        for one in found:
            print(f"{one.verdict:4}  {one.what:12}  {one.says}")
    return int(any(one.verdict == "bad" for one in found))


def _config_of_app(app: str) -> Config:
    """Import an app's module, and return what it configured. Raise ConfigError."""
    config = import_app(app).config
    if config.store is not None and "://" in config.store:
        check_url(config.store)
    return config


def findings(config: Config) -> Iterator[Finding]:
    """Yield what there is to say about a config, its store and its channels."""
    if config.store is not None:
        database = Database(config.store)
        yield _store(database)
        if database.path is not None and database.path.parent.is_dir():
            yield _file_system(database.path.parent)
            yield _permissions(database.path.parent)
        yield from _activity(database)
    yield _workers(config)
    yield _access(config)
    yield from (_channel(channel) for channel in config.channels)
    if not config.channels:
        yield Finding("channels", "note", "none: alerts are shown on the dashboard only; pass channels=[Email(...)]")


def _store(database: Database) -> Finding:
    try:
        with database.writing() as connection:
            connection.scalar(select(func.count()).select_from(schema.meta))
    except StoreUnusable as error:
        return Finding("store", "bad", f"{error}; the app goes on without it, and nothing is kept")
    return Finding("store", "ok", f"{place_of(database)} can be written")


def _file_system(folder: Path) -> Finding:
    place = folder.resolve()
    mounts = [part for part in psutil.disk_partitions(all=True) if place.is_relative_to(part.mountpoint)]
    kind = max(mounts, key=lambda part: len(part.mountpoint)).fstype if mounts else "unknown"
    if kind.lower() in _NETWORK_FILE_SYSTEMS:
        return Finding(
            "file system", "bad", f"{folder} is on {kind}: SQLite's log cannot be shared there; use a local disk"
        )
    free = psutil.disk_usage(str(folder)).free
    verdict: Verdict = "bad" if free < 100 * 1024 * 1024 else "ok"
    return Finding("file system", verdict, f"{kind}, {free / 1024**3:.1f} GiB free")


def _permissions(folder: Path) -> Finding:
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & 0o007:
        return Finding("permissions", "note", f"{folder} is open to other users (mode {mode:o}); chmod 700 closes it")
    return Finding("permissions", "ok", f"{folder} has mode {mode:o}")


def _activity(database: Database) -> Iterator[Finding]:
    try:
        with database.reading() as connection:
            leader = leases.holder(connection, "store", time.time())
            last = select(func.max(schema.request.c.id)).scalar_subquery()
            newest = connection.scalar(select(schema.request.c.at).where(schema.request.c.id == last))
    except StoreUnusable:
        return
    if leader:
        yield Finding("leader", "ok", f"{leader} evaluates alerts and keeps house")
    else:
        yield Finding(
            "leader", "note", "no process holds the store's lease: the app does not run, or had no request yet"
        )
    if newest is not None and newest > time.time() + _CLOCK_TOLERANCE_SECONDS:
        yield Finding("clock", "bad", f"the newest request is {newest - time.time():.0f} s ahead; set the clock")
    else:
        yield Finding("clock", "ok", "agrees with what the store holds")


def _workers(config: Config) -> Finding:
    try:
        folder = folder_of(config)
        living = sum(file.alive for file in folder.files())
    except (OSError, FolderUnusable) as error:
        return Finding("workers", "bad", f"metric cells cannot be shared: {error}")
    return Finding("workers", "ok", f"{living} alive, cells in {folder.path}")


def _access(config: Config) -> Finding:
    if config.token is not None or config.authorize is not None:
        return Finding("access", "ok", "the dashboard opens to the token, or to whom authorize says yes")
    if config.environment == "development":
        return Finding("access", "note", "development: callers on this machine see everything without a token")
    return Finding("access", "note", "closed: nobody can see the dashboard and metrics; set MONITORING_TOKEN")


def _channel(channel: Any) -> Finding:
    if isinstance(channel, Email):
        return _mail_server(channel)
    if isinstance(channel, Webhook):
        return _receiver(channel)
    return Finding(getattr(channel, "name", type(channel).__name__), "ok", "set up")


def _mail_server(channel: Email) -> Finding:
    kind = smtplib.SMTP_SSL if channel.security == "tls" else smtplib.SMTP
    try:
        with kind(channel.host, channel.port, timeout=_PATIENCE_SECONDS) as connection:
            code, _ = connection.noop()
    except OSError as error:
        return Finding(
            channel.name,
            "bad",
            f"{channel.host}:{channel.port} does not answer: {error}; check host, port and security",
        )
    return Finding(channel.name, "ok", f"{channel.host}:{channel.port} answers {code}")


def _receiver(channel: Webhook) -> Finding:
    """Connect and send nothing. The path is not shown: it is a secret of many receivers."""
    parts = urlsplit(channel.url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    try:
        connect(host, port, _PATIENCE_SECONDS, allow_private=channel.allow_private).close()
    except (AddressRefused, OSError) as error:
        return Finding(channel.name, "bad", f"{host}:{port} cannot be reached: {error}")
    if channel.secret is None:
        return Finding(channel.name, "note", f"{host}:{port} is reached; its messages are not signed: give it a secret")
    return Finding(channel.name, "ok", f"{host}:{port} is reached")
