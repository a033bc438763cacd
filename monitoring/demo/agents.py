"""The two agents behind a proposal: a researcher who takes notes and a writer who makes a draft of them."""

from __future__ import annotations

import openai

import monitoring
from monitoring.demo.llm import Completion, complete

RESEARCH_MODEL = "gpt-4o-mini"
WRITING_MODEL = "gpt-4o"


@monitoring.agent("researcher")
async def research(llm: openai.AsyncOpenAI, *, funder: str, title: str) -> Completion:
    """Take notes on what `funder` wants to read about `title`."""
    return await complete(
        llm,
        model=RESEARCH_MODEL,
        system="You are a researcher. Note what the funder has supported before, and what is new here.",
        prompt=f"Funder: {funder}\nTitle: {title}",
    )


@monitoring.agent("writer")
async def write(llm: openai.AsyncOpenAI, *, title: str, notes: str) -> Completion:
    """Write a draft of the proposal from the researcher's notes."""
    return await complete(
        llm,
        model=WRITING_MODEL,
        system="You are a grant writer. Write a summary that a reviewer can follow.",
        prompt=f"Title: {title}\nNotes: {notes}",
    )
