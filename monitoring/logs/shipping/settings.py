"""What the destinations' settings have in common."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path

from ..levels import LEVELS


def check_level(owner: str, level: str) -> None:
    """Raise ValueError, in the name of ``owner``, for a level that does not exist."""
    if level not in LEVELS:
        raise ValueError(f"level of {owner} must be one of {', '.join(LEVELS)}, got {level!r}.")


def spool_folder(spool: str | Path | None, kind: str, *what: object) -> Path | None:
    """Return the folder of one destination's batches, inside the spool that several may share.

    ``what`` tells it from others of its kind; lines that one has left are not another's to send.
    """
    if spool is None:
        return None
    return Path(spool).absolute() / f"{kind}-{blake2b(repr(what).encode(), digest_size=6).hexdigest()}"
