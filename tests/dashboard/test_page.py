"""The built page in a real browser, over a stub of its API."""

from __future__ import annotations

import gzip
import re
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.dashboard.stub import STATIC, TOKEN

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect

SOURCE = Path(__file__).parents[2] / "dashboard"
FAILED_REQUEST = "00035c1e9f0b4a7d8e21c6b39d0f7a00"
VIEWS = {
    "overview": "overview",
    "routes": "routes",
    "route": "route?route=/proposals/{id}&method=GET",
    "requests": "requests?status=5xx&route=/funders",
    "request": f"requests/{FAILED_REQUEST}",
    "errors": "errors",
    "error": "errors/e01d8cd98f00b204",
    "llm": "llm",
    "usage": "usage",
    "operations": "operations?name=proposal.generate&value.funder=NSF",
    "health": "health",
    "check": "health/redis",
    "alerts": "alerts",
    "alert": "alerts/1",
    "system": "system",
}
STATES = ["full", "empty", "one", "gaps", "many", "hostile", "bare"]
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]


def of_hash(page: Any) -> tuple[str, dict[str, str]]:
    """Split the state in the URL into the view and its parameters."""
    path, _, query = urlsplit(page.url).fragment.partition("?")
    return path.strip("/"), {name: values[0] for name, values in parse_qs(query).items()}


def drag(page: Any, chart: str, start: float, end: float) -> None:
    """Drag over a chart, from one share of its width to another."""
    box = page.get_by_role("group", name=chart, exact=True).locator(".u-over").bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * start, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * (start + end) / 2, middle)
    page.mouse.move(box["x"] + box["width"] * end, middle)
    page.mouse.up()


def asked(visited: Any, path: str) -> list[Any]:
    return [request for request in visited.stub.seen if request["path"] == path]


def until(page: Any, condition: Any) -> None:
    """Wait for something that is not in the page, such as a request that the stub must see."""
    for _ in range(200):
        if condition():
            return
        page.wait_for_timeout(25)
    raise AssertionError("it did not happen within 5 s")


# What is shipped


def test_the_page_is_light() -> None:
    """All that the browser loads is below 60 KB when compressed."""
    assert sum(len(gzip.compress(path.read_bytes(), 9)) for path in STATIC.iterdir()) < 60_000


def test_the_markup_holds_no_script_and_no_style() -> None:
    """Only files of the page's own are loaded, by relative addresses."""
    markup = (STATIC / "index.html").read_text()
    assert re.findall(r"<script(.*?)>(.*?)</script>", markup, re.DOTALL)[0][1] == ""
    assert "<style" not in markup
    assert "style=" not in markup
    assert all(address.startswith(("static/", "data:")) for address in re.findall(r'(?:src|href)="([^"]*)"', markup))


def test_the_page_names_the_files_that_are_there() -> None:
    """Names carry the content's hash, so that browsers may keep them for ever."""
    named = re.findall(r'"static/([^"]+)"', (STATIC / "index.html").read_text())
    assert set(named) | {"index.html", "LICENSES.txt"} == {path.name for path in STATIC.iterdir()}


def test_licences_of_what_is_bundled_are_shipped() -> None:
    """Preact and uPlot ask for their notice."""
    licences = (STATIC / "LICENSES.txt").read_text()
    assert "preact" in licences
    assert "uplot" in licences


# Every view


@pytest.mark.parametrize("state", STATES)
def test_every_view_renders(visit: Any, state: str) -> None:
    """No console error, no policy violation, no other origin, no view that gives up, in any state of the data."""
    visited = visit(state)
    for route in VIEWS.values():
        page = visited.open(route)
        expect(page.locator("main")).not_to_be_empty()
        expect(page.get_by_text("could not be drawn")).to_have_count(0)
        assert visited.found_troubles() == [], route


