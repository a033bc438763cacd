"""What the destinations' settings have in common."""

from __future__ import annotations

from pathlib import Path

from ..levels import LEVELS


def check_level(owner: str, level: str) -> None:
    """Raise ValueError, in the name of ``owner``, for a level that does not exist."""
    if level not in LEVELS:
        raise ValueError(f"level of {owner} must be one of {', '.join(LEVELS)}, got {level!r}.")


def spool_folder(spool: str | Path | None, name: str) -> Path | None:
    """Return the folder of one destination's batches, inside the spool that several may share."""
    return Path(spool).absolute() / name if spool is not None else None
