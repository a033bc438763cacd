"""Importing the user's app, to see what it has set up."""

from __future__ import annotations

import importlib
import os
import sys

from ..config import ConfigError
from ..monitor import Monitoring, current


def import_app(app: str) -> Monitoring:
    """Import the module of ``myapp:app`` from the present folder, and return the Monitoring it made.

    Raise ConfigError.
    """
    sys.path.insert(0, os.getcwd())
    try:
        importlib.import_module(app.partition(":")[0])
    except Exception as error:
        raise ConfigError(
            f"{app} cannot be imported: {type(error).__name__}: {error}; run it in the app's folder."
        ) from None
    return current()
