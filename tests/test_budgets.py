"""Budgets: exact sums over processes, refusals before a call is sent, and what is not known is said."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import monitoring
from monitoring import Budget, BudgetExceeded
from monitoring.budgets import OTHERS, Budgets, Spent, checked
from monitoring.calls import LLMCall
from monitoring.cells import Declaration
from monitoring.context import current_record
from monitoring.observation import RequestRecord
from monitoring.store.database import Database, StoreUnusable
from monitoring.store.retention import Retention, trim
from monitoring.testing import FakeClock, use

MIDNIGHT = 1_800_057_600.0


class Counted:
    """What budgets count, by metric and labels."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, tuple[str, ...]], float] = {}

    def add(self, declaration: Declaration, values: tuple[str, ...], amount: float) -> None:
        key = (declaration.name, values)
        self.values[key] = self.values.get(key, 0.0) + amount

    def set(self, declaration: Declaration, values: tuple[str, ...], value: float) -> None:
        self.values[declaration.name, values] = value

    def observe(self, declaration: Declaration, values: tuple[str, ...], value: float) -> None:
        raise AssertionError(declaration.name)


@pytest.fixture
def clock() -> FakeClock:
    """Ten in the morning, UTC."""
    return FakeClock(MIDNIGHT + 10 * 3600)


@pytest.fixture
def counted() -> Counted:
    return Counted()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(str(tmp_path / "store"))
    yield database
    database.close()


def made(clock: FakeClock, counted: Counted, *budgets: Budget, **settings: Any) -> Budgets:
    """Return the budgets of a process."""
    return Budgets(budgets, counted, clock=clock, **settings)


def spend(budgets: Budgets, cost: str | None = "1", user: str = "") -> None:
    """Have a call end that cost something."""
    record = RequestRecord()
    record.user_id = user
    token = current_record.set(record)
    call = LLMCall(0.0)
    call.cost_usd = None if cost is None else Decimal(cost)
    current_record.reset(token)
    for fold in budgets.folds().values():
        fold(call)


def admitted(budgets: Budgets, user: str = "") -> bool:
    """Say whether a call may be sent."""
    record = RequestRecord()
    record.user_id = user
    token = current_record.set(record)
    try:
        budgets.admit()
    except BudgetExceeded:
        return False
    finally:
        current_record.reset(token)
    return True


def test_a_budget_of_all_calls_is_spent_by_all(clock: FakeClock, counted: Counted) -> None:
    """Whoever makes them; the ratio is a metric."""
    budgets = made(clock, counted, Budget(4, per="day"))
    spend(budgets, "1", "ada")
    spend(budgets, "0.5")
    (state,) = budgets.states()
    assert (state.values, state.ratio) == ({"": Spent(1.5, 2, 0)}, 0.375)
    assert (state.since, state.until) == (MIDNIGHT, MIDNIGHT + 86_400)
    assert counted.values == {("monitoring_budget_spent_ratio", ("all/day",)): 0.375}


def test_a_spent_budget_refuses_only_where_it_is_told_to(clock: FakeClock, counted: Counted) -> None:
    """Each refusal is counted."""
    told, refusing = made(clock, counted, Budget(1)), made(clock, counted, Budget(1, refuse=True))
    for budgets in (told, refusing):
        assert admitted(budgets)
        spend(budgets, "1")
    assert admitted(told)
    assert not admitted(refusing)
    assert counted.values["monitoring_budget_refusals_total", ("all/day",)] == 1


def test_the_error_says_which_budget_and_when_it_begins_anew(clock: FakeClock, counted: Counted) -> None:
    """In one sentence, and as attributes."""
    budget = Budget(1, per="hour", refuse=True)
    budgets = made(clock, counted, budget)
    spend(budgets, "1.25")
    with pytest.raises(BudgetExceeded) as caught:
        budgets.admit()
    assert (caught.value.budget, caught.value.spent_usd) == (budget, 1.25)
    assert caught.value.resets_at == MIDNIGHT + 11 * 3600
    assert str(caught.value) == (
        "The budget 'all/hour' of 1 USD is spent (1.25 USD), so the LLM call was not sent; "
        "wait until 2027-01-16 11:00 UTC, or raise the budget."
    )


def test_the_error_passes_to_another_process() -> None:
    """As a task's result, say."""
    error = pickle.loads(pickle.dumps(BudgetExceeded(Budget(1), 1.5, MIDNIGHT)))
    assert (error.budget, error.spent_usd, error.resets_at) == (Budget(1), 1.5, MIDNIGHT)


def test_the_metric_is_the_highest_share_and_begins_anew(
    clock: FakeClock, counted: Counted, database: Database
) -> None:
    """With the hour, whether or not there is a store."""
    budgets = made(clock, counted, Budget(4, per="hour", by="user"))
    told = []
    for user, seconds in (("ada", 0), ("ada", 0), ("bo", 0), ("bo", 3600)):
        clock.advance(seconds)
        spend(budgets, "1", user)
        told.append(counted.values["monitoring_budget_spent_ratio", ("user/hour",)])
    clock.advance(3600)
    budgets.exchange(database, clock())
    told.append(counted.values["monitoring_budget_spent_ratio", ("user/hour",)])
    assert told == [0.25, 0.5, 0.5, 0.25, 0]


