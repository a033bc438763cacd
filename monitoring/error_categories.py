"""What kind of error an exception is, told by the names of its classes: no library is imported for it."""

from __future__ import annotations

import errno
from functools import lru_cache
from typing import Final, Literal

from .utils.exceptions import CHAIN

CATEGORIES: Final = (
    "database",
    "cache",
    "llm",
    "http_client",
    "network",
    "timeout",
    "validation",
    "permission",
    "resource",
    "code",
    "message",
)
"""Every category: the component that failed where one is known, else the nature of the failure, else ``code``;
``message`` are texts that were reported. A ``categorize`` of the app's own may add others.
"""

_BY_PACKAGE: Final = {
    "database": "sqlalchemy sqlite3 psycopg psycopg2 asyncpg pymysql MySQLdb mysql oracledb pyodbc aiosqlite peewee"
    " tortoise pymongo motor bson cassandra elasticsearch alembic sqlmodel piccolo edgedb gel",
    "cache": "redis valkey pymemcache pylibmc aiocache diskcache cachetools glide",
    "llm": "openai anthropic litellm cohere mistralai groq ollama together replicate langchain langchain_core"
    " llama_index instructor pydantic_ai tiktoken",
    "http_client": "httpx httpcore requests aiohttp urllib3 pycurl niquests h11 h2",
    "validation": "pydantic pydantic_core marshmallow jsonschema cerberus voluptuous msgspec attrs cattrs",
    "permission": "jwt authlib itsdangerous oauthlib",
}
_PACKAGES: Final = {package: category for category, packages in _BY_PACKAGE.items() for package in packages.split()}
_MODULES: Final = {
    "django.db": "database",
    "google.genai": "llm",
    "google.generativeai": "llm",
    "http.client": "http_client",
    "urllib.error": "http_client",
    "json.decoder": "validation",
    "fastapi.exceptions": "validation",
    "socket": "network",
    "ssl": "network",
}
_CLASSES: Final = {
    "TimeoutError": "timeout",
    "ValidationError": "validation",
    "UnicodeError": "validation",
    "PermissionError": "permission",
    "PermissionDenied": "permission",
    "Forbidden": "permission",
    "Unauthorized": "permission",
    "NotAuthenticated": "permission",
    "AuthenticationFailed": "permission",
    "ConnectionError": "network",
    "MemoryError": "resource",
    "RecursionError": "resource",
    "BlockingIOError": "resource",
}
_EXHAUSTED: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN})
_DISK_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def category_of(error: BaseException) -> str:
    """Return the category of an exception; one of the app's own class has that of its cause."""
    current: BaseException | None = error
    for _ in range(CHAIN):
        if current is None:
            break
        if isinstance(current, OSError) and current.errno in _EXHAUSTED:
            return "resource"
        kind: type = type(current)
        category = _of_class(kind)
        if category != "code":
            return category
        current = _what_it_stands_for(current)
    return "code"


def level_of(error: BaseException) -> Literal["error", "critical"]:
    """Return ``critical`` for what endangers the whole process: no memory, no disk space, a fault of Python itself."""
    if isinstance(error, (MemoryError, SystemError)):
        return "critical"
    return "critical" if isinstance(error, OSError) and error.errno in _DISK_FULL else "error"


def _what_it_stands_for(error: BaseException) -> BaseException | None:
    if isinstance(error, BaseExceptionGroup):
        return error.exceptions[0]
    return error.__cause__


@lru_cache(maxsize=1_024)
def _of_class(kind: type) -> str:
    """Return the category that the class, or the nearest of its bases that has one, belongs to."""
    for base in kind.__mro__:
        module = base.__module__
        package = module.partition(".")[0]
        category = _PACKAGES.get(package) or _of_module(module) or _CLASSES.get(base.__name__)
        if category is not None:
            return category
    return "code"


def _of_module(module: str) -> str | None:
    return next((found for name, found in _MODULES.items() if f"{module}.".startswith(f"{name}.")), None)
