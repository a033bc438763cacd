"""Numbers and times of alerts as people write them."""

from __future__ import annotations

import math
from typing import Final, Literal

from ..utils.time import rfc3339

Unit = Literal["share", "seconds", "usd", "count", "per_second", "state"]
"""What a number measures; a ``state`` is 1 for yes and 0 for no."""

LINE_LIMIT: Final = 300


def readable(value: float | None, unit: Unit) -> str:
    """Return a value with its unit; None and what is not finite are ``no data``."""
    if value is None or not math.isfinite(value):
        return "no data"
    if unit == "state":
        return "yes" if value else "no"
    if unit == "share":
        return f"{value * 100:.3g} %"
    if unit == "seconds":
        return readable_seconds(value)
    if unit == "usd":
        return f"{value:.2f} USD"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def readable_seconds(seconds: float) -> str:
    """Return a duration in its largest fitting unit, such as ``250 ms``, ``45 s``, ``5 min`` or ``2.5 h``."""
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms" if seconds else "0 s"
    for size, unit in ((86_400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= size:
            return f"{math.floor(seconds / size * 10) / 10:g} {unit}"
    return f"{seconds:.3g} s"


def moment(at: float) -> str:
    """Return a unix time to the second, in UTC."""
    return rfc3339(int(at) * 1_000_000_000)[:19].replace("T", " ") + " UTC"


def ordinal(number: int) -> str:
    """Return ``1st``, ``2nd``, ``3rd``, ``4th``..."""
    teens = 10 < number % 100 < 14
    return f"{number}{'th' if teens else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"


def one_line(text: str) -> str:
    """Return text without line breaks and control characters, 300 characters at most."""
    plain = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(plain.split())[:LINE_LIMIT]
