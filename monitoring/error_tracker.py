"""Errors: which groups they form, how often each happens, and what the first of each looked like.

Every error is counted, in its group and in the metrics. Only the first of a group, and ever fewer later ones, are kept
whole, so that a storm costs little and hides nothing. Memory is bounded: 1,000 groups are remembered, and more than 50
new ones in a minute go into one group, ``overflow``. What leaves this module is scrubbed.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from .error_categories import category_of, level_of
from .error_groups import Fingerprint, Grouper, InApp, normalise
from .logs.rendering import request_of
from .observation import Kind, Observation, RequestRecord
from .outbox import Outbox
from .recorder import Fold, OnFailure, Recorder, only_of_noted_requests
from .store.facts import ErrorFact
from .tasks import FAILED as TASK_FAILED
from .utils.exceptions import Describer, message_of, type_name
from .utils.plain import clip

if TYPE_CHECKING:
    from .store.database import Database
    from .store.errors import ErrorEvent, Frequency, GroupDetail, GroupRow, Shown
    from .utils.redaction import Scrubber

Level = Literal["warning", "error", "critical"]
LEVELS: Final[tuple[Level, ...]] = get_args(Level)

OVERFLOW: Final = "v1:overflow"
"""The group of new errors in a storm of them."""

CAPTURED: Final = "__monitoring_error__"
"""Mark of an exception that was captured: in which request, and its group."""

_FAILED: Final = frozenset({"server_error", "error_after_start", "background_error"}) | TASK_FAILED
_GROUPS_REMEMBERED: Final = 1_000
_SAMPLING_SECONDS: Final = 3_600.0
"""After this time the first errors of a group are kept whole anew."""
_EMIT_SECONDS: Final = 1.0
_TITLE_LENGTH: Final = 200
_WHY_LENGTH: Final = 200
_WHY_PARTS: Final = 60
_CATEGORY_LENGTH: Final = 40


def _default_scrubber() -> Scrubber:
    from .utils.redaction import DEFAULT  # here, because its rules take long to compile

    return DEFAULT


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorSettings:
    """How errors are grouped, and how many of them are kept whole by one process."""

    project_root: str | None = None
    """Folder of the app's own code; by default all code is that is neither installed nor Python's."""
    in_app_include: tuple[str, ...] = ()
    """Modules and packages that are the app's, wherever they are."""
    in_app_exclude: tuple[str, ...] = ()
    """Modules and packages that are not, such as the app's own decorators."""
    categorize: Callable[[BaseException], str | None] | None = None
    """The app's own say over an error's category; None leaves it to the pack."""
    first_kept: int = 10
    """Errors of a group kept whole in an hour, before only the 20th, 40th, 80th and so on are."""
    kept_per_minute: float = 10.0
    """Errors of one group kept whole in a minute, on the average of a longer time."""
    kept_per_second: float = 5.0
    """Errors kept whole in a second, on the average of ten."""
    new_groups_per_minute: int = 50
    """New groups in a minute; more go into the group ``overflow``."""
    scrubber: Scrubber = field(default_factory=_default_scrubber)
    """Takes secrets and personal data out of messages, context, notes and source lines."""


class ErrorReport(Observation):
    """An error that the app reports by hand: an exception, or a text."""

    kind = "error"

    def __init__(
        self,
        error: BaseException | None,
        text: str,
        level: Level | None,
        fingerprint: Sequence[str],
        context: Mapping[str, Any],
    ) -> None:
        name = type_name(error) if error is not None else normalise(text)
        super().__init__("error", name, level or "error", 0.0, request_of(error), error, context)
        self.text = text
        self.level = level
        self.fingerprint = fingerprint
        self.group = ""
        """Its group's ID, "" until a tracker has seen it."""


def capture_exception(
    recorder: Recorder,
    error: BaseException | None = None,
    *,
    fingerprint: str | Sequence[str] | None = None,
    level: Level | None = None,
    context: Mapping[str, Any],
) -> str:
    """Report an exception, by default the one being handled, and return its group's ID; "" when there is none.

    Raise ValueError for what is no exception, no level or no fingerprint.
    """
    error = sys.exc_info()[1] if error is None else error
    if error is not None and not isinstance(error, BaseException):
        raise ValueError(
            f"capture_exception takes an exception, got {type(error).__name__}; use capture_message for a text."
        )
    parts = _fingerprint_parts(fingerprint)
    if level is not None:
        _check_level(level)
    if error is None:
        return ""
    report = ErrorReport(error, "", level, parts, context)
    recorder.record(report)
    return report.group


