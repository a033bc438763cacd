"""Which hosts get the running request's ID and trace."""

from __future__ import annotations

import pytest

from monitoring import Config, ConfigError
from monitoring.propagation import Propagation


@pytest.mark.parametrize(
    ("named", "host", "reached"),
    [
        ("api.example.org", "api.example.org", True),
        ("API.example.org", "api.EXAMPLE.org", True),
        ("api.example.org", "api.example.org.", True),
        ("api.example.org", "evil-api.example.org", False),
        ("api.example.org", "api.example.org.evil.test", False),
        ("example.org", "api.example.org", False),
        (".example.org", "api.example.org", True),
        (".example.org", "a.b.example.org", True),
        (".example.org", "example.org", False),
        (".example.org", "evilexample.org", False),
        ("::1", "::1", True),
        ("10.0.0.1", "10.0.0.10", False),
        ("*", "anything.test", True),
        ("api.example.org", "", False),
    ],
)
def test_a_host_is_reached_by_its_name(named: str, host: str, reached: bool) -> None:
    """Whole names, or what is below one; never a part of a name."""
    assert Propagation((named,), "x-request-id").reaches(host) is reached
    assert Config(propagate_to=(named,)).propagate_to == (named,)


@pytest.mark.parametrize("named", ["https://api.example.org", "api.example.org:443", "*.example.org", "a b", "", "a/b"])
def test_what_is_no_host_is_refused(named: str) -> None:
    """A name that could never match would be silent."""
    with pytest.raises(ConfigError, match="without scheme and port"):
        Config(propagate_to=(named,))


def test_hosts_may_be_a_variable() -> None:
    """Separated by commas."""
    config = Config.from_env({"MONITORING_PROPAGATE_TO": "api.example.org, .internal"})
    assert config.propagate_to == ("api.example.org", ".internal")


def test_hosts_remembered_are_bounded() -> None:
    """An app that fetches what its users name does not grow by it."""
    propagation = Propagation(("*",), "x-request-id")
    for number in range(3_000):
        propagation.reaches(f"{number}.test")
    assert len(propagation._known) <= 1_024
