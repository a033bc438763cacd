"""Django: what ``install`` observes besides the requests, which are the databases and caches of the settings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import cache
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.db import connections
from django.http import HttpRequest, HttpResponse
from django.test.utils import override_settings
from django.urls import path
from starlette.testclient import TestClient
from werkzeug.test import Client

from tests.integrations.web.installer import Installer
from tests.support import django_settings

django_settings.set_up()


def use_both(request: HttpRequest) -> HttpResponse:
    """Ask the database once, and the cache for a key that it has not and for one that it has."""
    with closing(connections["wiring"]), connections["wiring"].cursor() as cursor:
        cursor.execute("SELECT 1")
    cache.get("never-there")
    cache.set("there", 1)
    cache.get("there")
    return HttpResponse()


urlpatterns = [path("", use_both)]


@pytest.fixture(autouse=True)
def database(tmp_path: Path) -> Iterator[None]:
    """Serve the URL above, and add a database to those of the settings."""
    wanted = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "db")}
    connections.settings["wiring"] = connections.configure_settings({"default": wanted})["default"]
    with override_settings(ROOT_URLCONF=__name__):
        yield
    del connections.settings["wiring"]


@pytest.mark.parametrize("kind", [WSGIHandler, ASGIHandler])
def test_databases_and_caches_of_the_settings_are_observed(install: Installer, kind: Any) -> None:
    """``install`` is enough; where two handlers are installed each call counts once."""
    handler = kind()
    install(kind())
    install(handler)
    answer = Client(handler).get("/", buffered=True) if kind is WSGIHandler else TestClient(handler).get("/")
    assert answer.status_code == 200
    (line,) = install.lines("request")
    assert (line["db_calls"], line["cache_hits"], line["cache_misses"]) == (1, 1, 1)
