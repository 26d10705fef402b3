"""The agent: takes tasks from the coordinator and runs them here.

`worklist` decides (pure), `runner` does, `outbox` keeps what the coordinator has not confirmed yet,
`link` talks, `probe` looks at the machine, `sandbox/` starts programs, `service` puts it together.
One direction: link → service → worklist → runner → sandbox → runner → outbox → link.
"""
