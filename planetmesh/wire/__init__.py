"""Sentences made of nouns: every message that crosses a wire, and the codec.

`agent` holds coordinator↔agent (MessagePack over one WebSocket), `api` client↔coordinator (JSON
over HTTPS), `codec` bytes↔messages with version and size limit. New fields need defaults and go
at the end; a new *message* needs a new protocol version (`codec.PROTOCOL`).
"""
