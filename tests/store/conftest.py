"""What the tests of the store share: an empty one, and reading from it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from monitoring.store.database import Database


@pytest.fixture
def place(tmp_path: Path) -> str:
    """Return the folder that the store of a test lies in; nobody has made it yet."""
    return str(tmp_path / "store")


@pytest.fixture
def database(place: str) -> Iterator[Database]:
    """An empty store."""
    database = Database(place)
    yield database
    database.close()
