"""``doctor``: what it finds, and what it says to do about it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from monitoring import Config, Email, Webhook
from monitoring.cli import doctor
from monitoring.cli.doctor import Finding, findings
from monitoring.store import schema
from monitoring.store.database import Database
from monitoring.store.leases import Lease
from tests.support.processes import free_port
from tests.support.receivers import OwnChannel, hooks, mail_server

from .conftest import Run

APP = """
from starlette.applications import Starlette

import monitoring

app = Starlette()
monitoring.install(app, store="kept", service="shop", token="a-token-for-tests")
"""


def look(config: Config) -> dict[str, Finding]:
    """Return what is found, by what was looked at."""
    return {found.what: found for found in findings(config)}


def config_over(folder: Path, **settings: Any) -> Config:
    """Return a config with a store and cells below a folder."""
    return Config(store=str(folder / "store"), cells_folder=str(folder / "cells"), **settings)


# The command


def test_a_healthy_store_is_all_well(run: Run, store: Path) -> None:
    """One line for each thing that was looked at, and status 0."""
    ran = run("doctor", "--store", store)
    assert (ran.status, ran.err) == (0, "")
    words = {line.split()[1]: line.split()[0] for line in ran.out.splitlines()}
    assert words.keys() == {"store", "file", "permissions", "leader", "clock", "workers", "access", "channels"}
    assert (words["store"], words["clock"], words["workers"]) == ("ok", "ok", "ok")
    assert "bad" not in words.values()


def test_the_json_is_a_list_of_findings(run: Run, store: Path) -> None:
    """With the same verdicts."""
    found = json.loads(run("doctor", "--store", store, "--json").out)
    assert {frozenset(one) for one in found} == {frozenset({"what", "verdict", "says"})}
    assert "bad" not in {one["verdict"] for one in found}


def test_something_bad_is_a_failure(run: Run, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a script notices."""
    monkeypatch.setattr(doctor, "findings", lambda config: [Finding("clock", "bad", "wrong")])
    ran = run("doctor", "--store", store)
    assert (ran.status, ran.out) == (1, "bad   clock         wrong\n")


