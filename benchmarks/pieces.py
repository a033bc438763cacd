"""What do the pieces of the hot path cost, and what would their alternatives? Nanoseconds each."""

from __future__ import annotations

import argparse
import statistics
import timeit
from collections.abc import Sequence
from dataclasses import dataclass

from .report import Bar, Result, publish

REPEATS = 15
LOOPS = 20_000


@dataclass(frozen=True, slots=True)
class Piece:
    """One statement; `ours` marks the choice that the hot path makes."""

    group: str
    label: str
    statement: str
    setup: str = "pass"
    ours: bool = False


MAPPED = "import mmap; cells = memoryview(mmap.mmap(-1, 4096)).cast('d')"
PROMETHEUS = (
    "from prometheus_client import Counter, Histogram, CollectorRegistry; registry = CollectorRegistry()\n"
    "counter = Counter('c', 'help', registry=registry)\n"
    "histogram = Histogram('h', 'help', ['method', 'route', 'status'], registry=registry)\n"
    "child = histogram.labels('GET', '/items/{id}', '200')"
)
LABELS_OBSERVE = "histogram.labels('GET', '/items/{id}', '200').observe(0.012)"
RANDOM = "import os, random, uuid; getrandbits = random.getrandbits; second = '6a25f00d'"
TWO_IDS = "digits = getrandbits(96).to_bytes(12, 'big').hex(); second + digits, digits[8:]"
LONGER_IDS = "digits = getrandbits(160).to_bytes(20, 'big').hex(); second + digits[:24], digits[24:]"
SIX = "a=a, b=b, c=c, d=d, e=e, f=f"
CLOSURE = "def make(a, b, c, d, e, f):\n    def send(message): return a, b, c, d, e, f\n    return send"
DEFAULTS = f"def make(a, b, c, d, e, f):\n    def send(message, {SIX}): return a, b, c, d, e, f\n    return send"
RECORD = "class Record:\n    noted = False\nrecord = Record(); record.route = '/'"
PAGES = (
    "import mmap\n"
    "chunk = memoryview(mmap.mmap(-1, 1 << 16)).cast('d'); page = chunk[640:704]; first = 640\n"
    "from bisect import bisect_left\n"
    "bounds = tuple(1e-6 * 1.04**step for step in range(560))"
)
BLOCK = "from io import BytesIO; line = b'x' * 450; block = BytesIO(bytes(1 << 16))"
CONTEXT = "from contextvars import ContextVar; variable = ContextVar('v', default=None)"
LINE = (
    "import json\n"
    "try: import orjson\n"
    "except ImportError: orjson = None\n"
    "time, id, route, ms = '2025-01-01T00:00:00.000000Z', '0' * 32, '/items/{id}', 12.345\n"
    "fields = lambda: {'timestamp': time, 'level': 'info', 'logger': 'monitoring.request', 'event': 'request',"
    " 'request_id': id, 'method': 'GET', 'route': route, 'status': 200, 'outcome': 'ok', 'duration_ms': ms}"
)
FORMATTED = (
    """f'{{"timestamp":"{time}","level":"info","logger":"monitoring.request","event":"request","request_id":"{id}","""
    """"method":"GET","route":"{route}","status":200,"outcome":"ok","duration_ms":{ms:.3f}}}\\n'.encode()"""
)

PIECES = (
    Piece("increment", "cell of a mapped file", "cells[7] += 1.0", MAPPED, ours=True),
    Piece("increment", "item of a list", "cells[7] += 1.0", "cells = [0.0] * 512"),
    Piece("increment", "prometheus_client Counter.inc()", "counter.inc()", PROMETHEUS),
    Piece("increment", "prometheus_client child.observe()", "child.observe(0.012)", PROMETHEUS),
    Piece("increment", "prometheus_client labels().observe()", LABELS_OBSERVE, PROMETHEUS),
    Piece("increment", "item of a view that all series share, by number", "chunk[first + 7] += 1.0", PAGES, ours=True),
    Piece("increment", "item of a view of its own", "page[7] += 1.0", PAGES),
    Piece("increment", "finding the bucket of 560", "bisect_left(bounds, 8e-5)", PAGES, ours=True),
    Piece("record", "an attribute of the instance", "record.route", RECORD, ours=True),
    Piece("record", "a default of the class", "record.noted", RECORD),
    Piece("send", "a function with six defaults", "make(1, 2, 3, 4, 5, 6)", DEFAULTS, ours=True),
    Piece("send", "a closure over six variables", "make(1, 2, 3, 4, 5, 6)", CLOSURE),
    Piece("ID", "second and 96 random bits; their end for the span", TWO_IDS, RANDOM, ours=True),
    Piece("ID", "second and 160 random bits, cut in two", LONGER_IDS, RANDOM),
    Piece("ID", "getrandbits(128), bytes, hex", "getrandbits(128).to_bytes(16, 'big').hex()", RANDOM),
    Piece("ID", "'%032x' % getrandbits(128)", "'%032x' % getrandbits(128)", RANDOM),
    Piece("ID", "os.urandom(16).hex()", "os.urandom(16).hex()", RANDOM),
    Piece("ID", "uuid4().hex", "uuid.uuid4().hex", RANDOM),
    Piece("ID", "str(uuid4())", "str(uuid.uuid4())", RANDOM),
    Piece("context", "ContextVar set and reset", "variable.reset(variable.set(1))", CONTEXT, ours=True),
    Piece("context", "ContextVar get", "variable.get()", CONTEXT),
    Piece("line", "f-string of a fixed shape", FORMATTED, LINE, ours=True),
    Piece("line", "into a block that is used again", "block.seek(0); block.write(line)", BLOCK, ours=True),
    Piece("line", "orjson of a dict", "orjson.dumps(fields())", LINE),
    Piece("line", "json of a dict", "(json.dumps(fields()) + '\\n').encode()", LINE),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Time every piece and publish the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pieces", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a third of the repeats: a first idea")
    chosen = parser.parse_args(arguments)
    repeats = REPEATS // 3 if chosen.quick else REPEATS
    timed = [(piece, _nanoseconds(piece, repeats)) for piece in PIECES]
    publish(
        Result(
            name="pieces",
            title="The pieces of the hot path",
            columns=("piece", "ns", "quickest", "what"),
            rows=[
                [piece.group, f"{statistics.median(ns):,.0f}", f"{min(ns):,.0f}", piece.label] for piece, ns in timed
            ],
            unit="nanoseconds, quickest to slowest",
            bars=[Bar(piece.label, statistics.median(ns), min(ns), max(ns), piece.ours) for piece, ns in timed],
            notes=[f"Median of {repeats} x {LOOPS:,} executions, the empty loop taken off."],
            data={piece.label: [round(value, 1) for value in ns] for piece, ns in timed},
        )
    )


def _nanoseconds(piece: Piece, repeats: int) -> list[float]:
    empty = min(timeit.repeat("pass", repeat=repeats, number=LOOPS))
    seconds = timeit.repeat(piece.statement, piece.setup, repeat=repeats, number=LOOPS)
    return [max(0.0, value - empty) / LOOPS * 1e9 for value in seconds]


if __name__ == "__main__":
    main()
