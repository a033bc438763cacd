"""Fixtures of the cell tests: a private folder, processes that are released again, a chosen supervisor, a full disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from monitoring.cells import CellRegistry
from monitoring.cells import folder as folder_module

from .support import Disk, sharing

Join = Callable[..., CellRegistry]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return where the cells of a test lie; nobody has made the folder yet."""
    return tmp_path / "cells"


@pytest.fixture
def join(folder: Path) -> Iterator[Join]:
    """Return a function that makes the cells of one more process in the test's folder."""
    joined: list[CellRegistry] = []

    def one_more(**settings: Any) -> CellRegistry:
        joined.append(sharing(folder, **settings))
        return joined[-1]

    yield one_more
    for registry in joined:
        registry.release()


@pytest.fixture
def supervised(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that says which server supervises the processes that join from now on; "" for none."""

    def supervise(supervisor: str) -> None:
        monkeypatch.setattr(folder_module, "supervisor_id", lambda: supervisor)

    supervise("")
    return supervise


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """Return a disk whose room a test can take away."""
    return Disk(monkeypatch)
