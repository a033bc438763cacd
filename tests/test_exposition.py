"""The exposition: our text is what prometheus_client writes, in both formats, for every name, value and label."""

from __future__ import annotations

import io
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_fd_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_fd_to_metric_families as parse_classic

from monitoring import Monitoring
from monitoring import exposition as exposition_module
from monitoring.cells import Declaration, Total, Totals
from monitoring.cells.layout import Header
from monitoring.exposition import CellCollector, Exposition, wants_openmetrics
from monitoring.testing import use
from tests.cells.support import child, run_program

FORMATS = pytest.mark.parametrize("openmetrics", [False, True], ids=["classic", "OpenMetrics"])

Sample = tuple[str, tuple[tuple[str, str], ...], str]
Families = dict[str, tuple[str, str, list[Sample]]]


def parsed(text: bytes, openmetrics: bool) -> Families:
    """Return families by name with type, help and samples; values as text, so that NaN equals NaN."""
    families = (parse_openmetrics if openmetrics else parse_classic)(io.StringIO(text.decode()))
    return {
        family.name: (
            family.type,
            family.documentation,
            [(one.name, tuple(sorted(one.labels.items())), repr(float(one.value))) for one in family.samples],
        )
        for family in families
    }


def rendered_by_the_library(totals: Totals, openmetrics: bool) -> bytes:
    """Return prometheus_client's own text of the same totals."""
    registry = CollectorRegistry()
    registry.register(CellCollector(totals))
    generate: Callable[[CollectorRegistry], bytes] = generate_openmetrics if openmetrics else generate_latest
    return generate(registry)


def rendered(m: Monitoring, openmetrics: bool = False) -> str:
    """Return a whole scrape."""
    return Exposition().render(m.metrics.totals_with_state(), openmetrics=openmetrics).decode()


def totals_of(help_text: str, values: Iterable[str], number: float = 1.5) -> Totals:
    """Return a counter, a gauge and a histogram with one label, one series for each of ``values``."""
    totals = Totals()
    for kind, name in (("counter", "jobs_total"), ("gauge", "waiting"), ("histogram", "job_seconds")):
        declaration = Declaration(
            name=name,
            kind=kind,  # type: ignore[arg-type]
            help=help_text,
            labels=("kind",),
            le=(1e-05, 0.1, 2.5, 10_000_000.0) if kind == "histogram" else (),
        )
        for value in values:
            total = Total(number)
            if kind == "histogram":
                total.pages = {7: [3.0] * 32, 18: [1.0] * 32}
            totals.metric(declaration).series[(value,)] = total
    return totals


def assert_same(totals: Totals, openmetrics: bool) -> None:
    """Compare our text with the library's, family by family."""
    ours = parsed(Exposition().render(totals, openmetrics=openmetrics), openmetrics)
    theirs = parsed(rendered_by_the_library(totals, openmetrics), openmetrics)
    assert {name: ours.get(name) for name in theirs} == theirs


@FORMATS
def test_our_text_reads_like_the_librarys_for_a_living_service(openmetrics: bool) -> None:
    """Counters, gauges and histograms, with and without labels, of the user's and of the pack's own."""
    with use() as m:
        m.counter("jobs_total", "Jobs.", ["kind", "queue"]).labels("a", "b").inc(2)
        m.counter("starts_total", "Starts.").inc()
        m.gauge("temperature", "Degrees.").set(-3.25)
        m.histogram("job_seconds", "Time.", ["kind"]).labels("a").observe(0.03)
        m.histogram("nap_seconds", "Naps.", buckets=(0.5, 1, 60)).observe(99)
        m.histogram("body_bytes", "Bytes.", buckets=()).observe(10)
        with m.observe("step"):
            pass
        totals = m.metrics.totals_with_state()

    assert_same(totals, openmetrics)
    ours = parsed(Exposition().render(totals, openmetrics=openmetrics), openmetrics)
    assert len([name for name in ours if name.startswith("monitoring_")]) == 5


@FORMATS
@pytest.mark.parametrize(
    "value", ['say "hi"', "back\\slash", "two\nlines", "\\n", '\\"', "", " ", "Zürich 数据 🦔", "a=b,c}", "#", "\t\r"]
)
def test_awkward_label_values_are_escaped(openmetrics: bool, value: str) -> None:
    """Quotes, backslashes, line breaks and any script come back as they were."""
    totals = totals_of("Jobs.", [value])

    assert_same(totals, openmetrics)
    jobs = parsed(Exposition().render(totals, openmetrics=openmetrics), openmetrics)["jobs"]
    assert jobs[2][0][1] == (("kind", value),)


