"""What an endpoint is asked: its path parameters, its query string and its JSON body, checked."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final

_RELATIVE: Final = re.compile(r"-([0-9]{1,9})(s|m|h|d)")
_STATUS: Final = re.compile(r"[1-5]([0-9][0-9]|xx)")
_UNIT_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST_SECONDS: Final = 400 * 86400
_DEFAULT_SECONDS: Final = 3600.0
_LATEST: Final = 1e11
"""Year 5138: later moments are milliseconds given for seconds."""
_SHOWN: Final = 100
"""Characters of a bad value that its message repeats."""


class BadQuery(ValueError):
    """A question that cannot be answered: the message says what was given and what is accepted."""


class Query:
    """One question to the API, asked at ``now`` (unix seconds)."""

    def __init__(
        self,
        now: float,
        given: Mapping[str, str],
        path: Mapping[str, str] | None = None,
        body: Any = None,
        actor: str = "",
    ) -> None:
        self.now = now
        self.path = path or {}
        self.actor = actor
        """Who asks, for the audit."""
        self._given = given
        self._body = body if isinstance(body, dict) else {}
        self.until = self._moment("to", now)
        self.since = self._moment("from", self.until - _DEFAULT_SECONDS)
        if self.until - self.since < 1:
            asked = f"{_shown(self.text('from', '-1h'))} and {_shown(self.text('to', 'now'))}"
            raise BadQuery(f"'from' must be at least a second before 'to', got {asked}.")
        if self.until - self.since > _LONGEST_SECONDS:
            raise BadQuery("'from' and 'to' may be 400 days apart at most; give a shorter time.")

    def text(self, name: str, default: str = "") -> str:
        """Return a parameter of the query string."""
        return self._given.get(name, default)

    def choice(self, name: str, choices: tuple[str, ...]) -> str:
        """Return a parameter that is one of a few words, the first by default. Raise BadQuery."""
        value = self._given.get(name) or choices[0]
        if value not in choices:
            raise BadQuery(f"{name!r} must be one of {', '.join(filter(None, choices))}, got {_shown(value)}.")
        return value

    def status(self) -> str:
        """Return the parameter ``status``: a status such as 404, or a class such as 5xx. Raise BadQuery."""
        value = self.text("status")
        if value and not _STATUS.fullmatch(value):
            raise BadQuery(f"'status' must be a status such as 404, or a class such as 5xx, got {_shown(value)}.")
        return value

    def number(self, name: str, default: float) -> float:
        """Return a parameter that is a number of 0 or more. Raise BadQuery."""
        return _number(name, self._given.get(name), default)

    def field(self, name: str, default: str = "") -> str:
        """Return a text of the JSON body, at most 1,000 characters."""
        return str(self._body.get(name) or default)[:1000]

    def body_number(self, name: str, default: float) -> float:
        """Return a number of the JSON body. Raise BadQuery."""
        return _number(name, self._body.get(name), default)

    def starting_with(self, prefix: str) -> dict[str, str]:
        """Return the parameters whose names start with a prefix, without it."""
        return {name.removeprefix(prefix): value for name, value in self._given.items() if name.startswith(prefix)}

    def _moment(self, name: str, default: float) -> float:
        text = self._given.get(name)
        if not text:
            return default
        if text == "now":
            return self.now
        if relative := _RELATIVE.fullmatch(text):
            moment = self.now - int(relative[1]) * _UNIT_SECONDS[relative[2]]
        else:
            moment = _float(text)
        if not 0 <= moment < _LATEST:
            raise BadQuery(f"{name!r} must be unix seconds, 'now' or a time ago such as '-1h', got {_shown(text)}.")
        return moment


def _number(name: str, given: Any, default: float) -> float:
    if given is None or given == "":
        return default
    value = _float(given)
    if not 0 <= value < math.inf:
        raise BadQuery(f"{name!r} must be a number of 0 or more, got {_shown(given)}.")
    return value


def _float(given: Any) -> float:
    """Return a number, NaN for what is none."""
    try:
        return float(given)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _shown(given: Any) -> str:
    text = repr(given)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
