"""The file: a torn tail is ignored wherever it tears, what is corrupt says so, growing keeps what was handed out."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from monitoring.cells import layout, scale
from monitoring.cells.layout import CHUNK, HEADER_SIZE, Appended, CellFile, CorruptFile, Record
from monitoring.cells.sums import FileIndex

from .support import HEADER, JOBS, write_jobs_and_seconds

Append = Callable[[CellFile], Appended]

APPENDS: dict[str, Append] = {
    "declaration": lambda file: file.append(layout.DECLARATION, text=JOBS.to_json()),
    "series": lambda file: file.append(layout.SERIES, text=b'["a label set", "of two"]', cells=1, parent=HEADER_SIZE),
    "page": lambda file: file.append(layout.PAGE, cells=scale.PAGE, parent=HEADER_SIZE, page=7),
    "source": lambda file: file.append(layout.SOURCE, text=b"4711-0123456789ab.cells"),
}


@pytest.fixture
def file() -> CellFile:
    """Return an empty file in memory."""
    return CellFile(None, HEADER)


@pytest.fixture
def on_disk(tmp_path: Path) -> Iterator[tuple[CellFile, Path]]:
    """Return an empty file on disk and its path."""
    path = tmp_path / "1.cells"
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    file = CellFile(fd, HEADER)
    yield file, path
    file.close()


def image_of(file: CellFile) -> bytes:
    """Return the bytes of a file in memory."""
    return b"".join(bytes(chunk) for chunk in file.chunks)


def mapped(image: bytes) -> mmap.mmap:
    """Return bytes as a map, which is what readers get."""
    buffer = mmap.mmap(-1, max(len(image), 1))
    buffer[: len(image)] = image
    return buffer


def records_of(image: bytes) -> list[Record]:
    """Return the committed records of a file's bytes."""
    return list(layout.read_records(mapped(image), HEADER_SIZE))


def grown(append: Append) -> tuple[bytes, list[Record], int]:
    """Return a file to which a record was just appended, the records before it, and where it starts."""
    file = CellFile(None, HEADER)
    APPENDS["declaration"](file)
    APPENDS["series"](file).cells[0] = 3.5
    before = records_of(image_of(file))
    return image_of(file), before, append(file).offset


@pytest.mark.parametrize("kind", APPENDS)
def test_a_record_that_tears_at_any_byte_is_ignored(kind: str) -> None:
    """Killed after any byte of an append, the writer leaves all earlier records, and nothing that reads as corrupt."""
    _, before, start = grown(APPENDS[kind])
    file = CellFile(None, HEADER)
    APPENDS["declaration"](file)
    APPENDS["series"](file)
    APPENDS[kind](file)
    image = image_of(file)
    end = records_of(image)[-1].end
    told: dict[int, object] = {}
    for torn_at in range(start, end):
        torn = image[:torn_at] + bytes(len(image) - torn_at)
        try:
            if torn != image and records_of(torn) != before:
                told[torn_at - start] = "other records than those before"
        except CorruptFile as error:
            told[torn_at - start] = error

    assert start == before[-1].end
    assert not told, f"torn after {len(told)} of {end - start} bytes of a {kind}: {told}"


@pytest.mark.parametrize("kind", APPENDS)
def test_a_record_whose_text_is_there_before_its_size_is_ignored(kind: str) -> None:
    """The writer stores the text first; killed then, it has left bytes that no record owns."""
    file = CellFile(None, HEADER)
    APPENDS["declaration"](file)
    before = records_of(image_of(file))
    start = before[-1].end
    APPENDS[kind](file)
    image = bytearray(image_of(file))
    end = records_of(bytes(image))[-1].end
    image[start : start + 16] = bytes(16)
    image[end - 8 : end] = bytes(8)

    assert records_of(bytes(image)) == before


def test_a_file_cut_at_any_byte_reads_as_a_prefix() -> None:
    """A file that was cut, as a crash may leave one on a disk, yields earlier records or none, never others."""
    file = CellFile(None, HEADER)
    write_jobs_and_seconds(file)
    image = image_of(file)
    whole = records_of(image)
    for length in range(HEADER_SIZE, whole[-1].end + 1):
        found = list(layout.read_records(mapped(image[:length]), HEADER_SIZE))
        assert found == whole[: len(found)], length


