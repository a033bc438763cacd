"""Scrubbing: secrets and personal data are taken out by the name of their field and by their look.

What stays is a mark with the name of the rule, such as ``[scrubbed: email]``, and never a part of what it replaced.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any, Final
from uuid import UUID

from .assigned import NAME_LENGTH, without_assigned
from .plain import LENGTH, clip, safe_repr
from .rule_search import FieldSearch, Finder, NameHints, ValueSearch
from .scrub_rules import FIELD_RULES, VALUE_RULES, FieldRule, ValueRule, passes_luhn

__all__ = [
    "DEFAULT",
    "DEPTH",
    "FIELD_RULES",
    "SIZE",
    "TOO_DEEP",
    "TOO_MUCH",
    "VALUE_RULES",
    "WIDTH",
    "FieldRule",
    "Scrubber",
    "ValueRule",
    "passes_luhn",
    "scrub",
    "scrub_text",
]

DEPTH: Final = 8
WIDTH: Final = 100
SIZE: Final = 2_000
"""Values of one call to ``scrub``; what comes after them is left out."""

TOO_DEEP: Final = "[scrubbed: too deep]"
TOO_MUCH: Final = "[scrubbed: too much]"

_NAMES_REMEMBERED: Final = 4_096
_VALUES_REMEMBERED: Final = 4_096
_VALUE_LENGTH: Final = 32
"""Characters of the longest value that is remembered to have nothing to take out."""
_SHORT: Final = 14
"""Characters below which a text has no room for most kinds of secrets."""
_MORE_PASSES: Final = 4
"""What one pass took out can lay open something that stood right beside it."""
_NO_RULE: Final = ("", False)
_MARK: Final = re.compile(r"\[scrubbed: [\w -]{1,64}\]")
_FOLDERS: Final = frozenset({"PWD", "OLDPWD"})
_WORDS: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\dA-Z_]+|\d+")
_LARGEST_PLAIN_INT: Final = 10**12
"""Longer whole numbers are looked at like text: they may be card numbers."""
_UNTOUCHED: Final = frozenset({type(None), bool, float, datetime, date, time, UUID, Decimal})
"""Types of values of log lines in which no rule finds anything."""


class Scrubber:
    """Takes secrets and personal data out of values and texts, by the rules it was made with. Thread-safe."""

    def __init__(
        self, field_rules: Sequence[FieldRule] = FIELD_RULES, value_rules: Sequence[ValueRule] = VALUE_RULES
    ) -> None:
        self.field_rules = tuple(field_rules)
        self.value_rules = tuple(value_rules)
        self._fields = [FieldSearch.of(rule) for rule in field_rules]
        self._may_name = NameHints(field_rules).may_be_in
        values = [ValueSearch.of(place, rule) for place, rule in enumerate(value_rules)]
        self._for_short = Finder([value for value in values if value.shortest < _SHORT])
        self._for_long = Finder(values)
        self._clean: set[str] = set()
        self._names: dict[str, tuple[str, bool]] = {}

    def extended(self, *rules: FieldRule | ValueRule) -> Scrubber:
        """Return a scrubber with more rules."""
        return Scrubber(
            (*self.field_rules, *(rule for rule in rules if isinstance(rule, FieldRule))),
            (*self.value_rules, *(rule for rule in rules if isinstance(rule, ValueRule))),
        )

    def without(self, *names: str) -> Scrubber:
        """Return a scrubber without the rules of these names. Raise ValueError for a name that no rule has."""
        known = {rule.name for rule in self.field_rules} | {rule.name for rule in self.value_rules}
        for name in names:
            if name not in known:
                raise ValueError(f"{name!r} is not a rule; use one of {', '.join(sorted(known))}.")
        return Scrubber(
            [rule for rule in self.field_rules if rule.name not in names],
            [rule for rule in self.value_rules if rule.name not in names],
        )

    def scrub(self, value: Any) -> Any:
        """Return a scrubbed copy of any value, as dict, list, str, int, float, bool and None.

        Never raises. At most 8 levels deep, 100 items wide and 2,000 values in all; texts of 4,096 characters.
        """
        return _Copy(self).of(value, DEPTH)

    def scrub_fields(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the fields of a log line without secrets: ``fields`` itself when there is nothing to take out.

        Never raises. Numbers, dates, UUIDs and texts stay what they are; other values are copied within the bounds of
        ``scrub``.
        """
        changed: dict[str, Any] = {}
        names, clean = self._names, self._clean
        for name, value in fields.items():
            kind = value.__class__
            if names.get(name) is not _NO_RULE:
                scrubbed = self._scrub_field(name, value)
            elif kind is str:
                if value in clean:
                    continue
                scrubbed = self._scrub_value(value)
            elif kind in _UNTOUCHED or (kind is int and -_LARGEST_PLAIN_INT <= value <= _LARGEST_PLAIN_INT):
                continue
            else:
                scrubbed = self._scrub_field(name, value)
            if scrubbed is not value:
                changed[name] = scrubbed
        return {**fields, **changed} if changed else fields

    def _scrub_value(self, value: str) -> str:
        """Scrub a text, and remember a short one that has nothing to take out: methods, states and names come often."""
        scrubbed = self.scrub_text(value)
        if scrubbed is value and len(value) <= _VALUE_LENGTH:
            if len(self._clean) >= _VALUES_REMEMBERED:
                self._clean.clear()
            self._clean.add(value)
        return scrubbed

    def _scrub_field(self, name: Any, value: Any) -> Any:
        rule = self.rule_of(name if isinstance(name, str) else safe_repr(name, 200), value)
        if rule:
            return f"[scrubbed: {rule}]"
        if isinstance(value, str):
            return self.scrub_text(value)
        if type(value) in _UNTOUCHED or (type(value) is int and abs(value) <= _LARGEST_PLAIN_INT):
            return value
        return self.scrub(value)

    def scrub_text(self, text: str) -> str:
        """Return ``text`` without what looks like a secret, and without what is assigned to a name that is one.

        ``text`` itself when there is nothing to take out.
        """
        finder = self._for_short if len(text) < _SHORT else self._for_long
        if finder.any_sign(text) is None:
            for word in finder.words:
                if word in text:
                    break
            else:
                return text
        scrubbed = self._scrubbed_once(text, finder)
        if scrubbed == text:
            return text
        for _ in range(_MORE_PASSES):
            before, scrubbed = scrubbed, self._scrubbed_once(scrubbed, self._for_long)
            if scrubbed == before:
                break
        return scrubbed

    def _scrubbed_once(self, text: str, finder: Finder) -> str:
        for value in finder.find(text):
            text = value.scrubbed(text)
        return without_assigned(text, self.rule_of) if self._may_name(text) else text

    def rule_of(self, name: str, value: object = "") -> str:
        """Return the name of the rule that scrubs the field ``name``, "" when none does.

        Nothing, yes and no, and the number of a measure such as ``max_tokens``, are no secrets.
        """
        if value is None or isinstance(value, bool) or (isinstance(value, str) and _MARK.fullmatch(value)):
            return ""
        rule, unless_number = self._names.get(name) or self._find_rule(name)
        if rule and unless_number and isinstance(value, (int, float)):
            return ""
        if rule and name in _FOLDERS and isinstance(value, str) and value.startswith("/"):
            return ""
        return rule

    def _find_rule(self, name: str) -> tuple[str, bool]:
        segments = _segments(_MARK.sub("", name))
        found = next((field.verdict(segments) for field in self._fields if field.matches(segments)), _NO_RULE)
        if len(self._names) >= _NAMES_REMEMBERED:
            self._names.clear()
        if len(name) <= NAME_LENGTH:
            self._names[name] = found
        return found


