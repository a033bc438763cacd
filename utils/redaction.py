"""Scrubbing: secrets and personal data are taken out by the name of their field and by their look.

What stays is a mark with the name of the rule, such as ``[scrubbed: email]``, and never a part of what it replaced.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from .plain import LENGTH, clip, safe_repr

DEPTH: Final = 8
WIDTH: Final = 100
SIZE: Final = 2_000
"""Values of one call to ``scrub``; what comes after them is left out."""

TOO_DEEP: Final = "[scrubbed: too deep]"
TOO_MUCH: Final = "[scrubbed: too much]"

_NAMES_REMEMBERED: Final = 4_096
_NAME_LENGTH: Final = 128
_LARGEST_PLAIN_INT: Final = 10**12
"""Longer whole numbers are looked at like text: they may be card numbers."""
_UNTOUCHED: Final = frozenset({type(None), bool, float, datetime, date, time, UUID, Decimal})
"""Types of values of log lines in which no rule finds anything."""


@dataclass(frozen=True, slots=True)
class FieldRule:
    """Scrubs what stands under a name, whatever it is.

    ``pattern`` is searched in the name's segments, lower case and set off by underscores: ``dbPassword`` and
    ``DB-PASSWORD`` are both ``_db_password_``.
    """

    name: str
    pattern: str


@dataclass(frozen=True, slots=True)
class ValueRule:
    """Scrubs the parts of a text that look like something.

    A text that has none of the ``hints`` in it is never searched for ``pattern``. ``confirms`` has the last word on a
    match.
    """

    name: str
    pattern: str
    hints: tuple[str, ...]
    confirms: Callable[[str], bool] = bool


def passes_luhn(text: str) -> bool:
    """Say whether the digits of ``text`` have the check digit of a card number."""
    digits = [int(character) for character in reversed(text) if character.isdigit()]
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[1::2])
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0


FIELD_RULES: Final = (
    FieldRule("password", r"passwords?_|passwd_|_pwd_|_pass_|passphrase_|passcode_|_otp_"),
    FieldRule("secret", r"secrets?_"),
    FieldRule("token", r"tokens?_|_jwt_"),
    FieldRule("key", r"(api|access|secret|signing|encryption|master|account)_?keys?_"),
    FieldRule("private key", r"private_?key_"),
    FieldRule("authorization", r"authorization_|_auth_|credentials?_"),
    FieldRule("cookie", r"cookies?_"),
    FieldRule("session", r"_session_|session_?(id|key)_|_sid_"),
    FieldRule("csrf", r"csrf|xsrf"),
    FieldRule("ssn", r"_ssn_|social_?security"),
    FieldRule("card", r"(credit|debit)_?card|card_?(number|no)_|_cvv2?_|_cvc2?_"),
)

VALUE_RULES: Final = (
    ValueRule("private key", r"-----BEGIN [A-Z0-9 ]+-----.*?(?:-----END [A-Z0-9 ]+-----|\Z)", ("-----BEGIN ",)),
    ValueRule(
        "credentials",
        r"\b(?i:bearer|basic)\s+(?=\S*(?:\d|=|[a-z][A-Z])|\S{20})[\w.~+/-]{8,}=*",
        ("earer ", "asic ", "BEARER ", "BASIC "),
    ),
    ValueRule("cookie", r"(?i:\b(?:set-)?cookie:)[^\r\n]+", ("ookie:", "COOKIE:")),
    ValueRule("jwt", r"\beyJ[\w-]{8,}\.[\w-]{4,}(?:\.[\w-]*)?", ("eyJ",)),
    ValueRule(
        "url credentials",
        r"""(?<=://)(?:[^\s/?#"'<>]{0,500}|[^\s/:?#"'<>]{0,200}:(?!\d{1,5}[/?#])[^\s"'<>]{0,300})@""",
        ("://",),
    ),
    ValueRule("key", r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b", ("AKIA", "ASIA")),
    ValueRule("key", r"\b(?:gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,})", ("gh", "glpat-")),
    ValueRule("key", r"\bsk-[\w-]{16,}|\b[rs]k_(?:live|test)_\w{10,}", ("sk-", "k_live_", "k_test_")),
    ValueRule("key", r"\b(?:AIza[\w-]{30,}|xox[a-z]-[\w-]{10,}|hf_\w{20,})", ("AIza", "xox", "hf_")),
    ValueRule("email", r"[\w.%+'-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+", ("@",)),
    ValueRule(
        "card",
        r"(?<!\d)(?<!\d\.)(?:[2-6]\d{12,18}|[2-6]\d{3}([ -])\d{4}\1\d{4}\1\d{4}|3\d{3}([ -])\d{6}\2\d{5})(?!\d)",
        tuple("23456"),
        passes_luhn,
    ),
)
"""In this order: what one rule replaced, the next does not see."""

