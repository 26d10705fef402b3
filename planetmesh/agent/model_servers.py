"""What this node can embed texts with, as tags: looked for once, when the agent starts.

Servers are asked on this machine's loopback only, and not for long. What they say is a stranger's text.
"""

from __future__ import annotations

import http.client
import logging
import os
from importlib.util import find_spec
from typing import Any

import msgspec

from planetmesh.errors import BadInput
from planetmesh.jobtypes.embedding import FOLDER_TAG, model_tag
from planetmesh.jobtypes.loopback import OLLAMA_VARIABLE, SERVER_VARIABLE, ollama_address, read_loopback

log = logging.getLogger(__name__)

FOLDER_NEEDS = ("numpy", "safetensors", "tokenizers")
SECONDS = 1.0
ANSWER_MOST_BYTES = 4 * 1024 * 1024
MODELS_MOST = 64
OLLAMA_PORT = 11434


class _Ollama(msgspec.Struct):
    models: list[dict[str, Any]] = []


class _OpenAi(msgspec.Struct):
    data: list[dict[str, Any]] = []


def embedding_tags() -> tuple[str, ...]:
    """`embed:folder` where model folders can be used, `embed:NAME` for each model of a server here."""
    tags = [FOLDER_TAG] if all(find_spec(name) for name in FOLDER_NEEDS) else []
    ollama = ollama_address(os.environ.get(OLLAMA_VARIABLE, ""))
    names = _names(ollama, "/api/tags", "Ollama", is_asked_for=False)
    server = os.environ.get(SERVER_VARIABLE, "")
    if server:
        names += _names(server, "/models", "The model server", is_asked_for=True)
    return tuple(dict.fromkeys((*tags, *map(model_tag, names))))


def _names(address: str, path: str, who: str, *, is_asked_for: bool) -> list[str]:
    """Names of a server's models; none, with a word in the log, if it does not answer."""
    try:
        body = _get(address, path)
        if path == "/models":
            found = [each.get("id") for each in msgspec.json.decode(body, type=_OpenAi).data]
        else:
            found = [each.get("name") for each in msgspec.json.decode(body, type=_Ollama).models]
    except (BadInput, OSError, http.client.HTTPException, msgspec.MsgspecError, UnicodeError) as error:
        log.log(
            logging.WARNING if is_asked_for else logging.DEBUG,
            "embedding_server.unusable",
            extra={"server": who, "reason": str(error)},
        )
        return []
    names = [name for name in found if isinstance(name, str) and name][:MODELS_MOST]
    log.info("embedding_server.found", extra={"server": who, "models": len(names)})
    return names


def _get(address: str, path: str) -> bytes:
    at = read_loopback(address, OLLAMA_PORT if path == "/api/tags" else 80)
    connection = http.client.HTTPConnection(at.host, at.port, timeout=SECONDS)
    try:
        connection.request("GET", at.path + path, headers={"Accept": "application/json"})
        answer = connection.getresponse()
        if answer.status != http.client.OK:
            raise http.client.HTTPException(f"it answered {answer.status}")
        return answer.read(ANSWER_MOST_BYTES)
    finally:
        connection.close()