@pytest.mark.parametrize("width", [320, 1280])
@pytest.mark.parametrize("state", ["full", "hostile"])
def test_no_view_is_wider_than_the_screen(visit: Any, state: str, width: int) -> None:
    """Long names and wide tables never make the page scroll sideways."""
    visited = visit(state, viewport={"width": width, "height": 700})
    for route in VIEWS.values():
        page = visited.open(route)
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width, route


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_view_is_accessible(visit: Any, axe: str, theme: str) -> None:
    """axe finds nothing against WCAG 2.1 A and AA, contrast included, in either theme."""
    visited = visit("full", color_scheme=theme, bypass_csp=True)
    for route in VIEWS.values():
        page = visited.open(route)
        page.add_script_tag(path=axe)
        found = page.evaluate("(rules) => axe.run(document, { runOnly: rules })", RULES)["violations"]
        assert [(one["id"], one["nodes"][0]["html"]) for one in found] == [], route


@pytest.fixture(scope="module")
def axe() -> str:
    """Find axe-core among the page's development packages, installing them where npm is at hand."""
    path = SOURCE / "node_modules" / "axe-core" / "axe.min.js"
    if not path.exists():
        try:
            subprocess.run(
                ["npm", "ci", "--no-audit", "--no-fund"], cwd=SOURCE, check=True, capture_output=True, timeout=120
            )
        except (OSError, subprocess.SubprocessError):
            pytest.skip("axe-core is not installed, and npm cannot install it")
    return str(path)


def test_hostile_names_stay_text(visit: Any) -> None:
    """Markup in a route, a statement, a user or an alert's link is shown and never run."""
    visited = visit("hostile")
    for route in VIEWS.values():
        page = visited.open(route)
        assert page.evaluate("() => window.hacked") is None, route
        assert page.locator("img, main script, a[href^='javascript']").count() == 0, route
    expect(page.get_by_text("<img src=x onerror=").first).to_be_visible()


# Time range


def test_a_drag_over_a_chart_sets_the_range_of_the_page(visit: Any) -> None:
    """The range is in the URL, the API is asked for it, and the back button undoes it."""
    visited = visit()
    page = visited.open("overview?from=-1h&to=now")
    drag(page, "Latency", 0.25, 0.75)
    page.wait_for_url(re.compile(r"from=\d+&to=\d+"))
    _, params = of_hash(page)
    assert float(params["to"]) - float(params["from"]) == pytest.approx(1800, abs=120)
    until(page, lambda: asked(visited, "overview")[-1]["query"] == params)
    page.go_back()
    assert of_hash(page)[1] == {"from": "-1h", "to": "now"}


def test_the_range_stays_when_another_view_opens(visit: Any) -> None:
    """A link carries the range along."""
    page = visit().open("overview?from=-6h&to=now")
    page.get_by_role("navigation", name="Views").get_by_role("link", name="Routes").click()
    expect(page.get_by_role("heading", name="Routes", level=1)).to_be_visible()
    assert of_hash(page) == ("routes", {"from": "-6h", "to": "now"})


def test_the_picker_sets_the_range(visit: Any) -> None:
    """Its choices are links, named in words."""
    page = visit().open()
    page.get_by_role("link", name="last 7 d").click()
    page.wait_for_url(re.compile("from=-7d"))
    assert page.get_by_role("link", name="last 7 d").get_attribute("aria-current") == "true"


# Every number opens


def test_a_click_on_a_chart_opens_the_requests_of_that_bucket(visit: Any) -> None:
    """From and to are the bucket's, one minute of the hour."""
    page = visit().open()
    page.get_by_role("group", name="Requests and errors").locator(".u-over").click(position={"x": 200, "y": 60})
    page.wait_for_url(re.compile("#/requests"))
    view, params = of_hash(page)
    assert view == "requests"
    assert float(params["to"]) - float(params["from"]) == 60


def test_arrow_keys_read_a_chart_and_enter_opens_a_point(visit: Any) -> None:
    """A chart is a slider over its buckets that speaks their values."""
    page = visit().open()
    chart = page.get_by_role("slider", name="Latency")
    chart.focus()
    chart.press("End")
    chart.press("ArrowLeft")
    assert chart.get_attribute("aria-valuenow") == "58"
    assert "p95" in chart.get_attribute("aria-valuetext")
    chart.press("Enter")
    page.wait_for_url(re.compile("#/requests"))
    assert of_hash(page)[1]["order"] == "slowest"


