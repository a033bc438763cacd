"""Budgets: how much LLM calls may cost in an hour or a day, in all or for each user, feature or agent.

Each process knows what it spent itself at once, and what the others that share the store spent within two seconds: the
flusher writes and reads once a second. What is written is a process's whole sum, so that nothing is lost or counted
twice when a write is tried again; a process that is killed takes its last second along.
"""

from __future__ import annotations

import re
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal, get_args

from . import families
from .calls import LLMCall
from .context import current_record, present_block
from .families import CountsMetrics
from .observation import Kind
from .recorder import Fold

if TYPE_CHECKING:
    from .store.database import Database
    from .store.spend import Row

Per = Literal["hour", "day"]
By = Literal["", "user", "feature", "agent"]

VALUES: Final = 10_000
"""Users, features or agents that a process tells apart in one hour or day; those past them share one budget."""
OTHERS: Final = "(other)"

_SECONDS: Final[Mapping[Per, int]] = {"hour": 3_600, "day": 86_400}
_NAME: Final = re.compile(r"[\w.:/ -]{1,100}")
_VALUE_LENGTH: Final = 200


@dataclass(frozen=True, slots=True)
class Budget:
    """How much LLM calls may cost: ``Budget(5, per="day", by="user")`` is 5 US dollars a day for each user.

    Hours and days are those of UTC. Only calls whose price is known are in the sum; the others are counted beside it.
    Raise ValueError for a setting that cannot be used.
    """

    usd: float
    per: Per = "day"
    by: By = ""
    """For each ``user`` (``set_user``), ``feature`` (``feature`` and ``operation``, the nearest around the call) or
    ``agent`` (the nearest). "": all calls together. A call that has none is in no sum, so bound those by a budget of
    all calls, too.
    """
    refuse: bool = False
    """Raise ``BudgetExceeded`` in the place of a call once it is spent; otherwise it is only told."""
    name: str = ""
    """By default ``user/day``, ``all/hour``. Two budgets need two names."""

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", f"{self.by or 'all'}/{self.per}")
        for name, is_usable, remedy in (
            ("usd", isinstance(self.usd, (int, float)) and 0 < self.usd < float("inf"), "a positive number of dollars"),
            ("per", self.per in _SECONDS, "'hour' or 'day'"),
            ("by", self.by in get_args(By), "'user', 'feature' or 'agent', or '' for all calls together"),
            ("name", isinstance(self.name, str) and _NAME.fullmatch(self.name), "up to 100 letters, digits and -._:/"),
        ):
            if not is_usable:
                raise ValueError(f"{name} of a Budget must be {remedy}, got {getattr(self, name)!r}.")

    def since(self, now: float) -> float:
        """Return when the running hour or day began, as unix seconds."""
        length = _SECONDS[self.per]
        return now // length * length

    def until(self, now: float) -> float:
        """Return when it ends."""
        return self.since(now) + _SECONDS[self.per]


class BudgetExceeded(Exception):
    """A budget is spent that refuses calls, so this one was not sent. ``resets_at`` says when it may be, as unix
    seconds.

    The only exception that the pack raises into the app by itself, and only where a budget says ``refuse=True``.
    """

    def __init__(self, budget: Budget, spent_usd: float, resets_at: float) -> None:
        moment = datetime.fromtimestamp(resets_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
        super().__init__(
            f"The budget {budget.name!r} of {budget.usd:g} USD is spent ({spent_usd:.4g} USD), so the LLM call was not "
            f"sent; wait until {moment}, or raise the budget."
        )
        self.budget = budget
        self.spent_usd = spent_usd
        self.resets_at = resets_at

    def __reduce__(self) -> tuple[type[BudgetExceeded], tuple[Budget, float, float]]:
        """Let it pass to another process, such as from a task's worker."""
        return BudgetExceeded, (self.budget, self.spent_usd, self.resets_at)


@dataclass(slots=True)
class Spent:
    """What calls cost, as far as it is known, and how many there were."""

    usd: float = 0.0
    calls: int = 0
    unpriced_calls: int = 0

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.usd + other.usd, self.calls + other.calls, self.unpriced_calls + other.unpriced_calls)


