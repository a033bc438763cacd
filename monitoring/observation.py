"""The one record that every edge makes: something happened, it took this long, and it ended like this."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

Kind = Literal[
    "request", "websocket", "background", "job",
    "span", "agent", "agent_start", "operation", "event", "error",
    "db", "cache", "llm", "http",
    "task_sent", "task_start",
]  # fmt: skip
"""What happened: a request served, a websocket's life, work after a response, a job outside of requests; a piece of the
user's code, an agent's run or step and its beginning, a business operation, a usage event, an error reported by hand; a
call to a database, cache, LLM or server; a job that was queued, and the beginning of one that a queue's worker runs.
"""

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

UNMATCHED: Final = "(unmatched)"

_LINES: Final = 50
_LINE_BYTES: Final = 16 * 1024
_HELD_BYTES: Final = 20 * 1024


class Run:
    """One run of an agent, or of a step of it, and the sums of the calls inside of it that have ended: those of its
    steps among them.
    """

    __slots__ = ("id", "llm_calls", "llm_cost_usd", "llm_tokens", "llm_unpriced", "root", "tool_calls")

    def __init__(self, id: str, root: str = "") -> None:
        self.id = id
        self.root = root or id
        """The ID of the outermost run around it, which all below share; its own where there is none."""
        self.llm_calls = 0
        self.llm_tokens = 0
        self.llm_cost_usd = 0.0
        self.llm_unpriced = 0
        """LLM calls whose price is not known, which the cost leaves out."""
        self.tool_calls = 0


class Block:
    """A piece of code that runs now, such as under ``observe`` or ``agent``: what happens inside it is its child."""

    __slots__ = ("agent", "feature", "is_over", "name", "parent", "run")

    def __init__(
        self, name: str, parent: Block | None, *, agent: str = "", feature: str = "", run: Run | None = None
    ) -> None:
        self.name = name
        self.parent = parent
        self.agent: str = agent or (parent.agent if parent is not None else "")
        """The nearest agent's name, this block's own among them; "" outside of any."""
        self.feature: str = feature or (parent.feature if parent is not None else "")
        """The nearest feature's or operation's name, likewise."""
        self.run = run
        """The run that the block is, if it is an agent's."""
        self.is_over = False
        """Whether it has ended, where contexts may be left behind that are not of it any more."""

    def runs(self) -> Iterator[Run]:
        """Yield the run that the block is or belongs to, and those around it."""
        block: Block | None = self
        while block is not None:
            if block.run is not None:
                yield block.run
            block = block.parent


class Finding:
    """What is odd about the database statements of a request: one that is ``repeated``, or one that is ``slow``."""

    __slots__ = ("kind", "name", "place", "statement", "tally")

    def __init__(
        self, kind: Literal["repeated", "slow"], name: str, statement: str, place: str, tally: list[float]
    ) -> None:
        self.kind = kind
        self.name = name
        """Operation and table: ``SELECT funders``."""
        self.statement = statement
        """The text without values."""
        self.place = place
        """Where the app's own code asked: file, line and function, "" where none of it was on the stack."""
        self.tally = tally
        """How often it was executed, and the seconds of that."""


