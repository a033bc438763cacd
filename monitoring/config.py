"""Every setting, in one frozen record, read once."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Final, Literal, TypeGuard, get_args, get_type_hints

Environment = Literal["production", "development"]
OnInvalid = Literal["replace", "reject"]
Level = Literal["debug", "info", "warning", "error", "critical"]
LogFormat = Literal["auto", "json", "pretty"]
Authorize = Callable[[MutableMapping[str, Any]], bool | Awaitable[bool]]

ENVIRONMENT_PREFIX: Final = "MONITORING_"

_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HOST: Final = re.compile(r"\*|\.?[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?|[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*")
_NOT_TEXT: Final = frozenset(
    {"authorize", "budgets", "categorize", "rules", "channels", "log_handlers", "log_processors", "scrub_rules"}
)
"""Settings that no environment variable can hold."""
_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off"})


class ConfigError(ValueError):
    """A setting that cannot be used: the message names it, its value and the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Every setting of the pack. Raise ConfigError for a value that cannot be used."""

    service: str = "app"
    """Name of the service, on every log line; it also names the shared cells."""
    environment: Environment = "production"
    """``development`` lets callers on this machine see details without a token."""

    request_id_header: str = "x-request-id"
    """Response header that carries the request ID."""
    request_id_sources: tuple[str, ...] = ("x-request-id", "x-correlation-id")
    """Inbound headers that may carry an ID, the first present one wins; ``traceparent``, ``x-amzn-trace-id`` and
    ``cf-ray`` also work.
    """
    trusted_proxies: tuple[str, ...] = ()
    """Networks (``10.0.0.0/8``, ``127.0.0.1``), ``unix`` for unix sockets or ``*`` whose request IDs are taken over;
    others' are only noted.
    """
    propagate_to: tuple[str, ...] = ()
    """Hosts to which wrapped HTTP clients send the request ID and the trace along: names, ``.example.org`` for what is
    below it, or ``*`` for all.
    """
    on_invalid_request_id: OnInvalid = "replace"
    """What an inbound ID of forbidden characters or length leads to: a fresh ID, or the answer 400."""

    consumer: Callable[[Mapping[str, str]], str | None] | str | None = None
    """Who calls the app's API: a header's name, such as ``x-api-key``, of whose value only a keyed hash is kept, or a
    function of the request's headers (names in lower case) that returns a name; see also ``monitoring.set_consumer``.
    """

    log_level: Level = "info"
    """Lowest level that is written."""
    log_destination: str = "stdout"
    """``stdout``, ``stderr`` or a file's path."""
    log_queue_bytes: int = 8 * 1024 * 1024
    """Bytes of rendered lines that may wait for the writer; past them lines below error are dropped and counted."""
    log_flush_seconds: float = 0.5
    """Longest time a line waits for the writer, in seconds; errors do not wait."""

    log_levels: Mapping[str, str] = field(default_factory=dict)
    """Levels of single loggers and what is below them: ``{"app.billing": "debug"}``, as a variable
    ``app.billing=debug``.
    """
    log_format: LogFormat = "auto"
    """``json``, ``pretty`` for people, or ``auto``: pretty where the destination is a terminal. Handlers get JSON."""
    log_max_bytes: int | None = None
    """Rotate the file before a line makes it larger. Several workers may write to it; no line is lost."""
    log_rotate_every: str | None = None
    """Rotate it at the beginning of each ``hour`` or ``day`` (UTC)."""
    log_keep_files: int | None = None
    """Rotated files that are kept; the oldest go first."""
    log_keep_days: float | None = None
    """Days that rotated files are kept."""
    log_keep_bytes: int | None = None
    """Bytes of all rotated files together."""
    log_compress: bool = True
    """Compress rotated files, in the background."""
    log_handlers: tuple[Any, ...] = ()
    """Where lines go as well: ``monitoring.LogFile``, ``Syslog``, ``Loki``, ``OTLP``, or a handler of your own."""
    log_sample_rate: float = 1.0
    """Share of requests whose lines below warning are written, all of a request or none; those of a failed request's
    own line and of warnings are written always.
    """
    log_debug_on_failure: bool = False
    """Hold lines that are left out, 20 kB a request, and write them if the request fails. Rendering them costs what it
    costs to write them.
    """
    log_repeats: int = 0
    """Lines of one logger, level and event in ten seconds at most; the others are counted in one line. 0: no bound."""
    log_access_lines: bool = False
    """Write the servers' own access lines, too, as fields; the canonical line of each request tells the same."""
    log_record_fields: tuple[str, ...] = ()
    """Standard attributes of stdlib records that become fields, such as ``lineno`` and ``threadName``."""
    log_leave_out: tuple[str, ...] = ()
    """Fields of stdlib records that do not come out."""
    log_processors: tuple[Any, ...] = ()
    """Processors of structlog that see the events of structlog loggers before they are lines."""
    log_rename: Mapping[str, str] = field(default_factory=dict)
    """Other names for keys in the main destination: ``{"timestamp": "@timestamp", "level": "severity"}``."""
    log_fields: Mapping[str, Any] = field(default_factory=dict)
    """Fields on every line of the main destination: ``{"region": "eu"}``."""

    scrub: bool = True
    """Take secrets and personal data out of lines and stored errors, by the rules of docs/scrubbing.md."""
    scrub_without: tuple[str, ...] = ()
    """Names of rules to leave out, such as ``email``."""
    scrub_rules: tuple[Any, ...] = ()
    """More rules: ``FieldRule`` and ``ValueRule`` of ``monitoring.utils.redaction``."""

    health_path: str | None = "/health"
    """Prefix of the health routes; None switches them off."""
    drain_seconds: float = 0.0
    """Seconds after SIGTERM in which probes see that the app is not ready while it serves on; then the server gets the
    signal. 5 to 10 behind Kubernetes or a load balancer; well below gunicorn's ``graceful_timeout``.
    """
    stuck_seconds: float | None = 30.0
    """Seconds without an answer from the event loop after which the process is not live, and the loop's stack is
    logged; None for never.
    """
    metrics_path: str | None = "/metrics"
    """Path of the Prometheus exposition; None switches it off."""
    dashboard_path: str | None = "/monitoring"
    """Prefix of the dashboard and its API; None switches them off."""
    token: str | None = None
    """Secret that opens metrics and health details, as ``Authorization: Bearer``."""
    metrics_public: bool = False
    """Open the metrics to anybody."""
    authorize: Authorize | None = None
    """The app's own say over who may see metrics and details: gets the ASGI scope, may be async."""

    cells_folder: str | None = None
    """Folder for the shared metric cells; by default one in shared memory, per user, service and store."""
    store: str | None = ".monitoring"
    """Folder of the embedded store, or the URL of a database (``postgresql+psycopg://...``); None keeps nothing: then
    there is no dashboard, no alert and no usage.
    """
    host: str = ""
    """Name of this host in the store; by default the system's."""
    hash_users: bool = True
    """Keep users in the store as keyed hashes only."""
    slow_request_seconds: float = 1.0
    """Requests of this duration or more are kept whole, besides those that are slow for their route."""
    repeated_queries: int | None = 10
    """How often a request or job may read by one statement before that is found to be repeated; None or 0 for ever."""
    slow_query_seconds: float = 0.5
    """Database statements of this duration or more are counted as slow, and logged."""
    sample_rate: float = 0.01
    """Share of the other requests that are kept whole; 0 for none."""
    llm_stream_usage: bool = False
    """Ask providers with OpenAI's protocol for the token counts of streams (``stream_options``), which they do not tell
    by themselves. The chunk that tells them is taken out unless the app asked for it, too.
    """
    llm_content: float = 0.0
    """Share of calls to language models whose prompt and answer are kept with their request, if that is kept: scrubbed,
    4 kB of each, in the store alone. 0 for none.
    """
    kept_per_second: float = 50.0
    """Requests that a process keeps whole in a second at most; failed ones have as many places again."""
    keep_facts_days: float = 14.0
    """Days that kept requests, error events, usage events and operations stay in the store."""
    keep_minutes_days: float = 7.0
    """Days that roll-ups by the minute stay; those by the hour stay 90 days, those by the day 400."""
    store_max_bytes: int = 1024 * 1024 * 1024
    """Size of the embedded store past which the oldest facts go before their time."""

    project_root: str | None = None
    """Folder whose code is the app's own in stacks; by default all code is that is neither installed nor Python's."""
    in_app_include: tuple[str, ...] = ()
    """Prefixes of modules that are the app's own wherever they lie."""
    in_app_exclude: tuple[str, ...] = ()
    """Prefixes of modules that are not."""
    categorize: Callable[[BaseException], str | None] | None = None
    """The app's own say over an error's category; None, also as its answer, leaves it to the pack."""

    budgets: tuple[Any, ...] = ()
    """What LLM calls may cost (``monitoring.Budget``), over all processes that share the store; without a store each
    process counts alone.
    """
    rules: tuple[Any, ...] = ()
    """Alert rules (``monitoring.Rule``), besides the default ones; one of the same name replaces it."""
    channels: tuple[Any, ...] = ()
    """Where notices go: ``monitoring.Email``, ``monitoring.Webhook``, or a channel of your own."""
    base_url: str = ""
    """Scheme and host of the app as people reach it, for links in notices: ``https://app.example.org``."""
    max_series: int = 2000
    """Label sets kept per metric; past them ``(other)``."""
    max_label_values: int = 500
    """Values kept per label; past them ``(other)``."""

    def __post_init__(self) -> None:
        for name, is_usable, remedy in _RULES:
            value = getattr(self, name)
            if not _passes(is_usable, value):
                raise ConfigError(f"{name} must be {remedy}, got {value!r}.")

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **settings: Any) -> Config:
        """Return a config from ``MONITORING_*`` variables; ``settings`` win over them.

        Lists are separated by commas, empty means None for what may be None. Raise ConfigError for an unknown or
        unusable one.
        """
        environ = os.environ if environ is None else environ
        known = {field.name: field for field in fields(cls)}
        types = get_type_hints(cls)
        for variable, text in environ.items():
            name = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
            if not variable.startswith(ENVIRONMENT_PREFIX) or name in settings:
                continue
            if name not in known or name in _NOT_TEXT:
                readable = ", ".join(
                    sorted(f"{ENVIRONMENT_PREFIX}{key.upper()}" for key in known if key not in _NOT_TEXT)
                )
                raise ConfigError(f"{variable} is not a setting; remove it or use one of {readable}.")
            settings[name] = _parse(variable, text, known[name].default, str(types[name]))
        try:
            return cls(**settings)
        except ConfigError as error:
            name, _, rest = str(error).partition(" ")
            variable = f"{ENVIRONMENT_PREFIX}{name.upper()}"
            raise ConfigError(f"{variable} {rest}" if variable in environ else str(error)) from None


