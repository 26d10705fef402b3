"""What of the outbox is on the wire: how much more may be sent before the coordinator confirms. PURE."""

from __future__ import annotations

from collections import deque

MOST_BYTES = 4 * 1024 * 1024
"""Sent and not confirmed; several commits of the coordinator at full speed."""
MOST_MESSAGES = 4096


class Window:
    """Made anew for each link, from the first unconfirmed number on."""

    def __init__(self, first: int) -> None:
        self.next_number = first
        """The next one to send."""
        self._confirmed = first
        self._sent: deque[tuple[int, int]] = deque()
        """Batches on the wire: the number after their last message, their bytes."""
        self._bytes = 0

    @property
    def room_bytes(self) -> int:
        return MOST_BYTES - self._bytes

    @property
    def room_messages(self) -> int:
        return MOST_MESSAGES - (self.next_number - self._confirmed)

    @property
    def is_open(self) -> bool:
        return self.room_bytes > 0 and self.room_messages > 0

    def sent(self, count: int, size_bytes: int) -> None:
        self.next_number += count
        self._sent.append((self.next_number, size_bytes))
        self._bytes += size_bytes

    def confirm(self, upto: int) -> int:
        """Take a confirmation in; return it, cut to what was really sent."""
        upto = min(upto, self.next_number)
        self._confirmed = max(self._confirmed, upto)
        while self._sent and self._sent[0][0] <= upto:
            self._bytes -= self._sent.popleft()[1]
        return upto
