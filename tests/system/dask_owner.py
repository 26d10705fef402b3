"""Run on a host of a test's LAN: owns a Dask cluster on the mesh and says in lines of JSON what comes of it.

dask_owner.py HOME work     # computes, scales up and down, closes
dask_owner.py HOME stay     # two workers; says where they are whenever that changes, and waits
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from typing import Any

import dask
import dask.array as da
from distributed import Client

from planetmesh.dask import MeshCluster


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


def where(dask_worker: Any) -> str:
    return str(dask_worker.address)


def addresses(cluster: MeshCluster) -> list[str]:
    return sorted(cluster.scheduler_info["workers"])


def wait_for(cluster: MeshCluster, count: int) -> None:
    until = time.monotonic() + 80
    while len(cluster.scheduler_info["workers"]) != count:
        assert time.monotonic() < until, cluster
        time.sleep(0.05)


def work(home: str) -> None:
    with MeshCluster(workers=2, home=home, cpus=1, memory="700 MiB", name="sums") as cluster:
        with Client(cluster) as client:
            wait_for(cluster, 2)
            say(scheduler=cluster.scheduler_address, workers=addresses(cluster))
            say(squares=sum(client.gather(client.map(lambda x: x * x, range(200)))))
            say(array=float(da.arange(1_000_000, chunks=50_000).sum().compute()))
            parts = [dask.delayed(pow)(n, 2) for n in range(10)]
            say(graph=dask.delayed(sum)(parts).compute())
            say(ran_on=sorted(client.run(where).values()))
            cluster.scale(4)
            wait_for(cluster, 4)
            say(up=addresses(cluster))
            cluster.scale(1)
            wait_for(cluster, 1)
            say(down=addresses(cluster), squares=sum(client.gather(client.map(abs, range(-50, 0)))))
        say(logs=sorted(key.partition(":")[0] for key in cluster.get_logs()))
    say(closed=True)


def stay(home: str) -> None:
    with MeshCluster(workers=2, home=home, patience_seconds=8.0) as cluster, Client(cluster) as client:
        seen: list[str] = []
        while True:
            now = addresses(cluster)
            if now != seen:
                seen = now
                total = sum(client.gather(client.map(abs, range(-9, 0)))) if now else 0
                say(scheduler=cluster.scheduler_address, workers=now, total=total)
            time.sleep(0.1)


if __name__ == "__main__":
    # Tasks may run in another build of the same Python here (open_python.py).
    warnings.filterwarnings("ignore", message="Mismatched versions", category=UserWarning)
    {"work": work, "stay": stay}[sys.argv[2]](sys.argv[1])
