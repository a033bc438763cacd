"""Reading: whatever lies in the folder, a read never raises and the readable part is right; and it is cheap."""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from monitoring import exposition
from monitoring.cells import CellFolder, CellReader, CellRegistry, Declaration, layout, scale

from .conftest import Join
from .support import (
    HEADER,
    JOBS,
    QUEUE,
    SECONDS,
    cell_files,
    count,
    deadline,
    die,
    metric,
    observe,
    read,
    samples,
    value,
    write_file,
    write_jobs_and_seconds,
)


@pytest.fixture
def healthy(join: Join) -> CellRegistry:
    """Return a living process that counted 100 jobs and 10 samples under the names that broken files use too."""
    registry = join()
    count(registry, 100)
    for _ in range(10):
        observe(registry, 0.02)
    return registry


@contextmanager
def file_of(folder: Path, image: bytes, *, alive: bool) -> Iterator[None]:
    """Put a file into the folder as a process, living or dead, left it."""
    path = folder / "99-broken.cells"
    path.write_bytes(image)
    fd = os.open(path, os.O_RDWR)
    try:
        if alive:
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
        for leftover in (path, path.with_suffix(".unreadable")):
            leftover.unlink(missing_ok=True)
        for name in cell_files(folder):
            if name.startswith("retired-"):
                (folder / name).unlink()


@pytest.fixture
def cells_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out of a rendering what does not come from the cells; it costs more than they do."""
    monkeypatch.setattr(exposition, "_process_families", lambda workers: iter(()))
    monkeypatch.setattr(exposition, "REGISTRY", CollectorRegistry())


def scrape_all(registry: CellRegistry) -> None:
    """Read and render as a scrape does; a scraper must understand every line."""
    text = exposition.Exposition().render(CellReader(registry).read(), openmetrics=False).decode()
    assert {"jobs", "job_seconds"} <= {family.name for family in text_string_to_metric_families(text)}


def broken_image(tmp_path: Path) -> tuple[bytes, int]:
    """Return the bytes of a good file to break, and how many of them are used."""
    image = write_file(tmp_path / "good", write_jobs_and_seconds)
    used = max(position for position, byte in enumerate(image) if byte) + 1
    return image, used


@pytest.mark.usefixtures("cells_alone")
@pytest.mark.parametrize(("alive", "flip", "step"), [(True, 0x01, 1), (False, 0x80, 3)], ids=["living", "dead"])
def test_a_file_with_any_byte_changed_never_breaks_a_scrape(
    folder: Path, tmp_path: Path, healthy: CellRegistry, alive: bool, flip: int, step: int
) -> None:
    """The bytes of a file changed in turn: every read and every rendering succeeds, next to a healthy process."""
    image, used = broken_image(tmp_path)
    told: dict[int, str] = {}
    for position in range(0, used, step):
        broken = bytearray(image)
        broken[position] ^= flip
        with file_of(folder, bytes(broken), alive=alive):
            try:
                scrape_all(healthy)
            except Exception as error:
                told[position] = f"{type(error).__name__}: {error}"

    kinds = sorted({told_one.partition(":")[0] for told_one in told.values()})
    assert not told, (
        f"{len(told)} of {used} bytes break a scrape with {kinds}, for example {dict(list(told.items())[:4])}"
    )


@pytest.mark.usefixtures("cells_alone")
@pytest.mark.parametrize("alive", [True, False], ids=["living", "dead"])
def test_a_file_cut_anywhere_never_breaks_a_scrape(
    folder: Path, tmp_path: Path, healthy: CellRegistry, alive: bool
) -> None:
    """Lengths that no writer leaves, odd ones too."""
    image, used = broken_image(tmp_path)
    told: dict[int, str] = {}
    for length in [*range(0, used + 9, 7), layout.CHUNK - 1, layout.CHUNK + 1, layout.CHUNK + 8]:
        with file_of(folder, (image + bytes(64))[:length], alive=alive):
            try:
                scrape_all(healthy)
            except Exception as error:
                told[length] = f"{type(error).__name__}: {error}"

    assert not told, told


RECORDS: dict[str, tuple[bytes, bytes]] = {
    "a declaration that is no object": (b"[1]", b'["a"]'),
    "a declaration of another shape": (b'{"name": "jobs_total"}', b'["a"]'),
    "an unknown kind": (JOBS.to_json().replace(b"counter", b"meter"), b'["a"]'),
    "an unknown merge": (JOBS.to_json().replace(b'"sum"', b'"avg"'), b'["a"]'),
    "an unknown unit": (SECONDS.to_json().replace(b'"unit": "seconds"', b'"unit": "minutes"'), b'["a"]'),
    "values that are no list": (JOBS.to_json(), b"17"),
    "values that are no text": (JOBS.to_json(), b"[17]"),
    "values inside values": (JOBS.to_json(), b'[["a"]]'),
    "too many values": (JOBS.to_json(), b'["a", "b"]'),
    "too few values": (JOBS.to_json(), b"[]"),
    "a text that is none": (JOBS.to_json(), b"\xff\xfe"),
}


@pytest.mark.parametrize("alive", [True, False], ids=["living", "dead"])
@pytest.mark.parametrize("what", RECORDS)
def test_a_record_that_says_nonsense_costs_its_file_and_nothing_else(
    folder: Path, tmp_path: Path, healthy: CellRegistry, what: str, alive: bool
) -> None:
    """A well-formed record with a text that no writer leaves makes its file unreadable: skipped, and counted."""
    declared, values = RECORDS[what]

    def write(file: layout.CellFile) -> None:
        declaration = file.append(layout.DECLARATION, text=declared)
        file.append(layout.SERIES, text=values, cells=1, parent=declaration.offset).cells[0] = 5.0

    with file_of(folder, write_file(tmp_path / "odd", write), alive=alive):
        totals = read(healthy)
        scrape_all(healthy)

    assert value(totals) == 100
    assert totals.unreadable == 1


@pytest.mark.parametrize("alive", [True, False], ids=["living", "dead"])
@pytest.mark.parametrize("kind", [layout.SERIES, layout.PAGE])
def test_a_record_of_an_unknown_parent_costs_its_file_and_nothing_else(
    folder: Path, tmp_path: Path, healthy: CellRegistry, kind: int, alive: bool
) -> None:
    """Records that refer to nothing cannot be counted."""
    image = write_file(
        tmp_path / "odd", lambda file: file.append(kind, text=b'["a"]', cells=scale.PAGE, parent=12_345) and None
    )
    with file_of(folder, image, alive=alive):
        totals = read(healthy)

    assert (value(totals), totals.unreadable) == (100, 1)


def test_an_unreadable_living_file_is_counted_and_stays(folder: Path, healthy: CellRegistry) -> None:
    """A living process's file is not taken away from it, and monitoring_cell_files_unreadable shows it once."""
    with file_of(folder, b"\xff" * layout.CHUNK, alive=True):
        reader = CellReader(healthy)
        assert [reader.read().unreadable for _ in range(3)] == [1, 1, 1]
        assert "99-broken.cells" in cell_files(folder)


