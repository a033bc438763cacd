"""What alerts are raised about: the numbers that can be asked for, and the rules over them."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any, Final, Literal, NamedTuple, Protocol, get_args

from .words import Unit, one_line, readable, readable_seconds

Severity = Literal["warning", "critical"]
NoData = Literal["ok", "keep", "alert"]


class Query(NamedTuple):
    """A number that rules may ask for."""

    unit: Unit
    labels: tuple[str, ...]
    """What it can be narrowed to or split by."""
    always_split: bool
    """One instance per value of the labels even if the rule does not ask for it."""
    meaning: str


QUERIES: Final[Mapping[str, Query]] = {
    "error_rate": Query("share", ("route",), False, "share of requests that failed"),
    "request_rate": Query("per_second", ("route",), False, "requests per second"),
    "p50_seconds": Query("seconds", ("route",), False, "median duration of requests"),
    "p95_seconds": Query("seconds", ("route",), False, "95th percentile of the duration of requests"),
    "p99_seconds": Query("seconds", ("route",), False, "99th percentile of the duration of requests"),
    "db_p95_seconds": Query("seconds", (), False, "95th percentile of the duration of database calls"),
    "llm_cost_usd": Query("usd", ("model",), False, "cost of LLM calls"),
    "budget_spent": Query("share", ("budget",), True, "share of a budget for LLM calls that is spent"),
    "llm_error_rate": Query("share", ("model",), False, "share of LLM calls that failed"),
    "cache_hit_rate": Query("share", ("cache",), False, "share of cache reads that hit"),
    "operation_success_rate": Query("share", ("operation",), True, "share of ended operations that are ok"),
    "quota_used_share": Query("share", ("host", "quota"), True, "share of a quota at an API that is used"),
    "check_failed": Query("state", ("check", "critical"), True, "failing health check"),
    "new_errors": Query("count", (), False, "error groups that are new or came back"),
    "critical_errors": Query("count", (), False, "errors of level critical"),
    "cpu_share": Query("share", (), False, "share of all cores in use"),
    "memory_share": Query("share", (), False, "share of memory in use"),
    "disk_share": Query("share", (), False, "share of the disk in use"),
    "facts_dropped": Query("count", (), False, "facts that found no place in the outbox"),
    "store_failures": Query("count", (), False, "failed writes to the store"),
    "channel_broken": Query("state", ("channel",), True, "channel that refuses notices"),
}
"""Every query, with its unit and labels. All but ``channel_broken``, which alerts answer themselves, are asked of
``Numbers``. ``critical`` of ``check_failed`` is "true" or "false".
"""


NO_DATA_LABELS: Final[Mapping[str, str]] = {"alert": "no data"}
"""What tells the alert of a rule with ``no_data="alert"`` from its others."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What a number was in a window, for one label set."""

    labels: Mapping[str, str]
    value: float
    """NaN counts as no data."""
    samples: float
    """How many requests, calls or events it was made of."""
    link: str = ""
    """Where on the page these numbers are, such as ``#/routes``."""


class Numbers(Protocol):
    """Answers the queries of rules."""

    def sample(self, query: str, labels: Mapping[str, str], window_seconds: float, now: float) -> Sequence[Sample]:
        """Return the samples of a query over the ``window_seconds`` before ``now``; none where there is no data.

        ``labels`` narrows to a value, or with ``*`` splits by it: one sample per value. Raise StoreUnusable when the
        store cannot be read: that is no missing data.
        """
        ...