@pytest.mark.parametrize(("per", "seconds"), [("hour", 3600), ("day", 14 * 3600)])
def test_a_budget_begins_anew_with_its_hour_or_day(clock: FakeClock, counted: Counted, per: Any, seconds: int) -> None:
    """In UTC, to the second."""
    budgets = made(clock, counted, Budget(1, per=per, refuse=True))
    spend(budgets)
    clock.advance(seconds - 1)
    assert not admitted(budgets)
    clock.advance(1)
    assert admitted(budgets)
    assert budgets.states()[0].values == {}


def test_each_user_has_a_budget_and_nobody_is_not_a_user(clock: FakeClock, counted: Counted) -> None:
    """A call without a user is in no sum. The metric is that of who spent most."""
    budgets = made(clock, counted, Budget(2, by="user", refuse=True), hash_users=False)
    for user in ("ada", "ada", "bo", "", "", ""):
        spend(budgets, "1", user)
    assert [admitted(budgets, user) for user in ("ada", "bo", "")] == [False, True, True]
    assert budgets.states()[0].values == {"ada": Spent(2, 2), "bo": Spent(1, 1)}
    assert counted.values["monitoring_budget_spent_ratio", ("user/day",)] == 1


def test_agents_and_features_have_budgets_by_the_nearest_around_the_call() -> None:
    """An operation is a feature, too; refused calls are so where they are made."""

    @monitoring.feature("draft")
    def draft() -> None:
        monitoring.current().recorder.record(call())
        monitoring.current().budgets.admit()

    def call() -> LLMCall:
        call = LLMCall(0.0)
        call.cost_usd = Decimal(1)
        return call

    budgets = [Budget(2, by="agent", refuse=True), Budget(10, by="feature")]
    with use(budgets=budgets) as made:
        with monitoring.agent("planner"), monitoring.operation("proposal"), monitoring.agent("writer"):
            draft()
            made.recorder.record(call())
            with pytest.raises(BudgetExceeded):
                made.budgets.admit()
        with monitoring.agent("planner"):
            made.budgets.admit()
            made.recorder.record(call())
        made.budgets.admit()
        by_agent, by_feature = made.budgets.states()
    assert by_agent.values == {"writer": Spent(2, 2), "planner": Spent(1, 1)}
    assert by_feature.values == {"draft": Spent(1, 1), "proposal": Spent(1, 1)}


def test_calls_without_a_price_are_said_and_cost_nothing_known(clock: FakeClock, counted: Counted) -> None:
    """One that the provider refused cost nothing."""
    budgets = made(clock, counted, Budget(4))
    spend(budgets, None)
    spend(budgets, "1")
    refused = LLMCall(0.0)
    refused.refused = True
    budgets.folds()["llm"](refused)
    assert budgets.states()[0].values == {"": Spent(1, 3, 1)}
    assert counted.values["monitoring_budget_unpriced_calls_total", ("all/day",)] == 1


def test_sums_are_exact_over_processes_within_two_rounds(
    clock: FakeClock, counted: Counted, database: Database
) -> None:
    """Each knows the others' users by their hash alone; a round that is repeated changes nothing."""
    budget = Budget(10, by="user", refuse=True)
    one, two, three = (made(clock, counted, budget) for _ in range(3))
    for budgets, times in ((one, 3), (two, 6)):
        for _ in range(times):
            spend(budgets, "1", "ada")
    assert all(admitted(budgets, "ada") for budgets in (one, two, three))
    spend(three, "1", "ada")
    for _ in range(2):
        for budgets in (one, two, three):
            budgets.exchange(database, clock())
    assert not any(admitted(budgets, "ada") for budgets in (one, two, three))
    assert all(admitted(budgets, "bo") for budgets in (one, two, three))
    sums = [budgets.states()[0].values for budgets in (one, two, three)]
    assert sums[0] == sums[1] == sums[2]
    ((user, spent),) = sums[0].items()
    assert (user != "ada", len(user), spent) == (True, 16, Spent(10, 10))


def test_worker_processes_add_up(tmp_path: Path) -> None:
    """To the cent, when each has ended."""
    settings: dict[str, Any] = {"store": str(tmp_path), "budgets": [Budget(100)]}

    def work() -> None:
        with use(**settings) as made:
            for _ in range(25):
                spend(made.budgets, "0.25")

    children = [fork(work) for _ in range(4)]
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 4
    with use(**settings) as made:
        made.flush()
        assert made.budgets.states()[0].values == {"": Spent(25, 100)}


def fork(act: Callable[[], None]) -> int:
    """Do something in a child, and return its ID."""
    child = os.fork()
    if child == 0:
        try:
            act()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return child