def with_settings(config: Config | None, settings: Mapping[str, Any]) -> Config:
    """Return ``config`` (by default the environment's) with ``settings`` on top.

    Raise ConfigError naming an unknown one.
    """
    known = {field.name for field in fields(Config)}
    for name in settings:
        if name not in known:
            raise ConfigError(f"{name} is not a setting; use one of {', '.join(sorted(known))}.")
    if config is None:
        return Config.from_env(**settings)
    present = {name: getattr(config, name) for name in known}
    return Config(**{**present, **settings})


def _parse(variable: str, text: str, default: Any, annotation: str) -> Any:
    if "tuple" in annotation:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if "Mapping" in annotation and "Callable" not in annotation:
        return _parse_pairs(variable, text)
    if text == "" and "None" in annotation:
        return None
    if default is None and ("int" in annotation or "float" in annotation):
        default = 14.0 if "float" in annotation else 1_000_000
    if isinstance(default, bool):
        if text.lower() not in _TRUE | _FALSE:
            raise ConfigError(f"{variable} must be true or false, got {text!r}.")
        return text.lower() in _TRUE
    if isinstance(default, (int, float)) and default is not MISSING:
        try:
            return type(default)(text)
        except ValueError:
            kind = "a whole number" if isinstance(default, int) else "a number"
            raise ConfigError(f"{variable} must be {kind}, got {text!r}; for example {default}.") from None
    return text


