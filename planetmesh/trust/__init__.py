"""Trust: who somebody is, and how a stranger becomes a member. The only room that knows cryptography and TLS.

    identity    a member's folder on disk; reads certificates       (everybody)
    tls         every SSL context; checks peers inside the handshake (everybody)
    renewal     when and how a certificate is replaced               (everybody)
    authority   the mini CA                                          (coordinator)
    serials     which certificates count now                         (coordinator)
    codes, pake, windows, pairing   PURE: the pairing protocol
    pairing_server, pairing_listener, frames    its coordinator side, on sockets
    enroll      its joining side, on sockets

Nothing here decides what a role may do (`coordinator.access`), stores anything but identity folders, or
logs a secret. The protocol and its threats are in docs/security.md.
"""
