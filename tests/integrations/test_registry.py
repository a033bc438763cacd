"""Which adapter a client gets, and what is said of a client that has none."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import monitoring
from monitoring import integrations
from monitoring.calls import CacheCall
from monitoring.integrations import register_adapter
from monitoring.integrations.attachment import Detach, Link, observing, replace_attributes
from monitoring.testing import MemorySink, use


class Memo:
    """A user's own client."""

    def recall(self, key: str) -> str:
        return key.upper()


class LongMemo(Memo):
    """One derived from it."""


class MemoAdapter:
    """A user's own adapter, as the README shows it."""

    def carrier(self, client: Any) -> Any:
        return client

    def attach(self, client: Any, link: Link) -> Detach:
        return replace_attributes(client, {"recall": observing(link, self.call, client.recall)})

    def call(self, args: tuple[Any, ...], started: float, result: Any, error: BaseException | None) -> CacheCall:
        call = CacheCall(started, error)
        call.name, call.system = "recall", "memory"
        return call


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The adapter is known for the length of a test."""
    monkeypatch.setattr(integrations, "_ADAPTERS", dict(integrations._ADAPTERS))
    register_adapter(Memo, MemoAdapter())


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("kind", [Memo, LongMemo])
def test_a_client_of_ones_own_can_be_wrapped(kind: type[Memo]) -> None:
    """An adapter serves its class and those derived from it."""
    sink = MemorySink()
    with use(sink):
        memo = monitoring.wrap(kind())
        assert memo.recall("a") == "A"
    assert [call.name for call in sink.of_kind("cache")] == ["recall"]
    assert vars(monitoring.unwrap(memo)) == {}


@pytest.mark.usefixtures("registered")
def test_an_adapter_can_be_registered_by_the_name_of_a_class() -> None:
    """So that its library need not be imported, and the later registration wins."""
    sink = MemorySink()

    class Louder(MemoAdapter):
        def call(self, *facts: Any) -> CacheCall:
            call = super().call(*facts)
            call.name = "RECALL"
            return call

    register_adapter(f"{Memo.__module__}.Memo", Louder())
    with use(sink):
        monitoring.wrap(Memo()).recall("a")
    assert [call.name for call in sink.of_kind("cache")] == ["RECALL"]


@pytest.mark.parametrize("verb", [monitoring.wrap, monitoring.unwrap])
def test_an_unknown_client_is_refused_with_the_list(verb: Any) -> None:
    """The error names what was given, what is known, and the remedy."""
    with pytest.raises(TypeError, match=r"got a builtins\.dict; it knows .*openai\.OpenAI.*register_adapter"):
        verb({})


@pytest.mark.usefixtures("registered")
def test_a_version_that_cannot_be_instrumented_is_refused() -> None:
    """A library that lacks what the adapter goes by says so at once, and is left as it is."""

    class Stranger(MemoAdapter):
        def attach(self, client: Any, link: Link) -> Detach:
            return replace_attributes(client, {"recall": client.recall_all})

    register_adapter(Memo, Stranger())
    memo = Memo()
    with pytest.raises(TypeError, match="recall_all"):
        monitoring.wrap(memo)
    assert vars(memo) == {}


def test_unwrapping_what_is_not_wrapped_does_nothing() -> None:
    """The client comes back as it was."""
    import httpx

    with httpx.Client() as client:
        before = dict(vars(client))
        assert monitoring.unwrap(client) is client
        assert vars(client) == before


def test_a_client_can_report_to_a_monitoring_of_its_own() -> None:
    """``recorder_of`` serves two apps in one process."""
    import httpx

    sink, other = MemorySink(), MemorySink()
    transport = httpx.MockTransport(lambda request: httpx.Response(204))
    with use(sink) as active, httpx.Client(transport=transport) as client:
        recorder = active.recorder
        integrations.wrap(client, recorder_of=lambda: recorder)
        with use(other):
            client.get("http://x.test/")
    assert (len(sink.observations), len(other.observations)) == (1, 0)


def test_importing_the_package_loads_no_adapter() -> None:
    """Neither ``import monitoring`` nor the registry loads a client library or the prices."""
    program = (
        "import sys, monitoring, monitoring.integrations\n"
        "names = {'sqlalchemy', 'redis', 'httpx', 'httpx2', 'openai', 'anthropic', 'genai_prices'}\n"
        "families = ('caches', 'databases', 'http', 'llm', 'tasks', 'web')\n"
        "adapters = [name for name in sys.modules if name.split('.')[2:3] and name.split('.')[2] in families]\n"
        "print(sorted(names & set(sys.modules)), adapters)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[] []"


@pytest.mark.usefixtures("registered")
def test_the_blocks_of_the_adapters_readme_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Users can paste them, and the client in them is observed."""
    monkeypatch.setattr("monitoring.integrations.llm.prices._own_prices", {})
    readme = Path(__file__).parents[2] / "integrations" / "README.md"
    names: dict[str, Any] = {"__name__": "readme"}
    for block in re.findall(r"^```python\n(.*?)^```", readme.read_text(), re.DOTALL | re.MULTILINE):
        exec(compile(block, "README.md", "exec"), names)
    sink = MemorySink()
    with use(sink):
        assert names["memo"].recall("a") == "A"
    assert [call.name for call in sink.observations] == ["recall"]


def test_an_installed_package_provides_an_adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By an entry point of the group ``monitoring.adapters``, which is loaded when a client of the class shows up."""
    (tmp_path / "memo_adapter.py").write_text(
        f"import sys\nsys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
        "from tests.integrations.test_registry import MemoAdapter\nadapter = MemoAdapter()\n"
    )
    info = tmp_path / "memo-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: memo\nVersion: 1.0\n")
    full_name = f"{Memo.__module__}.{Memo.__qualname__}"
    (info / "entry_points.txt").write_text(f"[{integrations.ENTRY_POINTS}]\n{full_name} = memo_adapter:adapter\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(integrations, "_ADAPTERS", dict(integrations._ADAPTERS))
    sink = MemorySink()
    with use(sink):
        assert monitoring.wrap(LongMemo()).recall("key") == "KEY"
    assert [call.name for call in sink.observations] == ["recall"]