def capture_message(
    recorder: Recorder,
    text: str,
    level: Level = "error",
    *,
    fingerprint: str | Sequence[str] | None = None,
    context: Mapping[str, Any],
) -> str:
    """Report a text as an error and return its group's ID. Raise ValueError for no level or no fingerprint."""
    _check_level(level)
    report = ErrorReport(None, str(text), level, _fingerprint_parts(fingerprint), context)
    recorder.record(report)
    return report.group


class ErrorTracker:
    """The sink of errors. Thread-safe. Its ``flush`` is called each second, ``start_anew`` in a forked child.

    It comes before the sinks that read ``error_group`` of a request: that is set here.
    """

    def __init__(
        self,
        outbox: Outbox,
        count: Callable[[str], None],
        on_failure: OnFailure,
        settings: ErrorSettings | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``count`` adds one error of a category to the metrics; ``on_failure`` hears of a ``categorize`` that
        raised.
        """
        self._settings = settings = settings or ErrorSettings()
        self._outbox = outbox
        self._count = count
        self._on_failure = on_failure
        self._clock = clock
        self._scrub_text = settings.scrubber.scrub_text
        in_app = InApp(settings.project_root, settings.in_app_include, settings.in_app_exclude)
        self._grouper = Grouper(in_app)
        self.is_in_app = self._grouper.is_in_app
        """Says whether a frame is of the app's own code."""
        self._describer = Describer(self.is_in_app, self._scrub_text)
        self.start_anew()

    def start_anew(self) -> None:
        """Forget what was seen: a forked child's errors are its own."""
        now = self._clock()
        self._lock = threading.Lock()
        self._groups: OrderedDict[str, _Group] = OrderedDict()
        self._waiting: dict[str, _Group] = {}
        self._new_groups = TokenBucket(
            self._settings.new_groups_per_minute, self._settings.new_groups_per_minute / 60, now
        )
        self._kept = TokenBucket(10 * self._settings.kept_per_second, self._settings.kept_per_second, now)

    def folds(self) -> Mapping[Kind, Fold]:
        """Return which kinds of observation may hold an error."""
        return {
            "request": self._fold_request,
            "background": self._fold_other,
            "websocket": self._fold_other,
            "job": self._fold_request,
            "error": self._fold_report,
        }

    def flush(self) -> None:
        """Put what was only counted into the outbox."""
        now = self._clock()
        with self._lock:
            waiting, self._waiting = self._waiting, {}
            facts = [group.counted(now) for group in waiting.values() if group.uncounted]
        for fact in facts:
            self._outbox.put(fact, important=True)

    @only_of_noted_requests
    def _fold_request(self, record: RequestRecord) -> None:
        if record.exception is not None and record.outcome in _FAILED:
            record.error_group = self._capture_once(record.exception, record)

    def _fold_other(self, observation: Observation) -> None:
        if observation.exception is not None and observation.outcome in _FAILED:
            self._capture_once(observation.exception, observation.request)

    def _fold_report(self, report: ErrorReport) -> None:
        if report.exception is not None:
            report.group = self._capture_once(report.exception, report.request, report)
        else:
            fingerprint = self._grouper.of_message(report.text, report.fingerprint)
            error = _Error(None, report.text, "message", report.level or "error", report.request, report.attributes)
            report.group = self._occurred(fingerprint, error)
        if report.request is not None and not report.request.finished:
            report.request.error_group = report.group
            report.request.noted = True

    def _capture_once(
        self, exception: BaseException, request: RequestRecord | None, report: ErrorReport | None = None
    ) -> str:
        """Return the exception's group; it is counted unless that was done already in the same request."""
        where = request.request_id if request is not None else ""
        marks = vars(exception)
        mark = marks.get(CAPTURED)
        if mark is not None and mark[0] == where:
            return str(mark[1])
        level, explicit, context = (report.level, report.fingerprint, report.attributes) if report else (None, (), None)
        error = _Error(exception, "", self._category(exception), level or level_of(exception), request, context)
        group = self._occurred(self._grouper.of_exception(exception, explicit), error)
        marks[CAPTURED] = (where, group)
        return group

    def _occurred(self, fingerprint: Fingerprint, error: _Error) -> str:
        now = self._clock()
        with self._lock:
            group = self._group(fingerprint, error, now)
            group.uncounted += 1
            is_kept = group.is_due(now) and self._kept.take(now) and group.keep(now)
            is_told = is_kept or now - group.told_at >= _EMIT_SECONDS
            fact = group.counted(now) if is_told else None
            if fact is None:
                self._waiting[group.id] = group
        self._count(error.category)
        if fact is not None:
            self._outbox.put(self._whole(fact, error) if is_kept else fact, important=True)
        return group.id

    def _group(self, fingerprint: Fingerprint, error: _Error, now: float) -> _Group:
        group = self._groups.get(fingerprint.keys[0])
        if group is None:
            if self._new_groups.take(now):
                group = self._new_group(self._fact(fingerprint, error), now)
            else:
                group = self._groups.get(OVERFLOW) or self._new_group(self._overflow_fact(), now)
        self._groups.move_to_end(group.id)
        return group

    def _new_group(self, fact: ErrorFact, now: float) -> _Group:
        if len(self._groups) >= _GROUPS_REMEMBERED:
            self._groups.popitem(last=False)
        group = self._groups[fact.keys[0]] = _Group(fact, self._settings, now)
        return group

    def _fact(self, fingerprint: Fingerprint, error: _Error) -> ErrorFact:
        """Return what all errors of a new group have in common."""
        subject = fingerprint.subject
        kind = type_name(subject) if subject is not None else "message"
        text = self._scrub_text(message_of(subject) if subject is not None else clip(error.text))
        first_line = next((line.strip() for line in text.splitlines() if line.strip()), "")
        title = f"{kind}: {first_line}" if subject is not None and first_line else first_line or kind
        why = [self._scrub_text(clip(part, _WHY_LENGTH)) for part in fingerprint.why[:_WHY_PARTS]]
        return ErrorFact(
            at=0.0,
            keys=fingerprint.keys,
            category=error.category,
            level=error.level,
            type=kind,
            title=clip(title, _TITLE_LENGTH),
            culprit=fingerprint.culprit,
            why=tuple(why),
        )

    def _overflow_fact(self) -> ErrorFact:
        limit = self._settings.new_groups_per_minute
        return ErrorFact(
            at=0.0,
            keys=(OVERFLOW,),
            category="code",
            level="error",
            type="overflow",
            title=f"More than {limit} new groups of errors in a minute",
            culprit="",
            why=("overflow",),
        )

    def _whole(self, fact: ErrorFact, error: _Error) -> ErrorFact:
        request, exception = error.request, error.exception
        scrub = self._settings.scrubber.scrub
        return replace(
            fact,
            level=error.level,
            message=self._scrub_text(message_of(exception) if exception is not None else clip(error.text)),
            stack=tuple(self._describer.describe(exception)) if exception is not None else (),
            request_id=request.request_id if request is not None else "",
            route=request.route if request is not None else "",
            user=request.user_id if request is not None else "",
            context=scrub(dict(error.context)) if error.context else {},
        )

    def _category(self, exception: BaseException) -> str:
        categorize = self._settings.categorize
        if categorize is not None:
            try:
                chosen = categorize(exception)
            except Exception as error:
                self._on_failure("categorize", error)
            else:
                if chosen:
                    return str(chosen)[:_CATEGORY_LENGTH]
        return category_of(exception)


class TokenBucket:
    """Allows ``capacity`` at once and ``per_second`` in the long run. Not thread-safe."""

    __slots__ = ("_capacity", "_per_second", "_tokens", "_updated")

    def __init__(self, capacity: float, per_second: float, now: float) -> None:
        self._capacity = self._tokens = float(capacity)
        self._per_second = per_second
        self._updated = now

    def take(self, now: float) -> bool:
        """Take one, if there is one."""
        gained = max(0.0, now - self._updated) * self._per_second
        self._tokens = min(self._capacity, self._tokens + gained)
        self._updated = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


@dataclass(frozen=True, slots=True)
class _Error:
    """One occurrence, as it is handed on."""

    exception: BaseException | None
    text: str
    category: str
    level: Level
    request: RequestRecord | None
    context: Mapping[str, Any] | None


class _Group:
    """What this process knows of a group."""

    __slots__ = ("_bucket", "_fact", "_first", "_kept", "_next", "_seen", "_since", "id", "told_at", "uncounted")

    def __init__(self, fact: ErrorFact, settings: ErrorSettings, now: float) -> None:
        self.id = fact.keys[0]
        self.uncounted = 0
        """Occurrences that the store was not told of."""
        self.told_at = now
        self._fact = fact
        self._first = settings.first_kept
        self._bucket = TokenBucket(settings.first_kept, settings.kept_per_minute / 60, now)
        self._begin_sampling(now)

    def _begin_sampling(self, now: float) -> None:
        self._since = now
        self._seen = self._kept = 0
        self._next = 2 * self._first

    def is_due(self, now: float) -> bool:
        """Count one more and say whether it should be kept whole."""
        if not 0.0 <= now - self._since < _SAMPLING_SECONDS:
            self._begin_sampling(now)
        self._seen += 1
        return self._kept < self._first or self._seen >= self._next

    def keep(self, now: float) -> bool:
        """Say whether one more may be kept whole now, and remember that it is."""
        if not self._bucket.take(now):
            return False
        self._kept += 1
        if self._kept > self._first:
            self._next = 2 * self._seen
        return True

    def counted(self, now: float) -> ErrorFact:
        """Return the fact that stands for what is uncounted, and take it as told."""
        count, self.uncounted = self.uncounted, 0
        self.told_at = now
        return replace(self._fact, at=now, count=count)


class Errors:
    """The error groups of the store: all processes' together. Each call is one short read or write.

    Raise StoreUnusable when the store cannot be used. Times are unix seconds.
    """

    def __init__(self, database_of: Callable[[], Database], clock: Callable[[], float] = time.time) -> None:
        self._database_of = database_of
        self._clock = clock

    def groups(
        self, status: Shown = "open", *, since: float | None = None, until: float | None = None
    ) -> list[GroupRow]:
        """Return the groups seen in a range, by default in the last day, the one seen last first; 100 at most."""
        from .store.errors import list_groups
        from .store.rollups import DAY

        until = self._clock() if until is None else until
        with self._database_of().reading() as connection:
            return list_groups(connection, status, until - DAY if since is None else since, until)

    def group(self, id: str) -> GroupDetail | None:
        """Return a group by its ID or an alias, with its newest events, or None."""
        from .store.errors import read_group

        with self._database_of().reading() as connection:
            return read_group(connection, id)

    def event(self, id: str, request_id: str) -> ErrorEvent | None:
        """Return what was kept of a request's error in a group, or None."""
        from .store.errors import event_of_request

        with self._database_of().reading() as connection:
            return event_of_request(connection, id, request_id)

    def frequency(self, id: str | None = None, *, since: float, until: float) -> Frequency:
        """Return how often a group, or by default any, was seen in each step of a range."""
        from .store.errors import frequency

        with self._database_of().reading() as connection:
            return frequency(connection, id, since, until)

    def resolve(self, id: str) -> GroupRow | None:
        """Take a group as resolved until it is seen again, and return it; None when it is not known."""
        return self._set_status(id, "resolved")

    def reopen(self, id: str) -> GroupRow | None:
        """Open a group again and return it; None when it is not known."""
        return self._set_status(id, "open")

    def _set_status(self, id: str, status: Literal["open", "resolved"]) -> GroupRow | None:
        from .store.errors import set_status

        with self._database_of().writing() as connection:
            return set_status(connection, id, status, self._clock())


def _check_level(level: object) -> None:
    if level not in LEVELS:
        raise ValueError(f"level must be one of {', '.join(LEVELS)}, got {level!r}.")


def _fingerprint_parts(fingerprint: str | Sequence[str] | None) -> tuple[str, ...]:
    if fingerprint is None:
        return ()
    parts = (fingerprint,) if isinstance(fingerprint, str) else fingerprint
    if not isinstance(parts, (list, tuple)) or not parts or not all(isinstance(part, str) for part in parts):
        raise ValueError(f"fingerprint must be a text or a list of texts, got {fingerprint!r}.")
    return tuple(parts)