@dataclass(frozen=True, slots=True)
class BudgetState:
    """How a budget stands in the running hour or day."""

    budget: Budget
    since: float
    until: float
    values: Mapping[str, Spent]
    """By user (as the store has it), feature or agent, the dearest first; of a budget of all calls by ""."""

    @property
    def ratio(self) -> float:
        """Return the share that is spent, of the one who spent most."""
        return max((spent.usd for spent in self.values.values()), default=0.0) / self.budget.usd


_Period = tuple[str, float]
"""A budget's name, and the start of the hour or day."""


class Budgets:
    """The sink that sums up what LLM calls cost against the budgets, and refuses calls. Thread-safe."""

    def __init__(
        self,
        budgets: Sequence[Budget],
        metrics: CountsMetrics,
        *,
        hash_users: bool = True,
        on_first: Callable[[], None] = lambda: None,
        on_failure: Callable[[str, Exception], None] = lambda part, error: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._budgets = tuple(budgets)
        self._refusing = tuple(budget for budget in budgets if budget.refuse)
        self._metrics = metrics
        self._hash_users = hash_users
        self._on_first = on_first
        self._on_failure = on_failure
        self._clock = clock
        self.start_anew()

    def start_anew(self) -> None:
        """Begin again, in a forked child: what was spent so far is its parent's to tell."""
        self._process = secrets.token_hex(8)
        self._lock = threading.Lock()
        self._own: dict[_Period, dict[str, Spent]] = {}
        self._unwritten: set[tuple[_Period, str]] = set()
        self._others: dict[_Period, dict[str, Spent]] = {}
        self._told: dict[_Period, float] = {}
        self._user_key = b""
        self._began = False

    def folds(self) -> Mapping[Kind, Fold]:
        """Return what is added; nothing without budgets."""
        return {"llm": self._add} if self._budgets else {}

    def admit(self) -> None:
        """Raise BudgetExceeded where a call that is about to be sent here has no budget left. Raises nothing else."""
        if not self._refusing:
            return
        try:
            exceeded = self._exceeded()
        except Exception as error:
            self._on_failure("budgets", error)
            return
        if exceeded is not None:
            raise exceeded

    def states(self) -> list[BudgetState]:
        """Return how each budget stands."""
        now = self._clock()
        return [
            BudgetState(budget, budget.since(now), budget.until(now), self._sums(budget, now))
            for budget in self._budgets
        ]

    def exchange(self, database: Database, now: float) -> None:
        """Write what this process spent and read what the others did. Raise StoreUnusable; it may be called again."""
        if not self._budgets:
            return
        from .store import spend
        from .store.writer import user_key

        periods = {(budget.name, budget.since(now)) for budget in self._budgets}
        with database.reading() as connection:
            self._user_key = user_key(connection)
        written = self._to_write()
        if written:
            with database.writing() as connection:
                spend.write(connection, self._process, [self._row(*key) for key in written], now)
        with database.reading() as connection:
            found = list(spend.of_others(connection, self._process, periods))
        with self._lock:
            self._unwritten -= {key for key, spent in written.items() if self._own[key[0]][key[1]] == spent}
            self._others = _grouped(found)
            unwritten = {period for period, _ in self._unwritten}
            self._own = {period: sums for period, sums in self._own.items() if period in periods | unwritten}
        for state in self.states():
            self._told.pop((state.budget.name, state.since), None)
            self._tell_of(state.budget, state.ratio, now)

    def _add(self, call: LLMCall) -> None:
        self._begin()
        now, spent = self._clock(), Spent(float(call.cost_usd or 0), 1, int(call.is_unpriced))
        user = call.request.user_id if call.request is not None else ""
        for budget in self._budgets:
            feature = call.block.feature if call.block is not None else ""
            value = _value(budget, user, feature, call.agent)
            if value is None:
                continue
            period = (budget.name, budget.since(now))
            with self._lock:
                sums = self._own.setdefault(period, {})
                key = value if value in sums or len(sums) < VALUES else OTHERS
                sums[key] = sums.get(key, Spent()) + spent
                self._unwritten.add((period, key))
            if spent.unpriced_calls:
                self._metrics.add(families.BUDGET_UNPRICED, (budget.name,), 1.0)
            self._tell_of(budget, self._spent(budget, value, now) / budget.usd, now)

    def _exceeded(self) -> BudgetExceeded | None:
        self._begin()
        now, record, block = self._clock(), current_record.get(), present_block()
        user = record.user_id if record is not None else ""
        feature, agent = (block.feature, block.agent) if block is not None else ("", "")
        for budget in self._refusing:
            value = _value(budget, user, feature, agent)
            if value is not None and (spent := self._spent(budget, value, now)) >= budget.usd:
                self._metrics.add(families.BUDGET_REFUSALS, (budget.name,), 1.0)
                return BudgetExceeded(budget, spent, budget.until(now))
        return None

    def _begin(self) -> None:
        if not self._began:
            self._began = True
            self._on_first()

    def _spent(self, budget: Budget, value: str, now: float) -> float:
        period = (budget.name, budget.since(now))
        own = self._own.get(period, {})
        key = value if value in own or len(own) < VALUES else OTHERS
        others = self._others.get(period, {})
        return own.get(key, Spent()).usd + others.get(self._stored(budget, key), Spent()).usd

    def _sums(self, budget: Budget, now: float) -> dict[str, Spent]:
        period = (budget.name, budget.since(now))
        with self._lock:
            own = list(self._own.get(period, {}).items())
            sums = dict(self._others.get(period, {}))
        for value, spent in own:
            stored = self._stored(budget, value)
            sums[stored] = sums.get(stored, Spent()) + spent
        return dict(sorted(sums.items(), key=lambda item: -item[1].usd))

    def _stored(self, budget: Budget, value: str) -> str:
        """Return a value as it is in the store."""
        if budget.by != "user" or value == OTHERS or not self._hash_users:
            return value
        from .store.writer import hashed

        return hashed(value, self._user_key)

    def _to_write(self) -> dict[tuple[_Period, str], Spent]:
        with self._lock:
            return {(period, value): self._own[period][value] for period, value in self._unwritten}

    def _row(self, period: _Period, value: str) -> Row:
        (budget,) = (one for one in self._budgets if one.name == period[0])
        spent = self._own[period][value]
        return (*period, self._stored(budget, value), spent.usd, spent.calls, spent.unpriced_calls)

    def _tell_of(self, budget: Budget, ratio: float, now: float) -> None:
        """Set the metric where this is the highest share of the hour or day so far."""
        period = (budget.name, budget.since(now))
        if period not in self._told or ratio > self._told[period]:
            self._told = {key: told for key, told in self._told.items() if key[0] != budget.name} | {period: ratio}
            self._metrics.set(families.BUDGET_SPENT, (budget.name,), ratio)


def _value(budget: Budget, user: str, feature: str, agent: str) -> str | None:
    """Return whose budget a call is on, None for nobody's."""
    if not budget.by:
        return ""
    return {"user": user, "feature": feature, "agent": agent}[budget.by][:_VALUE_LENGTH] or None


def _grouped(found: Iterable[Row]) -> dict[_Period, dict[str, Spent]]:
    grouped: dict[_Period, dict[str, Spent]] = {}
    for budget, since, value, usd, calls, unpriced in found:
        grouped.setdefault((budget, since), {})[value] = Spent(usd, calls, unpriced)
    return grouped


def checked(budgets: Iterable[object]) -> Iterator[Budget]:
    """Yield the budgets of a config. Raise ValueError for what is none, and for two of one name."""
    names: set[str] = set()
    for budget in budgets:
        if not isinstance(budget, Budget):
            raise ValueError(f"budgets must be a list of monitoring.Budget, got {budget!r} in it.")
        if budget.name in names:
            raise ValueError(f"Two budgets are named {budget.name!r}; give one of them another name.")
        names.add(budget.name)
        yield budget
