"""How a number stands to the limits that were given for it."""

from __future__ import annotations

from ..results import Status


def judged(value: float, warn: float, fail: float | None) -> Status:
    """Say how a number stands that is worse the higher it is; without ``fail`` it warns at most."""
    if fail is not None and value >= fail:
        return "fail"
    return "warn" if value >= warn else "pass"


def check_limits(who: str, warn: float, fail: float | None) -> None:
    """Raise ValueError for limits of which the second is below the first."""
    if warn < 0 or (fail is not None and fail < warn):
        raise ValueError(f"{who}() was given warn={warn!r} and fail={fail!r}; pass 0 <= warn <= fail.")