@FORMATS
@pytest.mark.parametrize(
    "text", ['A "quoted" word.', "A \\ slash.", "Two\nlines.", "Grüße 🦔.", "Ends in \\", "\\n is no break."]
)
def test_awkward_help_texts_are_escaped(openmetrics: bool, text: str) -> None:
    """Help is one line, and reads as it was written."""
    totals = totals_of(text, ["a"])

    assert_same(totals, openmetrics)
    assert parsed(Exposition().render(totals, openmetrics=openmetrics), openmetrics)["jobs"][1] == text


@FORMATS
@settings(max_examples=60, deadline=None)
@given(values=st.sets(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=4), help_text=st.text(
    st.characters(exclude_categories=["Cs"]), min_size=1))  # fmt: skip
def test_texts_of_any_kind_read_like_the_librarys(openmetrics: bool, values: set[str], help_text: str) -> None:
    """Whatever a label or a help text holds, a scraper reads the same from us as from the library."""
    assert_same(totals_of(" ".join(["Jobs", *help_text.split()]), values), openmetrics)


@FORMATS
@pytest.mark.parametrize(
    "number", [0.0, 1.0, -1.5, 1e300, 1e-300, 12345678901234567890.0, 0.1 + 0.2, math.inf, -math.inf, math.nan]
)
def test_numbers_of_any_size_come_back_exactly(openmetrics: bool, number: float) -> None:
    """What is written is the float64 of the cell, to the last bit."""
    totals = Totals()
    declaration = Declaration(name="level", kind="gauge", help="Level.")
    totals.metric(declaration).series[()] = Total(number)

    assert_same(totals, openmetrics)


@FORMATS
def test_a_label_value_that_is_no_unicode_does_not_break_the_scrape(openmetrics: bool) -> None:
    """A lone surrogate, as in a path that was not UTF-8, is written as something that is."""
    with use() as m:
        m.counter("jobs_total", "Jobs.", ["kind"]).labels("a\ud800b").inc()
        text = rendered(m, openmetrics)

    assert "jobs_total{" in text


def test_buckets_are_cumulative_and_end_in_the_count() -> None:
    """Each bucket holds all samples up to its bound; +Inf and _count are the same number."""
    with use() as m:
        seconds = m.histogram("job_seconds", "Time.", buckets=(0.1, 0.25, 1))
        for value in (0.05, 0.1, 0.2, 0.25, 0.3, 1.0, 1.0001, 5_000):
            seconds.observe(value)
        text = rendered(m)

    lines = [line for line in text.splitlines() if line.startswith("job_seconds")]
    assert lines == [
        'job_seconds_bucket{le="0.1"} 2.0',
        'job_seconds_bucket{le="0.25"} 4.0',
        'job_seconds_bucket{le="1.0"} 6.0',
        'job_seconds_bucket{le="+Inf"} 8.0',
        "job_seconds_count 8.0",
        f"job_seconds_sum {0.05 + 0.1 + 0.2 + 0.25 + 0.3 + 1.0 + 1.0001 + 5_000}",
    ]


def test_openmetrics_ends_in_eof_once() -> None:
    """Cells, processes and the app's own metrics are one exposition."""
    with use() as m:
        m.counter("jobs_total", "Jobs.").inc()
        openmetrics, classic = rendered(m, openmetrics=True), rendered(m)

    assert openmetrics.endswith("\n# EOF\n")
    assert openmetrics.count("# EOF") == 1
    assert "# EOF" not in classic
    assert classic.endswith("\n")


def test_a_counters_family_loses_its_suffix_in_openmetrics_only() -> None:
    """The family is ``jobs`` there, and ``jobs_total`` in the classic text; the sample is ``jobs_total`` in both."""
    with use() as m:
        m.counter("jobs_total", "Jobs.").inc()

        assert "# TYPE jobs_total counter\njobs_total 1.0\n" in rendered(m)
        assert "# TYPE jobs counter\njobs_total 1.0\n" in rendered(m, openmetrics=True)


@FORMATS
def test_an_empty_service_has_a_readable_exposition(openmetrics: bool) -> None:
    """Before the first count there is something to scrape, and it parses."""
    with use() as m:
        families = parsed(rendered(m, openmetrics).encode(), openmetrics)

    assert families["monitoring_series"][2] == [("monitoring_series", (), "0.0")]


