"""The outside programs that tests need, and what happens where one is missing."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path
from typing import NoReturn

import pytest


def require(program: str, *modules: str) -> str:
    """Return the path of `program`, looked up next to this Python first; `modules` must be importable too.

    A missing component skips the test on a developer's machine and fails it under CI=true.
    """
    for module in modules:
        if importlib.util.find_spec(module) is None:
            unavailable(f"the Python module {module!r} is not installed; install the test dependencies.")
    beside_python = Path(sys.executable).parent
    path = shutil.which(program, path=f"{beside_python}{os.pathsep}{os.environ.get('PATH', os.defpath)}")
    if path is None:
        unavailable(f"the program {program!r} is not on PATH; install the package that brings it.")
    return path


def unavailable(reason: str) -> NoReturn:
    """Skip the running test for `reason`, or fail it under CI=true."""
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(f"Needed under CI=true: {reason}", pytrace=False)
    pytest.skip(reason)