_WORDS: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\dA-Za-z_]+")
_MEASURES: Final = re.compile(
    r"_(tokens|counts?|limit|length|size|bytes|seconds|ms|total|usage|budget|rate|max|min)_\Z"
)
_NAME: Final = rf"(?P<name>[A-Za-z_][A-Za-z0-9_.-]{{0,{_NAME_LENGTH - 1}}}+)"
_ASSIGNMENT: Final = re.compile(rf"""(?<![A-Za-z0-9_]){_NAME}\\*["']?\s*(?:=>|==?|:)\s*""")
"""A name and the sign before its value, as in ``token=x``, ``"token": "x"`` and ``token: Bearer x``."""
_VALUE: Final = re.compile(
    r"""(?!\[scrubbed:[^\]]*\](?:[\s"'&,;)]|\Z))(?:(?i:bearer|basic|digest|token)\s+)?(?:"""
    r"""[bBrRuU]{0,2}(?:\\*"[^"\n]*"?|\\*'[^'\n]*'?)"""
    r"""|[\w.]*[(\[{][^)\]}\n]{0,500}[)\]}]?"""
    r"""|[^\s"'&,;(){}\[\]]+)[^\s"'&,;(){}\[\]]*"""
)
_PAIR: Final = re.compile(
    rf"""(?P<before>[(\[]\s*[bBrRuU]{{0,2}}\\*["']{_NAME}\\*["']\s*,\s*)"""
    r"""[bBrRuU]{0,2}(?:\\*"[^"\n]*"|\\*'[^'\n]*')(?=\s*[)\]])"""
)
"""A name and a value as a pair, as headers are shown: ``('Cookie', 'x')``."""
_PAIR_HINTS: Final = ("',", '",')
_ANY_SIGN: Final = re.compile(r"[=:@\d]")


