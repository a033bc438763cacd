"""What does a wrapped client cost more per call, and per chunk of a stream? Microseconds of CPU time.

Beside it, in the same rounds, what another package costs that watches the same client. There is a module per family:
a new case is one more `Case` in its `CASES`, with a stand-in that answers without a server, and a peer if there is one.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module

from .measuring import Case, measure
from .table import show

FAMILIES = ("databases", "caches", "http", "llm")
EVERY = "every"
ROUNDS = 40


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the cases and publish the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calls", description=__doc__)
    parser.add_argument("families", nargs="*", choices=(*FAMILIES, EVERY), default=EVERY, help="by default every one")
    parser.add_argument(
        "--only", nargs="+", metavar="TEXT", default=[""], help="cases with one of these in their label"
    )
    parser.add_argument("--quick", action="store_true", help="a third of the rounds: a first idea")
    chosen = parser.parse_args(arguments)
    rounds = ROUNDS // 3 if chosen.quick else ROUNDS
    families = FAMILIES if EVERY in chosen.families else chosen.families
    cases = [case for case in _cases(families) if any(text in case.label for text in chosen.only)]
    if not cases:
        parser.error(f"no case has {' or '.join(chosen.only)} in its label; see the CASES in {__package__}")
    is_all = families == FAMILIES and chosen.only == [""]
    show([measure(case, rounds) for case in cases], rounds, is_all)


def _cases(families: Sequence[str]) -> list[Case]:
    return [case for family in families for case in import_module(f".{family}", __name__).CASES]
