"""FastAPI: what it has beyond Starlette, which are included routers, dependencies and validation."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, HTTPException
from fastapi.responses import PlainTextResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import monitoring
from monitoring import request_id
from tests.integrations.web.installer import STEPS_ASIDE, Installer


def client_of(app: Any) -> TestClient:
    """Return a client that gets the 500 page instead of the exception."""
    return TestClient(app, raise_server_exceptions=False)


def test_the_app_keeps_its_type_and_its_documentation(install: Installer) -> None:
    """It is the same FastAPI object, and its schema knows nothing of the pack."""
    app = FastAPI()

    @app.get("/items/{item}")
    async def show(item: int) -> str | None:
        return request_id()

    install(app)
    assert type(app) is FastAPI
    client = client_of(app)
    response = client.get("/items/7")
    assert response.json() == response.headers["x-request-id"]
    assert list(client.get("/openapi.json").json()["paths"]) == ["/items/{item}"]


def test_installed_twice_is_once(install: Installer) -> None:
    """The same Monitoring, one ID, one observation."""
    app = FastAPI()
    first = install(app)
    assert monitoring.install(app) is first
    assert len(client_of(app).get("/nowhere").headers.get_list("x-request-id")) == 1
    assert install.requests == [("(unmatched)", 404, "client_error")]


def test_routes_that_are_declared_after_install_are_known(install: Installer) -> None:
    """``install`` right after the app is made is the usual place."""
    app = FastAPI()
    install(app)

    @app.get("/items/{item}")
    def show(item: int) -> int:
        return item

    client_of(app).get("/items/7")
    assert install.routes == ["/items/{item}"]


def test_included_routers_are_part_of_the_name(install: Installer) -> None:
    """With prefixes nested twice, of the router itself and of its inclusion."""
    inner, outer, app = APIRouter(prefix="/items"), APIRouter(prefix="/v1"), FastAPI()

    @inner.get("/{item}")
    async def show(item: int) -> int:
        return item

    @inner.post("/{item}/sell")
    async def sell(item: int) -> int:
        return item

    outer.include_router(inner, prefix="/shop/{tenant}")
    app.include_router(outer, prefix="/api")
    install(app)
    client = client_of(app)
    assert client.get("/api/v1/shop/acme/items/7").status_code == 200
    assert client.post("/api/v1/shop/acme/items/7/sell").status_code == 200
    assert install.routes == [
        "/api/v1/shop/{tenant}/items/{item}",
        "/api/v1/shop/{tenant}/items/{item}/sell",
    ]


def test_one_router_included_at_two_places_has_two_names(install: Installer) -> None:
    """The name is that of the inclusion that served."""
    router, app = APIRouter(), FastAPI()

    @router.get("/items/{item}")
    async def show(item: int) -> int:
        return item

    app.include_router(router, prefix="/old")
    app.include_router(router, prefix="/new")
    install(app)
    client = client_of(app)
    for path in ("/old/items/1", "/new/items/1", "/old/items/2"):
        assert client.get(path).status_code == 200
    assert install.routes == ["/old/items/{item}", "/new/items/{item}", "/old/items/{item}"]


def test_a_mounted_app_has_its_mount_in_the_name(install: Installer) -> None:
    """Also with an included router inside."""
    router, inner, app = APIRouter(), FastAPI(), FastAPI()

    @router.get("/items/{item}")
    async def show(item: int) -> int:
        return item

    inner.include_router(router, prefix="/v1")
    app.mount("/shop", inner)
    install(app)
    assert client_of(app).get("/shop/v1/items/7").status_code == 200
    assert install.routes == ["/shop/v1/items/{item}"]


def test_a_mounted_app_with_an_edge_of_its_own_acts_once(install: Installer) -> None:
    """The outer one acts; one ID, one observation, the full name."""
    inner, app = FastAPI(), FastAPI()

    @inner.get("/items/{item}")
    async def show(item: int) -> int:
        return item

    inner.add_middleware(monitoring.MonitoringMiddleware)
    app.mount("/shop", inner)
    install(app)
    assert len(client_of(app).get("/shop/items/7").headers.get_list("x-request-id")) == 1
    assert install.routes == ["/shop/items/{item}"]


def test_plain_starlette_routes_are_known(install: Installer) -> None:
    """FastAPI's own pages are such, and what ``add_route`` adds, at the top and in an included router."""
    router, app = APIRouter(), FastAPI()

    async def plain(request: Request) -> Response:
        return PlainTextResponse("plain")

    router.add_route("/reports/{report}", plain)
    app.add_route("/plain/{name}", plain)
    app.include_router(router, prefix="/api")
    install(app)
    client = client_of(app)
    for path in ("/plain/a", "/docs", "/openapi.json", "/api/reports/7"):
        assert client.get(path).status_code == 200
    assert install.routes == ["/plain/{name}", "/docs", "/openapi.json", "/api/reports/{report}"]


def test_mounts_of_other_apps_are_known(install: Installer, tmp_path: Path) -> None:
    """Static files are one name; a Starlette app has its own names behind the mount's."""
    (tmp_path / "a.css").write_text("a{}")

    async def plain(request: Request) -> Response:
        return PlainTextResponse("plain")

    app = FastAPI()
    app.mount("/static", StaticFiles(directory=tmp_path))
    app.mount("/shop", Starlette(routes=[Route("/items/{item}", plain)]))
    install(app)
    client = client_of(app)
    for path in ("/static/a.css", "/static/missing.css", "/shop/items/7", "/shop/nowhere"):
        client.get(path)
    assert install.routes == ["/static/{path}", "/static/{path}", "/shop/items/{item}", "(unmatched)"]