@dataclass(frozen=True)
class Rule:
    """Something worth a notice: a number above or below a threshold for some time.

    ``name`` identifies it: a rule of the same name as a default one replaces that. ``query`` is one of ``QUERIES``.
    Raise ValueError for a setting that cannot be used.
    """

    name: str
    query: str
    _: KW_ONLY
    above: float | None = None
    """It is breached by values above this..."""
    below: float | None = None
    """... or below this; a rule has one of the two."""
    window_seconds: float = 300.0
    """The time the number is taken over."""
    for_seconds: float = 60.0
    """How long it must be breached before it fires; 0 fires at once."""
    clear: float | None = None
    """The value at which it has recovered, by default the threshold. Between the two it goes on firing."""
    min_samples: float = 0.0
    """A number made of fewer requests, calls or events breaches nothing."""
    severity: Severity = "warning"
    keep_firing_seconds: float = 0.0
    """How long it must have recovered before it is resolved."""
    repeat_seconds: float = 14_400.0
    """Time between notices while it fires and nobody acknowledges; 0 for no repeats."""
    no_data: NoData = "ok"
    """What missing data means: recovered (``ok``), nothing (``keep``), or an alert of its own (``alert``)."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Narrows the number to a value of a label, or with ``*`` makes one instance per value: ``{"route": "*"}``."""
    channels: tuple[str, ...] = ()
    """Names of the channels that are told; empty for all."""
    summary: str = ""
    """One sentence for notices; ``{value}``, ``{threshold}`` and labels such as ``{route}`` are filled in."""
    runbook: str = ""
    """URL of what to do about it."""

    def __post_init__(self) -> None:
        for name, is_usable, remedy in _RULES:
            value = getattr(self, name)
            if not is_usable(value):
                raise ValueError(f"{name} of rule {self.name!r} must be {remedy}, got {value!r}.")
        if (self.above is None) == (self.below is None):
            raise ValueError(
                f"Rule {self.name!r} must have one of above and below, got {self.above!r}, {self.below!r}."
            )
        if self.clear is not None and self.is_breached_by(self.clear):
            raise ValueError(f"clear of rule {self.name!r} must not be {self.condition}, got {self.clear!r}.")
        unknown = sorted(set(self.labels) - set(QUERIES[self.query].labels))
        if unknown:
            known = ", ".join(QUERIES[self.query].labels) or "none"
            raise ValueError(
                f"labels of rule {self.name!r} must be among {known} for {self.query}, got {unknown[0]!r}."
            )

    @property
    def threshold(self) -> float:
        """Return the value that must not be passed."""
        return self.above if self.above is not None else self.below or 0.0

    @property
    def condition(self) -> str:
        """Return the condition in words, such as ``above 5 %``."""
        side = "below" if self.above is None else "above"
        return f"{side} {readable(self.threshold, QUERIES[self.query].unit)}"

    @property
    def description(self) -> str:
        """Return the whole rule in words."""
        query = QUERIES[self.query]
        held = f", for {readable_seconds(self.for_seconds)}" if self.for_seconds else ""
        if query.unit == "state":
            return f"{query.meaning}{held}"
        return f"{query.meaning} {self.condition} over {readable_seconds(self.window_seconds)}{held}"

    @property
    def condition_hash(self) -> str:
        """Return a digest of what decides on a breach; another one ends the episodes of the former."""
        parts = (self.query, self.above, self.below, self.window_seconds, self.min_samples, sorted(self.labels.items()))
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]

    def is_breached_by(self, value: float) -> bool:
        """Say whether a value is beyond the threshold."""
        return value > self.threshold if self.above is not None else value < self.threshold

    def is_cleared_by(self, value: float) -> bool:
        """Say whether a value has reached the recovery threshold."""
        clear = self.threshold if self.clear is None else self.clear
        return value <= clear if self.above is not None else value >= clear

    def sentence(self, sample: Sample) -> str:
        """Return the summary for one sample."""
        unit = QUERIES[self.query].unit
        value = readable(sample.value, unit)
        if not self.summary:
            where = ", ".join(f"{name} {text}" for name, text in sorted(sample.labels.items()))
            return one_line(f"{QUERIES[self.query].meaning}{where and f' ({where})'}: {value}, {self.condition}")
        filled = {**sample.labels, "value": value, "threshold": readable(self.threshold, unit)}
        return one_line(_PLACEHOLDER.sub(lambda match: filled.get(match[1], match[0]), self.summary))


def missing_data(rule: Rule, is_missing: bool) -> tuple[Rule, Sample]:
    """Return the alert of its own that a rule raises when it has no data: as a rule, and as what it sees now."""
    clear = rule.threshold if rule.clear is None else rule.clear
    value = math.copysign(math.inf, 1 if rule.below is None else -1) if is_missing else clear
    return replace(rule, summary=f"There is no data for {rule.name}"), Sample(NO_DATA_LABELS, value, math.inf)


def default_rules() -> tuple[Rule, ...]:
    """Return the rules that every app starts with."""
    return (*_request_rules(), *_error_rules(), *_work_rules(), *_check_rules(), *_own_rules())


def _request_rules() -> tuple[Rule, ...]:
    return (
        Rule(
            "error_rate",
            "error_rate",
            above=0.05,
            clear=0.02,
            min_samples=20,
            severity="critical",
            summary="{value} of requests fail",
        ),
        Rule(
            "p95",
            "p95_seconds",
            above=2.0,
            clear=1.5,
            for_seconds=120,
            min_samples=50,
            summary="One request in 20 takes longer than {value}",
        ),
    )


