"""An app that uses the whole pack: a database, a cache, a language model, checks, operations, alerts by mail.

Its neighbours' ports come in environment variables.
"""

from __future__ import annotations

import os
from typing import Any

import httpx
import openai
import redis
import sqlalchemy as sa
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import monitoring

LLM_URL = f"http://127.0.0.1:{os.environ['LLM_PORT']}"
NUMBERS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 400000)"
COUNT_SLOWLY = f"SELECT count(*) FROM ({NUMBERS} SELECT x FROM n)"

log = monitoring.get_logger("proposals")
engine = monitoring.wrap(sa.create_engine(f"sqlite:///{os.environ['DATABASE']}"))
cache: Any = monitoring.wrap(redis.Redis(port=int(os.environ["REDIS_PORT"])), name="drafts")
llm = monitoring.wrap(openai.OpenAI(base_url=f"{LLM_URL}/v1", api_key="x", max_retries=0))


class BudgetSpent(Exception):
    """What goes wrong in this app."""


@monitoring.agent("writer")
def write(title: str) -> int:
    """Have a draft written and return the tokens that it took."""
    answer = llm.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": f"hello, {title}"}])
    return answer.usage.total_tokens if answer.usage else 0


def propose(request: Request) -> JSONResponse:
    """Write a proposal: 133 tokens, one query, one look-up."""
    funder = request.path_params["funder"]
    monitoring.set_user(f"user-of-{funder}")
    with monitoring.operation("proposal.generate", funder=funder):
        cache.get(f"draft:{funder}")
        with engine.connect() as connection:
            connection.execute(sa.text("SELECT 1")).scalar()
        tokens = write(funder)
    return JSONResponse({"tokens": tokens})


def disaster(request: Request) -> JSONResponse:
    """Be slow, dear, and fail in the end."""
    funder = request.path_params["funder"]
    with monitoring.operation("proposal.generate", funder=funder):
        cache.get("never there")
        with engine.connect() as connection:
            connection.execute(sa.text(COUNT_SLOWLY)).scalar()
        tokens = write("the dear one")
        log.warning("over budget", tokens=tokens)
        raise BudgetSpent(f"{funder} has no money left")


app = Starlette(routes=[Route("/propose/{funder}", propose), Route("/disaster/{funder}", disaster)])
monitoring.install(
    app,
    service="proposals",
    rules=[
        monitoring.Rule(
            "check_failed", "check_failed", above=0, for_seconds=0, repeat_seconds=3, summary="{check} does not answer"
        )
    ],
    channels=[
        monitoring.Email(
            "127.0.0.1", int(os.environ["SMTP_PORT"]), "app@example.test", ["ops@example.test"], security="none"
        )
    ],
    base_url=os.environ.get("BASE_URL", ""),
)


@monitoring.check("llm", interval_seconds=1)
def llm_answers() -> None:
    """Without the language model no proposal is written."""
    httpx.get(f"{LLM_URL}/health", trust_env=False).raise_for_status()
