"""The coordinator's API as one aiohttp application: every route of the table behind one door.

`service` builds it and serves it through `guard.new_runner` and `guard.guarded`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cache

from aiohttp import web

from planetmesh.coordinator.access import RULES
from planetmesh.coordinator.api.call import Call, Parts
from planetmesh.coordinator.api.door import Handler, new_door
from planetmesh.coordinator.api.guard import CONNECTIONS, SERVER
from planetmesh.coordinator.api.inputs import hear_inputs
from planetmesh.coordinator.api.openapi import describe
from planetmesh.coordinator.api.routes import ROUTES
from planetmesh.wire.codec import to_json

AgentLinkHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]
"""Speaks with an agent whose certificate and role were checked."""


def build_from(parts: Parts, agent_link: AgentLinkHandler) -> web.Application:
    """The application; `parts.failures.note` is for the pairing desk's `on_attempt_failed`."""
    handlers = _handlers(agent_link)
    if handlers.keys() != RULES.keys():
        odd = sorted(handlers.keys() ^ RULES.keys())
        raise RuntimeError(f"Routes and roles do not match: {odd}")
    app = web.Application(
        middlewares=[new_door(parts, handlers)], client_max_size=parts.settings.api_body_most_bytes
    )
    app[CONNECTIONS] = parts.access.connections
    for method, path in handlers:
        app.router.add_route(method, path, _unreachable)
    app.on_response_prepare.append(_sign)

    async def cut_open_ended(_app: web.Application) -> None:
        for connection in tuple(parts.open_ended):
            connection.abort()

    app.on_shutdown.append(cut_open_ended)
    return app


@cache
def _document() -> bytes:
    """Made when it is first asked for: few ask, and every start would pay for it."""
    return to_json(describe(ROUTES))


async def _give_document(_call: Call) -> web.StreamResponse:
    return web.Response(body=_document(), content_type="application/json")


def _handlers(agent_link: AgentLinkHandler) -> dict[tuple[str, str], Handler]:
    async def speak_with_agent(call: Call) -> web.StreamResponse:
        return await agent_link(call.request)

    handlers: dict[tuple[str, str], Handler] = {(each.method, each.path): each.handler for each in ROUTES}
    handlers["GET", "/v1/openapi.json"] = _give_document
    handlers["GET", "/v1/agent"] = speak_with_agent
    handlers["GET", "/v1/inputs"] = hear_inputs
    return handlers


async def _unreachable(_request: web.Request) -> web.StreamResponse:
    """Stands in the router; the door answers before it comes here."""
    raise web.HTTPNotFound


async def _sign(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = SERVER
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers["X-Content-Type-Options"] = "nosniff"