def _error_rules() -> tuple[Rule, ...]:
    return (
        Rule(
            "critical_errors",
            "critical_errors",
            above=0,
            for_seconds=0,
            severity="critical",
            summary="Critical errors: {value}",
        ),
        Rule("new_errors", "new_errors", above=0, for_seconds=0, summary="New kinds of errors: {value}"),
    )


def _work_rules() -> tuple[Rule, ...]:
    return (
        Rule(
            "llm_error_rate",
            "llm_error_rate",
            above=0.2,
            clear=0.1,
            min_samples=10,
            summary="{value} of LLM calls fail",
        ),
        Rule(
            "operation_success_rate",
            "operation_success_rate",
            below=0.8,
            clear=0.9,
            min_samples=10,
            summary="Only {value} of {operation} succeed",
        ),
    )


def _check_rules() -> tuple[Rule, ...]:
    summary = "Health check {check} fails"
    return (
        Rule("check_failed", "check_failed", above=0, for_seconds=30, labels={"critical": "false"}, summary=summary),
        Rule(
            "critical_check_failed",
            "check_failed",
            above=0,
            for_seconds=30,
            severity="critical",
            labels={"critical": "true"},
            summary=summary,
        ),
    )


def _own_rules() -> tuple[Rule, ...]:
    """Return the rules about the machine and the pack itself."""
    return (
        Rule("disk_share", "disk_share", above=0.9, clear=0.88, no_data="keep", summary="The disk is {value} full"),
        Rule("memory_share", "memory_share", above=0.95, clear=0.9, no_data="keep", summary="Memory is {value} full"),
        Rule("store_failures", "store_failures", above=0, for_seconds=0, summary="Writes to the store fail: {value}"),
        Rule("facts_dropped", "facts_dropped", above=0, for_seconds=0, summary="Facts are dropped: {value}"),
        Rule(
            "channel_broken",
            "channel_broken",
            above=0,
            for_seconds=0,
            summary="The channel {channel} refuses notices",
        ),
    )


def merged_rules(own: Iterable[Rule]) -> tuple[Rule, ...]:
    """Return the default rules with an app's own: one of the same name replaces the default.

    Raise ValueError for what is no rule, and when two of the app's have one name.
    """
    named: dict[str, Rule] = {}
    for rule in own:
        if not isinstance(rule, Rule):
            raise ValueError(f"A rule must be a monitoring.Rule, got {rule!r}.")
        if rule.name in named:
            raise ValueError(f"Two rules are named {rule.name!r}; give one of them another name.")
        named[rule.name] = rule
    return tuple({**{rule.name: rule for rule in default_rules()}, **named}.values())


_PLACEHOLDER: Final = re.compile(r"\{(\w+)\}")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_time(value: object) -> bool:
    return _is_number(value) and 0 <= value <= 30 * 86_400  # type: ignore[operator]


def _are_texts(values: Iterable[object]) -> bool:
    return all(isinstance(value, str) and value != "" for value in values)


_TIME: Final = "a number of seconds up to 30 days"
_RULES: Final[tuple[tuple[str, Callable[[Any], bool], str], ...]] = (
    (
        "name",
        lambda value: isinstance(value, str) and re.fullmatch(r"[\w.-]{1,100}", value) is not None,
        "up to 100 letters, digits, '_', '.' or '-'",
    ),
    ("query", lambda value: value in QUERIES, f"one of {', '.join(sorted(QUERIES))}"),
    ("above", lambda value: value is None or _is_number(value), "a number"),
    ("below", lambda value: value is None or _is_number(value), "a number"),
    ("clear", lambda value: value is None or _is_number(value), "a number"),
    ("window_seconds", lambda value: _is_time(value) and value > 0, _TIME),
    ("for_seconds", _is_time, _TIME),
    ("min_samples", lambda value: _is_number(value) and value >= 0, "a number of at least 0"),
    ("severity", lambda value: value in get_args(Severity), "'warning' or 'critical'"),
    ("keep_firing_seconds", _is_time, _TIME),
    ("repeat_seconds", _is_time, _TIME),
    ("no_data", lambda value: value in get_args(NoData), "'ok', 'keep' or 'alert'"),
    (
        "labels",
        lambda value: isinstance(value, Mapping) and _are_texts((*value.keys(), *value.values())),
        "a mapping of names to values such as {'route': '*'}",
    ),
    ("channels", lambda value: isinstance(value, tuple) and _are_texts(value), "a tuple of names such as ('email',)"),
    ("summary", lambda value: isinstance(value, str), "text"),
    ("runbook", lambda value: isinstance(value, str), "a URL or ''"),
)
