"""Categories and levels: told by the names of an exception's classes."""

from __future__ import annotations

import errno

import pytest

from monitoring.error_categories import CATEGORIES, category_of, level_of


def of_module(module: str, base: type[BaseException] = Exception, name: str = "Error") -> BaseException:
    """Return an exception as a library would define it."""
    return type(name, (base,), {"__module__": module})()


@pytest.mark.parametrize(
    ("error", "category"),
    [
        (of_module("sqlalchemy.exc"), "database"),
        (of_module("django.db.utils"), "database"),
        (of_module("django.dbx"), "code"),
        (of_module("redis.exceptions"), "cache"),
        (of_module("openai", TimeoutError), "llm"),
        (of_module("anthropic._exceptions"), "llm"),
        (of_module("httpx"), "http_client"),
        (of_module("http.client"), "http_client"),
        (ConnectionRefusedError(), "network"),
        (TimeoutError(), "timeout"),
        (of_module("pydantic_core._pydantic_core", ValueError), "validation"),
        (of_module("rest_framework.exceptions", name="ValidationError"), "validation"),
        (UnicodeDecodeError("utf-8", b"", 0, 1, "x"), "validation"),
        (PermissionError(), "permission"),
        (of_module("shop.errors", PermissionError), "permission"),
        (MemoryError(), "resource"),
        (OSError(errno.ENOSPC, "full"), "resource"),
        (OSError(errno.EMFILE, "too many"), "resource"),
        (ExceptionGroup("g", [of_module("httpx")]), "http_client"),  # type: ignore[list-item]
        (ValueError(), "code"),
        (KeyError(), "code"),
        (FileNotFoundError(), "code"),
    ],
)
def test_the_category_is_the_component_or_the_nature(error: BaseException, category: str) -> None:
    """Told by the names of its classes."""
    assert category_of(error) == category
    assert category in CATEGORIES


def test_an_error_of_the_apps_own_has_the_category_of_its_cause() -> None:
    """A wrapper tells what failed by what it wraps; what was merely being handled says nothing."""
    wrapper, handling = RuntimeError("no portal"), RuntimeError("no portal")
    wrapper.__cause__ = of_module("httpx")
    handling.__context__ = of_module("httpx")
    assert category_of(wrapper) == "http_client"
    assert category_of(handling) == "code"


@pytest.mark.parametrize(
    ("error", "level"),
    [
        (MemoryError(), "critical"),
        (SystemError(), "critical"),
        (OSError(errno.ENOSPC, "full"), "critical"),
        (OSError(errno.ENOENT, "gone"), "error"),
        (ValueError(), "error"),
    ],
)
def test_what_endangers_the_process_is_critical(error: BaseException, level: str) -> None:
    """No memory, no space, a fault of Python itself."""
    assert level_of(error) == level