def test_a_record_torn_at_one_look_is_read_at_the_next() -> None:
    """An index that met a living writer in the middle of an append finds the record when it is committed."""
    file = CellFile(None, HEADER)
    APPENDS["declaration"](file)
    committed = image_of(file)
    start = records_of(committed)[-1].end
    file.append(layout.SERIES, text=b'["a"]', cells=1, parent=HEADER_SIZE)
    image = bytearray(image_of(file))
    end = records_of(bytes(image))[-1].end
    torn = bytes(image[: end - 8]) + bytes(CHUNK - end + 8)
    index = FileIndex()
    index.parse(mapped(torn))
    found_torn = len(index.scalars)
    index.parse(mapped(bytes(image)))

    assert (found_torn, list(index.scalars)) == (0, [start])


def test_a_header_that_tears_at_any_byte_is_unfinished_or_corrupt() -> None:
    """A process killed while it starts leaves a file that is known to hold no counts; nothing else comes of it."""
    image = image_of(CellFile(None, HEADER))
    for torn_at in range(HEADER_SIZE):
        torn = mapped(image[:torn_at] + bytes(CHUNK - torn_at))
        if not layout.is_unfinished(torn):
            with suppress(CorruptFile):
                layout.read_header(torn)
    assert layout.is_unfinished(bytes(CHUNK))
    assert layout.is_unfinished(image[: HEADER_SIZE - 1])
    assert layout.is_unfinished(b"")


def test_the_header_comes_back_as_it_was_written(file: CellFile) -> None:
    """Process, start, generation and supervisor survive the way through the file."""
    assert layout.read_header(mapped(image_of(file))) == HEADER


@pytest.mark.parametrize("position", range(20))
def test_a_header_of_another_magic_version_byte_order_or_scale_is_corrupt(file: CellFile, position: int) -> None:
    """A file of another layout or other bounds is never added to ours."""
    image = bytearray(image_of(file))
    image[position] ^= 0xFF

    with pytest.raises(CorruptFile, match=r"layout|header"):
        layout.read_header(mapped(bytes(image)))


@pytest.mark.parametrize("change", [{"size": 20}, {"size": 8}, {"size": CHUNK + 8}, {"kind": 0}, {"kind": 9}])
def test_a_committed_record_that_no_writer_can_have_left_is_corrupt(change: dict[str, int]) -> None:
    """A record in the middle of the file with an impossible size or kind is named with its place."""
    file = CellFile(None, HEADER)
    write_jobs_and_seconds(file)
    image = bytearray(image_of(file))
    size, kind, page, parent, text = struct.unpack_from("=IHHII", image, HEADER_SIZE)
    struct.pack_into(
        "=IHHII", image, HEADER_SIZE, change.get("size", size), change.get("kind", kind), page, parent, text
    )

    with pytest.raises(CorruptFile, match=f"byte {HEADER_SIZE}"):
        records_of(bytes(image))


def test_a_record_in_the_middle_without_its_commit_word_is_corrupt() -> None:
    """Only a tail can be torn: where records follow, a missing commit word must not hide them in silence."""
    file = CellFile(None, HEADER)
    write_jobs_and_seconds(file)
    image = bytearray(image_of(file))
    first_end = records_of(bytes(image))[0].end
    image[first_end - 8 : first_end] = b"\xff" * 8

    with pytest.raises(CorruptFile, match="commit"):
        records_of(bytes(image))


VALID = image_of(CellFile(None, HEADER))


@given(st.binary(max_size=400))
@example(VALID[:48] + b"\xff" * 100)
@settings(max_examples=300)
def test_a_header_of_any_bytes_is_read_or_corrupt(image: bytes) -> None:
    """Whatever stands in a file, reading its header raises nothing but CorruptFile."""
    with suppress(CorruptFile):
        layout.read_header(image)


@given(st.dictionaries(st.integers(20, HEADER_SIZE - 1), st.integers(0, 255), max_size=20))
@example({44: 0xFF})
@example({80: 0xC3})
@settings(max_examples=300)
def test_a_header_of_ours_with_any_bytes_changed_is_read_or_corrupt(changes: dict[int, int]) -> None:
    """Names of a generation or supervisor that are no text raise CorruptFile like everything else."""
    image = bytearray(VALID[:HEADER_SIZE])
    for position, byte in changes.items():
        image[position] = byte
    with suppress(CorruptFile):
        layout.read_header(bytes(image))


@given(st.binary(max_size=3_000))
@settings(max_examples=300)
def test_records_of_any_bytes_are_read_or_corrupt(noise: bytes) -> None:
    """Noise where the records belong raises nothing but CorruptFile, and never loops."""
    image = VALID[:HEADER_SIZE] + noise
    with suppress(CorruptFile):
        records_of(image + bytes(CHUNK - len(image)))


