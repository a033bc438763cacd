"""``monitoring logs``: what it prints of which files, and how it ends."""

from __future__ import annotations

import gzip
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from monitoring.logs.reading import WINDOW_SECONDS
from monitoring.logs.retention import free_name

from .conftest import Run

COMMAND = [sys.executable, "-m", "monitoring.cli", "logs"]
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHONUNB", "NO_COLOR"))}
ENVIRONMENT["TERM"] = "xterm"


def line(event: str, seconds: float = 0, **fields: Any) -> bytes:
    """Return a line of so many seconds after a moment."""
    moment = datetime(2026, 11, 24, 10, tzinfo=UTC) + timedelta(seconds=seconds)
    written = {"timestamp": moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), "level": "info", "event": event, **fields}
    return json.dumps(written).encode() + b"\n"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Return a log of three lines, one of them rotated and compressed."""
    path = tmp_path / "app.log"
    rotated = Path(free_name(str(path), datetime(2026, 11, 24, 10, 0, 5, tzinfo=UTC).timestamp()))
    rotated.with_name(f"{rotated.name}.gz").write_bytes(gzip.compress(line("one", 1, user_id="ada")))
    path.write_bytes(line("two", 10, level="error", status=500) + line("three", 20))
    return path


def events(out: str) -> list[str]:
    """Return the events of lines of JSON."""
    return [json.loads(one)["event"] for one in out.splitlines()]


def test_help_shows_examples(run: Run) -> None:
    """And the options."""
    ran = run("logs", "--help")
    assert (ran.status, ran.err) == (0, "")
    assert "examples:\n  monitoring logs app.log --level warning --since 1h\n" in ran.out
    assert f"late by more than {WINDOW_SECONDS:.0f} s" in ran.out


def test_a_log_is_read_with_its_rotated_files_for_people(run: Run, log: Path) -> None:
    """Without colours, where it is no terminal."""
    ran = run("logs", log)
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        "2026-11-24 10:00:01.000Z  info      one  user_id=ada",
        "2026-11-24 10:00:10.000Z  error     two  status=500",
        "2026-11-24 10:00:20.000Z  info      three",
    ]


def test_json_is_the_lines_as_they_were_written(run: Run, log: Path) -> None:
    """To the byte."""
    log.write_bytes(b'{ "event" :"x",  "Z\\u00fcrich": 1.50}\n')
    assert run("logs", log, "--json").out.encode() == line("one", 1, user_id="ada") + log.read_bytes()


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (("--user", "ada"), ["one"]),
        (("--level", "warning"), ["two"]),
        (("--event", "t*"), ["two", "three"]),
        (("--event", "two"), ["two"]),
        (("--where", "status=500"), ["two"]),
        (("--where", "status=500", "--where", "level=info"), []),
        (("--grep", "wo"), ["two"]),
        (("--limit", "2"), ["two", "three"]),
        (("--since", "2026-11-24T10:00:10Z"), ["two", "three"]),
        (("--since", "2026-11-24T12:00:10+02:00"), ["two", "three"]),
        (("--until", "2026-11-24 10:00:10"), ["one", "two"]),
        (("--since", "1s"), []),
        (("--since=-1s",), []),
        (("--since", "400d", "--until", "400d"), []),
    ],
)
def test_options_say_which_lines(run: Run, log: Path, options: tuple[str, ...], found: list[str]) -> None:
    """The same for JSON and for people."""
    assert events(run("logs", log, "--json", *options).out) == found
    assert run("logs", log, *options).out.count("\n") == len(found)


def test_since_is_counted_from_now(run: Run, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In seconds, minutes, hours and days."""
    now = datetime(2026, 11, 24, 11, tzinfo=UTC).timestamp()
    monkeypatch.setattr(time, "time", lambda: now)
    assert events(run("logs", log, "--json", "--since", "60m", "--until", "3585s").out) == ["one", "two"]
    assert events(run("logs", log, "--json", "--since", "1h").out) == ["one", "two", "three"]
    assert events(run("logs", log, "--json", "--since", "59m").out) == []


def test_request_takes_the_beginning_of_an_id(run: Run, log: Path) -> None:
    """Of the request or of the trace."""
    log.write_bytes(
        line("mine", request_id="12345678abc") + line("its", trace_id="12345678abd") + line("no", x="12345678")
    )
    assert events(run("logs", log, "--json", "--request", "12345678").out) == ["mine", "its"]
    assert events(run("logs", log, "--json", "--request", "12345678abd").out) == ["its"]


def test_several_files_are_merged_by_time(run: Run, log: Path) -> None:
    """With the rotated ones of each, and lines of workers that are out of order."""
    other = log.with_name("other.log")
    other.write_bytes(line("b", 15) + line("a", 12) + line("c", 30))
    assert events(run("logs", other, log, "--json").out) == ["one", "two", "a", "b", "three", "c"]