def test_remembered_strings_are_bounded_and_right_when_they_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service whose labels change for days does not fill the memory with them."""
    monkeypatch.setattr(exposition_module, "_SERIES_REMEMBERED", 10)
    rendering = Exposition()
    for number in range(40):
        text = rendering.render(totals_of("Jobs.", [str(number), "same"]), openmetrics=False).decode()
        assert f'jobs_total{{kind="{number}"}} 1.5\n' in text
        assert 'jobs_total{kind="same"} 1.5\n' in text
        assert len(rendering._prefixes) <= 10


def test_a_metric_that_was_declared_anew_is_not_written_with_its_former_labels() -> None:
    """Strings that were remembered for one declaration do not serve another of the same name and values."""
    rendering = Exposition()
    before = Declaration(name="level", kind="gauge", help="Level.", labels=("old",))
    after = Declaration(name="level", kind="gauge", help="Level.", labels=("new",))
    texts = []
    for declaration in (before, after):
        totals = Totals()
        totals.metric(declaration).series["x",] = Total(1.0)
        texts.append(rendering.render(totals, openmetrics=False).decode())

    assert 'level{old="x"} 1.0' in texts[0]
    assert 'level{new="x"} 1.0' in texts[1]


def test_a_histogram_that_was_declared_anew_is_not_written_with_its_former_buckets() -> None:
    """A rolling reload that changes the buckets changes the bounds that are written, too."""
    rendering = Exposition()
    texts = []
    for le in ((0.5, 1.0), (0.25, 1.0), (2.0,)):
        declaration = Declaration(name="nap_seconds", kind="histogram", help="Naps.", labels=("kind",), le=le)
        totals = Totals()
        totals.metric(declaration).series["x",] = Total(1.0)
        texts.append(rendering.render(totals, openmetrics=False).decode())
    bounds = [re.findall(r'nap_seconds_bucket{kind="x",le="(.*?)"}', text) for text in texts]

    assert bounds == [["0.5", "1.0", "+Inf"], ["0.25", "1.0", "+Inf"], ["2.0", "+Inf"]]


# Which format


PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
PROMETHEUS_CLASSIC = "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"


@pytest.mark.parametrize(
    ("accept", "openmetrics"),
    [
        ("", False),
        ("*/*", False),
        ("text/html,application/xhtml+xml,*/*;q=0.8", False),
        (PROMETHEUS_3, True),
        (PROMETHEUS_CLASSIC, False),
        ("application/openmetrics-text", True),
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", True),
        ("application/openmetrics-text,text/plain", True),
        ("text/plain,application/openmetrics-text", True),
        ("text/plain;q=0.9,application/openmetrics-text;q=0.1", False),
        ("text/plain;q=0.1, application/openmetrics-text;q=0.9", True),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=0,text/plain;q=0", False),
        ("application/openmetrics-text ; q=0.5 , text/plain ; q=0.4", True),
        ("application/openmetrics-text;q=much", False),
        ("APPLICATION/OpenMetrics-Text", True),
        ("application/openmetrics-text;Q=0.2,text/plain;q=0.4", False),
        (",;,=,;q=", False),
        ("application/openmetrics-text-but-not", False),
    ],
)
def test_the_format_is_the_one_that_the_scraper_prefers(accept: str, openmetrics: bool) -> None:
    """OpenMetrics for who asks for it at least as much as for text, classic text for everybody else."""
    assert wants_openmetrics(accept) is openmetrics


# What the app registered with prometheus_client


@contextmanager
def registered(*collectors: Any) -> Iterator[None]:
    """Take collectors out of the library's registry after the block."""
    try:
        yield
    finally:
        for collector in collectors:
            REGISTRY.unregister(collector)


@FORMATS
def test_the_apps_own_prometheus_metrics_come_out(openmetrics: bool) -> None:
    """What was registered with the library is in the same scrape, as it stands."""
    counter = prometheus_client.Counter("library_jobs", "The library's jobs.", ["kind"])
    summary = prometheus_client.Histogram("library_seconds", "The library's time.", buckets=(1, 2))
    with registered(counter, summary), use() as m:
        counter.labels('a "b"').inc(3)
        summary.observe(1.5)
        families = parsed(rendered(m, openmetrics).encode(), openmetrics)

    assert families["library_jobs"][0] == "counter"
    assert ("library_jobs_total", (("kind", 'a "b"'),), "3.0") in families["library_jobs"][2]
    assert ("library_seconds_bucket", (("le", "2.0"),), "1.0") in families["library_seconds"][2]


def test_a_metric_of_the_apps_called_like_a_process_comes_out() -> None:
    """Only the library's own process metrics are replaced by ours, which know all workers."""
    gauge = prometheus_client.Gauge("process_orders", "Orders in process.")
    with registered(gauge), use() as m:
        gauge.set(7)

        assert "\nprocess_orders 7.0\n" in rendered(m)


