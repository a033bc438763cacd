"""Rules made ready to be searched, and the quick looks that spare most texts the search."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from .scrub_rules import FieldRule, ValueRule

NAME_SIGNS: Final = ("=", ":", "--", "</", "',", '",', "%3D")
"""One of them is in every text that assigns something to a name."""
_SIGNS: Final = "~@=|#$%^&*+<>?\\/_:;'\"()[]{},.!-" + "QXZJKVBYWUHGFDPCLNMORSTAIE" + "0123456789"
"""Characters from rare to frequent in log messages; the ones that are not among them are the most frequent."""


@dataclass(frozen=True, slots=True)
class FieldSearch:
    """A field rule, ready to be searched."""

    name: str
    pattern: re.Pattern[str]
    unless: re.Pattern[str] | None
    unless_number: re.Pattern[str] | None

    @classmethod
    def of(cls, rule: FieldRule) -> FieldSearch:
        """Compile a rule."""
        return cls(
            rule.name,
            re.compile(rule.pattern),
            re.compile(rule.unless) if rule.unless else None,
            re.compile(rule.unless_number) if rule.unless_number else None,
        )

    def matches(self, segments: str) -> bool:
        """Say whether the rule is for the name of these segments."""
        return self.pattern.search(segments) is not None and not (self.unless and self.unless.search(segments))

    def verdict(self, segments: str) -> tuple[str, bool]:
        """Return the name of the rule, and whether a number under this name is kept."""
        return self.name, bool(self.unless_number and self.unless_number.search(segments))


@dataclass(frozen=True, slots=True)
class ValueSearch:
    """A value rule, ready to be applied; ``place`` is its place among the rules."""

    place: int
    shortest: int
    hints: tuple[str, ...]
    pattern: re.Pattern[str]
    group: int | str
    mark: str
    confirms: Callable[[str], bool]

    @classmethod
    def of(cls, place: int, rule: ValueRule) -> ValueSearch:
        """Compile the rule that is the ``place``-th."""
        pattern = re.compile(rule.pattern, re.DOTALL)
        group = "secret" if "secret" in pattern.groupindex else 0
        return cls(place, rule.shortest, rule.hints, pattern, group, f"[scrubbed: {rule.name}]", rule.confirms)

    def scrubbed(self, text: str) -> str:
        """Return ``text`` with a mark for whatever the rule finds."""
        return self.pattern.sub(self._marked, text)

    def _marked(self, match: re.Match[str]) -> str:
        if not self.confirms(match[self.group]):
            return match[0]
        start, end = (place - match.start() for place in match.span(self.group))
        return f"{match[0][:start]}{self.mark}{match[0][end:]}"


class Finder:
    """Finds the value rules that a text has to be searched with; most texts need none."""

    def __init__(self, values: Sequence[ValueSearch]) -> None:
        hinted = [(_sign(hint), hint, value) for value in values for hint in value.hints]
        signs = sorted({sign for sign, _, _ in hinted} - {""})
        self._by_sign = [(sign, [(hint, value) for of, hint, value in hinted if of == sign]) for sign in signs]
        self._by_word = [(hint, value) for sign, hint, value in hinted if not sign]
        self.words = tuple({hint: None for hint, _ in self._by_word})
        """Hints that a text may have without one of the signs."""
        self.any_sign = re.compile(f"[{re.escape(''.join({*signs, *map(_sign, NAME_SIGNS)}))}]").search

    def find(self, text: str) -> list[ValueSearch]:
        """Return the rules that have a hint in ``text``, in their order."""
        found: dict[int, ValueSearch] = {}
        for sign, hinted in self._by_sign:
            if sign in text:
                for hint, value in hinted:
                    if hint in text:
                        found[value.place] = value
        for word, value in self._by_word:
            if word in text:
                found[value.place] = value
        return [found[place] for place in sorted(found)] if found else []


class NameHints:
    """Says which texts may assign something to a name that a field rule matches."""

    def __init__(self, rules: Sequence[FieldRule]) -> None:
        known = all(rule.hints for rule in rules)
        self._hints = tuple({hint: None for rule in rules for hint in rule.hints}) if known else ("",)

    def may_be_in(self, text: str) -> bool:
        """Say whether ``text`` has one of the signs and one of the hints in it."""
        for sign in NAME_SIGNS:
            if sign in text:
                break
        else:
            return False
        lowered = text.lower()
        for hint in self._hints:  # noqa: SIM110  (any() with a generator takes three times as long)
            if hint in lowered:
                return True
        return False


def _sign(hint: str) -> str:
    """Return the character of ``hint`` that is rarest in log messages, "" when all are frequent."""
    return next((sign for sign in _SIGNS if sign in hint), "")