@pytest.mark.parametrize("thing", ["folder", "symlink", "odd name", "dangling link"])
def test_odd_things_in_the_folder_never_break_a_read(
    folder: Path, join: Join, healthy: CellRegistry, tmp_path: Path, thing: str
) -> None:
    """Something of another kind among the files is passed over, also while the dead are folded."""
    odd = folder / ("retired-latest.cells" if thing == "odd name" else "7-odd.cells")
    if thing == "folder":
        odd.mkdir()
    elif thing == "odd name":
        odd.write_bytes(b"notes")
    else:
        odd.symlink_to(tmp_path / ("missing" if thing == "dangling link" else ""))
    dying = join()
    count(dying, 5)
    die(dying)

    assert value(read(healthy)) == 105
    late = join()
    count(late, 1)
    assert value(read(healthy)) == 106


def test_a_folder_that_somebody_removed_breaks_neither_counting_nor_scrapes(
    folder: Path, join: Join, healthy: CellRegistry
) -> None:
    """A clean-up of shared memory (systemd's RemoveIPC, for one) costs the sharing, not the app or the scrape."""
    reader = CellReader(healthy)
    reader.read()
    shutil.rmtree(folder)
    count(healthy, 1)
    observe(healthy, 0.5, kind="new")

    assert value(reader.read()) == 101
    late = join()
    count(late, 5)
    assert value(read(late)) >= 5


def test_releases_of_an_app_whose_declarations_differ_are_not_mixed(folder: Path, join: Join, tmp_path: Path) -> None:
    """A rolling reload may change a metric's labels or buckets: no sample comes out twice or in a wrong bucket."""
    old_jobs = Declaration(name="jobs_total", kind="counter", help="Jobs done.", labels=("kind", "queue"))
    old_seconds = Declaration(
        name="job_seconds", kind="histogram", help="Time.", labels=("kind",), le=(0.0111, 0.0222, 0.0333, 0.5)
    )
    old, new = join(), join()
    for queue in ("x", "y"):
        cell = old.series(old_jobs, ("a", queue)).cell
        assert cell is not None
        cell[0] = 5.0
    for _ in range(8):
        observe(old, 0.4, declaration=old_seconds)
    count(new, 1)
    observe(new, 0.4)
    totals = read(new)
    jobs, seconds = metric(totals), metric(totals, SECONDS)
    bounds = scale.fine_bounds(seconds.declaration.unit, seconds.declaration.le)

    assert all(len(values) == len(jobs.declaration.labels) for values in jobs.series)
    assert scale.quantile(bounds, seconds.series["a",].counts(), 0.5) == pytest.approx(0.4, rel=0.02)


@pytest.mark.parametrize(("merge", "expected"), [("sum", 7.0), ("max", 4.0), ("min", 1.0)])
def test_gauges_of_living_processes_are_merged_as_declared(join: Join, merge: str, expected: float) -> None:
    """Sum, largest or smallest over those who live."""
    gauge = Declaration(name="depth", kind="gauge", help="Depth.", labels=("kind",), merge=merge)  # type: ignore[arg-type]
    registries = [join() for _ in range(4)]
    for amount, registry in zip((1.0, 2.0, 4.0, 100.0 if merge != "min" else -100.0), registries):
        count(registry, amount, declaration=gauge)
    die(registries[-1])

    assert value(read(registries[0]), gauge) == expected