def _parse_pairs(variable: str, text: str) -> dict[str, str]:
    pairs = [part.strip().partition("=") for part in text.split(",") if part.strip()]
    for name, sign, _ in pairs:
        if not sign or not name:
            raise ConfigError(f"{variable} must be pairs such as a=b,c=d, got {text!r}.")
    return {name.strip(): value.strip() for name, _, value in pairs}


def _passes(is_usable: Callable[[Any], bool], value: object) -> bool:
    try:
        return is_usable(value)
    except (TypeError, AttributeError):  # it is of another type, such as a text for a number
        return False


def _are_levels(value: object) -> bool:
    return _is_mapping(value) and set(value.values()) <= set(_LEVELS)


def _is_mapping(value: object) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping) and _are_names(tuple(value))


def _are_names(value: object) -> bool:
    return isinstance(value, (tuple, list)) and all(isinstance(name, str) for name in value)


def _is_network(value: str) -> bool:
    if value in ("*", "unix"):
        return True
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        return False
    return True


def _is_host(value: object) -> bool:
    return isinstance(value, str) and _HOST.fullmatch(value) is not None


def _is_prefix(value: object) -> bool:
    return value is None or (isinstance(value, str) and re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", value) is not None)


def _are_headers(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(name, str) and _HEADER_NAME.fullmatch(name) for name in value)


_LEVELS: Final = get_args(Level)
_POSITIVE: Final = "a positive number"
_RULES: Final[tuple[tuple[str, Callable[[Any], bool], str], ...]] = (
    ("service", lambda value: isinstance(value, str) and value.strip() != "", "a name such as 'proposals'"),
    ("environment", lambda value: value in ("production", "development"), "'production' or 'development'"),
    ("request_id_header", lambda value: _are_headers((value,)), "a header's name such as 'x-request-id'"),
    ("request_id_sources", _are_headers, "a tuple of headers' names such as ('x-request-id',)"),
    (
        "trusted_proxies",
        lambda value: isinstance(value, tuple) and all(map(_is_network, value)),
        "a tuple of networks such as ('10.0.0.0/8',), 'unix' or '*'",
    ),
    ("on_invalid_request_id", lambda value: value in ("replace", "reject"), "'replace' or 'reject'"),
    (
        "consumer",
        lambda value: value is None or callable(value) or _are_headers((value,)),
        "a header's name such as 'x-api-key', a function of the headers, or None",
    ),
    (
        "propagate_to",
        lambda value: isinstance(value, tuple) and all(map(_is_host, value)),
        "a tuple of hosts without scheme and port, such as ('api.example.org', '.internal'), or ('*',)",
    ),
    (
        "log_level",
        lambda value: value in _LEVELS,
        "'debug', 'info', 'warning', 'error' or 'critical'",
    ),
    ("log_destination", lambda value: isinstance(value, str) and value != "", "'stdout', 'stderr' or a file's path"),
    ("log_levels", _are_levels, "a mapping of loggers to levels such as {'app.billing': 'debug'}"),
    ("log_format", lambda value: value in ("auto", "json", "pretty"), "'auto', 'json' or 'pretty'"),
    (
        "log_handlers",
        lambda value: isinstance(value, (tuple, list)) and all(hasattr(one, "open") for one in value),
        "a list of handlers such as monitoring.LogFile(...)",
    ),
    ("log_rotate_every", lambda value: value in (None, "hour", "day"), "'hour' or 'day', or None"),
    ("log_sample_rate", lambda value: 0 <= value <= 1, "between 0 and 1, for example 0.1"),
    ("log_repeats", lambda value: isinstance(value, int) and value >= 0, "a whole number, 0 for no bound"),
    (
        "log_processors",
        lambda value: isinstance(value, (tuple, list)) and all(map(callable, value)),
        "a list of structlog processors",
    ),
    ("log_record_fields", _are_names, "a tuple of attributes of records such as ('lineno',)"),
    ("log_leave_out", _are_names, "a tuple of names of fields"),
    (
        "log_rename",
        lambda value: _is_mapping(value) and _are_names(tuple(value.values())),
        "a mapping of keys to their new names",
    ),
    ("log_fields", _is_mapping, "a mapping of fields"),
    ("scrub_without", lambda value: isinstance(value, tuple), "a tuple of names of rules such as ('email',)"),
    ("scrub_rules", lambda value: isinstance(value, (tuple, list)), "a list of FieldRule and ValueRule"),
    ("log_queue_bytes", lambda value: isinstance(value, int) and value >= 65536, "at least 65536 bytes"),
    ("log_flush_seconds", lambda value: 0 < value <= 60, "between 0 and 60 seconds, for example 0.5"),
    ("health_path", _is_prefix, "a path such as '/health', or None to switch it off"),
    ("drain_seconds", lambda value: 0 <= value <= 3600, "between 0 and 3600 seconds, for example 5"),
    ("stuck_seconds", lambda value: value is None or value >= 1, "at least 1 second, for example 30, or None"),
    ("metrics_path", _is_prefix, "a path such as '/metrics', or None to switch it off"),
    (
        "token",
        lambda value: value is None or (isinstance(value, str) and len(value) >= 8),
        "at least 8 characters, or None",
    ),
    ("authorize", lambda value: value is None or callable(value), "a function of the scope, or None"),
    ("dashboard_path", _is_prefix, "a path such as '/monitoring', or None to switch it off"),
    (
        "store",
        lambda value: value is None or (isinstance(value, str) and value != ""),
        "a folder such as '.monitoring', a database's URL, or None",
    ),
    ("slow_request_seconds", lambda value: value > 0, "a positive number of seconds, for example 1.0"),
    (
        "repeated_queries",
        lambda value: value in (None, 0) or (isinstance(value, int) and value >= 2),
        "a whole number of 2 or more, for example 10, or None",
    ),
    ("slow_query_seconds", lambda value: value > 0, "a positive number of seconds, for example 0.5"),
    ("sample_rate", lambda value: 0 <= value <= 1, "between 0 and 1, for example 0.01"),
    ("llm_content", lambda value: 0 <= value <= 1, "between 0 and 1, for example 0.01"),
    ("kept_per_second", lambda value: value > 0, "a positive number, for example 50"),
    ("keep_facts_days", lambda value: value > 0, "a positive number of days, for example 14"),
    ("keep_minutes_days", lambda value: value >= 0.5, "at least half a day, for example 7"),
    ("store_max_bytes", lambda value: value >= 16 * 1024 * 1024, "at least 16777216 bytes"),
    ("budgets", lambda value: isinstance(value, (tuple, list)), "a list of monitoring.Budget"),
    ("rules", lambda value: isinstance(value, (tuple, list)), "a list of monitoring.Rule"),
    ("channels", lambda value: isinstance(value, (tuple, list)), "a list of channels such as monitoring.Email"),
    ("base_url", lambda value: value == "" or value.startswith(("http://", "https://")), "an http or https URL, or ''"),
    ("categorize", lambda value: value is None or callable(value), "a function of the exception, or None"),
    ("max_series", lambda value: isinstance(value, int) and value > 0, _POSITIVE),
    ("max_label_values", lambda value: isinstance(value, int) and value > 0, _POSITIVE),
)
