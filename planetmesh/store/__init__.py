"""The coordinator's memory: everything acknowledged is here, on disk, before anybody hears of it.

The only SQL of planetmesh. `store.Store` keeps the mesh (jobs, tasks, nodes, certificates, feed,
audit), `outputs.Outputs` what tasks wrote; both stand on `database.Database`, and each noun has a file.
Nothing here decides anything, and nothing outside `coordinator/` calls it.
"""