@given(st.data())
@settings(max_examples=300)
def test_records_with_any_bytes_changed_are_read_or_corrupt(data: Any) -> None:
    """A file of ours in which bytes were overwritten raises nothing but CorruptFile."""
    file = CellFile(None, HEADER)
    write_jobs_and_seconds(file)
    image = bytearray(image_of(file))
    end = records_of(bytes(image))[-1].end
    for position, byte in data.draw(
        st.dictionaries(st.integers(HEADER_SIZE, end), st.integers(0, 255), max_size=8)
    ).items():
        image[position] = byte
    with suppress(CorruptFile):
        records_of(bytes(image))


@given(st.lists(st.tuples(st.integers(0, 3_000), st.integers(0, 400)), max_size=120))
@settings(max_examples=60, deadline=None)
def test_records_never_straddle_a_chunk_and_all_come_back(sizes: list[tuple[int, int]]) -> None:
    """Texts and cells of any size lie whole in one chunk, aligned, in the order they were appended."""
    file = CellFile(None, HEADER)
    appended = [
        file.append(layout.SERIES, text=b"x" * text, cells=cells, parent=text, page=cells) for text, cells in sizes
    ]
    found = records_of(image_of(file))

    assert [(len(record.text), record.page, record.offset) for record in found] == [
        (text, cells, each.offset) for (text, cells), each in zip(sizes, appended)
    ]
    assert all(record.offset // CHUNK == (record.end - 1) // CHUNK for record in found)
    assert all(record.offset % 8 == 0 for record in found)


def test_growing_keeps_earlier_views_valid(on_disk: tuple[CellFile, Path]) -> None:
    """A cell handed out before the file grew by five chunks is still the cell that readers see."""
    file, path = on_disk
    first = file.append(layout.SERIES, text=b'["first"]', cells=1)
    first.cells[0] = 1.0
    while len(file.chunks) < 6:
        file.append(layout.PAGE, cells=scale.PAGE)
    first.cells[0] += 41.0
    buffer = mapped(path.read_bytes())
    record = next(layout.read_records(buffer, HEADER_SIZE))

    assert memoryview(buffer).cast("d")[record.cell] == 42.0
    assert path.stat().st_size == 6 * CHUNK


def test_the_cells_of_a_new_record_are_zero_and_aligned(on_disk: tuple[CellFile, Path]) -> None:
    """Nothing is counted for a series before its first increment; its cells are whole float64s of the file."""
    file, path = on_disk
    cells = file.append(layout.PAGE, text=b"odd", cells=scale.PAGE).cells

    assert cells.tolist() == [0.0] * scale.PAGE
    cells[5] = 2.5
    buffer = mapped(path.read_bytes())
    record = next(layout.read_records(buffer, HEADER_SIZE))
    assert memoryview(buffer).cast("d")[record.cell : record.cell + scale.PAGE].tolist() == cells.tolist()


def test_every_chunk_has_storage_before_it_is_mapped(
    on_disk: tuple[CellFile, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No byte of the file is sparse: a write to one on a full disk would end the process."""
    file, path = on_disk
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    while len(file.chunks) < 3:
        file.append(layout.PAGE, cells=scale.PAGE)

    assert path.stat().st_blocks * 512 >= path.stat().st_size == 3 * CHUNK


def test_a_chunk_that_the_disk_refuses_leaves_the_file_as_it_was(
    on_disk: tuple[CellFile, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failed growth, records that fit the present chunk are still appended to it."""
    file, path = on_disk

    def refuse(fd: int, start: int, length: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(layout, "allocate", refuse)
    for _ in range(CHUNK // 8_000 - 1):
        file.append(layout.SERIES, text=b"x" * 7_900, cells=1)
    with pytest.raises(OSError, match="No space"):
        file.append(layout.SERIES, text=b"x" * 16_000, cells=1)
    small = file.append(layout.SERIES, text=b'["small"]', cells=1)

    assert small.offset < CHUNK
    assert records_of(path.read_bytes())[-1].text == b'["small"]'


@pytest.mark.parametrize(("text", "cells"), [(layout.TEXT_LIMIT + 1, 0), (0, CHUNK // 8)])
def test_a_record_that_fits_no_chunk_is_refused_with_its_size(file: CellFile, text: int, cells: int) -> None:
    """The sentence says how large the record is and what a chunk holds."""
    with pytest.raises(ValueError, match=rf"A record of \d+ bytes does not fit a chunk of {CHUNK}\."):
        file.append(layout.SERIES, text=b"x" * text, cells=cells)


def test_closing_a_file_keeps_its_views(on_disk: tuple[CellFile, Path]) -> None:
    """A thread that still holds a cell of a released file counts into memory, not into the void."""
    file, _ = on_disk
    cells = file.append(layout.SERIES, text=b'["a"]', cells=1).cells
    file.close()
    file.close()
    cells[0] += 1.0

    assert cells[0] == 1.0