class Observation:
    """One thing that happened, handed to the sinks when it has ended. Sinks read it; nobody changes it then."""

    kind: Kind
    name: str
    """A template, never raw input: the route, the name given to ``observe``."""
    outcome: str = ""
    """One word of the kind's closed set, such as ``ok`` or ``client_error``."""
    duration_seconds: float = 0.0
    exception: BaseException | None = None
    attributes: Mapping[str, Any] | None = None
    started: float = 0.0
    """Monotonic clock at the start, seconds."""
    block: Block | None = None
    """The block in which it happened."""
    request: RequestRecord | None = None
    """The request in which it happened; a request's own observation is that request."""
    opened: Block | None = None
    """The block that it was itself, of a span, agent or operation."""

    def __init__(
        self,
        kind: Kind,
        name: str,
        outcome: str,
        duration_seconds: float,
        request: RequestRecord | None = None,
        exception: BaseException | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        self.kind = kind
        self.name = name
        self.outcome = outcome
        self.duration_seconds = duration_seconds
        self.request = request
        self.exception = exception
        self.attributes = attributes

    def __repr__(self) -> str:
        return f"<Observation {self.kind} {self.name!r} {self.outcome} {self.duration_seconds:.6f} s>"


class RequestRecord(Observation):
    """The observation of one request: the middleware makes it at the start, and everything inside adds to it.

    Attributes that were not set have their class default: making a record costs only what is known at its start. Those
    that every request reads are set by ``Edge.begin``: to set one and read it costs half of reading a default.
    """

    kind: Kind = "request"

    request_id: str
    trace_id: str
    span_id: str
    trace_flags: str = "01"
    tracestate: str = ""
    parent_span_id: str = ""
    client_request_id: str = ""
    """The caller's own ID, clipped, where it was not taken over."""
    user_id: str = ""
    consumer: str = ""
    """Who calls the app's API, where it asks for that."""

    method: str
    path: str
    route: str = ""
    """The route's template; known at the end, or earlier where a framework's seam tells it."""
    status: int = 0
    bytes_sent: int = 0
    declared_bytes: int = 0
    """Length of the response by its own word, where the server can send a file by itself."""
    started: float
    """Monotonic clock at the start, seconds."""
    first_byte_seconds: float = 0.0
    """To the start of the response; ASGI: to the first of several pieces of the body."""
    streamed: bool = False
    """Whether the body went out in more than one piece."""
    noted: bool = False
    """Whether something is known that most requests do not have: a user, the client's own ID, a parent span, an
    exception, no route, a body in several pieces. What is true of few is asked only of those that are noted.
    """
    called: bool = False
    """Whether the request made calls that are summed below."""
    disconnected: bool = False
    finished: bool = False

    db_calls: int = 0
    db_seconds: float = 0.0
    cache_hits: int = 0
    cache_misses: int = 0
    http_calls: int = 0
    http_seconds: float = 0.0
    llm_calls: int = 0
    llm_tokens: int = 0
    llm_cost_usd: float = 0.0
    error_group: str = ""

    calls: list[Observation] | None = None
    """The calls and blocks inside of it that have ended, in that order; see ``KeptRequests`` for the bound."""
    statements: dict[str, list[float]] | None = None
    """What was read from databases: how often each statement was executed, and the seconds of that."""
    findings: list[Finding] | None = None
    """What is odd about them."""
    calls_dropped: int = 0
    lines: list[bytes] | None = None
    """The log lines that were written in it, as far as they are kept."""

    if TYPE_CHECKING:

        def __init__(self) -> None: ...

    else:
        __init__ = object.__init__  # nothing to do, at the cost of nothing

    held: list[tuple[int, str, bytes]] | None = None
    """Lines that were left out, by level number and logger, to be written if the request fails."""
    held_bytes: int = 0

    def hold_line(self, number: int, logger: str, line: bytes) -> None:
        """Hold a line back, at most 20 kB of them: past that the oldest go."""
        if self.held is None:
            self.held = []
        self.held.append((number, logger, line))
        self.held_bytes += len(line)
        self.noted = True
        while self.held_bytes > _HELD_BYTES and len(self.held) > 1:
            self.held_bytes -= len(self.held.pop(0)[2])

    def found(self, kind: str) -> int:
        """Return the number of findings of a kind."""
        return sum(finding.kind == kind for finding in self.findings or ())

    def keep_line(self, line: bytes) -> None:
        """Keep a log line with the request: the first 50, and none of over 16 KiB."""
        if len(line) > _LINE_BYTES:
            return
        if self.lines is None:
            self.lines = [line]
        elif len(self.lines) < _LINES:
            self.lines.append(line)

    @property
    def name(self) -> str:  # type: ignore[override]
        """Return the route's template."""
        return self.route

    @property
    def request(self) -> RequestRecord:  # type: ignore[override]
        """Return this request."""
        return self

    def __repr__(self) -> str:
        return f"<RequestRecord {getattr(self, 'request_id', '?')} {self.route or '?'} {self.status}>"


class JobRecord(RequestRecord):
    """The record of a job: code that is no request, and has the same context and sums as one."""

    kind = "job"


def outcome_of_status(status: int) -> str:
    """Return how a complete response with this status ended."""
    if status < 400:
        return "ok"
    return "client_error" if status < 500 else "server_error"


def outcome_of_exception(error: BaseException) -> str:
    """Return how a piece of work that raised has ended: ``error``, ``cancelled`` or, of a generator,
    ``closed_early``.
    """
    if isinstance(error, Exception):
        return "error"
    if isinstance(error, GeneratorExit):
        return "closed_early"
    return "cancelled" if isinstance(error, asyncio.CancelledError) else "error"