def test_a_chart_can_be_viewed_as_a_table(visit: Any) -> None:
    """The same points, one row each."""
    page = visit().open()
    figure = page.get_by_role("group", name="Latency")
    figure.get_by_role("button", name="View as table").click()
    expect(figure.locator("tbody tr")).to_have_count(60)


@pytest.mark.parametrize(
    ("route", "link", "view", "params"),
    [
        ("overview", "/funders", "route", {"route": "/funders", "method": "GET"}),
        ("overview", re.compile("^LLM cost"), "llm", {}),
        ("overview", re.compile("^Error rate"), "requests", {"status": "5xx"}),
        ("overview", re.compile("^p95"), "requests", {"order": "slowest", "min_seconds": "0.182"}),
        ("routes", "SELECT funders", "requests", {"kind": "db", "name": "SELECT funders"}),
        ("llm", "gpt-4o", "requests", {"kind": "llm", "name": "chat gpt-4o"}),
        ("usage", "NSF", "operations", {"name": "proposal.generate", "value.funder": "NSF"}),
        ("operations?name=x", "funder NSF", "requests/00005c1e9f0b4a7d8e21c6b39d0f7a00", {}),
        ("errors", "KeyError: 'budget'", "errors/e01d8cd98f00b204", {}),
        ("errors/e01d8cd98f00b204", "Its requests", "requests", {"error_group": "e01d8cd98f00b204"}),
        (f"requests/{FAILED_REQUEST}", "Its group", "errors/e41d8cd98f00b204", {}),
        ("alerts/1", "What it saw", "routes", {}),
    ],
)
def test_a_number_opens_into_its_cause(visit: Any, route: str, link: Any, view: str, params: dict[str, str]) -> None:
    """Rows and tiles are links, with the filter in the URL."""
    page = visit().open(route)
    page.get_by_role("main").get_by_role("link", name=link).first.click()
    page.wait_for_url(re.compile(re.escape(f"#/{view}")))
    assert of_hash(page) == (view, {"from": "-1h", "to": "now", **params})


def test_a_health_check_opens_into_its_history(visit: Any) -> None:
    """From its uptimes of a day, a month and a year to a strip of each hour or day, with what nobody looked at."""
    visited = visit()
    page = visited.open("health")
    row = page.get_by_role("row", name=re.compile("redis"))
    assert row.get_by_role("cell").all_inner_texts()[3:6] == ["99.93 %", "99.99 %", "99.9 %"]
    row.get_by_role("link", name="redis").click()
    page.wait_for_url(re.compile("#/health/redis"))
    expect(page.locator(".sentence")).to_contain_text("warn redis: Answered after 0.7 s.")
    expect(page.get_by_role("img", name="of 60 hours: up in 59, warn in 1, down in 1, unknown in 1")).to_be_visible()
    shown = page.get_by_role("region", name="Not up").locator("tbody tr")
    assert [cells.split("\t")[1:] for cells in shown.all_inner_texts()] == [
        ["\N{EN DASH}", "\N{EN DASH}", "\N{EN DASH}", "1 h"],
        ["30 min", "\N{EN DASH}", "30 min", "\N{EN DASH}"],
        ["59 min", "1 min", "\N{EN DASH}", "\N{EN DASH}"],
    ]
    page.get_by_role("link", name=re.compile("^Uptime 365 d")).click()
    until(page, lambda: asked(visited, "health/redis")[-1]["query"] == {"from": "-365d", "to": "now"})
    expect(page.get_by_role("img", name=re.compile("^of 60 days"))).to_be_visible()


