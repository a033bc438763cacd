"""The life of an episode: inactive, pending, firing, resolved. Pure functions: what is, what is seen and the time go
in, what is then comes out. Nothing is read, written or sent here.

Timers are moments of the wall clock and are stored, so that whoever evaluates next goes on with them. When the clock
jumps back, no time has passed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from ..store.alert_records import AlertEvent, Episode, NoticeKind, Silence
from .rules import Rule, Sample
from .words import moment

GAP_SECONDS: Final = 3600.0
"""After so long without an evaluation nobody knows what happened meanwhile: what was pending starts again."""

Level = Literal["breach", "between", "clear", "missing"]


@dataclass(frozen=True, slots=True)
class Step:
    """What one evaluation makes of an episode: the episode, what happened, and the notice that is due."""

    episode: Episode | None
    """None while the rule is not breached."""
    events: tuple[AlertEvent, ...] = ()
    notice: NoticeKind | None = None
    why: str = ""
    """What the notice says besides."""


@dataclass(frozen=True, slots=True)
class Present:
    """One evaluation of one rule for one label set."""

    rule: Rule
    sample: Sample | None
    """None for no data."""
    now: float
    silence: Silence | None = None
    """The one that matches now."""
    is_blind: bool = False
    """The rule has no data at all, for no label set."""


def level_of(rule: Rule, sample: Sample | None) -> Level:
    """Say where a sample stands. One made of too few observations breaches nothing, and recovers nothing either."""
    if sample is None or math.isnan(sample.value):
        return "missing"
    if rule.is_breached_by(sample.value):
        return "breach" if sample.samples >= rule.min_samples else "between"
    return "clear" if rule.is_cleared_by(sample.value) else "between"


def begin(present: Present, labels: Mapping[str, str], new_id: str) -> Step:
    """Return the first step of an episode, or one without an episode when there is no breach."""
    rule, sample, now = present.rule, present.sample, present.now
    if sample is None or level_of(rule, sample) != "breach":
        return Step(None)
    episode = Episode(
        id=new_id,
        rule=rule.name,
        rule_hash=rule.condition_hash,
        labels=labels,
        severity=rule.severity,
        summary=rule.sentence(sample),
        state="pending",
        active_since=now,
        value=sample.value,
        threshold=rule.threshold,
        evaluated_at=now,
        silenced_by=present.silence.id if present.silence else "",
        link=sample.link,
    )
    noted = (_silenced(present.silence, now),) if present.silence else ()
    if rule.for_seconds > 0:
        return Step(episode, (AlertEvent(now, "pending", episode.summary, sample.value), *noted))
    step = _fire(episode, present)
    return replace(step, events=(*step.events, *noted))


def advance(episode: Episode, present: Present) -> Step:
    """Return the next step of an episode that is pending or firing."""
    if episode.rule_hash != present.rule.condition_hash:
        return end(episode, present.now, "the rule was changed")
    seen = _see(episode, present)
    level = level_of(present.rule, present.sample)
    if level == "missing":
        step = _without_data(seen, present)
    elif seen.state == "pending":
        step = _advance_pending(seen, present, level)
    else:
        step = _advance_firing(seen, present, level)
    step = _with_silence(episode, step, present)
    return step if step.episode is None else replace(step, episode=replace(step.episode, evaluated_at=present.now))


def end(episode: Episode, now: float, why: str) -> Step:
    """Return the last step of an episode. One that never fired ends without a notice."""
    over = replace(episode, state="resolved", resolved_at=now)
    if episode.fired_at is None:
        return Step(over, (AlertEvent(now, "recovered before firing", why, episode.value),))
    return Step(over, (AlertEvent(now, "resolved", why, episode.value),), "resolved", why)


def elapsed(since: float | None, now: float) -> float:
    """Return the seconds since a moment, never less than 0."""
    return 0.0 if since is None else max(0.0, now - since)


def _see(episode: Episode, present: Present) -> Episode:
    """Take over what the sample and the rule say now."""
    sample = present.sample
    if sample is None or math.isnan(sample.value):
        return episode
    return replace(
        episode,
        value=sample.value,
        severity=present.rule.severity,
        summary=present.rule.sentence(sample) if present.rule.is_breached_by(sample.value) else episode.summary,
        link=sample.link or episode.link,
    )


def _advance_pending(episode: Episode, present: Present, level: Level) -> Step:
    now, value = present.now, episode.value
    if level == "clear":
        return end(episode, now, "")
    if level == "between":
        restarted = replace(episode, active_since=now)
        first = elapsed(episode.active_since, episode.evaluated_at) > 0  # one event for a stay between the thresholds
        return Step(restarted, (AlertEvent(now, "timer restarted", "", value),) if first else ())
    if elapsed(episode.evaluated_at, now) > GAP_SECONDS:
        why = "not evaluated for over an hour"
        return Step(replace(episode, active_since=now), (AlertEvent(now, "timer restarted", why, value),))
    if elapsed(episode.active_since, now) >= present.rule.for_seconds:
        return _fire(episode, present)
    return Step(episode)


def _fire(episode: Episode, present: Present) -> Step:
    now = present.now
    fired = replace(episode, state="firing", fired_at=now)
    return _told(Step(fired, (AlertEvent(now, "firing", episode.summary, episode.value),)), present, "")


def _advance_firing(episode: Episode, present: Present, level: Level) -> Step:
    now = present.now
    if level != "clear":
        back = episode.clear_since is not None
        events = (AlertEvent(now, "breached again", "", episode.value),) if back else ()
        return _held(Step(replace(episode, clear_since=None), events), present)
    return _recover(episode, present, "")


def _recover(episode: Episode, present: Present, why: str) -> Step:
    now, first = present.now, episode.clear_since is None
    recovering = replace(episode, clear_since=now if first else episode.clear_since)
    if elapsed(recovering.clear_since, now) >= present.rule.keep_firing_seconds:
        return end(recovering, now, why)
    return Step(recovering, (AlertEvent(now, "recovering", why, episode.value),) if first else ())


def _without_data(episode: Episode, present: Present) -> Step:
    blind = replace(episode, value=None)
    if _means_recovered(present):
        return end(blind, present.now, "no data") if blind.state == "pending" else _recover(blind, present, "no data")
    frozen = _frozen(blind, elapsed(episode.evaluated_at, present.now))
    events = (AlertEvent(present.now, "no data"),) if episode.value is not None else ()
    return _held(Step(frozen, events), present)


def _means_recovered(present: Present) -> bool:
    """Say whether missing data is good news. Under ``alert``, only what is missing while other label sets are there."""
    return present.rule.no_data == "ok" or (present.rule.no_data == "alert" and not present.is_blind)


def _frozen(episode: Episode, seconds: float) -> Episode:
    """Let the time without data not count."""
    if episode.state == "pending":
        return replace(episode, active_since=episode.active_since + seconds)
    return replace(episode, clear_since=None if episode.clear_since is None else episode.clear_since + seconds)


def _held(step: Step, present: Present) -> Step:
    """Go on firing: an acknowledgement may expire, a repeat may be due."""
    episode, now = step.episode, present.now
    if episode is None or episode.state != "firing":
        return step
    if episode.acked_until is not None and now >= episode.acked_until:
        forgotten = replace(episode, acked_by="", ack_note="", acked_at=None, acked_until=None)
        events = (*step.events, AlertEvent(now, "ack expired", f"acknowledged by {episode.acked_by}"))
        return _told(Step(forgotten, events), present, f"the acknowledgement by {episode.acked_by} expired")
    repeat = present.rule.repeat_seconds
    if repeat and episode.notified_at is not None and elapsed(episode.notified_at, now) >= repeat:
        return _told(step, present, "")
    return step


def _told(step: Step, present: Present, why: str) -> Step:
    """Have the channels told that it fires, unless somebody has it in hand or it is silenced."""
    episode = step.episode
    if episode is None or episode.acked_at is not None or present.silence is not None:
        return step
    told = replace(episode, notified_at=present.now, notices=episode.notices + 1)
    return Step(told, step.events, "repeat" if episode.notices else "firing", why)


def _with_silence(before: Episode, step: Step, present: Present) -> Step:
    """Note that a silence began or ended; what still fires at its end is told then."""
    episode = step.episode
    silenced_by = present.silence.id if present.silence else ""
    if episode is None or episode.state == "resolved" or silenced_by == before.silenced_by:
        return step
    noted = replace(episode, silenced_by=silenced_by)
    if present.silence is not None:
        return replace(step, episode=noted, events=(_silenced(present.silence, present.now), *step.events))
    over = replace(step, episode=noted, events=(AlertEvent(present.now, "silence ended"), *step.events))
    if step.notice is not None or noted.state != "firing":
        return over
    return _told(over, present, f"was silenced until {moment(present.now)}")


def _silenced(silence: Silence, now: float) -> AlertEvent:
    return AlertEvent(now, "silenced", f"until {moment(silence.ends_at)}", actor=silence.author)
