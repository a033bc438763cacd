"""Starts the demo, keeps it in view and stops it: the LLM server, the app and its traffic, processes of their own."""

from __future__ import annotations

import importlib.util
import json
import secrets
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from monitoring.demo import database
from monitoring.demo.processes import HOST, Child, DemoError, StopSignal, fetch, free_port

DATABASE = "proposals.sqlite"
LOG = "app.log"
LEDGER = "ledger.json"
STORE = "monitoring.db"
ROLLED_UP_SECONDS = 15.0
"""Longest wait for the dashboard's numbers, which are written every few seconds."""


def run(
    port: int = 8000, workers: int = 2, duration: float | None = None, rate: float = 30.0, traffic: bool = True
) -> int:
    """Run the demo until Ctrl-C, SIGTERM or the end of `duration` seconds, and return its exit code.

    Its data goes to `.monitoring/demo/PORT` in the current folder, or to a temporary one where that cannot be written.
    Port 0 takes any free port. `rate` is in requests per second. The exit code is 1 when the demo could not run, or
    when the app's metrics differ from what the traffic generator counted.
    """
    try:
        _check_options(workers=workers, duration=duration, rate=rate)
        port = free_port(port)
        demo = Demo(port, workers, _data_folder(port), token=secrets.token_urlsafe(18))
        with StopSignal() as stop:
            return demo.run(stop, duration, rate if traffic else None)
    except DemoError as error:
        print(f"monitoring demo: {error}", file=sys.stderr)
        return 1


@dataclass(frozen=True, slots=True)
class Demo:
    """One run of the demo: where it listens, where its data goes and who may look."""

    port: int
    workers: int
    folder: Path
    token: str

    @property
    def url(self) -> str:
        """Where the app answers."""
        return f"http://{HOST}:{self.port}"

    def run(self, stop: StopSignal, duration_seconds: float | None, rate: float | None) -> int:
        """Start everything, wait, stop everything and return the exit code. Without a rate there is no traffic."""
        self._prepare()
        with ExitStack() as children:
            llm_port = free_port(0)
            llm_server = self._serve("llm_server", llm_port, {})
            children.callback(llm_server.stop)
            app = self._serve("app", self.port, self._settings(llm_port), "--workers", str(self.workers))
            children.callback(app.stop)
            ready = llm_server.wait_until_ready(f"http://{HOST}:{llm_port}/health", stop)
            if not ready or not app.wait_until_ready(f"{self.url}/health/ready", stop):
                return 0
            self._introduce()
            running = [llm_server, app]
            if rate is not None:
                running.append(self._send_traffic(rate))
                children.callback(running[-1].stop)
            _watch(running, stop, duration_seconds)
            if rate is None:
                return 0
            running[-1].stop()
            return self._compare()

    def _prepare(self) -> None:
        for earlier in (*self.folder.glob(f"{DATABASE}*"), *self.folder.glob(f"{STORE}*"), self.folder / LOG):
            earlier.unlink(missing_ok=True)
        (self.folder / LEDGER).write_text('{"complete": 0, "cut": 0}', encoding="utf-8")  # stands if stopped at once
        engine = database.connect(self.folder / DATABASE)
        database.prepare(engine)
        engine.dispose()

    def _serve(self, module: str, port: int, settings: Mapping[str, str], *options: str) -> Child:
        server = ["uvicorn", f"monitoring.demo.{module}:app", "--host", HOST, "--port", str(port), *options]
        quiet = ["--no-access-log", "--log-level", "warning"]
        patient = ["--timeout-keep-alive", "60", "--timeout-graceful-shutdown", "5"]
        return Child(module, [*server, *quiet, *patient], settings, output=self.folder / f"{module}.out")

    def _settings(self, llm_port: int) -> dict[str, str]:
        return {
            "DEMO_DATABASE": str(self.folder / DATABASE),
            "DEMO_LLM_URL": f"http://{HOST}:{llm_port}",
            "MONITORING_ENVIRONMENT": "development",
            "MONITORING_IN_APP_INCLUDE": "monitoring.demo",
            "MONITORING_LOG_DESTINATION": str(self.folder / LOG),
            "MONITORING_STORE": str(self.folder),
            "MONITORING_TOKEN": self.token,
        }

    def _send_traffic(self, rate: float) -> Child:
        options = ["--url", self.url, "--rate", str(rate), "--ledger", str(self.folder / LEDGER)]
        return Child("traffic", ["monitoring.demo.traffic", *options], {})

    def _introduce(self) -> None:
        print(
            f"app       {self.url}/\n"
            f"health    {self.url}/health\n"
            f"metrics   {self.url}/metrics\n"
            f"dashboard {self.url}/monitoring/\n"
            f"token     {self.token}   (made for this run; this machine's browser needs none)\n"
            f"          curl -H 'Authorization: Bearer {self.token}' {self.url}/metrics\n"
            f"log       {self.folder / LOG}\n"
            f"stop      Ctrl-C",
            flush=True,
        )

    def _compare(self) -> int:
        try:
            ledger = json.loads((self.folder / LEDGER).read_text(encoding="utf-8"))
            totals = _totals(self._fetch("/metrics"))
            visits = totals.get("demo_visits_total", 0)
            counted = totals.get("http_server_request_duration_seconds_count", 0)
            shown = self._shown_requests(counted)
        except OSError as error:
            raise DemoError(f"the ledger and the metrics could not be compared: {error}; see {self.folder}.") from error
        observed, complete, cut = counted - visits, ledger["complete"], ledger["cut"]
        equal = complete <= observed <= complete + cut and shown == counted
        verdict = "equal" if equal else "NOT equal"
        asides = f" ({cut} connections cut)" * bool(cut) + f" ({visits} visits of yours left aside)" * bool(visits)
        print(
            f"requests  {complete:,} by the ledger, {observed:,} by the metric, {shown - visits:,} on the dashboard: "
            f"{verdict}{asides}",
            flush=True,
        )
        return 0 if equal else 1

    def _shown_requests(self, expected: int) -> int:
        """Return how many requests the dashboard shows, once it had the time to show ``expected``."""
        deadline = time.monotonic() + ROLLED_UP_SECONDS
        while True:
            answer = json.loads(self._fetch("/monitoring/api/v1/overview?from=-24h"))
            shown: int = answer["requests"]["count"]
            if shown >= expected or time.monotonic() > deadline:
                return shown
            time.sleep(0.5)

    def _fetch(self, path: str) -> str:
        return fetch(f"{self.url}{path}", {"authorization": f"Bearer {self.token}"})


def _watch(children: list[Child], stop: StopSignal, duration_seconds: float | None) -> None:
    deadline = time.monotonic() + duration_seconds if duration_seconds is not None else float("inf")
    while not stop.requested and time.monotonic() < deadline:
        for child in children:
            child.check()
        time.sleep(0.1)


def _totals(exposition: str) -> dict[str, int]:
    totals: dict[str, int] = {}
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            totals[sample.name] = totals.get(sample.name, 0) + int(sample.value)
    return totals


def _check_options(**options: float | None) -> None:
    for name, value in options.items():
        if value is not None and value <= 0:
            raise DemoError(f"--{name} must be more than 0, got {value}.")
    missing = [package for package in ("uvicorn", "httpx", "openai") if importlib.util.find_spec(package) is None]
    if missing:
        raise DemoError(f"{' and '.join(missing)} not installed; run: pip install 'monitoring-kit[demo]'.")


def _data_folder(port: int) -> Path:
    folder = Path.cwd() / ".monitoring" / "demo" / str(port)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        folder = Path(tempfile.mkdtemp(prefix="monitoring-demo-"))
    return folder
