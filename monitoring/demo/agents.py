"""The agents behind a proposal: a planner has a researcher take notes with its tools, and a writer draft it of them."""

from __future__ import annotations

import random
from dataclasses import dataclass

import openai
from starlette.concurrency import run_in_threadpool

import monitoring
from monitoring.demo import portals
from monitoring.demo.cache import TTLCache
from monitoring.demo.llm import Completion, complete

PLANNING_MODEL = "gpt-4o-mini"
RESEARCH_MODEL = "gpt-4o-mini"
WRITING_MODEL = "gpt-4o"
SURE_SHARE = 0.5
"""How often the notes on a topic are taken as they are in the cache, where they are there."""

log = monitoring.get_logger(__name__)

notes_of_topics = monitoring.wrap(TTLCache[str](max_entries=256, ttl_seconds=600), name="notes")


@dataclass(frozen=True, slots=True)
class Draft:
    """A proposal's text, and how many tokens all agents took for it."""

    text: str
    tokens: int


@monitoring.agent("planner")
async def propose(llm: openai.AsyncOpenAI, *, funder: str, title: str) -> Draft:
    """Plan a proposal, have it researched and written, and return the draft."""
    plan = await complete(
        llm,
        model=PLANNING_MODEL,
        system="You plan grant proposals. Say in which order to make the argument.",
        prompt=f"Funder: {funder}\nTitle: {title}",
    )
    notes, research_tokens = await research(llm, funder=funder, title=title)
    draft = await write(llm, title=title, plan=plan.text, notes=notes)
    return Draft(draft.text, plan.tokens + research_tokens + draft.tokens)


@monitoring.agent("researcher")
async def research(llm: openai.AsyncOpenAI, *, funder: str, title: str) -> tuple[str, int]:
    """Take notes on what `funder` wants to read about `title`; return them, and the tokens that they took.

    Notes on a topic are kept for a while, and a portal that is down only makes them shorter.
    """
    topic = f"{funder} {title.partition(':')[0]}"
    known = recall(topic)
    if known is not None:
        return known, 0
    try:
        guidelines = await run_in_threadpool(read_guidelines, funder)
    except portals.PortalError as error:
        log.warning("no guidelines", funder=funder, reason=str(error))
        guidelines = ""
    notes = await complete(
        llm,
        model=RESEARCH_MODEL,
        system="You are a researcher. Note what the funder has supported before, and what is new here.",
        prompt=f"Funder: {funder}\nGuidelines: {guidelines}\nTitle: {title}",
    )
    notes_of_topics.set(topic, notes.text)
    return notes.text, notes.tokens


@monitoring.observe("recall_notes", tool=True)
def recall(topic: str) -> str | None:
    """Return the notes on a topic, where there are some that are still good."""
    notes = notes_of_topics.get(topic)
    return notes if random.random() < SURE_SHARE else None


@monitoring.observe("read_guidelines", tool=True)
def read_guidelines(funder: str) -> str:
    """Return the funder's guidelines from its portal. Raise PortalError when that is down."""
    return portals.guidelines(funder)


@monitoring.agent("writer")
async def write(llm: openai.AsyncOpenAI, *, title: str, plan: str, notes: str) -> Completion:
    """Write a draft of the proposal from the plan and the researcher's notes."""
    return await complete(
        llm,
        model=WRITING_MODEL,
        system="You are a grant writer. Write a summary that a reviewer can follow.",
        prompt=f"Title: {title}\nPlan: {plan}\nNotes: {notes}",
    )
