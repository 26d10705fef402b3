"""Run on a host of a test's LAN: knock at a Dask process with somebody's certificate.

dask_intruder.py HOST:PORT FOLDER    # FOLDER holds cert.pem and key.pem; `-` for none; prints what came of it
"""

from __future__ import annotations

import socket
import ssl
import sys

PATIENCE_SECONDS = 30.0
"""A refusal comes at once, on a busy machine later: given up too early, it would pass for a welcome."""


def knock(host: str, port: int, folder: str) -> str:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if folder != "-":
        context.load_cert_chain(f"{folder}/cert.pem", f"{folder}/key.pem")
    with socket.create_connection((host, port), PATIENCE_SECONDS) as plain:
        plain.settimeout(PATIENCE_SECONDS)
        try:
            with context.wrap_socket(plain) as secure:
                # Of a refusal one hears at the first read. Who was let in hears Dask speak first, and a
                # process that waits for its owner keeps silent.
                heard = secure.recv(100)
                return f"let in: {heard!r}" if heard else "refused: closed"
        except ssl.SSLError as error:
            return f"refused: {error.reason}"
        except TimeoutError:
            return "let in, and silent"
        except OSError as error:
            return f"refused: {error}"


if __name__ == "__main__":
    host, _, port = sys.argv[1].removeprefix("tls://").rpartition(":")
    print(knock(host, int(port), sys.argv[2]))
