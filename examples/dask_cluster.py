"""A Dask cluster on the machines of the mesh: `python dask_cluster.py`.

Needs `pip install 'planetmesh[dask]' 'dask[array]'`, here and on the nodes.
"""

import dask
import dask.array as da
from distributed import Client

from planetmesh.dask import MeshCluster

with MeshCluster(workers=2, cpus=1, memory="700 MiB") as cluster, Client(cluster) as client:
    print(f"squares: {sum(client.gather(client.map(lambda n: n * n, range(1000))))}")

    grid = da.arange(4_000_000, chunks=500_000).reshape(2000, 2000)
    print(f"mean of an array: {grid.mean().compute()}")

    halves = [dask.delayed(lambda n: n / 2)(n) for n in range(10)]
    print(f"sum of a graph: {dask.delayed(sum)(halves).compute()}")
