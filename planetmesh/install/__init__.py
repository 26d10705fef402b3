"""Makes `planetmesh up` start at boot: one file per service manager.

`order` says what is to run and `guard` whether that is safe, `systemd` and `launchd` each know one manager:
its file, its commands, its quoting. `service` chooses between them and runs their commands. Nothing here
prints; `cli/service` does.
"""
