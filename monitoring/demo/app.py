"""The grant-proposal generator: a small Starlette app as somebody would write it, with monitoring in it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

import monitoring
from monitoring.demo import agents, database, portals
from monitoring.demo import llm as language_model
from monitoring.demo.cache import TTLCache
from monitoring.demo.llm import LLMUnavailable
from monitoring.demo.world import FUNDERS, TRAFFIC_HEADER, USER_HEADER

LLM_URL = os.environ["DEMO_LLM_URL"]

log = monitoring.get_logger(__name__)

engine = monitoring.wrap(database.connect(Path(os.environ["DEMO_DATABASE"])))
cache = monitoring.wrap(TTLCache[list[database.Row]](max_entries=64, ttl_seconds=20), name="searches")
llm = language_model.connect(LLM_URL)

TOKENS = monitoring.histogram("proposal_tokens", "Tokens that a proposal took.", labels=("funder",))
VISITS = monitoring.counter("demo_visits_total", "Requests that did not come from the traffic generator.")

DAILY_BUDGET = monitoring.Budget(50, per="day")
USER_BUDGET = monitoring.Budget(1, per="hour", by="user")

INDEX = """<!doctype html><title>Grant proposals</title><h1>Grant proposals</h1><ul>
<li><a href="/funders">funders</a> <li><a href="/proposals">latest proposals</a>
<li><a href="/proposals?sort=similar">the most alike first (slow)</a> <li><a href="/search?q=ice">search for ice</a>
<li><a href="/health">health</a> <li><a href="/metrics">metrics</a> <li><a href="/monitoring/">dashboard</a></ul>"""


async def index(request: Request) -> HTMLResponse:
    """Show a page of links."""
    return HTMLResponse(INDEX)


def list_funders(request: Request) -> JSONResponse:
    """List the funders."""
    return JSONResponse(database.list_funders(engine))


def list_proposals(request: Request) -> JSONResponse:
    """List the newest proposals, or with `?sort=similar` the most alike of them, which is slow."""
    if request.query_params.get("sort") == "similar":
        with monitoring.observe("proposals.compare"):
            return JSONResponse(database.similar_proposals(engine))
    return JSONResponse(database.latest_proposals(engine))


@monitoring.feature("read a proposal")
def show_proposal(request: Request) -> JSONResponse:
    """Show one proposal with its draft."""
    proposal = _proposal(request)
    monitoring.track("proposal.read", funder=proposal["funder"])
    return JSONResponse(proposal)


@monitoring.feature("write a proposal")
async def create_proposal(request: Request) -> JSONResponse:
    """Have agents plan, research and write a proposal, and keep it."""
    author = _author(request)
    funder, title = await _funder_and_title(request)
    with (
        monitoring.bind(funder=funder),
        monitoring.operation("proposal.generate", user=author, funder=funder, deadline_seconds=120),
    ):
        draft = await agents.propose(llm, funder=funder, title=title)
        proposal_id = await run_in_threadpool(
            database.add_proposal, engine, funder=funder, author=author, title=title, draft=draft.text
        )
        TOKENS.labels(funder).observe(draft.tokens)
        log.info("proposal written", proposal_id=proposal_id, tokens=draft.tokens)
    return JSONResponse(
        {"id": proposal_id, "funder": funder, "title": title, "draft": draft.text, "tokens": draft.tokens}, 201
    )


@monitoring.feature("submit a proposal")
def submit_proposal(request: Request) -> JSONResponse:
    """Hand a proposal in at its funder's portal."""
    proposal = _proposal(request)
    funder = proposal["funder"]
    with monitoring.bind(funder=funder), monitoring.operation("proposal.submit", funder=funder) as submission:
        try:
            receipt = portals.submit(funder, proposal["title"])
        except portals.Refused as refusal:
            submission.fail("refused")
            log.warning("proposal refused", proposal_id=proposal["id"], reason=str(refusal))
            raise HTTPException(refusal.status, str(refusal)) from refusal
        database.mark_submitted(engine, proposal["id"], receipt)
    return JSONResponse({"receipt": receipt})


@monitoring.feature("search")
def search(request: Request) -> JSONResponse:
    """Search the titles, in the cache first."""
    text = request.query_params.get("q", "").strip().lower()
    if not text:
        raise HTTPException(400, "Say what to search for, for example /search?q=ice.")
    found = cache.get(text)
    if found is None:
        found = database.search_proposals(engine, text)
        cache.set(text, found)
    return JSONResponse(found)


def _proposal(request: Request) -> database.Row:
    proposal_id: int = request.path_params["proposal_id"]
    proposal = database.find_proposal(engine, proposal_id)
    if proposal is None:
        raise HTTPException(404, f"There is no proposal {proposal_id}; /proposals lists the newest.")
    return proposal


def _author(request: Request) -> str:
    author = _who_asks(request)
    if author is None:
        raise HTTPException(401, f"Say who you are, in the header or the cookie {USER_HEADER}.")
    return author


def _who_asks(request: Request) -> str | None:
    return request.headers.get(USER_HEADER) or request.cookies.get(USER_HEADER) or None


async def _funder_and_title(request: Request) -> tuple[str, str]:
    try:
        body: Any = await request.json()
        funder, title = str(body["funder"]), str(body["title"])
    except (ValueError, KeyError, TypeError) as error:
        raise HTTPException(400, "The body must be a JSON object with `funder` and `title`.") from error
    if funder not in {known.id for known in FUNDERS}:
        raise HTTPException(422, f"No funder is called {funder!r}; /funders lists them.")
    return funder, title


def refuse(request: Request, error: Exception) -> Response:
    """Answer 503 when the LLM server is the one that failed."""
    log.error("no draft", reason=str(error))
    return JSONResponse({"detail": str(error)}, 503, headers={"retry-after": "5"})


class IdentifyUser:
    """Tell monitoring who asks. Requests that no traffic generator sent are counted as visits."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "http":
            request = Request(scope)
            if user := _who_asks(request):
                monitoring.set_user(user)
            if TRAFFIC_HEADER not in request.headers:
                VISITS.inc()
        await self._app(scope, receive, send)


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Close the clients when the server stops."""
    yield
    await llm.close()
    engine.dispose()


app = Starlette(
    routes=[
        Route("/", index),
        Route("/funders", list_funders),
        Route("/proposals", list_proposals),
        Route("/proposals", create_proposal, methods=["POST"]),
        Route("/proposals/{proposal_id:int}", show_proposal),
        Route("/proposals/{proposal_id:int}/submit", submit_proposal, methods=["POST"]),
        Route("/search", search),
    ],
    middleware=[Middleware(IdentifyUser)],
    exception_handlers={LLMUnavailable: refuse},
    lifespan=lifespan,
)
monitoring.install(app, service="proposals", budgets=[DAILY_BUDGET, USER_BUDGET])


@monitoring.check("database", critical=True)
def database_answers() -> None:
    """The app can do nothing without its database."""
    database.ping(engine)


@monitoring.check("llm")
def llm_answers() -> None:
    """Without the LLM server no proposal is written; the rest works."""
    httpx.get(f"{LLM_URL}/health", trust_env=False).raise_for_status()
