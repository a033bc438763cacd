"""Generations: a restarted service starts at zero, a respawned worker joins what is there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from monitoring.cells import CellFolder, layout
from monitoring.cells import folder as folder_module

from .conftest import Join
from .support import Forked, cell_files, child, count, die, in_child, metric, read, run_program, sharing, value

Supervise = Callable[[str], None]

pytestmark = pytest.mark.usefixtures("supervised")


def generations(folder: Path) -> set[str]:
    """Return the generations that the files of a folder name."""
    return {layout.read_header(folder_module.map_file(folder / name)).generation for name in cell_files(folder)}


def test_the_first_process_with_nobody_alive_starts_at_zero_and_clears_the_old(folder: Path, join: Join) -> None:
    """A restart of the service is one clean counter reset; labels of the dead do not pile up."""
    for kind in ("old", "older"):
        before = join()
        count(before, 5, kind=kind)
        die(before)
    old = cell_files(folder)
    restarted = join()
    count(restarted, 1, kind="new")

    assert list(metric(read(restarted)).series) == [("new",)]
    assert not set(old) & set(cell_files(folder))


def test_a_restarted_service_reads_zero_before_its_first_count(join: Join) -> None:
    """Who only reads does not see the numbers of the service's former life."""
    before = join()
    count(before, 5)
    die(before)

    assert value(read(join())) == 0


def test_a_service_that_stopped_in_good_order_leaves_nothing_behind(folder: Path, join: Join) -> None:
    """The last process to release its files empties the folder: no numbers wait in shared memory for a next start."""
    first, second = join(), join()
    count(first, 1)
    count(second, 2)
    first.release()
    during = value(read(second))
    second.release()

    assert during == 3
    assert cell_files(folder) == []


def test_processes_join_while_anybody_lives(join: Join) -> None:
    """A rolling restart is no reset: counts of those who left stay as long as somebody holds on."""
    first, second = join(), join()
    count(first, 1)
    count(second, 10)
    die(first)
    third = join()
    count(third, 100)
    die(second)

    assert value(read(third)) == 111
    assert value(read(join())) == 111


def test_a_worker_that_the_same_server_respawned_joins_even_alone(join: Join, supervised: Supervise) -> None:
    """The only worker was killed: the one that its server starts instead goes on counting where it stood."""
    supervised("100:1.00")
    only = join()
    count(only, 5)
    die(only)
    respawned = join()
    count(respawned, 1)

    assert value(read(respawned)) == 6


def test_workers_of_another_server_start_at_zero(join: Join, supervised: Supervise) -> None:
    """A new server is a new generation, even if it was given the old one's pid."""
    supervised("100:1.00")
    only = join()
    count(only, 5)
    die(only)
    supervised("100:2.00")
    restarted = join()
    count(restarted, 1)

    assert value(read(restarted)) == 1


def test_a_respawned_worker_joins_what_is_folded_already(folder: Path, join: Join, supervised: Supervise) -> None:
    """Folding keeps the server's name: with nothing left but the retired file, the next worker still joins."""
    supervised("100:1.00")
    first, second = join(), join()
    count(first, 1)
    count(second, 10)
    die(first)
    read(second)
    die(second)
    third = join()
    count(third, 100)
    die(third)
    fourth = join()

    assert value(read(fourth)) == 111


def test_a_worker_that_leaves_in_good_order_does_not_reset_its_server(join: Join, supervised: Supervise) -> None:
    """A recycled worker (--max-requests) releases its files; alone or not, it takes no counts with it."""
    supervised("100:1.00")
    only = join()
    count(only, 5)
    only.release()
    next_one = join()
    count(next_one, 1)

    assert value(read(next_one)) == 6


def test_real_forked_workers_know_their_server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Children of one process, killed one after the other, are respawned workers to each other."""
    monkeypatch.undo()
    totals = []
    for _ in range(3):

        def work() -> float:
            registry = sharing(folder)
            count(registry, 1)
            return value(read(registry))

        totals.append(in_child(work))

    assert totals == [1, 2, 3]


def test_a_program_started_again_starts_at_zero(folder: Path) -> None:
    """Two runs of one program, one after the other, are two generations."""
    program = (
        "import os, sys; from pathlib import Path; from tests.cells.support import count, read, sharing, value\n"
        "registry = sharing(Path(sys.argv[1])); count(registry, 5); print(value(read(registry)), flush=True)\n"
        "os._exit(0)"
    )
    runs = [run_program(program, str(folder)) for _ in range(2)]

    assert [run.stdout.strip() for run in runs] == ["5.0", "5.0"], runs[0].stderr


def test_processes_that_start_at_the_same_moment_agree_on_one_generation(folder: Path, join: Join) -> None:
    """Eight processes meet the files of a dead service at once: one clears them, and nobody clears another's counts."""
    before = join()
    count(before, 1_000)
    die(before)
    gate, opened = os.pipe()

    def start() -> None:
        os.read(gate, 1)
        count(sharing(folder), 1)

    children = [Forked(start) for _ in range(8)]
    try:
        os.write(opened, b"x" * len(children))
        for each in children:
            each.answer()
        observer = join()
        assert value(read(observer)) == 8
        assert len(generations(folder)) == 1
    finally:
        for each in children:
            each.kill()
        os.close(gate)
        os.close(opened)


def test_a_living_process_whose_file_does_not_parse_still_lives(folder: Path, join: Join) -> None:
    """A worker that runs with another layout, or whose file went bad, does not cost the others their counts."""
    first, second = join(), join()
    count(first, 5)
    count(second, 1)
    living = [file.path for file in CellFolder(folder).files() if file.alive]
    die(first)
    read(second)
    (bad,) = [path for path in living if path.exists()]
    image = bytearray(bad.read_bytes())
    image[8] ^= 0xFF
    with bad.open("r+b") as file:
        file.write(image[:64])
    third = join()
    count(third, 1)

    assert bad.exists()
    assert value(read(third)) >= 6


def test_a_header_that_is_no_text_does_not_keep_others_from_starting(folder: Path, join: Join) -> None:
    """Whatever stands in a dead file's header, the next process joins and counts in the folder."""
    said: list[str] = []
    first, second = join(), join(on_degraded=said.append)
    count(first, 5)
    (name,) = cell_files(folder)
    with (folder / name).open("r+b") as file:
        file.seek(44)
        file.write(b"\xff\xfe")
    die(first)
    count(second, 1)

    assert said == []
    assert value(read(second)) == 1


def test_a_child_process_of_the_user_joins_its_parent(folder: Path, join: Join) -> None:
    """A pool's processes add to the service that started them, and leave their counts with it."""
    registry = join()
    count(registry, 1)
    with child(lambda: count(registry, 10)):
        pass

    assert value(read(registry)) == 11
    assert len(generations(folder)) == 1
