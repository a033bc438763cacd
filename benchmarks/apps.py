"""The bare apps: the same 200 routes, and one that raises, in each framework."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from types import ModuleType
from typing import Any

ROUTES = int(os.environ.get("BENCH_ROUTES", "200"))
"""Routes of each app; `BENCH_ROUTES=1` shows what an app with hardly any work of its own feels."""


def starlette() -> Any:
    """Return a Starlette app."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

    async def item(request: Request) -> Response:
        return JSONResponse({"id": request.path_params["id"]})

    async def boom(request: Request) -> Response:
        raise ValueError(f"proposal {request.path_params['id']} has no budget")

    items = [Route(f"/r{number}/items/{{id}}", item) for number in range(ROUTES)]
    return Starlette(routes=[*items, Route("/boom/{id}", boom)])


def fastapi() -> Any:
    """Return a FastAPI app."""
    from fastapi import FastAPI

    async def item(id: int) -> dict[str, int]:
        return {"id": id}

    async def boom(id: int) -> None:
        raise ValueError(f"proposal {id} has no budget")

    app = FastAPI()
    for number in range(ROUTES):
        app.get(f"/r{number}/items/{{id}}")(item)
    app.get("/boom/{id}")(boom)
    return app


def litestar() -> Any:
    """Return a Litestar app."""
    from litestar import Litestar, get

    def item_at(number: int) -> Any:
        @get(f"/r{number}/items/{{id:int}}")
        async def item(id: int) -> dict[str, int]:
            return {"id": id}

        return item

    @get("/boom/{id:int}")
    async def boom(id: int) -> None:
        raise ValueError(f"proposal {id} has no budget")

    return Litestar([*map(item_at, range(ROUTES)), boom])


def quart() -> Any:
    """Return a Quart app."""
    from quart import Quart

    async def item(id: str) -> dict[str, str]:
        return {"id": id}

    async def boom(id: str) -> dict[str, str]:
        raise ValueError(f"proposal {id} has no budget")

    app = Quart("bench")
    app.logger.disabled = True  # as for Flask
    for number in range(ROUTES):
        app.add_url_rule(f"/r{number}/items/<id>", f"item{number}", item)
    app.add_url_rule("/boom/<id>", "boom", boom)
    return app


def aiohttp() -> Any:
    """Return an aiohttp app."""
    from aiohttp import web

    async def item(request: web.Request) -> web.Response:
        return web.json_response({"id": request.match_info["id"]})

    async def boom(request: web.Request) -> web.Response:
        raise ValueError(f"proposal {request.match_info['id']} has no budget")

    app = web.Application()
    logging.getLogger("aiohttp.server").disabled = True  # as for Flask
    app.add_routes([web.get(f"/r{number}/items/{{id}}", item) for number in range(ROUTES)])
    app.router.add_get("/boom/{id}", boom)
    return app


def flask() -> Any:
    """Return a Flask app."""
    from flask import Flask

    def item(id: str) -> dict[str, str]:
        return {"id": id}

    def boom(id: str) -> dict[str, str]:
        raise ValueError(f"proposal {id} has no budget")

    app = Flask("bench")
    app.logger.disabled = True  # its traceback of each failure would drown what is measured, in every variant alike
    for number in range(ROUTES):
        app.add_url_rule(f"/r{number}/items/<id>", f"item{number}", item)
    app.add_url_rule("/boom/<id>", "boom", boom)
    return app


def django() -> Any:
    """Return a Django WSGI handler; once a process, because Django's settings are global."""
    from django.conf import settings
    from django.core.handlers.wsgi import WSGIHandler
    from django.core.wsgi import get_wsgi_application
    from django.http import HttpRequest, JsonResponse
    from django.urls import path

    def item(request: HttpRequest, id: int) -> JsonResponse:
        return JsonResponse({"id": id})

    def boom(request: HttpRequest, id: int) -> JsonResponse:
        raise ValueError(f"proposal {id} has no budget")

    items = [path(f"r{number}/items/<int:id>", item) for number in range(ROUTES)]
    urls = ModuleType("bench_urls")
    urls.urlpatterns = [*items, path("boom/<int:id>", boom)]  # type: ignore[attr-defined]
    logging.getLogger("django.request").disabled = True  # as for Flask
    settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=urls, SECRET_KEY="bench", LOGGING_CONFIG=None, MIDDLEWARE=[])
    application: WSGIHandler = get_wsgi_application()
    return application


APPS: dict[str, Callable[[], Any]] = {
    "starlette": starlette,
    "fastapi": fastapi,
    "litestar": litestar,
    "quart": quart,
    "aiohttp": aiohttp,
    "flask": flask,
    "django": django,
}
INSTALLED = frozenset({"litestar", "quart", "aiohttp"})
"""Frameworks that are measured bare and with everything on only: they have no ``add_middleware`` for the peers."""
WSGI = frozenset({"flask", "django"})
