"""PURE. Decides, never does: state + message + now → effects.

`state` holds the tables and checks them, `lifecycle` the moves that tasks and nodes may make, `reactor` and
`nodes` the functions `on_<happening>` (the only code that changes the state), `effects` what they
ask the engine to do, `schedule` which task goes where by `fitness` and `score`, `health` and
`retry` the rules of DESIGN §4. Only the coordinator may import this room.
"""
