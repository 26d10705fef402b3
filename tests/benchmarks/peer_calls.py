"""No-op calls through one peer, in the peer's own virtual environment. Started by `calls.py`.

    PYTHON peer_calls.py NAME CALLS SEQUENTIAL

Needs psutil and the peer. Two workers, loopback, the peer's defaults otherwise; TLS
with client certificates where it can (Dask, Celery through Redis). Prints one JSON line.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
WARM_CALLS = 300
WARM_SEQUENTIAL = 20
START_SECONDS = 60
STOP_SECONDS = 15
REDIS_PORT, DASK_PORT = 16391, 16788
RAY_PORT = 6399
"""Outside of what Ray keeps for its workers."""

Many = Callable[[int], list[int]]
One = Callable[[int], int]


def same(x: int) -> int:
    return x


def measure(many: Many, one: One, calls: int, sequential: int) -> dict[str, Any]:
    """Calls a second of all at once, then the milliseconds of one after the other."""
    assert many(WARM_CALLS) == list(range(WARM_CALLS))
    begun = time.perf_counter()
    assert many(calls) == list(range(calls))
    rate = calls / (time.perf_counter() - begun)
    taken = []
    for number in range(sequential + WARM_SEQUENTIAL):
        begun = time.perf_counter()
        assert one(number) == number
        taken.append((time.perf_counter() - begun) * 1000)
    taken = sorted(taken[WARM_SEQUENTIAL:])
    p99 = taken[min(len(taken) - 1, int(len(taken) * 0.99))]
    return {"calls_per_second": rate, "median_ms": taken[len(taken) // 2], "p99_ms": p99}


@contextmanager
def running(command: list[str], folder: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server of the peer's, ended at the end."""
    with (Path(folder) / "log").open("ab") as log:
        environment = os.environ | {"PYTHONPATH": str(HERE)}
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env=environment)
    try:
        yield process
    finally:
        below = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        # Some start their own in sessions of their own.
        for each in below:
            with suppress(psutil.NoSuchProcess):
                each.kill()


def until(look: Callable[[], object]) -> None:
    """Try again until it raises nothing more."""
    latest = time.monotonic() + START_SECONDS
    while True:
        try:
            look()
        except Exception:
            if time.monotonic() > latest:
                raise
            time.sleep(0.1)
        else:
            return


def certificate(folder: str) -> tuple[str, str]:
    """A throw-away certificate for loopback and its key."""
    cert, key = f"{folder}/cert.pem", f"{folder}/key.pem"
    made = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=bench"
    more = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert]
    subprocess.run([*made.split(), *more], check=True, capture_output=True)
    return cert, key


@contextmanager
def ray(folder: str) -> Iterator[tuple[Many, One]]:
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", PYTHONPATH=str(HERE))
    import ray as peer

    options = "--head --block --node-ip-address=127.0.0.1 --num-cpus=2 --include-dashboard=false"
    command = [str(BIN / "ray"), "start", *options.split(), f"--port={RAY_PORT}", f"--temp-dir={folder}"]
    with running(command, folder):

        def connect() -> None:
            address = f"127.0.0.1:{RAY_PORT}"
            peer.init(address, log_to_driver=False, logging_level="ERROR", _node_ip_address="127.0.0.1")

        until(connect)
        call = peer.remote(num_cpus=1)(same)
        try:
            yield (
                lambda count: peer.get([call.remote(x) for x in range(count)]),
                lambda x: peer.get(call.remote(x)),
            )
        finally:
            peer.shutdown()


@contextmanager
def dask(folder: str) -> Iterator[tuple[Many, One]]:
    from distributed import Client
    from distributed.security import Security

    cert, key = certificate(folder)
    address = f"tls://127.0.0.1:{DASK_PORT}"
    tls = ["--tls-ca-file", cert, "--tls-cert", cert, "--tls-key", key, "--no-dashboard"]
    with ExitStack() as stack:
        program = str(BIN / "dask")
        stack.enter_context(running([program, "scheduler", "--host", address, *tls], folder))
        worker = [program, "worker", address, "--nworkers", "2", "--nthreads", "1", *tls]
        stack.enter_context(running([*worker, "--host", "tls://127.0.0.1"], folder))
        security = Security(
            tls_ca_file=cert, tls_client_cert=cert, tls_client_key=key, require_encryption=True
        )
        client = stack.enter_context(Client(address, security=security, timeout=START_SECONDS))
        client.wait_for_workers(2, timeout=START_SECONDS)
        yield (
            lambda count: client.gather(client.map(same, range(count), pure=False)),
            lambda x: client.submit(same, x, pure=False).result(),
        )


@contextmanager
def parsl(folder: str) -> Iterator[tuple[Many, One]]:
    import parsl as peer
    from parsl.config import Config
    from parsl.executors import HighThroughputExecutor
    from parsl.providers import LocalProvider

    os.environ.update(PATH=f"{BIN}:{os.environ['PATH']}", PYTHONPATH=str(HERE))
    executor = HighThroughputExecutor(
        label="calls",
        address="127.0.0.1",
        max_workers_per_node=2,
        cores_per_worker=1,
        encrypted=True,
        provider=LocalProvider(init_blocks=1, max_blocks=1),
    )
    peer.load(Config(executors=[executor], run_dir=folder, strategy="none", usage_tracking=0))
    call = peer.python_app(same)
    try:
        yield (
            lambda count: [each.result() for each in [call(x) for x in range(count)]],
            lambda x: call(x).result(),
        )
    finally:
        peer.dfk().cleanup()


@contextmanager
def celery(folder: str) -> Iterator[tuple[Many, One]]:
    cert, key = certificate(folder)
    tls = f"--tls-cert-file {cert} --tls-key-file {key} --tls-ca-cert-file {cert} --tls-auth-clients yes"
    server = f"redis-server --bind 127.0.0.1 --save  --dir {folder} --port 0 --tls-port {REDIS_PORT} {tls}"
    os.environ["CALLS_REDIS"] = (
        f"rediss://127.0.0.1:{REDIS_PORT}/0?ssl_cert_reqs=required&ssl_ca_certs={cert}"
        f"&ssl_certfile={cert}&ssl_keyfile={key}"
    )
    with ExitStack() as stack:
        stack.enter_context(running(server.split(" "), folder))
        import peer_celery_app

        until(lambda: peer_celery_app.app.connection_for_read().ensure_connection(max_retries=1))
        worker = [str(BIN / "celery"), "-A", "peer_celery_app", "worker", "-c", "2", "--loglevel=ERROR"]
        stack.enter_context(running(worker, folder))
        call = peer_celery_app.same
        yield (
            lambda count: [each.get() for each in [call.delay(x) for x in range(count)]],
            lambda x: call.delay(x).get(),
        )


PEERS = {"ray": ray, "dask": dask, "parsl": parsl, "celery": celery}


def main() -> None:
    name, calls, sequential = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with (
        tempfile.TemporaryDirectory(prefix="calls-", ignore_cleanup_errors=True) as folder,
        PEERS[name](folder) as (many, one),
    ):
        found = measure(many, one, calls, sequential)
    print(json.dumps({"name": name, "calls": calls, **found}), flush=True)


if __name__ == "__main__":
    main()
