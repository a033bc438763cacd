"""What the main destination shows: JSON, the same under other names, or a form for people in a terminal."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

import monitoring
from tests.support.service import ROOT

from .outlets import Kept

PROGRAM = (
    "import monitoring\n"
    "monitoring.configure(store=None)\n"
    "monitoring.get_logger('app').warning('saved', items=3)\n"
    "monitoring.shutdown()\n"
)


def _output_of(form: str, *, terminal: bool) -> str:
    """Return what a program writes to a terminal or a pipe."""
    ours, theirs = pty.openpty() if terminal else os.pipe()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MONITORING_LOG_FORMAT": form}
    environment.pop("NO_COLOR", None)
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, stdout=theirs, env=environment, timeout=30)
    output = os.read(ours, 65536).decode()
    os.close(ours)
    os.close(theirs)
    return output


def test_a_terminal_gets_a_form_for_people() -> None:
    """In colours."""
    output = _output_of("auto", terminal=True)
    assert "\x1b[" in output
    assert "saved" in output
    assert not output.startswith("{")


def test_what_is_no_terminal_gets_json() -> None:
    """A pipe, as of a container."""
    assert json.loads(_output_of("auto", terminal=False))["event"] == "saved"


def test_the_form_can_be_chosen() -> None:
    """Whatever the destination is; without colours where nobody shows them."""
    assert json.loads(_output_of("json", terminal=True))["event"] == "saved"
    output = _output_of("pretty", terminal=False)
    assert not output.startswith("{")
    assert "\x1b[" not in output


def test_keys_have_other_names_and_fields_are_added_in_the_main_destination_alone(tmp_path: Path) -> None:
    """Handlers get the pack's own lines: Loki and OTLP read them."""
    kept = Kept()
    monitoring.configure(
        log_destination=str(tmp_path / "log"),
        log_rename={"timestamp": "@timestamp", "level": "severity"},
        log_fields={"region": "eu"},
        log_handlers=[kept],
    )
    monitoring.get_logger("app").info("saved", items=3)
    line = json.loads((tmp_path / "log").read_text())
    assert (line["severity"], line["region"], line["items"]) == ("info", "eu", 3)
    assert "@timestamp" in line
    assert "timestamp" not in line
    assert kept.lines[0]["level"] == "info"
    assert "region" not in kept.lines[0]


def test_a_field_that_has_a_new_name_already_takes_nothings_place(tmp_path: Path) -> None:
    """It comes out as field_<name>, as fields with the pack's own names do; two keys may change places."""
    monitoring.configure(
        service="proposals",
        log_destination=str(tmp_path / "log"),
        log_rename={"event": "message", "logger": "service", "service": "logger"},
    )
    monitoring.get_logger("app").info("saved", message="hello")
    line = json.loads((tmp_path / "log").read_text())
    assert (line["message"], line["field_message"]) == ("saved", "hello")
    assert (line["logger"], line["service"]) == ("proposals", "app")


@pytest.mark.parametrize("destination", ["stdout", "stderr"])
def test_a_stream_that_is_closed_or_missing_is_no_terminal(destination: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """pythonw and daemons have none."""
    monkeypatch.setattr(sys, destination, None)
    monitoring.configure(log_destination=destination, store=None)
    assert monitoring.current().log_lines.is_plain