def test_a_collector_of_the_apps_that_fails_does_not_cost_the_cells() -> None:
    """Somebody else's bug is no reason to be blind."""

    class Broken:
        def collect(self) -> Iterator[Metric]:
            raise RuntimeError("database gone")
            yield

        def describe(self) -> list[Metric]:
            return []

    broken = Broken()
    REGISTRY.register(broken)
    with registered(broken), use() as m:
        m.counter("jobs_total", "Jobs.").inc()

        assert "jobs_total 1.0" in rendered(m)


def test_one_worker_needs_no_worker_label(tmp_path: Path) -> None:
    """Alone, the library's numbers are the service's."""
    counter = prometheus_client.Counter("library_alone", "The library's jobs.")
    with registered(counter), use(cells_folder=str(tmp_path / "cells")) as m:
        counter.inc()
        m.counter("jobs_total", "Jobs.").inc()

        assert "\nlibrary_alone_total 1.0\n" in rendered(m)


@FORMATS
def test_with_several_workers_the_library_s_numbers_carry_whose_they_are(tmp_path: Path, openmetrics: bool) -> None:
    """They are the answering process's only, which a worker label says; cells need none."""
    counter = prometheus_client.Counter("library_shared", "The library's jobs.", ["kind"])
    with registered(counter), use(cells_folder=str(tmp_path / "cells")) as m:
        jobs = m.counter("jobs_total", "Jobs.")
        jobs.inc()
        counter.labels("a").inc()
        with child(lambda: jobs.inc(10)):
            several = rendered(m, openmetrics)
        alone = rendered(m, openmetrics)

    assert f'library_shared_total{{kind="a",worker="{os.getpid()}"}} 1.0\n' in several
    assert 'library_shared_total{kind="a"} 1.0\n' in alone
    assert "\njobs_total 11.0\n" in several
    assert "\njobs_total 11.0\n" in alone


@FORMATS
def test_what_processes_use_is_told_for_each_living_worker(tmp_path: Path, openmetrics: bool) -> None:
    """Memory, CPU time, threads and descriptors of every worker, whoever answers; none of the dead."""
    with use(cells_folder=str(tmp_path / "cells")) as m:
        jobs = m.counter("jobs_total", "Jobs.")
        jobs.inc()

        def work() -> int:
            jobs.inc()
            return os.getpid()

        with child(work) as pid:
            several = parsed(rendered(m, openmetrics).encode(), openmetrics)
        alone = parsed(rendered(m, openmetrics).encode(), openmetrics)

    for family, sample in (
        ("process_cpu_seconds", "process_cpu_seconds_total"),
        ("process_resident_memory_bytes", "process_resident_memory_bytes"),
        ("process_threads", "process_threads"),
        ("process_open_fds", "process_open_fds"),
        ("process_start_time_seconds", "process_start_time_seconds"),
    ):
        workers = {labels for name, labels, _ in several[family][2] if name == sample}
        assert workers == {(("worker", str(os.getpid())),), (("worker", str(pid)),)}, family
        assert [labels for _, labels, _ in alone[family][2]] == [(("worker", str(os.getpid())),)], family


def test_a_worker_that_ended_just_now_is_left_out() -> None:
    """Between the sum and the look at its process a worker may be gone; the scrape goes on."""
    totals = Totals(living=[Header(os.getpid(), 0.0, "", ""), Header(2**22 + 1, 0.0, "", "")])
    text = Exposition().render(totals, openmetrics=False).decode()

    assert text.count("process_threads{") == 1


MULTIPROCESS = """
import os, sys
import prometheus_client
from monitoring.exposition import Exposition
from monitoring.testing import use
from tests.cells.support import child, run_program
jobs = prometheus_client.Counter("library_jobs", "The library's jobs.", ["kind"])
with use(cells_folder=sys.argv[1]) as m:
    own = m.counter("own_total", "Own.")
    own.inc()
    jobs.labels("a").inc()
    def work():
        jobs.labels("a").inc(10)
        own.inc(10)
    with child(work):
        for openmetrics in (False, True):
            sys.stdout.write(Exposition().render(m.metrics.totals_with_state(), openmetrics=openmetrics).decode())
"""


def test_the_librarys_own_multiprocess_mode_is_used_where_it_is_on(tmp_path: Path) -> None:
    """With PROMETHEUS_MULTIPROC_DIR its numbers are summed over the workers by the library, so they need no label."""
    (tmp_path / "library").mkdir()
    run = run_program(MULTIPROCESS, str(tmp_path / "cells"), PROMETHEUS_MULTIPROC_DIR=str(tmp_path / "library"))

    assert run.returncode == 0, run.stderr
    assert run.stdout.count('library_jobs_total{kind="a"} 11.0\n') == 2, run.stdout
    assert run.stdout.count("own_total 11.0\n") == 2
    assert "worker" not in "".join(line for line in run.stdout.splitlines() if line.startswith("library_"))
