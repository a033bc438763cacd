"""The life of an episode, as a pure function of what is, what is seen and the time."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.alerting.rules import Rule, Sample
from monitoring.alerting.states import GAP_SECONDS, Present, Step, advance, begin, end, level_of
from monitoring.store.alert_records import Episode, Silence

NOW = 1_800_000_000.0
RULE = Rule("errors", "error_rate", above=0.05, clear=0.02, for_seconds=60, min_samples=20, repeat_seconds=3600)
AT_ONCE = replace(RULE, for_seconds=0)
BREACH, BETWEEN, CLEAR = 0.1, 0.03, 0.01


def sample(value: float, samples: float = 100) -> Sample:
    return Sample({"route": "/x"}, value, samples, "#/routes")


@dataclass
class Life:
    """One label set of a rule, evaluated again and again; ``now`` moves by hand."""

    rule: Rule = RULE
    now: float = NOW
    episode: Episode | None = None
    silence: Silence | None = None
    told: list[str] = field(default_factory=list)
    history: list[str] = field(default_factory=list)
    last: Step = field(default_factory=lambda: Step(None))
    episodes: int = 0

    def sees(self, value: float | None, after: float = 0.0, samples: float = 100) -> Life:
        self.now += after
        seen = None if value is None else sample(value, samples)
        present = Present(self.rule, seen, self.now, self.silence, is_blind=seen is None)
        is_open = self.episode is not None and self.episode.state != "resolved"
        if is_open and self.episode is not None:
            self.last = advance(self.episode, present)
        else:
            self.episodes += 1
            self.last = begin(present, {"route": "/x"}, f"episode {self.episodes}")
        self.episode = self.last.episode or self.episode
        self.history += [event.what for event in self.last.events]
        if self.last.notice is not None:
            self.told.append(self.last.notice)
        return self

    def acks(self, minutes: float = 60) -> Life:
        assert self.episode is not None
        until = self.now + minutes * 60
        self.episode = replace(self.episode, acked_by="ana", acked_at=self.now, acked_until=until)
        return self

    @property
    def state(self) -> str:
        return "inactive" if self.episode is None else self.episode.state


def silence(now: float = NOW) -> Silence:
    return Silence(id="s1", rule="*", starts_at=now, ends_at=now + 600, author="bo")


@pytest.mark.parametrize(
    ("value", "samples", "level"),
    [
        (0.06, 100, "breach"),
        (0.05, 100, "between"),
        (0.02, 100, "clear"),
        (0.06, 19, "between"),
        (0.0, 0, "clear"),
        (math.nan, 100, "missing"),
    ],
)
def test_a_sample_stands_beyond_between_or_past_the_thresholds(value: float, samples: float, level: str) -> None:
    """The threshold itself does not breach, the recovery threshold is recovery; few observations breach nothing."""
    assert level_of(RULE, sample(value, samples)) == level


def test_a_rule_below_is_the_mirror_image() -> None:
    """Below 0.8 breaches, from 0.9 on it is clear, between it is neither."""
    rule = Rule("ok", "operation_success_rate", below=0.8, clear=0.9)
    assert [level_of(rule, sample(value)) for value in (0.79, 0.8, 0.9)] == ["breach", "between", "clear"]


def test_no_breach_opens_nothing() -> None:
    """What is between the thresholds does not begin an episode."""
    assert Life().sees(BETWEEN).sees(CLEAR).sees(None).state == "inactive"


def test_a_breach_is_pending_first() -> None:
    """A rule with a duration tells nobody at the first breach."""
    life = Life().sees(BREACH)
    assert (life.state, life.told, life.history) == ("pending", [], ["pending"])


def test_a_breach_that_lasts_fires() -> None:
    """After ``for_seconds`` of breach, and not before, it fires and is told once."""
    life = Life().sees(BREACH).sees(BREACH, after=59)
    assert life.state == "pending"
    life.sees(BREACH, after=1).sees(BREACH, after=5)
    assert (life.state, life.told) == ("firing", ["firing"])
    assert life.episode is not None
    assert life.episode.fired_at == NOW + 60


def test_a_rule_without_duration_fires_at_once() -> None:
    """``for_seconds=0`` fires at the first evaluation."""
    assert Life(AT_ONCE).sees(BREACH).told == ["firing"]


def test_a_breach_that_ends_early_is_dropped_silently() -> None:
    """What recovers before firing is over, was never fired, and nobody hears of it."""
    life = Life().sees(BREACH).sees(CLEAR, after=30)
    assert (life.state, life.told, life.history[-1]) == ("resolved", [], "recovered before firing")
    assert life.episode is not None
    assert life.episode.fired_at is None


def test_between_the_thresholds_the_pending_timer_starts_again() -> None:
    """A pending breach must last without a break."""
    life = Life().sees(BREACH).sees(BREACH, after=30).sees(BETWEEN, after=10).sees(BREACH, after=50)
    assert life.state == "pending"
    assert life.sees(BREACH, after=10).state == "firing"


def test_between_the_thresholds_it_goes_on_firing() -> None:
    """Hysteresis: only past the recovery threshold is it over."""
    life = Life(AT_ONCE).sees(BREACH).sees(BETWEEN, after=600)
    assert life.state == "firing"
    assert life.sees(CLEAR, after=5).told == ["firing", "resolved"]


def test_a_breach_of_few_observations_goes_on_firing() -> None:
    """A quiet night is no recovery, nor does it fire anything."""
    life = Life(AT_ONCE).sees(BREACH).sees(BREACH, after=600, samples=3)
    assert life.state == "firing"
    assert Life(AT_ONCE).sees(BREACH, samples=3).state == "inactive"


def test_it_fires_on_for_a_while_after_recovery() -> None:
    """``keep_firing_seconds`` of recovery without a break are needed."""
    life = Life(replace(AT_ONCE, keep_firing_seconds=120)).sees(BREACH)
    life.sees(CLEAR, after=5).sees(CLEAR, after=100).sees(BREACH, after=5).sees(CLEAR, after=5).sees(CLEAR, after=119)
    assert life.state == "firing"
    assert life.sees(CLEAR, after=1).state == "resolved"
    assert life.history == ["firing", "recovering", "breached again", "recovering", "resolved"]


def test_repeats_come_at_their_time() -> None:
    """While nobody acknowledges there is a notice every ``repeat_seconds``, and they are numbered."""
    life = Life(AT_ONCE).sees(BREACH).sees(BREACH, after=3599).sees(BREACH, after=1).sees(BREACH, after=3600)
    assert life.told == ["firing", "repeat", "repeat"]
    assert life.episode is not None
    assert life.episode.notices == 3


def test_no_repeats_when_they_are_off() -> None:
    """``repeat_seconds=0`` tells once."""
    assert Life(replace(AT_ONCE, repeat_seconds=0)).sees(BREACH).sees(BREACH, after=90_000).told == ["firing"]


def test_an_acknowledgement_stops_repeats() -> None:
    """What somebody has in hand is not repeated, and its end is told."""
    life = Life(AT_ONCE).sees(BREACH).acks(minutes=600).sees(BREACH, after=7200).sees(CLEAR, after=5)
    assert life.told == ["firing", "resolved"]
    assert life.episode is not None
    assert life.episode.acked_by == "ana"


def test_an_acknowledgement_that_expires_is_a_reminder() -> None:
    """After its time everybody hears that it still fires, and why they hear it."""
    life = Life(AT_ONCE).sees(BREACH).acks(minutes=10).sees(BREACH, after=600)
    assert (life.told, life.last.why) == (["firing", "repeat"], "the acknowledgement by ana expired")
    assert life.episode is not None
    assert (life.episode.acked_by, life.episode.acked_until) == ("", None)


def test_a_silence_tells_nobody_and_keeps_the_history() -> None:
    """What fires and ends while silenced is in the history; the evaluation went on."""
    life = Life(AT_ONCE, silence=silence()).sees(BREACH)
    assert (life.state, life.told) == ("firing", [])
    assert life.episode is not None
    assert life.episode.silenced_by == "s1"
    assert life.sees(BREACH, after=5).history == ["firing", "silenced"]


def test_what_still_fires_at_the_end_of_a_silence_is_told_then() -> None:
    """The first notice comes late and says why."""
    life = Life(AT_ONCE, silence=silence()).sees(BREACH)
    life.silence = None
    life.sees(BREACH, after=600)
    assert life.told == ["firing"]
    assert life.last.why.startswith("was silenced until 2027-01-15 08:10:00")
    assert life.history[-1] == "silence ended"


def test_a_silence_over_a_firing_episode_holds_the_repeats() -> None:
    """No repeats while silenced; at the end one repeat, not a second first notice."""
    life = Life(AT_ONCE).sees(BREACH)
    life.silence = silence()
    life.sees(BREACH, after=7200)
    assert life.told == ["firing"]
    life.silence = None
    assert life.sees(BREACH, after=5).told == ["firing", "repeat"]


def test_an_acknowledged_episode_stays_quiet_when_its_silence_ends() -> None:
    """Somebody has it in hand: the end of a silence changes nothing about that."""
    life = Life(AT_ONCE).sees(BREACH).acks()
    life.silence = silence()
    life.sees(BREACH, after=5)
    life.silence = None
    assert life.sees(BREACH, after=5).told == ["firing"]


def test_no_data_is_recovery_by_default() -> None:
    """``ok``: what is not there does not fail."""
    life = Life(AT_ONCE).sees(BREACH).sees(None, after=5)
    assert (life.state, life.last.why) == ("resolved", "no data")
    assert Life().sees(BREACH).sees(None, after=5).history[-1] == "recovered before firing"


def test_no_data_may_freeze_everything() -> None:
    """``keep``: time without data does not count for the breach, and is noted once."""
    life = Life(replace(RULE, no_data="keep")).sees(BREACH).sees(BREACH, after=30)
    life.sees(None, after=500).sees(None, after=500).sees(BREACH, after=29)
    assert (life.state, life.history) == ("pending", ["pending", "no data"])
    assert life.sees(BREACH, after=1).state == "firing"


def test_no_data_may_freeze_a_recovery() -> None:
    """``keep``: time without data does not count for the recovery either."""
    life = Life(replace(AT_ONCE, no_data="keep", keep_firing_seconds=60)).sees(BREACH).sees(CLEAR, after=5)
    life.sees(None, after=100).sees(CLEAR, after=59)
    assert life.state == "firing"
    assert life.sees(CLEAR, after=1).state == "resolved"


def test_what_still_fires_without_data_is_repeated() -> None:
    """``keep`` freezes the timers of the condition, not the reminders."""
    life = Life(replace(AT_ONCE, no_data="keep")).sees(BREACH).sees(None, after=3600)
    assert life.told == ["firing", "repeat"]


def test_a_missing_label_set_has_recovered_while_others_are_there() -> None:
    """``alert`` is about a rule without any data; a route that nobody calls any more is not that."""
    rule = replace(AT_ONCE, no_data="alert")
    fired = Life(rule).sees(BREACH).episode
    assert fired is not None
    blind = advance(fired, Present(rule, None, NOW + 5, is_blind=True)).episode
    alone = advance(fired, Present(rule, None, NOW + 5, is_blind=False)).episode
    assert (blind and blind.state, alone and alone.state) == ("firing", "resolved")


def test_another_condition_is_another_episode() -> None:
    """A changed threshold ends what was open under the former one."""
    life = Life(AT_ONCE).sees(BREACH)
    life.rule = replace(AT_ONCE, above=0.08)
    life.sees(BREACH, after=5)
    assert (life.state, life.last.why) == ("resolved", "the rule was changed")


def test_other_words_are_the_same_episode() -> None:
    """A changed summary, severity or duration goes on with the open episode."""
    life = Life(AT_ONCE).sees(BREACH)
    life.rule = replace(AT_ONCE, severity="critical", summary="{value} fail", for_seconds=90)
    life.sees(BREACH, after=5)
    assert life.episode is not None
    assert (life.state, life.episode.severity, life.episode.summary) == ("firing", "critical", "10 % fail")


def test_after_a_gap_a_pending_breach_starts_again() -> None:
    """Nobody looked for over an hour: what was pending may have recovered meanwhile."""
    life = Life().sees(BREACH).sees(BREACH, after=GAP_SECONDS + 1)
    assert life.state == "pending"
    assert life.sees(BREACH, after=60).state == "firing"


def test_a_restart_goes_on_with_the_timer() -> None:
    """A short pause counts: the timer is a moment of the wall clock."""
    assert Life().sees(BREACH).sees(BREACH, after=GAP_SECONDS).state == "firing"


def test_when_the_clock_jumps_back_no_time_has_passed() -> None:
    """Timers do not run backwards, and nothing fires or ends of it."""
    life = Life().sees(BREACH).sees(BREACH, after=-7200)
    assert life.state == "pending"
    assert life.sees(BREACH, after=7200 + 60).state == "pending"  # a gap of over an hour, so it starts again


def test_the_end_of_a_rule_is_told_if_it_fired() -> None:
    """A removed rule resolves what fires, with the reason, and drops what was pending."""
    fired, pending = Life(AT_ONCE).sees(BREACH).episode, Life().sees(BREACH).episode
    assert fired is not None
    assert pending is not None
    assert end(fired, NOW, "the rule was removed").notice == "resolved"
    assert end(pending, NOW, "the rule was removed").notice is None


MOVES = st.lists(
    st.tuples(
        st.sampled_from([BREACH, BETWEEN, CLEAR, None]),
        st.sampled_from([-100.0, 0.0, 5.0, 30.0, 61.0, 4000.0]),
        st.sampled_from(["", "ack", "silence", "speak"]),
    ),
    max_size=40,
)
RULES = st.builds(
    replace,
    st.just(RULE),
    for_seconds=st.sampled_from([0.0, 60.0]),
    keep_firing_seconds=st.sampled_from([0.0, 30.0]),
    no_data=st.sampled_from(["ok", "keep", "alert"]),
    repeat_seconds=st.sampled_from([0.0, 30.0]),
)


@given(RULES, MOVES)
def test_whatever_happens_an_episode_lives_in_order(rule: Rule, moves: list[tuple[float | None, float, str]]) -> None:
    """Nobody hears of an end without a firing, no repeat comes first, and each episode is told of at most once each."""
    life, per_episode = Life(rule), dict[str, list[str]]()
    for value, after, action in moves:
        if action == "silence":
            life.silence = silence(life.now)
        elif action == "speak":
            life.silence = None
        elif action == "ack" and life.state == "firing":
            life.acks(minutes=1)
        life.sees(value, after)
        if life.episode is not None and life.last.notice is not None:
            per_episode.setdefault(life.episode.id, []).append(life.last.notice)
        if life.episode is not None:
            assert (life.episode.fired_at is not None) or life.episode.state != "firing"
            assert (life.episode.resolved_at is not None) == (life.episode.state == "resolved")
    for notices in per_episode.values():
        assert notices.count("firing") <= 1
        assert notices.count("resolved") <= 1
        assert "repeat" not in notices or notices[0] == "firing"


@given(RULES, MOVES)
def test_timers_never_run_into_the_future(rule: Rule, moves: list[tuple[float | None, float, str]]) -> None:
    """While the clock goes forward, no timer of an episode is ahead of it: no duration is negative."""
    life = Life(rule)
    for value, after, _ in moves:
        life.sees(value, abs(after))
        if life.episode is not None:
            moments = (life.episode.active_since, life.episode.fired_at, life.episode.clear_since)
            assert all(moment <= life.now for moment in moments if moment is not None)


@given(RULES, MOVES)
def test_a_silence_that_never_ends_is_kept(rule: Rule, moves: list[tuple[float | None, float, str]]) -> None:
    """Under a silence that never ends, nobody is ever told that it fires."""
    life = Life(rule, silence=silence())
    for value, after, _ in moves:
        life.sees(value, after)
    assert {"firing", "repeat"}.isdisjoint(life.told)
