"""Frames on a stream socket: four bytes of length, then one MessagePack batch.

Used on both ends of a launcher's socket. Holds no policy: who reads when is the caller's affair.
"""

from __future__ import annotations

import socket

from planetmesh.errors import PeerMisbehaved

HEADER_BYTES = 4
FRAME_MOST_BYTES = 64 * 1024 * 1024
"""A batch of starts with large environments fits; a length made up by a broken peer does not."""
RECEIVE_BYTES = 256 * 1024


class FrameReader:
    """Bytes in, whole payloads out."""

    def __init__(self, most_bytes: int = FRAME_MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._held = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Return the payloads that are whole now; raise PeerMisbehaved on a frame that is too long."""
        held = self._held
        held += data
        payloads: list[bytes] = []
        at = 0
        while len(held) - at >= HEADER_BYTES:
            size = int.from_bytes(held[at : at + HEADER_BYTES], "big")
            if size > self._most_bytes:
                raise PeerMisbehaved(f"A frame of {size} bytes is more than {self._most_bytes}.")
            end = at + HEADER_BYTES + size
            if end > len(held):
                break
            payloads.append(bytes(held[at + HEADER_BYTES : end]))
            at = end
        del held[:at]
        return payloads


class FrameWriter:
    """Payloads in; sends what a non-blocking socket takes and holds the rest."""

    def __init__(self, peer: socket.socket) -> None:
        self._peer = peer
        self._held = bytearray()

    @property
    def held_bytes(self) -> int:
        return len(self._held)

    def put(self, payload: bytes) -> None:
        """Queue one frame and send what goes. Raise OSError when the peer is gone."""
        frame = len(payload).to_bytes(HEADER_BYTES, "big") + payload
        if self._held:
            self._held += frame
            return
        sent = self._send(frame)
        if sent < len(frame):
            self._held += memoryview(frame)[sent:]

    def flush(self) -> None:
        """Send more of what is held. Raise OSError when the peer is gone."""
        while self._held:
            sent = self._send(memoryview(self._held)[:RECEIVE_BYTES])
            if not sent:
                return
            del self._held[:sent]

    def _send(self, data: bytes | memoryview) -> int:
        try:
            return self._peer.send(data)
        except BlockingIOError:
            return 0
        finally:
            if isinstance(data, memoryview):
                data.release()
