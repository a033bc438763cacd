"""The table of integrations/README.md: which claims of the contract held for which client, as the tests found it.

``pytest tests/integrations --contract-table`` writes the rows of the clients that it finds. In every other run a claim
fails where the table tells something else of it.
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
    """Compares what becomes of each claim with the table, or writes it anew, as a plugin of pytest."""

    def __init__(self, *, is_to_write: bool) -> None:
        self._is_to_write = is_to_write
        self._told = dict(map(_told, README.read_text().splitlines()))
        self._found: dict[Row, dict[str, str]] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[Any]) -> Any:
        """Note how one claim came out; fail the test where the table tells something else."""
        report: pytest.TestReport = yield
        column = CLAIMS.get(getattr(item, "originalname", ""))
        subject = getattr(item, "funcargs", {}).get("subject")
        if column is None or subject is None or call.when != "call" or report.outcome == "failed":
            return report
        found = _found(report)
        self._found.setdefault((subject.client, subject.library), {})[column] = found
        told = self._told.get(subject.client, {}).get(column)
        if told != found and not self._is_to_write:
            report.outcome = "failed"
            report.longrepr = (
                f"integrations/README.md tells {told!r} of {subject.client}, {column!r}, and it is {found!r}: "
                "write its table with pytest tests/integrations --contract-table."
            )
        return report

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the table, if all is well."""
        if self._is_to_write and session.exitstatus == 0:
            README.write_text(_BETWEEN.sub(lambda _: self._table(), README.read_text()))

    def _table(self) -> str:
        head = [f"| {' | '.join(('client', 'versions', *COLUMNS))} |", "| --- " * (len(COLUMNS) + 2) + "|"]
        rows = dict(map(_named, _BETWEEN.findall(README.read_text())[0].splitlines()[len(head) :]))
        rows |= {client: _row(client, library, claims) for (client, library), claims in self._found.items()}
        return "\n".join(head + [row for _, row in sorted(rows.items())]) + "\n"


def _found(report: pytest.TestReport) -> str:
    """Return how a claim came out: one of a subject's ``exceptions`` is told as such."""
    if hasattr(report, "wasxfail"):
        return NO
    return YES if report.outcome == "passed" else NOT_ASKED


def _told(line: str) -> tuple[str, dict[str, str]]:
    cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
    return cells[0], dict(zip(COLUMNS, cells[2:]))


def _named(row: str) -> tuple[str, str]:
    return _told(row)[0], row


def _row(client: str, library: str, claims: dict[str, str]) -> str:
    cells = (client, _versions(library), *(claims.get(column, NOT_ASKED) for column in COLUMNS))
    return f"| {' | '.join(cells)} |"


def _versions(library: str) -> str:
    """Return the oldest and the newest version that the tests are run with."""
    if library == "Python":
        return "3.11"
    oldest = tomllib.loads(OLDEST.read_text())[library]["version"]
    return f"{library} {oldest} to {version(library)}"
