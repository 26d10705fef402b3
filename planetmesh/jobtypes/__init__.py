"""Kinds of job, one file each. PURE: they turn a payload and an input into what is to be started.

`contract` says what a kind must offer, `registry` lists them. The coordinator calls `check` before a
submit is acknowledged; the agent calls `launch` just before it starts a task.
"""
