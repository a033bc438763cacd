"""The Flask twin of the ASGI app."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from flask import Blueprint, Flask, Response, jsonify

import monitoring
from tests.support.apps import business

app = Flask(__name__)
inner = Blueprint("inner", __name__, url_prefix="/inner")
outer = Blueprint("outer", __name__, url_prefix="/outer")


@app.get("/items/<int:id>")
def item(id: int) -> Response:
    """Answer at once, naming the worker."""
    response = jsonify({"id": id})
    response.headers["x-worker"] = str(os.getpid())
    return response


@app.get("/slow/<int:milliseconds>")
def slow(milliseconds: int) -> str:
    """Answer after the given milliseconds."""
    time.sleep(milliseconds / 1_000)
    return "slow"


@app.get("/busy")
def busy() -> tuple[str, int]:
    """Answer with an error of the server's own choice."""
    return "busy", 503


@app.get("/fail")
def fail() -> str:
    """Raise what nobody handles."""
    raise RuntimeError("the handler failed")


@app.get("/stream")
def stream() -> Response:
    """Send a chunk now and then until the client leaves."""

    def chunks() -> Iterator[bytes]:
        while True:
            yield b"chunk\n"
            time.sleep(0.02)

    return Response(chunks(), mimetype="text/plain")


@app.get("/stream/failure")
def stream_failure() -> Response:
    """Send one chunk and fail."""

    def chunks() -> Iterator[bytes]:
        yield b"chunk\n"
        raise RuntimeError("the stream failed")

    return Response(chunks(), mimetype="text/plain")


@app.get("/custom/<funder>")
def custom(funder: str) -> str:
    """Change every kind of custom metric."""
    business.record(funder)
    return "recorded"


@inner.get("/leaf/<name>")
def leaf(name: str) -> str:
    """Answer from inside two blueprints."""
    return name


outer.register_blueprint(inner)
app.register_blueprint(outer)
monitoring.install(app)
