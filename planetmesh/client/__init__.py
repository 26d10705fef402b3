"""The program's side of a mesh: submit jobs, watch them, look after nodes.

`connect` finds the coordinator and carries one request, `calls` turns failures into words and repeats what
may be repeated, `streams` reads what never ends, `async_client` is the API as `AsyncMesh`, `sync_client` the
same as `Mesh` for programs without an event loop, `handles` a job one can wait for. Nothing here prints.
"""
