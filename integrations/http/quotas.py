"""What responses say of the quota that the app has at an API: numbers only, under names of few letters.

Read are ``x-ratelimit-*`` and ``ratelimit-*``, the structured ``ratelimit`` and ``ratelimit-policy`` of the IETF's
draft (draft-ietf-httpapi-ratelimit-headers), and ``retry-after``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from monitoring.calls import Quota
from monitoring.utils.headers import seconds_of_retry_after

DEFAULT: Final = "default"
_FIRST_LETTERS: Final = frozenset(("x", "r", "X", "R", b"x", b"r", b"X", b"R"))
_SINGLE: Final = re.compile(
    r"(?:x-)?rate-?limit-(?P<which>remaining|limit)(?:-(?P<name>[a-z0-9_-]{1,32}))?"
    r"|(?:x-)?rate-?limit-(?P<name_before>[a-z0-9_]{1,32})-(?P<which_after>remaining|limit)"
)
_NUMBER: Final = re.compile(r"\s*(\d{1,15}(?:\.\d{1,6})?)\s*(?:[,;].*)?")
_ITEM: Final = re.compile(r"""\s*"?(?P<name>[A-Za-z0-9_-]{1,32})"?\s*;(?P<parameters>[^,]{1,200})""")
_PARAMETER: Final = re.compile(r";?\s*(?P<key>[a-z]+)=(?P<value>\d{1,15})")
_OLD_FORM: Final = re.compile(r"\b(?P<which>limit|remaining)=(?P<value>\d{1,15})")
_MOST: Final = 16
_ASKING_TO_WAIT: Final = frozenset({429, 503})


def quotas_of(headers: Iterable[tuple[Any, Any]], status: int) -> tuple[Quota, ...]:
    """Return the quotas that a response's headers tell, at most 16; their names and values are text or bytes."""
    found: list[Quota] = []
    for name, value in headers:
        if name[:1] in _FIRST_LETTERS:
            _add(found, _text(name).lower(), value, status)
    return tuple(found[:_MOST])


def _add(found: list[Quota], name: str, value: Any, status: int) -> None:
    if name == "retry-after":
        seconds = seconds_of_retry_after(_text(value)) if status in _ASKING_TO_WAIT else None
        if seconds is not None:
            found.append(("retry_after", "", seconds))
    elif name == "ratelimit":
        _add_structured(found, _text(value), {"r": "remaining"})
    elif name == "ratelimit-policy":
        _add_structured(found, _text(value), {"q": "limit"})
    elif "limit" in name:
        single = _SINGLE.fullmatch(name)
        number = single and _NUMBER.fullmatch(_text(value))
        if single and number:
            which = single["which"] or single["which_after"]
            found.append((which, single["name"] or single["name_before"] or DEFAULT, float(number[1])))


def _add_structured(found: list[Quota], value: str, meanings: dict[str, str]) -> None:
    for old in _OLD_FORM.finditer(value):
        found.append((old["which"], DEFAULT, float(old["value"])))
    for item in _ITEM.finditer(value):
        for parameter in _PARAMETER.finditer(item["parameters"]):
            if parameter["key"] in meanings:
                found.append((meanings[parameter["key"]], item["name"].lower(), float(parameter["value"])))


def _text(value: Any) -> str:
    return value.decode("latin-1") if value.__class__ is bytes else str(value)
