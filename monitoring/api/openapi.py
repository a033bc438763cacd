"""The API's description by OpenAPI 3.1, made of the table of endpoints and the types of what they return."""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from .endpoints import ENDPOINTS, Endpoint
from .shapes import ErrorShape

_PLAIN: Final[Mapping[Any, dict[str, Any]]] = {
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
}
_GUARD: Final[Mapping[str, Any]] = {
    "name": "X-Monitoring",
    "in": "header",
    "required": True,
    "description": "Any value: shows that no other site's form sent this.",
    "schema": {"type": "string"},
}


def document(version: str) -> dict[str, Any]:
    """Return the whole document."""
    schemas: dict[str, Any] = {}
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in ENDPOINTS:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, schemas)
    paths |= _session_paths(schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "monitoring-kit", "version": version, "description": "What the dashboard reads."},
        "servers": [{"url": "."}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _session_paths(schemas: dict[str, Any]) -> dict[str, Any]:
    """Return how a browser logs in and out: with a cookie that stands for the token."""
    refused = _json("Why not.", _schema(ErrorShape, schemas))
    token = {"type": "object", "required": ["token"], "properties": {"token": {"type": "string"}}}
    forms = ("application/json", "application/x-www-form-urlencoded")
    return {
        "/login": {
            "post": {
                "operationId": "login",
                "summary": "Give a browser that knows the token a cookie that stands for it.",
                "security": [],
                "requestBody": {"required": True, "content": {form: {"schema": token} for form in forms}},
                "responses": {"204": {"description": "The cookie is set."}, "default": refused},
            }
        },
        "/logout": {
            "post": {
                "operationId": "logout",
                "summary": "Take the cookie back.",
                "security": [],
                "parameters": [_GUARD],
                "responses": {"204": {"description": "The cookie is gone."}, "default": refused},
            }
        },
    }


def _operation(endpoint: Endpoint, schemas: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": endpoint.answer.__name__,
        "summary": (inspect.getdoc(endpoint.answer) or "").splitlines()[0],
        "parameters": list(_parameters(endpoint)),
        "responses": {
            "200": _json("The answer.", _schema(_returned(endpoint), schemas)),
            "default": _json("Why there is no answer.", _schema(ErrorShape, schemas)),
        },
    }
    if endpoint.body:
        properties = {name: {"description": meaning} for name, meaning in endpoint.body.items()}
        operation["requestBody"] = {
            "content": {"application/json": {"schema": {"type": "object", "properties": properties}}}
        }
    return operation


def _parameters(endpoint: Endpoint) -> Iterator[Mapping[str, Any]]:
    text = {"type": "string"}
    for name in re.findall(r"{(\w+)}", endpoint.path):
        yield {"name": name, "in": "path", "required": True, "schema": text}
    for name, meaning in endpoint.parameters.items():
        yield {"name": name, "in": "query", "description": meaning, "schema": text}
    if endpoint.method != "GET":
        yield _GUARD


def _returned(endpoint: Endpoint) -> Any:
    return get_type_hints(endpoint.answer)["return"]


def _json(description: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _schema(kind: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a type; records become components."""
    if kind in _PLAIN:
        return _PLAIN[kind]
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _reference(kind, schemas)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return {"anyOf": [_schema(argument, schemas) for argument in arguments]}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is tuple and Ellipsis not in arguments:
        parts = [_schema(argument, schemas) for argument in arguments]
        if all(map(dataclasses.is_dataclass, arguments)):
            return {"allOf": parts}  # records are answered as one object, see ``encoding``
        return {"type": "array", "prefixItems": parts, "minItems": len(parts), "maxItems": len(parts)}
    if origin in (tuple, list, Sequence) or (isinstance(origin, type) and issubclass(origin, Sequence)):
        return {"type": "array", "items": _schema(arguments[0], schemas)}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _schema(arguments[1], schemas)}
    return {}


def _reference(kind: type, schemas: dict[str, Any]) -> dict[str, Any]:
    name = kind.__name__.removesuffix("Shape")
    if name not in schemas:
        schemas[name] = {}  # known before its fields are: a record may hold itself
        hints = get_type_hints(kind)
        properties = {field.name: _schema(hints[field.name], schemas) for field in dataclasses.fields(kind)}
        schemas[name] = {
            "type": "object",
            "description": (inspect.getdoc(kind) or "").split("\n\n")[0],
            "required": list(properties),
            "properties": properties,
        }
    return {"$ref": f"#/components/schemas/{name}"}