def test_what_is_not_found_or_not_allowed_is_named(install: Installer) -> None:
    """404 has no route; 405 is an answer of one."""
    router, app = APIRouter(), FastAPI()

    @router.get("/items/{item}")
    async def show(item: int) -> int:
        return item

    app.include_router(router, prefix="/api")
    install(app)
    client_of(app).get("/api/nowhere/at/all")
    client_of(app).delete("/api/items/7")
    assert install.requests == [("(unmatched)", 404, "client_error"), ("/api/items/{item}", 405, "client_error")]


def test_refusals_of_fastapi_are_client_errors_of_their_route(install: Installer) -> None:
    """Validation and HTTPException, in the endpoint or in a dependency."""
    app = FastAPI()

    def login(user: str = "") -> str:
        if not user:
            raise HTTPException(401)
        return user

    @app.get("/items/{item}", dependencies=[Depends(login)])
    async def show(item: int) -> int:
        raise HTTPException(409)

    install(app)
    client = client_of(app)
    for url in ("/items/seven?user=u1", "/items/7", "/items/7?user=u1"):
        client.get(url)
    assert install.requests == [("/items/{item}", status, "client_error") for status in (422, 401, 409)]


@pytest.mark.parametrize("prefix", ["", "/api"])
def test_an_unhandled_500_carries_the_id_and_its_line_has_the_same_one(install: Installer, prefix: str) -> None:
    """With the route's name, also where the route is an included one and the exception has left it."""
    router, app = APIRouter(), FastAPI()

    @router.get("/fail/{name}")
    async def fail(name: str) -> None:
        raise RuntimeError("boom")

    app.include_router(router, prefix=prefix)
    install(app)
    response = client_of(app).get("/fail/now" if not prefix else "/api/fail/now")
    (error,), (request,) = install.lines("unhandled exception"), install.lines("request")
    assert error["request_id"] == request["request_id"] == response.headers["x-request-id"]
    assert install.requests == [(f"{prefix}/fail/{{name}}", 500, "server_error")]


def test_dependencies_see_the_request(install: Installer) -> None:
    """Sync, async and with ``yield``, before and after; a user that they set is on the request's line."""
    seen: list[str | None] = []

    def sync() -> None:
        seen.append(request_id())
        monitoring.set_user("u1")

    async def asynchronous() -> None:
        seen.append(request_id())

    def with_yield() -> Iterator[None]:
        seen.append(request_id())
        yield
        seen.append(request_id())

    async def with_async_yield() -> AsyncIterator[None]:
        seen.append(request_id())
        yield
        seen.append(request_id())

    app = FastAPI(dependencies=[Depends(one) for one in (sync, asynchronous, with_yield, with_async_yield)])

    @app.get("/")
    def show() -> str | None:
        return request_id()

    install(app)
    response = client_of(app).get("/")
    assert response.json() == response.headers["x-request-id"]
    assert seen == [response.json()] * 6
    assert [line.get("user_id") for line in install.lines("request")] == ["u1"]


def test_background_tasks_and_streams_see_the_request(install: Installer) -> None:
    """The stream is the response, the task comes after it; both have its ID."""
    seen: list[str | None] = []
    app = FastAPI()

    @app.get("/")
    def show(tasks: BackgroundTasks) -> StreamingResponse:
        tasks.add_task(lambda: seen.append(request_id()))
        return StreamingResponse(iter([f"{request_id()} "]), background=tasks)

    install(app)
    response = client_of(app).get("/")
    assert [response.text.strip(), *seen] == [response.headers["x-request-id"]] * 2


def test_background_work_that_fails_leaves_the_request_as_it_was(install: Installer) -> None:
    """The request's line says ok; a line of its own has the failure, with the same ID."""
    app = FastAPI()

    def fail() -> None:
        raise RuntimeError("boom")

    @app.get("/items/{item}")
    def show(item: int, tasks: BackgroundTasks) -> int:
        tasks.add_task(fail)
        return item

    install(app)
    client_of(app).get("/items/7")
    (request,), (background,) = install.lines("request"), install.lines("background")
    assert (request["outcome"], request["status"]) == ("ok", 200)
    assert (background["outcome"], background["route"]) == ("background_error", "/items/{item}")
    assert background["request_id"] == request["request_id"]
    assert background["exception"][0]["message"] == "boom"


def test_the_app_s_own_health_stays_the_app_s(install: Installer) -> None:
    """Also when it comes by an included router; the other own path is still answered."""
    router, app = APIRouter(prefix="/health"), FastAPI()

    @router.get("/live")
    def live() -> str:
        return "of the app"

    app.include_router(router)
    install(app)
    assert client_of(app).get("/health/live").json() == "of the app"
    assert client_of(app).get("/metrics").status_code == 401
    assert install.routes == ["/health/live"]
    assert len(install.lines(STEPS_ASIDE)) == 1


def test_a_health_that_the_app_declares_after_install_stays_the_app_s(install: Installer) -> None:
    """``install`` right after the app is made does not shadow what is declared then."""
    app = FastAPI()
    install(app)

    @app.get("/health")
    def health() -> str:
        return "of the app"

    assert client_of(app).get("/health").json() == "of the app"


def test_own_paths_are_answered_even_with_a_catch_all_route(install: Installer) -> None:
    """A single-page app's fallback does not swallow them."""
    app = FastAPI()

    @app.get("/{path:path}")
    def page(path: str) -> str:
        return path

    install(app)
    assert client_of(app).get("/health/live").json() == {"status": "pass"}
    assert install.requests == []