class Scrubber:
    """Takes secrets and personal data out of values and texts, by the rules it was made with. Thread-safe."""

    def __init__(
        self, field_rules: Sequence[FieldRule] = FIELD_RULES, value_rules: Sequence[ValueRule] = VALUE_RULES
    ) -> None:
        self.field_rules = tuple(field_rules)
        self.value_rules = tuple(value_rules)
        self._fields = [(rule.name, re.compile(rule.pattern)) for rule in field_rules]
        self._values = [
            (rule.hints, re.compile(rule.pattern, re.DOTALL), f"[scrubbed: {rule.name}]", rule.confirms)
            for rule in value_rules
        ]
        hints = {*_PAIR_HINTS, *(hint for rule in value_rules for hint in rule.hints)}
        self._words = tuple(sorted(hint for hint in hints if not _ANY_SIGN.search(hint)))
        self._names: dict[str, str] = {}

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
        names = self._names
        for name, value in fields.items():
            kind = value.__class__
            if kind is str and names.get(name) == "":
                text = self.scrub_text(value)
                if text is not value:
                    changed[name] = text
            elif kind not in _UNTOUCHED or names.get(name) != "":
                scrubbed = self._scrub_field(name, value)
                if scrubbed is not value:
                    changed[name] = scrubbed
        return {**fields, **changed} if changed else fields

    def _scrub_field(self, name: str, value: Any) -> Any:
        rule = self.rule_of(name, value)
        if rule:
            return f"[scrubbed: {rule}]"
        if isinstance(value, str):
            return self.scrub_text(value)
        if type(value) in _UNTOUCHED or (type(value) is int and abs(value) <= _LARGEST_PLAIN_INT):
            return value
        return self.scrub(value)

    def scrub_text(self, text: str) -> str:
        """Return ``text`` without what looks like a secret, and without what is assigned to a name that is one."""
        if _ANY_SIGN.search(text) is None and not self._has_word(text):
            return text
        for hints, pattern, mark, confirms in self._values:
            for hint in hints:
                if hint in text:
                    text = _replaced(text, pattern, mark, confirms)
                    break
        if "=" in text or ":" in text:
            text = self._scrub_assigned(text)
        if "'," in text or '",' in text:
            text = _PAIR.sub(self._scrub_pair, text)
        return text

    def _has_word(self, text: str) -> bool:
        for word in self._words:  # noqa: SIM110  (any() with a generator takes three times as long)
            if word in text:
                return True
        return False

    def rule_of(self, name: str, value: object = "") -> str:
        """Return the name of the rule that scrubs the field ``name``, "" when none does.

        Nothing, yes and no, and the number of a measure such as ``max_tokens``, are no secrets.
        """
        if value is None or isinstance(value, bool):
            return ""
        rule = self._names.get(name)
        if rule is None:
            rule = self._find_rule(name)
        if rule and isinstance(value, (int, float)) and _MEASURES.search(_segments(name)):
            return ""
        return rule

    def _find_rule(self, name: str) -> str:
        segments = _segments(name)
        rule = next((rule for rule, pattern in self._fields if pattern.search(segments)), "")
        if len(self._names) >= _NAMES_REMEMBERED:
            self._names.clear()
        if len(name) <= _NAME_LENGTH:
            self._names[name] = rule
        return rule

    def _scrub_assigned(self, text: str) -> str:
        kept: list[str] = []
        done = 0
        for match in _ASSIGNMENT.finditer(text):
            if match.start() < done or not self.rule_of(match["name"]):
                continue
            value = _VALUE.match(text, match.end())
            if value is not None and (rule := self.rule_of(match["name"], _number(value[0]))):
                kept += [text[done : match.end()], f"[scrubbed: {rule}]"]
                done = value.end()
        return "".join([*kept, text[done:]])

    def _scrub_pair(self, match: re.Match[str]) -> str:
        rule = self.rule_of(match["name"])
        return f"{match['before']}[scrubbed: {rule}]" if rule else match[0]


def _replaced(text: str, pattern: re.Pattern[str], mark: str, confirms: Callable[[str], bool]) -> str:
    return pattern.sub(lambda match: mark if confirms(match[0]) else match[0], text)


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
            copied[self._text(clip(name, 200))] = self._under(name, value[key], depth - 1)
        if len(value) > WIDTH:
            copied["..."] = f"{len(value) - WIDTH} more"
        return copied

    def _sequence(self, items: list[Any], depth: int) -> list[Any]:
        if len(items) == 2 and isinstance(items[0], (str, bytes)):  # a header, a form field
            name = items[0] if isinstance(items[0], str) else items[0].decode("latin-1")
            return [self._text(clip(name)), self._under(name, items[1], depth - 1)]
        copied = [self.of(item, depth - 1) for item in items[:WIDTH]]
        return [*copied, f"... {len(items) - WIDTH} more"] if len(items) > WIDTH else copied

    def _under(self, name: str, value: Any, depth: int) -> Any:
        rule = self._scrubber.rule_of(name, value)
        return f"[scrubbed: {rule}]" if rule else self.of(value, depth)


def _segments(name: str) -> str:
    """Return ``dbPassword`` or ``DB-Password`` as ``_db_password_``."""
    return f"_{'_'.join(_WORDS.findall(name)).lower()}_"


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


DEFAULT: Final = Scrubber()
scrub: Final = DEFAULT.scrub
scrub_text: Final = DEFAULT.scrub_text
