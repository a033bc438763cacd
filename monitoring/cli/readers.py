"""The read side over a store, in a process that is none of the service's."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..cells import NullRegistry, Totals
from ..config import Config, ConfigError
from ..monitor import Monitoring
from ..store.database import FILE_NAME, url_of


class _NoCells:
    """Metrics of a process that has none: only the service's own processes sum its cells."""

    def __init__(self) -> None:
        self.registry = NullRegistry()

    def totals(self) -> Totals:
        """Return no sums."""
        return Totals()


class StoreReaders:
    """Reads a store: everything of the dashboard but what only living workers know."""

    def __init__(self, config: Config) -> None:
        reading = Monitoring(config)
        self.config = config
        self.metrics = _NoCells()
        self.performance = reading.performance
        self.analytics = reading.analytics
        self.alerts = reading.alerts
        self.budgets = reading.budgets
        self.background = reading.background
        self.resources = reading.resources
        self.open_database = reading.open_database
        self.background_failed = reading.background_failed


def add_store_option(parser: argparse.ArgumentParser) -> None:
    """Add the options of every command that reads a store."""
    parser.add_argument("--store", help="folder or URL of the store (default: MONITORING_STORE, or .monitoring)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def config_of(chosen: argparse.Namespace) -> Config:
    """Return the environment's config with the chosen store. Raise ConfigError where there is no store."""
    config = Config.from_env(**({"store": chosen.store} if chosen.store else {}))
    store = config.store
    if store is None:
        raise ConfigError("There is no store: MONITORING_STORE is empty; name one with --store.")
    if "://" in store:
        check_url(store)
    elif not (Path(store) / FILE_NAME).is_file():
        raise ConfigError(f"There is no store in {store!r}; name the folder, or the URL, of the app's with --store.")
    return config


def check_url(store: str) -> None:
    """Raise ConfigError for what is no URL of a database. It is not repeated: there may be a password in it."""
    try:
        url_of(store)
    except ValueError as error:
        raise ConfigError(str(error)) from None
