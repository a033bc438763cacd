"""The rules of the house, drawn so that a newcomer can read them."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import monitoring

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "monitoring"

LAYERS = [
    {"utils", "config"},
    {"observation"},
    {"context"},
    {"calls", "propagation", "tasks"},
    {"recorder", "cells", "daemon_pool", "termination"},
    {"families", "health"},
    {"store"},
    {"outbox"},
    {"logs"},
    {"error_groups", "error_categories"},
    {"middleware", "spans", "operations"},  # edges
    {
        "metrics",
        "budgets",
        "call_metrics",
        "agent_runs",
        "consumers",
        "task_metrics",
        "error_tracker",
        "analytics",
        "kept_requests",
        "logging_config",
        "health_check",
        "polled",
    },  # sinks
    {"request_log", "agent_log", "query_patterns", "exposition", "access", "wsgi_form", "system_resources"},
    {"metrics_endpoint", "health_endpoint", "performance_tracker"},
    {"alerting"},
    {"alerts"},
    {"numbers", "flusher", "background"},
    {"api", "jobs"},
    {"dashboard"},
    {"monitor"},  # assembly
    {"integrations", "testing", "utils.logging_helpers"},
    {"__init__"},
    {"cli", "demo"},
]
"""Imports point up this list only: a module knows what stands above it. Within a line nobody knows another."""

OUT_OF_THEIR_PACKAGE = {"utils.logging_helpers"}
"""Modules with a place of their own: this one is for users, and stands on the assembly."""

HEAVY = {"prometheus_client", "structlog", "sqlalchemy", "starlette"}


def _imports(path: Path, *, at_import_time: bool = False) -> Iterator[str]:
    """Yield the absolute names of what a module of the package imports."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if at_import_time else ast.walk(tree)
    place = path.relative_to(PACKAGE if path.is_relative_to(PACKAGE) else ROOT)
    here = ["monitoring", *place.with_suffix("").parts]
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(here[: len(here) - node.level]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            yield from (f"{module}.{alias.name}" for alias in node.names)


def _modules() -> Iterator[tuple[str, Path]]:
    for folder in (PACKAGE, ROOT / "utils", ROOT / "integrations"):
        for path in sorted(folder.rglob("*.py")):
            place = path.relative_to(PACKAGE if folder == PACKAGE else ROOT)
            if folder != PACKAGE or not (PACKAGE / place.parts[0]).is_symlink():
                dotted = ".".join(place.with_suffix("").parts)
                yield dotted if dotted in OUT_OF_THEIR_PACKAGE else place.with_suffix("").parts[0], path


def _own(name: str) -> str | None:
    parts = name.split(".")
    if parts[0] != "monitoring" or len(parts) < 2:
        return None
    if ".".join(parts[1:3]) in OUT_OF_THEIR_PACKAGE:
        return ".".join(parts[1:3])
    return parts[1] if parts[1] in set().union(*LAYERS) else "__init__"


def test_every_module_has_its_place() -> None:
    """A new module is put into a layer, by hand and on purpose."""
    assert {name for name, _ in _modules()} == set().union(*LAYERS)


def test_imports_point_one_way() -> None:
    """A module imports only from the layers above its own; lazy imports in functions are the assembly's to make."""
    rank = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    wrong = []
    for name, path in _modules():
        for imported in _imports(path, at_import_time=True):
            target = _own(imported)
            if target is not None and target != name and rank[target] >= rank[name]:
                wrong.append(f"{path.relative_to(ROOT)} imports {imported}")
    assert wrong == []


def test_the_middleware_knows_no_sink_and_no_heavy_library() -> None:
    """The edges import neither Prometheus, structlog, SQLAlchemy nor Starlette."""
    wrong = [
        f"{path.name} imports {name}"
        for module, path in _modules()
        if module in ("middleware", "context", "observation", "recorder", "cells")
        for name in _imports(path)
        if name.split(".")[0] in HEAVY
    ]
    assert wrong == []


def test_nobody_imports_the_top_level_names_of_the_checkout() -> None:
    """An app has an ``integrations`` or ``utils`` of its own, so everybody says ``monitoring.integrations``."""
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for folder in ("monitoring", "tests", "benchmarks")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for name in _absolute_imports(path)
        if name.split(".")[0] in ("integrations", "utils")
    ]
    assert wrong == []


def _absolute_imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module


def test_importing_the_package_loads_no_framework_and_starts_nothing() -> None:
    """``import monitoring`` leaves what takes long to import alone, frameworks too, and starts no thread."""
    program = (
        "import sys, threading, monitoring\n"
        "slow = {'sqlalchemy', 'starlette', 'prometheus_client', 'flask', 'django', 'httpx', 'structlog', 'psutil'}\n"
        "slow |= {'litestar', 'quart', 'aiohttp', 'monitoring.utils.redaction'}\n"
        "loaded = slow & set(sys.modules)\n"
        "print(sorted(loaded), threading.active_count())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[] 1"


def test_the_public_names_are_sorted_and_all_there() -> None:
    """``__all__`` is what the package offers: abbreviations, classes, functions."""
    in_order = sorted(monitoring.__all__, key=lambda name: (not name.isupper(), name[0].islower(), name))
    assert monitoring.__all__ == in_order
    assert [name for name in monitoring.__all__ if not hasattr(monitoring, name)] == []


@pytest.mark.parametrize("name", [name for name in monitoring.__all__])
def test_every_public_name_has_a_docstring(name: str) -> None:
    """What users import says what it does."""
    assert (getattr(monitoring, name).__doc__ or "").strip()