def test_a_request_shows_its_waterfall(visit: Any) -> None:
    """Spans nest; a query opens into its statement, an LLM call shows its cost; a loop of queries is pointed out."""
    page = visit().open(f"requests/{FAILED_REQUEST}")
    writer = page.get_by_role("listitem").filter(has=page.locator("summary", has_text="writer agent")).last
    expect(writer.get_by_text("tokens · $0.0110")).to_be_visible()
    expect(page.get_by_text("unpriced").first).to_be_visible()
    expect(page.get_by_text("ran 12 times, 310 ms in all, from app/funders.py:42 in load")).to_be_visible()
    expect(page.locator("summary").filter(has_text="repeated")).to_have_count(9)
    page.locator("summary").filter(has_text="SELECT funders").first.click()
    expect(page.get_by_text("FROM funders WHERE").first).to_be_visible()


def test_routes_show_their_queries(visit: Any) -> None:
    """How many a request sends, which statements were slow or repeated, and which of a route were."""
    page = visit().open("routes")
    row = page.get_by_role("region", name="Database calls").get_by_role("row").filter(has_text="SELECT funders")
    expect(row.get_by_role("cell").nth(-2)).to_have_text("3")
    expect(row.get_by_role("cell").last).to_have_text("31")
    expect(page.get_by_role("region", name="Routes").get_by_text("14.2 · p95 40")).to_be_visible()
    page = visit().open("route?method=POST&route=%2Fproposals%2F%7Bid%7D%2Fgenerate")
    expect(
        page.get_by_role("region", name="Repeated queries").get_by_role("link", name="SELECT funders")
    ).to_be_visible()
    expect(page.get_by_text("in a request that sends any, p95 40")).to_be_visible()


def test_hit_rates_are_shown_by_kind_of_key(visit: Any) -> None:
    """Under the caches that they are of."""
    table = visit().open("routes").get_by_role("region", name="Kinds of cache keys")
    assert table.get_by_text("users", exact=True).is_visible()
    assert "95" in table.inner_text()


def test_a_request_shows_its_error_with_the_source(visit: Any) -> None:
    """The app's own frame is open at the line that raised, and the cause follows."""
    page = visit().open(f"requests/{FAILED_REQUEST}")
    expect(page.locator(".here")).to_have_text(re.compile("^42"))
    expect(page.get_by_text("Caused by")).to_be_visible()


def test_search_opens_a_request_by_its_id(visit: Any) -> None:
    """And says so when nothing has that ID."""
    page = visit().open()
    box = page.get_by_role("searchbox")
    box.fill("nothing-like-this")
    box.press("Enter")
    expect(page.get_by_text("Nothing kept has this exact ID.")).to_be_visible()
    box.fill("00005c1e9f0b4a7d8e21c6b39d0f7a00")
    box.press("Enter")
    page.wait_for_url(re.compile("#/requests/00005c1e"))


def test_a_column_sorts_and_the_url_knows(visit: Any) -> None:
    """Largest first, then smallest first."""
    page = visit().open("routes")
    page.get_by_role("link", name="Count").first.click()
    expect(page.get_by_role("columnheader", name="Count").first).to_have_attribute("aria-sort", "descending")
    page.get_by_role("link", name="Count").first.click()
    expect(page.locator("tbody tr").first).to_contain_text("/search")
    assert of_hash(page)[1]["routes.sort"] == "Count"


def test_filters_are_in_the_url(visit: Any) -> None:
    """The form sets them, a chip takes one away."""
    visited = visit()
    page = visited.open("requests?user=u-1")
    page.get_by_label("status").fill("404")
    page.get_by_role("button", name="Filter").click()
    page.wait_for_url(re.compile("status=404"))
    until(page, lambda: asked(visited, "requests")[-1]["query"].get("status") == "404")
    page.get_by_role("link", name="user: u-1").click()
    page.wait_for_url(lambda url: "user" not in url)


# Keyboard


def test_the_first_tab_stop_skips_to_the_content(visit: Any) -> None:
    """Then Tab goes on inside it."""
    page = visit().open()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()


