"""What the documents show works: each Python block of the README and the guides runs."""

from __future__ import annotations

import re
import sys
import warnings
from pathlib import Path
from types import ModuleType

import pytest

from monitoring.integrations.llm import prices
from tests.support import django_settings

django_settings.set_up()

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
BLOCKS = [
    pytest.param(page.name, block, id=f"{page.name}: {block.strip().splitlines()[-1][:40]}")
    for page in PAGES
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
]


@pytest.mark.parametrize(("page", "block"), BLOCKS)
def test_a_block_of_a_page_runs(page: str, block: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Users can paste it."""
    monkeypatch.setattr(prices, "_own_prices", {})
    module = ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        exec(compile(block, page, "exec"), vars(module))


def test_every_document_that_is_linked_exists() -> None:
    """No link of the README, the guides or CONTRIBUTING leads nowhere."""
    missing = []
    for page in (*PAGES, ROOT / "CONTRIBUTING.md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            if not (page.parent / target).exists():
                missing.append(f"{page.name} -> {target}")
    assert missing == []
