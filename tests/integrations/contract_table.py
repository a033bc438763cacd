"""The table of integrations/README.md: which claims of the contract held for which client, as the tests found it.

``pytest tests/integrations --contract-table`` writes it. Every other run compares what it found with the table, and
fails where they differ.
"""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from tests.integrations.contract import CLAIMS

README = Path(__file__).parents[2] / "integrations" / "README.md"
OLDEST = Path(__file__).with_name("oldest.toml")
COLUMNS = tuple(dict.fromkeys(CLAIMS.values()))
YES, NO, NOT_ASKED = "yes", "no", "-"

_BETWEEN = re.compile(r"(?<=<!-- contract -->\n).*?(?=<!-- /contract -->)", re.DOTALL)

Row = tuple[str, str]
"""A client, and the library that it is of."""


class ContractTable:
    """Collects what became of each claim, as a plugin of pytest."""

    def __init__(self, *, is_to_write: bool) -> None:
        self._is_to_write = is_to_write
        self._found: dict[Row, dict[str, str]] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[Any]) -> Any:
        """Note how one claim came out. One that is expected not to hold (``exceptions``) is told as such."""
        report: pytest.TestReport = yield
        column = CLAIMS.get(getattr(item, "originalname", ""))
        subject = getattr(item, "funcargs", {}).get("subject")
        if column and subject is not None and call.when == "call":
            claims = self._found.setdefault((subject.client, subject.library), {})
            expected_to_fail = hasattr(report, "wasxfail")
            claims[column] = NO if expected_to_fail else YES if report.outcome == "passed" else NOT_ASKED
        return report

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the table, or compare it."""
        if session.exitstatus != 0:
            return
        if self._is_to_write:
            README.write_text(_BETWEEN.sub(lambda _: self._table(), README.read_text()))
        elif differing := self._differing():
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
            print(
                f"\nintegrations/README.md tells something else of {', '.join(differing)} than the tests found; "
                "write its table with: pytest tests/integrations --contract-table."
            )

    def _differing(self) -> list[str]:
        told = dict(map(_told, README.read_text().splitlines()))
        return [
            client
            for (client, _), claims in self._found.items()
            if any(told.get(client, {}).get(column) != claim for column, claim in claims.items())
        ]

    def _table(self) -> str:
        head = [f"| {' | '.join(('client', 'versions', *COLUMNS))} |", "| --- " * (len(COLUMNS) + 2) + "|"]
        return "\n".join(head + [_row(*row, claims) for row, claims in sorted(self._found.items())]) + "\n"


def _told(line: str) -> tuple[str, dict[str, str]]:
    cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
    return cells[0], dict(zip(COLUMNS, cells[2:]))


def _row(client: str, library: str, claims: dict[str, str]) -> str:
    cells = (client, _versions(library), *(claims.get(column, NOT_ASKED) for column in COLUMNS))
    return f"| {' | '.join(cells)} |"


def _versions(library: str) -> str:
    """Return the oldest and the newest version that the tests are run with."""
    if library == "Python":
        return "3.11"
    oldest = tomllib.loads(OLDEST.read_text())[library]["version"]
    return f"{library} {oldest} to {version(library)}"
