"""How much the scrubber finds, and how much it takes that is harmless, over hundreds of made cases.

The figures are in docs/scrubbing.md; ``python -m tests.utils.test_redaction_corpus`` prints them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from monitoring.utils.redaction import DEFAULT, scrub, scrub_text

from .secrets_corpus import Case, cases

SEED, HELD_OUT_SEED = 11, 97
ROUNDS, HELD_OUT_ROUNDS = 3, 1
"""A quarter of the values is of another seed, which the rules were not made with."""

LEAST_RECALL = 0.99
MOST_FALSE = 0.01
LEAST_RECALL_UNSEEN = 0.97
MOST_FALSE_UNSEEN = 0.03
FEWEST = 550

SETS = [(SEED, ROUNDS), (HELD_OUT_SEED, HELD_OUT_ROUNDS)]
WithCases = tuple[list[Case], list[tuple[Case, Any]]]


def scrubbed(value: Any) -> Any:
    return scrub_text(value) if isinstance(value, str) else scrub(value)


def misses(name: str, seed: int, rounds: int) -> WithCases:
    """Return the cases and those of which a part of a secret is left."""
    made = cases(name, seed, rounds)
    return made, [(case, out) for case in made if case.leaked(out := scrubbed(case.value))]


def false_alarms(name: str, seed: int, rounds: int) -> WithCases:
    """Return the cases and those that were changed."""
    made = cases(name, seed, rounds)
    return made, [(case, out) for case in made if (out := scrubbed(case.value)) != case.value]


def listed(wrong: list[tuple[Case, Any]]) -> str:
    return "\n".join(f"{case.kind}: {case.value!r}\n    -> {out!r}" for case, out in wrong)


@pytest.mark.parametrize(("seed", "rounds"), SETS, ids=["corpus", "held out"])
def test_secrets_are_found(seed: int, rounds: int) -> None:
    """Of at most one in a hundred any part of more than four characters is left."""
    made, missed = misses("positives", seed, rounds)
    assert 1 - len(missed) / len(made) >= LEAST_RECALL, listed(missed)


@pytest.mark.parametrize(("seed", "rounds"), SETS, ids=["corpus", "held out"])
def test_look_alikes_stay(seed: int, rounds: int) -> None:
    """At most one in a hundred is changed by a single character."""
    made, changed = false_alarms("lookalikes", seed, rounds)
    assert len(changed) / len(made) <= MOST_FALSE, listed(changed)


@pytest.mark.parametrize(("seed", "rounds"), SETS, ids=["corpus", "held out"])
def test_templates_that_the_rules_were_not_made_with_hold_too(seed: int, rounds: int) -> None:
    """They were run when the rules were done; what was missed then is in docs/scrubbing.md, and some of it mended."""
    made, missed = misses("unseen_positives", seed, rounds)
    assert 1 - len(missed) / len(made) >= LEAST_RECALL_UNSEEN, listed(missed)
    made, changed = false_alarms("unseen_lookalikes", seed, rounds)
    assert len(changed) / len(made) <= MOST_FALSE_UNSEEN, listed(changed)


def test_the_corpus_is_large_and_varied() -> None:
    """At least 550 different texts of each; every secret has a text of its own."""
    for name in ("positives", "lookalikes"):
        made = [case for seed, rounds in SETS for case in cases(name, seed, rounds)]
        assert len({repr(case.value) for case in made}) >= FEWEST
    assert all(case.secrets for case in cases("positives", SEED, 1))
    assert not any(case.secrets for case in cases("lookalikes", SEED, 1))


def test_a_leak_is_seen() -> None:
    """The measure itself: a scrubber that does nothing finds nothing, one that hides all leaves no look-alike."""
    made = cases("positives", SEED, 1)
    assert all(case.leaked(case.value) for case in made)
    assert not any(case.leaked("[scrubbed]") for case in made)


def test_fields_of_lines_are_scrubbed_alike() -> None:
    """A secret in a field of a log line is found as in any other value."""
    made = cases("positives", SEED, 1)
    missed = [case for case in made if case.leaked(dict(DEFAULT.scrub_fields({"note": case.value})))]
    assert 1 - len(missed) / len(made) >= LEAST_RECALL


def test_addresses_are_a_class_of_their_own() -> None:
    """Without the rule they stay, and everything else goes as before."""
    mine = DEFAULT.without("email")
    made = cases("positives", SEED, 1)
    assert all(
        case.leaked(mine.scrub(case.value)) for case in made if case.kind == "email" and isinstance(case.value, str)
    )
    others = [case for case in made if case.kind != "email"]
    assert sum(bool(case.leaked(mine.scrub(case.value))) for case in others) / len(others) <= 1 - LEAST_RECALL


def main() -> None:
    """Print the figures of docs/scrubbing.md."""
    rows: list[tuple[str, Callable[[str, int, int], WithCases]]] = [
        ("positives", misses),
        ("lookalikes", false_alarms),
        ("unseen_positives", misses),
        ("unseen_lookalikes", false_alarms),
    ]
    for name, wrong_of in rows:
        for seed, rounds in SETS:
            made, wrong = wrong_of(name, seed, rounds)
            print(f"{name:18} seed {seed:3}: {len(made):4} cases, {len(wrong):3} wrong ({len(wrong) / len(made):.2%})")


if __name__ == "__main__":
    main()
