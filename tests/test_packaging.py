"""The wheel: one import name, and nothing that collides with the packages of a user's app."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

APP = """
import integrations, tests, utils
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

import monitoring
import monitoring.integrations.web
import monitoring.utils.ids

app = Starlette(routes=[Route("/", lambda request: PlainTextResponse(utils.GREETING + integrations.NAME + tests.NAME))])
monitoring.install(app, service="users-app", log_destination="app.log", metrics_public=True)
client = TestClient(app)
response = client.get("/")
assert response.text == "hello from my own packages", response.text
assert len(response.headers["x-request-id"]) == 32
assert 'http_route="/"' in client.get("/metrics").text
print(monitoring.__file__)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a clean copy of the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    ignored = [".venv", ".git", "build", ".monitoring", "*.egg-info", "__pycache__"]
    excludes = [f"--exclude={name}" for name in ignored]
    source.mkdir()
    packed = subprocess.run(["tar", "-c", *excludes, "-C", str(ROOT), "."], check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", str(source)], check=True, input=packed)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(source)],
        check=True,
    )
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_installs_only_monitoring(wheel: Path) -> None:
    """utils and integrations are inside the package, and tests and benchmarks are not installed at all."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"monitoring"}
    assert {"monitoring/integrations/web/flask.py", "monitoring/utils/ids.py", "monitoring/py.typed"} <= set(names)


def test_an_app_with_packages_of_the_same_names_works_with_the_wheel(wheel: Path, tmp_path: Path) -> None:
    """A user's own utils, integrations and tests stay the user's."""
    site, project = tmp_path / "site", tmp_path / "project"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)], check=True
    )
    for name, line in (
        ("utils", "GREETING = 'hello '"),
        ("integrations", "NAME = 'from my '"),
        ("tests", "NAME = 'own packages'"),
    ):
        (project / name).mkdir(parents=True)
        (project / name / "__init__.py").write_text(line)
    (project / "app.py").write_text(APP)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "app.py"],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().startswith(str(site))
