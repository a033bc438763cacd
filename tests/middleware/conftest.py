"""What the tests of both edges use: the twins, and a Monitoring that hides no failure."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from monitoring import Config, Monitoring, shutdown
from monitoring.monitor import make_current
from monitoring.testing import MemorySink
from tests.middleware.twins import AsgiTwin, Twin, WsgiTwin, using


@pytest.fixture(params=[AsgiTwin(), WsgiTwin()], ids=lambda twin: twin.name)
def twin(request: pytest.FixtureRequest) -> Twin:
    """Each of the two edges."""
    edge: Twin = request.param
    return edge


@pytest.fixture
def sink() -> MemorySink:
    """What was observed."""
    return MemorySink()


@pytest.fixture
def monitoring(sink: MemorySink) -> Iterator[Monitoring]:
    """The current Monitoring, with the settings as they come."""
    with using(sink) as monitoring:
        yield monitoring


@pytest.fixture
def unguarded(sink: MemorySink) -> Iterator[Monitoring]:
    """A Monitoring as it is in production: what fails in it is counted and goes no further."""
    monitoring = Monitoring(Config(log_destination=os.devnull, store=None), sinks=[sink])
    monitoring.registry.keep_in_memory()
    make_current(monitoring).close()
    yield monitoring
    shutdown()
