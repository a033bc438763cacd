"""The API's description: a valid document, with every endpoint in it, that every real answer keeps to."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from monitoring import Rule
from monitoring.api import ENDPOINTS
from monitoring.store import health
from monitoring.store.health import CheckState
from tests.support.filled import Filled, filled
from tests.support.receivers import OwnChannel

API = "/monitoring/api/v1"
COSTLY = Rule("costly", "llm_cost_usd", above=0.01, for_seconds=0)
ASKED = {"/route": {"route": "/proposals"}, "/operations": {"name": "proposal.generate"}, "/search": {"q": "unknown"}}
"""What the endpoints need that answer nothing without a question."""


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    """Fill a store with one of everything: a check, an alert that was sent, a silence."""
    settings = {"rules": (COSTLY,), "channels": (OwnChannel(),)}
    with filled(tmp_path_factory.mktemp("openapi") / "store", **settings) as done:
        now = time.time()
        with done.monitoring.open_database().writing() as connection:
            health.note(connection, [CheckState("database", now - 60, now, "pass", True, 0.25, "")])
        done.monitoring.alerts.evaluate(now)
        done.monitoring.alerts.silence("costly", 5, "ana")
        yield done


@pytest.fixture(scope="module")
def document(done: Filled) -> Any:
    """Ask for the document as a user would."""
    return done.get("/openapi.json")


def test_the_document_is_valid(document: Any) -> None:
    """OpenAPI 3.1, by a validator of others."""
    OpenAPIV31SpecValidator(document).validate()


def test_every_endpoint_is_described(document: Any) -> None:
    """Path and method, a sentence, and the meaning of each parameter."""
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    own = {("POST", "/login"), ("POST", "/logout")}
    assert described == {(endpoint.method, endpoint.path) for endpoint in ENDPOINTS} | own
    for methods in document["paths"].values():
        for operation in methods.values():
            assert operation["summary"].endswith((".", ":"))
            for parameter in operation.get("parameters", []):
                assert parameter["in"] == "path" or parameter["description"]


def test_every_answer_has_fields_with_types(document: Any) -> None:
    """No endpoint answers with just anything."""
    for path, methods in document["paths"].items():
        for operation in methods.values():
            content = operation["responses"].get("200", {}).get("content")
            assert content is None or content["application/json"]["schema"] != {}, path
    untyped = [
        f"{name}.{field}"
        for name, schema in document["components"]["schemas"].items()
        for field, kind in schema["properties"].items()
        if kind == {}
    ]
    assert untyped == []


def schema_of(document: Any, method: str, path: str) -> Any:
    """Return the schema of an answer, which allows no field that it does not know."""
    answer = document["paths"][path][method.lower()]["responses"]["200"]["content"]["application/json"]["schema"]
    return {**answer, "unevaluatedProperties": False, "components": document["components"]}


def place_of(done: Filled, path: str) -> str:
    """Return a path with the IDs of things that are there."""
    group = done.get("/errors", status="all")["groups"][0]["id"]
    (episode,) = [row["id"] for row in done.get("/alerts")["open"] if row["rule"] == "costly"]
    path = path.replace("/errors/{id}", f"/errors/{group}")
    path = path.replace("{check}", done.get("/health")["checks"][0]["name"])
    return path.replace("{request_id}", done.ids["/crash"][0]).replace("{episode}", episode)


@pytest.mark.parametrize("path", [endpoint.path for endpoint in ENDPOINTS if endpoint.method == "GET"])
def test_every_answer_keeps_to_its_schema(done: Filled, document: Any, path: str) -> None:
    """All fields that are required and no others, of the types that are promised."""
    answer = done.get(place_of(done, path), **ASKED.get(path, {}))
    Draft202012Validator(schema_of(document, "GET", path)).validate(answer)


@pytest.mark.parametrize("path", ["/overview", "/routes", "/llm", "/usage", "/errors", "/system"])
def test_an_empty_answer_keeps_to_its_schema(done: Filled, document: Any, path: str) -> None:
    """Where nothing happened, numbers are null and lists are empty."""
    answer = done.get(path, **{"from": "-3d", "to": "-2d"})
    Draft202012Validator(schema_of(document, "GET", path)).validate(answer)


@pytest.mark.parametrize("path", [endpoint.path for endpoint in ENDPOINTS if endpoint.method == "POST"])
def test_every_change_is_answered_as_described(done: Filled, document: Any, path: str) -> None:
    """Changes, too."""
    response = done.api().post(f"{API}{place_of(done, path)}", json={"rule": "*"})
    assert response.status_code == 200
    Draft202012Validator(schema_of(document, "POST", path)).validate(response.json())


def test_ending_a_silence_is_answered_as_described(done: Filled, document: Any) -> None:
    """The one change that deletes."""
    silence = done.get("/alerts")["silences"][0]["id"]
    answer = done.api().delete(f"{API}/silences/{silence}").json()
    Draft202012Validator(schema_of(document, "DELETE", "/silences/{id}")).validate(answer)


@pytest.mark.parametrize("path", ["/overview?from=soon", "/requests/unknown", "/nothing"])
def test_every_refusal_is_answered_as_described(done: Filled, document: Any, path: str) -> None:
    """One field, one sentence."""
    refusal = document["paths"]["/overview"]["get"]["responses"]["default"]["content"]["application/json"]["schema"]
    schema = {**refusal, "unevaluatedProperties": False, "components": document["components"]}
    response = done.api().get(f"{API}{path}")
    assert response.status_code in (400, 404)
    Draft202012Validator(schema).validate(response.json())