def test_tab_reaches_a_row_enter_opens_it_and_esc_comes_back(visit: Any) -> None:
    """Without a mouse, from the list to one route and back."""
    page = visit().open("routes")
    page.locator("main").focus()
    wanted = page.get_by_role("link", name="/proposals/{id}/generate").first
    for _ in range(60):
        page.keyboard.press("Tab")
        if wanted.evaluate("(link) => link === document.activeElement"):
            break
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("#/route\\?"))
    page.keyboard.press("Escape")
    page.wait_for_url(re.compile("#/routes\\?|#/routes$"))


def test_esc_on_a_page_opened_by_its_link_goes_to_the_list_above(visit: Any) -> None:
    """There is no history to go back to."""
    page = visit().open("errors/e01d8cd98f00b204")
    page.keyboard.press("Escape")
    page.wait_for_url(re.compile("#/errors\\?"))


# Fresh, stale, shut


def test_an_unchanged_answer_keeps_the_data(visit: Any) -> None:
    """The ETag goes back, the 304 changes nothing."""
    visited = visit("still", clock=True)
    page = visited.open()
    first = len(asked(visited, "overview"))
    page.clock.fast_forward(5_100)
    until(page, lambda: len(asked(visited, "overview")) > first)
    assert asked(visited, "overview")[-1]["headers"]["if-none-match"]
    expect(page.get_by_text("Degraded. 1,204 requests")).to_be_visible()
    assert visited.found_troubles() == []


def test_a_failing_server_leaves_the_data_and_a_note(visit: Any) -> None:
    """The page says since when, asks less often, and recovers by itself."""
    visited = visit(clock=True)
    page = visited.open()
    visited.stub.broken = True
    page.clock.fast_forward(5_100)
    expect(page.get_by_text(re.compile("Not updated since"))).to_be_visible()
    expect(page.get_by_text("Degraded. 1,204 requests")).to_be_visible()
    page.clock.fast_forward(5_100)
    until(page, lambda: len(asked(visited, "overview")) == 3)
    visited.stub.broken = False
    page.clock.fast_forward(5_100)
    page.wait_for_timeout(100)
    assert len(asked(visited, "overview")) == 3, "the second failure doubles the wait"
    page.clock.fast_forward(5_100)
    expect(page.get_by_text(re.compile("Not updated since"))).to_have_count(0)