def test_a_file_that_is_named_twice_is_read_once(run: Run, log: Path) -> None:
    """As a shell does with app.log*: the rotated ones are read with their log."""
    names = sorted(str(path) for path in log.parent.glob("app.log*"))
    assert len(names) == 2
    assert events(run("logs", *names, log, "--json").out) == ["one", "two", "three"]
    assert events(run("logs", names[1], "--json").out) == ["one"]


def test_text_is_shown_where_it_stands(run: Run, log: Path) -> None:
    """And is an object in JSON; what would reach the terminal is made visible."""
    log.write_bytes(line("two", 10) + b"\x1b[2Jplain \xff text\n" + line("three", 9))
    assert run("logs", log).out.splitlines()[1:] == [
        "2026-11-24 10:00:09.000Z  info      three",
        "2026-11-24 10:00:10.000Z  info      two",
        r"\x1b[2Jplain \xff text",
    ]
    assert json.loads(run("logs", log, "--json").out.splitlines()[-1]) == {
        "event": "\x1b[2Jplain \ufffd text",
        "raw": True,
    }


def test_a_last_line_without_its_newline_is_shown(run: Run, log: Path) -> None:
    """There may be no more to come."""
    log.write_bytes(line("whole", 10) + line("last", 11)[:-1])
    assert events(run("logs", log, "--json").out) == ["one", "whole", "last"]


def test_standard_input_is_shown_in_its_order(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream cannot be waited for, to be put in order."""
    monkeypatch.setattr(
        sys, "stdin", io.TextIOWrapper(io.BytesIO(line("b", 2) + line("a", 1) + line("no", 3, level="debug")))
    )
    assert events(run("logs", "-", "--json", "--level", "info").out) == ["b", "a"]


def test_standard_input_is_merged_with_files(run: Run, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are some."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(line("b", 15) + line("a", 12))))
    assert events(run("logs", "-", log, "--json").out) == ["one", "two", "a", "b", "three"]


def test_without_a_file_it_is_the_one_of_the_environment(run: Run, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The app's own destination."""
    monkeypatch.setenv("MONITORING_LOG_DESTINATION", str(log))
    assert events(run("logs", "--json").out) == ["one", "two", "three"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            (),
            "There is no file to read: MONITORING_LOG_DESTINATION is 'stdout'; "
            "name log files, or - for standard input.",
        ),
        (("none",), "There is no log none; name a file that exists, or add --follow to wait for it."),
        (("/",), "/ is a folder; name a log file in it."),
        (("-", "--follow"), "- cannot be followed; leave --follow out: it is read until it ends."),
        (("-", "--where", "status"), "--where must be a field and its value such as status=500, got 'status'."),
        (("-", "--since", "soon"), "--since must be a time such as 15m, 1h, 7d or 2026-11-24T10:00:00Z, got 'soon'."),
        (("-", "--until", ""), "--until must be a time such as 15m, 1h, 7d or 2026-11-24T10:00:00Z, got ''."),
        (("-", "--since", "1h", "--until", "2h"), "--since 1h is after --until 2h; give an earlier --since."),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    run: Run, arguments: tuple[str, ...], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With status 2."""
    monkeypatch.delenv("MONITORING_LOG_DESTINATION", raising=False)
    ran = run("logs", *arguments)
    assert (ran.status, ran.out, ran.err) == (2, "", f"monitoring logs: {sentence}\n")


@pytest.mark.parametrize("options", [("--limit", "0"), ("--limit", "x"), ("--level", "loud")])
def test_options_that_are_wrong_are_refused(run: Run, log: Path, options: tuple[str, ...]) -> None:
    """With what is accepted."""
    ran = run("logs", log, *options)
    assert (ran.status, ran.out) == (2, "")
    assert options[0] in ran.err


def test_a_file_that_cannot_be_read_to_its_end_is_said_and_is_a_failure(run: Run, log: Path) -> None:
    """What can be read is shown."""
    Path(free_name(str(log), 1.0) + ".gz").write_bytes(b"no gzip")
    ran = run("logs", log, "--json")
    assert (ran.status, events(ran.out)) == (1, ["one", "two", "three"])
    assert ran.err.startswith("monitoring logs: ")
    assert ran.err.count("\n") == 1


def test_follow_begins_with_the_last_lines_and_goes_on(run: Run, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through a rotation and a truncation, filtered, and Ctrl-C ends it quietly."""
    log.write_bytes(b"".join(line(str(number), number) for number in range(15)) + line("bad", 15, level="debug"))
    steps: list[Callable[[], object]] = [
        lambda: _append(log, line("new", 16) + line("bad", 17, level="debug") + line("ha", 18)[:20]),
        lambda: _append(log, line("ha", 18)[20:]) or log.rename(free_name(str(log), 1e9)),
        lambda: log.write_bytes(line("a long line of another file", 19, text="x" * 100)),
        lambda: log.write_bytes(line("truncated", 20)),
    ]

    def sleep(seconds: float) -> None:
        assert seconds == 0.2
        if not steps:
            raise KeyboardInterrupt
        steps.pop(0)()

    monkeypatch.setattr(time, "sleep", sleep)
    ran = run("logs", log, "--follow", "--json", "--level", "info")
    last = [str(number) for number in range(5, 15)]
    assert events(ran.out) == [*last, "new", "ha", "a long line of another file", "truncated"]
    assert (ran.status, ran.err) == (0, "")


def _append(path: Path, content: bytes) -> bool:
    with path.open("ab") as file:
        return file.write(content) == 0


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ((), ["two", "three"]),
        (("--since", "2026-11-24"), ["one", "two", "three"]),
        (("--limit", "1"), ["three"]),
        (("--limit", "3"), ["one", "two", "three"]),
    ],
)
def test_follow_begins_where_it_is_told(
    run: Run, log: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], found: list[str]
) -> None:
    """With a few of the file itself, with all since a time, or with so many."""
    monkeypatch.setattr(time, "sleep", _interrupt)
    assert events(run("logs", log, "-f", "--json", *options).out) == found


