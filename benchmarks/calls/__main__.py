"""`python -m benchmarks.calls [FAMILY ...] [--only TEXT ...] [--quick]`."""

from __future__ import annotations

from . import main

main()
