"""The door of the API: every request passes here on its way in, every error on its way out.

In: connection → certificate → role → handler. Out: a MeshError becomes its `ErrorAnswer`, anything else
a number that stands in our log beside the traceback. One of the four places that catch everything.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping

import msgspec
from aiohttp import web
from aiohttp.typedefs import Middleware

from planetmesh.coordinator.access import connection_of
from planetmesh.coordinator.api.call import Call, Parts
from planetmesh.errors import BadInput, MeshError, NotAllowed, NotFound, WrongOffset
from planetmesh.trust.tls import cut
from planetmesh.wire.api import ApiError, ErrorAnswer
from planetmesh.wire.codec import to_json

log = logging.getLogger(__name__)

SEND_SECONDS = 60.0
"""For one answer, or one piece of a stream, to be taken by the caller; then it is cut off."""

OFFSET = "Upload-Offset"
"""Header: how many bytes of a blob are here."""
LINES = "application/x-ndjson"
BYTES = "application/octet-stream"

Handler = Callable[[Call], Awaitable[web.StreamResponse]]


def new_door(parts: Parts, handlers: Mapping[tuple[str, str], Handler]) -> Middleware:
    """The only middleware; it finds the handler itself, so none is reachable around it."""

    @web.middleware
    async def door(
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],  # noqa: ARG001  the library's name
    ) -> web.StreamResponse:
        try:
            response = await _answer(parts, handlers, request)
        except MeshError as error:
            response = _refusal(error)
        except web.HTTPException as error:
            response = _refusal(BadInput(error.reason), error.status)
        except Exception as error:
            response = _fault(request, error)
        if request.writer.output_size > 0 and not response.prepared:
            # The answer had begun (an agent's link, say): a second one in the middle of it would be noise.
            connection_of(request).abort()
            raise ConnectionResetError("The answer broke off.")
        return await _deliver(request, response)

    return door


async def _answer(
    parts: Parts, handlers: Mapping[tuple[str, str], Handler], request: web.Request
) -> web.StreamResponse:
    connection = connection_of(request)
    await parts.access.admit(connection)
    if "Origin" in request.headers:
        raise NotAllowed("Web pages may not call this interface.")
    resource = request.match_info.route.resource
    path = resource.canonical if resource is not None else None
    error = request.match_info.http_exception
    if error is not None:
        raise _no_such_route(error)
    parts.access.allow(connection.principal, request.method, path)
    return await handlers[request.method, path or ""](Call(parts, connection, request))


def _no_such_route(error: web.HTTPException) -> MeshError | web.HTTPException:
    if error.status == 404:
        return NotFound("There is no such address in this interface.")
    return error


def _refusal(error: MeshError, status: int | None = None) -> web.Response:
    answer = ErrorAnswer(ApiError(error.code, error.message, error.hint))
    response = web.Response(
        body=to_json(answer), status=status or error.http_status, content_type="application/json"
    )
    if isinstance(error, NotAllowed):
        # A refused certificate gains nothing by staying connected.
        response.force_close()
    if isinstance(error, WrongOffset):
        response.headers[OFFSET] = str(error.have)
    return response


def _fault(request: web.Request, error: Exception) -> web.Response:
    number = secrets.token_hex(4)
    log.error("api.fault", extra={"fault": number, "method": request.method}, exc_info=error)
    return _refusal(
        MeshError(
            f"The coordinator met a fault of its own (number {number}).",
            hint="Its log has the details under that number.",
        )
    )


async def _deliver(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """Send it all, in bounded time: a caller that does not read must not hold memory for ever."""
    if isinstance(response, web.WebSocketResponse):
        return response
    try:
        async with asyncio.timeout(SEND_SECONDS):
            await response.prepare(request)
            await response.write_eof()
    except TimeoutError:
        cut(request.transport)
    except ConnectionError:
        log.debug("api.caller_gone")
    return response


class Head(msgspec.Struct, frozen=True):
    """What is known of an answer before its first byte."""

    status: int = 200
    headers: dict[str, str] = {}
    length: int | None = None
    """Bytes, where they were counted."""


class Stream:
    """An answer that is given bit by bit, mostly without a known end."""

    def __init__(self, call: Call, content_type: str, *, head: Head | None = None) -> None:
        head = head or Head()
        self._call = call
        self._response = web.StreamResponse(
            status=head.status, headers={"Cache-Control": "no-store", **head.headers}
        )
        self._response.content_type = content_type
        self._response.content_length = head.length

    async def open(self) -> None:
        await self._response.prepare(self._call.request)

    async def write(self, data: bytes) -> None:
        """Raises NotAllowed once the caller is revoked, ConnectionResetError if it is gone or too slow."""
        self._call.still_allowed()
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await self._response.write(data)
        except TimeoutError as error:
            raise ConnectionResetError("The caller does not read.") from error

    async def rest(self) -> None:
        """An empty line: the caller sees that we live, and we see whether it does."""
        await self.write(b"\n")

    @property
    def response(self) -> web.StreamResponse:
        return self._response


async def stream(
    call: Call,
    give: Callable[[Stream], Awaitable[None]],
    *,
    content_type: str = LINES,
    head: Head | None = None,
) -> web.StreamResponse:
    """Answer bit by bit. What goes wrong after the first byte ends the connection: there is no other way."""
    answer = Stream(call, content_type, head=head)
    await answer.open()
    try:
        await give(answer)
    except ConnectionError:
        call.connection.abort()
    except MeshError as error:
        log.info("api.stream_cut", extra={"reason": error.message})
        call.connection.abort()
    except Exception:
        log.exception("api.stream_fault")
        call.connection.abort()
    return answer.response