class _Copy:
    """One walk over a value, which ends when it has copied enough."""

    def __init__(self, scrubber: Scrubber) -> None:
        self._scrubber = scrubber
        self._left = SIZE

    def of(self, value: Any, depth: int) -> Any:
        self._left -= 1
        if self._left < 0:
            return TOO_MUCH
        try:
            return self._of(value, depth)
        except Exception as error:
            return f"<{type(value).__name__}: {type(error).__name__} while reading it>"

    def _of(self, value: Any, depth: int) -> Any:
        if value is None or isinstance(value, (bool, float)):
            return value
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, int):
            return int(value) if abs(value) <= _LARGEST_PLAIN_INT else self._large(value)
        if isinstance(value, (bytes, bytearray, memoryview)):
            return self._text(bytes(value[: LENGTH + 1]).decode("utf-8", "replace"))
        if isinstance(value, Enum):
            return self.of(value.value, depth)
        if is_dataclass(value) and not isinstance(value, type):
            value = {field.name: getattr(value, field.name) for field in fields(value) if field.repr}
        elif isinstance(value, tuple) and hasattr(value, "_fields"):
            value = dict(zip(value._fields, value))
        if not isinstance(value, (Mapping, list, tuple, set, frozenset)):
            return self._text(safe_repr(value))
        if depth <= 0:
            return TOO_DEEP
        return self._mapping(value, depth) if isinstance(value, Mapping) else self._sequence(list(value), depth)

    def _text(self, text: str) -> str:
        return self._scrubber.scrub_text(clip(text))

    def _large(self, value: int) -> int | str:
        text = clip(str(value))
        scrubbed = self._scrubber.scrub_text(text)
        return int(value) if scrubbed == text and abs(value) < 2**63 else scrubbed

    def _mapping(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        copied: dict[str, Any] = {}
        for key in list(value)[:WIDTH]:
            name = key if isinstance(key, str) else safe_repr(key, 200)
            shown = self._text(clip(name, 200))
            held = _titled(value) if name in ("value", "Value") else shown
            copied[shown] = self._under(name, held, value[key], depth - 1)
        if len(value) > WIDTH:
            copied["..."] = f"{len(value) - WIDTH} more"
        return copied

    def _sequence(self, items: list[Any], depth: int) -> list[Any]:
        if len(items) == 2 and isinstance(items[0], (str, bytes)):  # a header, a form field
            name = items[0] if isinstance(items[0], str) else items[0].decode("latin-1")
            shown = self._text(clip(name))
            return [shown, self._under(name, shown, items[1], depth - 1)]
        copied = []
        for before, item in zip(["", *items], items[:WIDTH]):
            copied.append(self._under(_option(before), "", item, depth - 1))
        return [*copied, f"... {len(items) - WIDTH} more"] if len(items) > WIDTH else copied

    def _under(self, name: str, also: str, value: Any, depth: int) -> Any:
        rule = self._scrubber.rule_of(name, value) or self._scrubber.rule_of(also, value)
        return f"[scrubbed: {rule}]" if rule else self.of(value, depth)


def _option(item: Any) -> str:
    """Return what a list gives a value by its next item, such as ``--token``; "" for one that has its value inside."""
    is_option = isinstance(item, str) and item.startswith("--") and "=" not in item and len(item.split()) == 1
    return item if is_option else ""


def _titled(value: Mapping[Any, Any]) -> str:
    """Return the name in ``{"name": "DB_PASSWORD", "value": "x"}``, "" when there is none."""
    return next((value[key] for key in ("name", "key", "Name", "Key") if isinstance(value.get(key), str)), "")


def _segments(name: str) -> str:
    """Return ``dbPassword`` or ``DB-Password`` as ``_db_password_``."""
    return f"_{'_'.join(_WORDS.findall(name)).lower()}_"


DEFAULT: Final = Scrubber()
scrub: Final = DEFAULT.scrub
scrub_text: Final = DEFAULT.scrub_text