def test_a_hidden_tab_asks_nothing(visit: Any) -> None:
    """It asks again at once when it is seen."""
    visited = visit(clock=True)
    page = visited.open()
    see = """(state) => {
        Object.defineProperty(document, "visibilityState", { get: () => state, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    page.evaluate(see, "hidden")
    first = len(visited.stub.seen)
    page.clock.fast_forward(120_000)
    page.wait_for_timeout(100)
    assert len(visited.stub.seen) == first
    page.evaluate(see, "visible")
    until(page, lambda: len(visited.stub.seen) > first)


def test_a_server_that_fails_from_the_start_is_named(visit: Any) -> None:
    """Its own sentence is shown."""
    page = visit("broken").open()
    expect(page.get_by_role("alert")).to_contain_text("The store is locked.")


def test_a_request_that_is_not_kept_is_explained(visit: Any) -> None:
    """404 is an answer, not a failure."""
    page = visit().open("requests/gone")
    expect(page.get_by_text("The request gone is not kept.")).to_be_visible()


def test_an_unknown_view_leads_home(visit: Any) -> None:
    """Even one named like a property of every object."""
    page = visit().open("constructor")
    page.get_by_role("link", name="To the overview").click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()


def test_401_shows_the_login_form(visit: Any) -> None:
    """A wrong token is told, the right one opens the page that was asked for."""
    visited = visit("locked")
    page = visited.open("routes")
    page.get_by_label("Token").fill("guess")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("not the right one")
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Routes", level=1)).to_be_visible()
    assert {sent["headers"]["x-monitoring"] for sent in asked(visited, "login")} == {"1"}


def test_signing_out_asks_for_the_token_again(visit: Any) -> None:
    """The button is there after a login."""
    visited = visit("locked")
    page = visited.open()
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Token")).to_be_visible()


# What an operator does


def test_an_alert_is_acknowledged_with_a_note_and_taken_back(visit: Any) -> None:
    """The post carries the guard header; the page shows who and why."""
    visited = visit()
    page = visited.open("alerts")
    page.get_by_role("button", name="Acknowledge").click()
    page.get_by_label("note").fill("on it")
    page.get_by_label("note").press("Enter")
    expect(page.get_by_text("on it")).to_be_visible()
    (sent,) = asked(visited, "alerts/1/ack")
    assert sent["headers"]["x-monitoring"] == "1"
    assert sent["body"] == b'{"note":"on it","minutes":1440}'
    page.get_by_role("button", name="Take acknowledgement back").click()
    expect(page.get_by_role("button", name="Acknowledge")).to_be_visible()


def test_a_rule_is_silenced_and_heard_again(visit: Any) -> None:
    """The silence is in the list, and can be ended there."""
    visited = visit()
    page = visited.open("alerts")
    page.get_by_role("button", name="Silence rule").click()
    page.get_by_label("comment").fill("deploy")
    page.get_by_role("form", name="Silence").get_by_role("button", name="Silence").click()
    expect(page.get_by_role("cell", name="deploy")).to_be_visible()
    assert asked(visited, "silences")[0]["body"] == b'{"rule":"error rate","minutes":60,"comment":"deploy"}'
    page.get_by_role("button", name="End").click()
    expect(page.get_by_text("Nothing is silenced.")).to_be_visible()


def test_an_error_group_is_resolved_and_reopened(visit: Any) -> None:
    """Each is one post."""
    page = visit().open("errors/e01d8cd98f00b204")
    page.get_by_role("button", name="Resolve").click()
    expect(page.locator(".sentence")).to_contain_text("resolved")
    page.get_by_role("button", name="Reopen").click()
    expect(page.get_by_role("button", name="Resolve")).to_be_visible()


def test_a_refused_action_says_why(visit: Any) -> None:
    """The server's sentence stands beside the button."""
    visited = visit()
    page = visited.open("errors/e01d8cd98f00b204")
    visited.stub.broken = True
    page.get_by_role("button", name="Resolve").click()
    expect(page.get_by_role("alert").filter(has_text="The store is locked.").first).to_be_visible()


# Looks


def test_the_theme_is_kept_and_charts_follow(visit: Any) -> None:
    """The reader's choice outlives the page, and the canvas is drawn again."""
    page = visit(color_scheme="light").open()
    drawn = "() => document.querySelector('canvas').toDataURL()"
    before = page.evaluate(drawn)
    page.get_by_role("button", name="Dark theme").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    until(page, lambda: page.evaluate(drawn) != before)
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kolkata"])
def test_times_are_the_readers_with_utc_on_hover(visit: Any, zone: str) -> None:
    """The instant is the same, the clock is theirs."""
    page = visit("still", timezone_id=zone).open("requests")
    shown = page.locator("td time").first
    local = shown.evaluate(
        "(time) => new Date(time.dateTime).toLocaleTimeString('en-GB')",
    )
    assert local in shown.inner_text() or shown.inner_text().endswith(local[:5])
    assert shown.get_attribute("title").endswith("UTC")
    assert shown.get_attribute("title")[11:19] == shown.get_attribute("datetime")[11:19]


def test_what_is_not_known_is_a_dash_and_no_price_is_unpriced(visit: Any) -> None:
    """Neither is ever shown as 0."""
    page = visit().open("llm")
    row = page.get_by_role("row", name=re.compile("local-model"))
    expect(row.get_by_role("cell").last).to_have_text("unpriced")
    expect(
        page.get_by_role("row", name=re.compile("gpt-4o")).get_by_role("cell", name="\N{EN DASH}", exact=True)
    ).to_be_visible()


def test_the_footer_tells_about_the_pack(visit: Any) -> None:
    """Workers, leader, last flush, drops, size of the store."""
    page = visit().open()
    for text in ["2 workers", "leader web-1:4123", "last flush 600 ms ago", "0 dropped", "store 48.2 MB"]:
        expect(page.get_by_role("contentinfo")).to_contain_text(text)
