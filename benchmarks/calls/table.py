"""What was measured, as a table, as JSON and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..report import Bar, Result, publish
from .measuring import Measured

COLUMNS = ("call", "bare", "added", "quiet", "per chunk", "unheard", "all on", "peer", "observed", "who the peer is")


def show(measured: Sequence[Measured], rounds: int, is_all: bool) -> None:
    """Publish the table; `is_all` says that no case was left out."""
    publish(
        Result(
            name="calls" if is_all else "calls_partial",
            title="What a wrapped client costs more",
            columns=COLUMNS,
            rows=[_row(one, _per_chunk(one, measured)) for one in measured],
            unit="microseconds of CPU time per call",
            bars=[bar for one in measured for bar in _bars(one)],
            notes=[
                f"`added`: median of {rounds} rounds, each compared with the bare client in the same round;",
                "`quiet` compares the quietest tenths. `unheard`: wrapped, before configure. `per chunk`: what one of",
                "50 chunks costs more than one of 2, by chunk. `added` is the adapter alone: the sink only counts.",
                "`all on`: metrics, percentiles, N+1 detection, the spans of a request and the store. All calls are",
                "made in requests of nine. `parsed before`: without the SDK's own work, which is most of the noise.",
                "`peer`: the package named at the end, beyond the bare client in the same round. OpenTelemetry and",
                "OpenLLMetry make spans, without texts of prompts, which are counted and not exported, and no metrics;",
                "django-prometheus counts, and times statements. What patches classes does so in the peer's own rounds",
                "alone. It is checked first that the peer records each call of its client, and none of the others'.",
                "OpenTelemetry has nothing for Django's database and caches. A connection is taken from a pool and",
                "given back. cachetools is not observed by call: it is asked for its counts at a scrape.",
            ],
            data={one.case.label: _data(one) for one in measured},
        )
    )


def _per_chunk(one: Measured, measured: Sequence[Measured]) -> str:
    """Return what each chunk more than in the shortest stream of its kind costs, "" where this is the shortest."""
    shortest = min((other for other in measured if other.case.stream == one.case.stream), key=_chunks)
    more = _chunks(one) - _chunks(shortest)
    return f"{(one.quiet - shortest.quiet) / more:.2f}" if one.case.stream and more else ""


def _chunks(one: Measured) -> int:
    return one.case.chunks


def _row(one: Measured, per_chunk: str) -> list[str]:
    return [
        one.case.label,
        f"{one.bare.median:,.1f}",
        f"{one.wrapped.median:.2f}",
        f"{one.quiet:.2f}",
        per_chunk,
        f"{one.silent.median:.2f}",
        f"{one.on.median:.2f}",
        f"{one.peer.median:.1f}" if one.peer else "",
        f"{one.seen:,}",
        _who(one),
    ]


def _who(one: Measured) -> str:
    if one.case.peer is None:
        return "nobody"
    return one.case.peer.name if one.peer else f"{one.case.peer.name}: cannot be imported"


def _bars(one: Measured) -> list[Bar]:
    bars = [Bar(one.case.label, one.wrapped.median, one.wrapped.low, one.wrapped.high, True)]
    return bars + ([Bar(_who(one), one.peer.median, one.peer.low, one.peer.high)] if one.peer else [])


def _data(one: Measured) -> dict[str, Any]:
    ours = {"bare": one.bare.median, "added": one.wrapped.median, "quiet": one.quiet, "on": one.on.median}
    return ours | ({"peer": one.peer.median, "peer_is": _who(one)} if one.peer else {})
