"""Chromium, and the stub on a port of its own.

The browser is one per module, not per session: while Playwright's synchronous API is open, its event loop counts as
running in this thread, and tests of other modules could not run one of their own.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn

from tests.dashboard.stub import Stub, scenarios, site

sync_api = pytest.importorskip("playwright.sync_api")

QUIET = [
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => window.violations.push(event.violatedDirective));
"""


@dataclass
class Site:
    """A running stub: its address and its scenarios by name."""

    origin: str
    stubs: dict[str, Stub]


@dataclass
class Visit:
    """A page that keeps count of what must not happen on it."""

    page: Any
    site: Site
    scenario: str
    troubles: list[str] = field(default_factory=list)

    @property
    def stub(self) -> Stub:
        return self.site.stubs[self.scenario]

    def open(self, route: str = "overview") -> Any:
        """Go to a view and wait until nothing of it is loading."""
        self.page.goto(f"{self.site.origin}/{self.scenario}/#/{route}")
        sync_api.expect(self.page.locator("main")).to_be_visible()
        sync_api.expect(self.page.get_by_text("Loading", exact=True)).to_have_count(0)
        return self.page

    def found_troubles(self) -> list[str]:
        return self.troubles + self.page.evaluate("() => window.violations ?? []")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Start Debian's Chromium; Playwright downloads none."""
    path = shutil.which("chromium")
    if path is None:
        if os.environ.get("CI") == "true":
            pytest.fail("chromium is not installed; run scripts/install-components chromium.")
        pytest.skip("chromium is not installed")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=QUIET)
        yield chromium
        chromium.close()


@pytest.fixture
def stub_site() -> Iterator[Site]:
    """Serve fresh scenarios on a free port."""
    stubs = scenarios()
    server = uvicorn.Server(uvicorn.Config(site(stubs), port=0, log_config=None, ws="none", lifespan="off"))
    started = threading.Event()
    startup = server.startup

    async def announced(sockets: Any = None) -> None:
        await startup(sockets)
        started.set()

    server.startup = announced  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run)
    thread.start()
    assert started.wait(20)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield Site(f"http://127.0.0.1:{port}", stubs)
    server.should_exit = True
    thread.join()


@pytest.fixture
def visit(browser: Any, stub_site: Site) -> Iterator[Any]:
    """Make a ``Visit`` of a scenario, in a context with the given options."""
    contexts = []

    def start(scenario: str = "full", *, clock: bool = False, **options: Any) -> Visit:
        context = browser.new_context(
            **{"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce", **options}
        )
        contexts.append(context)
        context.add_init_script(WATCH)
        visited = Visit(context.new_page(), stub_site, scenario)
        if clock:
            visited.page.clock.install()
        _watch(visited)
        return visited

    yield start
    for context in contexts:
        context.close()


def _watch(visited: Visit) -> None:
    def console(message: Any) -> None:
        if message.type in ("error", "warning"):
            visited.troubles.append(f"console: {message.text}")

    def request(sent: Any) -> None:
        if not sent.url.startswith((visited.site.origin, "data:")):
            visited.troubles.append(f"foreign: {sent.url}")

    visited.page.on("console", console)
    visited.page.on("pageerror", lambda error: visited.troubles.append(f"error: {error}"))
    visited.page.on("request", request)
