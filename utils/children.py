"""Children of multiprocessing: they leave by ``os._exit``, past ``atexit``."""

from __future__ import annotations

import sys
from collections.abc import Callable


def at_end_of_multiprocessing_child(call: Callable[[], object]) -> None:
    """Have ``call`` called when this process, if it is such a child, has done its work."""
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        util.Finalize(None, call, exitpriority=0)