def test_a_series_of_many_chunks_is_read_in_memory_as_on_disk(join: Join) -> None:
    """The way through a folder and the way through a process's own memory find the same."""
    on_disk, in_memory = join(max_label_values=2_000), CellRegistry(max_label_values=2_000)
    for registry in (on_disk, in_memory):
        for number in range(1_500):
            count(registry, number, kind=f"{number:0100d}")
            observe(registry, number / 100, kind=str(number % 50))
    seen = [read(registry) for registry in (on_disk, in_memory)]

    assert len(on_disk.own_files()[0].chunks) > 3
    assert metric(seen[0]).series == metric(seen[1]).series
    assert metric(seen[0], SECONDS).series == metric(seen[1], SECONDS).series


def test_names_and_values_of_any_script_come_back(join: Join) -> None:
    """Label values are text, whatever the text; what cannot be encoded does no harm."""
    registry = join()
    kinds = ["", "Zürich", "数据", "🦔", 'say "hi"', "back\\slash", "two\nlines", "\x00", "a\ud800b"]
    for kind in kinds:
        count(registry, kind=kind)
    series = metric(read(registry)).series

    assert set(series) == {(kind,) for kind in kinds[:-1]} | {("a?b",)}
    assert value(read(registry)) == len(kinds)


def test_a_scrape_of_600_histograms_over_8_workers_is_summed_within_its_budget(folder: Path, join: Join) -> None:
    """Sums in 100 ms and costs at most 3 MB of shared memory a process."""
    workers = [join() for _ in range(8)]
    for worker in workers:
        for kind in range(500):
            for power in range(4):
                observe(worker, 0.005 * 2**power, kind=str(kind))
        for kind in range(100):
            observe(worker, 0.005, kind=str(kind), declaration=OTHER_SECONDS)
    reader = CellReader(workers[0])
    reader.read()
    took = []
    for _ in range(5):
        started = time.perf_counter()
        totals = reader.read()
        took.append(time.perf_counter() - started)
    largest = max((folder / name).stat().st_size for name in cell_files(folder))

    assert samples(totals) == 8 * 500 * 4
    assert len(metric(totals, SECONDS).series) + len(metric(totals, OTHER_SECONDS).series) == 600
    assert largest <= 3_000_000
    assert min(took) <= 0.1, took


OTHER_SECONDS = Declaration(
    name="other_seconds", kind="histogram", help="Other times.", labels=("kind",), le=scale.HTTP_SECONDS
)


def test_a_reader_reads_on_from_where_it_was(folder: Path, join: Join) -> None:
    """A living file is parsed once; the next read looks only at what was appended since."""
    registry = join(max_label_values=2_000)
    for kind in range(1_000):
        count(registry, kind=str(kind))
    reader = CellReader(registry)
    reader.read()
    count(registry, 7, kind="late")
    with pytest.MonkeyPatch.context() as patched:
        parsed: list[layout.Record] = []
        read_records = layout.read_records

        def counting(*args: object) -> Iterator[layout.Record]:
            for record in read_records(*args):  # type: ignore[arg-type]
                parsed.append(record)
                yield record

        patched.setattr(layout, "read_records", counting)
        totals = reader.read()

    assert metric(totals).series["late",].value == 7
    assert len(parsed) == 1


def test_a_file_is_never_read_with_what_was_known_of_another(join: Join, supervised: Callable[[str], None]) -> None:
    """The retired file of a new generation may have the name of a former one's; a reader that knew that one notices."""
    watcher, dying = join(), join()
    count(watcher, 0)
    for kind in range(400):
        count(dying, kind=f"{kind:0150d}")
    die(dying)
    reader = CellReader(watcher)
    before = value(reader.read())
    die(watcher)
    restarted, dying = join(), join()
    count(restarted, 1)
    count(dying, 10, kind="b")
    die(dying)
    after = value(read(restarted))

    assert (before, after) == (400, 11)
    assert value(reader.read()) == 11


def test_readers_in_many_threads_agree(join: Join, healthy: CellRegistry) -> None:
    """One reader may be asked from several threads at once."""
    reader, seen = CellReader(healthy), []
    threads = [threading.Thread(target=lambda: seen.append(value(reader.read()))) for _ in range(8)]
    with deadline(10):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert seen == [100] * 8


def test_the_living_are_listed_with_their_headers(join: Join, healthy: CellRegistry) -> None:
    """Who was counted as living is known: each with its pid and one generation, the dead left out."""
    second, dead = join(), join()
    count(second, 1)
    count(dead, 1, declaration=QUEUE)
    die(dead)
    living = read(healthy).living

    assert [header.pid for header in living] == [os.getpid()] * 2
    assert len({header.generation for header in living}) == 1
    assert HEADER not in living
    assert CellFolder(healthy.folder().path).files()  # type: ignore[union-attr]