def run_doctor(folder: Path, app: str) -> subprocess.CompletedProcess[str]:
    """Run it in a process of its own, because it imports an app."""
    command = [sys.executable, "-m", "monitoring.cli", "doctor", "--app", app, "--json"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def test_an_app_is_imported_and_what_it_wired_is_looked_at(tmp_path: Path) -> None:
    """Its store, its service, its token."""
    (tmp_path / "shop.py").write_text(APP)
    done = run_doctor(tmp_path, "shop:app")
    assert done.returncode == 0, done.stderr
    found = {one["what"]: one["says"] for one in json.loads(done.stdout)}
    assert found["store"] == f"{tmp_path}/kept/monitoring.db can be written"
    assert found["access"] == "the dashboard opens to the token, or to whom authorize says yes"


@pytest.mark.parametrize(
    ("app", "said"), [("nothing:app", "ModuleNotFoundError: No module named 'nothing'"), ("broken", "ValueError: bug")]
)
def test_an_app_that_cannot_be_imported_is_one_sentence(tmp_path: Path, app: str, said: str) -> None:
    """No traceback of ours."""
    (tmp_path / "broken.py").write_text("raise ValueError('bug')")
    done = run_doctor(tmp_path, app)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"monitoring doctor: {app} cannot be imported: {said}; run it in the app's folder.\n"


# The store and its folder


@pytest.mark.parametrize("place", ["file/store", "file"])
def test_a_folder_that_cannot_be_written_is_bad(tmp_path: Path, place: str) -> None:
    """And the rest is looked at all the same."""
    (tmp_path / "file").write_text("")
    found = look(Config(store=str(tmp_path / place), cells_folder=str(tmp_path / "cells")))
    assert found["store"].verdict == "bad"
    assert found["store"].says.endswith("; the app goes on without it, and nothing is kept")
    assert "access" in found


def test_a_folder_that_others_may_read_is_worth_a_note(tmp_path: Path) -> None:
    """With what closes it."""
    config = config_over(tmp_path)
    look(config)
    assert look(config)["permissions"].verdict == "ok"
    (tmp_path / "store").chmod(0o755)
    noted = look(config)["permissions"]
    assert (noted.verdict, noted.says.endswith("(mode 755); chmod 700 closes it")) == ("note", True)


def test_a_network_file_system_is_bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mount that holds the folder decides, and none that merely begins like it."""

    class Mount:
        def __init__(self, mountpoint: str, fstype: str) -> None:
            self.mountpoint, self.fstype = mountpoint, fstype

    config = config_over(tmp_path)
    look(config)
    beside = str(tmp_path / "st")
    mounts = [Mount("/", "ext4"), Mount(beside, "nfs")]
    monkeypatch.setattr(doctor.psutil, "disk_partitions", lambda all: mounts)
    assert look(config)["file system"].says.startswith("ext4, ")
    mounts.append(Mount(str(tmp_path / "store"), "nfs4"))
    assert look(config)["file system"].verdict == "bad"
    assert "use a local disk" in look(config)["file system"].says


def test_a_full_disk_is_bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Less than 100 MiB is left."""
    config = config_over(tmp_path)
    look(config)

    class Usage:
        free = 50 * 1024 * 1024

    monkeypatch.setattr(doctor.psutil, "disk_usage", lambda path: Usage)
    assert look(config)["file system"].verdict == "bad"


def test_without_a_store_there_is_nothing_to_say_of_it(tmp_path: Path) -> None:
    """What is left are the workers, the access and the channels."""
    assert look(Config(store=None, cells_folder=str(tmp_path / "cells"))).keys() == {"workers", "access", "channels"}


def test_a_password_is_never_printed(tmp_path: Path) -> None:
    """Of a database that does not answer."""
    url = "postgresql+psycopg://ana:secret@127.0.0.1:1/monitoring"
    found = look(Config(store=url, cells_folder=str(tmp_path / "cells")))
    assert found["store"].verdict == "bad"
    assert "secret" not in " ".join(one.says for one in found.values())


def test_an_app_with_a_url_of_no_database_is_told(tmp_path: Path) -> None:
    """In one sentence that does not repeat it."""
    (tmp_path / "shop.py").write_text(APP.replace('"kept"', '"nonsense://ana:secret@host/db"'))
    done = run_doctor(tmp_path, "shop:app")
    assert (done.returncode, done.stdout, "secret" in done.stderr) == (2, "", False)
    assert "store must be a folder or a database's URL" in done.stderr
    assert "'nonsense'" in done.stderr


# Leader, clock, workers, access


def test_who_leads_is_named(tmp_path: Path) -> None:
    """And it is noted when nobody does."""
    config = config_over(tmp_path)
    assert look(config)["leader"].verdict == "note"
    with Database(str(config.store)).writing() as connection:
        Lease("store", "host:7").acquire(connection, time.time())
    assert look(config)["leader"] == Finding("leader", "ok", "host:7 evaluates alerts and keeps house")


def test_a_clock_that_was_ahead_is_bad(tmp_path: Path) -> None:
    """The newest request is of a time that is yet to come."""
    config = config_over(tmp_path)
    row = {"request_id": "r", "method": "GET", "route": "/x", "status": 200, "outcome": "ok", "process": "p"}
    with Database(str(config.store)).writing() as connection:
        connection.execute(
            schema.request.insert().values(at=time.time() + 3_600, duration_seconds=0.1, reason="slow", **row)
        )
    found = look(config)["clock"]
    assert (found.verdict, found.says.endswith(" s ahead; set the clock")) == ("bad", True)


def test_workers_are_looked_for_where_their_cells_are(tmp_path: Path) -> None:
    """In the folder of the setting."""
    assert look(config_over(tmp_path))["workers"] == Finding("workers", "ok", f"0 alive, cells in {tmp_path / 'cells'}")


def test_cells_that_cannot_be_shared_are_bad(tmp_path: Path) -> None:
    """There is a file where the folder should be."""
    (tmp_path / "cells").write_text("")
    found = look(config_over(tmp_path))["workers"]
    assert (found.verdict, found.says.startswith("metric cells cannot be shared: ")) == ("bad", True)


@pytest.mark.parametrize(
    ("settings", "verdict", "begin"),
    [
        ({}, "note", "closed: "),
        ({"environment": "development"}, "note", "development: "),
        ({"token": "a-token-for-tests"}, "ok", "the dashboard opens"),
        ({"authorize": lambda scope: True}, "ok", "the dashboard opens"),
    ],
)
def test_who_may_see_it_is_told(tmp_path: Path, settings: dict[str, Any], verdict: str, begin: str) -> None:
    """And the token itself is not."""
    found = look(config_over(tmp_path, **settings))["access"]
    assert (found.verdict, found.says.startswith(begin), "a-token" in found.says) == (verdict, True, False)


# Channels


def test_a_mail_server_that_answers_is_ok(tmp_path: Path) -> None:
    """It is asked for nothing, and no mail is sent."""
    with mail_server() as mails:
        channel = Email("127.0.0.1", mails.port, "a@example.org", "b@example.org", security="none")
        found = look(config_over(tmp_path, channels=(channel,)))
        assert found["email"] == Finding("email", "ok", f"127.0.0.1:{mails.port} answers 250")
        assert mails.mails == []


@pytest.mark.parametrize("security", ["none", "starttls", "tls"])
def test_a_port_where_no_mail_server_is_is_bad(tmp_path: Path, security: Any) -> None:
    """Host and port are named."""
    port = free_port()
    channel = Email("127.0.0.1", port, "a@example.org", "b@example.org", security=security)
    found = look(config_over(tmp_path, channels=(channel,)))["email"]
    assert (found.verdict, found.says.startswith(f"127.0.0.1:{port} does not answer: ")) == ("bad", True)


def test_a_receiver_is_reached_without_a_message(tmp_path: Path) -> None:
    """One that is not signed is worth a note."""
    with hooks() as received:
        options: dict[str, Any] = {"allow_private": True, "allow_http": True}
        signed = Webhook(received.url, secret="a-secret", name="signed", **options)
        found = look(config_over(tmp_path, channels=(signed, Webhook(received.url, **options))))
        assert (found["signed"].verdict, found["webhook"].verdict) == ("ok", "note")
        assert received.requests == []


def test_a_receiver_that_is_not_there_is_bad(tmp_path: Path) -> None:
    """Its path is a secret, and is not printed."""
    url = f"http://127.0.0.1:{free_port()}/hooks/very-secret"
    channel = Webhook(url, allow_private=True, allow_http=True)
    found = look(config_over(tmp_path, channels=(channel,)))["webhook"]
    assert (found.verdict, "very-secret" in found.says) == ("bad", False)


def test_a_receiver_inside_is_bad_unless_it_is_allowed(tmp_path: Path) -> None:
    """As it would be when a notice is sent."""
    channel = Webhook("http://127.0.0.1:9/hook", allow_http=True)
    found = look(config_over(tmp_path, channels=(channel,)))["webhook"]
    assert (found.verdict, "allow_private=True" in found.says) == ("bad", True)


def test_a_channel_of_ones_own_is_set_up(tmp_path: Path) -> None:
    """More is not known of it."""
    assert look(config_over(tmp_path, channels=(OwnChannel(),)))["own"] == Finding("own", "ok", "set up")


def test_without_channels_alerts_are_on_the_dashboard_only(tmp_path: Path) -> None:
    """Which is worth a note."""
    assert look(config_over(tmp_path))["channels"].verdict == "note"
