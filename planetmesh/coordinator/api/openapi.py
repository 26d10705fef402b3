"""The OpenAPI 3.1 document, made from the route table, the role table and the wire's structs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from planetmesh import __version__
from planetmesh.coordinator.access import RULES
from planetmesh.coordinator.api.door import BYTES, LINES
from planetmesh.coordinator.api.routes import Parameter, Route
from planetmesh.wire.api import ErrorAnswer

_REFERENCE = "#/components/schemas/{name}"
_PART = re.compile(r"\{(\w+)\}")


def describe(routes: Iterable[Route]) -> dict[str, Any]:
    """The whole document; the WebSockets stand in it as the upgrades that they are."""
    routes = tuple(routes)
    bodies = {route.body for route in routes if route.body is not None}
    answers = {route.answer for route in routes if route.answer is not None}
    kinds = sorted(bodies | answers | {ErrorAnswer}, key=str)
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REFERENCE)
    by_kind = dict(zip(kinds, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, by_kind)
    paths["/v1/openapi.json"] = {"get": _plain("get_openapi", "This document.", "/v1/openapi.json", "200")}
    paths["/v1/agent"] = {
        "get": _plain("agent_link", "The agents' WebSocket (MessagePack).", "/v1/agent", "101")
    }
    about = "A WebSocket that takes messages for POST /v1/jobs/{job}/inputs (JSON in binary frames)."
    paths["/v1/inputs"] = {"get": _plain("hear_inputs", about, "/v1/inputs", "101")}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "planetmesh",
            "version": __version__,
            "description": "Every call needs a client certificate of this mesh; its role decides.",
        },
        "security": [{"certificate": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"certificate": {"type": "mutualTLS"}},
        },
    }


def _operation(route: Route, by_kind: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    schema = by_kind[route.answer] if route.answer is not None else {"type": "object"}
    content = {LINES if route.lines else "application/json": {"schema": schema}}
    content |= {BYTES: {}} if route.raw else {}
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.about,
        "x-roles": _roles(route.method, route.path),
        "parameters": [_path_part(name) for name in _PART.findall(route.path)]
        + [_query_part(parameter) for parameter in route.query],
        "responses": {
            str(route.status): {"description": "Done.", "content": content},
            "default": {
                "description": "Refused, or failed.",
                "content": {"application/json": {"schema": by_kind[ErrorAnswer]}},
            },
        },
    }
    if route.body is not None:
        operation["requestBody"] = {"content": {"application/json": {"schema": by_kind[route.body]}}}
    elif route.takes_bytes:
        operation["requestBody"] = {"content": {BYTES: {}}}
    return operation


def _plain(name: str, about: str, path: str, status: str) -> dict[str, Any]:
    responses = {status: {"description": about}}
    return {"operationId": name, "summary": about, "x-roles": _roles("GET", path), "responses": responses}


def _roles(method: str, path: str) -> list[str]:
    return sorted(role.value for role in RULES[method, path])


def _path_part(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _query_part(parameter: Parameter) -> dict[str, Any]:
    schema = {"type": parameter.kind}
    return {"name": parameter.name, "in": "query", "description": parameter.about, "schema": schema}
