"""The store of an app that is gone, and the command over it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from monitoring.cli import main
from tests.support.filled import filled


class Ran(NamedTuple):
    """How a command ended, and what it printed."""

    status: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fill a store, and end the app that filled it."""
    folder = tmp_path_factory.mktemp("cli") / "store"
    with filled(folder):
        pass
    return folder


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs the command as ``monitoring`` would."""

    def run(*arguments: object) -> Ran:
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as end:  # argparse's way to say that it printed help, or that it understood nothing
            status = int(end.code or 0)
        return Ran(status, *capsys.readouterr())

    return run