def test_what_an_ended_process_spent_stays_spent(clock: FakeClock, counted: Counted, database: Database) -> None:
    """One that is started in its place knows after its first round; a forked child does not count its parent's."""
    ended = made(clock, counted, Budget(1, refuse=True))
    spend(ended)
    ended.exchange(database, clock())
    started = made(clock, counted, Budget(1, refuse=True))
    started.exchange(database, clock())
    assert not admitted(started)
    ended.start_anew()
    ended.exchange(database, clock())
    assert ended.states()[0].values == {"": Spent(1, 1)}


def test_what_was_spent_before_midnight_is_written_after_it(
    clock: FakeClock, counted: Counted, database: Database
) -> None:
    """And is in yesterday's sum."""
    budgets, late = made(clock, counted, Budget(4)), made(clock, counted, Budget(4))
    spend(budgets)
    late.exchange(database, clock())
    clock.advance(86_400)
    budgets.exchange(database, clock())
    clock.advance(-86_400)
    late.exchange(database, clock())
    assert late.states()[0].values == {"": Spent(1, 1)}


def test_a_store_that_fails_costs_no_cent(
    clock: FakeClock, counted: Counted, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could not be written is written later."""

    def fail(*_: object) -> None:
        raise StoreUnusable("locked")

    budgets = made(clock, counted, Budget(4))
    spend(budgets)
    with monkeypatch.context() as patched:
        patched.setattr(database, "writing", fail)
        with pytest.raises(StoreUnusable):
            budgets.exchange(database, clock())
    budgets.exchange(database, clock())
    other = made(clock, counted, Budget(4))
    other.exchange(database, clock())
    assert other.states()[0].values == {"": Spent(1, 1)}


def test_threads_lose_nothing(clock: FakeClock, counted: Counted) -> None:
    """Sums are added up under a lock."""
    budgets = made(clock, counted, Budget(4, by="user"), hash_users=False)
    with ThreadPoolExecutor(8) as pool:
        for number in range(2_000):
            pool.submit(spend, budgets, "0.5", f"user-{number % 3}")
    assert sum(spent.usd for spent in budgets.states()[0].values.values()) == 1_000


def test_users_past_a_bound_share_one_budget(
    clock: FakeClock, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that made-up users do not fill the memory."""
    monkeypatch.setattr("monitoring.budgets.VALUES", 2)
    budgets = made(clock, counted, Budget(2, by="user", refuse=True))
    for user in "abcd":
        spend(budgets, "1", user)
    assert [admitted(budgets, user) for user in "abcde"] == [True, True, False, False, False]
    assert OTHERS in budgets.states()[0].values


def test_a_bug_refuses_nothing(clock: FakeClock, counted: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is counted as the pack's own failure."""
    failures: list[str] = []
    budgets = made(
        clock, counted, Budget(2, refuse=True), on_failure=lambda part, error: failures.append(f"{part} {error}")
    )
    monkeypatch.setattr(Budgets, "_spent", lambda *_: 1 / 0)
    assert admitted(budgets)
    assert failures == ["budgets division by zero"]


def test_old_sums_go_with_the_facts(clock: FakeClock, counted: Counted, database: Database) -> None:
    """Users are kept no longer than elsewhere."""
    budgets = made(clock, counted, Budget(4))
    spend(budgets)
    budgets.exchange(database, clock())
    assert trim(database, Retention(facts_days=14), clock() + 13 * 86_400) == 0
    assert trim(database, Retention(facts_days=14), clock() + 15 * 86_400) == 1


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"usd": 0}, "usd of a Budget must be a positive number of dollars, got 0."),
        ({"usd": 1, "per": "week"}, "per of a Budget must be 'hour' or 'day', got 'week'."),
        ({"usd": 1, "by": "model"}, "by of a Budget must be 'user', 'feature' or 'agent', or '' for all calls"),
        ({"usd": 1, "name": "a\nb"}, "name of a Budget must be up to 100 letters"),
    ],
)
def test_a_budget_that_cannot_be_is_refused(settings: dict[str, Any], told: str) -> None:
    """With what it must be."""
    with pytest.raises(ValueError, match=told.replace("(", r"\(")):
        Budget(**settings)


@pytest.mark.parametrize("budgets", [["5 USD"], [Budget(1), Budget(2)]], ids=["no budget", "one name"])
def test_budgets_that_cannot_be_are_refused_at_the_start(budgets: list[Any]) -> None:
    """As any setting."""
    with pytest.raises(monitoring.ConfigError, match=r"monitoring\.Budget|another name"):
        monitoring.configure(budgets=budgets, store=None)
    with pytest.raises(ValueError, match=r"monitoring\.Budget|another name"):
        list(checked(budgets))


def test_rules_can_ask_for_it(tmp_path: Path) -> None:
    """The share that is spent, by budget."""
    rule = monitoring.Rule("budgets", "budget_spent", above=0.8, for_seconds=0, window_seconds=60)
    with use(store=str(tmp_path), budgets=[Budget(1), Budget(10, per="hour")], rules=[rule]) as made:
        call = LLMCall(0.0)
        call.cost_usd = Decimal("0.9")
        made.recorder.record(call)
        made.flush()
        made.flush()
        open_now = [(episode.labels, episode.value) for episode in made.alerts.reports.report().open]
    assert open_now == [({"budget": "all/day"}, pytest.approx(0.9))]
