"""Config: every setting documented, checked, and readable from the environment."""

from __future__ import annotations

import ast
import inspect
from dataclasses import FrozenInstanceError, fields

import pytest

from monitoring import Config, ConfigError, config, configure


def test_every_setting_has_a_docstring() -> None:
    """Each field of Config is followed by a sentence that says what it is."""
    body = ast.parse(inspect.getsource(Config)).body[0]
    assert isinstance(body, ast.ClassDef)
    documented = {
        first.target.id
        for first, second in zip(body.body, body.body[1:])
        if isinstance(first, ast.AnnAssign) and isinstance(first.target, ast.Name)
        if isinstance(second, ast.Expr) and isinstance(second.value, ast.Constant)
    }
    assert documented == {field.name for field in fields(Config)}


def test_the_config_is_frozen() -> None:
    """A config cannot change under those who read it."""
    with pytest.raises(FrozenInstanceError):
        Config().service = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"service": " "}, "service must be a name such as 'proposals', got ' '."),
        ({"environment": "prod"}, "environment must be 'production' or 'development', got 'prod'."),
        ({"trusted_proxies": ("10.0.0/8",)}, "trusted_proxies must be a tuple of networks"),
        ({"log_level": "loud"}, "log_level must be 'debug', 'info', 'warning', 'error' or 'critical', got 'loud'."),
        ({"token": "short"}, "token must be at least 8 characters, or None, got 'short'."),
        ({"metrics_path": "metrics"}, "metrics_path must be a path such as '/metrics', or None to switch it off"),
        (
            {"request_id_header": "x id"},
            "request_id_header must be a header's name such as 'x-request-id', got 'x id'.",
        ),
        ({"log_levels": {"app": ["debug"]}}, "log_levels must be a mapping of loggers to levels"),
        ({"log_levels": {1: "debug"}}, "log_levels must be a mapping of loggers to levels"),
        ({"log_sample_rate": "0.1"}, "log_sample_rate must be between 0 and 1, for example 0.1, got '0.1'."),
        ({"base_url": None}, "base_url must be an http or https URL, or '', got None."),
        ({"log_record_fields": "lineno"}, "log_record_fields must be a tuple of attributes of records such as"),
        ({"log_leave_out": "secret"}, "log_leave_out must be a tuple of names of fields, got 'secret'."),
        ({"log_rename": {"level": None}}, "log_rename must be a mapping of keys to their new names, got"),
        ({"log_processors": ["x"]}, "log_processors must be a list of structlog processors, got ['x']."),
        ({"max_series": 0}, "max_series must be a positive number, got 0."),
    ],
)
def test_a_bad_value_names_the_key_the_value_and_the_remedy(settings: dict[str, object], sentence: str) -> None:
    """One sentence says what was given, what is accepted and what to do."""
    with pytest.raises(ConfigError) as refusal:
        Config(**settings)  # type: ignore[arg-type]
    assert sentence in str(refusal.value)


def test_the_environment_is_read_by_type() -> None:
    """MONITORING_* variables become strings, numbers, booleans, lists and None."""
    read = Config.from_env(
        {
            "MONITORING_SERVICE": "proposals",
            "MONITORING_TRUSTED_PROXIES": "10.0.0.0/8, unix",
            "MONITORING_METRICS_PUBLIC": "yes",
            "MONITORING_LOG_FLUSH_SECONDS": "0.5",
            "MONITORING_MAX_SERIES": "100",
            "MONITORING_HEALTH_PATH": "",
            "PATH": "/bin",
        }
    )
    assert (read.service, read.trusted_proxies, read.metrics_public) == ("proposals", ("10.0.0.0/8", "unix"), True)
    assert (read.log_flush_seconds, read.max_series, read.health_path) == (0.5, 100, None)


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("MONITORING_LOG_FLUSH_SECONDS", "fast", "must be a number, got 'fast'; for example 0.5."),
        ("MONITORING_MAX_SERIES", "1.5", "must be a whole number, got '1.5'; for example 2000."),
        ("MONITORING_METRICS_PUBLIC", "maybe", "must be true or false, got 'maybe'."),
        ("MONITORING_LOG_LEVEL", "loud", "must be 'debug', 'info', 'warning', 'error' or 'critical', got 'loud'."),
        ("MONITORING_SERVISE", "x", "is not a setting; remove it or use one of"),
    ],
)
def test_a_bad_variable_is_named_as_it_was_written(variable: str, value: str, sentence: str) -> None:
    """The sentence names the variable, not the field."""
    with pytest.raises(ConfigError, match=f"^{variable} ") as refusal:
        Config.from_env({variable: value})
    assert sentence in str(refusal.value)


def test_settings_win_over_config_and_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """configure(service=...) overrules both."""
    monkeypatch.setenv("MONITORING_SERVICE", "from-environment")
    assert configure().config.service == "from-environment"
    assert configure(Config(service="from-config"), log_level="error").config.service == "from-config"
    assert configure(Config(service="from-config"), service="given").config.service == "given"


def test_an_unknown_setting_is_refused_with_the_known_ones() -> None:
    """A misspelt setting is a sentence, not a TypeError."""
    with pytest.raises(ConfigError, match=r"^servise is not a setting; use one of .*service"):
        config.with_settings(None, {"servise": "x"})
