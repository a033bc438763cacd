"""``monitoring dashboard``: the dashboard as a process of its own over a store."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from ..api.views import place_of
from .readers import StoreReaders, add_store_option, config_of


def add_to(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("dashboard", help="serve the dashboard over a store, beside the app")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    parser.add_argument("--port", type=int, default=8800, help="port (default %(default)s)")
    add_store_option(parser)
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """Serve until Ctrl-C."""
    try:
        import uvicorn
    except ImportError:
        print("The dashboard of its own needs uvicorn: pip install 'monitoring-kit[demo]'", file=sys.stderr)
        return 1
    from ..dashboard import dashboard_app

    config = config_of(chosen)
    if config.token is None and config.environment == "production":
        print("Nobody can log in: set MONITORING_TOKEN, or MONITORING_ENVIRONMENT=development.", file=sys.stderr)
    readers = StoreReaders(config)
    _announce(chosen, f"http://{chosen.host}:{chosen.port}/", place_of(readers.open_database()))
    uvicorn.run(dashboard_app(readers), host=chosen.host, port=chosen.port, log_level="warning")
    return 0


def _announce(chosen: argparse.Namespace, url: str, store: str) -> None:
    print(json.dumps({"url": url, "store": store}) if chosen.json else f"dashboard {url} over {store}", flush=True)