def _interrupt(seconds: float) -> None:
    raise KeyboardInterrupt


def test_follow_waits_for_a_file_that_is_not_there(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes when the app starts."""
    log = tmp_path / "app.log"
    steps: list[Callable[[float], object]] = [lambda seconds: log.write_bytes(line("first")), _interrupt]
    monkeypatch.setattr(time, "sleep", lambda seconds: steps.pop(0)(seconds))
    assert events(run("logs", log, "--follow", "--json").out) == ["first"]


def test_ctrl_c_ends_a_real_process_quietly(log: Path) -> None:
    """No stack, and everything that was read is printed."""
    process = subprocess.Popen(
        [*COMMAND, str(log), "--follow", "--json", "--limit", "3"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
    )
    assert process.stdout is not None
    seen = [process.stdout.readline() for _ in range(3)]
    _append(log, line("new", 30))
    seen.append(process.stdout.readline())
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert events(b"".join(seen).decode()) == ["one", "two", "three", "new"]
    assert (process.returncode, out, err) == (0, b"", b"")


@pytest.mark.parametrize("options", [(), ("--json",), ("--follow", "--since", "2026-01-01")])
def test_a_reader_that_has_enough_ends_it_quietly(log: Path, options: tuple[str, ...]) -> None:
    """As head has; status 0."""
    log.write_bytes(line("many", text="x" * 200) * 5000)
    process = subprocess.Popen(
        [*COMMAND, str(log), *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT
    )
    assert process.stdout is not None
    assert process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 0


def _in_a_terminal(log: Path, **environment: str) -> bytes:
    reading, writing = pty.openpty()
    subprocess.run([*COMMAND, str(log)], stdout=writing, env={**ENVIRONMENT, **environment}, check=True)
    os.close(writing)
    shown = os.read(reading, 65536)
    os.close(reading)
    return shown


def test_a_terminal_gets_colours_and_nothing_of_a_value(log: Path) -> None:
    """All sequences are ours: colours, and their end."""
    log.write_bytes(line("two\x1b[2J", 10, level="error", text="\x1b]0;owned\x07") + b"\x1b[2J text\n")
    shown = _in_a_terminal(log)
    assert b"\x1b[31merror" in shown
    assert set(re.findall(rb"\x1b[^m]*m?", shown)) <= {
        b"\x1b[0m",
        b"\x1b[1m",
        b"\x1b[2m",
        b"\x1b[31m",
        b"\x1b[32m",
        b"\x1b[36m",
    }
    assert b"\x07" not in shown
    assert shown.count(rb"\x1b[2J") == 2


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_a_terminal_that_wants_no_colours_gets_none(log: Path, environment: dict[str, str]) -> None:
    """By the convention of no-color.org, or by its kind."""
    assert b"\x1b" not in _in_a_terminal(log, **environment)


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="the peak of memory is read from /proc")
@pytest.mark.parametrize("options", [["--grep", "none such"], ["--level", "error"], ["--limit", "3"]])
def test_a_file_of_200_megabytes_is_not_held_in_memory(tmp_path: Path, options: list[str]) -> None:
    """It is read through, and the process stays small."""
    log = tmp_path / "app.log"
    block = line("many", text="x" * 1900) * 500
    with log.open("wb") as file:
        for _ in range(200_000_000 // len(block) + 1):
            file.write(block)
    program = (
        "import sys; from monitoring.cli import main; main(sys.argv[1:])\n"
        "print(next(one for one in open('/proc/self/status') if one.startswith('VmHWM')).split()[1])"
    )
    command = [sys.executable, "-c", program, "logs", str(log), "--json", *options]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert log.stat().st_size >= 200_000_000
    assert out.count("many") == (3 if "--limit" in options else 0)
    assert int(out.split()[-1]) < 150_000
