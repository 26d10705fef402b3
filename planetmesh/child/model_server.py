"""Texts to vectors by a server that runs on this node: Ollama's own call, or OpenAI's that many servers know.

Loopback only, without a proxy, with bounds for what comes back. Networks are not closed to tasks, so this
needs no opening in the sandbox; agent/model_servers.py looks at the same addresses to know the models.
"""

from __future__ import annotations

import http.client
import os
import socket
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from planetmesh.errors import BadInput
from planetmesh.jobtypes.embedding import Server
from planetmesh.jobtypes.loopback import (
    OLLAMA_VARIABLE,
    SERVER_VARIABLE,
    Loopback,
    ollama_address,
    read_loopback,
)

OLLAMA_PORT = 11434
ANSWER_MOST_BYTES = 256 * 1024 * 1024
SECONDS = 600.0
"""A server may have to load the model first."""
WORDS_MOST = 300
"""Of what a server says is wrong."""
ABOUT_TEXTS = frozenset({400, 413, 422, 500})
"""How servers answer to a text that is too long for them."""
T = TypeVar("T")


class ServerRefused(Exception):
    """The server did not answer with vectors."""

    def __init__(self, message: str, *, is_about_texts: bool = False) -> None:
        super().__init__(message)
        self.is_about_texts = is_about_texts
        """Other texts may do better."""


class ModelServer:
    """One model of one server."""

    def __init__(self, wanted: Server) -> None:
        """Raises ServerRefused if this node has no such server."""
        self._wanted = wanted
        try:
            self._at = _address(wanted.kind)
        except BadInput as error:
            raise ServerRefused(error.message) from error

    def encode(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector a text."""
        asked: dict[str, Any] = {"model": self._wanted.model, "input": list(texts)}
        if self._wanted.kind == "ollama":
            found = self._ask("/api/embed", asked, _OllamaAnswer).embeddings
        else:
            answer = self._ask("/embeddings", asked, _OpenAiAnswer)
            found = [each.embedding for each in sorted(answer.data, key=lambda each: each.index)]
        if len(found) != len(texts) or len({len(vector) for vector in found}) != 1 or not found[0]:
            raise ServerRefused(
                f"The server gave {len(found)} vectors for {len(texts)} texts, or uneven ones."
            )
        return found

    def _ask(self, path: str, asked: dict[str, Any], kind: type[T]) -> T:
        connection = _Direct(self._at.host, self._at.port, timeout=SECONDS)
        try:
            connection.request(
                "POST",
                self._at.path + path,
                msgspec.json.encode(asked),
                {"Content-Type": "application/json", "Accept": "application/json"},
            )
            answer = connection.getresponse()
            body = answer.read(ANSWER_MOST_BYTES + 1)
        except (OSError, http.client.HTTPException) as error:
            raise ServerRefused(
                f"The model server of this node at {self._at.host}:{self._at.port} cannot be asked: {error}."
            ) from error
        finally:
            connection.close()
        if answer.status != http.client.OK:
            words = body[:WORDS_MOST].decode(errors="replace").strip()
            raise ServerRefused(
                f"The model server answered {answer.status}: {words or answer.reason}",
                is_about_texts=answer.status in ABOUT_TEXTS,
            )
        if len(body) > ANSWER_MOST_BYTES:
            raise ServerRefused("The model server's answer is too long.")
        try:
            return msgspec.json.decode(body, type=kind)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise ServerRefused(f"The model server's answer cannot be used: {error}.") from error


class _Direct(http.client.HTTPConnection):
    """To an address, without looking up names: nothing else is asked, and nothing need be imported for it."""

    def connect(self) -> None:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect((self.host, self.port))


class _OllamaAnswer(msgspec.Struct):
    embeddings: list[list[float]]


class _OpenAiVector(msgspec.Struct):
    embedding: list[float]
    index: int = 0


class _OpenAiAnswer(msgspec.Struct):
    data: list[_OpenAiVector]


def _address(kind: str) -> Loopback:
    if kind == "ollama":
        return read_loopback(ollama_address(os.environ.get(OLLAMA_VARIABLE, "")), OLLAMA_PORT)
    said = os.environ.get(SERVER_VARIABLE, "")
    if not said:
        raise ServerRefused("This node was not told of a model server: planetmesh up --embedding-server URL")
    return read_loopback(said)
