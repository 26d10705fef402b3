"""A model server on loopback that speaks Ollama's and OpenAI's calls, with vectors that tell their text."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOO_LONG = 500


def vector_of(text: str) -> list[float]:
    return [float(len(text)), float(text.count("a")), 1.0]


class Double(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, object]] = []
        self.spoil: dict[str, object] | None = None
        """Answered instead."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Double

    def do_GET(self) -> None:
        models = ["nomic-embed-text:latest", "mxbai:335m"]
        if self.path == "/api/tags":
            self.answer(200, {"models": [{"name": name, "size": 1} for name in models]})
        elif self.path == "/v1/models":
            self.answer(200, {"data": [{"id": "bge small/v1.5"}]})
        else:
            self.answer(404, {})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, asked))
        texts = asked["input"]
        if self.server.spoil is not None:
            self.answer(200, self.server.spoil)
        elif any(len(text) > TOO_LONG for text in texts):
            self.answer(400, {"error": "the input is longer than the context"})
        elif self.path == "/api/embed":
            self.answer(200, {"model": asked["model"], "embeddings": [vector_of(text) for text in texts]})
        elif self.path == "/v1/embeddings":
            data = [{"index": at, "embedding": vector_of(text)} for at, text in enumerate(texts)]
            self.answer(200, {"data": data[::-1]})
        else:
            self.answer(404, {"error": "no such page"})

    def answer(self, status: int, document: object) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextmanager
def serving():
    server = Double()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
